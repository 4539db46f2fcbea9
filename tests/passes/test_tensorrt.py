"""The tensorrt pass: engines without a GPU, a gate, a specification for later, and refusals in words."""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.models.small_models import calls_dir, onnx_dir
from tests.support.pass_harness import refusal

from mlpack.core import digest
from mlpack.errors import PassError
from mlpack.evaluation.data.calls import DATATYPES
from mlpack.graphs import check, files
from mlpack.passes import precision, tensorrt
from mlpack.passes.export import extras
from mlpack.passes.precision import Precision
from mlpack.passes.tensorrt import Tensorrt, build, child, golden, native
from mlpack.passes.tensorrt.profiles import Bounds
from mlpack.pipeline.packing import wheel_rules
from mlpack_runtime.tensor import Tensor
from mlpack_runtime.tensorrt import engine_key, engine_plan, engine_verify

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs that fail are kept there, and go with the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))


def made(model_dir: Path, out_dir: Path, **options: Any) -> dict[str, Any]:
    """The pass's specification."""
    out_dir.mkdir()
    tensorrt.run(model_dir, Tensorrt(**options), out_dir)
    spec: dict[str, Any] = json.loads((out_dir / "tensorrt.json").read_bytes())
    return spec


def one_node(folder: Path, operator: str, **attributes: Any) -> Path:
    """A classifier whose second layer is this operator."""
    folder.mkdir(parents=True)
    weights = np.random.default_rng(2).standard_normal((8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node(operator, ["r"], ["z"], name="odd", **attributes),
        helper.make_node("Relu", ["z"], ["y"], name="last"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 8]) for name in "xy"]
    made = helper.make_graph(nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(weights, "w")])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    files.save(helper.make_model(made, opset_imports=imports, ir_version=10), folder)
    files.finish(folder, folder, {})
    return folder


