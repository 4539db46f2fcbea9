"""Budgets per stage: measured in the packed bytes, held like any other, and told in every form of the record."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.workshop import FEATURES, PYTHON, Workshop, make, put_runtime

from mlpack.core.records import Target
from mlpack.pipeline import bodies, stages
from mlpack.pipeline.packing import pack, wheels
from mlpack.pipeline.packing.runtime_part import FUNCTION, reachable, sources_dir
from mlpack.recipe.serve import around
from mlpack.report import diff, report, webpage
from mlpack.report import stages as tables
from mlpack.report.record import files
from mlpack.targets import LambdaZip, shipped

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A project whose builds share what they measure."""
    return make(tmp_path_factory.mktemp("staged"))


def _built(workshop: Workshop, limits: str) -> tuple[dict[str, Any], Path]:
    text = workshop.recipe.read_text().partition("budgets:")[0]
    workshop.recipe.write_text(f"{text}budgets: {{stages: {{{limits}}}}}\nsearch: off\n")
    return workshop.build()


@pytest.mark.slow
def test_stages_are_measured_and_decide(workshop: Workshop) -> None:
    record, out = _built(workshop, "decode: 5s, infer: 5s")
    assert record["chosen"] is not None
    assert record["recipe"]["budgets"]["stages_ms"] == {"decode": 5000.0, "infer": 5000.0}
    for one in record["candidates"]:
        assert one["stages_ms"].keys() == {"decode", "infer", "encode"}
        assert all(0 < row["p50"] <= row["p95"] and row["n"] == 20 for row in one["stages_ms"].values())
        assert any("stage infer p95" in reason and "fits the budget of 5,000 ms" in reason for reason in one["reasons"])
    typed = files.read(out)
    assert tables.headings(typed) == ("candidate", "decode (≤ 5,000 ms)", "infer (≤ 5,000 ms)", "encode")
    assert "Stages of a request, p95" in report.markdown(typed)
    assert "stage infer p95" in webpage.html(typed)
    names = {row.measure for row in diff.compare(typed, typed)}
    assert {"stages_ms.decode.p95", "stages_ms.infer.p95", "stages_ms.encode.p95"} <= names
    refused, _ = _built(workshop, "infer: 0.01us, tokenize: 1s")
    assert refused["chosen"] is None
    reasons = [reason for one in refused["candidates"] for reason in one["reasons"]]
    assert any("exceeds the budget" in reason for reason in reasons)
    assert any("stage tokenize p95 is not known" in reason and "(decode, infer, encode)" in reason for reason in reasons)


def _seed(workshop: Workshop, *modules: str) -> None:
    """Put the runtime part with these modules into the project's store."""
    (pins,) = wheels.read_lock(workshop.root / wheels.LOCK_NAME).wheels.values()
    target = Target(kind="lambda-zip", arch="x86_64", config=LambdaZip(arch="x86_64", python=PYTHON))
    request = pack.runtime_request(target, PYTHON, False, tuple(pins))
    put_runtime(workshop.store, dataclasses.replace(request, modules=modules))


@pytest.mark.slow
def test_features_take_what_the_recipe_says_of_their_table(tmp_path: Path) -> None:
    workshop = make(tmp_path)
    _seed(workshop, *around.modules({"features": {}, "cache": {}}))
    (tmp_path / "example.json").write_text('{"customer": ["7", "8"]}')
    features = f"{{table: customers, key: customer, columns: [{', '.join(f'c{at}' for at in range(FEATURES))}], latency: LATENCY}}"
    serve = f"serve: {{example: example.json, cache: {{}}, features: {features}}}\n"
    plain = workshop.recipe.read_text()
    workshop.recipe.write_text(
        f"{plain}search: off\nbudgets: {{stages: {{features: 4ms, infer: 1s}}}}\n{serve}".replace("LATENCY", "20ms")
    )
    record, _ = workshop.build()
    assert record["chosen"] is None
    assert {one["status"] for one in record["candidates"]} == {"over_budget"}
    for one in record["candidates"]:
        assert one["stages_ms"].keys() == {"decode", "features", "cache", "infer", "encode"}
        assert one["stages_ms"]["features"]["p50"] >= 20
        assert any("stage features p95" in reason and "exceeds the budget of 4 ms" in reason for reason in one["reasons"])
    workshop.recipe.write_text(f"{plain}search: off\nbudgets: {{stages: {{infer: 1s}}}}\n{serve}".replace(", latency: LATENCY", ""))
    record, out = workshop.build()
    assert record["chosen"] is not None  # booted by ids, in stub mode
    for one in record["candidates"]:
        assert "features" not in one["stages_ms"]  # nobody said what the table takes
    unpacked = shipped.unpack(out / "artifacts" / record["chosen"], tmp_path / "unpacked")
    settings = json.loads((unpacked / "model/model.json").read_bytes())["around"]
    assert settings["features"]["columns"]["x"] == [f"c{at}" for at in range(FEATURES)]
    assert settings["cache"] == {"memory_bytes": 32_000_000, "ttl_s": 3600.0}


def test_a_package_carries_the_modules_of_what_it_uses() -> None:
    sources = sources_dir()
    assert not any(name.startswith("around") for name in reachable(sources, FUNCTION))
    for settings, there, absent in (
        ({"features": {}}, {"around.features", "around.attributes", "aws.signed", "aws.credentials"}, "around.prediction_cache"),
        ({"cache": {}}, {"around.prediction_cache"}, "around.features"),
        ({"cache": {"table": "t"}}, {"around.prediction_cache", "aws.signed", "aws.wire"}, "around.prediction_log"),
        ({"log": {}}, {"around.prediction_log", "aws.signed", "aws.sigv4"}, "around.features"),
    ):
        modules = reachable(sources, (*FUNCTION, *around.modules(settings)))
        assert there | {"around", "around.tracing"} - ({"around.tracing"} if "log" in settings else set()) <= modules
        assert absent not in modules


def test_requests_are_plain_where_a_hook_answers() -> None:
    body = {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, None, 3.0, 4.0]},
            {"name": "s", "shape": [], "data": [7]},
        ]
    }
    assert stages._plain(body) == {"inputs": {"x": [[1.0, None], [3.0, 4.0]], "s": 7}}
    assert stages._plain({"text": "a"}) == {"text": "a"}
    assert stages._nested([], [2, 0]) == [[], []]


def test_a_call_with_infinite_values_is_no_body(tmp_path: Path) -> None:
    import struct

    (tmp_path / "calls.bin").write_bytes(struct.pack("<4f", 1, float("nan"), float("inf"), 2))
    row = {"datatype": "FP32", "shape": [1, 2], "offset": 0, "size": 8}
    found = bodies.body({"inputs": {"x": row}}, tmp_path)
    assert found == {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, None]}]}
    assert json.dumps(found, allow_nan=False)
    assert bodies.body({"inputs": {"x": row | {"offset": 8}}}, tmp_path) is None
    assert bodies.body({"texts": ["a", "b"]}, tmp_path) == {"text": "a"}
    assert bodies.body({"texts": [["a", "b"]]}, tmp_path) == {"text": "a", "text_pair": "b"}
