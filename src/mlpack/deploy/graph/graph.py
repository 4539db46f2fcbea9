"""All nodes of a deployment: the one picture that renderers, prices, limits and grants are computed from. Pure.

Promises: nodes name each other by `Id` and `Ref`; an id is unique in its graph and a logical id in every language; whoever is
named is there. Will not: know CloudFormation, Terraform or prices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from mlpack.deploy.graph.values import Node, Parameter, Value, named, values_of

_ID = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")


N = TypeVar("N", bound=Node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A deployment. `tags` are of everything that can have some. `outputs`: what people and the rollout ask the stack for."""

    name: str
    environment: str
    nodes: tuple[Node, ...]
    tags: Mapping[str, str]
    outputs: Mapping[str, tuple[str, Value]] = field(default_factory=dict)
    """(description, value) by name."""

    def __post_init__(self) -> None:
        ids = [node.id for node in self.nodes]
        for name in ids:
            if not _ID.fullmatch(name):
                raise ValueError(f"{name!r} is no logical id: letters and digits, the first a capital, at most 64")
        if len(ids) != len(set(ids)):
            raise ValueError(f"two nodes have one id: {sorted({name for name in ids if ids.count(name) > 1})}")
        missing = sorted({name for node in self.nodes for name in named(node)} - set(ids))
        if missing:
            raise ValueError(f"nodes that are named and are not there: {missing}")

    def of(self, kind: type[N]) -> tuple[N, ...]:
        """All nodes of a kind, in order."""
        return tuple(node for node in self.nodes if isinstance(node, kind))

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.id == name)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All that environments have to give, each once, by name."""
        values = {value.name: value for node in self.nodes for value in values_of(node) if isinstance(value, Parameter)}
        return tuple(values[name] for name in sorted(values))
