"""DynamoDB's attribute values as the values of a model's input, and ids as its keys.

    {"N": "42"}   a number      {"S": "basic"}   a string      {"BOOL": true}   1 or true      {"L": [...]}   a row of values
    {"NULL": true}              no value, as where the attribute is not there

Promises: an integer stays exact; what does not fit the input's datatype is a MismatchError, and never a value of another meaning.
"""

from mlpack_runtime.limits import RequestError, quoted
from mlpack_runtime.values import FLOATS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_BITS = {
    "INT8": (-(1 << 7), 1 << 7),
    "INT16": (-(1 << 15), 1 << 15),
    "INT32": (-(1 << 31), 1 << 31),
    "INT64": (-(1 << 63), 1 << 63),
}
_BITS |= {f"UINT{size}": (0, 1 << size) for size in (8, 16, 32, 64)}
_KEY_BYTES = 2048  # DynamoDB: of a partition key


class MismatchError(ValueError):
    """An attribute has another type than the model's input."""


def value_of(attribute: "Mapping[str, Any]", datatype: str) -> "Any":
    """A number, string, boolean, a list of them, or None. Raises MismatchError."""
    ((kind, value),) = attribute.items()
    if kind == "NULL":
        return None
    if kind == "L":
        row = [value_of(each, datatype) for each in value]
        if any(each is None or isinstance(each, list) for each in row):
            raise MismatchError("a list in which a value is missing, or a list")
        return row
    if datatype == "BYTES":
        if kind != "S":
            raise MismatchError(f"an {kind}, and strings (S) are needed")
        return value
    if kind == "BOOL":
        return value if datatype == "BOOL" else float(value) if datatype in FLOATS else int(value)
    if kind != "N":
        raise MismatchError(f"an {kind}, and numbers (N) are needed")
    return _number(str(value), datatype)


def _number(text: str, datatype: str) -> "Any":
    if datatype in FLOATS:
        number = float(text)
        if not abs(number) <= FLOATS[datatype][1]:
            raise MismatchError(f"{quoted(text)} is beyond the range of {datatype}")
        return number
    try:
        whole = int(text)
    except ValueError:
        real = float(text)
        if not real.is_integer() or abs(real) >= 1 << 53:
            raise MismatchError(f"{quoted(text)}, and integers are needed") from None
        whole = int(real)
    if datatype == "BOOL":
        if whole not in (0, 1):
            raise MismatchError(f"{quoted(text)}, and 0 or 1 are needed")
        return bool(whole)
    least, end = _BITS[datatype]
    if not least <= whole < end:
        raise MismatchError(f"{quoted(text)} is beyond the range of {datatype}")
    return whole


def key_of(name: str, value: object) -> "dict[str, str]":
    """An id out of a request as an attribute: a string as S, a number as N. Raises RequestError."""
    if type(value) is str and value and len(value) <= _KEY_BYTES:
        try:
            if len(value.encode()) <= _KEY_BYTES:
                return {"S": value}
        except UnicodeEncodeError:
            pass
    if type(value) is int and abs(value) < 10**38:
        return {"N": str(value)}
    raise RequestError(f"{quoted(name)} is {quoted(value)}: an id is a string of 1 to {_KEY_BYTES} bytes, or an integer")
