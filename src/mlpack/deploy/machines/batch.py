"""The machine of a scheduled batch, in two forms, and which of them a child execution should be. Pure.

    items     a distributed map reads the manifest itself, hands batches of its items to the function, and writes the answers
    runners   so many runners share the manifest by claims of its parts, and call again until it is done

Input: {"manifest": "s3://bucket/key", "bucket": "bucket", "key": "key"}; `items` reads the last two, `runners` the first, as an
order for a batch (docs/how-to/answer-a-manifest.md).

Promises: `items` ends as failed once more than the tolerated share of items was lost, and keeps the answers that there are;
`runners` answers each item once, whoever dies. Will not: read Parquet or gzip by `items`; the package does, by `runners`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mlpack.deploy.graph.values import Value
from mlpack.deploy.machines.asl import again, caught, failure, invoke, notify

EXPRESS_S = 300
"""AWS: an Express execution's longest time."""
_TRANSITION_USD = 0.025 / 1000
_EXPRESS_USD, _EXPRESS_GBS_USD, _EXPRESS_GB = 1e-6, 0.00001667, 64 / 1024
_STANDARD_TRANSITIONS = 2
"""A child's start and its one task."""
RUNNERS = 40
_LONGEST_S = 24 * 3600

Children = Literal["STANDARD", "EXPRESS"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """How `items` cuts a manifest. `tolerate`: percent of items; `bucket`: of the results, same account and region."""

    form: Literal["jsonl", "csv"]
    batch: int
    at_once: int
    tolerate: int
    seconds: float
    """That a function takes for a batch: from the measured time of an item."""
    bucket: Value
    prefix: str = "batch"
    columns: tuple[tuple[str, str | tuple[str, ...]], ...] = ()


def children(seconds: float) -> Children:
    """Of the two kinds the cheaper one in which a batch of items has time to be tried three times."""
    express = _EXPRESS_USD + _EXPRESS_GB * seconds * _EXPRESS_GBS_USD
    return "EXPRESS" if seconds * 3 < EXPRESS_S and express <= _STANDARD_TRANSITIONS * _TRANSITION_USD else "STANDARD"


def map_usd(items: int, cut: Items) -> float:
    """What Step Functions takes for a map over so many items."""
    batches = -(-items // cut.batch)
    if children(cut.seconds) == "STANDARD":
        return batches * (1 + _STANDARD_TRANSITIONS) * _TRANSITION_USD
    return batches * (_TRANSITION_USD + _EXPRESS_USD + _EXPRESS_GB * cut.seconds * _EXPRESS_GBS_USD)


def items(function: Value, topic: Value, cut: Items, *, name: str, timeout_s: int) -> dict[str, Any]:
    """`function`: the ARN of its alias, with a time-out of `timeout_s`."""
    task = invoke(function, {"Payload.$": "$"}, timeout_s=timeout_s + 5, End=True)
    task["Retry"].append(again(("States.TaskFailed",), every_s=5, attempts=2))
    reader = {"InputType": "JSONL"} if cut.form == "jsonl" else {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"}
    told = {"BatchInput": {"columns": {key: _column(value) for key, value in cut.columns}}} if cut.columns else {}
    over = {
        "Type": "Map",
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:getObject",
            "ReaderConfig": reader,
            "Parameters": {"Bucket.$": "$.bucket", "Key.$": "$.key"},
        },
        "ItemBatcher": {"MaxItemsPerBatch": cut.batch, "MaxInputBytesPerBatch": 262_144, **told},
        "MaxConcurrency": cut.at_once,
        "ToleratedFailurePercentage": cut.tolerate,
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": children(cut.seconds)},
            "StartAt": "Answer",
            "States": {"Answer": task},
        },
        "ResultWriter": {
            "Resource": "arn:aws:states:::s3:putObject",
            "Parameters": {"Bucket": cut.bucket, "Prefix": cut.prefix},
        },
        "ResultPath": "$.results",
    }
    return _around("Answer all", over, topic, name)


def runners(function: Value, topic: Value, *, name: str, count: int, timeout_s: int) -> dict[str, Any]:
    """`count` runners at once, at most `RUNNERS`."""
    answer = invoke(function, {"Payload.$": "$.order"}, timeout_s=timeout_s + 5, OutputPath="$", Next="Done?")
    answer["ResultSelector"] = {"order.$": "$.Payload"}
    answer["Retry"].append(again(("States.ALL",), every_s=30, attempts=5))
    over = {
        "Type": "Map",
        "ItemsPath": "$.runners",
        "ItemSelector": {"order": {"batch": {"manifest.$": "$.manifest"}}},
        "MaxConcurrency": min(count, RUNNERS),
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "Answer",
            "States": {
                "Answer": answer,
                "Done?": {
                    "Type": "Choice",
                    "Choices": [{"Variable": "$.order.done", "BooleanEquals": False, "Next": "Pause"}],
                    "Default": "Whole",
                },
                "Pause": {"Type": "Wait", "Seconds": 5, "Next": "Answer"},
                "Whole": {"Type": "Succeed", "OutputPath": "$.order.batch"},
            },
        },
        # one runner that ends well has waited for all parts: the others' failures cost time, not results
        "ToleratedFailureCount": min(count, RUNNERS) - 1,
        "ResultPath": "$.results",
    }
    machine = _around("Share the manifest", over, topic, name)
    machine["StartAt"] = "Runners"
    machine["States"]["Runners"] = {
        "Type": "Pass",
        "Parameters": {"manifest.$": "$.manifest", "runners.$": f"States.ArrayRange(1, {min(count, RUNNERS)}, 1)"},
        "Next": "Share the manifest",
    }
    return machine


def _around(first: str, over: dict[str, Any], topic: Value, name: str) -> dict[str, Any]:
    """A map with its ends."""
    return {
        "Comment": f"batch of {name}: generated by mlpack, edit overrides.yaml in its place",
        "StartAt": first,
        "TimeoutSeconds": _LONGEST_S,
        "States": {
            first: {**over, "Catch": [caught("Tell of the failure")], "Next": "Answered"},
            "Answered": {"Type": "Succeed"},
            "Tell of the failure": notify(topic, f"{name}: the batch failed", "Failed"),
            "Failed": failure("BatchFailed", "the map's error is in its message; what was answered is in the results"),
        },
    }


def _column(value: str | tuple[str, ...]) -> str | list[str]:
    return value if isinstance(value, str) else list(value)
