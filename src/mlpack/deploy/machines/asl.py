"""The words that all machines are written in: tasks with a time-out, tries again by kind of error, and messages to people. Pure.

Promises: every task has `TimeoutSeconds` and says what is tried again; a notification that fails stops nothing.
Will not: catch by service-specific names: what fails for good is caught whole, and its name looked into by patterns
(`Lambda.X` on AWS, `lambda.X` in emulators).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from mlpack.deploy.graph.values import Value

State: TypeAlias = dict[str, Any]

UNKNOWN_TO_STATELINT = ('"InputType" not allowed', '"CSVHeaderLocation" not allowed')
"""Parts of statelint 3.1.0's findings that are no fault: the States Language has these keys of a `ReaderConfig`."""
LAMBDA = "arn:aws:states:::lambda:invoke"

_BUSY = ("Lambda.TooManyRequestsException",)
_SERVICE = ("Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException", "Lambda.Unknown")


def again(errors: Iterable[str], *, every_s: int, attempts: int, most_s: int = 120) -> dict[str, Any]:
    """One rule of `Retry`: pauses that double up to `most_s`, with jitter."""
    return {
        "ErrorEquals": list(errors),
        "IntervalSeconds": every_s,
        "MaxAttempts": attempts,
        "BackoffRate": 2.0,
        "MaxDelaySeconds": most_s,
        "JitterStrategy": "FULL",
    }


def lambda_retries(*more: dict[str, Any]) -> list[dict[str, Any]]:
    """For a function: a service that fails is back in seconds, one that is busy takes longer, a time-out is tried once more."""
    return [
        again(_BUSY, every_s=5, attempts=8),
        again(_SERVICE, every_s=2, attempts=6, most_s=60),
        again(("States.Timeout",), every_s=1, attempts=1),
        *more,
    ]


def caught(to: str, path: str = "$.error", errors: Iterable[str] = ("States.ALL",)) -> dict[str, Any]:
    """One rule of `Catch`: the error is kept beside the state's input."""
    return {"ErrorEquals": list(errors), "ResultPath": path, "Next": to}


def invoke(function: Value, payload: Mapping[str, Any], *, timeout_s: int, **more: Any) -> State:
    """A function's answer, which takes the place of the state's input unless `more` says otherwise (`ResultPath`)."""
    path = {} if "ResultPath" in more or "OutputPath" in more else {"OutputPath": "$.answer"}
    return {
        "Type": "Task",
        "Resource": LAMBDA,
        "Parameters": {"FunctionName": function, **payload},
        "ResultSelector": {"answer.$": "$.Payload"},
        "TimeoutSeconds": timeout_s,
        "Retry": lambda_retries(),
        **path,
        **more,
    }


def notify(topic: Value, subject: str, then: str) -> State:
    """Tell people what the state's input is, and go on whatever becomes of that. SNS takes 100 characters of a subject."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::sns:publish",
        "Parameters": {"TopicArn": topic, "Subject": subject[:100], "Message.$": "States.JsonToString($)"},
        "ResultPath": None,
        "TimeoutSeconds": 30,
        "Retry": [again(("States.ALL",), every_s=2, attempts=3, most_s=20)],
        "Catch": [caught(then, "$.notification")],
        "Next": then,
    }


def failure(error: str, cause: str) -> State:
    """An end that counts as a failure."""
    return {"Type": "Fail", "Error": error, "Cause": cause}
