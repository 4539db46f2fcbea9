"""A graph as one Terraform configuration in its JSON form. Pure.

Promises: one resource or more for each noun but a function's first version, which the function publishes; tags of everything by the
provider; where aliases point, and how many tasks run, is not undone. Will not: know a backend or credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlpack.deploy.graph import endpoints, functions, machines, roles, stores, tasks, watching
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.values import Node, Parameter
from mlpack.deploy.render import documents
from mlpack.deploy.render.tf import compute
from mlpack.deploy.render.tf import endpoints as asked
from mlpack.deploy.render.tf import stores as held
from mlpack.deploy.render.tf import tasks as run
from mlpack.deploy.render.tf.language import Resources, Terraform

PROVIDER = "~> 5.100.0"
"""Of AWS: the versions whose schema these resources were held against."""
_RENDERERS: Mapping[type[Node], Callable[[Any, Terraform], Resources]] = {
    endpoints.HttpApi: asked.http_api,
    endpoints.RestApi: asked.rest_api,
    endpoints.FunctionUrl: asked.function_url,
    endpoints.LoadBalancer: asked.load_balancer,
    endpoints.TargetGroup: asked.target_group,
    endpoints.SecurityGroup: asked.security_group,
    functions.Function: compute.function,
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
_KINDS = {"text": "string", "texts": "list(string)", "number": "number", "ami": "string"}


def configuration(graph: Graph) -> dict[str, Any]:
    """The configuration of a graph, its resources by type and then in the graph's order."""
    to = Terraform(graph)
    resources: dict[str, dict[str, Any]] = {}
    for node in graph.nodes:
        rendered = {} if isinstance(node, functions.Version) else _RENDERERS[type(node)](node, to)
        for (kind, name), arguments in rendered.items():
            resources.setdefault(kind, {})[name] = arguments
    result: dict[str, Any] = {
        "//": documents.headline(graph),
        "terraform": {"required_providers": {"aws": {"source": "hashicorp/aws", "version": PROVIDER}}},
        "provider": {"aws": {"default_tags": {"tags": dict(sorted(graph.tags.items()))}}},
        "data": {name: {"current": {}} for name in ("aws_caller_identity", "aws_partition", "aws_region")},
    }
    if graph.parameters:
        result["variable"] = {each.name: _variable(each) for each in graph.parameters}
    result["resource"] = {kind: resources[kind] for kind in sorted(resources)}
    if graph.outputs:
        said = {name: {"description": text, "value": to.value(value)} for name, (text, value) in sorted(graph.outputs.items())}
        result["output"] = said
    return result


def _variable(of: Parameter) -> dict[str, Any]:
    default = {} if of.default is None else {"default": variable_value(of, of.default)}
    return {"type": _KINDS[of.kind], "description": of.description, **default}


def variable_value(of: Parameter, text: str) -> Any:
    """A parameter's text as Terraform has it."""
    if of.kind == "texts":
        return [part.strip() for part in text.split(",") if part.strip()]
    return text
