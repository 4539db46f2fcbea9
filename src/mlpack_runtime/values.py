"""JSON's values as a tensor's: nested or flat lists, held against a datatype and a shape.

Promises: numbers are finite and in range; null where the model takes floats is a missing value, NaN; strings are text, each within
its bound. What does not fit is a `RequestError` that names the input. Will not: know requests or models.
"""

from mlpack_runtime.limits import Limits, RequestError, quoted, too_large
from mlpack_runtime.tensor import Tensor, TensorError, count, tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULTS = Limits({}, {})
# Digits that bring every value of a floating type back bit for bit, and its largest value as they write it: nine digits make
# float32's a little larger than it is.
FLOATS = {"FP16": ("%.5g", 65504.0), "FP32": ("%.9g", 3.40282347e38), "FP64": ("%.17g", 1.7976931348623157e308)}


def nested(
    name: str,
    data: object,
    datatype: str,
    shape: "tuple[int, ...] | None" = None,
    *,
    rank: "int | None" = None,
    limits: Limits = DEFAULTS,
) -> Tensor:
    """A tensor from nested lists, or from a flat list when `shape` is known; `rank`: how deep they may be. Raises RequestError."""
    sizes, level, deepest = [], data, len(shape) if shape is not None else rank
    while type(level) is list:
        sizes.append(len(level))
        if not level:
            break
        level = level[0]
    if deepest is not None and len(sizes) > max(1, deepest):  # before the levels are made flat, one after the other
        wanted = f"shape is {quoted(shape)}" if shape is not None else f"the model takes {deepest} axes"
        raise RequestError(f"input {name!r}: {wanted}, the nested data is {quoted(sizes)}")
    flat: Any = data if type(data) is list else [data]
    for depth, size in enumerate(sizes[1:], 1):
        if any(type(part) is not list or len(part) != size for part in flat):
            raise RequestError(f"input {name!r}: the lists at depth {depth + 1} differ in length or kind")
        flat = [item for part in flat for item in part]
    if shape is None:
        shape = tuple(sizes)
    elif len(sizes) > 1 and tuple(sizes) != shape:
        raise RequestError(f"input {name!r}: shape is {quoted(shape)}, the nested data is {quoted(sizes)}")
    elif len(flat) != count(shape):
        raise RequestError(f"input {name!r}: shape {quoted(shape)} holds {quoted(count(shape))} values, data has {len(flat)}")
    if datatype == "BYTES":
        check_strings(name, flat, limits)
    else:
        flat = _checked(name, flat, datatype)
    try:
        return tensor(flat, datatype, shape)
    except TensorError as error:
        raise RequestError(f"input {name!r}: {error}") from None


def _checked(name: str, flat: "list[Any]", datatype: str) -> "list[Any]":
    """The numbers, null as NaN where they are floats. RequestError for what is none, or out of range."""
    floats = datatype in FLOATS
    allowed = {bool} if datatype == "BOOL" else {int, float, type(None)} if floats else {int}
    kinds = set(map(type, flat))
    if not kinds <= allowed:
        odd = next(kind for kind in kinds if kind not in allowed)
        what = "null: only floats may be missing" if odd is type(None) else f"a {odd.__name__}, which is no {datatype}"
        raise RequestError(f"input {name!r}: data holds {what}")
    if not floats or not flat:
        return flat
    present = [value for value in flat if value is not None] if type(None) in kinds else flat
    limit = FLOATS[datatype][1]
    if present and (max(present) > limit or min(present) < -limit):
        raise RequestError(f"input {name!r}: a value is beyond the range of {datatype}; numbers must be finite")
    return flat if present is flat else [float("nan") if value is None else value for value in flat]


def check_strings(name: str, flat: "list[Any]", limits: Limits) -> None:
    """Raises RequestError for what is no string, or none that the engine takes."""
    for text in flat:
        if type(text) is not str:
            raise RequestError(f"input {name!r}: data holds {quoted(text)}, which is no string")
        if len(text) > limits.text_chars:
            raise too_large("text_chars", f"characters of a string of input {name!r}:", len(text), limits)
        if "\0" in text:
            raise RequestError(f"input {name!r}: a string holds a NUL, which the engine does not take")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise RequestError(f"input {name!r}: a string has half of a surrogate pair, which is no character") from None
