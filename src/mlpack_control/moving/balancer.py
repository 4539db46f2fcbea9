"""Containers behind a load balancer: the weights of two target groups in a rule or a listener.

Promises: weights that are not those that this rollout wrote last are somebody else's, and are left alone.

Will not: compare and set, which the load balancer does not offer: between reading and writing there is a moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpack_control.failures import NotReady, Overtaken, Refused


class Balancer:
    """See `Mover`. `kind`: rule or listener; `old` and `new`: the ARNs of two target groups."""

    def __init__(self, client: Any, kind: str, arn: str, old: str, new: str) -> None:
        self._client = client
        self._kind = kind
        self._arn = arn
        self._old = old
        self._new = new

    def begin(self) -> tuple[str, str]:
        """See `Mover`."""
        weights = self._weights()
        if weights.get(self._new):
            raise Refused(f"{self._new} gets a part of the traffic already: another rollout is under way; end it first")
        return self._old, _text(weights)

    def publish(self, release: Mapping[str, Any]) -> str:
        """The new group, whose tasks the stack made."""
        return self._new

    def warm(self, new: str, provisioned: int) -> None:
        """See `Mover`."""
        health = self._client.describe_target_health(TargetGroupArn=new)["TargetHealthDescriptions"]
        if not any(each["TargetHealth"]["State"] in ("healthy", "unused") for each in health):
            raise NotReady(f"{new} has no healthy target yet")

    def shift(self, old: str, new: str, percent: int, revision: str) -> str:
        """See `Mover`."""
        return self._write({old: 100 - percent, new: percent}, revision)

    def finalise(self, old: str, new: str, revision: str) -> str:
        """See `Mover`."""
        return self._write({old: 0, new: 100}, revision)

    def roll_back(self, old: str, new: str | None, revision: str) -> str:
        """See `Mover`."""
        return self._write({old: 100, new or self._new: 0}, revision)

    def clear(self, *, anybody: bool = False) -> bool:
        """See `Mover`. Where the new group has all of it, it was finalised."""
        weights = self._weights()
        if not weights.get(self._new) or not weights.get(self._old):
            return False
        self._modify({self._old: 100, self._new: 0})
        return True

    def _write(self, weights: dict[str, int], revision: str) -> str:
        current = self._weights()
        if _text(current) not in (revision, _text(weights)):
            raise Overtaken(f"{self._arn}: somebody moved it meanwhile: its weights are {current}")
        self._modify(weights)
        return _text(weights)

    def _weights(self) -> dict[str, int]:
        if self._kind == "rule":
            actions = self._client.describe_rules(RuleArns=[self._arn])["Rules"][0]["Actions"]
        else:
            actions = self._client.describe_listeners(ListenerArns=[self._arn])["Listeners"][0]["DefaultActions"]
        forward: Mapping[str, Any] = next(
            (each["ForwardConfig"] for each in actions if "ForwardConfig" in each), {"TargetGroups": []}
        )
        return {each["TargetGroupArn"]: each.get("Weight", 1) for each in forward["TargetGroups"]}

    def _modify(self, weights: Mapping[str, int]) -> None:
        groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]
        actions = [{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}]
        if self._kind == "rule":
            self._client.modify_rule(RuleArn=self._arn, Actions=actions)
        else:
            self._client.modify_listener(ListenerArn=self._arn, DefaultActions=actions)


def _text(weights: Mapping[str, int]) -> str:
    """Weights as a revision; a group without a weight is as one that is not there."""
    return " ".join(f"{arn}={weight}" for arn, weight in sorted(weights.items()) if weight)
