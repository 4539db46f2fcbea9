"""What an environment gives: a file of CloudFormation's and one of Terraform's, and policies to read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.roles import Role
from mlpack.deploy.graph.values import Parameter
from mlpack.deploy.render import documents
from mlpack.deploy.render.cfn.language import Formation
from mlpack.deploy.render.tf.configuration import variable_value

UNKNOWN = "FILL IN for "
"""What stands where only the team knows: `deploy check` says which are left."""


def parameters(graph: Graph, environment: str, known: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`parameters.ENV.json`, as `aws cloudformation deploy --parameter-overrides file://` and pipelines read it."""
    return {"Parameters": {each.name: _text(each, environment, known or {}) for each in graph.parameters}, "Tags": dict(graph.tags)}


def variables(graph: Graph, environment: str, known: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`ENV.tfvars.json`."""
    return {each.name: variable_value(each, _text(each, environment, known or {})) for each in graph.parameters}


def _text(of: Parameter, environment: str, known: Mapping[str, str]) -> str:
    return known.get(of.name, of.default if of.default is not None else f"{UNKNOWN}{environment}: {of.description}")


def policies(graph: Graph) -> dict[str, Any]:
    """What each role may do and why, by its id: for a reader, with `${Id.Attribute}` where the account will know."""
    to = Formation(graph)
    return {
        role.id: {
            "Taken by": role.service,
            "Why": [grant.why for grant in role.grants],
            "PolicyDocument": to.templates(documents.policy(role)),
        }
        for role in graph.of(Role)
    }
