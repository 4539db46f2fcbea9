"""Fresh data, before anybody trains on them: whether there are any, whether they are others than last time, and a sample's form.

Promises: data are known by the keys, sizes and ETags of all their objects; what the last successful run was made of stands in
`retrain/data.json` beside the artifacts, and is written by `building` when the release is registered.
Will not: read more than `SAMPLE` objects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mlpack_jobs.places import Clients, Place, objects, place_of, read, read_json, write_json
from mlpack_jobs.rows import ObjectError, rows

SAMPLE = 10
LAST = "retrain/data.json"
_TOLD = 5


def run(settings: Mapping[str, Any], clients: Clients, event: Mapping[str, Any]) -> dict[str, Any]:
    """{"state": "good" | "nothing new" | "at work" | "bad", "place", "digest", "objects", "bytes", "problems"}.

    `event`: `reason` and `place` of an execution; ARNs of `machine` and `execution`, where an earlier one may be at work.
    """
    if event.get("machine") and _is_late(clients("stepfunctions"), event["machine"], event["execution"]):
        return {"state": "at work", "place": settings.get("data", "")}
    if not settings.get("data"):  # the training knows where they are
        return {"state": "good", "place": "", "problems": []}
    s3, data = clients("s3"), place_of(settings["data"])
    names, size = [], 0
    for one in objects(s3, data):
        names.append([one["Key"], one["Size"], one["ETag"]])
        size += one["Size"]
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()
    told: dict[str, Any] = {"place": settings["data"], "digest": digest, "objects": len(names), "bytes": size, "problems": []}
    if not size:
        return {**told, "state": "bad", "problems": ["there are no objects with anything in them"]}
    last = read_json(s3, place_of(settings["artifacts"]).below(LAST)) or {}
    if last.get("digest") == digest and event.get("reason") in ("schedule", "fresh data"):
        return {**told, "state": "nothing new"}
    told["problems"] = _problems(settings, s3, data.bucket, [name for name, size, _ in names if size])
    told["state"] = "bad" if told["problems"] else "good"
    if event.get("place"):
        write_json(s3, place_of(event["place"]).below("data.json"), told)
    return told


def _is_late(states: Any, machine: str, execution: str) -> bool:
    """Whether another execution of the machine began before this one and runs."""
    running = states.list_executions(stateMachineArn=machine, statusFilter="RUNNING")["executions"]
    mine = [one["startDate"] for one in running if one["executionArn"] == execution]
    return any((one["startDate"], one["executionArn"]) < (began, execution) for one in running for began in mine)


def _problems(settings: Mapping[str, Any], s3: Any, bucket: str, keys: list[str]) -> list[str]:
    """What is wrong with a sample, where there is a schema: the newest by name, and others evenly."""
    columns = settings.get("columns")
    if not columns:
        return []
    problems = []
    for key in [*keys[:: max(1, -(-len(keys) // (SAMPLE - 1)))], keys[-1]]:
        try:
            told = list(rows(key, read(s3, Place(bucket, key)), columns))
        except ObjectError as error:
            problems.append(f"{key}: {error}")
            continue
        wrong = [row for row in told if row.problem]
        if not told:
            problems.append(f"{key}: has no rows")
        elif len(wrong) > settings.get("tolerate", 0.01) * len(told):
            problems.append(f"{key}: {len(wrong)} of {len(told)} rows are wrong: row {wrong[0].number} {wrong[0].problem}")
    return list(dict.fromkeys(problems))[:_TOLD]
