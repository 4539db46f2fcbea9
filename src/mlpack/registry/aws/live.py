"""What runs in an AWS account, so that garbage collection keeps it: the packages of Lambda functions and the images of ECS.

Promises:
- It reads every version of every function, every task definition of a service and every running task.
- An image that is named by a tag is returned with its tag, because nobody can say which digest the tag meant.

Will not: change anything, or look beyond one account and one region.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from mlpack.core.digest import Digest
from mlpack.registry import batches

ACTIONS = (
    *("ecs:DescribeServices", "ecs:DescribeTaskDefinition", "ecs:DescribeTasks", "ecs:ListClusters", "ecs:ListServices"),
    *("ecs:ListTasks", "lambda:GetFunction", "lambda:ListFunctions", "lambda:ListVersionsByFunction"),
)
"""The requests that are made, as policies name them."""

_DESCRIBED = 10
"""The most services in one request."""
_TASKS = 100


def live_in_aws(session: Any) -> dict[str, str]:
    """What is in use (a digest, `host/name@sha256:...` or `host/name:tag`) and by whom, for `collection.plan`.

    `session` is a boto3 session. It needs `ACTIONS` on every resource.
    """
    return dict((*_functions(session.client("lambda")), *_containers(session.client("ecs"))))


def _functions(client: Any) -> Iterator[tuple[str, str]]:
    """Every version of every function, since an alias of Lambda's own may point to any of them."""
    for function in _pages(client, "list_functions", "Functions"):
        name = function["FunctionName"]
        for version in _pages(client, "list_versions_by_function", "Versions", FunctionName=name):
            who = f"lambda {name}:{version['Version']}"
            if version.get("PackageType") == "Image":
                code = client.get_function(FunctionName=name, Qualifier=version["Version"])["Code"]
                yield code.get("ResolvedImageUri") or code["ImageUri"], who
            else:
                yield str(Digest(f"sha256:{base64.b64decode(version['CodeSha256']).hex()}")), who


def _containers(client: Any) -> Iterator[tuple[str, str]]:
    """The images that services would start and those that run, whoever started them."""
    definitions: dict[str, str] = {}
    for cluster in _pages(client, "list_clusters", "clusterArns"):
        for services in batches(_pages(client, "list_services", "serviceArns", cluster=cluster), _DESCRIBED):
            for service in client.describe_services(cluster=cluster, services=services)["services"]:
                deployed = (service, *service.get("deployments", ()), *service.get("taskSets", ()))
                definitions |= {each["taskDefinition"]: f"ecs {service['serviceName']}" for each in deployed}
        for tasks in batches(_pages(client, "list_tasks", "taskArns", cluster=cluster), _TASKS):
            for task in client.describe_tasks(cluster=cluster, tasks=tasks)["tasks"]:
                who = f"ecs {task['taskArn'].rpartition('/')[2]}"
                definitions.setdefault(task["taskDefinitionArn"], who)
                running = (one.get("imageDigest") or one.get("image") for one in task.get("containers", ()))
                yield from ((running_task, who) for running_task in running if running_task)
    for definition, who in definitions.items():
        described = client.describe_task_definition(taskDefinition=definition)["taskDefinition"]
        yield from ((one["image"], who) for one in described["containerDefinitions"])


def _pages(client: Any, operation: str, key: str, **name: str) -> Iterator[Any]:
    for page in client.get_paginator(operation).paginate(**name):
        yield from page[key]
