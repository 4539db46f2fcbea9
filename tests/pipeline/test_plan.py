"""Tests of `mlpack.pipeline.plan`: what a recipe means, written out. Golden plans stand in tests/golden/."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlpack.core.digest import of_bytes
from mlpack.core.records import Budgets, Candidate, MetricSpec, Recipe, Source, Step, Target, Variant
from mlpack.core.serving import Serve
from mlpack.errors import RecipeError
from mlpack.graphs.facts.makeup import Makeup
from mlpack.passes import PASSES
from mlpack.passes.export import Export
from mlpack.passes.optimize import Optimize
from mlpack.passes.precision import Precision
from mlpack.passes.prune import Prune
from mlpack.passes.quantize import Quantize
from mlpack.passes.simplify import Simplify
from mlpack.pipeline import plan
from mlpack.targets import TARGETS, LambdaImage, LambdaZip

GOLDEN = Path(__file__).parent.parent / "golden"

ZIP_X86 = Target(kind="lambda-zip", arch="x86_64", config=LambdaZip())
ZIP_ARM = Target(kind="lambda-zip", arch="arm64", config=LambdaZip(arch="arm64"))
IMAGE_ARM = Target(kind="lambda-image", arch="arm64", config=LambdaImage(arch="arm64"))
TORCH = Source(format="torch", reference="net:build", weights="net.safetensors")
HUGGINGFACE = Source(format="huggingface", reference="models/minilm", task="feature-extraction")
ONNX = Source(format="onnx", reference="model.onnx")

QUANTIZE = Step(name="quantize", config=Quantize(method="dynamic"))
PRUNE = Step(name="prune", config=Prune(ratio=0.3))


def _recipe(source: Source, variants: tuple[Variant, ...] | None, *targets: Target) -> Recipe:
    return Recipe(
        name="net",
        root=Path("/nowhere"),
        digest=of_bytes(b""),
        source=source,
        inputs=(),
        evaluation="eval.npz",
        calibration=None,
        metric=MetricSpec(name="top1"),
        variants=variants,
        targets=targets,
        budgets=Budgets(),
        prefer="cost",
        serve=Serve(),
        tags={},
    )


def _names(candidate: Candidate) -> list[str]:
    return [step.name for step in candidate.steps]


def _one(source: Source, *steps: Step) -> list[str]:
    (candidate,) = plan.expand(_recipe(source, (Variant(name="v", steps=steps),), ZIP_X86)).candidates
    return _names(candidate)


def test_every_variant_meets_every_target() -> None:
    variants = (Variant(name="fp32", steps=()), Variant(name="int8", steps=(QUANTIZE,)))
    expanded = plan.expand(_recipe(TORCH, variants, ZIP_X86, ZIP_ARM))
    assert [candidate.id for candidate in expanded.candidates] == [
        "fp32@lambda-zip-x86_64",
        "int8@lambda-zip-x86_64",
        "fp32@lambda-zip-arm64",
        "int8@lambda-zip-arm64",
    ]


@pytest.mark.parametrize(
    ("source", "steps", "chain"),
    [
        (TORCH, (), ["export", "simplify", "optimize"]),
        (ONNX, (), ["simplify", "optimize"]),
        (ONNX, (QUANTIZE,), ["simplify", "quantize", "optimize"]),
        (HUGGINGFACE, (QUANTIZE,), ["export", "simplify", "quantize", "optimize"]),
        (TORCH, (PRUNE,), ["prune", "export", "simplify", "optimize"]),
        (TORCH, (PRUNE, QUANTIZE), ["prune", "export", "simplify", "quantize", "optimize"]),
    ],
)
def test_chain_is_written_out(source: Source, steps: tuple[Step, ...], chain: list[str]) -> None:
    assert _one(source, *steps) == chain


def test_step_that_the_recipe_names_is_not_added_again() -> None:
    export = Step(name="export", config=Export(exporter="dynamo"))
    simplify = Step(name="simplify", config=Simplify())
    optimize = Step(name="optimize", config=Optimize(level="basic"))
    assert _one(TORCH, export, QUANTIZE) == ["export", "simplify", "quantize", "optimize"]
    assert _one(TORCH, PRUNE, export, simplify, QUANTIZE, optimize) == ["prune", "export", "simplify", "quantize", "optimize"]
    assert _one(ONNX, QUANTIZE, simplify) == ["quantize", "simplify", "optimize"]


def test_architecture_comes_from_target_and_task_from_source() -> None:
    export = Step(name="export", config=Export(opset=17))
    variants = (Variant(name="a", steps=(QUANTIZE,)), Variant(name="b", steps=(export, QUANTIZE)))
    expanded = plan.expand(_recipe(HUGGINGFACE, variants, ZIP_ARM))
    for candidate in expanded.candidates:
        configs = {step.name: step.config for step in candidate.steps}
        assert configs["quantize"] == Quantize(method="dynamic", arch="arm64")
        assert configs["optimize"].arch == "arm64"
        assert configs["export"].task == "feature-extraction"


def test_baseline_is_the_variant_without_steps() -> None:
    expanded = plan.expand(
        _recipe(TORCH, (Variant(name="fp32", steps=()), Variant(name="int8", steps=(QUANTIZE,))), ZIP_X86, ZIP_ARM)
    )
    assert [baseline.id for baseline in expanded.baselines] == ["fp32@lambda-zip-x86_64", "fp32@lambda-zip-arm64"]
    assert all(baseline in expanded.candidates for baseline in expanded.baselines)


def test_baseline_is_added_where_no_variant_is_float() -> None:
    expanded = plan.expand(_recipe(TORCH, (Variant(name="int8", steps=(QUANTIZE,)),), ZIP_X86))
    (baseline,) = expanded.baselines
    assert baseline.id == "float@lambda-zip-x86_64"
    assert baseline not in expanded.candidates
    assert _names(baseline) == ["export", "simplify", "optimize"]


def test_auto_tries_fp16_only_where_a_target_computes_in_it() -> None:
    assert {c.variant for c in plan.expand(_recipe(TORCH, None, ZIP_X86)).candidates} == {"fp32", "int8", "int8-unfused"}
    expanded = plan.expand(_recipe(TORCH, None, ZIP_X86, ZIP_ARM))
    skipped = {candidate.id: candidate.skipped for candidate in expanded.candidates}
    assert [id_ for id_, why in skipped.items() if why] == ["fp16@lambda-zip-x86_64"]
    assert "does not compute in fp16" in str(skipped["fp16@lambda-zip-x86_64"])
    assert skipped["fp16@lambda-zip-arm64"] is None


def test_auto_leaves_out_what_makes_no_sense_for_the_model() -> None:
    expanded = plan.expand(_recipe(ONNX, None, ZIP_X86, ZIP_ARM))
    assert not any(c.skipped for c in plan.fit_to_model(expanded, Makeup(products=1000)).candidates if c.variant == "int8")
    for made, said in ((Makeup(trees=1), "(trees)"), (Makeup(), "(no weights)")):
        fitted = plan.fit_to_model(expanded, made)
        assert {c.variant for c in fitted.candidates if not c.skipped} == {"fp32"}
        assert all(said in str(c.skipped) for c in fitted.candidates if c.variant == "int8")
    unfused = [c for c in expanded.candidates if c.variant == "int8-unfused"]
    assert [[step.name for step in c.steps] for c in unfused] == 2 * [["simplify", "quantize", "optimize"]]
    for made, tried in ((Makeup(products=9), 0), (Makeup(products=9, attention=2), 2)):
        found = [c for c in plan.fit_to_model(expanded, made).candidates if c.variant == "int8-unfused"]
        assert [c.skipped for c in found] == tried * [None]
    already = plan.fit_to_model(expanded, Makeup(products=9, quantized=1))
    assert all("quantized already" in str(c.skipped) for c in already.candidates if c.variant == "int8")
    (fp32, int8) = expanded.candidates[:2]
    assert "the baseline" in str(plan.proposal(fp32, expanded).why)  # type: ignore[union-attr]
    assert "calibration for convolutions" in str(plan.proposal(int8, expanded).why)  # type: ignore[union-attr]


def test_auto_tries_static_layers_where_data_can_calibrate() -> None:
    expanded = plan.expand(dataclasses.replace(_recipe(ONNX, None, ZIP_X86), calibration="calib.npz"))
    (static,) = [c for c in expanded.candidates if c.variant == "int8-static"]
    (config,) = [step.config for step in static.steps if step.name == "quantize"]
    assert (config.method, config.per_channel) == ("static", False)
    for made, tried in ((Makeup(products=9), 0), (Makeup(products=9, dense=2), 1), (Makeup(products=9, dense=2, quantized=1), 0)):
        found = [c for c in plan.fit_to_model(expanded, made).candidates if c.variant == "int8-static" and not c.skipped]
        assert len(found) == tried
    without = plan.expand(_recipe(ONNX, None, ZIP_X86))
    assert not [c for c in without.candidates if c.variant == "int8-static"]


def test_boosters_are_trees_before_anything_is_read() -> None:
    source = Source(format="xgboost", reference="model.json")
    skipped = {c.variant: c.skipped for c in plan.expand(_recipe(source, None, ZIP_X86)).candidates}
    assert skipped["fp32"] is None
    assert "nothing in it is computed in integers" in str(skipped["int8"])


def test_what_the_recipe_names_is_tried_whatever_the_model_is() -> None:
    named = plan.expand(_recipe(ONNX, (Variant(name="int8", steps=(QUANTIZE,)),), ZIP_X86))
    assert plan.fit_to_model(named, Makeup(trees=1)) == named
    assert plan.proposal(named.candidates[0], named) is None


def test_fp16_that_was_asked_for_is_skipped_with_its_reason() -> None:
    half = Variant(name="half", steps=(Step(name="precision", config=Precision()),))
    (candidate,) = plan.expand(_recipe(ONNX, (half,), ZIP_X86)).candidates
    assert candidate.skipped is not None


def test_select_keeps_what_matches_and_its_baselines() -> None:
    expanded = plan.expand(_recipe(TORCH, None, ZIP_X86, ZIP_ARM))
    chosen = plan.select(expanded, "int8@*arm64")
    assert [candidate.id for candidate in chosen.candidates] == ["int8@lambda-zip-arm64"]
    assert [baseline.id for baseline in chosen.baselines] == ["fp32@lambda-zip-arm64"]


def test_select_of_nothing_lists_the_ids() -> None:
    with pytest.raises(RecipeError) as raised:
        plan.select(plan.expand(_recipe(TORCH, None, ZIP_X86)), "int4@*")
    assert raised.value.problems[0] == "no candidate matches 'int4@*'; this recipe has:"
    assert "  int8@lambda-zip-x86_64" in raised.value.problems


def test_every_candidate_of_every_pass_chain_fits_the_table() -> None:
    expanded = plan.expand(_recipe(HUGGINGFACE, (Variant(name="v", steps=(PRUNE, QUANTIZE)),), ZIP_X86, IMAGE_ARM))
    for candidate in (*expanded.candidates, *expanded.baselines):
        state = "huggingface"
        for step in candidate.steps:
            assert state in PASSES[step.name].takes
            assert isinstance(step.config, PASSES[step.name].config)
            state = state if PASSES[step.name].gives == "same" else PASSES[step.name].gives
        assert state == "onnx"
        assert isinstance(candidate.target.config, TARGETS[candidate.target.kind].config)


def _written(expanded: Any) -> str:
    def one(candidate: Candidate) -> dict[str, Any]:
        steps = [
            {step.name: {key: value for key, value in dataclasses.asdict(step.config).items() if value is not None}}
            for step in candidate.steps
        ]
        return {"id": candidate.id, "steps": steps} | ({"skipped": candidate.skipped} if candidate.skipped else {})

    whole = {"candidates": list(map(one, expanded.candidates)), "baselines": [baseline.id for baseline in expanded.baselines]}
    return json.dumps(whole, indent=1, default=str) + "\n"


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("plan-auto-torch", _recipe(TORCH, None, ZIP_X86, IMAGE_ARM)),
        ("plan-pruned-huggingface", _recipe(HUGGINGFACE, (Variant(name="slim", steps=(PRUNE, QUANTIZE)),), ZIP_ARM)),
    ],
)
def test_plan_is_the_golden_one(name: str, recipe: Recipe) -> None:
    """`UPDATE_GOLDEN=1` writes the file anew; a refactoring leaves it as it was."""
    path = GOLDEN / f"{name}.json"
    written = _written(plan.expand(recipe))
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(written, "utf-8")
    assert path.read_text("utf-8") == written
