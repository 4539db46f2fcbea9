"""YAML 1.2 read into plain values, with the line of every key and item.

Promises: only the core schema (null, true/false, numbers, strings, lists, mappings with string keys); nothing is ever
executed or constructed: a tag is a problem, so is a key written twice. Size, depth and the number of values that
aliases expand to are bounded. Whatever the bytes are, the only exception is `RecipeError`. It knows nothing of recipes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.errors import RecipeError

SIZE_BYTES_MAX = 1 << 20
VALUES_MAX = 20_000
DEPTH_MAX = 32
DIGITS_MAX = 20

UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""What no value of a document holds, however it is written."""

Place = tuple[str | int, ...]
"""Where a value stands: keys and indices from the top."""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong at a place; the line is found by `Document.line`."""

    place: Place
    message: str
    line: int | None = None
    lost: bool = False
    """Another value stands in the place of the one that was written: what else is wrong with it says nothing."""


class PlacedError(RecipeError):
    """What is wrong at places of a document that whoever found it has not read; `Document.listed` adds file and lines."""

    def __init__(self, *found: Problem) -> None:
        super().__init__(*(f"{dotted(each.place)}: {each.message}" for each in found))
        self.found = found


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document's value, its lines (from 1), and what was wrong with it that did not stop the reading."""

    value: Any
    lines: dict[Place, int]
    problems: tuple[Problem, ...]

    def line(self, place: Place) -> int:
        """The line of this key or item; of the nearest one above it where it has none (a missing key, an alias)."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def listed(self, name: str, problems: Iterable[Problem]) -> RecipeError:
        """The error that lists them by line, in the words `name:line: place: message`."""
        rows = sorted((each.line or self.line(each.place), dotted(each.place), each.message) for each in problems)
        return RecipeError(*(f"{name}:{line}: {place + ': ' if place else ''}{said}" for line, place, said in rows))


def dotted(place: Place) -> str:
    """A place as people write it: `inputs.x.shape[1]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def read(path: Path) -> Document:
    """Reads a file of at most `SIZE_BYTES_MAX` bytes. Raises RecipeError, with the line where there is one."""
    try:
        with path.open("rb") as stream:
            data = stream.read(SIZE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such file; `mlpack init MODEL` writes a first recipe") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a directory; name the recipe's file, such as {path / 'recipe.yaml'}") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    if len(data) > SIZE_BYTES_MAX:
        raise RecipeError(f"{path}: is larger than {SIZE_BYTES_MAX} bytes; that is no recipe")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: is not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> Document:
    """Reads a text; `name` is what messages call it."""
    builder = _Builder()
    line = 1
    try:
        for event in _events(text):
            line = event.start_mark.line + 1 if event.start_mark is not None else line
            builder.take(event, line)
    except _StopError as stop:
        raise RecipeError(f"{name}:{line}: {stop}") from None
    except RecursionError:
        raise RecipeError(f"{name}:{line}: is nested too deeply") from None
    except _yaml_errors() as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = mark.line + 1 if mark is not None else line
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        context = getattr(error, "context", None)
        raise RecipeError(f"{name}:{where}: is not YAML: {f'{context}, ' if context else ''}{what}") from None
    return Document(value=builder.result, lines=builder.lines, problems=tuple(builder.problems))


class _StopError(Exception):
    """Reading cannot go on; the message says why."""


def _yaml_errors() -> tuple[type[Exception], ...]:
    from ruamel.yaml.error import YAMLError, YAMLStreamError

    # The scanner lets a few of Python's own errors through on garbage: an escape beyond Unicode is chr()'s ValueError.
    return (YAMLError, YAMLStreamError, ValueError, OverflowError, IndexError, AttributeError, TypeError, AssertionError)


def _events(text: str) -> Iterator[Any]:
    import io

    from ruamel.yaml import YAML

    yield from YAML(typ="safe", pure=True).parse(io.StringIO(text))


class _Frame:
    """A list or mapping that is still open. `size` counts the values it expands to."""

    __slots__ = ("anchor", "key", "key_line", "place", "size", "value")

    def __init__(self, value: list[Any] | dict[str, Any], place: Place, anchor: str | None) -> None:
        self.value = value
        self.place = place
        self.anchor = anchor
        self.key: str | None = None
        self.key_line = 1
        self.size = 1


class _Builder:
    """Folds the parser's events into values without recursion, so that depth is ours to bound."""

    def __init__(self) -> None:
        self.result: Any = None
        self.lines: dict[Place, int] = {(): 1}
        self.problems: list[Problem] = []
        self._open: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._documents = 0

    def take(self, event: Any, line: int) -> None:
        kind = type(event).__name__
        if kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                raise _StopError("a second document begins; a recipe is one document")
            self.lines[()] = line
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._refuse_tag(event, line)
            if len(self._open) >= DEPTH_MAX:
                raise _StopError(f"is nested more than {DEPTH_MAX} levels deep")
            value: list[Any] | dict[str, Any] = {} if kind == "MappingStartEvent" else []
            self._open.append(_Frame(value, self._place(line), event.anchor))
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            frame = self._open.pop()
            self._add(frame.value, frame.size, line, frame.anchor)
        elif kind == "AliasEvent":
            if event.anchor not in self._anchors:
                raise _StopError(f"the alias *{event.anchor} has no anchor before it, or stands inside its own anchor")
            self._add(*self._anchors[event.anchor], line, None)
        elif kind == "ScalarEvent":
            self._refuse_tag(event, line)
            self._scalar(event, line)

    def _scalar(self, event: Any, line: int) -> None:
        value, problem = _resolve(event.value, plain=event.style is None)
        if problem:
            self.problems.append(Problem(place=self._place(line), message=problem, line=line, lost=True))
        self._add(value, 1, line, event.anchor)

    def _refuse_tag(self, event: Any, line: int) -> None:
        if event.tag is not None:
            message = f"the tag {event.tag} is not used in recipes; nothing in one is constructed or executed"
            self.problems.append(Problem(place=self._place(line), message=message, line=line))

    def _place(self, line: int) -> Place:
        """Where the next value will stand; notes the line of an item or of the top."""
        if not self._open:
            return ()
        frame = self._open[-1]
        if isinstance(frame.value, list):
            place = (*frame.place, len(frame.value))
            self.lines.setdefault(place, line)
            return place
        return frame.place if frame.key is None else (*frame.place, frame.key)

    def _add(self, value: Any, size: int, line: int, anchor: str | None) -> None:
        place = self._place(line)
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self.result = value
            return
        frame = self._open[-1]
        frame.size += size
        if frame.size > VALUES_MAX:
            raise _StopError(f"holds more than {VALUES_MAX} values once its aliases are expanded")
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.key is None:
            frame.key = self._key(value, frame, line)
            frame.key_line = line
        else:
            if frame.key in frame.value:
                first = self.lines[place]
                message = f"is written twice (first in line {first})"
                self.problems.append(Problem(place=place, message=message, line=frame.key_line))
            else:
                frame.value[frame.key] = value
                self.lines[place] = frame.key_line
            frame.key = None

    def _key(self, value: Any, frame: _Frame, line: int) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, bool | int | float) or value is None:
            shown = "null" if value is None else str(value).lower()
            message = f'the key {shown} is not a string; write it in quotes: "{shown}"'
        else:
            shown, message = "?", "a list or mapping cannot be a key"
        self.problems.append(Problem(place=frame.place, message=message, line=line))
        return str(shown)


def _resolve(text: str, *, plain: bool) -> tuple[Any, str | None]:
    """A scalar's value by the core schema, and what is wrong with it."""
    if UNPRINTABLE.search(text):
        return UNPRINTABLE.sub("?", text), "holds a control character or half of a surrogate pair"
    if not plain:
        return text, None
    if _NULL.fullmatch(text):
        return None, None
    if _BOOL.fullmatch(text):
        return text.lower() == "true", None
    if _INT.fullmatch(text):
        if len(text) > DIGITS_MAX:
            return 0, f"a number of more than {DIGITS_MAX} digits"
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text), None
    if _FLOAT.fullmatch(text):
        number = float(text)
        return (number, None) if math.isfinite(number) else (0.0, "a number too large to hold")
    if _NOT_FINITE.fullmatch(text):
        return 0.0, f"{text} is not a number that a recipe can hold"
    return text, None
