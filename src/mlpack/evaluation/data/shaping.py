"""Checks arrays against a model's inputs and cuts them into calls.

Promises:
- An array with as many axes as the model's input is cut into batches along its first axis. One with an axis more holds whole
  calls.
- Element types change only where nothing is lost.
- Every misfit is a problem in words, never an exception.

Will not: read or write files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlpack.core.entrypoint import suggestion
from mlpack.core.records import Signature, TensorSpec
from mlpack.evaluation.data.calls import DATATYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def misnamed(names: tuple[str, ...], expected: tuple[str, ...]) -> list[str]:
    missing = [f"the model's input {name} is missing{suggestion(name, names)}" for name in expected if name not in names]
    takes = f"the model takes {', '.join(expected)}"
    return missing + [f"{name} is no input: {takes}{suggestion(name, expected)}" for name in names if name not in expected]


def converted(array: Array, spec: TensorSpec) -> tuple[Array | None, str | None]:
    """The array in the model's element type where nothing is lost, or the problem."""
    import numpy as np

    if spec.dtype not in DATATYPES:
        return None, f"{spec.name} is of type {spec.dtype}, which packages cannot take: only numbers, booleans and strings"
    if spec.dtype == "string":
        return _strings(array, spec.name)
    dtype = np.dtype(spec.dtype)
    if array.dtype.newbyteorder("=") == dtype:
        return array.astype(dtype, copy=False), None
    if array.dtype.kind == "f" and dtype.kind == "f":
        with np.errstate(over="ignore"):
            cast = array.astype(dtype)
        if np.isinf(cast).any() and not np.array_equal(np.isinf(cast), np.isinf(array)):
            return None, f"{spec.name} holds numbers too large for {spec.dtype}"
        return cast, None
    if array.dtype.kind in "biu" and dtype.kind in "iu" and np.can_cast(array.dtype, dtype, "safe"):
        return array.astype(dtype), None
    hint = " (pixels are usually divided by 255)" if array.dtype == np.uint8 and dtype.kind == "f" else ""
    problem = f"{spec.name} is {array.dtype.name} and the model takes {spec.dtype}: convert it where it is written{hint}"
    return None, problem


def _strings(array: Array, name: str) -> tuple[Array | None, str | None]:
    """An array of strings as objects, or the problem."""
    if array.dtype.kind not in "OU":
        return None, f"{name} is {array.dtype.name} and the model takes strings: convert it where it is written"
    objects = array.astype(object)
    for at, text in enumerate(objects.ravel().tolist()):
        if not isinstance(text, str):
            problem = f"{name} holds {type(text).__name__} {str(text)[:40]!r} at {at}"
            return None, f"{problem}, which is no string: say what stands for a missing one, such as ''"
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            return None, f"{name} holds a NUL or half of a surrogate pair at {at}, which no request can carry"
    return objects, None


