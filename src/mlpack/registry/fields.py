"""Reads values of rows and exports as what they must be. Every value from somebody's JSON goes through here before mlpack relies
on it.

Promises:
- Total and bounded: whatever the input is (truncated, deeply nested, half a surrogate, a number of thousands of digits, another
  type), the result is a value of the right form or a FieldError of one short line.
- Nothing is guessed and nothing is converted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from mlpack.core.digest import Digest

T = TypeVar("T")

HEAD_BYTES = 16 << 20
"""A publisher's mark names each of its blobs: 200,000 files have this many bytes. The head that lists show has 500."""
BODY_BYTES = 64 << 20
"""The record of a release has a line a file; a move holds it once more within a text."""
TEXT_CHARS = 128 << 10
"""The longest text that a person may have written. A reason is a command-line argument, and Linux passes none that is longer."""
LABEL_CHARS = 4096
"""Labels say who, where and what. mlpack writes at most 256 characters."""
_DEPTH = 32
_DIGITS = 19
_FLOAT_CHARS = 64
_SHOWN_CHARS = 120
_HALF_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TIME = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,6})?Z")
_VERSION_MAX = 999_999_999
_SECONDS_MAX = 253_402_300_799.0
"""The last second of the year 9999."""


class FieldError(ValueError):
    """The fault of a value, in one short line without control characters."""


def shown(value: object, most: int = _SHOWN_CHARS) -> str:
    """Foreign text for a message: on one line, printable, and cut."""
    text = str(value)
    cut = text[:most] + ("..." if len(text) > most else "")
    return cut if cut.isprintable() else ascii(cut)[1:-1]


def parse(data: bytes | str, most: int = HEAD_BYTES, *, texts: int = TEXT_CHARS) -> Any:
    """A JSON value of at most so many bytes, whose texts have at most so many characters. FieldError for anything else."""
    if len(data) > most:
        raise FieldError(f"it has {len(data):,} bytes, and at most {most:,} are read")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        value = json.loads(text, parse_constant=_no_constant, parse_int=_int, parse_float=_float)
    except FieldError:
        raise
    except RecursionError:
        raise FieldError("it is nested too deeply") from None
    except UnicodeError:
        raise FieldError("it is not UTF-8") from None
    except ValueError as error:
        raise FieldError(f"it is not JSON: {shown(error)}") from None
    # Most rows are short and flat: only those that may be wrong are walked through.
    if text.count("[") + text.count("{") > _DEPTH or len(text) > texts or _HALF_SURROGATE.search(text):
        for depth, each in _walk(value):
            if depth > _DEPTH:
                raise FieldError("it is nested too deeply")
            if isinstance(each, str):
                _check_text(each, texts)
    return value


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """The value and everything in it, keys too, with their depths."""
    stack = [(0, value)]
    while stack:
        depth, each = stack.pop()
        yield depth, each
        if isinstance(each, dict):
            stack.extend((depth + 1, inner) for pair in each.items() for inner in pair)
        elif isinstance(each, list):
            stack.extend((depth + 1, inner) for inner in each)


def _check_text(text: str, most: int) -> None:
    if len(text) > most:
        raise FieldError(f"it holds a text of {len(text):,} characters, and at most {most:,} are read")
    try:
        text.encode()
    except UnicodeError:
        raise FieldError("it holds half a surrogate, which is no text") from None


def _no_constant(text: str) -> float:
    raise FieldError(f"it is not JSON: {text} is no number")


def _int(text: str) -> int:
    if len(text) > _DIGITS:
        raise FieldError(f"it holds a number of {len(text):,} digits")
    return int(text)


def _float(text: str) -> float:
    if len(text) > _FLOAT_CHARS or not math.isfinite(value := float(text)):
        raise FieldError(f"it holds the number {shown(text, 24)}")
    return value


class Fields:
    """The fields of an object, each read as what it must be. FieldError names the field."""

    def __init__(self, value: object, what: str = "it") -> None:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise FieldError(f"{what} is not an object")
        self._value = value
        self._what = what

    def raw(self, key: str) -> Any:
        """The value of the field, unchecked."""
        if key not in self._value:
            raise FieldError(f"{key} is missing")
        return self._value[key]

    def maybe(self, key: str, read: Callable[[str], T]) -> T | None:
        """What `read` returns for the field; None where it is null or missing."""
        return None if self._value.get(key) is None else read(key)

    def text(self, key: str, most: int = TEXT_CHARS) -> str:
        """A text; it may be anything."""
        value = self.raw(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        if len(value) > most:
            raise FieldError(f"{key} has {len(value):,} characters, and at most {most:,} are read")
        return value

    def label(self, key: str) -> str:
        """A text of one line without control characters, as names of people, machines and kinds are."""
        value = self.text(key, LABEL_CHARS)
        if _CONTROL.search(value):
            raise FieldError(f"{key} holds control characters")
        return value

    def word(self, key: str, form: re.Pattern[str], what: str) -> str:
        """A text of this form."""
        value = self.text(key, LABEL_CHARS)
        if form.fullmatch(value) is None:
            raise FieldError(f"{key} is {shown(value)!r}, which is not {what}")
        return value

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.raw(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def whole(self, key: str, low: int = 0, high: int = (1 << 63) - 1) -> int:
        """A whole number within these limits, both included."""
        value = self.raw(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(key, "a whole number")
        if not low <= value <= high:
            raise FieldError(f"{key} is {value}, not between {low} and {high}")
        return value

    def version(self, key: str) -> int:
        """The number of a release or of a move."""
        return self.whole(key, 1, _VERSION_MAX)

    def seconds(self, key: str) -> float:
        """A time in seconds since 1970."""
        value = self.raw(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self._wrong(key, "a number of seconds")
        if not 0 <= value <= _SECONDS_MAX:  # never true of NaN
            raise FieldError(f"{key} is {value}, which is no time")
        return float(value)

    def digest(self, key: str) -> Digest:
        """A digest."""
        value = self.text(key, LABEL_CHARS)
        return as_digest(value, key)

    def time(self, key: str) -> str:
        """A time, as `rows.timestamp` writes it."""
        return as_time(self.text(key, LABEL_CHARS), key)

    def each(self, key: str) -> list[Any]:
        """A list."""
        value = self.raw(key)
        if not isinstance(value, (list, tuple)):
            raise self._wrong(key, "a list")
        return list(value)

    def inside(self, key: str) -> dict[str, Any]:
        """An object with any content."""
        value = self.raw(key)
        Fields(value, key)
        return dict(value)

    def _wrong(self, key: str, expected: str) -> FieldError:
        value = self._value[key]
        actual = "null" if value is None else type(value).__name__
        return FieldError(f"{key} is not {expected} but {actual}")


def as_digest(value: object, what: str) -> Digest:
    """The value as a digest. FieldError for anything else."""
    try:
        return Digest(str(value) if isinstance(value, str) else "")
    except ValueError:
        raise FieldError(f"{what} is not a sha256 digest: {shown(value, 24)}") from None


def as_time(value: str, what: str) -> str:
    """The value as a time, UTC, in the form of `rows.timestamp`, that the calendar has."""
    from datetime import datetime

    try:
        if _TIME.fullmatch(value) is None:
            raise ValueError
        datetime.fromisoformat(value)
    except ValueError:
        raise FieldError(f"{what} is not a time: {shown(value, 40)}") from None
    return value
