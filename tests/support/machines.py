"""State machines for tests: one of each, with every name that the account would know filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpack.deploy.graph.values import Context, Joined, Parameter, Ref
from mlpack.deploy.machines import batch, retrain, rollout
from mlpack.deploy.machines.retrain import FargateTask, Parts, Project

ACCOUNT, REGION = "123456789012", "eu-central-1"
TRAIN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:train"
CONTROLLER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:control:live"
JOBS = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:jobs:live"
MODEL = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:model:live"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:news"
ROLLOUT = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:rollout"
BUCKET = "artifacts"
FARGATE = FargateTask(cluster="work", task="build:1", container="mlpack", subnets="subnet-1", security_group="sg-1")


def plain(value: Any) -> Any:
    """A definition as JSON, with something in the place of each value that is not known yet."""
    if isinstance(value, Joined):
        return "".join(plain(part) for part in value.parts)
    if isinstance(value, Ref):
        return f"{value.node}.{value.attribute}"
    if isinstance(value, Parameter | Context):
        return value.name
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value


def rollout_machine(**changes: Any) -> dict[str, Any]:
    """The rollout's."""
    return plain(rollout.definition(CONTROLLER, TOPIC, name="fashion-prod", **changes))


PROJECT = Project(name="build")


def retrain_machine(build: Project | FargateTask = PROJECT, train: str = TRAIN) -> dict[str, Any]:
    """The control plane's."""
    parts = Parts(jobs=JOBS, train=train, build=build, bucket=BUCKET, rollout=ROLLOUT, topic=TOPIC)
    return plain(retrain.definition(parts, name="fashion-prod"))


def cut(**changes: Any) -> batch.Items:
    """How a manifest is cut."""
    values = {"form": "jsonl", "batch": 500, "at_once": 10, "tolerate": 1, "seconds": 5.0, "bucket": BUCKET}
    return batch.Items(**values | changes)


def items_machine(**changes: Any) -> dict[str, Any]:
    """A batch's, whose map reads the manifest."""
    return plain(batch.items(MODEL, TOPIC, cut(**changes), name="fashion-prod", timeout_s=60))


def runners_machine(count: int = 4) -> dict[str, Any]:
    """A batch's, whose runners share the manifest."""
    return plain(batch.runners(MODEL, TOPIC, name="fashion-prod", count=count, timeout_s=900))
