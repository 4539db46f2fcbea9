"""Ranges over recorded calls: the engine's own numbers, in bounded memory, and everything that is wrong by its name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.support.models.foreign_graphs import constant, model, node, port, weights
from tests.support.recorded_calls import recorded

from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.quantize.calibration import cuts, ranges
from mlpack.passes.quantize.calibration.ranges import MeasuredRanges, Ranges

NAMES = ["x", "h", "r", "y"]


def network(width: int = 16) -> onnx.ModelProto:
    """Two products with a Relu between."""
    f = weights()
    nodes = [
        node("MatMul", ["x", "a"], ["h"], "first"),
        node("Relu", ["h"], ["r"], "relu"),
        node("MatMul", ["r", "b"], ["y"], "second"),
    ]
    return model(nodes, [port("x", ["n", width])], [port("y", ["n", width])], [f("a", width, width), f("b", width, width)])


def directory(folder: Path, graph: onnx.ModelProto) -> Path:
    folder.mkdir(parents=True)
    files.save(onnx.ModelProto.FromString(graph.SerializeToString()), folder)
    return folder


def feeds(count: int = 6, width: int = 16, seed: int = 1) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=(1 + number % 3, width)).astype("f4")} for number in range(count)]


def measured(
    folder: Path, graph: onnx.ModelProto, given: list[dict[str, Any]], names: list[str], method: str = "minmax", samples: int = 512
) -> MeasuredRanges:
    source = directory(folder / "model", graph)
    wanted = Ranges(calls=recorded(folder / "calls", given), samples=samples, method=method)
    return ranges.measured(files.load(source), source, names, wanted)


def test_minmax_is_what_the_engines_calibrator_finds(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization.calibrate import create_calibrator

    given = iter(feeds())

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the engine's package carries no types
        def get_next(self) -> Any:
            return next(given, None)

    onnx.save(onnx.shape_inference.infer_shapes(network()), tmp_path / "plain.onnx")
    calibrator = create_calibrator(tmp_path / "plain.onnx", ["MatMul"], augmented_model_path=str(tmp_path / "augmented.onnx"))
    calibrator.collect_data(Reader())
    theirs = {name: tuple(float(end.item()) for end in data.range_value) for name, data in calibrator.compute_data().items()}
    ours = measured(tmp_path, network(), feeds(), NAMES)
    assert ours.ranges == theirs
    assert (ours.refused, ours.remarks) == ({}, ())
    assert ours.largest("y") == max(map(abs, theirs["y"]))


@pytest.mark.parametrize("method", cuts.METHODS)
def test_what_is_held_at_once_changes_nothing(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    together = measured(tmp_path / "a", network(), feeds(), NAMES, method)
    monkeypatch.setattr(ranges, "_HELD_BYTES", 1)
    assert measured(tmp_path / "b", network(), feeds(), NAMES, method).ranges == together.ranges


@pytest.mark.parametrize("method", cuts.METHODS)
def test_ranges_do_not_depend_on_the_order_of_calls(tmp_path: Path, method: str) -> None:
    there = measured(tmp_path / "a", network(), feeds(), NAMES, method)
    assert measured(tmp_path / "b", network(), feeds()[::-1], NAMES, method).ranges == there.ranges


def test_only_so_many_calls_are_read(tmp_path: Path) -> None:
    given = feeds()
    given[4]["x"][:] = np.nan
    assert measured(tmp_path, network(), given, NAMES, samples=4).refused == {}


def test_weights_in_files_of_their_own_stay_there(tmp_path: Path) -> None:
    source = directory(tmp_path / "model", network(600))
    calls = recorded(tmp_path / "calls", feeds(width=600))
    outline = files.outline(source)
    assert any(tensor.data_location == TensorProto.EXTERNAL for tensor in outline.graph.initializer)
    wanted = Ranges(calls=calls, samples=9, method="minmax")
    assert ranges.measured(outline, source, NAMES, wanted) == ranges.measured(files.load(source), source, NAMES, wanted)
    assert any(tensor.data_location == TensorProto.EXTERNAL for tensor in outline.graph.initializer)


# --- calls that decide alone --------------------------------------------------------------------------------------------


def test_call_that_decides_inner_ranges_alone_is_named(tmp_path: Path) -> None:
    """The input is cut by Clip, so it looks harmless: what is behind Exp is not."""
    nodes = [
        node("Clip", ["x", "low", "high"], ["c"], "clip"),
        node("Exp", ["c"], ["e"], "exp"),
        node("MatMul", ["e", "w"], ["y"], "product"),
    ]
    f = weights()
    held = [f("w", 16, 16), constant("low", np.float32(-4)), constant("high", np.float32(4))]
    graph = model(nodes, [port("x", ["n", 16])], [port("y", ["n", 16])], held)
    given = [{"x": np.clip(each["x"], -1, 1)} for each in feeds()]
    given[3]["x"][0, 0] = 3.5
    found = measured(tmp_path, graph, given, ["x", "c", "e", "y"])
    (said,) = found.remarks
    assert "calibration call 3 (counted from 0) is an outlier: it alone decides the range of" in said
    assert "e (" in said
    assert "to 33.12 with it, 12.2 times as wide)" in said
    assert "x (" not in said
    others = measured(tmp_path / "without", graph, given[:3] + given[4:], ["e"])
    assert f"to {others.ranges['e'][1]:.4g} without it" in said
    cut = measured(tmp_path / "cut", graph, given * 3, ["e"], "percentile")
    assert cut.remarks == ()  # three calls are no single one


def test_many_tensors_of_one_call_are_one_remark(tmp_path: Path) -> None:
    given = feeds()
    given[2]["x"] = given[2]["x"] * 1000
    (said,) = measured(tmp_path, network(), given, NAMES).remarks
    assert "call 2" in said
    assert "and 1 more" in said


def test_what_every_other_call_leaves_at_zero_is_said(tmp_path: Path) -> None:
    given = [{"x": np.zeros((1, 16), "f4")} for _ in range(3)] + feeds(1)
    (said,) = measured(tmp_path, network(), given, ["r"]).remarks
    assert "call 3" in said
    assert "r (0 to 0 without it" in said


# --- ranges that cannot be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "bad", "word"),
    [("Log", -1.0, "NaN"), ("Log", 0.0, "an infinite number"), ("Sqrt", -4.0, "NaN"), ("Reciprocal", 0.0, "an infinite number")],
)
@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_an_activation_that_is_not_finite_is_named(tmp_path: Path, operator: str, bad: float, word: str, method: str) -> None:
    f = weights()
    nodes = [
        node(operator, ["x"], ["l"], "middle"),
        node("MatMul", ["l", "w"], ["p"], "behind"),
        node("MatMul", ["x", "w"], ["q"], "beside"),
        node("Add", ["p", "q"], ["y"], "sum"),
    ]
    graph = model(nodes, [port("x", ["n", 16])], [port("y", ["n", 16])], [f("w", 16, 16)])
    given = [{"x": np.abs(each["x"]) + 1} for each in feeds()]
    given[4]["x"][0, 3] = bad
    found = measured(tmp_path, graph, given, ["l", "p", "x", "q"], method)
    assert found.ranges.keys() == {"x", "q"}
    assert found.refused["l"] == (
        f"node 'middle' ({operator}) gives {word} in 'l', first in calibration call 4 (counted from 0), in 1 of 6 calls"
    )
    assert found.refused["p"].startswith("node 'behind' (MatMul) gives")
    assert found.remarks[0].endswith("nodes that would need its range stay float; 1 more tensors have no range either")


def test_a_mask_of_infinities_is_in_every_call(tmp_path: Path) -> None:
    nodes = [node("Where", ["m", "x", "never"], ["y"], "mask")]
    held = [constant("never", np.float32(-np.inf)), constant("m", np.array([True, False] * 8))]
    graph = model(nodes, [port("x", ["n", 16])], [port("y", ["n", 16])], held)
    assert "in every call" in measured(tmp_path, graph, feeds(), ["y"]).refused["y"]


def test_zero_and_empty_and_tiny_have_no_range_and_constant_has(tmp_path: Path) -> None:
    nodes = [
        node("Mul", ["x", "zero"], ["z"], "dead"),
        node("Add", ["z", "five"], ["c"], "constant"),
        node("Mul", ["x", "tiny"], ["t"], "whisper"),
        node("Slice", ["x", "none", "none", "axis"], ["e"], "nothing"),
        node("Identity", ["x"], ["y"], "same"),
    ]
    held = [constant("zero", np.float32(0)), constant("five", np.float32(5)), constant("tiny", np.float32(1e-38))]
    held += [constant("none", np.array([0])), constant("axis", np.array([1]))]
    graph = model(nodes, [port("x", ["n", 16])], [port("y", ["n", 16])], held)
    found = measured(tmp_path, graph, feeds(), ["z", "c", "t", "e", "y"], "entropy")
    assert found.ranges["c"] == (5, 5)
    assert found.ranges.keys() == {"c", "y"}
    assert "zero in every calibration call" in found.refused["z"]
    assert "no scale can be that small" in found.refused["t"]
    assert "node 'nothing' (Slice) gives nothing in 'e': it is empty in every calibration call" in found.refused["e"]


def test_an_input_that_is_not_finite_is_damage(tmp_path: Path) -> None:
    given = feeds()
    given[5]["x"][0, 0] = -np.inf
    with pytest.raises(PassError, match=r"calibration call 5 \(counted from 0\) holds an infinite number in x"):
        measured(tmp_path, network(), given, ["y"])


def test_half_precision_is_measured_too(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["h"], name="cast", to=TensorProto.FLOAT16), node("Relu", ["h"], ["y"], "relu")]
    half = helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["n", 16])
    graph = model(nodes, [port("x", ["n", 16])], [half], [])
    for method in ("minmax", "mse"):
        low, high = measured(tmp_path / method, graph, feeds(), ["y"], method).ranges["y"]
        assert 0 <= low < 1 < high < 5


# --- memory -------------------------------------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
from mlpack.graphs import files
from mlpack.passes.quantize.calibration.ranges import Ranges, measured

source, calls, count = sys.argv[1:]
names = ["x", "h", "r", "y"]
measured(files.load(Path(source)), Path(source), names, Ranges(calls=Path(calls), samples=int(count), method="entropy"))
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_calls(tmp_path: Path) -> None:
    """400 calls of 1 MB of activations, of many shapes: kept, they would be 400 MB."""
    width = 256
    source = directory(tmp_path / "model", network(width))
    random = np.random.default_rng(0)
    given = [{"x": random.normal(size=(200 + number % 57, width)).astype("f4")} for number in range(400)]
    calls = recorded(tmp_path / "calls", given)
    taken = {}
    for count in (20, 400):
        words = [sys.executable, "-c", CHILD, str(source), str(calls), str(count)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        taken[count] = int(json.loads(done.stdout))
    assert taken[400] - taken[20] < 40_000_000, taken
