from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.support import workshop as workshop_
from tests.support.workshop import Workshop

from mlpack.core import digest
from mlpack.errors import MlpackError, PackError, PassError, RecipeError
from mlpack.pipeline import booting, outlook, verbs
from mlpack.report.record import files as record_files
from mlpack.targets import shipped


def test_build_leaves_a_booted_package_and_its_record(built: Workshop) -> None:
    out = built.root / "out"
    record = record_files.read(out / "build.json").to_json()
    assert record["chosen"] in {"fp32@lambda-zip-x86_64", "int8@lambda-zip-x86_64"}
    assert {one["id"]: one["status"] for one in record["candidates"]} == {
        "fp32@lambda-zip-x86_64": "ok",
        "int8@lambda-zip-x86_64": "ok",
    }
    package = out / record["artifact"]["path"]
    assert str(digest.of_file(package)) == record["artifact"]["digest"]
    for name, fact in record["files"].items():
        assert str(digest.of_file(out / name)) == fact["digest"]
    assert {path.name for path in out.iterdir()} == {"build.json", "report.md", "report.html", "artifacts"}


def test_every_number_of_a_candidate_was_measured(built: Workshop) -> None:
    for one in record_files.read(built.root / "out/build.json").to_json()["candidates"]:
        assert one["latency_ms"]["n"] == 20
        assert len(one["cold_start_ms"]["samples"]) == 2
        assert one["peak_memory_bytes"] > 10_000_000
        assert one["throughput_per_s"] > 0
        assert one["accuracy"]["n"] == 40
        assert one["cost_per_million_usd"] > 0.2
        assert one["package"]["size_bytes"] == sum(v for k, v in one["package"]["parts"].items() if v and k != "base")


def test_float_is_right_everywhere_and_is_its_own_baseline(built: Workshop) -> None:
    record = record_files.read(built.root / "out/build.json").to_json()
    (fp32,) = (one for one in record["candidates"] if one["variant"] == "fp32")
    assert fp32["accuracy"]["value"] == 1.0
    assert fp32["accuracy"]["drop"] == 0.0
    assert record["baseline"]["value"] == 1.0


def test_the_package_answers_its_own_sample(built: Workshop) -> None:
    up = booting.run_package(built.root / "out", None, lambda _name: None, memory_mb=None, timeout_s=60)
    answer = booting.body_of(up.answer)
    assert answer["model_name"] == "tiny"
    assert answer["outputs"][0]["shape"] == [1, workshop_.CLASSES]
    labels = np.load(built.root / "eval.npz")["labels"]
    assert int(np.argmax(answer["outputs"][0]["data"])) == labels[0]


@pytest.mark.slow
def test_a_rebuild_runs_nothing_and_gives_the_same_record(workshop: Workshop) -> None:
    first, _ = workshop.build()
    actions = {path: path.stat().st_ino for path in (workshop.store.root / "actions").iterdir()}
    again, _ = workshop.build()
    assert {path: path.stat().st_ino for path in (workshop.store.root / "actions").iterdir()} == actions
    changing = ("seconds",)
    for one in (*first["candidates"], *again["candidates"]):
        for step in one["steps"]:
            step.pop("cached")
    assert {k: v for k, v in first.items() if k not in changing} == {k: v for k, v in again.items() if k not in changing}


