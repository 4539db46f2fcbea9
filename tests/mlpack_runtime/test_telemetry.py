from __future__ import annotations

import json
import os
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlpack_runtime.model import Model

MODEL = cast("Model", SimpleNamespace(name="m", version="3", variant="int8", target="lambda-zip"))
KEYS = [
    "timestamp",
    "level",
    "trace_id",
    "request_id",
    "model",
    "version",
    "variant",
    "target",
    "latency_ms",
    "stages_ms",
    "cold_start",
    "batch",
    "status",
]
W3C = "4bf92f3577b34da6a3ce929d0e0e4736"
XRAY = "1-5759e988-bd862e3fe1be46a994272793"


@pytest.fixture(autouse=True)
def environment_read_anew() -> Iterator[None]:
    """What a test sets is read by that test alone."""
    telemetry.reread()
    yield
    telemetry.reread()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"traceparent": f"00-{W3C}-00f067aa0ba902b7-01", "x-trace-id": "mine"}, W3C),
        ({"traceparent": f"00-{W3C.upper()}-00f067aa0ba902b7-01"}, W3C),
        ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01", "x-trace-id": "mine"}, "mine"),
        ({"traceparent": "nonsense", "x-amzn-trace-id": f"Self=1-2-3;Root={XRAY};Sampled=1"}, XRAY),
        ({"x-trace-id": "mine", "x-amzn-trace-id": f"Root={XRAY}"}, "mine"),
        ({"x-trace-id": "no spaces\r\nor lines", "x-amzn-trace-id": f" Root={XRAY}"}, XRAY),
    ],
)
def test_trace_id_is_taken_from_the_caller(headers: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-0-0")
    assert telemetry.trace_id(headers) == expected


def test_trace_id_falls_back_to_the_platform_then_to_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={XRAY};Parent=1;Sampled=0")
    assert telemetry.trace_id({}) == XRAY
    monkeypatch.delenv("_X_AMZN_TRACE_ID")
    made = {telemetry.trace_id({}) for _ in range(8)}
    assert len(made) == 8
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


@given(st.dictionaries(st.sampled_from(["traceparent", "x-trace-id", "x-amzn-trace-id"]), st.text(max_size=200)))
def test_trace_id_is_always_safe_to_log_and_send(headers: dict[str, str]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", telemetry.trace_id(headers))


def record(**changes: Any) -> telemetry.Record:
    made = telemetry.Record("t", "r", cold_start=True)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_line_has_keys_of_interface_and_a_metric_for_each_name() -> None:
    entry = json.loads(
        telemetry.line(record(latency_ms=12.34567, batch=4, stages_ms={"infer": 9.87654}), MODEL, now_ms=1_700_000_000_123)
    )
    assert list(entry)[: len(KEYS)] == KEYS
    assert entry["timestamp"] == "2023-11-14T22:13:20.123Z"
    assert (entry["latency_ms"], entry["stages_ms"], entry["cold_start"], entry["batch"]) == (12.346, {"infer": 9.877}, True, 4)
    described = entry["_aws"]
    assert described["Timestamp"] == 1_700_000_000_123
    (block,) = described["CloudWatchMetrics"]
    assert block["Namespace"] == "mlpack"
    for dimensions in block["Dimensions"]:
        assert all(isinstance(entry[name], str) for name in dimensions)
    for metric in block["Metrics"]:
        assert type(entry[metric["Name"]]) in (int, float)  # CloudWatch drops anything else without a word


def test_stages_are_metrics_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {"infer": 9.87654, "features": 1.0, "load_session": 12.0}
    told = record(stages_ms=stages, metrics={"features_missing": 2, "cache_hits": 1})
    for asked, names in (("", set()), ("1", {"stage_infer_ms", "stage_features_ms"})):
        monkeypatch.setenv(telemetry.STAGE_METRICS, asked)
        telemetry.reread()
        entry = json.loads(telemetry.line(told, MODEL))
        (block,) = entry["_aws"]["CloudWatchMetrics"]
        units = {metric["Name"]: metric["Unit"] for metric in block["Metrics"]}
        assert units.keys() - telemetry.METRICS.keys() == {"features_missing", "cache_hits"} | names
        assert {units[name] for name in names} <= {"Milliseconds"}
        assert all(type(entry[name]) in (int, float) for name in units)
    assert entry["stage_infer_ms"] == 9.877


def test_a_deployment_has_dimensions_and_counts_by_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(telemetry.SERVICE, "m-prod")
    monkeypatch.setenv(telemetry.SLOW_MS, "100")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "7")
    for latency_ms, slow in ((100.0, 0), (100.1, 1)):
        entry = json.loads(telemetry.line(record(latency_ms=latency_ms), MODEL))
        assert (entry["service"], entry["release"], entry["slow"]) == ("m-prod", "7", slow)
    every, counts = entry["_aws"]["CloudWatchMetrics"]
    assert every["Dimensions"] == [telemetry.SERVICE_DIMENSIONS]
    assert {metric["Name"] for metric in every["Metrics"]} == {*telemetry.METRICS, *telemetry.SLOW_METRICS}
    assert counts["Dimensions"] == [telemetry.RELEASE_DIMENSIONS]
    assert {metric["Name"] for metric in counts["Metrics"]} == set(telemetry.RELEASE_METRICS)
    assert all(type(entry[name]) is str for name in telemetry.RELEASE_DIMENSIONS)
    monkeypatch.setenv(telemetry.RELEASE, "blue")
    assert json.loads(telemetry.line(record(), MODEL))["release"] == "7"  # it is read once
    telemetry.reread()
    assert json.loads(telemetry.line(record(), MODEL))["release"] == "blue"
    monkeypatch.delenv(telemetry.RELEASE)
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_VERSION")
    telemetry.reread()
    assert json.loads(telemetry.line(record(), MODEL))["release"] == MODEL.version


def test_a_budget_that_is_no_number_costs_no_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(telemetry.SLOW_MS, "fast")
    lines = [json.loads(telemetry.line(record(latency_ms=1e9), MODEL)) for _ in range(3)]
    assert [entry["slow"] for entry in lines] == [0, 0, 0]
    assert capfd.readouterr().out.count(telemetry.SLOW_MS) == 1


@pytest.mark.parametrize(
    ("status", "level", "errors"), [(200, "INFO", 0), (400, "WARNING", 0), (422, "WARNING", 0), (500, "ERROR", 1)]
)
def test_line_level_and_errors_follow_the_status(status: int, level: str, errors: int) -> None:
    entry = json.loads(telemetry.line(record(status=status, detail={"error_type": "X"}), MODEL))
    assert (entry["level"], entry["errors"], entry["error_type"]) == (level, errors, "X")


def test_emit_writes_whole_lines_and_outlives_a_closed_stdout(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    saved = os.dup(1)
    try:
        os.dup2(writer, 1)
        os.close(writer)
        telemetry.emit("é" * 1000)
        os.close(reader_copy := os.dup(reader))
        assert reader_copy >= 0
        assert os.read(reader, 4096) == "é".encode() * 1000 + b"\n"
        os.close(reader)
        telemetry.emit("to nobody")
    finally:
        os.dup2(saved, 1)
        os.close(saved)