class CallLayout:
    """How arrays become calls: cut along their first axis, or call by call if they have one axis more than the model's input."""

    def __init__(self, arrays: Mapping[str, Array], signature: Signature, batch: int) -> None:
        self.problems: list[str] = []
        self.label_problems: list[str] = []
        self._arrays = arrays
        self._specs = {spec.name: spec for spec in signature.inputs if spec.name in arrays}
        self._cut = {name for name, spec in self._specs.items() if arrays[name].ndim == len(spec.shape) and spec.shape}
        fixed = {int(s.shape[0]) for name, s in self._specs.items() if name in self._cut and isinstance(s.shape[0], int)}
        self._batch = max(fixed, default=batch)
        if len(fixed) > 1:
            self.problems.append(f"inputs with fixed batches of {' and '.join(map(str, sorted(fixed)))} cannot be cut together")
        bound: dict[str, tuple[str, int]] = {}
        for name, spec in self._specs.items():
            self._fit(name, spec, bound)
        self._count()

    def _fit(self, name: str, spec: TensorSpec, bound: dict[str, tuple[str, int]]) -> None:
        array = self._arrays[name]
        if array.ndim not in (len(spec.shape), len(spec.shape) + 1) or not array.ndim:
            whole = f"{len(spec.shape) + 1} for whole calls"
            ways = f"{len(spec.shape)} axes to be cut into calls, or {whole}" if spec.shape else whole
            self.problems.append(
                f"{name} has shape {shown(array.shape)}; the model's input is {shown(spec.shape)}: an array needs {ways}"
            )
            return
        shape = (self._batch, *array.shape[1:]) if name in self._cut else array.shape[1:]
        self.problems += misfits(name, spec, shape, bound)

    def _count(self) -> None:
        rows = {name: len(self._arrays[name]) for name in self._specs if self._arrays[name].ndim}
        calls = {name: -(-n // self._batch) if name in self._cut else n for name, n in rows.items()}
        self.samples = next((rows[name] for name in self._cut if name in rows), None)
        self.calls = next(iter(calls.values()), 0)
        if len(set(calls.values())) > 1 or len({rows[name] for name in self._cut if name in rows}) > 1:
            counts = ", ".join(f"{name} {n}{'' if name in self._cut else ' whole calls'}" for name, n in rows.items())
            self.problems.append(f"counts disagree: {counts}")
        cut_evenly = self.samples is None or self.samples % self._batch == 0
        fixed = any(isinstance(self._specs[name].shape[0], int) for name in self._cut)
        if not cut_evenly and (fixed or len(self._cut) < len(self._specs)):
            self.problems.append(f"{self.samples} samples cannot be cut into calls of {self._batch}")

    @property
    def samples_per_call(self) -> int:
        """The rows of a call of whole arrays: their common first axis; without one the call is one sample."""
        if self._cut:
            return self._batch
        first = {array.shape[1] if array.ndim > 1 else 1 for array in self._arrays.values()}
        return int(first.pop()) if len(first) == 1 else 1

    def feeds(self, per_call: int) -> Iterator[tuple[dict[str, Array], int]]:
        """The inputs of every call, in the model's order, and the number of its samples."""
        for call in range(self.calls):
            start = call * self._batch
            feed = {
                name: self._arrays[name][start : start + self._batch] if name in self._cut else self._arrays[name][call]
                for name in self._specs
            }
            rows = per_call if self.samples is None else min(self._batch, self.samples - start)
            yield feed, rows


def misfits(name: str, spec: TensorSpec, shape: Sequence[int], bound: dict[str, tuple[str, int]]) -> list[str]:
    """Where one call's shape does not fit the model's; `bound` collects the length of each named axis."""
    problems = []
    for axis, (expected, length) in enumerate(zip(spec.shape, shape, strict=True)):
        if isinstance(expected, int) and expected != length:
            problems.append(
                f"{name}: axis {axis} is {length} and the model takes {expected}: a call has shape {shown(shape)},"
                f" the model's input is {shown(spec.shape)}"
            )
        elif isinstance(expected, str):
            other, before = bound.setdefault(expected, (name, length))
            if before != length:
                problems.append(f"{name}: the axis {expected!r} is {length}, but {before} in {other}: one call needs one length")
    return problems


def shown(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def labels_of(labels: Array, layout: CallLayout) -> tuple[list[Any] | None, int]:
    """One label a sample, and the number of samples in a call that is not cut."""
    per_call = layout.samples_per_call
    if labels.dtype.kind not in "biufU" or not labels.ndim:
        layout.label_problems.append(f"labels are {labels.dtype.name}: an array of numbers or strings is needed, one a sample")
        return None, per_call
    if labels.dtype.kind == "f" and not finite(labels):
        layout.label_problems.append("labels hold NaN or infinite values")
    if layout.samples is not None:
        expected, per_call = layout.samples, per_call
    elif labels.ndim > 1 and labels.shape[:2] == (layout.calls, per_call):
        labels = labels.reshape(-1, *labels.shape[2:])
        expected = len(labels)
    else:
        per_call = per_call if len(labels) == layout.calls * per_call else 1
        expected = layout.calls * per_call
    if len(labels) != expected and layout.calls:
        layout.label_problems.append(f"counts disagree: {len(labels)} labels for {expected} samples")
    return list(labels.tolist()), per_call


def finite(array: Array) -> bool:
    import numpy as np

    return bool(np.isfinite(array).all())
