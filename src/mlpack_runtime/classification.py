"""The protocol's classification extension: an output as its best classes in the place of its numbers.

`"parameters": {"classification": 3}` of a requested output asks for strings `VALUE:INDEX`, or `VALUE:INDEX:LABEL` where the package
knows what its classes are called; the largest value first, of equal ones the first.

Promises: what has no classes is refused before anything is computed; digits bring every number back.
Will not: compute probabilities: values are the output's own.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
"""

from mlpack_runtime.limits import RequestError, quoted
from mlpack_runtime.tensor import Tensor, tensor
from mlpack_runtime.values import FLOATS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mlpack_runtime.ort import Port


def check(asked: object, port: "Port") -> int:
    """How many classes of an output are wanted; 0 for the output itself. Raises RequestError where it has none."""
    if type(asked) is not int or asked < 0:
        raise RequestError(f"output {port.name!r}: classification is {quoted(asked)}, not a number of classes")
    shape = port.shape
    classes = len(shape) == 2 or (len(shape) == 1 and type(shape[0]) is int)
    if asked and (port.datatype == "BYTES" or not classes):
        reason = f"{port.datatype} {list(shape)}; classes have numbers, [classes] or [rows, classes]"
        raise RequestError(f"output {port.name!r} has no classes to choose from: it is {reason}")
    return asked


def answer(outputs: "Mapping[str, Tensor]", asked: "Mapping[str, int]", settings: "Mapping[str, Any]") -> "dict[str, Tensor]":
    """The outputs, those that are asked for so as their best classes. `settings`: model.json."""
    task = settings.get("task") or {}
    labels = task.get("labels") or ()

    def named(name: str) -> "Sequence[object]":  # an output beside the task's may have as many columns, of something else
        return labels if task.get("output", name) == name else ()

    return {name: best(made, asked[name], named(name)) if asked.get(name) else made for name, made in outputs.items()}


def best(made: Tensor, most: int, labels: "Sequence[object]" = ()) -> Tensor:
    """The best classes of each row, `most` or as many as there are, as strings."""
    values, classes = made.flat(), made.shape[-1]
    form, names = FLOATS.get(made.datatype, ("%d",))[0], [f":{label}" for label in labels if type(label) is str]
    if len(names) != classes:
        names = [""] * classes
    texts = []
    for begin in range(0, len(values), classes or 1):
        row = values[begin : begin + classes]
        texts += [f"{form % row[at]}:{at}{names[at]}" for at in _order(row)[:most]]
    return tensor(texts, "BYTES", (*made.shape[:-1], min(most, classes)))


def _order(row: "list[Any]") -> "list[int]":
    places = range(len(row))
    if any(value != value for value in row):  # NaN, which no order holds: behind all numbers
        return sorted(places, key=lambda at: (row[at] == row[at], row[at] if row[at] == row[at] else 0), reverse=True)
    return sorted(places, key=row.__getitem__, reverse=True)
