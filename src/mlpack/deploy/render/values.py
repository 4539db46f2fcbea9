"""Values of the graph in the words of a language: one template text for each, `${Model.Arn}` or `${aws_lambda_function.Model.arn}`.

Promises: a literal text stays what it is (`${` in it is escaped), however deep it lies; an attribute that a node has not is refused
by name. Will not: know which fields a noun has.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.values import Context, Id, Joined, Parameter, Ref, Value
from mlpack.deploy.render.attributes import ATTRIBUTES


class Language(ABC):
    """How one language writes values of one graph."""

    column: int
    """Of `ATTRIBUTES`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._kinds = {node.id: type(node) for node in graph.nodes}

    @abstractmethod
    def context(self, value: Context) -> str:
        """The template of what the account knows."""

    @abstractmethod
    def parameter(self, value: Parameter) -> str:
        """The template of what an environment gives."""

    @abstractmethod
    def literal(self, text: str) -> str:
        """The template that stands for this very text."""

    @abstractmethod
    def value(self, value: Value) -> Any:
        """What stands in the file where a value is asked for."""

    def template(self, value: Value) -> str:
        """A value as a template."""
        if isinstance(value, Ref):
            return self.attribute(value.node, value.attribute)
        if isinstance(value, Parameter):
            return self.parameter(value)
        if isinstance(value, Context):
            return self.context(value)
        if isinstance(value, Joined):
            return "".join(map(self.template, value.parts))
        return self.literal(value)

    def attribute(self, node: Id, name: str) -> str:
        """The template of a node's attribute."""
        kind = self._kinds[node]
        if name not in ATTRIBUTES.get(kind, {}):
            raise ValueError(f"{node} is a {kind.__name__}, which has no attribute {name!r}: {', '.join(ATTRIBUTES.get(kind, ()))}")
        return ATTRIBUTES[kind][name][self.column].replace("@", node)

    def resolve(self, tree: Any) -> Any:
        """A tree of mappings and lists with every value in it written out."""
        if isinstance(tree, Mapping):
            return {key: self.resolve(value) for key, value in tree.items()}
        if isinstance(tree, tuple | list):
            return [self.resolve(value) for value in tree]
        return self.value(tree) if isinstance(tree, str | Ref | Parameter | Context | Joined) else tree

    def document(self, tree: Any) -> str:
        """A tree as the template of its JSON text."""
        return json.dumps(self.templates(tree), indent=None, separators=(",", ":"), ensure_ascii=False)

    def templates(self, tree: Any) -> Any:
        """A tree with every text in it as a template."""
        if isinstance(tree, Mapping):
            return {self.literal(key): self.templates(value) for key, value in tree.items()}
        if isinstance(tree, tuple | list):
            return [self.templates(value) for value in tree]
        return self.template(tree) if isinstance(tree, str | Ref | Parameter | Context | Joined) else tree


def present(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Those that say something: None, and what is empty, are left out."""
    return {key: value for key, value in properties.items() if value is not None and value not in ({}, [], ())}


def policy_of(node: Any) -> str:
    """The id of the resource that holds the grants of a node's role."""
    return f"{node.role}Policy"
