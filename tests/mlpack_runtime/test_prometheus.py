"""What Prometheus reads, by its own parser's rules in small; `tests_slow/test_container_http.py` asks the real one."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlpack_runtime import telemetry
from mlpack_runtime.serving.prometheus import OPEN, PLAIN, SECONDS, Gauge, Metrics
from mlpack_runtime.telemetry import Record

MODEL = cast("Any", SimpleNamespace(name='a"b\\c\nd', version="1", variant="int8", target="container"))
SAMPLE = re.compile(r'[a-z_]+(\{([a-z]+="(\\.|[^"\\\n])*",?)+\})? -?[0-9.e+-]+(inf)?')


def record(status: int = 200, **metrics: float) -> Record:
    made = Record("t", "r", cold_start=status == 503)
    made.status, made.asked, made.batch, made.latency_ms = status, True, 3, 2.4
    made.stages_ms = {"infer": 1.0, "load_session": 12.0}
    made.metrics.update(metrics)
    return made


def samples(document: bytes) -> dict[str, float]:
    """Values by name and labels, without the labels of the model."""
    found = {}
    for line in document.decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            short = re.sub(r'(model|version|variant|target)="(\\.|[^"\\])*",?', "", name).replace("{}", "").replace(",}", "}")
            found[short] = float(value)
    return found


@pytest.mark.parametrize(("accepted", "kind"), [("", PLAIN), ("text/plain", PLAIN), ("application/openmetrics-text; q=0.5", OPEN)])
def test_both_forms_are_lines_of_samples_under_their_types(accepted: str, kind: str) -> None:
    metrics = Metrics()
    metrics.observe(record(batch_fill=50.0))
    told, document = metrics.text(MODEL, [Gauge("mlpack_ready", 1.0, "x")], accepted)
    lines = document.decode().splitlines()
    assert told == kind
    assert (lines[-1] == "# EOF") == (kind == OPEN)
    assert document.endswith(b"\n")
    assert all(line.startswith("# ") or SAMPLE.fullmatch(line) for line in lines), document.decode()
    heads = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    assert ("mlpack_errors_total" in heads) == (kind == PLAIN)


def test_every_metric_of_the_log_lines_is_there_in_base_units() -> None:
    metrics = Metrics()
    metrics.observe(record(queue_age_ms=1500.0, batch_fill=62.5, retries=2))
    metrics.observe(record(503))
    metrics.refuse(429)
    found = samples(metrics.text(MODEL, [])[1])
    names = {re.sub(r"_(bucket|count|sum|total)?(\{.*)?$", "", name) for name in found}
    for key in telemetry.METRICS | telemetry.WORKER_METRICS:
        assert any(name.startswith(f"mlpack_{key.removesuffix('_ms')}") for name in names), key
    assert found["mlpack_latency_seconds_count"] == 2
    assert found["mlpack_latency_seconds_sum"] == pytest.approx(0.0048)
    assert found["mlpack_queue_age_seconds_sum"] == 1.5
    assert found["mlpack_batch_fill_ratio_sum"] == 0.625
    assert found["mlpack_retries_total"] == 2
    assert (found["mlpack_errors_total"], found["mlpack_cold_starts_total"]) == (1, 1)
    assert found['mlpack_requests_total{status="503"}'] == 1
    assert found['mlpack_refusals_total{status="429"}'] == 1
    assert found['mlpack_stage_seconds_sum{stage="infer"}'] == pytest.approx(0.002)
    assert 'mlpack_stage_seconds_sum{stage="load_session"}' not in found
    assert found["process_cpu_seconds_total"] > 0


@pytest.mark.parametrize("accepted", ["", "application/openmetrics-text"])
def test_features_a_cache_and_a_log_are_counted_where_they_are(accepted: str) -> None:
    metrics = Metrics()
    before = metrics.text(MODEL, [], accepted)[1]
    assert not any(f"mlpack_{key}".encode() in before for key in telemetry.AROUND_METRICS)
    for _ in range(2):
        metrics.observe(record(**dict.fromkeys(telemetry.AROUND_METRICS, 3)))
    found = samples(metrics.text(MODEL, [], accepted)[1])
    assert {key: found[f"mlpack_{key}_total"] for key in telemetry.AROUND_METRICS} == dict.fromkeys(telemetry.AROUND_METRICS, 6)


@pytest.mark.parametrize("latency_ms", [0.0, 0.5, 0.500001, 30_000.0, 1e9])
def test_buckets_grow_to_the_count(latency_ms: float) -> None:
    metrics, one = Metrics(), record()
    one.latency_ms = latency_ms
    metrics.observe(one)
    found = samples(metrics.text(None, [])[1])
    rows = [found[f'mlpack_latency_seconds_bucket{{le="{bound}"}}'] for bound in SECONDS]
    assert rows == [float(latency_ms / 1000 <= bound) for bound in SECONDS]
    assert found['mlpack_latency_seconds_bucket{le="+Inf"}'] == found["mlpack_latency_seconds_count"] == 1


@pytest.mark.parametrize("accepted", ["", "application/openmetrics-text"])
def test_several_models_have_a_family_in_common(accepted: str) -> None:
    """Each family has one head, whichever models have samples in it, and each sample is of its model."""
    metrics = Metrics()
    models = [cast("Any", SimpleNamespace(name=name, version="1", variant="fp32", target="container")) for name in ("one", "two")]
    metrics.of(models[0])(record())
    metrics.of(models[1])(record(503))
    metrics.of(models[1])(record(cache_hits=1))  # a family that the other model does not have
    metrics.refuse(429)
    text = metrics.text(models[0], [Gauge("mlpack_ready", 1.0, "x")], accepted)[1].decode()
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    counts = dict(re.findall(r'mlpack_latency_seconds_count\{model="(\w+)"[^}]*\} (\d+)', text))
    assert counts == {"one": "1", "two": "2"}
    assert re.findall(r'mlpack_cache_hits_total\{model="(\w+)"[^}]*\} (\d+)', text) == [("two", "1")]
    statuses = re.findall(r'mlpack_requests_total\{model="(\w+)"[^}]*status="(\d+)"\} (\d+)', text)
    assert sorted(statuses) == [("one", "200", "1"), ("two", "200", "1"), ("two", "503", "1")]
    assert len(re.findall(r'mlpack_refusals_total\{[^}]*status="429"\} 1', text)) == 1
    # The samples of a family stand together, under its head.
    families = [line.split()[2] if line.startswith("# TYPE") else line.partition("{")[0] for line in text.splitlines()]
    place = families.index("mlpack_latency_seconds")
    assert "mlpack_latency_seconds_count" in families[place : place + 50]
