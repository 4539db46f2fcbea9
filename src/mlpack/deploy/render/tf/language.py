"""Values of the graph as Terraform's expressions, in its JSON form. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlpack.deploy.graph.functions import Version
from mlpack.deploy.graph.values import Context, Id, Parameter, Value
from mlpack.deploy.render.values import Language, present

_CONTEXT = {
    "account": "${data.aws_caller_identity.current.account_id}",
    "region": "${data.aws_region.current.name}",
    "partition": "${data.aws_partition.current.partition}",
}
Resources = dict[tuple[str, str], dict[str, Any]]
"""By (type, name)."""


class Terraform(Language):
    """What the renderers of Terraform's resources call."""

    column = 1

    def context(self, value: Context) -> str:
        """An attribute of a data source."""
        return _CONTEXT[value.name]

    def parameter(self, value: Parameter) -> str:
        """A variable."""
        return f"${{var.{value.name}}}"

    def literal(self, text: str) -> str:
        """The same text where every text is a template."""
        return text.replace("${", "$${").replace("%{", "%%{")

    def value(self, value: Value) -> Any:
        """A template: in Terraform's JSON each text is one."""
        return self.template(value)

    def attribute(self, node: Id, name: str) -> str:
        """The template of a node's attribute. A function publishes its own versions: there is no resource of one."""
        owner = self.graph[node]
        template = super().attribute(node, name)
        return template.replace(f".{node}.", f".{owner.function}.") if isinstance(owner, Version) else template

    def text(self, tree: Any) -> str:
        """A document as a text with values in it."""
        return self.document(tree)


def resource(properties: Mapping[str, Any], **meta: Any) -> dict[str, Any]:
    """A resource with those of its arguments that say something."""
    return present({**properties, **meta})


def plain_json(tree: Any) -> str:
    """JSON of what is resolved already."""
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False)
