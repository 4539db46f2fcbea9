"""A rollout led by the very controller, in the place of its state machine, on a clock that is turned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.rollouts.alias_api import AliasApi
from tests.support.rollouts.metrics import Metrics

from mlpack_control.brake import brake
from mlpack_control.failures import NotReady, Overtaken
from mlpack_control.handler import Controller
from mlpack_control.trail import Trail

RULES = {"errors": {"limit": 0.01, "margin": 0.005}}
ROLLOUT: dict[str, Any] = {
    "id": "fashion-prod-1",
    "target": {"kind": "function", "function": "fashion-prod", "alias": "live"},
    "release": {"name": "fashion", "version": 8, "sha256": "new-code"},
    "counting": {"service": "fashion-prod", "late_s": 0, "alarms": []},
    "policy": {"rules": RULES, "bake_s": 300, "look_s": 60},
}
NOT_READY_TRIES = 5


@dataclass
class Memory:
    """A trail in memory, which keeps what was there first. See `mlpack_control.trail.Trail`."""

    looks: dict[int, Any] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    answers: dict[int, str] = field(default_factory=dict)

    def record(self, look: int, evidence: Mapping[str, Any]) -> Any:
        return self.looks.setdefault(look, evidence)

    def finish(self, phase: str, _why: str, _now: float) -> bool:
        if not self.ends:
            self.ends.append(phase)
        return self.ends == [phase]

    def answer(self, step: int) -> str | None:
        return self.answers.get(step)


@dataclass
class Account:
    """An account: the alias, metrics, a trail, and the time."""

    api: AliasApi = field(default_factory=AliasApi)
    metrics: Metrics = field(default_factory=Metrics)
    trail: Trail = field(default_factory=Memory)
    now: float = 0.0

    def client(self, service: str) -> Any:
        return {"lambda": self.api, "cloudwatch": self.metrics}[service]

    def send(self, do: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """One event for the controller."""
        return Controller(self.client, lambda: self.now, self.trail).run({"do": do, "document": document})

    def brake(self, event: Mapping[str, Any]) -> bool:
        """One event for the brake."""
        return bool(brake(event, self.client, None)["cleared"])


def lead(account: Account, rollout: Mapping[str, Any] = ROLLOUT) -> dict[str, Any]:
    """The document at the end, after all that the state machine does: retries, a roll-back where an action fails, the brake."""
    document: dict[str, Any] = {"rollout": rollout}
    try:
        for _ in range(10_000):
            document = _tried(account, "decide", document)
            action = document["action"]
            if action["kind"] == "end":
                return document
            if action["kind"] in ("hold", "ask"):
                account.now += action["seconds"]
                continue
            document = _tried(account, action["kind"], document)
            if document["state"]["phase"] in ("finalised", "rolled_back"):
                return document
    except Overtaken:
        pass
    except Exception:  # noqa: BLE001 - as States.ALL
        try:
            return _tried(account, "roll_back", document)
        except Exception:  # noqa: BLE001
            pass
    account.brake(end_of(rollout))
    return document


def _tried(account: Account, do: str, document: Mapping[str, Any]) -> dict[str, Any]:
    for _ in range(NOT_READY_TRIES):
        try:
            return account.send(do, document)
        except NotReady:
            account.now += 10
    return account.send(do, document)


def end_of(rollout: Mapping[str, Any]) -> dict[str, Any]:
    """The event of a state machine that ended without success."""
    return {"detail-type": "Step Functions Execution Status Change", "detail": {"input": json.dumps({"rollout": rollout})}}
