"""Segmentation: a class for each place of a picture. numpy is imported when something is scored.

Promises:
- The size of the labels' maps tells which axis of an output holds the classes; it is refused where two axes could.
- Maps of another size than the output's are refused, never resized.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlpack.core.records import MetricSpec
from mlpack.errors import RecipeError
from mlpack.evaluation.metrics import scores
from mlpack.evaluation.metrics.answers import Answers, fitting, output_name, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

IGNORED = 255
"""The label that does not count unless the recipe names another one; most data sets of segmentation use it."""


def mean_iou(spec: MetricSpec, answers: Answers, labels: Sequence[Any], _names: tuple[Any, ...] | None) -> scores.Scores:
    """The mean over the classes of: the places that labels and predictions share, over those that either has."""
    import numpy as np

    maps = _maps(spec, labels)
    name = _output(spec, answers, maps[0].shape)
    predicted, classes = _predicted(spec, name, answers, maps[0].shape)
    fitting(spec.name, len(predicted), labels)
    ignored = IGNORED if spec.ignore_index is None else spec.ignore_index
    said_and_true = (*(truth[truth != ignored] for truth in maps), *predicted)
    count = classes or 1 + max(int(each.max(initial=0)) for each in said_and_true)
    counts = np.zeros((len(maps), count, 3))
    for index, (truth, prediction) in enumerate(zip(maps, predicted, strict=True)):
        if prediction.shape != truth.shape:
            raise RecipeError(_sizes(spec, name, index, truth.shape, prediction.shape))
        mask = truth != ignored
        if (wrong := truth[mask][(truth[mask] < 0) | (truth[mask] >= count)]).size:
            raise RecipeError(
                f"{spec.name}: sample {index} has the class {int(wrong[0])}, and the output {name} classes of 0 to {count - 1};"
                f" what does not count is {ignored} (metric.ignore_index)"
            )
        both = np.bincount(truth[mask][truth[mask] == prediction[mask]], minlength=count)
        each = (np.bincount(one[mask], minlength=count) for one in (truth, prediction))
        counts[index] = np.stack([both, *each], axis=1)

    def reduce(weights: Array) -> Array:
        summed = np.tensordot(weights, counts, axes=1)
        either = summed[..., 1] + summed[..., 2] - summed[..., 0]
        some = either > 0
        each = np.where(some, summed[..., 0] / np.where(some, either, 1.0), 0.0)
        return np.asarray(each.sum(axis=1) / np.maximum(some.sum(axis=1), 1))

    return scores.of(counts, reduce, output=name, threshold=spec.threshold)


def _maps(spec: MetricSpec, labels: Sequence[Any]) -> list[Array]:
    import numpy as np

    maps = []
    for index, label in enumerate(labels):
        try:
            array = np.asarray(label)
        except ValueError:
            array = np.zeros(0)
        whole = array.dtype.kind in "iub" or (array.dtype.kind == "f" and bool((array == np.floor(array)).all()))
        if array.ndim != 2 or not whole:
            raise RecipeError(f"{spec.name}: the label of sample {index} is no map [height, width] of class numbers")
        maps.append(array.astype(np.int64))
    return maps


def _output(spec: MetricSpec, answers: Answers, size: tuple[int, ...]) -> str:
    import numpy as np

    name = output_name(spec, answers)
    if name is not None:
        return name
    shapes = {each: np.shape(answers.calls[0][each]) for each in answers.names if answers.rows(each)}
    fits = [each for each, shape in shapes.items() if len(shape) in (3, 4) and _places(shape[1:], size)]
    if not fits:
        raise RecipeError(
            f"{spec.name}: no output has a class or scores for each place of maps {list(size)} ({shown(answers)}): labels of the"
            " size of the output are needed, or a model that brings its output to the size of the labels"
        )
    if len(fits) > 1:
        raise RecipeError(f"{spec.name}: the outputs {', '.join(fits)} all fit the labels; say which is meant: metric.output")
    return fits[0]


def _places(shape: tuple[int, ...], size: tuple[int, ...]) -> list[int]:
    """The axes of a picture's output that may be those of classes, for maps of this size; [-1] where it has no such axis."""
    if len(shape) == 2:
        return [-1] if shape == size else []
    return [axis for axis in (0, 2) if shape[:axis] + shape[axis + 1 :] == size]


def _predicted(spec: MetricSpec, name: str, answers: Answers, size: tuple[int, ...]) -> tuple[list[Array], int | None]:
    """The class of each place of each picture, and how many classes there are (None: the output says the class itself)."""
    import numpy as np

    class_maps: list[Array] = []
    classes = None
    for array in answers.each(name):
        axes = _places(array.shape[1:], size) if array.ndim in (3, 4) else []
        if not axes:
            raise RecipeError(_sizes(spec, name, len(class_maps), size, array.shape[1:]))
        if len(axes) > 1 and array.shape[1] != array.shape[3]:
            raise RecipeError(f"{spec.name}: which axis of the output {name} {list(array.shape)} holds the classes cannot be told")
        axis = axes[0] + 1 if axes[0] >= 0 else 0
        if axis and array.shape[axis] == 1:
            array, axis = array.squeeze(axis), 0
        if axis:
            classes = array.shape[axis]
            class_maps += list(array.argmax(axis=axis))
        elif array.dtype.kind != "f":
            class_maps += list(array.astype(np.int64))
        elif spec.threshold is None:
            raise RecipeError(
                f"{spec.name}: the output {name} has one number a place: whether a logit or a probability cannot be seen; say above"
                " which value it is class 1 (metric: {name: mean_iou, threshold: 0.5} for a probability, 0 for a logit)"
            )
        else:
            classes = 2
            class_maps += list((array > array.dtype.type(spec.threshold)).astype(np.int64))
    return class_maps, classes


def _sizes(spec: MetricSpec, name: str, index: int, shape: tuple[int, ...], have: tuple[int, ...]) -> str:
    return (
        f"{spec.name}: the label of sample {index} is a map {list(shape)}, and the output {name} of a picture {list(have)}: bring"
        " the labels to the output's size, or let the model bring its output to theirs"
    )
