"""A model's answers over the evaluation data, call by call, and the ways to join them. numpy is imported when something is scored.

Promises:
- Outputs that cannot be joined (ragged ones) are refused in words, never with numpy's exception.
- NaN is a `MeasureError` that names the samples.
- Which rows belong to which sample comes from the data, not from a guess about an output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.core.records import MetricSpec
from mlpack.errors import MeasureError, RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Outputs by name, a mapping a call, and how many samples each call holds."""

    calls: Sequence[Mapping[str, Array]]
    samples: tuple[int, ...]

    @property
    def n(self) -> int:
        """The number of samples."""
        return sum(self.samples)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.calls[0])

    def each(self, name: str) -> list[Array]:
        """One output, an array a call; strings as str. NaN is an error."""
        import numpy as np

        arrays = []
        for number, call in enumerate(self.calls):
            array = np.asarray(call[name])
            if array.dtype.kind in "SO":
                array = np.array([_text(item) for item in array.reshape(-1)], dtype=np.str_).reshape(array.shape)
            if array.dtype.kind == "f" and np.isnan(array).any():
                self._refuse_nan(name, number)
            arrays.append(array)
        return arrays

    def _refuse_nan(self, name: str, number: int) -> None:
        import numpy as np

        places = [i for i, call in enumerate(self.calls) if np.asarray(call[name]).dtype.kind == "f" and np.isnan(call[name]).any()]
        raise MeasureError(f"the output {name} holds NaN in {len(places)} of {len(self.calls)} calls (first: call {number})")

    def joined(self, name: str) -> Array:
        """One output over all calls, along its first axis. RecipeError where they do not join."""
        import numpy as np

        arrays = [np.atleast_1d(array) for array in self.each(name)]
        shapes = dict.fromkeys(array.shape[1:] for array in arrays)
        if len(shapes) > 1:
            shown = ", ".join(str(list(shape)) for shape in list(shapes)[:3])
            raise RecipeError(
                f"the output {name} has another shape from call to call ({shown}, ... after the first axis), so that its calls"
                " cannot be joined: a metric of your own with a parameter `calls` gets the outputs of each call"
            )
        return np.concatenate(arrays)

    def rows(self, name: str) -> bool:
        """Whether every call has a row of this output for each of its samples."""
        import numpy as np

        shapes = [np.shape(call[name]) for call in self.calls]
        return all(bool(shape) and shape[0] == n for shape, n in zip(shapes, self.samples, strict=True))


def _text(item: Any) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def of(outputs: Sequence[Mapping[str, Array]], samples: Sequence[int] | None) -> Answers:
    """The answers of calls; without `samples`, the first axis of its first output is the number of samples in a call."""
    import numpy as np

    if not outputs:
        raise MeasureError("no outputs to score: the evaluation data holds no calls")
    if samples is None:
        samples = [(np.shape(next(iter(call.values()), ())) or (1,))[0] for call in outputs]
    if not sum(samples):
        raise MeasureError("no outputs to score: the evaluation data holds no samples")
    return Answers(calls=outputs, samples=tuple(samples))


def output_name(spec: MetricSpec, answers: Answers) -> str | None:
    """The output that the recipe names, if the model has it; None where it names none."""
    if spec.output is None or spec.output in answers.names:
        return spec.output
    raise RecipeError(f"metric.output: the model has no output {spec.output!r} ({shown(answers)})")


def shown(answers: Answers) -> str:
    """The outputs with their shapes in the first call, for an error."""
    import numpy as np

    each = [f"{name} {list(np.shape(array))} {np.asarray(array).dtype.name}" for name, array in answers.calls[0].items()]
    return ", ".join(each[:_SHOWN]) + (f" and {len(each) - _SHOWN} more" if len(each) > _SHOWN else "")


def fitting(metric: str, rows: int, labels: Sequence[Any]) -> None:
    """Raise RecipeError unless there is a label for every row."""
    if rows != len(labels):
        raise RecipeError(f"{metric}: {len(labels)} labels for {rows} rows of output: one label a sample is needed")
