"""Containers behind a load balancer: the weights of two target groups in a rule or a listener.

Promises: the group without traffic is the new one, so that two groups serve rollout after rollout; weights that are not those that
this rollout wrote last are somebody else's, and are left alone.

Will not: compare and set, which the load balancer does not offer: between reading and writing there is a moment. A tag of the new
group says whose rollout it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpack_control.failures import NotReady, Overtaken, Refused

TAG, NOBODY = "mlpack-rollout", "-"


class Balancer:
    """See `Mover`. `kind`: rule or listener; `pair`: the ARNs of two target groups."""

    def __init__(self, client: Any, kind: str, arn: str, pair: tuple[str, str], mark: str) -> None:
        self._client = client
        self._kind = kind
        self._arn = arn
        self._pair = pair
        self._mark = mark

    def begin(self) -> tuple[str, str]:
        """See `Mover`."""
        weights = self._weights()
        busy = [arn for arn in self._pair if weights.get(arn)]
        if len(busy) != 1:
            what = "both get traffic: another rollout is under way; end it with `mlpack rollout abort`" if busy else "get none"
            raise Refused(f"{self._arn}: {' and '.join(self._pair)} {what}")
        for arn, mark in ((busy[0], NOBODY), (self._other(busy[0]), self._mark)):
            self._client.add_tags(ResourceArns=[arn], Tags=[{"Key": TAG, "Value": mark}])
        return busy[0], _text(weights)

    def publish(self, release: Mapping[str, Any]) -> str:
        """The group without traffic, whose tasks have the new image by the stack."""
        new = self._new()
        if new is None:
            raise Overtaken(f"{' and '.join(self._pair)}: none has the tag of this rollout any more")
        return new

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
        return self._write({old: 100, new or self._other(old): 0}, revision)

    def clear(self, *, anybody: bool = False) -> bool:
        """See `Mover`. Where the new group has all of it, it was finalised."""
        new = self._new(anybody=anybody)
        weights = self._weights()
        if new is None or not weights.get(new) or not weights.get(self._other(new)):
            return False
        self._modify({self._other(new): 100, new: 0})
        return True

    def _write(self, weights: dict[str, int], revision: str) -> str:
        current = self._weights()
        if _text(current) not in (revision, _text(weights)):
            raise Overtaken(f"{self._arn}: somebody moved it meanwhile: its weights are {current}")
        self._modify(weights)
        return _text(weights)

    def _new(self, *, anybody: bool = False) -> str | None:
        """The group whose tag is this rollout's, or anybody's."""
        described = self._client.describe_tags(ResourceArns=list(self._pair))["TagDescriptions"]
        marks = {each["ResourceArn"]: tag["Value"] for each in described for tag in each["Tags"] if tag["Key"] == TAG}
        ours = [arn for arn, mark in marks.items() if (mark != NOBODY if anybody else mark == self._mark)]
        return ours[0] if len(ours) == 1 else None

    def _other(self, arn: str) -> str:
        return self._pair[1] if arn == self._pair[0] else self._pair[0]

    def _actions(self) -> list[dict[str, Any]]:
        if self._kind == "rule":
            return list(self._client.describe_rules(RuleArns=[self._arn])["Rules"][0]["Actions"])
        return list(self._client.describe_listeners(ListenerArns=[self._arn])["Listeners"][0]["DefaultActions"])

    def _weights(self) -> dict[str, int]:
        """By group. An action that names one group alone gives it everything."""
        for action in self._actions():
            if groups := action.get("ForwardConfig", {}).get("TargetGroups"):
                return {each["TargetGroupArn"]: each.get("Weight", 1) for each in groups}
            if action.get("TargetGroupArn"):
                return {action["TargetGroupArn"]: 100}
        return {}

    def _modify(self, weights: Mapping[str, int]) -> None:
        """Set the weights. What stands before them, such as a sign-in, stays."""
        before = [action for action in self._actions() if action["Type"] != "forward"]
        groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]
        forward = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
        actions = [*before, forward | ({"Order": len(before) + 1} if before else {})]
        if self._kind == "rule":
            self._client.modify_rule(RuleArn=self._arn, Actions=actions)
        else:
            self._client.modify_listener(ListenerArn=self._arn, DefaultActions=actions)


def _text(weights: Mapping[str, int]) -> str:
    """Weights as a revision; a group without a weight is as one that is not there."""
    return " ".join(f"{arn}={weight}" for arn, weight in sorted(weights.items()) if weight)
