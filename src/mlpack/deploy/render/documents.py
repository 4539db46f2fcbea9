"""The documents that both languages carry: policies, trust, dashboards, an API's description, a machine's first script. Pure.

Promises: trees with the graph's values inside, the same for every language. Will not: know any language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlpack.deploy.graph.endpoints import HttpApi, Jwt, RestApi
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.machines import Build
from mlpack.deploy.graph.roles import Grant, Role
from mlpack.deploy.graph.stores import Bucket, Queue, Topic
from mlpack.deploy.graph.tasks import CapacityProvider, Cluster, Scaling, Service
from mlpack.deploy.graph.values import Context, Joined, Ref, Value
from mlpack.deploy.graph.watching import Anomaly, Dashboard, Expression, Metric, Panel

ACCOUNT, REGION, PARTITION = Context("account"), Context("region"), Context("partition")
ROOT = Joined(("arn:", PARTITION, ":iam::", ACCOUNT, ":root"))
VERSION = "2012-10-17"


def trust(role: Role) -> dict[str, Any]:
    """Who may take a role: one service, on behalf of this account, and of one resource where the role says which."""
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": {"Service": role.service}, "Action": "sts:AssumeRole"}
    if role.source is not None:
        statement["Condition"] = {"ArnLike": {"aws:SourceArn": role.source}, "StringEquals": {"aws:SourceAccount": ACCOUNT}}
    return {"Version": VERSION, "Statement": [statement]}


def policy(role: Role) -> dict[str, Any]:
    """What a role may do: one statement for each grant."""
    return {"Version": VERSION, "Statement": [_statement(grant, number) for number, grant in enumerate(role.grants, 1)]}


def _statement(grant: Grant, number: int) -> dict[str, Any]:
    statement: dict[str, Any] = {"Sid": f"Grant{number}", "Effect": "Allow", "Action": list(grant.actions)}
    statement["Resource"] = list(grant.resources)
    return statement | ({"Condition": dict(grant.condition)} if grant.condition else {})


def queue_policy(graph: Graph, queue: Queue) -> dict[str, Any]:
    """TLS for everybody, and the services that may send without a role."""
    here = Ref(queue.id)
    statements = [_tls("sqs:*", [here])]
    for service, source in queue.senders:
        statements.append(
            {
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": "sqs:SendMessage",
                "Resource": here,
                "Condition": source_condition(graph, source),
            }
        )
    return {"Version": VERSION, "Statement": statements}


def bucket_policy(bucket: Bucket) -> dict[str, Any]:
    """TLS for everybody."""
    return {"Version": VERSION, "Statement": [_tls("s3:*", [Ref(bucket.id), Joined((Ref(bucket.id), "/*"))])]}


def topic_policy(topic: Topic) -> dict[str, Any]:
    """The account itself, and the services that may publish on its behalf."""
    own = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    actions = ["sns:Publish", "sns:Subscribe", "sns:GetTopicAttributes", "sns:SetTopicAttributes", "sns:AddPermission"]
    actions += ["sns:RemovePermission", "sns:DeleteTopic", "sns:ListSubscriptionsByTopic"]
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": actions, "Resource": Ref(topic.id)},
        {**_tls("sns:Publish", Ref(topic.id))},
    ]
    statements += [
        {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sns:Publish", "Resource": Ref(topic.id), "Condition": own}
        for service in topic.services
    ]
    return {"Version": VERSION, "Statement": statements}


def _tls(actions: str, resources: Any) -> dict[str, Any]:
    return {
        "Effect": "Deny",
        "Principal": "*",
        "Action": actions,
        "Resource": resources,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def source_condition(graph: Graph, source: Value) -> dict[str, Any]:
    """That a service acts for this source. A bucket is named, not referred to: it exists only after who hears of its events may."""
    own = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    known = source_arn(graph, source)
    return own if known is None else {**own, "ArnLike": {"aws:SourceArn": known}}


def source_arn(graph: Graph, source: Value) -> Value | None:
    """The ARN of who acts, without a reference to what waits for this right; None where only the account is known."""
    node = graph[source.node] if isinstance(source, Ref) else None
    if isinstance(node, Bucket):
        return None if node.name is None else Joined(("arn:", PARTITION, ":s3:::", node.name))
    return source or None


def queries(metric: Metric | Expression) -> Iterator[tuple[str, str | Metric]]:
    """(id, formula or metric), the one whose values count first."""
    if isinstance(metric, Metric):
        yield "m", metric
        return
    yield "e", metric.formula
    yield from metric.metrics


def wake(graph: Graph, scaling: Scaling) -> Expression | None:
    """What is above 0 while there is work and nobody at it: the waking metric, as long as no task runs."""
    if scaling.wake is None:
        return None
    service = graph[scaling.service]
    assert isinstance(service, Service)
    where = (("ClusterName", Ref(service.cluster, "name")), ("ServiceName", Ref(service.id, "name")))
    running = Metric(namespace="ECS/ContainerInsights", name="RunningTaskCount", dimensions=where, statistic="Average")
    return Expression(
        formula="IF(FILL(tasks,0)<1,work,0)", metrics=(("tasks", running), ("work", scaling.wake)), label="work alone"
    )


def dashboard(node: Dashboard) -> dict[str, Any]:
    """The body of a dashboard: panels from left to right, in rows of 24 columns."""
    widgets, column, row = [], 0, 0
    for panel in node.panels:
        if column + panel.width > 24:
            column, row = 0, row + 6
        widgets.append({"x": column, "y": row, "width": panel.width, "height": 6} | _widget(panel))
        column += panel.width
    return {"widgets": widgets}


def _widget(panel: Panel) -> dict[str, Any]:
    if panel.text:
        return {"type": "text", "properties": {"markdown": panel.text}}
    plots: list[Any] = []
    for number, (label, line) in enumerate(panel.lines):
        plots += _plots(label, line, f"l{number}")
    properties: dict[str, Any] = {"title": panel.title, "view": "timeSeries", "region": REGION, "metrics": plots}
    if panel.limits:
        properties["annotations"] = {"horizontal": [{"label": label, "value": value} for label, value in panel.limits]}
    if panel.unit:
        properties["yAxis"] = {"left": {"label": panel.unit, "min": 0, "showUnits": False}}
    return {"type": "metric", "properties": properties}


def _plots(label: str, line: Metric | Expression, prefix: str) -> list[Any]:
    """Of one line. Ids of metric math are the dashboard's own: two lines may use the same names."""
    if isinstance(line, Metric):
        return [_plot(line, {"label": label})]
    own = {name: f"{prefix}{name}" for name, _ in line.metrics}
    first = {"expression": names_replaced(line.formula, own), "label": label, "id": f"{prefix}result"}
    return [[first], *(_plot(metric, {"id": own[name], "visible": False}) for name, metric in line.metrics)]


