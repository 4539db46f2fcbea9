"""Searches between int8 and float in real builds: one bad layer is found, counted, kept in the store and drawn."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support import ladder_models
from tests.support.ladder_models import BAD, LAYERS, PLAIN, RECIPE
from tests.support.workshop import Workshop

from mlpack.core import machine
from mlpack.decide import ladder
from mlpack.graphs import files
from mlpack.passes.quantize import Quantize, rungs
from mlpack.pipeline import outlook, proof
from mlpack.pipeline.search import climbing
from mlpack.report.record import files as record_files

INT8 = "int8@lambda-zip-x86_64"


def of(record: dict[str, Any], name: str = INT8) -> dict[str, Any]:
    """A candidate of a record."""
    return next(one for one in record["candidates"] if one["id"] == name)


def kinds(made: Workshop) -> Counter[str]:
    """How often each kind of action was done in the store."""
    return Counter(json.loads(path.read_bytes())["action"]["kind"] for path in (made.store.root / "actions").iterdir())


@pytest.mark.parametrize(
    "make",
    [
        ladder_models.chain,
        pytest.param(ladder_models.convolutions, marks=pytest.mark.slow),
    ],
)
def test_one_bad_layer_alone_goes_back_to_float(make: Callable[[Path], Workshop], tmp_path: Path) -> None:
    """Within log2(n) + 5 evaluations, and a rebuild evaluates nothing."""
    made = make(tmp_path / "project")
    record, out = made.build(keep_all=True)
    one = of(record)
    search = one["search"]
    assert one["status"] == "ok"
    assert one["accuracy"]["drop"] <= 0.01 < search["tried"][0]["drop"]
    assert search["layers"] == LAYERS
    assert search["taken"] == len(search["tried"]) - 1
    kept = search["tried"][-1]["kept_float"]
    assert [name[-1] for name in kept] == [str(BAD)]
    assert search["damage"][0]["node"] == kept[0]
    assert search["damage"][0]["damage"] > 10 * search["damage"][1]["damage"]
    # What comes in from the bad layer is not counted against those behind it.
    assert len(search["damage"]) == LAYERS
    assert all(row["damage"] < 0.01 for row in search["damage"][1:])
    assert len(search["tried"]) <= math.log2(LAYERS) + 5
    done = kinds(made)
    assert done["rung"] == done["step/quantize"] == done["accuracy"] == len(search["tried"])
    assert done["damage"] == done["measurement"] == 1
    (quantize,) = (step for step in one["steps"] if step["pass"] == "quantize")
    assert quantize["config"]["keep_float"] == kept
    assert {row.summary for row in outlook.foresee(made.recipe, made.store, (made.root,), None)} == {"cached"}

    again, _ = made.build(keep_all=True)
    assert kinds(made) == done
    assert of(again)["search"] == search
    assert of(again)["package"] == one["package"]

    told = (out / "report.md").read_text()
    assert f"2 forms tried, at most {ladder.most(LAYERS)} for {LAYERS} layers" in told
    page = (out / "report.html").read_text()
    assert f"Accuracy drop of each form of {INT8}" in page
    assert page.count("budget 0.01") == 2
    assert record_files.read(out / "build.json").to_json()["candidates"] == again["candidates"]


@pytest.mark.slow
def test_what_is_inside_ships_the_bytes_of_a_build_unsearched(tmp_path: Path) -> None:
    made = ladder_models.chain(tmp_path / "project", RECIPE.replace("0.01", "2").replace("prefer: size", "prefer: accuracy"))
    record, _ = made.build()
    search = of(record)["search"]
    assert [tried["name"] for tried in search["tried"]] == ["unchanged"]
    assert search["taken"] == 0
    assert search["damage"] == []
    made.edit(lambda text: text.replace("{minutes: 60}", "off"))
    off, _ = made.build()
    assert of(off)["search"] is None
    assert of(off)["package"] == of(record)["package"]


@pytest.mark.slow
def test_one_of_three_lstms_goes_back_to_float(tmp_path: Path) -> None:
    made = ladder_models.recurrent(tmp_path / "project")
    record, _ = made.build()
    search = of(record)["search"]
    assert [[name[-1] for name in tried["kept_float"]] for tried in search["tried"]] == [[], ["1"]]
    assert of(record)["status"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("said", ["search: off\n", "search: {minutes: 0}\n", "search: false\n", ""])
def test_the_recipe_may_forbid_it(said: str, tmp_path: Path) -> None:
    """By its key, or by saying which nodes stay float."""
    made = ladder_models.chain(tmp_path / "project", PLAIN + said)
    if not said:
        made.edit(lambda text: text.replace("[quantize]", "[{quantize: {keep_float: [product0]}}]"))
    record, _ = made.build()
    assert of(record)["search"] is None
    assert of(record)["status"] == "over_budget"
    rows = {row.id: row.search for row in outlook.foresee(made.recipe, made.store, (made.root,), None)}
    assert rows[INT8] is None


def test_plan_says_what_would_be_tried(tmp_path: Path) -> None:
    made = ladder_models.chain(tmp_path / "project", PLAIN)
    rows = {row.id: row for row in outlook.foresee(made.recipe, made.store, (made.root,), None)}
    assert rows["fp32@lambda-zip-x86_64"].search is None
    said = rows[INT8].as_json()["search"]
    assert "layers back in float, those with the most damage first, " in said
    assert "at most log2(layers) + 5 forms and at most 3 times the time of the float's build, 20 s to 5 min," in said
    assert ", float; until" not in said
    assert "do not pay" not in said  # nobody asks for speed
    made.edit(lambda text: text.replace("fp32: [], ", ""))
    made.edit(lambda text: text.replace("prefer: size", "prefer: cost") + "search: {minutes: 7}\n")
    (row,) = outlook.foresee(made.recipe, made.store, (made.root,), None)
    assert ", float; until" in str(row.search)
    assert "and those that do not pay for their conversions" in str(row.search)
    assert "forms and at most 7 min for all candidates" in str(row.search)


@pytest.mark.slow
def test_time_that_is_over_ends_it_between_two_forms(tmp_path: Path) -> None:
    """And nothing over budget ships; what the next build has more time for goes on from there."""
    made = ladder_models.chain(tmp_path / "project", PLAIN + "search: {minutes: 0.000001}\n")
    record, _ = made.build()
    one = of(record)
    assert one["status"] == "over_budget"
    assert record["chosen"] == "fp32@lambda-zip-x86_64"
    assert len(one["search"]["tried"]) == 1
    assert one["search"]["taken"] is None
    assert "minutes were over before rung 2 (search.minutes)" in one["search"]["ended"]
    made.edit(lambda text: text.replace("0.000001", "10"))
    record, _ = made.build()
    assert of(record)["status"] == "ok"
    assert kinds(made)["damage"] == 1


@pytest.mark.slow
def test_nothing_may_be_lost(tmp_path: Path) -> None:
    """`accuracy_drop: 0`: no int8 form keeps it, and the float that is a candidate of its own is not shipped under another name."""
    made = ladder_models.chain(tmp_path / "project", RECIPE.replace("accuracy_drop: 0.01", "accuracy_drop: 0"))
    record, _ = made.build()
    one = of(record)
    assert record["chosen"] == "fp32@lambda-zip-x86_64"
    assert one["status"] == "over_budget"
    assert one["search"]["taken"] is None
    assert one["search"]["ended"] == "no rung is inside every budget"
    assert len(one["search"]["tried"]) <= math.log2(LAYERS) + 5


@pytest.mark.slow
def test_what_is_too_slow_has_its_least_useful_layers_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the work that they do for what they move, not by damage, and with no options. Where nothing is quick enough, the first
    form stands unchanged. A thousandth of a nanosecond is a budget that no machine keeps."""
    monkeypatch.setattr(climbing, "_QUICKER", 0.0)  # whatever this machine's kernels do
    budget = "budgets: {accuracy_drop: 2, latency_p50: 0.000001us}"
    made = ladder_models.chain(tmp_path / "project", RECIPE.replace("budgets: {accuracy_drop: 0.01}", budget))
    record, _ = made.build()
    search = of(record)["search"]
    assert record["chosen"] is None
    assert search["taken"] is None
    assert [len(tried["kept_float"]) for tried in search["tried"]] == [0, 6, 9, 10, 11]
    assert all(tried["ratio"] is not None and not tried["options"] for tried in search["tried"])
    assert all("latency p50" in tried["why"] for tried in search["tried"])


