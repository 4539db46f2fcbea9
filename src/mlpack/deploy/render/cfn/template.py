"""A graph as one CloudFormation template, without macros. Pure.

Promises: one resource or more for each noun, with the noun's id as logical id; what a property names is named by `Ref`, `GetAtt` or
`Sub`; no later template moves an alias. Will not: export values, or nest stacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlpack.deploy.graph import endpoints, functions, machines, roles, stores, tasks, watching
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.values import Node, Parameter
from mlpack.deploy.render import documents
from mlpack.deploy.render.cfn import compute
from mlpack.deploy.render.cfn import endpoints as asked
from mlpack.deploy.render.cfn import stores as held
from mlpack.deploy.render.cfn import tasks as run
from mlpack.deploy.render.cfn.language import Formation

_RENDERERS: Mapping[type[Node], Callable[[Any, Formation], dict[str, dict[str, Any]]]] = {
    endpoints.HttpApi: asked.http_api,
    endpoints.RestApi: asked.rest_api,
    endpoints.FunctionUrl: asked.function_url,
    endpoints.LoadBalancer: asked.load_balancer,
    endpoints.TargetGroup: asked.target_group,
    endpoints.SecurityGroup: asked.security_group,
    functions.Function: compute.function,
    functions.Version: compute.version,
    functions.Alias: compute.alias,
    functions.Provisioned: compute.provisioned,
    functions.Permission: compute.permission,
    machines.Machine: compute.machine,
    machines.Rule: compute.rule,
    machines.Schedule: compute.schedule,
    machines.Build: compute.build,
    roles.Role: compute.role,
    roles.Logs: compute.logs,
    stores.Queue: held.queue,
    stores.Source: held.source,
    stores.Bucket: held.bucket,
    stores.Table: held.table,
    stores.Topic: held.topic,
    tasks.Cluster: run.cluster,
    tasks.CapacityProvider: run.capacity_provider,
    tasks.Task: run.task,
    tasks.Service: run.service,
    tasks.Scaling: run.scaling,
    watching.Alarm: held.alarm,
    watching.CompositeAlarm: held.composite_alarm,
    watching.Dashboard: held.dashboard,
    watching.Budget: held.budget,
    watching.Anomaly: held.anomaly,
}
_KINDS = {"text": "String", "texts": "CommaDelimitedList", "number": "Number", "ami": "AWS::EC2::Image::Id"}


def template(graph: Graph) -> dict[str, Any]:
    """The template of a graph, its resources in the graph's order."""
    to = Formation(graph)
    resources: dict[str, Any] = {}
    for node in graph.nodes:
        resources |= _RENDERERS[type(node)](node, to)
    result: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": documents.headline(graph),
    }
    if graph.parameters:
        result["Parameters"] = {each.name: _parameter(each) for each in graph.parameters}
    result["Resources"] = resources
    if graph.outputs:
        said = {name: {"Description": text, "Value": to.value(value)} for name, (text, value) in sorted(graph.outputs.items())}
        result["Outputs"] = said
    return result


def _parameter(of: Parameter) -> dict[str, Any]:
    default = {} if of.default is None else {"Default": of.default}
    return {"Type": _KINDS[of.kind], "Description": of.description, **default}
