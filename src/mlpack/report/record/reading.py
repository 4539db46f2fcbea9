"""Records from JSON and back: each value is checked against the type of its field, and every problem is named.

Promises:
- Unknown keys are accepted, since a newer mlpack may add some. Keys whose field has no default are required.
- Types are strict: a number is finite, and neither true nor text is one. A whole number is accepted for a number, unchanged.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Problems = list[str]
Reader = Callable[[Any, str, Problems], Any]
"""A value, its path, and where its problems are noted -> the value as its type. Meaningless once a problem was noted."""

_NAMES: Final[Mapping[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
}


def value_of(kind: type[T], value: Any, problems: Problems, path: str = "") -> T:
    """The value as an instance of `kind`, a dataclass.

    Args:
        kind: A part of a record.
        value: What `json.loads` gave.
        problems: Where everything that is wrong is noted, each with its path. Where anything was, the result means nothing.
        path: Of the value, for the problems: `candidates[0].model`.

    Returns:
        The part of a record.
    """
    reader: Reader = _reader(cast(Any, kind))
    read: T = reader(value, path, problems)
    return read


def as_json(value: Any) -> Any:
    """What `json.dumps` takes: objects for parts of a record, lists for tuples, keys in the order of the fields."""
    if dataclasses.is_dataclass(value):
        return {key: as_json(getattr(value, name)) for name, key, _required in _keys(cast(Any, type(value)))}
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(inner) for inner in value]
    return value


def kind_of(value: Any) -> str:
    """The kind of a JSON value, in words."""
    return _NAMES.get(type(value), type(value).__name__)


@functools.cache
def _keys(kind: Any) -> tuple[tuple[str, str, bool], ...]:
    """Each field's name, its key in JSON, and whether that is always there."""
    none = dataclasses.MISSING
    return tuple(
        (each.name, each.metadata.get("key", each.name), each.default is none and each.default_factory is none)
        for each in dataclasses.fields(kind)
    )


@functools.cache
def _reader(kind: Any) -> Reader:
    """The reader for values of a type: a dataclass, a scalar, `X | None`, `tuple[X, ...]`, `Mapping[str, X]` or `Any`."""
    if kind is Any:
        return lambda value, _path, _problems: value
    if dataclasses.is_dataclass(kind):
        return _object(kind)
    if isinstance(kind, UnionType):
        (inner,) = (each for each in get_args(kind) if each is not NoneType)
        read = _reader(inner)
        return lambda value, path, problems: None if value is None else read(value, path, problems)
    if get_origin(kind) is tuple:
        return _list(get_args(kind)[0])
    if get_origin(kind) is Mapping:
        return _mapping(get_args(kind)[1])
    fits = _FITS[kind]

    def scalar(value: Any, path: str, problems: Problems) -> Any:
        if not fits(value):
            problems.append(f"{path}: expected {_NAMES[kind]}, found {kind_of(value)}")
        return value

    return scalar


def _object(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    fields = [(name, key, required, _reader(hints[name])) for name, key, required in _keys(kind)]

    def read(value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            problems.append(f"{path}: expected an object, found {kind_of(value)}")
            return None
        values = {}
        for name, key, required, inner in fields:
            here = f"{path}.{key}" if path else key
            if key in value:
                values[name] = inner(value[key], here, problems)
            elif required:
                problems.append(f"{here}: missing")
        return None if problems else kind(**values)

    return read


def _list(kind: Any) -> Reader:
    fits, inner = _FITS.get(kind), _reader(kind)

    def read(value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, list):
            problems.append(f"{path}: expected a list, found {kind_of(value)}")
            return ()
        if fits is not None and all(map(fits, value)):  # thousands of samples, and no path is made for any of them
            return tuple(value)
        return tuple([inner(item, f"{path}[{index}]", problems) for index, item in enumerate(value)])

    return read


def _mapping(kind: Any) -> Reader:
    inner = _reader(kind)

    def read(value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            problems.append(f"{path}: expected an object, found {kind_of(value)}")
            return {}
        return {key: inner(item, f"{path}.{key}", problems) for key, item in value.items()}

    return read


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # 400 digits: no number of bytes or milliseconds, and nothing that could be shown
        return False


_FITS: Final[Mapping[Any, Callable[[Any], bool]]] = {
    str: lambda value: isinstance(value, str),
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, int) and _is_number(value),
    float: _is_number,
}