@pytest.mark.slow
def test_a_rebuild_imports_no_framework(built: Workshop) -> None:
    """What a CI job with nothing to do pays for: the heavy packages must not even be looked at."""
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
import io, json
from pathlib import Path
from mlpack.cli.console import Console
from mlpack.pipeline.outlook import foresee
from mlpack.pipeline.verbs import Options, build
from mlpack.store.local import Store
from tests.support import workshop
root, store = Path({str(built.root)!r}), Store(Path({str(built.store.root)!r}))
assert all(row.summary == "cached" for row in foresee(root / "recipe.yaml", store, (root,), None))
build(root / "recipe.yaml", store, (root,), Options(out=root / "again", effort=workshop.QUICK), Console(quiet=True))
print(json.dumps(sorted({{"torch", "onnx", "onnxruntime", "numpy", "transformers"}} & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.slow
def test_builds_in_different_directories_give_equal_packages(built: Workshop, tmp_path: Path) -> None:
    other = workshop_.make(tmp_path / "somewhere/else")
    record, _ = other.build(keep_all=True)
    known = {
        one["id"]: one["package"]["digest"] for one in record_files.read(built.root / "out/build.json").to_json()["candidates"]
    }
    assert {one["id"]: one["package"]["digest"] for one in record["candidates"]} == known


@pytest.mark.slow
def test_only_builds_what_matches(workshop: Workshop) -> None:
    record, _ = workshop.build(only="int8@*")
    assert [one["id"] for one in record["candidates"]] == ["int8@lambda-zip-x86_64"]
    assert record["candidates"][0]["ratio_to_baseline"] is not None


@pytest.mark.slow
def test_auto_skips_what_makes_no_sense_and_plan_says_so_once(workshop: Workshop) -> None:
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", workshop_.FEATURES]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"], "only")], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), workshop.root / "model.onnx")
    workshop.edit(lambda text: text.replace("metric: top1", "metric: cosine"))
    record, _ = workshop.build()
    rows = {row.id: row for row in outlook.foresee(workshop.recipe, workshop.store, (workshop.root,), None)}
    (int8,) = (one for one in record["candidates"] if one["variant"] == "int8")
    assert int8["status"] == "skipped"
    assert int8["reasons"] == [rows[int8["id"]].skipped]
    assert "(no weights)" in int8["reasons"][0]
    assert rows[int8["id"]].why is None
    assert "the baseline of every comparison" in str(rows["fp32@lambda-zip-x86_64"].why)


@pytest.mark.slow
def test_keep_all_leaves_every_package(workshop: Workshop) -> None:
    _, out = workshop.build(keep_all=True)
    assert {path.name for path in (out / "artifacts").iterdir()} == {"fp32@lambda-zip-x86_64", "int8@lambda-zip-x86_64"}


@pytest.mark.slow
def test_nothing_within_budget_is_an_answer_with_all_measured(workshop: Workshop) -> None:
    workshop.edit(lambda text: text + "budgets: {package_size: 1kB}\n")
    record, out = workshop.build()
    assert record["chosen"] is None
    assert not (out / "artifacts").exists()
    for one in record_files.read(out / "build.json").to_json()["candidates"]:
        assert one["status"] == "over_budget"
        assert one["latency_ms"]["n"] > 0
        assert any("package size" in reason for reason in one["reasons"])


@pytest.mark.slow
def test_a_layer_and_function_zip_answers_too(workshop: Workshop) -> None:
    workshop.edit(lambda text: text.replace("memory_mb: 1769", "memory_mb: 1769, layer: true"))
    prefixed = pack_runtime_at_layer(workshop)
    record, out = workshop.build(only="int8@*")
    assert prefixed
    assert record["artifact"]["kind"] == "layer-zip"
    assert {"function.zip", "layer.zip"} <= {path.name for path in (out / record["artifact"]["path"]).iterdir()}


def pack_runtime_at_layer(workshop: Workshop) -> bool:
    """The seeded runtime once more, for the prefix under which layers lie."""
    from mlpack.core.records import Target
    from mlpack.pipeline.packing import pack, wheels
    from mlpack.targets import LambdaZip

    lock = wheels.read_lock(workshop.root / wheels.LOCK_NAME)
    pins = lock.wheels[wheels.platform_key(workshop_.PYTHON, "x86_64")]

    def key(*, layer: bool) -> dict[str, object]:
        target = Target(kind="lambda-zip", arch="x86_64", config=LambdaZip(layer=layer))
        return {"kind": "runtime", **pack.runtime_key(pack.runtime_request(target, workshop_.PYTHON, False, pins))}

    plain = workshop.store.find(key(layer=False))
    assert plain is not None
    with workshop.store.entry(key(layer=True)) as entry:
        import shutil

        shutil.copytree(plain.dir, entry.dir, dirs_exist_ok=True)
    return True


