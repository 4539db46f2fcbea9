"""The jobs as a Lambda function: an event of S3 or of a queue is for `features`, `{"job": ...}` names another.

Settings are one variable, `MLPACK_JOBS`, an object of JSON: `service`, `model`; `log`, `artifacts`, `data`: addresses in S3;
`hours` and `drift` of the drift job; `columns`, `key`, `table`, `ttl_days`, `tolerate`, `derive` of tables.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlpack_jobs.places import clients, place_of, read_json

SETTINGS = "MLPACK_JOBS"


def handler(event: Mapping[str, Any], _context: Any = None) -> Any:
    """The job's answer. Raises ValueError for an event that names none."""
    settings = json.loads(os.environ[SETTINGS])
    job = event.get("job") or ("features" if "Records" in event or "detail-type" in event else "")
    if job not in _JOBS:
        raise ValueError(f"the event names no job: {job!r} is none of {', '.join(_JOBS)}")
    return _JOBS[job](settings, event)


def _drift(settings: Mapping[str, Any], _: Mapping[str, Any]) -> Any:
    from mlpack_jobs import drift

    return drift.run(settings, clients, time.time())


def _features(settings: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
    from mlpack_jobs import features

    return features.run(settings, clients, event)


def _validate(settings: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
    from mlpack_jobs import validation

    return validation.run(settings, clients, event)


def _outcome(_: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
    """What a step of a retraining wrote. Raises FileNotFoundError."""
    place = place_of(event["place"]).below(f"{event['step']}.json")
    if (told := read_json(clients("s3"), place)) is None:
        raise FileNotFoundError(f"the step {event['step']} left nothing at s3://{place.bucket}/{place.key}: its log says why")
    return told


_JOBS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Any]] = {
    "drift": _drift,
    "features": _features,
    "outcome": _outcome,
    "validate": _validate,
}
