"""Quantize, node by node: each kind of graph by every method, what became of each node, and why not of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from tests.support.models.quantized_graphs import KINDS
from tests.support.pass_harness import refusal
from tests.support.recorded_calls import recorded

from mlpack.core import digest, machine
from mlpack.graphs import check, files
from mlpack.passes import quantize
from mlpack.passes.quantize import Quantize
from mlpack.passes.quantize.choice import choose

STACKED, TINY, NO_DATA = "a stack of matrices", "tiny", "need calibration data"

HOW: dict[str, dict[str, str]] = {
    "stacks": {"in": "dynamic", "heads": STACKED, "out": "dynamic"},
    "recurrent": {"gru": "no GRU in integers", "rnn": "no RNN in integers", "head": "dynamic"},
    "lstms": {"both": "dynamic", "second": "dynamic"},
    "mixed": {"stem": "static", "body": "static", "third": "static", "behind": "static", "last": "dynamic"},
    "concats": {"left": "static", "right": "static", "large": "static", "end": "static", "apart": "too far apart"},
    "branches": {"before": "dynamic", "then": "dynamic", "lstm": "dynamic", "else": "dynamic"},
    "old": {"first": "static", "second": "static", "product": "static"},
    "shared": {"c0": "static", "c1": "static", "c2": "static", "gemm": "static", "matmul": "dynamic"},
    "biases": {"dead": "static", "factors": "static", "matrix": "dynamic", "computed": "dynamic"},
    "names": {"Conv_0": "static", "x_quantize": "static", "model_1/block/very/long;" * 12: "static", "ünïcode": "static"},
    "depthwise": {"first": "static", "depthwise": "static", "point": "static", "up": "weights", "one": "static"},
    "tables": {"words": "weights", "again": "weights", "columns": "weights", "product": "dynamic", "second": "dynamic"},
    "loop": {"inner": "dynamic", "scanned": "dynamic"},
    "twice": {"first": "static", "second": "static"},
    "vectors": {"product": "dynamic", "other": "dynamic"},
}
"""By the method `mixed`: how a node computes, or a part of the reason why it is float."""


WIDE = any(word in machine.this_machine().isa for word in ("vnni", "amx", "neon"))
"""Whether this processor adds products of eight bits without cutting them off."""


def made(kind: str, folder: Path, **config: Any) -> tuple[Path, dict[str, Any]]:
    """What the pass makes of a kind of graph, and its notes."""
    model, feeds = KINDS[kind]()
    folder.mkdir()
    for part in ("float", "out", "again"):
        (folder / part).mkdir()
    files.save(onnx.ModelProto.FromString(model.SerializeToString()), folder / "float")
    files.finish(folder / "float", folder / "float", {})
    calls = recorded(folder / "calls", feeds)
    for part in ("out", "again"):
        quantize.run(folder / "float", Quantize(**{"calibration": calls, **config}), folder / part)
    assert digest.of_tree(folder / "out") == digest.of_tree(folder / "again")
    return folder / "out", json.loads((folder / "out" / "notes.json").read_text())


def held(kind: str, folder: Path, least: float, levels: tuple[str, ...] = ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL")) -> None:
    """The numbers are near those of the float graph, with and without the engine's optimisations."""
    for level in levels:
        got, want = check.session(folder / "out", level), check.session(folder / "float")
        for feed in KINDS[kind]()[1]:
            assert check.similarity(check.run(got, feed), check.run(want, feed)) > least, level


def weighted(kind: str, folder: Path) -> set[str]:
    """Nodes that have constant weights or multiply something, by the names that the pass gives them."""
    model = files.load(folder / "float")
    choose.name_nodes(model)
    kinds = {"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN"}
    return {node.name for node in files.nodes(model.graph) if node.op_type in kinds}


@pytest.mark.parametrize("kind", KINDS)
def test_each_node_has_a_way_or_a_reason(kind: str, tmp_path: Path) -> None:
    _, notes = made(kind, tmp_path / "m", method="mixed")
    said = {**notes["nodes"], **notes["kept"]}
    assert not set(notes["nodes"]) & set(notes["kept"])
    assert weighted(kind, tmp_path / "m") <= set(said)
    for name, wanted in HOW[kind].items():
        assert wanted in said[name], (name, said[name])
    assert set(said) == set(HOW[kind])
    held(kind, tmp_path / "m", 0.99)


