"""Quantizing with weights in files: the same bytes as with all of them in memory, and no graph that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.support.models.foreign_graphs import constant, model, node, port, weights
from tests.support.models.quantized_graphs import KINDS
from tests.support.recorded_calls import recorded

from mlpack.core import digest
from mlpack.errors import PassError
from mlpack.graphs import files, spill
from mlpack.graphs import weights as stored
from mlpack.passes import quantize
from mlpack.passes.quantize import Quantize, damage, scales
from mlpack.passes.quantize.calibration import ranges
from mlpack.passes.quantize.choice import held

SMALL = 1024
"""Bytes above which a weight stays outside: what `files.save` puts into a file of weights anyway."""


def made(graph: onnx.ModelProto, feeds: list[dict[str, Any]], folder: Path, **config: Any) -> str:
    """The digest of what the pass makes of it, or its refusal."""
    (folder / "float").mkdir(parents=True)
    copied = onnx.ModelProto()
    copied.CopyFrom(graph)
    files.save(copied, folder / "float")
    calls = recorded(folder / "calls", feeds)
    (folder / "out").mkdir()
    try:
        quantize.run(folder / "float", Quantize(calibration=calls, **config), folder / "out")
    except PassError as error:
        return str(error)
    assert not [path for path in (folder / "out").iterdir() if path.is_dir()]
    return str(digest.of_tree(folder / "out"))


def outlying() -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """Products and a convolution of more than LARGE_BYTES each, behind channels that outlie."""
    f = weights()
    gain = np.ones(640, "f4")
    gain[[7, 99]] = 90
    nodes = [
        node("Mul", ["x", "gain"], ["n"], "gain"),
        node("MatMul", ["n", "a"], ["p"], "first"),
        node("Add", ["p", "bias"], ["q"], "add"),
        node("Relu", ["q"], ["r"], "relu"),
        node("Gemm", ["r", "b", "bias"], ["s"], "second", alpha=0.5, transB=1),
        node("Reshape", ["s", "shape"], ["t"], "picture"),
        node("Conv", ["t", "c"], ["y"], "conv", pads=[1] * 4),
    ]
    held_ = [constant("gain", gain), f("a", 640, 640), f("bias", 640), f("b", 640, 640), f("c", 192, 160, 3, 3)]
    held_.append(constant("shape", np.array([-1, 160, 2, 2])))
    graph = model(nodes, [port("x", ["n", 640])], [port("y", ["n", 192, 2, 2])], held_)
    return graph, [{"x": np.random.default_rng(seed).normal(size=(4, 640)).astype("f4")} for seed in range(3)]


OPTIONS: dict[str, dict[str, Any]] = {
    "static": {"method": "static"},
    "mixed": {"method": "mixed", "per_channel": False},
    "dynamic": {"method": "dynamic"},
    "weights": {"method": "weights", "weight_bits": 4},
    "both": {"method": "mixed", "smooth": True, "bias_correction": True},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_the_same_wherever_weights_lie(kind: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = KINDS[kind]()
    inside = made(graph, feeds, tmp_path / "inside", **OPTIONS[option])
    monkeypatch.setattr(stored, "LARGE_BYTES", SMALL)
    monkeypatch.setattr(spill, "HELD_BYTES", SMALL)
    monkeypatch.setattr(scales, "_PART_BYTES", SMALL)
    assert made(graph, feeds, tmp_path / "outside", **OPTIONS[option]) == inside


@pytest.mark.parametrize("opset", [9, 12, 17])
@pytest.mark.parametrize("option", OPTIONS)
def test_no_graph_holds_its_weights(option: str, opset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is copied and saved is small whatever the weights are: nothing is a message of 2 GiB, and a copy costs nothing."""
    graph, feeds = outlying()
    graph.opset_import[0].version = opset
    sizes: list[int] = []
    save, place = files.save, files.place_weights

    def saved(model: onnx.ModelProto, *rest: Any, **more: Any) -> Any:
        sizes.append(model.ByteSize())
        return save(model, *rest, **more)

    def placed(model: onnx.ModelProto, *rest: Any, **more: Any) -> Any:
        sizes.append(model.ByteSize())
        return place(model, *rest, **more)

    (tmp_path / "float").mkdir()
    save(graph, tmp_path / "float")
    calls = recorded(tmp_path / "calls", feeds)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(stored, "LARGE_BYTES", SMALL)
    monkeypatch.setattr(files, "save", saved)
    monkeypatch.setattr(files, "place_weights", placed)
    with ranges.remembered():
        quantize.run(tmp_path / "float", Quantize(calibration=calls, **OPTIONS[option]), tmp_path / "out")
    names = tuple(node_.name for node_ in graph.graph.node if node_.op_type in ("MatMul", "Gemm", "Conv"))
    assert damage.rank(tmp_path / "float", tmp_path / "out", names, calls, tmp_path)
    assert sizes
    assert max(sizes) < 300_000  # their weights have 4.4 MB


def test_ranges_of_smoothed_graph_are_remembered_for_next_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smoothed weights lie in another folder each time; the graph is the same."""
    graph, feeds = outlying()
    looked: list[int] = []
    seen = ranges._observe

    def counted(*given: Any) -> None:
        looked.append(len(given[1]))
        seen(*given)

    monkeypatch.setattr(ranges, "_observe", counted)
    with ranges.remembered():
        first = made(graph, feeds, tmp_path / "first", method="static", smooth=True)
        count = sum(looked)
        (tmp_path / "out").mkdir()
        config = Quantize(calibration=tmp_path / "first/calls", method="static", smooth=True)
        quantize.run(tmp_path / "first/float", config, tmp_path / "out")
    assert count
    assert sum(looked) == count
    assert str(digest.of_tree(tmp_path / "out")) == first


def test_attempts_that_engine_refuses_write_their_weights_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = outlying()
    spilled: list[int] = []
    refused = iter(["it says no", "it says no", "", ""])

    def refusal(_: held.EngineCheck, out_dir: Path) -> str:
        spilled.append(sum(1 for path in out_dir.glob("mlpack-held-weights-*/*") if path.is_file()))
        return next(refused, "")

    monkeypatch.setattr(held.EngineCheck, "refusal", refusal)
    made(graph, feeds, tmp_path / "m", method="dynamic")
    assert len(spilled) > 1
    assert len(set(spilled)) == 1


def test_a_directory_beside_the_files_is_no_part_of_an_attempt(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"x")
    files.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
