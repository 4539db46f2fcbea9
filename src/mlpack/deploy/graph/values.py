"""What a node of a deployment is, and the values that are known only when the files are applied. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NewType, TypeAlias

Id = NewType("Id", str)
"""The name of a node in its graph. A field of this type says which node is meant; a `Ref` stands for a value of it."""


@dataclass(frozen=True, slots=True)
class Ref:
    """An attribute of another node, known when that one exists: `arn`, `name`, `url`, `version`, ..."""

    node: Id
    attribute: str = "arn"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that each environment gives (`parameters.ENV.json`): an image's address, subnets, a topic."""

    name: str
    description: str
    default: str | None = None
    kind: Literal["text", "texts", "number", "ami"] = "text"


@dataclass(frozen=True, slots=True)
class Context:
    """What the account that applies the files knows."""

    name: Literal["account", "region", "partition"]


@dataclass(frozen=True, slots=True)
class Joined:
    """Parts written one after the other, such as an ARN."""

    parts: tuple[Value, ...]


Value: TypeAlias = "str | Ref | Parameter | Context | Joined"
"""A text that is known, or that the account will know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Something that will exist. `id`: its logical id, in PascalCase."""

    id: Id


def values_of(thing: Any) -> Iterator[Value]:
    """Every `Ref`, `Parameter` and `Context` inside a node, however deep."""
    if isinstance(thing, Ref | Parameter | Context):
        yield thing
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from values_of(value)
    elif isinstance(thing, tuple | list):
        for value in thing:
            yield from values_of(value)
    elif hasattr(thing, "__dataclass_fields__"):
        for name in thing.__dataclass_fields__:
            yield from values_of(getattr(thing, name))


def named(node: Node) -> Iterator[Id]:
    """Every other node that this one names, by a `Ref` or by its id."""
    for value in values_of(node):
        if isinstance(value, Ref):
            yield value.node
    for field in fields(node):
        if "Id" in str(field.type) and field.name != "id":
            yield from _ids(getattr(node, field.name))


def _ids(value: Any) -> Iterator[Id]:
    if isinstance(value, str):
        yield Id(value)
    elif isinstance(value, tuple):
        for one in value:
            yield from _ids(one)
