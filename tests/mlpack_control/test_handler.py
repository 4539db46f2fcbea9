"""The controller that acts, on an alias that refuses what Lambda refuses."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.rollouts.alias_api import Alias, refusal
from tests.support.rollouts.metrics import Metrics, broken, healthy
from tests.support.rollouts.rollouts import ROLLOUT, Account, Memory, lead

from mlpack_control import Policy, replay
from mlpack_control.failures import NotReady, Overtaken, Refused


def test_weights_are_exactly_those_of_the_steps() -> None:
    account = Account()
    document = lead(account)
    seen = [(main, weights) for main, weights, _ in account.api.history]
    assert seen == [("7", {"8": 0.05}), ("7", {"8": 0.25}), ("7", {"8": 0.5}), ("8", {})]
    assert (document["state"]["phase"], account.trail.ends) == ("finalised", ["finalised"])
    assert account.api.calls.count("update_alias") == 4


def test_a_broken_release_is_rolled_back_in_one_call() -> None:
    account = Account(metrics=Metrics(broken))
    assert lead(account)["state"]["phase"] == "rolled_back"
    assert [(main, weights) for main, weights, _ in account.api.history] == [("7", {"8": 0.05}), ("7", {})]
    assert account.now < 300


def test_the_trail_replays_byte_for_byte() -> None:
    account = Account(metrics=Metrics(broken))
    lead(account)
    policy = Policy.of(ROLLOUT["policy"])
    assert isinstance(account.trail, Memory)
    assert all(each.same for each in replay(policy, account.trail.looks.values()))
    assert account.trail.looks[max(account.trail.looks)]["action"] == {"kind": "roll_back"}


@pytest.mark.parametrize("missing", ["Invocations", "Errors", "errors", "total"])
def test_a_source_that_counts_nothing_holds(missing: str) -> None:
    account = Account(metrics=Metrics(lambda metric, version: None if metric == missing else healthy(metric, version)))
    lead(account, {**ROLLOUT, "policy": {**ROLLOUT["policy"], "expire_s": 3000}})
    assert [weights for _, weights, _ in account.api.history] == [{"8": 0.05}, {}]


def test_both_versions_are_counted_in_the_same_minutes() -> None:
    account = Account()
    document = _until(account, "shift")
    account.now += 200
    document = account.send("decide", document)
    assert isinstance(account.trail, Memory)
    observed = account.trail.looks[document["looks"]]["observed"]
    assert observed["new"] == observed["old"]
    assert observed["new"]["errors"] == {"platform": [0, 3000], "package": [0, 3000]}
    assert observed["new"]["throttled"] == {"platform": [0, 3000]}
    dimensions = account.metrics.queries[0]["MetricStat"]["Metric"]["Dimensions"]
    assert [each["Name"] for each in dimensions] == ["FunctionName", "Resource", "ExecutedVersion"]


def test_an_alias_with_weights_is_somebodys() -> None:
    account = Account()
    account.api.versions["9"] = ("x", "role")
    account.api.alias = Alias("7", {"9": 0.1}, "by hand")
    with pytest.raises(Refused, match="version 9 gets a part of the traffic already \\(by hand\\)"):
        account.send("decide", {"rollout": ROLLOUT})
    assert lead(account)["state"]["phase"] == "rolled_back"
    assert account.api.history == []


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"code": "other"}, Refused, "apply the stack"),
        ({"code": "old-code"}, Refused, "apply the stack"),
        ({"state": {"$LATEST": ("Pending", "Successful")}}, NotReady, "starts"),
        ({"state": {"$LATEST": ("Active", "InProgress")}}, NotReady, "starts"),
        ({"state": {"$LATEST": ("Failed", "Successful")}}, Refused, "does not start"),
    ],
)
def test_only_the_releases_code_is_published(change: dict[str, Any], error: type[Exception], words: str) -> None:
    account = Account()
    document = account.send("decide", {"rollout": ROLLOUT})
    for key, value in change.items():
        setattr(account.api, key, value)
    with pytest.raises(error, match=words):
        account.send("publish", document)
    assert list(account.api.versions) == ["7"]


def test_an_image_is_published_by_its_digest() -> None:
    account = Account()
    release = {"digest": "sha256:abc"}
    document = account.send("decide", {"rollout": {**ROLLOUT, "release": release}})
    with pytest.raises(Refused, match="apply the stack"):
        account.send("publish", document)
    account.api.image = "host/name@sha256:abc"
    assert account.send("publish", document)["state"]["new"] == "8"


def test_a_version_that_has_all_traffic_is_not_rolled_out() -> None:
    account = Account()
    account.api.code = "old-code"
    document = account.send("decide", {"rollout": {**ROLLOUT, "release": {"sha256": "old-code"}}})
    with pytest.raises(Refused, match="all of the traffic, already"):
        account.send("publish", document)


def test_the_new_version_is_warm_first_and_cold_after() -> None:
    account = Account()
    account.api.provisioning = ["IN_PROGRESS", "READY"]
    account.api.provisioned = {"7": 2}
    rollout = {**ROLLOUT, "policy": {**ROLLOUT["policy"], "provisioned": 2}}
    lead(account, rollout)
    assert (account.api.provisioned, account.api.alias.main) == ({"8": 2}, "8")
    bad = Account(metrics=Metrics(broken))
    lead(bad, rollout)
    assert (bad.api.provisioned, bad.api.alias.main) == ({}, "7")
    failed = Account()
    failed.api.provisioning = ["FAILED"]
    assert (lead(failed, rollout)["state"]["phase"], failed.api.provisioned) == ("rolled_back", {})


def test_a_person_who_moves_the_alias_stops_the_controller() -> None:
    account = Account()
    document = _until(account, "shift")
    account.api.update_alias(FunctionName="fashion-prod", Name="live", FunctionVersion="8", RoutingConfig={}, Description="by hand")
    account.now += 400
    document = account.send("decide", document)
    for do in (document["action"]["kind"], "roll_back"):
        with pytest.raises(Overtaken, match="somebody moved it"):
            account.send(do, document)
    assert (account.api.alias.main, account.brake({"rollout": ROLLOUT})) == ("8", False)


def test_a_write_whose_answer_was_lost_is_recognised() -> None:
    account = Account()
    document = _until(account, "shift", act=False)
    again = account.send("shift", document)
    assert account.send("shift", document)["revision"] == again["revision"]
    assert len(account.api.history) == 1


def test_a_trail_that_cannot_be_written_stops_what_advances() -> None:
    class Broken(Memory):
        def record(self, look: int, evidence: Any) -> Any:
            raise OSError("no table")

        def finish(self, _phase: str, _why: str, _now: float) -> bool:
            raise OSError("no table")

    account = Account()
    document = _until(account, "shift")
    account.trail = Broken()
    account.now += 400
    with pytest.raises(NotReady, match="nothing advances"):
        account.send("decide", document)
    account.metrics.series = broken
    document = account.send("roll_back", account.send("decide", document))
    assert (document["state"]["phase"], document["registry"], account.api.alias.weights) == (
        "rolled_back",
        "not written: OSError",
        {},
    )


def test_an_event_that_the_decision_did_not_name_is_refused() -> None:
    account = Account()
    document = account.send("decide", {"rollout": ROLLOUT})
    for do in ("shift", "finalise", "dance", None):
        with pytest.raises(Refused):
            account.send(do, document)  # type: ignore[arg-type]
    for target in ({}, {"kind": "function"}, {"kind": "boat"}):
        with pytest.raises(Refused):
            account.send("decide", {"rollout": {**ROLLOUT, "target": target}})


def test_the_fake_refuses_what_lambda_refuses() -> None:
    api = Account().api
    api.versions |= {"8": ("b", "role"), "9": ("c", "role"), "10": ("d", "other")}
    where = {"FunctionName": "fashion-prod", "Name": "live"}
    for weights in ({"8": 1.5}, {"8": -0.1}, {"99": 0.1}, {"8": 0.1, "9": 0.1}, {"7": 0.1}, {"$LATEST": 0.1}, {"10": 0.1}):
        with pytest.raises(type(refusal("", ""))):
            api.update_alias(**where, RoutingConfig={"AdditionalVersionWeights": weights})
    first = api.update_alias(**where, RoutingConfig={"AdditionalVersionWeights": {"8": 0.1}}, RevisionId="r0")
    with pytest.raises(type(refusal("", "")), match="RevisionId"):
        api.update_alias(**where, FunctionVersion="8", RevisionId="r0")
    with pytest.raises(type(refusal("", "")), match="weights"):
        api.put_provisioned_concurrency_config(FunctionName="fashion-prod", Qualifier="live", ProvisionedConcurrentExecutions=1)
    assert api.update_alias(**where, Description="x", RevisionId=first["RevisionId"])["RoutingConfig"]


def _until(account: Account, kind: str, *, act: bool = True) -> dict[str, Any]:
    """A rollout up to the first decision of this kind, done if `act`."""
    document: dict[str, Any] = {"rollout": ROLLOUT}
    while True:
        document = account.send("decide", document)
        last = document["action"]["kind"] == kind
        if last and not act:
            return document
        document = account.send(document["action"]["kind"], document)
        if last:
            return document
