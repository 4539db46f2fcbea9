"""What a change of the recipe does again: nothing that it cannot change. Every field of a recipe has its row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support import workshop
from tests.support.workshop import Workshop

from mlpack.recipe.schema import BudgetKeys, RecipeKeys

RECIPE = workshop.RECIPE + "variants: {fp32: [], int8: [quantize]}\nsearch: off\nbudgets: {accuracy_drop: 0.5}\n"
MEASURED = {"measurement"}
FIELDS: dict[str, tuple[str, str, set[str]]] = {
    # what decides
    "budgets.accuracy_drop": ("accuracy_drop: 0.5", "accuracy_drop: 0.4", set()),
    "budgets.confidence": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, confidence: 0.8", set()),
    "budgets.latency_p50": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, latency_p50: 10s", set()),
    "budgets.latency_p95": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, latency_p95: 10s", set()),
    "budgets.latency_p99": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, latency_p99: 10s", set()),
    "budgets.stages": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, stages: {infer: 10s}", {"stages"}),
    "budgets.cold_start": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, cold_start: 60s", set()),
    "budgets.package_size": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, package_size: 900MB", set()),
    "budgets.peak_memory": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, peak_memory: 9GB", set()),
    "budgets.cost_per_million": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, cost_per_million: 900USD", set()),
    "budgets.accept_estimates": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, accept_estimates: true", set()),
    "budgets.isa": ("accuracy_drop: 0.5", "accuracy_drop: 0.5, isa: proven", set()),
    "prefer": ("prefer: size", "prefer: latency", {"boot"}),  # of the other candidate, where that is the quicker one
    "tags": ("search: off", "search: off\ntags: {team: vision}", set()),
    "search": ("search: off", "search: {minutes: 3}", {"accuracy", "rung"}),
    "deploy": ("search: off", "search: off\ntags: {service: s, team: t, env: e}\ndeploy: {traffic: {peak_rps: 50}}", set()),
    "accept_licenses": ("search: off", "search: off\naccept_licenses: []", set()),
    "name": ("name: tiny", "name: small", {"package", "boot"}),
    # what is measured
    "metric": ("metric: top1", "metric: f1", MEASURED),
    "serve": ("search: off", "search: off\nserve: {example: sample.json}", {"package", "boot"}),
    "targets": ("memory_mb: 1769", "memory_mb: 2048", {"package", "boot", "proof/static", *MEASURED}),
    # what is made
    "variants": ("[quantize]", "[{quantize: {reduce_range: false}}]",
                 {"step/quantize", "step/optimize", "package", "boot", "makeup", "anatomy", "proof/static", *MEASURED}),
    "data": ("evaluation: eval.npz", "evaluation: other.npz",
             {"data", "excerpt", "step/simplify", "step/quantize", "step/optimize", "package", "boot", "anatomy", *MEASURED}),
    "source": ("onnx: model.onnx", "onnx: same.onnx", {"data", "source/onnx-files"}),
    "inputs": ("search: off", "search: off\ninputs: {x: {dtype: float32, shape: [batch, 64]}}", {"source/onnx"}),
}  # fmt: skip
"""A field, a change of it (a text of the recipe, and what stands there instead), and the kinds of actions that it may run again."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = workshop.make(tmp_path_factory.mktemp("again") / "project")
    for name in ("same.onnx", "model.onnx.data"):
        if name == "same.onnx":
            (made.root / name).write_bytes((made.root / "model.onnx").read_bytes())
    given = np.load(made.root / "eval.npz")
    np.savez(made.root / "other.npz", x=given["x"][:30], labels=given["labels"][:30])
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}]
    (made.root / "sample.json").write_text(json.dumps({"inputs": inputs}))
    made.recipe.write_text(RECIPE)
    made.build()
    return made


def done(made: Workshop) -> dict[str, str]:
    """The kind of each action in the store, by its file."""
    return {path.name: json.loads(path.read_bytes())["action"]["kind"] for path in (made.store.root / "actions").iterdir()}


def leaves() -> Iterator[str]:
    for name in RecipeKeys.model_fields:
        if name == "budgets":
            yield from (f"{name}.{each}" for each in BudgetKeys.model_fields)
        else:
            yield name


def test_every_field_of_a_recipe_has_a_row() -> None:
    assert set(leaves()) == set(FIELDS)


@pytest.mark.parametrize(
    "field", [pytest.param(each, marks=() if each == "budgets.confidence" else pytest.mark.slow) for each in FIELDS]
)
def test_change_runs_again_what_it_can_change_and_nothing_else(field: str, built: Workshop) -> None:
    old, new, may = FIELDS[field]
    before = done(built)
    assert old in RECIPE
    built.recipe.write_text(RECIPE.replace(old, new))
    record, _ = built.build()
    again = {kind for name, kind in done(built).items() if name not in before}
    assert again <= may, f"{field}: {sorted(again - may)}"
    if field == "budgets.confidence":
        for one in record["candidates"]:
            assert one["accuracy"]["confidence"] == 0.8


@pytest.mark.slow
def test_interval_is_that_of_a_build_which_asked_for_it_first(tmp_path: Path) -> None:
    """Whatever was measured before."""
    noisy = workshop.RECIPE + "variants: {fp32: [], int8: [quantize]}\nsearch: off\n"
    found = []
    for order in (("0.8",), ("0.95", "0.8")):
        made = workshop.make(tmp_path / "-".join(order))
        for sure in order:
            made.recipe.write_text(
                noisy.replace("metric: top1", "metric: cosine") + f"budgets: {{accuracy_drop: 0.5, confidence: {sure}}}\n"
            )
            record, _ = made.build()
        keys = ("value", "drop", "ci_low", "ci_high", "confidence", "interval")
        found.append([[one["accuracy"][key] for key in keys] for one in record["candidates"]])
    assert found[0] == found[1]
    assert any(low < high for _, _, low, high, *_ in found[0])