def _plot(metric: Metric, options: dict[str, Any]) -> list[Any]:
    where = [part for dimension in metric.dimensions for part in dimension]
    return [metric.namespace, metric.name, *where, {"stat": metric.statistic, "period": metric.period_s} | options]


def names_replaced(formula: str, names: Mapping[str, str]) -> str:
    """A formula of metric math with its names changed; functions are followed by `(` and stay."""
    return re.sub(r"\b[a-z][A-Za-z0-9_]*\b(?!\()", lambda match: names.get(match[0], match[0]), formula)


_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "x-amazon-apigateway-any-method")


def openapi(api: RestApi) -> dict[str, Any]:
    """The document that a REST API is made from: the paths and methods of the package's, with integration, key and authorization of
    each. API Gateway takes OpenAPI 3.0.1 and refuses 3.1, so schemas and examples stay in openapi.json."""
    uri = Joined(("arn:", PARTITION, ":apigateway:", REGION, ":lambda:path/2015-03-31/functions/", Ref(api.alias), "/invocations"))
    method: dict[str, Any] = {
        "responses": {"default": {"description": "what the package answers"}},
        "x-amazon-apigateway-integration": {
            "type": "aws_proxy",
            "httpMethod": "POST",
            "uri": uri,
            "passthroughBehavior": "when_no_match",
            "timeoutInMillis": api.timeout_ms,
        },
    }
    scheme: dict[str, Any] | None = None
    if api.auth == "key":
        scheme = {"type": "apiKey", "name": "x-api-key", "in": "header"}
    elif api.auth == "iam":
        scheme = {"type": "apiKey", "name": "Authorization", "in": "header", "x-amazon-apigateway-authtype": "awsSigv4"}
    method["security"] = [] if scheme is None else [{"caller": []}]
    open_ = {"options": {**method, "security": []}} if api.preflights else {}
    paths = api.document.get("paths") or {"/{proxy+}": {"x-amazon-apigateway-any-method": {}}}
    return {
        "openapi": "3.0.1",
        "info": {"title": api.name, "version": str(api.document.get("info", {}).get("version", "1"))},
        "paths": {path: {name: method for name in item if name in _METHODS} | open_ for path, item in paths.items()},
        **({"components": {"securitySchemes": {"caller": scheme}}} if scheme is not None else {}),
    }