@pytest.mark.slow
def test_what_is_quicker_than_its_float_is_not_slowed_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of the float would not bring it below a budget that it misses."""
    monkeypatch.setattr(climbing, "_QUICKER", math.inf)  # whatever this machine's kernels do
    budget = "budgets: {accuracy_drop: 2, latency_p50: 0.000001us}"
    made = ladder_models.chain(tmp_path / "project", RECIPE.replace("budgets: {accuracy_drop: 0.01}", budget))
    record, _ = made.build()
    search = of(record)["search"]
    assert [tried["name"] for tried in search["tried"]] == ["unchanged"]
    assert search["taken"] is None
    assert "quicker than its float already" in search["ended"]


@pytest.mark.slow
def test_one_quantized_node_has_no_layers_to_choose_from(tmp_path: Path) -> None:
    """Options are tried; then nothing is left, and what stands there is the first form."""
    recipe = RECIPE.replace("accuracy_drop: 0.01", "accuracy_drop: 0")
    made = ladder_models.chain(tmp_path / "project", recipe, layers=1, bad=9)
    record, _ = made.build()
    search = of(record)["search"]
    assert (search["layers"], search["most"], search["taken"]) == (1, 5, None)
    assert all(not tried["kept_float"] for tried in search["tried"])
    assert 1 < len(search["tried"]) <= 5
    assert of(record)["status"] == "over_budget"


@pytest.mark.slow
def test_the_last_rung_is_float_where_float_is_no_candidate(tmp_path: Path) -> None:
    recipe = RECIPE.replace("accuracy_drop: 0.01", "accuracy_drop: 0").replace("fp32: [], ", "")
    made = ladder_models.chain(tmp_path / "project", recipe)
    record, out = made.build()
    assert record["chosen"] == INT8
    one = of(record)
    assert one["search"]["tried"][-1]["name"] == "float"
    assert one["accuracy"]["drop"] == 0
    assert all(step["pass"] != "quantize" for step in one["steps"])
    assert "float ships" in (out / "report.md").read_text()


EMULATOR = """\
#!/bin/sh
# Stands for qemu: runs what has exact sums as this machine does, and nothing else.
case "$1" in --version) echo stand-in 1; exit;; esac
shift 2
case "$(cat model/model.json)" in *x64quantprecision*) exec "$@";; esac
exit 3
"""
WIDE = RECIPE.replace("[quantize]", "[{quantize: {reduce_range: false}}]").replace(
    "accuracy_drop: 0.01", "accuracy_drop: 0.05, isa: proven"
)
NATIVE = proof._native(machine.this_machine()) is not None
needs_vnni = pytest.mark.skipif(NATIVE, reason="what is measured here is proven here")


def stand_in(folder: Path) -> Callable[[str], Path | None]:
    """An emulator, by the name of a real one."""
    path = folder / "emulator"
    path.write_text(EMULATOR)
    path.chmod(0o755)
    return lambda name: path if name == "qemu-x86_64-static" else None


@needs_vnni
@pytest.mark.slow
def test_full_range_weights_that_are_not_proven_get_exact_sums(tmp_path: Path) -> None:
    """And stay full-range, as the recipe says. Without an emulator it ends over budget, and says what to change."""
    made = ladder_models.chain(tmp_path / "project", WIDE, layers=2, bad=99)
    record, _ = made.build(tools=stand_in(tmp_path))
    one = of(record)
    assert [tried["name"] for tried in one["search"]["tried"]] == ["unchanged", "exact sums"]
    assert one["search"]["taken"] == 1
    assert one["search"]["ended"] == "inside every budget"
    assert one["accuracy"]["proof"]["how"] == "run"
    configs = {step["pass"]: step["config"] for step in one["steps"]}
    assert configs["optimize"]["exact"] is True
    assert configs["quantize"]["reduce_range"] is False
    assert not any("proven (isa: proven)" in reason and "not" in reason for reason in one["reasons"])

    record, _ = made.build()
    one = of(record)
    assert one["status"] == "over_budget"
    assert one["search"]["taken"] is None
    assert len(one["search"]["tried"]) <= ladder.most(2)
    assert any("leave `reduce_range: false` out" in reason and "qemu-user-static" in reason for reason in one["reasons"])
    rows = {row.id: row.search for row in outlook.foresee(made.recipe, made.store, (made.root,), None)}
    assert "exact sums where its accuracy is not proven" in str(rows[INT8])


@needs_vnni
@pytest.mark.slow
def test_seven_bits_need_no_exact_sums(tmp_path: Path) -> None:
    made = ladder_models.chain(tmp_path / "project", WIDE.replace("false", "true"), layers=2, bad=99)
    record, _ = made.build(tools=stand_in(tmp_path))
    assert [tried["name"] for tried in of(record)["search"]["tried"]] == ["unchanged"]
    assert of(record)["accuracy"]["proof"]["how"] == "static"


@needs_vnni
@pytest.mark.slow
def test_exact_sums_and_layers_in_float_come_together(tmp_path: Path) -> None:
    """One bad layer, and full-range weights in the others: within the bound, counted with what had to be mended."""
    made = ladder_models.chain(tmp_path / "project", WIDE.replace("0.05", "0.01"))
    record, _ = made.build(tools=stand_in(tmp_path))
    one = of(record)
    assert one["status"] == "ok"
    assert one["search"]["tried"][-1]["options"] == {"exact": True}
    assert [name[-1] for name in one["search"]["tried"][-1]["kept_float"]] == [str(BAD)]
    assert len(one["search"]["tried"]) <= math.log2(LAYERS) + 5


@needs_vnni
@pytest.mark.slow
def test_a_model_that_somebody_else_quantized_is_proven_too(tmp_path: Path) -> None:
    """It has no step to vary but the last."""
    import onnx

    from mlpack.passes import PASSES

    made = ladder_models.chain(
        tmp_path / "project", WIDE.replace(", int8: [{quantize: {reduce_range: false}}]", ""), layers=2, bad=99
    )
    for name in ("given", "quantized"):
        (tmp_path / name).mkdir()
    files.save(onnx.load(made.root / "model.onnx"), tmp_path / "given")
    PASSES["quantize"].run(tmp_path / "given", Quantize(reduce_range=False), tmp_path / "quantized")
    onnx.save(onnx.load(tmp_path / "quantized" / files.MODEL), made.root / "model.onnx")
    record, _ = made.build(tools=stand_in(tmp_path))
    one = of(record, "fp32@lambda-zip-x86_64")
    assert record["chosen"] == one["id"]
    assert [tried["name"] for tried in one["search"]["tried"]] == ["unchanged", "exact sums"]
    record, _ = made.build()
    one = of(record, "fp32@lambda-zip-x86_64")
    assert one["status"] == "over_budget"
    assert "quantized before" in one["search"]["ended"]
    made.edit(lambda text: text.replace(", isa: proven", ""))
    record, _ = made.build()
    assert of(record, "fp32@lambda-zip-x86_64")["search"] is None


EXACTING = RECIPE.replace("accuracy_drop: 0.01", "accuracy_drop: 0.000001")
"""No 8-bit layer keeps it, and 16 bits do."""


@pytest.mark.slow
def test_sixteen_bits_are_a_rung_where_the_float_is_too_large(tmp_path: Path) -> None:
    """And without a budget on bytes they are none, on a processor that does not compute in them."""
    made = ladder_models.chain(tmp_path / "project", EXACTING, layers=2, bad=99)
    record, _ = made.build()
    assert of(record)["status"] == "over_budget"
    assert "16-bit float" not in [tried["name"] for tried in of(record)["search"]["tried"]]
    float_ = of(record, "fp32@lambda-zip-x86_64")["package"]["size_bytes"]
    made.edit(lambda text: text.replace("budgets: {", f"budgets: {{package_size: {float_ - 1}B, "))
    record, _ = made.build()
    one = of(record)
    assert record["chosen"] == INT8
    assert one["search"]["tried"][-1]["name"] == "16-bit float"
    assert one["search"]["taken"] == len(one["search"]["tried"]) - 1
    assert len(one["search"]["tried"]) <= ladder.most(2)
    assert [step["pass"] for step in one["steps"]] == ["simplify", "precision", "optimize"]
    assert one["package"]["size_bytes"] < float_
    assert 0 < one["accuracy"]["drop"] <= 1e-6
    rows = {row.id: row.search for row in outlook.foresee(made.recipe, made.store, (made.root,), None)}
    assert "16-bit float; until" in str(rows[INT8])


@pytest.mark.slow
def test_sixteen_bits_are_rung_where_processor_computes_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table's word for this machine's processor is another one's: everything else is as it is."""
    import dataclasses

    from mlpack.targets import TARGETS

    row = dataclasses.replace(TARGETS["lambda-zip"], float16_archs=("arm64", "x86_64"))
    monkeypatch.setitem(TARGETS.own, "lambda-zip", row)
    made = ladder_models.chain(tmp_path / "project", EXACTING, layers=2, bad=99)
    record, _ = made.build()
    assert record["chosen"] is not None
    one = of(record)
    assert one["status"] == "ok"
    assert one["search"]["tried"][-1]["name"] == "16-bit float"


