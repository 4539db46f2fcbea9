"""How a state machine starts a training job of whatever kind an ARN names, and waits for its end. Pure.

Promises: the job gets where the data lie and where its model goes; a kind that Step Functions cannot wait for is refused by name.
Will not: know what the job does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlpack.deploy.machines.asl import State, again
from mlpack.errors import RecipeError

_ARN = re.compile(r"arn:aws[a-z-]*:(?P<service>[a-z0-9-]+):[a-z0-9-]*:\d{0,12}:(?P<rest>.+)")
_INPUT = {"data.$": "$.data.place", "model.$": "$.place"}
_NAMES = [{"Name": "MLPACK_DATA", "Value.$": "$.data.place"}, {"Name": "MLPACK_MODEL", "Value.$": "$.place"}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`resource` of the task, the `parameters` from an ARN, and the errors that are worth another try."""

    resource: str
    parameters: Callable[[str], dict[str, Any]]
    retries: tuple[str, ...]
    actions: tuple[str, ...]
    """What the machine's role has to be granted."""


KINDS = {
    ("states", "stateMachine:"): Kind(
        resource="arn:aws:states:::states:startExecution.sync:2",
        parameters=lambda arn: {
            "StateMachineArn": arn,
            "Input": {**_INPUT, "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID.$": "$$.Execution.Id"},
        },
        retries=("StepFunctions.ExecutionLimitExceededException",),
        actions=("states:StartExecution", "states:DescribeExecution", "states:StopExecution"),
    ),
    ("lambda", "function:"): Kind(
        resource="arn:aws:states:::lambda:invoke",
        parameters=lambda arn: {"FunctionName": arn, "Payload": _INPUT},
        retries=("Lambda.TooManyRequestsException", "Lambda.ServiceException", "Lambda.AWSLambdaException"),
        actions=("lambda:InvokeFunction",),
    ),
    ("codebuild", "project/"): Kind(
        resource="arn:aws:states:::codebuild:startBuild.sync",
        parameters=lambda arn: {"ProjectName": arn.rpartition("/")[2], "EnvironmentVariablesOverride": _NAMES},
        retries=("CodeBuild.AccountLimitExceededException",),
        actions=("codebuild:StartBuild", "codebuild:StopBuild", "codebuild:BatchGetBuilds"),
    ),
    ("batch", "job-definition/"): Kind(
        resource="arn:aws:states:::batch:submitJob.sync",
        parameters=lambda arn: {
            "JobDefinition": arn,
            "JobName.$": "$$.Execution.Name",
            "JobQueue.$": "$.queue",
            "ContainerOverrides": {"Environment": _NAMES},
        },
        retries=("Batch.ServerException", "Batch.TooManyRequestsException"),
        actions=("batch:SubmitJob", "batch:DescribeJobs", "batch:TerminateJob"),
    ),
}
"""By the ARN's service and the begin of its resource."""


def kind_of(arn: str) -> Kind:
    """The kind of job that an ARN names. Raises RecipeError."""
    match = _ARN.fullmatch(arn)
    if match is None:
        raise RecipeError(
            f"deploy.retrain.train: {arn[:200]!r} is no ARN of AWS: arn:aws:service:region:account:resource is needed"
        )
    for (service, begin), kind in KINDS.items():
        if match["service"] == service and match["rest"].startswith(begin):
            return kind
    known = ", ".join(f"{service}:...:{begin}" for service, begin in KINDS)
    raise RecipeError(
        f"deploy.retrain.train: {arn[:200]!r} is nothing that a state machine can start and wait for; it can for {known}. Put a"
        " state machine of your own around the job, and name that"
    )


def train(arn: str, *, timeout_s: int, **more: Any) -> State:
    """The task; its result is kept as `$.training`. Raises RecipeError."""
    kind = kind_of(arn)
    return {
        "Type": "Task",
        "Resource": kind.resource,
        "Parameters": kind.parameters(arn),
        "ResultSelector": {"done": True},
        "ResultPath": "$.training",
        "TimeoutSeconds": timeout_s,
        "Retry": [
            again(kind.retries, every_s=30, attempts=8, most_s=900),
            # what ran for hours and failed by itself is not run again: its log says why
        ],
        **more,
    }
