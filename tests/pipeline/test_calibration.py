"""What steps calibrate on where a recipe names no data, and that nobody is judged on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.support.workshop import FEATURES, Workshop, make

from mlpack.core.digest import Digest
from mlpack.core.records import Plan
from mlpack.errors import RecipeError
from mlpack.pipeline import calibration, plan, transform
from mlpack.pipeline.evidence import Data, take_data
from mlpack.pipeline.outlook import foresee
from mlpack.pipeline.signatures import source_signature
from mlpack.recipe import reader
from mlpack.report import summary


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """Without calibration data, and static int8 beside float."""
    made = make(tmp_path / "project")
    made.edit(lambda text: text.replace(", calibration: calib.npz", ""))
    made.edit(lambda text: text + "variants: {fp32: [], int8: [quantize: static]}\n")
    return made


def float_model(made: Workshop) -> tuple[Plan, Data, Digest]:
    """The plan, its evaluation data and its float model."""
    planned = plan.expand(reader.load(made.recipe))
    source = transform.take_source(planned.recipe, made.store, (made.root,))
    signature, _ = source_signature(planned.baselines[0], source, planned.recipe, made.store, lambda _text: None)
    evaluation = take_data("eval.npz", signature, made.store, (made.root,), tokenised=False)
    chain = calibration.before_ends(planned.baselines[0])
    model = transform.run_steps(chain, source, made.store, {}, lambda _text: None)
    return planned, evaluation, model.tree


def settled(made: Workshop) -> calibration.Calibration:
    whole, evaluation, model = float_model(made)
    return calibration.choose(whole, evaluation, model, made.store)


def evaluated(made: Workshop, samples: int, order: slice = slice(None)) -> None:
    x = np.random.default_rng(4).normal(size=(samples, FEATURES)).astype("float32")[order]
    np.savez(made.root / "eval.npz", x=x, labels=(x.sum(axis=1) > 0).astype(int))


@pytest.mark.slow
def test_a_build_holds_a_share_out_for_all_and_says_so(workshop: Workshop) -> None:
    (before,) = {row.calibration for row in foresee(workshop.recipe, workshop.store, (workshop.root,), None)} - {None}
    assert "20% of the evaluation data" in before
    record, out = workshop.build()
    assert record["calibration"] == {"source": "evaluation", "samples": 8, "of": 40}
    assert [one["accuracy"]["n"] for one in record["candidates"]] == [32, 32]
    (static,) = [one for one in record["candidates"] if one["variant"] == "int8"]
    assert static["status"] == "ok"
    assert static["steps"][1]["notes"]["method"] == "static"
    said = "calibrated on 8 samples of the evaluation data's 40, held out for all: accuracy is on the other 32"
    assert said in (out / "report.md").read_text().replace("\\", "")
    assert said in (out / "report.html").read_text().replace("&#x27;", "'").replace("&#39;", "'")
    rows = foresee(workshop.recipe, workshop.store, (workshop.root,), None)
    assert [(row.summary, row.calibration) for row in rows] == [("cached", None), ("cached", said)]
    alone, _ = workshop.build(only="fp32@*")
    assert alone["calibration"] == record["calibration"]
    assert [one["accuracy"]["n"] for one in alone["candidates"]] == [32]


def test_nothing_is_held_out_where_no_step_needs_it(workshop: Workshop) -> None:
    for variants in ("{fp32: [], int8: [quantize: dynamic]}", "{fp32: [], int8: [quantize]}", "{fp32: []}"):
        workshop.edit(lambda text, said=variants: f"{text.partition('variants:')[0]}variants: {said}\n")  # type: ignore[misc]
        found = settled(workshop)
        assert (found.data, found.use, found.missing) == (None, None, None)
        assert found.evaluation.tree == float_model(workshop)[1].tree


def test_a_share_that_is_asked_for_is_taken(workshop: Workshop) -> None:
    workshop.edit(lambda text: text.replace("evaluation: eval.npz", "evaluation: eval.npz, calibration: {held_out: 0.5}"))
    found = settled(workshop)
    assert found.use is not None
    assert (found.use.samples, found.use.of) == (20, 40)
    assert found.data is not None
    assert len(found.data.calls) == len(found.evaluation.calls) == 20
    calibration.check_disjoint(found.evaluation, found.data)


def test_the_same_samples_in_another_order_calibrate_the_same(workshop: Workshop) -> None:
    evaluated(workshop, 60)
    first = settled(workshop)
    evaluated(workshop, 60, slice(None, None, -1))
    second = settled(workshop)
    assert first.data is not None
    assert second.data is not None
    one, other = (json.loads((each.data.dir / "samples.json").read_bytes()) for each in (first, second) if each.data)
    assert one != other
    assert sorted(one) == sorted(other)


def test_too_few_samples_are_said_and_none_is_held_out(workshop: Workshop) -> None:
    evaluated(workshop, 12)
    found = settled(workshop)
    assert found.data is None
    assert len(found.evaluation.calls) == 12
    assert found.missing is not None
    assert "has 12 samples" in found.missing
    assert "of which a share of 0.2 gives 2 to calibrate on, fewer than 5" in found.missing
    workshop.edit(lambda text: text.replace("evaluation: eval.npz", "evaluation: eval.npz, calibration: {held_out: 0.5}"))
    assert settled(workshop).use is not None
    evaluated(workshop, 1)
    with pytest.raises(RecipeError, match=r"data\.calibration: the evaluation data has 1 sample"):
        settled(workshop)


def test_random_numbers_calibrate_only_where_the_recipe_says_so(workshop: Workshop) -> None:
    workshop.edit(lambda text: text.replace("evaluation: eval.npz", "evaluation: eval.npz, calibration: random"))
    found = settled(workshop)
    assert found.use is not None
    assert found.use.source == "random"
    assert found.data is not None
    assert found.evaluation.tree == float_model(workshop)[1].tree
    assert len({call["inputs"]["x"]["offset"] for call in found.data.calls}) == len(found.data.calls) >= 20
    assert "random numbers" in summary.calibration_text(found.use)


@pytest.mark.slow
def test_a_build_with_too_few_goes_on_without_static_int8(workshop: Workshop) -> None:
    evaluated(workshop, 12)
    record, _ = workshop.build()
    assert record["calibration"] is None
    float_, static = record["candidates"]
    assert (float_["status"], static["status"]) == ("ok", "failed")
    assert "neither in the recipe nor held out of the evaluation data" in static["reasons"][0]