def test_options_leave_alone_what_the_recipe_says() -> None:
    assert "scales by channel" not in {option.name for option in rungs.offered(Quantize(), None)}
    for option in rungs.OPTIONS:
        if option.field in Quantize.__slots__:
            said = Quantize(**{option.field: option.value})
            assert option not in rungs.offered(said, None)


def test_scales_by_channel_are_offered_where_weights_have_one() -> None:
    notes = {"method": "dynamic", "nodes": {"a": "dynamic"}, "quantized": {"LSTM": 1}}

    def offered(config: Quantize, notes: dict[str, Any]) -> list[str]:
        return [option.name for option in rungs.offered(config, notes, calibrated=False)]

    assert offered(Quantize(), notes | {"one_scale": ["a"]}) == ["scales by channel"]
    assert offered(Quantize(), notes) == []
    assert offered(Quantize(per_channel=False), notes | {"one_scale": ["a"]}) == []


def test_options_are_those_that_can_help() -> None:
    """By what was quantized and how, and by what there is to calibrate with."""
    convolutions = {"method": "static", "nodes": {"a": "static"}, "quantized": {"Conv": 3}}
    products = {"method": "dynamic", "nodes": {"a": "dynamic"}, "quantized": {"MatMul": 3}}

    def names(notes: dict[str, Any] | None, *, calibrated: bool = True) -> set[str]:
        return {option.name for option in rungs.offered(Quantize(per_channel=True), notes, calibrated=calibrated)}

    assert names(convolutions) == {"clipped ranges", "corrected biases"}
    assert names(products) == {"smoothed channels", "corrected biases"}
    assert names(products, calibrated=False) == set()
    assert names(None) == names(convolutions) | names(products)