def build_commands(build: Build) -> dict[str, Any]:
    """CodeBuild's own description of what to run."""
    return {"version": 0.2, "phases": {"build": {"commands": list(build.commands)}}}


def first_script(graph: Graph, provider: CapacityProvider) -> Value:
    """What a machine of a capacity provider runs first: it joins its cluster, and says goodbye when its Spot price is called in."""
    cluster = next((each for each in graph.of(Cluster) if provider.id in each.providers), None)
    if cluster is None:
        raise ValueError(f"no cluster names the capacity provider {provider.id}")
    settings = ("\nECS_ENABLE_SPOT_INSTANCE_DRAINING=true\nECS_ENABLE_GPU_SUPPORT=true\nECS_CONTAINER_STOP_TIMEOUT=120s\nEOF\n",)
    return Joined(("#!/bin/bash\ncat >>/etc/ecs/ecs.config <<EOF\nECS_CLUSTER=", Ref(cluster.id, "name"), *settings))


BINARY = ["application/octet-stream", "image/*"]
"""What a REST API passes on as bytes."""
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"


def headline(graph: Graph) -> str:
    """What a file says of itself."""
    return f"{graph.name} in {graph.environment}, written by mlpack deploy: change the recipe or overrides.yaml, not this file"


def access_log(method: str) -> str:
    """A line for each request, in the words of API Gateway."""
    fields = {"request": "requestId", "time": "requestTimeEpoch", "method": method, "path": "path", "status": "status"}
    fields |= {"latency_ms": "responseLatency", "integration": "integrationErrorMessage", "trace": "xrayTraceId"}
    return "{" + ",".join(f'"{key}":"$context.{value}"' for key, value in fields.items()) + "}"


def authorization(api: HttpApi) -> str:
    """What a route of an HTTP API asks of its callers."""
    if isinstance(api.auth, Jwt):
        return "JWT"
    if api.auth == "key":
        raise ValueError(f"{api.id}: an HTTP API knows no keys; a REST API does")
    return "AWS_IAM" if api.auth == "iam" else "NONE"


def identifier(name: str) -> str:
    """A name as part of a logical id: `free-tier` as `FreeTier`."""
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", name) if part)


BLOCKED = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
PLAIN_STATISTICS = ("Average", "Maximum", "Minimum", "SampleCount", "Sum")
COMPARISONS = {
    ">": "GreaterThanThreshold",
    ">=": "GreaterThanOrEqualToThreshold",
    "<": "LessThanThreshold",
    "<=": "LessThanOrEqualToThreshold",
}


def anomaly_scope(node: Anomaly) -> dict[str, Any]:
    """Costs that carry the service's tag."""
    return {"Tags": {"Key": "service", "Values": [node.service], "MatchOptions": ["EQUALS"]}}


def anomaly_size(node: Anomaly) -> dict[str, Any]:
    """From how many dollars a day an anomaly is told."""
    key = {"Key": "ANOMALY_TOTAL_IMPACT_ABSOLUTE", "MatchOptions": ["GREATER_THAN_OR_EQUAL"], "Values": [f"{node.from_usd:g}"]}
    return {"Dimensions": key}