@pytest.mark.parametrize("kind", ["mixed", "branches", "biases", "shared", "lstms", "concats"])
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(
            {"arch": "arm64"}, marks=pytest.mark.skipif(not WIDE, reason="arm64's weights take what this processor lacks")
        ),
        {"per_channel": False},
        {"symmetric_activations": True},
    ],
)
def test_every_form_keeps_the_numbers(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    made(kind, tmp_path / "m", method="mixed", **config)
    held(kind, tmp_path / "m", 0.98)


@pytest.mark.parametrize("kind", ["recurrent", "lstms", "mixed", "branches", "old", "biases", "depthwise", "tables"])
@pytest.mark.parametrize("bits", [4, 8])
def test_stored_weights_keep_the_numbers(kind: str, bits: Any, tmp_path: Path) -> None:
    _, notes = made(kind, tmp_path / "m", method="weights", weight_bits=bits)
    assert set(notes["nodes"].values()) == {"weights"}
    assert (notes["method"], notes["weight_bits"]) == ("weights", bits)
    held(kind, tmp_path / "m", 0.999 if bits == 8 else 0.95)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "dynamic" in HOW[kind].values()])
def test_without_calibration_products_are_dynamic(kind: str, tmp_path: Path) -> None:
    _, notes = made(kind, tmp_path / "m", method="mixed", calibration=None)
    static = {name for name, how in HOW[kind].items() if how == "static" and name in notes["kept"]}
    assert all(NO_DATA in notes["kept"][name] for name in static)
    assert "static" not in notes["nodes"].values()
    held(kind, tmp_path / "m", 0.99)


@pytest.mark.parametrize("kind", ["mixed", "branches", "lstms", "names"])
def test_no_weight_needs_more_than_seven_bits(kind: str, tmp_path: Path) -> None:
    """u8 times s8 in pairs of 16 bits saturates beyond on processors without VNNI."""
    out, _ = made(kind, tmp_path / "m", method="mixed")
    stored = [numpy_helper.to_array(t) for t in files.load(out).graph.initializer if t.data_type == TensorProto.INT8]
    assert any(each.size > 64 for each in stored)
    assert all(int(np.abs(each.astype(int)).max(initial=0)) <= 64 for each in stored)


@pytest.mark.parametrize(
    ("word", "left"),
    [
        ("stem", {"stem"}), ("first", {"stem"}), ("last", {"last"}), ("Conv", {"stem", "body", "third"}), ("Gemm", {"behind"}),
    ],
)  # fmt: skip
def test_words_for_what_stays_float(word: str, left: set[str], tmp_path: Path) -> None:
    _, notes = made("mixed", tmp_path / "m", method="mixed", keep_float=(word,))
    assert {name for name, why in notes["kept"].items() if "keep_float" in why} == left
    assert left.isdisjoint(notes["nodes"])
    held("mixed", tmp_path / "m", 0.99)


@pytest.mark.parametrize("method", ["static", "dynamic", "mixed", "weights"])
def test_every_method_keeps_named_nodes(method: Any, tmp_path: Path) -> None:
    _, notes = made("old", tmp_path / "m", method=method, keep_float=("second",))
    assert "keep_float" in notes["kept"]["second"]


def test_nothing_left_says_why(tmp_path: Path) -> None:
    model, feeds = KINDS["twice"]()
    (tmp_path / "float").mkdir()
    files.save(model, tmp_path / "float")
    calls = recorded(tmp_path / "calls", feeds)
    said = refusal("quantize", tmp_path / "float", Quantize(calibration=calls, keep_float=("Conv",)), tmp_path / "out")
    assert "2 of them: the recipe keeps Conv float" in said


def test_tiny_nodes_stay_float(tmp_path: Path) -> None:
    """A classifier of ten classes costs nothing; its node is named."""
    model, _ = KINDS["mixed"]()
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    stored["w2"].CopyFrom(numpy_helper.from_array(np.ones((64, 10), np.float32), "w2"))
    assert TINY in choose.choose(model, "mixed", (), embeddings=True).kept["last"]