def test_static_int8_is_refused_where_calibration_is_forbidden(workshop: Workshop) -> None:
    workshop.edit(lambda text: text + "variants: {float: [], static: [{quantize: {method: static}}]}\n")
    workshop.edit(lambda text: text.replace("calibration: calib.npz", "calibration: none"))
    with pytest.raises(RecipeError, match=r"data\.calibration says none"):
        workshop.build()


def test_a_broken_float_baseline_stops_the_build(workshop: Workshop) -> None:
    model = workshop.root / "model.onnx"
    model.write_bytes(model.read_bytes()[:-20])
    with pytest.raises(PassError, match="cut off"):
        workshop.build()
    assert not (workshop.root / "out").exists()


def test_a_missing_external_file_is_named(workshop: Workshop) -> None:
    (workshop.root / "model.onnx.data").unlink()
    with pytest.raises(MlpackError, match=r"model\.onnx\.data"):
        workshop.build()


def test_data_with_a_pickle_is_refused_unopened(workshop: Workshop, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "executed",))

    x = np.load(workshop.root / "eval.npz")["x"]
    np.savez(workshop.root / "eval.npz", x=x, labels=np.array([Evil()] * len(x), dtype=object))
    with pytest.raises(RecipeError, match="pickle"):
        workshop.build()
    assert not (tmp_path / "executed").exists()


def test_counts_that_disagree_are_told(workshop: Workshop) -> None:
    data = np.load(workshop.root / "eval.npz")
    np.savez(workshop.root / "eval.npz", x=data["x"], labels=data["labels"][:-3])
    with pytest.raises(RecipeError, match="37 labels for 40 samples"):
        workshop.build()


