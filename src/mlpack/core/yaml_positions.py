"""YAML 1.2 read into plain values, with the line of every key and item.

Promises: only the core schema (null, true/false, numbers, strings, lists, mappings with string keys); nothing is ever
executed or constructed: a tag is a problem, so is a key written twice. Size, depth and the number of values that
aliases expand to are bounded. Whatever the bytes are, the only exception is `RecipeError`. It knows nothing of recipes.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping
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
    """What is wrong at places of a document that whoever found it has not read; `Positions.listed` adds file and lines."""

    def __init__(self, *found: Problem) -> None:
        super().__init__(*(f"{dotted(each.place)}: {each.message}" for each in found))
        self.found = found


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Where each key and item of a document stands. `name`: what messages call the document; `lines`: from 1."""

    name: str
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of this key or item; of the nearest one above it where it has none (a missing key, an alias)."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def listed(self, problems: Iterable[Problem]) -> RecipeError:
        """The error that lists them by line, in the words `name:line: place: message`."""
        rows = sorted((each.line or self.line(each.place), dotted(each.place), each.message) for each in problems)
        return RecipeError(*(f"{self.name}:{line}: {place + ': ' if place else ''}{said}" for line, place, said in rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document's value, where its parts stand, and what was wrong with it that did not stop the reading."""

    value: Any
    positions: Positions
    problems: tuple[Problem, ...]


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
    try:
        root, tags = _composed(text)
    except _StopError as stop:
        raise RecipeError(f"{name}:{stop.line}: {stop}") from None
    except _yaml_errors() as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = mark.line + 1 if mark is not None else 1
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        context = getattr(error, "context", None)
        raise RecipeError(f"{name}:{where}: is not YAML: {f'{context}, ' if context else ''}{what}") from None
    values = _Values(tags)
    value = None if root is None else values.of(root, ())
    return Document(value=value, positions=Positions(name=name, lines=values.lines), problems=tuple(values.problems))


class _StopError(Exception):
    """Reading cannot go on; the message says why."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _yaml_errors() -> tuple[type[Exception], ...]:
    from ruamel.yaml.error import YAMLError, YAMLStreamError

    # The scanner lets a few of Python's own errors through on garbage: an escape beyond Unicode is chr()'s ValueError.
    return (YAMLError, YAMLStreamError, ValueError, OverflowError, IndexError, AttributeError, TypeError, AssertionError)


# --- text to nodes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Alias:
    """Where an alias stands, and the node that it repeats: ruamel.yaml puts the node itself there, which has another line."""

    node: Any
    start_mark: Any


def _composed(text: str) -> tuple[Any, dict[int, str]]:
    """The node of a text (None: there is no document in it), and the tags that are written, by the `id` of their nodes."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _composer()
    documents = yaml.compose_all(io.StringIO(text))
    root = next(documents, None)
    if root is not None and yaml.composer.check_node():
        raise _StopError(_line(yaml.parser.peek_event()), "a second document begins; a recipe is one document")
    return root, yaml.composer.tags


@functools.cache
def _composer() -> type[Any]:
    """ruamel.yaml's composer, which stops at our limits while it reads, and not when it has a tree that is too large."""
    from ruamel.yaml.composer import Composer
    from ruamel.yaml.events import AliasEvent, ScalarEvent

    class BoundedComposer(Composer):
        def __init__(self, loader: Any = None) -> None:
            super().__init__(loader)
            self.warn_double_anchors = False  # YAML allows it: an alias means the last one before it
            self.tags: dict[int, str] = {}
            self._values = self._open = 0
            self._sizes: dict[int, int] = {}

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.parser.peek_event()
            if isinstance(event, AliasEvent):
                return self._alias(self.parser.get_event())
            before, inner = self._values, not isinstance(event, ScalarEvent)
            self._count(1, event)
            self._open += inner
            if self._open > DEPTH_MAX:
                raise _StopError(_line(event), f"is nested more than {DEPTH_MAX} levels deep")
            node = super().compose_node(parent, index)
            self._open -= inner
            if event.tag is not None:
                self.tags[id(node)] = event.tag
            if event.anchor is not None:
                self._sizes[id(node)] = self._values - before
            return node

        def _alias(self, event: Any) -> _Alias:
            node = self.anchors.get(event.anchor)
            if id(node) not in self._sizes:  # which a node has once it is whole
                why = f"the alias *{event.anchor} has no anchor before it, or stands inside its own anchor"
                raise _StopError(_line(event), why)
            self._count(self._sizes[id(node)], event)
            return _Alias(node, event.start_mark)

        def _count(self, values: int, event: Any) -> None:
            self._values += values
            if self._values > VALUES_MAX:
                raise _StopError(_line(event), f"holds more than {VALUES_MAX} values once its aliases are expanded")

    return BoundedComposer


def _line(marked: Any) -> int:
    """Of a node, an alias or an event; from 1."""
    return int(marked.start_mark.line) + 1


# --- nodes to values --------------------------------------------------------------------------------------------------


class _Values:
    """The values of nodes, with the lines of their keys and items, and what is wrong with them."""

    def __init__(self, tags: dict[int, str]) -> None:
        self.lines: dict[Place, int] = {}
        self.problems: list[Problem] = []
        self._tags = tags
        self._anchored: dict[int, Any] = {}

    def of(self, node: Any, place: Place) -> Any:
        """A node's value, which stands at `place`. What an alias repeats is one object, so that no alias makes it larger."""
        if isinstance(node, _Alias):
            return self._anchored[id(node.node)]
        self.lines.setdefault(place, _line(node))
        if id(node) in self._tags:
            why = f"the tag {self._tags[id(node)]} is not used in recipes; nothing in one is constructed or executed"
            self._note(node, place, why)
        value = {"mapping": self._mapping, "sequence": self._sequence, "scalar": self._scalar}[node.id](node, place)
        if node.anchor is not None:
            self._anchored[id(node)] = value
        return value

    def _note(self, node: Any, place: Place, message: str, *, lost: bool = False) -> None:
        self.problems.append(Problem(place=place, message=message, line=_line(node), lost=lost))

    def _scalar(self, node: Any, place: Place) -> Any:
        value, problem = _resolve(node.value, plain=node.style is None)
        if problem:
            self._note(node, place, problem, lost=True)
        return value

    def _sequence(self, node: Any, place: Place) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            self.lines.setdefault((*place, index), _line(item))
            values.append(self.of(item, (*place, index)))
        return values

    def _mapping(self, node: Any, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, place)
            here = (*place, key)
            first = self.lines.setdefault(here, _line(key_node))
            value = self.of(value_node, here)
            if key in values:
                self._note(key_node, here, f"is written twice (first in line {first})")
            else:
                values[key] = value
        return values

    def _key(self, node: Any, place: Place) -> str:
        read_whole = isinstance(node, _Alias) or node.id == "scalar"
        value = self.of(node, place if read_whole else (*place, "?"))
        if isinstance(value, str):
            return value
        if isinstance(value, bool | int | float) or value is None:
            shown = "null" if value is None else str(value).lower()
            message = f'the key {shown} is not a string; write it in quotes: "{shown}"'
        else:
            shown, message = "?", "a list or mapping cannot be a key"
        self._note(node, place, message)
        return str(shown)


def _resolve(text: str, *, plain: bool) -> tuple[Any, str | None]:
    """A scalar's value by the core schema, and what is wrong with it.

    ruamel.yaml's own resolver does not follow that schema: by it `1_000` and `0b11` are numbers, `2024-01-01` is a date, `.5e3` is
    a string, and `%YAML 1.1` makes `no` false.
    """
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
