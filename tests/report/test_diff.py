"""Two builds compared."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from tests.support.outcomes import MACHINE, MADE_OF, accuracy, artifact, estimate, measurement, on_gpu, outcome, result, typical

from mlpack.core.records import Budgets, Result
from mlpack.report import diff
from mlpack.report.diff import Change, MeasureChange
from mlpack.report.record import BaselineRecord, BuildRecord, TargetBaselineRecord
from mlpack.report.recording import build_record

INT8 = "int8@lambda-zip-x86_64"


def build(*results: Result, **other: Any) -> BuildRecord:
    return build_record(outcome(results, Budgets(), **other))


def row(before: BuildRecord, after: BuildRecord, measure: str, candidate: str = INT8) -> MeasureChange:
    return next(r for r in diff.compare(before, after) if (r.candidate, r.measure) == (candidate, measure))


def test_a_build_does_not_differ_from_itself() -> None:
    record = build_record(typical())
    assert {r.change for r in diff.compare(record, record)} <= {Change.SAME, Change.UNKNOWN}
    assert diff.text(diff.compare(record, record)).endswith("unchanged within noise, or not known")


def test_size_is_exact() -> None:
    before, after = build(result("int8")), build(result("int8", artifact=artifact(40_000_001)))
    found = row(before, after, "package.size_bytes")
    assert (found.before, found.after, found.change) == (40_000_000, 40_000_001, Change.WORSE)
    assert row(after, before, "package.size_bytes").change is Change.BETTER
    assert "package.size_bytes: 40.000000 MB → 40.000001 MB  worse  (+" in diff.text(diff.compare(before, after))


def test_latency_within_noise_is_the_same_and_beyond_it_is_not() -> None:
    before = build(result("int8", measurement=measurement(10.0)))
    near = build(result("int8", measurement=measurement(10.02)))
    far = build(result("int8", measurement=measurement(12.0)))
    assert row(before, near, "latency_ms.p50").change is Change.SAME
    found = row(before, far, "latency_ms.p50")
    assert found.change is Change.WORSE
    assert found.low is not None
    assert found.high is not None
    assert 0.18 < found.low < 0.2 < found.high < 0.22
    assert row(far, before, "latency_ms.p95").change is Change.BETTER


def test_times_of_two_machines_are_incomparable_sizes_are_not() -> None:
    other = replace(MACHINE, cpu="another")
    before = build(result("int8"))
    after = build(result("int8", measurement=measurement(20, machine=other), artifact=artifact(50_000_000)), machine=other)
    for measure in ("latency_ms.p50", "latency_ms.p95", "cold_start_ms.p50", "cost_per_million_usd"):
        found = row(before, after, measure)
        assert (found.change, found.why) == (Change.INCOMPARABLE, "measured on different machines")
    assert row(before, after, "package.size_bytes").change is Change.WORSE


def test_a_machine_that_got_slower_is_not_a_slower_model() -> None:
    """The very same float package is 15 % slower in the second build, and so is everything."""
    fp32 = result("fp32", measurement=measurement(30), artifact=artifact(90_000_000))
    before = build(fp32, result("int8", measurement=measurement(10, 1 / 3)))
    slower = replace(fp32, measurement=measurement(34.5))
    after = build(slower, result("int8", measurement=measurement(11.5, 1 / 3)))
    found = row(before, after, "latency_ms.p50")
    assert found.change is Change.SAME
    assert "the same float moved by +15.0 %, so the machine did" in found.why
    new_float = replace(slower, artifact=artifact(91_000_000))
    assert row(before, build(new_float, after_int8()), "latency_ms.p50").change is Change.WORSE


def after_int8() -> Result:
    return result("int8", measurement=measurement(11.5, 1 / 3))


def test_accuracy_changes_beyond_the_intervals_only() -> None:
    before = build(result("int8", measurement=measurement(accuracy=accuracy(0.002, 0.000, 0.004))))
    near = build(result("int8", measurement=measurement(accuracy=accuracy(0.004, 0.002, 0.006))))
    far = build(result("int8", measurement=measurement(accuracy=accuracy(0.012, 0.010, 0.014))))
    assert row(before, near, "accuracy.value").change is Change.SAME
    assert row(before, far, "accuracy.value").change is Change.WORSE
    assert row(far, before, "accuracy.value").change is Change.BETTER


def test_accuracy_on_other_data_is_incomparable() -> None:
    before, after = build(result("int8")), build(result("int8", measurement=measurement(accuracy=accuracy(n=500))))
    assert row(before, after, "accuracy.value").change is Change.INCOMPARABLE


def test_candidates_that_came_went_and_fell_are_said() -> None:
    before = build(result("int8"), result("gone"))
    after = build(result("int8", failure="quantize: no", artifact=None, measurement=None), result("new"))
    rows = {(r.candidate.split("@")[0], r.measure): r for r in diff.compare(before, after)}
    assert rows["gone", "status"].change is Change.REMOVED
    assert rows["new", "status"].change is Change.ADDED
    assert (rows["int8", "status"].change, rows["int8", "status"].why) == (Change.WORSE, "quantize: no")
    assert rows["int8", "latency_ms.p50"].change is Change.UNKNOWN
    assert rows["", "chosen"].change is Change.CHANGED
    text = diff.text(diff.compare(before, after))
    assert "chosen: gone@lambda-zip-x86_64 → new@lambda-zip-x86_64" in text
    assert "status: ok → failed  worse  (quantize: no)" in text


def test_rows_are_plain_json() -> None:
    rows = diff.compare(build_record(typical()), build(result("int8", measurement=measurement(30))))
    read = json.loads(json.dumps(diff.as_json(rows), allow_nan=False))
    assert read[0] == {
        "candidate": "",
        "measure": "chosen",
        "before": INT8,
        "after": INT8,
        "change": "same",
        "low": None,
        "high": None,
        "why": "",
    }


def test_noughts_are_compared_without_dividing_by_them() -> None:
    free, paid = build(result("int8", cost_per_million_usd=0.0)), build(result("int8", cost_per_million_usd=1.0))
    assert row(free, free, "cost_per_million_usd").change is Change.SAME
    assert row(free, paid, "cost_per_million_usd").change is Change.UNKNOWN


def test_a_metric_that_should_be_low_is_better_when_it_falls() -> None:
    def scored(value: float, drop: float, metric: str) -> BuildRecord:
        said = accuracy(drop, drop - 0.01, drop + 0.02, metric=metric, value=value)
        made = build(result("int8", measurement=measurement(accuracy=said)))
        base = TargetBaselineRecord(candidate="fp32@lambda-zip-x86_64", value=value - drop, latency_p50_ms=None)
        return replace(made, baseline=BaselineRecord(metric=metric, value=value - drop, targets={"lambda-zip-x86_64": base}))

    for metric in ("mae", "app:error"):  # of a user's own, drop and value that rise together say it
        low, near, high = scored(1.0, 0.1, metric), scored(1.015, 0.115, metric), scored(1.2, 0.3, metric)
        assert row(low, high, "accuracy.value").change is Change.WORSE
        assert row(high, low, "accuracy.value").change is Change.BETTER
        assert row(low, near, "accuracy.value").change is Change.SAME


@pytest.mark.parametrize("samples", [(0.0,) * 9, (-1.0, 0.0, 5.0), (5e-324,) * 9, (1e300,) * 9])
def test_samples_that_no_clock_gives_are_compared(samples: tuple[float, ...]) -> None:
    before = build(result("int8"))
    one = before.candidates[0]
    odd = replace(one, latency_ms=replace(one.latency_ms, p50=5.0, p95=5e-324, samples=samples))
    after = replace(before, candidates=(odd,))
    for pair in ((before, after), (after, before), (after, after)):
        assert "latency_ms.p50" in {row.measure for row in diff.compare(*pair)}


def test_one_candidate_may_be_compared_alone() -> None:
    record = build(result("fp32"), result("int8"))
    assert {r.candidate for r in diff.compare(record, record, INT8)} == {"", INT8}


GPU = "fp16@gpu-worker-x86_64"


def test_estimates_are_compared_by_name_with_their_like() -> None:
    before = build(on_gpu("fp16", estimate(1.0, 0.05)))
    for now, change in ((1.2, Change.SAME), (2.0, Change.WORSE), (0.4, Change.BETTER)):
        found = row(before, build(on_gpu("fp16", estimate(now, 0.05))), "estimated.latency_ms", GPU)
        assert found.change is change
        assert "estimated (L4)" in found.why
    other = build(on_gpu("fp16", estimate(2.0, 0.05, "L40S")))
    assert row(before, other, "estimated.latency_ms", GPU).change is Change.INCOMPARABLE
    later = build(on_gpu("fp16", estimate(2.0, 0.05, basis="roofline, not measured: fp16; 90 % of bandwidth; table of 2027-01-01")))
    assert row(before, later, "estimated.latency_ms", GPU).why == "estimated by another table or other assumptions"


def test_an_estimate_is_never_compared_with_a_measurement() -> None:
    gpu = on_gpu("fp16")
    measured = replace(gpu, measurement=measurement(1.0), estimates=())
    found = row(build(measured), build(gpu), "estimated.latency_ms", GPU)
    assert (found.before, found.change) == (None, Change.UNKNOWN)
    assert row(build(measured), build(gpu), "latency_ms.p50", GPU).change is Change.UNKNOWN


def test_builds_without_estimates_have_no_rows_of_them() -> None:
    record = build_record(typical())
    assert not [r for r in diff.compare(record, record) if r.measure.startswith("estimated")]


def test_the_drop_and_how_large_it_may_be_are_said_of_both() -> None:
    def built(drop: float) -> BuildRecord:
        int8 = result("int8", measurement=measurement(11.0, accuracy=accuracy(drop, drop - 0.002, drop + 0.002, confidence=0.9)))
        float_ = result("fp32", measurement=measurement(31.0))
        return build_record(outcome((float_, int8), Budgets(accuracy_drop=0.1, confidence=0.9)))

    found = row(built(0.001), built(0.02), "accuracy.drop")
    assert (found.before, found.after, found.change) == (0.001, 0.02, Change.WORSE)
    assert found.why == "drop 0.0010, at most 0.0030 with 90 % confidence, then drop 0.0200, at most 0.0220 with 90 % confidence"
    assert row(built(0.001), built(0.02), "accuracy.drop", "fp32@lambda-zip-x86_64").change is Change.UNKNOWN
    assert row(built(0.01), built(0.0101), "accuracy.drop").change is Change.SAME


def graphs(change: Any) -> tuple[BuildRecord, BuildRecord]:
    """Two builds of a candidate, the second with its graph changed."""
    after = copy.deepcopy(MADE_OF)
    change(after)
    return build(result("int8", anatomy=MADE_OF)), build(result("int8", anatomy=after))


def test_makeup_is_compared_by_layer_type_precision_and_layer() -> None:
    def back(graph: Any) -> None:
        graph["size_bytes"] += 3_000_000
        graph["layers"][0]["size_bytes"] += 3_000_000
        graph["tensors"][0] |= {"dtype": "float", "size_bytes": 4_000_000}
        graph["operators"][0] |= {"precision": "float32"}
        graph["products"][0] |= {"precision": "float32"}
        graph["kept_float"].append(MADE_OF["kept_float"][0] | {"node": "first", "why": "the search put it back to float"})

    before, after = graphs(back)
    found = {r.measure: r for r in diff.compare(before, after)}
    assert (found["weights"].before, found["weights"].after, found["weights"].change) == (1_300_000, 4_300_000, Change.WORSE)
    assert (found["weights.MatMul"].after, found["weights.MatMul"].why) == (4_200_000, "+250.0 %")
    assert "weights.unused" not in found
    assert found["tensor.w1"].change is Change.WORSE
    assert (found["operators.int8 dynamic"].before, found["operators.int8 dynamic"].after) == (1, 0)
    assert (found["operators.float32"].before, found["operators.float32"].after) == (2, 3)
    layer = found["layer.first"]
    assert (layer.before, layer.after, layer.why) == ("int8 dynamic", "float32", "the search put it back to float")
    text = diff.text(diff.compare(before, after))
    assert "layer.first: int8 dynamic → float32  changed  (the search put it back to float)" in text
    assert "operators.float32: 2 → 3  changed" in text
    assert "weights.MatMul: 1.20 MB → 4.2 MB  worse" in text
    json.dumps(diff.as_json(diff.compare(before, after)))
    assert {r.measure: r for r in diff.compare(after, before)}["weights"].change is Change.BETTER


def test_graphs_that_are_equal_or_missing_have_no_rows() -> None:
    before, after = graphs(lambda graph: None)
    assert not [r for r in diff.compare(before, after) if r.measure.startswith(("weights", "layer", "operators", "tensor"))]
    before = replace(before, candidates=(replace(before.candidates[0], graph=None),))
    (row_,) = [r for r in diff.compare(before, after) if r.measure.startswith("weights")]
    assert (row_.change, row_.before, row_.after) == (Change.UNKNOWN, None, 1_300_000)
    after = replace(after, candidates=(replace(after.candidates[0], graph=None),))
    assert not [r for r in diff.compare(before, after) if r.measure.startswith("weights")]


def test_many_layers_that_moved_are_counted_and_safely_named() -> None:
    def many(graph: Any) -> None:
        graph["products"] = [MADE_OF["products"][0] | {"node": f"\x1b[31m::layer {i}", "precision": "fp16"} for i in range(300)]

    _, after = graphs(many)
    one = after.candidates[0]
    assert one.graph is not None
    graph = replace(one.graph, products=tuple(replace(product, precision="float32") for product in one.graph.products))
    before = replace(after, candidates=(replace(one, graph=graph),))
    rows = [r for r in diff.compare(before, after) if r.measure.startswith("layer")]
    assert len(rows) == 41
    assert (rows[-1].measure, rows[-1].why) == ("layers", "260 more compute in something else")
    assert "\x1b" not in diff.text(diff.compare(before, after))
