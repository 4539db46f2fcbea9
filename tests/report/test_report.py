"""The record and its Markdown."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from tests.support.golden import HOSTILE, golden, without_samples
from tests.support.hostile import MARKDOWN, references, rendered, without_code
from tests.support.outcomes import accuracy, as_json, measurement, on_an_estimate, on_gpu, outcome, result, typed, typical

from mlpack.core.digest import of_bytes
from mlpack.core.records import Budgets, Proof
from mlpack.decide.choose import decide
from mlpack.errors import RecipeError
from mlpack.report import report, summary, webpage
from mlpack.report.record import files
from mlpack.report.recording import artifact_path, build_record


def test_record_is_as_agreed() -> None:
    golden("build.json", files.encode(typed(without_samples(as_json(typical())))).decode())


def test_markdown_is_as_agreed() -> None:
    golden("report.md", report.markdown(build_record(typical())))


def test_what_is_estimated_is_called_that_wherever_it_is_shown() -> None:
    record = as_json(on_an_estimate())
    one = record["candidates"][-1]
    assert (one["latency_ms"]["p50"], one["throughput_per_s"], one["peak_memory_bytes"], one["cost_per_million_usd"]) == (None,) * 4
    assert [estimate["device"] for estimate in one["estimates"]] == ["L40S", "L4", "T4"]
    text = report.markdown(typed(record))
    golden("report-estimated.md", text)
    for line in text.splitlines():
        if "0.620 ms" in line or "0.0580" in line:
            assert "estimated" in line


def test_records_of_before_estimates_are_read_and_shown() -> None:
    record = as_json(typical())
    for one in record["candidates"]:
        del one["estimates"]
    del record["recipe"]["budgets"]["accept_estimates"]
    old = files.decode(json.dumps(record).encode())
    assert report.markdown(old) == report.markdown(build_record(typical()))


def test_a_damaged_estimate_is_refused() -> None:
    record = as_json(outcome((on_gpu("fp16"),), Budgets()))
    record["candidates"][0]["estimates"][0]["latency_ms"] = "fast"
    with pytest.raises(RecipeError, match=r"estimates\[0\].latency_ms: expected a number, found text"):
        files.decode(json.dumps(record).encode())


def test_record_round_trips_through_its_bytes() -> None:
    record = as_json(typical())
    assert files.decode(files.encode(typed(record))) == typed(record)
    assert files.encode(files.decode(files.encode(typed(record)))) == files.encode(typed(record))


def test_every_key_is_there_even_when_nothing_is_known() -> None:
    none = result("int8", model=None, artifact=None, measurement=None, cost_per_million_usd=None, failure="export: no")
    record = as_json(outcome((none,), Budgets(), source_digest=None))
    assert files.decode(files.encode(typed(record))) == typed(record)
    one = record["candidates"][0]
    assert one["package"]["parts"] == {"runtime": None, "model": None, "code": None, "base": None}
    assert (one["latency_ms"]["p50"], one["latency_ms"]["n"], one["cold_start_ms"]) == (None, 0, {"p50": None, "samples": []})
    assert (record["chosen"], record["artifact"], one["machine"]) == (None, None, None)


def test_the_interface_keys_are_where_others_look_for_them() -> None:
    record = as_json(typical())
    one = record["candidates"][1]
    assert record["artifact"] == {
        "kind": "zip",
        "path": "artifacts/int8@lambda-zip-x86_64/function.zip",
        "digest": one["package"]["digest"],
        "size_bytes": 41_000_000,
        "compressed_bytes": 13_666_666,
    }
    assert one["status"] == "ok"
    assert one["accuracy"]["isa"] == "avx512-vnni"
    assert one["steps"] == [
        {"pass": "export", "config": {"opset": 20}, "seconds": 11.2, "cached": False, "notes": {"exporter": "dynamo"}}
    ]
    assert record["baseline"] == {
        "metric": "top1",
        "value": 0.9215,
        "targets": {"lambda-zip-x86_64": {"candidate": "fp32@lambda-zip-x86_64", "value": 0.9215, "latency_p50_ms": 31.0513}},
    }


def test_raw_samples_are_kept() -> None:
    one = as_json(typical())["candidates"][1]
    assert len(one["latency_ms"]["samples"]) == one["latency_ms"]["n"] == 500
    assert len(one["cold_start_ms"]["samples"]) == 9
    assert len(one["ratio_to_baseline"]["samples"]) == 20


def test_p99_is_null_below_five_hundred_samples() -> None:
    few = as_json(outcome((result("int8", measurement=measurement(n=499)),), Budgets()))["candidates"][0]
    assert few["latency_ms"]["p99"] is None
    assert few["latency_ms"]["p95"] is not None


def test_nan_becomes_null_and_never_invalid_json() -> None:
    broken = result("int8", measurement=measurement(accuracy=accuracy(float("nan")), throughput_per_s=float("inf")))
    record = as_json(outcome((broken,), Budgets()))
    one = json.loads(files.encode(typed(record)))["candidates"][0]
    assert one["accuracy"]["drop"] is None
    assert one["throughput_per_s"] is None
    assert "int8" in report.markdown(typed(record))


def test_written_files_are_listed_with_digests() -> None:
    files = {"artifacts/b": (of_bytes(b"b"), 1), "artifacts/a": (of_bytes(b"aa"), 2)}
    record = as_json(replace(typical(), files=files))
    assert list(record["files"]) == ["artifacts/a", "artifacts/b"]
    assert record["files"]["artifacts/a"] == {"digest": str(of_bytes(b"aa")), "size_bytes": 2}


@pytest.mark.parametrize(
    ("kind", "path"), [("zip", "artifacts/x/function.zip"), ("image", "artifacts/x/image"), ("layer-zip", "artifacts/x")]
)
def test_artifact_path_follows_its_kind(kind: str, path: str) -> None:
    assert artifact_path("x", kind) == path


def test_markdown_without_a_choice_says_so_first() -> None:
    made = report.markdown(build_record(outcome((result("int8"),), Budgets(package_size_bytes=1))))
    assert made.startswith("**❌ minilm: no candidate fits the budgets (1 over budget)**\n")


def test_hostile_text_stays_text_in_markdown() -> None:
    one = result("int8", failure=HOSTILE, artifact=None)
    made = report.markdown(build_record(outcome((one,), Budgets())))
    line = next(line for line in made.splitlines() if "alert(1)" in line)
    assert line.startswith("- `` `\\x7c `` \\# `<script>alert(1)</script>` `@everyone` `[x](http://evil.example)` `\\x1b[31m")
    assert "\x1b" not in made
    assert "\u202e" not in made
    page = rendered(made)
    for element in ("<script", "<a ", "<h1", "<strong>b"):
        assert element not in page
    assert "@everyone" not in without_code(page)


def test_a_hostile_id_cannot_break_the_table() -> None:
    record = as_json(outcome((result("int8"),), Budgets()))
    record["candidates"][0]["id"] = record["chosen"] = "a|b`c\n<img src=x>"
    rows = [line for line in report.markdown(typed(record)).splitlines() if line.startswith("| ")]
    assert len(rows) == 3
    assert {row.count("|") for row in rows} == {13}
    assert "<img" not in rendered(report.markdown(typed(record)))


@pytest.mark.parametrize("place", ["id", "reasons", "notes", "cpu", "name", "prefer", "metric", "device"])
def test_what_is_hostile_is_text_wherever_it_stands_in_a_report(place: str) -> None:
    """Each word of the table in each place that somebody else names."""
    clean = rendered(report.markdown(build_record(on_an_estimate())))
    for words in (" ".join(MARKDOWN[first : first + 20]) for first in range(0, len(MARKDOWN), 20)):
        record = as_json(on_an_estimate())
        _named(record, place, words)
        page = rendered(report.markdown(typed(record)))
        tags = re.findall(r"<(\w+)", without_code(page))
        assert set(tags) <= set(re.findall(r"<(\w+)", clean))
        assert tags.count("td") == len(re.findall("<td", clean))
        assert not references(without_code(page))


def _named(record: dict[str, Any], place: str, words: str) -> None:
    one = record["candidates"][0]
    if place == "id":
        one["id"] = words
    elif place == "reasons":
        one["reasons"] = [words, *MARKDOWN]
    elif place == "notes":
        one["package"]["notes"] = [words, *MARKDOWN]
    elif place == "cpu":
        record["machine"]["cpu"] = words
    elif place in ("name", "prefer"):
        record["recipe"][place] = words
    elif place == "metric":
        record["baseline"]["metric"] = one["accuracy"]["metric"] = words
        record["chosen"] = one["id"]
    else:
        for each in record["candidates"][-1]["estimates"]:
            each["device"] = words


def test_reports_are_functions_of_the_record_alone() -> None:
    record = as_json(typical())
    assert report.markdown(files.decode(files.encode(typed(record)))) == report.markdown(typed(record))


def test_a_decision_can_be_reported_whatever_was_preferred() -> None:
    for prefer in ("cost", "latency", "size", "accuracy"):
        made = typical()
        decision = decide(made.results, made.baselines, Budgets(), prefer)
        text = report.markdown(build_record(replace(made, decision=decision)))
        assert f"`{decision.chosen}` chosen" in text


def test_notes_say_how_accuracy_is_known_and_warn_of_the_choice() -> None:
    record = as_json(typical())
    proofs = [Proof(how="static", why="its graph has none"), Proof(how="run", why="it ran", samples=32, agreement=0.9999)]
    proofs.append(Proof(how=None, why="2 integer products may overflow", risks=("MatMulInteger a: bytes",)))
    ones = [one for one in record["candidates"] if one["accuracy"]["value"] is not None][: len(proofs)]
    for one, proof in zip(ones, proofs, strict=True):
        one["accuracy"]["proof"] = dataclasses.asdict(proof) | {"risks": list(proof.risks)}
    assert files.decode(files.encode(typed(record))) == typed(record)
    notes = summary.notes(typed(record))
    assert f"accuracy holds on every processor of the target, by its graph: {ones[0]['id']}" in notes
    assert f"accuracy holds on every processor of the target, by a run under emulation: {ones[1]['id']}" in notes
    said = f"{ones[2]['id']}: its accuracy may not hold on every processor of the target: 2 integer products may overflow"
    assert notes.count(said) == 1
    record["chosen"] = ones[2]["id"]
    assert said in summary.warnings(typed(record))
    record["chosen"] = ones[0]["id"]
    assert said not in summary.warnings(typed(record))


def test_notes_that_packages_share_stand_once() -> None:
    record = as_json(typical())
    first, second = record["candidates"][:2]
    first["package"]["notes"] = ["left out: a", "left out: b", "large"]
    second["package"]["notes"] = ["left out: a", "left out: b"]
    record["candidates"] = [first, second]
    found = summary.notes(typed(record))
    assert found[:2] == [f"{first['id']}, {second['id']}: left out: a; b", f"{first['id']}: large"]


def test_an_evaluation_set_that_is_too_small_is_said_everywhere() -> None:
    unsure = result("int8", measurement=measurement(4.0, accuracy=accuracy(0.0, -0.02, 0.04, n=100)))
    budgets = Budgets(accuracy_drop=0.02)
    record = as_json(outcome((result("fp32", measurement=measurement(31.0)), unsure), budgets))
    said = "the evaluation set (n=100) is too small to tell whether the accuracy drop keeps its budget of 0.02: about 400 samples"
    assert [one["accuracy"]["samples_that_tell"] for one in record["candidates"]] == [None, 400]
    assert said in summary.warnings(typed(record))[0]
    assert "too small to tell" in report.markdown(typed(record))
    assert "too small to tell" in webpage.html(typed(record))
    assert "about 400 samples would do" in " ".join(record["candidates"][1]["reasons"])


def test_what_accuracy_was_read_from_is_said() -> None:
    by_label = accuracy(0.0, output="p", threshold=0.5)
    one = result("int8", measurement=measurement(4.0, accuracy=by_label))
    record = as_json(outcome((result("fp32", measurement=measurement(31.0)), one), Budgets()))
    assert "accuracy (top1) is read from p, above 0.5" in summary.notes(typed(record))
    blind = accuracy(1.0, output="output0", column=4, metric="fidelity", compared_with="float baseline", value=0.0)
    one = result("int8", measurement=measurement(4.0, accuracy=blind))
    record = as_json(outcome((result("fp32", measurement=measurement(31.0)), one), Budgets(accuracy_drop=0.02)))
    assert "int8@lambda-zip-x86_64: its fidelity is that of output0, column 4" in summary.notes(typed(record))
    assert "compared with the float baseline: output0, column 4)" in record["candidates"][1]["reasons"][0]


def test_how_sure_a_drop_is_stands_wherever_it_does() -> None:
    sure = Budgets(accuracy_drop=0.01, confidence=0.9)
    int8 = result("int8", measurement=measurement(4.0, accuracy=accuracy(0.004, -0.001, 0.009, confidence=0.9)))
    record = as_json(outcome((result("fp32", measurement=measurement(31.0)), int8), sure))
    said = "drop 0.0040, at most 0.0090 with 90 % confidence"
    assert said in summary.verdict(typed(record)).text
    assert f"top1 {said}: within the budget of 0.01" in " ".join(record["candidates"][1]["reasons"])
    for made in (report.markdown(typed(record)), webpage.html(typed(record)).replace("&nbsp;", " ")):
        assert said in made
        assert "accuracy drop (90 %)" in made
        assert "95 %" not in made.replace("±", "")
    assert "the drop's interval has to end within its budget" in webpage.html(typed(record))
    assert record["recipe"]["budgets"]["confidence"] == 0.9
    said_of = record["candidates"][1]["accuracy"]
    assert (said_of["confidence"], said_of["interval"]) == (0.9, "bootstrap")


def test_records_of_before_confidence_are_read_and_shown() -> None:
    record = as_json(typical())
    del record["recipe"]["budgets"]["confidence"]
    for one in record["candidates"]:
        for key in ("confidence", "interval", "lower_is_better"):
            del one["accuracy"][key]
    assert files.decode(files.encode(typed(record))) == typed(record)
    assert "accuracy drop (95 %)" in report.markdown(typed(record))
    assert "at most 0.0075 with 95 % confidence" in webpage.html(typed(record))
