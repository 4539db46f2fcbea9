"""Values of the graph as CloudFormation's intrinsic functions. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlpack.deploy.graph.values import Context, Parameter, Value
from mlpack.deploy.render.values import Language, present

_ALONE = re.compile(r"\$\{([A-Za-z0-9:]+)(?:\.([A-Za-z0-9.]+))?\}")
_CONTEXT = {"account": "${AWS::AccountId}", "region": "${AWS::Region}", "partition": "${AWS::Partition}"}


class Formation(Language):
    """What the renderers of CloudFormation's resources call."""

    column = 0

    def context(self, value: Context) -> str:
        """One of AWS's own parameters."""
        return _CONTEXT[value.name]

    def parameter(self, value: Parameter) -> str:
        """A parameter of the template."""
        return f"${{{value.name}}}"

    def literal(self, text: str) -> str:
        """The same text for `Fn::Sub`."""
        return text.replace("${", "${!")

    def value(self, value: Value) -> Any:
        """A text, a reference, or what has to be put together."""
        return value if isinstance(value, str) else intrinsic(self.template(value))

    def text(self, tree: Any) -> Any:
        """A document as a text with values in it."""
        return intrinsic(self.document(tree))

    @property
    def tags(self) -> list[dict[str, str]]:
        """What everything is tagged with."""
        return [{"Key": key, "Value": self.graph.tags[key]} for key in sorted(self.graph.tags)]


def intrinsic(template: str) -> Any:
    """The shortest form of a template: a text, `Ref`, `Fn::GetAtt` or `Fn::Sub`."""
    alone = _ALONE.fullmatch(template)
    if alone is not None:
        return {"Fn::GetAtt": [alone[1], alone[2]]} if alone[2] else {"Ref": alone[1]}
    if re.search(r"\$\{(?!!)", template):
        return {"Fn::Sub": template}
    return template.replace("${!", "${")


def resource(kind: str, properties: Mapping[str, Any], **attributes: Any) -> dict[str, Any]:
    """A resource with those of its properties that say something."""
    return {"Type": f"AWS::{kind}", **present(attributes), "Properties": present(properties)}
