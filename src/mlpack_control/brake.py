"""The brake: a Lambda that can do nothing but take traffic away from a version that is being rolled out.

Promises: it names no version, so nothing gets more traffic by it than the old version; it needs neither S3 nor a registry; an old
rollout's late event does nothing to a newer one.

It is started by the end of a state machine that did not succeed (the dead man's rule), by alarms, and by `mlpack rollout abort`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from mlpack_control.failures import Refused
from mlpack_control.moving import Clients, mover

TARGET = "MLPACK_ROLLOUT_TARGET"
"""A target as JSON: what an alarm is about."""


def handler(event: Mapping[str, Any], _context: object = None) -> dict[str, Any]:
    """Lambda's entry."""
    from mlpack_control.handler import aws

    return brake(event, aws, os.environ.get(TARGET))


def brake(event: Mapping[str, Any], clients: Clients, target: str | None) -> dict[str, Any]:
    """Clear what this event is about. `target`: of the environment. Refused for an event that says nothing of a rollout."""
    rollout = _rollout(event)
    if rollout is not None:
        cleared = mover(rollout.get("target") or {}, str(rollout.get("id", "")), clients).clear()
    elif target:
        cleared = mover(json.loads(target), "", clients).clear(anybody=True)
    else:
        raise Refused(f"the event has no rollout, and {TARGET} does not say which alias it is about")
    return {"cleared": cleared}


def _rollout(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The rollout of an abort, of a document, or of the input of a state machine that ended."""
    for value in (event, event.get("document"), _input(event)):
        if isinstance(value, Mapping) and isinstance(value.get("rollout"), Mapping):
            rollout: Mapping[str, Any] = value["rollout"]
            return rollout
    return None


def _input(event: Mapping[str, Any]) -> Any:
    """What the state machine was started with: EventBridge leaves it out where it is large."""
    detail = event.get("detail")
    try:
        return json.loads(detail["input"]) if isinstance(detail, Mapping) else None
    except (KeyError, TypeError, ValueError):
        return None
