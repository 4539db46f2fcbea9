"""The brake, which can do nothing but take traffic away."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.rollouts.alias_api import Alias, AliasApi
from tests.support.rollouts.rollouts import ROLLOUT, Account, end_of

from mlpack_control.brake import brake
from mlpack_control.failures import NotReady, Refused

TARGET = json.dumps(ROLLOUT["target"])
ALARM = {"detail-type": "CloudWatch Alarm State Change", "detail": {"alarmName": "fashion-prod", "state": {"value": "ALARM"}}}


def moving(mark: str = "mlpack rollout fashion-prod-1") -> AliasApi:
    """An alias in the middle of a rollout."""
    return AliasApi(alias=Alias("7", {"8": 0.25}, mark), versions={"7": ("a", "role"), "8": ("b", "role")})


@pytest.mark.parametrize(
    "event", [{"rollout": ROLLOUT}, {"document": {"rollout": ROLLOUT}}, end_of(ROLLOUT), ALARM, {}, {"detail": 1}]
)
def test_weights_are_cleared_in_one_write(event: dict[str, Any]) -> None:
    api = moving()
    assert brake(event, lambda _: api, TARGET) == {"cleared": True}
    assert (api.history, api.calls) == ([("7", {}, "r0")], ["get_alias", "update_alias"])
    assert brake(event, lambda _: api, TARGET) == {"cleared": False}


def test_a_late_event_leaves_another_rollout_alone() -> None:
    api = moving("mlpack rollout fashion-prod-2")
    assert brake(end_of(ROLLOUT), lambda _: api, TARGET) == {"cleared": False}
    by_hand = moving("by hand")
    assert brake(ALARM, lambda _: by_hand, TARGET) == {"cleared": False}
    assert (api.history, by_hand.history) == ([], [])


def test_an_alarm_clears_whichever_rollout_there_is() -> None:
    api = moving("mlpack rollout fashion-prod-2")
    assert brake(ALARM, lambda _: api, TARGET) == {"cleared": True}


def test_a_controller_that_finalises_meanwhile_has_won() -> None:
    api = moving()

    def finalise(call: str) -> None:
        if call == "update_alias":
            api.before = lambda _: None
            api.update_alias(FunctionName="fashion-prod", Name="live", FunctionVersion="8", RoutingConfig={}, RevisionId="r0")

    api.before = finalise
    assert brake({"rollout": ROLLOUT}, lambda _: api, None) == {"cleared": False}
    assert (api.alias.main, api.alias.weights) == ("8", {})


def test_somebody_who_moves_it_for_ever_is_not_waited_for() -> None:
    api = moving()
    busy = False

    def move(call: str) -> None:
        nonlocal busy
        if call == "update_alias" and not busy:
            busy = True
            api.update_alias(FunctionName="fashion-prod", Name="live")
            busy = False

    api.before = move
    with pytest.raises(NotReady):
        brake({"rollout": ROLLOUT}, lambda _: api, None)


def test_an_event_about_nothing_is_refused() -> None:
    with pytest.raises(Refused, match="MLPACK_ROLLOUT_TARGET"):
        brake(ALARM, lambda _: moving(), None)


def test_the_brake_needs_no_registry() -> None:
    account = Account(api=moving(), trail=None)  # type: ignore[arg-type]
    assert account.brake({"rollout": {**ROLLOUT, "registry": {"table": "gone"}}})