def test_engines_are_built_without_a_gpu_and_read_back(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    spec = made(onnx_dir(tmp_path / "m"), out_dir, builder="rtx", gpus=("sm86", "sm89"))
    assert [row["sm"] for row in spec["engines"]] == ["sm86", "sm89"]
    for row in spec["engines"]:
        data = (out_dir / row["file"]).read_bytes()
        assert (row["digest"], row["size_bytes"]) == (str(digest.of_bytes(data)), len(data))
        seen = engine_plan.inspect(data, ["x", "y", "nowhere"])
        assert (seen["version"], seen["size_bytes"], seen["names"]) == (spec["tensorrt"]["version"], len(data), ["x", "y"])
        assert engine_plan.problems(data, "rtx", spec["tensorrt"]["version"], row["sm"], ["x", "y"])[0] == []
    assert (spec["builder"], spec["precision"], spec["refused"]) == ("rtx", "fp32", {})
    assert spec["profiles"] == [{"x": {"min": [1, 64], "opt": [32, 64], "max": [32, 64]}}]
    notes = json.loads((out_dir / "notes.json").read_text())
    assert any("not deserialised" in note for note in notes["not_checked"])


def test_engines_do_not_know_where_they_were_built(tmp_path: Path) -> None:
    """Nor when: no clock, no path, no timing goes in."""
    digests = set()
    for name in ("one", "another-and-longer"):
        spec = made(onnx_dir(tmp_path / name / "m"), tmp_path / name / "out", builder="rtx", gpus=("sm89",))
        digests.add(spec["engines"][0]["digest"])
    assert len(digests) == 1


def test_keys_are_the_runtimes(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    spec = made(onnx_dir(tmp_path / "m"), out_dir, builder="rtx", gpus=("sm86",), workspace_mb=64)
    assert engine_key.read(str(out_dir)) == spec
    engine_key.check_graph(str(out_dir), spec)
    device = {"name": "NVIDIA A10G", "sm": "sm86", "driver": 12040}
    assert spec["engines"][0]["key"] == engine_key.key_here(spec, device) == engine_key.key(spec, "sm86")
    assert build.key_of(spec, "sm86", "NVIDIA A10G", 12) == engine_key.key(spec, "sm86", "NVIDIA A10G", 12)


def test_gpu_that_refuses_is_recorded_and_the_last_is_an_error(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m")
    spec = made(model_dir, tmp_path / "out", builder="rtx", gpus=("sm75", "sm89"))
    assert [row["sm"] for row in spec["engines"]] == ["sm89"]
    assert "FP32 GEMM is not supported" in spec["refused"]["sm75"]
    said = refusal("tensorrt", model_dir, Tensorrt(builder="rtx", gpus=("sm75",)), tmp_path / "none")
    assert "for sm75" in said
    assert "node 'first' (Gemm)" in said
    assert "`precision: fp16`" in said


def test_fp16_is_built_for_turing_too(tmp_path: Path) -> None:
    model_dir, half = onnx_dir(tmp_path / "m"), tmp_path / "half"
    half.mkdir()
    precision.run(model_dir, Precision(), half)
    spec = made(half, tmp_path / "out", builder="rtx", gpus=("sm75",))
    assert ([row["sm"] for row in spec["engines"]], spec["precision"]) == (["sm75"], "fp16")


@pytest.mark.parametrize(("operator", "code"), [("Det", "UNSUPPORTED_NODE"), ("NoSuchOperator", "INVALID_NODE")])
def test_what_the_parser_refuses_is_named_with_a_smaller_graph(operator: str, code: str, tmp_path: Path) -> None:
    model_dir = one_node(tmp_path / "m", operator)
    said = refusal("tensorrt", model_dir, Tensorrt(builder="check"), tmp_path / "out")
    assert f"node 'odd' ({operator})" in said
    assert code in said
    small = Path(said.rsplit(": ", 1)[1])
    assert f"a graph of 1 of its {4} nodes" in said
    assert [node.op_type for node in onnx.load(small).graph.node] == [operator]
    request = {
        "op": "parse",
        "graph": str(small),
        "flavour": "rtx",
        "sm": None,
        "profiles": [],
        "flags": {},
        "workspace_bytes": None,
    }
    answer = child.ask(request)
    assert not answer["ok"]
    assert answer["errors"][0]["operator"] == operator


def test_engine_operators_are_told_from_onnx(tmp_path: Path) -> None:
    model_dir = one_node(tmp_path / "m", "BiasGelu", domain="com.microsoft")
    said = refusal("tensorrt", model_dir, Tensorrt(builder="check"), tmp_path / "out")
    assert "operators: portable" in said
    small = Path(said.rsplit(": ", 1)[1])
    assert small.is_file()


def test_the_gate_leaves_the_model_as_it_was(models: dict[str, Path], tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    tensorrt.run(models["cnn-simple"], Tensorrt(builder="check"), out_dir)
    for name in ("model.onnx", "model.onnx.data", "signature.json"):
        assert (out_dir / name).read_bytes() == (models["cnn-simple"] / name).read_bytes()
    notes = json.loads((out_dir / "notes.json").read_text())
    assert set(notes["engine_bytes"]) == {"sm86", "sm89"}
    assert not (out_dir / "tensorrt.json").exists()


def test_a_deferred_specification_is_complete(models: dict[str, Path], tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    spec = made(models["cnn-simple"], out_dir, builder="deferred", flavour="standard", evaluation=models["calls"], max_batch=16,
                gpus=("sm89",), optimization_level=4)  # fmt: skip
    assert (spec["engines"], spec["tensorrt"]) == ([], {"flavour": "standard", "version": "11.4.0.106", "cuda": "12"})
    assert spec["profiles"][0]["image"]["max"] == [16, 3, 16, 16]
    assert spec["flags"] == {
        "tf32": False, "hardware": "same_compute_capability", "version_compatible": False, "exclude_lean_runtime": False,
        "optimization_level": 4,
    }  # fmt: skip
    assert not (out_dir / "engines").exists()
    engine_key.check_graph(str(out_dir), spec)


def test_lean_engines_are_compatible_and_leave_the_runtime_out(tmp_path: Path) -> None:
    spec = made(onnx_dir(tmp_path / "m"), tmp_path / "out", builder="deferred", flavour="lean")
    assert (spec["flags"]["version_compatible"], spec["flags"]["exclude_lean_runtime"]) == (True, True)


def test_recipes_profiles_come_first_and_must_fit_the_model(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m")
    wanted = (
        {"x": Bounds(min=(1, 64), opt=(4, 64), max=(8, 64))},
        {"x": Bounds(min=(9, 64), opt=(64, 64), max=(256, 64))},
    )
    spec = made(model_dir, tmp_path / "out", builder="rtx", gpus=("sm89",), profiles=wanted)
    assert [profile["x"]["max"] for profile in spec["profiles"]] == [[8, 64], [256, 64]]
    wrong = ({"x": Bounds(min=(1, 63), opt=(4, 64), max=(8, 64))},)
    assert "always 64" in refusal("tensorrt", model_dir, Tensorrt(builder="rtx", profiles=wrong), tmp_path / "wrong")


def test_check_calls_fit_the_profile_and_hold_the_cpus_answers(tmp_path: Path) -> None:
    model_dir, out_dir = onnx_dir(tmp_path / "m"), tmp_path / "out"
    recorded = calls_dir(tmp_path / "calls", {"x": (7, 64)})
    narrow = ({"x": Bounds(min=(2, 64), opt=(3, 64), max=(3, 64))},)
    made(model_dir, out_dir, builder="deferred", evaluation=recorded, profiles=narrow)
    index = json.loads((out_dir / "tensorrt-check.json").read_text())
    assert [call["inputs"]["x"]["shape"] for call in index["calls"]] == [[3, 64]] * 3
    data, first = (out_dir / "tensorrt-check.bin").read_bytes(), index["calls"][0]

    def array(row: dict[str, Any]) -> Any:
        return np.frombuffer(data[row["offset"] : row["offset"] + row["size"]], np.float32).reshape(row["shape"])

    answer = check.run(check.session(model_dir, "ORT_ENABLE_BASIC"), {"x": array(first["inputs"]["x"])})
    np.testing.assert_array_equal(answer[0], array(first["outputs"]["y"]))


def test_twin_of_a_graph_that_the_cpu_cannot_run_answers_for_it(tmp_path: Path) -> None:
    model_dir, twin = one_node(tmp_path / "m", "Relu"), one_node(tmp_path / "twin", "Neg")
    (model_dir / "cpu.onnx").write_bytes((twin / "model.onnx").read_bytes())
    made(model_dir, tmp_path / "out", builder="deferred")
    assert (tmp_path / "out/cpu.onnx").exists()
    index = json.loads((tmp_path / "out/tensorrt-check.json").read_text())
    row = index["calls"][0]["outputs"]["y"]
    data = (tmp_path / "out/tensorrt-check.bin").read_bytes()[row["offset"] : row["offset"] + row["size"]]
    assert not np.frombuffer(data, np.float32).any()  # relu(-relu(x)) is zero everywhere


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"builder": "native", "flavour": "standard"}, "builder `native` needs"),
        ({"builder": "native"}, "needs no GPU to build"),
        ({"builder": "rtx", "flavour": "lean"}, "the image runs lean"),
        ({"builder": "rtx", "flavour": "lean"}, "`engine build` on the fleet's GPU from an environment with the full TensorRT"),
        ({"builder": "native", "flavour": "lean"}, "`engine build` on the fleet's GPU from an environment with the full TensorRT"),
        ({"builder": "native", "flavour": "standard"}, "`builder: deferred`, and the worker image builds"),
        ({"flavour": "lean"}, "no engine for the lean runtime can be built here"),
        ({"flavour": "lean"}, "`engine build` on the fleet's GPU from an environment with the full TensorRT"),
        ({"gpus": ("sm42",)}, "gpus sm42"),
        ({"gpus": ()}, "gpus are empty"),
    ],
)
def test_what_cannot_be_built_here_says_what_to_do(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    full = options.get("flavour") in ("standard", "lean")
    if full and native.installed("standard") and native.device() is not None:
        pytest.skip("this machine can")
    assert words in refusal("tensorrt", onnx_dir(tmp_path / "m"), Tensorrt(**options), tmp_path / "out")


def test_auto_takes_what_is_here() -> None:
    assert tensorrt.chosen(Tensorrt()) == "rtx"
    if native.device() is None:
        assert tensorrt.chosen(Tensorrt(flavour="standard")) == "deferred"
        with pytest.raises(PassError, match="nor in its image later"):
            tensorrt.chosen(Tensorrt(flavour="lean"))
    assert tensorrt.chosen(Tensorrt(builder="deferred", flavour="lean")) == "deferred"
    assert tensorrt.machine(Tensorrt(builder="deferred")) == ""
    assert tensorrt.machine(Tensorrt()) == "no native builder"


def test_versions_are_those_that_images_carry() -> None:
    for flavour, pinned in wheel_rules.TENSORRT.items():
        assert {one.partition("==")[2] for one in pinned} == {tensorrt.VERSIONS[flavour][0]}
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extra = project["project"]["optional-dependencies"]["tensorrt-rtx"]
    assert sorted(one.replace("_", "-") for one in extra) == sorted(wheel_rules.TENSORRT["rtx"])


def test_engines_are_built_only_by_a_tensorrt_that_images_carry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = tmp_path / "later/tensorrt_rtx_cu12_bindings-1.8.0.1.dist-info"
    later.mkdir(parents=True)
    (later / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorrt_rtx_cu12_bindings\nVersion: 1.8.0.1\n")
    monkeypatch.syspath_prepend(later.parent)
    said = refusal("tensorrt", onnx_dir(tmp_path / "m"), Tensorrt(builder="rtx"), tmp_path / "out")
    assert "1.8.0.1 is installed" in said
    assert "pip install 'tensorrt_rtx_cu12_bindings==1.7.1.116' 'tensorrt_rtx_cu12_libs==1.7.1.116'" in said
    assert made(tmp_path / "m", tmp_path / "deferred", builder="deferred")["tensorrt"]["version"] == "1.7.1.116"


@pytest.mark.parametrize(("name", "recorded"), [("cnn-simple", "calls"), ("bert-portable", "texts")])
def test_int8_bound_has_room_for_rounding_not_for_another_scale(
    name: str, recorded: str, models: dict[str, Path], tmp_path: Path
) -> None:
    """An engine that rounds otherwise is no further from the int8 graph than one that does not round: the float graph."""
    int8, out_dir = tmp_path / "int8", tmp_path / "out"
    int8.mkdir()
    precision.run(models[name], Precision(type="int8", calibration=models[recorded]), int8)
    made(int8, out_dir, builder="deferred", evaluation=models[recorded])
    tolerance = golden.TOLERANCES["int8"]
    assert json.loads((out_dir / "tensorrt-check.json").read_text())["tolerance"] == tolerance
    types = {kind: name for name, kind in DATATYPES.items()}
    outputs = [each.name for each in files.read_signature(out_dir).outputs]

    def engine(path: Path, level: str, times: int = 1) -> Any:
        session = check.session_of(str(path), level)

        def run(feeds: Any) -> dict[str, Tensor]:
            arrays = {key: np.array(each.flat(), types[each.datatype]).reshape(each.shape) for key, each in feeds.items()}
            answers = zip(outputs, check.run(session, arrays), strict=True)
            return {key: Tensor(DATATYPES[each.dtype.name], each.shape, (each * times).tobytes()) for key, each in answers}

        return run

    twin = out_dir / files.TWIN
    ran = twin if twin.is_file() else out_dir / files.MODEL
    exact = engine_verify.verify(str(out_dir), engine(ran, "ORT_DISABLE_ALL"))
    assert exact["difference"] < 1e-4  # as the graph stands: integer kernels that saturate are not asked
    rounded = engine_verify.verify(str(out_dir), engine(models[name] / files.MODEL, "ORT_ENABLE_ALL"))
    assert 1e-4 < rounded["difference"] < tolerance["difference"] / 2, rounded
    with pytest.raises(engine_verify.VerifyError, match="difference"):
        engine_verify.verify(str(out_dir), engine(ran, "ORT_DISABLE_ALL", times=2))


def test_a_missing_package_is_one_of_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    if "tensorrt_rtx_bindings" in sys.modules:
        monkeypatch.delitem(sys.modules, "tensorrt_rtx_bindings")
    assert tensorrt.chosen(Tensorrt()) == "deferred"
    with pytest.raises(ModuleNotFoundError) as caught:
        native.require("rtx")
    absent = extras.missing(caught.value)
    assert absent is not None
    assert extras.way_out(absent, "huggingface").endswith("pip install 'mlpack-build[tensorrt-rtx]'")


def test_a_graph_that_kills_the_parser_is_an_error_of_the_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that really ends by a signal, and one that really does not end."""
    request = {"op": "build", "graph": str(tmp_path / "no.onnx"), "flavour": "rtx"}
    monkeypatch.setattr(child, "_START", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)  # {module}")
    with pytest.raises(PassError, match=r"signal 11 \(SIGSEGV\)"):
        child.ask(request)
    monkeypatch.setattr(child, "_START", "import time; time.sleep(60)  # {module}")
    with pytest.raises(PassError, match=r"not done after 0.2 s"):
        child.ask(request, limit_s=0.2)


def test_damaged_graphs_are_refused_with_words(tmp_path: Path) -> None:
    broken = tmp_path / "m"
    onnx_dir(broken)
    data = (broken / "model.onnx").read_bytes()
    (broken / "model.onnx").write_bytes(data[: len(data) // 2])
    said = refusal("tensorrt", broken, Tensorrt(builder="check"), tmp_path / "out")
    assert "not a complete ONNX file" in said


def test_an_engine_that_is_not_what_was_asked_for_is_refused(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    spec = made(onnx_dir(tmp_path / "m"), out_dir, builder="rtx", gpus=("sm86",))
    path = out_dir / "engines/sm86.engine"
    answer = {
        "version": spec["tensorrt"]["version"], "profiles": spec["profiles"],
        "inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 64]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [-1, 16]}],
    }  # fmt: skip
    assert build.read_back(spec, answer, path, "sm86")
    for change in (
        {"version": "9.9"}, {"profiles": []}, {"inputs": []}, {"inputs": [{"name": "x", "dtype": "float16", "shape": [-1, 64]}]},
        {"inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 63]}]},
    ):  # fmt: skip
        with pytest.raises(PassError, match="not what was asked for"):
            build.read_back(spec, {**answer, **change}, path, "sm86")
    data = path.read_bytes()
    for damaged in (data[:-1], b"none" + data[4:], data[:27] + b"\x01" + data[28:], data.replace(b"sm86", b"sm80")):
        path.write_bytes(damaged)
        with pytest.raises(PassError, match="not what was asked for"):
            build.read_back(spec, answer, path, "sm86")


@pytest.mark.gpu
def test_native_builds_verifies_and_keeps_timings(tmp_path: Path) -> None:
    spec = made(
        onnx_dir(tmp_path / "m"), tmp_path / "out", builder="native", flavour="standard", timing_cache=str(tmp_path / "timings")
    )
    (row,) = spec["engines"]
    assert spec["gpus"] == [row["sm"]]
    assert list((tmp_path / "timings").iterdir())
    notes = json.loads((tmp_path / "out/notes.json").read_text())
    assert any("verified on" in note for note in notes["not_checked"])