def test_labels_out_of_range_are_told(workshop: Workshop) -> None:
    data = np.load(workshop.root / "eval.npz")
    np.savez(workshop.root / "eval.npz", x=data["x"], labels=data["labels"] + workshop_.CLASSES)
    with pytest.raises(RecipeError, match="label"):
        workshop.build()


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("mae", "a label has 1 number, and no output as many"),
        ("mean_iou", "are no maps"),
        ("multilabel_f1", "one class a sample: f1"),
    ],
)
def test_impossible_labels_are_told_before_any_step(
    workshop: Workshop, metric: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.edit(lambda text: text.replace("metric: top1", f"metric: {metric}"))
    monkeypatch.setattr(verbs.transform, "run_steps", lambda *_: pytest.fail("a step was run"))
    with pytest.raises(RecipeError, match=said):
        workshop.build()


def test_calibration_may_not_overlap_evaluation(workshop: Workshop) -> None:
    x = np.load(workshop.root / "eval.npz")["x"]
    np.savez(workshop.root / "calib.npz", x=x[5:9])
    with pytest.raises(RecipeError, match="4 of 4 calibration samples are evaluation samples"):
        workshop.build()


def test_an_output_directory_that_is_not_a_builds_is_left_alone(workshop: Workshop) -> None:
    out = workshop.root / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(RecipeError, match="not a build's"):
        workshop.build()
    assert (out / "thesis.tex").read_text() == "precious"


@pytest.mark.slow
def test_a_second_build_replaces_the_first_whole(workshop: Workshop) -> None:
    _, out = workshop.build(keep_all=True)
    workshop.build()
    assert len(list((out / "artifacts").iterdir())) == 1
    assert [path.name for path in workshop.root.iterdir() if path.name.startswith(".out")] == []


@pytest.mark.slow
def test_a_package_that_does_not_boot_cannot_win(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook is the fault that only booting finds: measuring runs the model, a request runs the hook too."""
    (workshop.root / "app.py").write_text("def decode(body):\n    raise RuntimeError('no such luck')\n")
    (workshop.root / "request.json").write_text('{"picture": "of a cat"}')
    workshop.edit(lambda text: text + "serve: {preprocess: 'app:decode', example: request.json}\n")
    record, _ = workshop.build()
    assert record["chosen"] is None
    for one in record["candidates"]:
        assert one["status"] == "failed"
        assert "no such luck" in one["reasons"][0]


def test_run_package_names_what_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="neither a build's directory"):
        booting.run_package(tmp_path, None, lambda _name: None, memory_mb=None, timeout_s=5)


@pytest.mark.slow
def test_plan_says_which_field_changed(workshop: Workshop) -> None:
    workshop.build()
    workshop.edit(lambda text: text + "variants: {fp32: [], int8: [{quantize: {method: dynamic, per_channel: false}}]}\n")
    rows = outlook.foresee(workshop.recipe, workshop.store, (workshop.root,), None)
    (int8,) = (row for row in rows if row.id.startswith("int8"))
    (quantize,) = (step for step in int8.steps if step.name == "quantize")
    assert quantize.why == ("config.method: auto → dynamic", "config.per_channel: None → False")
    assert int8.summary == "must run: quantize, optimize"


@pytest.mark.slow
def test_target_for_another_processor_is_packed_unmeasured(workshop: Workshop) -> None:
    workshop.edit(lambda text: text.replace("arch: x86_64", "arch: arm64"))
    workshop_.seed_runtime(workshop.root, workshop.store, arch="arm64")
    record, _ = workshop.build()
    assert record["chosen"] is None or all(one["latency_ms"]["n"] in (0, None) for one in record["candidates"])


@pytest.mark.slow
def test_quick_effort_takes_few_timings_and_says_so(workshop: Workshop) -> None:
    record, out = workshop.build(effort=verbs.EFFORTS["quick"])
    assert record["effort"] == "quick"
    for one in record["candidates"]:
        assert 20 <= one["latency_ms"]["n"] <= 100
        assert len(one["cold_start_ms"]["samples"]) == 3
        assert one["latency_ms"]["p99"] is None
    assert re.search(r"measured with .*effort.* quick", (out / "report.md").read_text())
    workshop.edit(lambda text: text + "budgets: {latency_p99: 1s}\n")
    with pytest.raises(RecipeError, match=r"--effort quick takes 100 latencies, and budgets.latency_p99 needs 500"):
        workshop.build(effort=verbs.EFFORTS["quick"])


def test_options_have_defaults_that_build(workshop: Workshop) -> None:
    assert dataclasses.fields(verbs.Options)[0].name == "out"
    with pytest.raises(PackError):
        shipped.boot(workshop.root, b"{}")


WRONG_INPUTS = """\
inputs:
  x:
    dtype: int64
    shape: [batch,
            65]
  y: {dtype: float32, shape: [1]}
"""


def test_inputs_that_the_model_lacks_are_a_recipes_problem(workshop: Workshop) -> None:
    """By plan and by build, before anything is made, all at once and with their lines."""
    workshop.edit(lambda text: text + WRONG_INPUTS)
    first = workshop_.RECIPE.count("\n") + 1
    told = (
        f"{workshop.recipe}:{first + 2}: inputs.x.dtype: the model takes float32, not int64",
        f"{workshop.recipe}:{first + 4}: inputs.x.shape[1]: is 64 in the model and cannot become 65",
        f"{workshop.recipe}:{first + 5}: inputs.y: the model has no such input (it has x)",
    )
    with pytest.raises(RecipeError) as caught:
        outlook.foresee(workshop.recipe, workshop.store, (workshop.root,), None)
    assert caught.value.problems == told
    with pytest.raises(RecipeError) as caught:
        workshop.build()
    assert caught.value.problems == told
    assert not (workshop.root / "out").exists()


@pytest.mark.slow
def test_hooks_answer_plain_json(workshop: Workshop) -> None:
    (workshop.root / "app.py").write_text(
        "def decode(body):\n    return {'x': [[float(body['level'])] * 64]}\n\n"
        "def best(outputs):\n    scores = outputs['scores'].tolist()[0]\n    return {'class': scores.index(max(scores))}\n"
    )
    (workshop.root / "request.json").write_text('{"level": 1.5}')
    workshop.edit(lambda text: text + "serve: {preprocess: 'app:decode', postprocess: 'app:best', example: request.json}\n")
    _, out = workshop.build()
    up = booting.run_package(out, None, lambda _name: None, memory_mb=None, timeout_s=60)
    assert booting.body_of(up.answer)["class"] in range(workshop_.CLASSES)


@pytest.mark.slow
def test_float_too_large_to_ship_is_what_int8_is_compared_with(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason to quantize at all: without this, int8 would win without ever having been measured."""
    from mlpack.targets import limits

    first, _ = workshop.build(out=workshop.root / "first")
    size = {one["variant"]: one["package"]["size_bytes"] for one in first["candidates"]}
    assert size["int8"] < size["fp32"]
    monkeypatch.setattr(limits, "ZIP_UNZIPPED", dataclasses.replace(limits.ZIP_UNZIPPED, value=size["fp32"] - 1))
    for path in (workshop.store.root / "actions").iterdir():
        if json.loads(path.read_bytes())["action"]["kind"] in ("package", "measurement", "boot"):
            path.unlink()
    record, out = workshop.build()
    assert record["chosen"] == "int8@lambda-zip-x86_64"
    (int8,) = (one for one in record["candidates"] if one["variant"] == "int8")
    (fp32,) = (one for one in record["candidates"] if one["variant"] == "fp32")
    assert fp32["status"] == "over_budget"
    assert int8["accuracy"]["drop"] is not None
    assert int8["ratio_to_baseline"] is not None
    assert record["baseline"]["value"] == 1.0
    assert {path.name for path in (out / "artifacts").iterdir()} == {"int8@lambda-zip-x86_64"}


@pytest.mark.slow
def test_another_sample_is_booted_anew(workshop: Workshop) -> None:
    """The request that a package is booted with is no part of what is deployed, but of what was proved."""

    def boots() -> int:
        actions = (json.loads(path.read_bytes())["action"]["kind"] for path in (workshop.store.root / "actions").iterdir())
        return sum(1 for kind in actions if kind == "boot")

    workshop.build(only="fp32@*")
    before = boots()
    first = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}]})
    (workshop.root / "request.json").write_text(first)
    workshop.edit(lambda text: text + "serve: {example: request.json}\n")
    workshop.build(only="fp32@*")
    assert boots() == before + 1


@pytest.mark.slow
def test_axes_of_one_name_are_told_apart_by_the_data(workshop: Workshop) -> None:

    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "N"]) for name in ("x", "y", "z")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "y"], ["z"])], "g", ends[:2], ends[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), workshop.root / "model.onnx")
    random = np.random.default_rng(0)
    given = {"x": random.normal(size=(8, 2, 3)).astype("float32"), "y": random.normal(size=(8, 3, 4)).astype("float32")}
    np.savez(workshop.root / "eval.npz", **given)
    workshop.edit(lambda text: text.replace(", calibration: calib.npz", "").replace("metric: top1\n", "variants: {fp32: []}\n"))
    record, _ = workshop.build()
    assert record["chosen"] == "fp32@lambda-zip-x86_64"
    assert all(row.summary == "cached" for row in outlook.foresee(workshop.recipe, workshop.store, (workshop.root,), None))
    np.savez(workshop.root / "eval.npz", x=given["x"], y=given["x"])
    with pytest.raises(RecipeError, match="one call needs one length"):
        workshop.build()
