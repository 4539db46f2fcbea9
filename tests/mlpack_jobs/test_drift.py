"""The drift job over a log of predictions: its reference, its sample, its verdicts and its event."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.services.account import Around

from mlpack_jobs import drift

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 30, 12, 30, tzinfo=UTC)
SETTINGS = {"service": "fashion-prod", "log": "s3://work/log", "model": "fashion", "artifacts": "s3://work/kept", "drift": 0.2}


def log(around: Around, hours: float, requests: list[Any], version: str = "3") -> None:
    """An object of the log, so many hours old."""
    lines = [json.dumps({"schema": 1, "request": request, "answer": {}}) for request in requests]
    hour = NOW - timedelta(hours=hours)
    around.put(f"log/fashion/{version}/{hour:%Y/%m/%d/%H}/{len(requests)}-{version}.jsonl", "\n".join(lines))


def ages(mean: float, number: int, seed: int = 1) -> list[Any]:
    chance = random.Random(seed)
    return [{"age": chance.gauss(mean, 10), "plan": chance.choice(["basic", "pro"])} for _ in range(number)]


def run(around: Around) -> dict[str, Any]:
    return drift.run(SETTINGS, around.clients, NOW.timestamp())


def test_a_log_without_lines_is_unknown(around: Around) -> None:
    assert run(around)["why"] == "nothing was logged"


def test_a_version_that_few_asked_has_no_reference_yet(around: Around) -> None:
    log(around, 2, ages(40, 500))
    told = run(around)
    assert (told["verdict"], told["version"]) == ("unknown", "3")
    assert "500 logged requests" in told["why"]
    assert around.keys("kept/") == []


def test_the_first_requests_are_the_reference_from_then_on(around: Around) -> None:
    log(around, 100, ages(40, 2000))
    log(around, 2, ages(40, 1000, seed=2))
    first = run(around)
    assert first["verdict"] == "stable"
    assert {name: one["verdict"] for name, one in first["features"].items()} == {"age": "stable", "plan": "stable"}
    assert around.keys("kept/") == ["kept/drift/3/2026-11-30T12.json", "kept/drift/3/reference.json"]
    around.clients("s3").delete_object(Bucket="work", Key="log/fashion/3/2026/11/26/08/2000-3.jsonl")  # the log expires
    assert run(around) == first
    log(around, 1, ages(60, 3000, seed=3))
    told = run(around)
    assert told["verdict"] == "drift"
    assert told["features"]["age"]["verdict"] == "drift"
    assert told["features"]["plan"]["verdict"] == "stable"


def test_a_drift_is_an_event_that_the_rule_understands(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpack.deploy.graph.values import Id
    from mlpack.deploy.machines import triggers

    put: list[Any] = []
    events = around.clients("events")
    monkeypatch.setattr(events, "put_events", lambda Entries: put.extend(Entries) or {"FailedEntryCount": 0})  # noqa: N803
    log(around, 100, ages(40, 2000))
    log(around, 1, ages(90, 1000, seed=3))
    assert run(around)["verdict"] == "drift"
    (entry,) = put
    pattern = triggers.drift("Drift", "drift", "fashion-prod", Id("Machine"), Id("Role")).pattern
    assert [entry["Source"]] == pattern["source"]
    assert [entry["DetailType"]] == pattern["detail-type"]
    assert [json.loads(entry["Detail"])["service"]] == pattern["detail"]["service"]
    assert json.loads(entry["Detail"])["features"] == ["age"]


def test_a_feature_that_is_gone_drifts(around: Around) -> None:
    log(around, 100, ages(40, 2000))
    log(around, 1, [{"plan": "pro"}, {"plan": "basic"}] * 500)
    assert run(around)["features"]["age"]["verdict"] == "drift"


def test_lines_that_are_none_are_counted(around: Around) -> None:
    log(around, 100, ages(40, 2000))
    log(around, 1, ages(40, 1000, seed=2))
    around.put("log/fashion/3/2026/11/30/10/odd.jsonl", b'nope\n[1]\n{"left_out_bytes": 9}\n\xff\n' + b"[" * 5000 + b"\n")
    told = run(around)
    assert (told["verdict"], told["broken_lines"]) == ("stable", 3)


def test_the_version_that_answers_most_is_judged(around: Around) -> None:
    log(around, 1, ages(40, 10), "2")
    for hours in (1, 2, 3):
        log(around, hours, ages(40, 10), "10")
    assert run(around)["version"] == "10"


@pytest.mark.parametrize(
    ("request_", "features"),
    [
        ({"age": 4, "x": [1.5, 2]}, {"age": 4, "x[0]": 1.5, "x[1]": 2}),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]]}]}, {"x[0]": 1, "x[1]": 2}),
        ({"inputs": {"x": [[1]]}}, {"x": 1}),
        ({"texts": ["good", "bad"]}, {"text[0]": "good", "text[1]": "bad"}),
        ({"image": {"bytes": 812, "sha256": "ab"}}, {"image.bytes": 812}),
        ({"image": [[0] * 784]}, {}),
        ({"a": None, "b": {"c": 1}, "d": [], "e": [[]], "f": [{}]}, {"a": None}),
        ("text", {}),
        (None, {}),
        ({"inputs": [1]}, {"inputs": 1}),
    ],
)
def test_features_are_the_scalars_of_a_request(request_: Any, features: dict[str, Any]) -> None:
    assert drift.features_of(request_) == features
