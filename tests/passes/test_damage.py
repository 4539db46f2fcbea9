"""What quantizing does at each node, and what calibration remembers for several forms of one graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.models.small_models import calls_dir, deconvolution_dir, onnx_dir

from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.quantize import Quantize, damage, run
from mlpack.passes.quantize.calibration import ranges

CONSTANTS = (("least", [1e-6], "float32"), ("hundred", [100.0], "float32"), ("yes", True, "bool"))


def quantized(model: Path, out: Path, **config: Any) -> tuple[str, ...]:
    """The nodes that the pass puts in integers."""
    out.mkdir()
    run(model, Quantize(**config), out)
    return tuple(json.loads((out / "notes.json").read_bytes())["nodes"])


@pytest.mark.parametrize("method", ["dynamic", "static", "weights"])
def test_every_quantized_node_is_ranked_alike_each_time(method: Any, tmp_path: Path) -> None:
    model = onnx_dir(tmp_path / "model")
    calls = calls_dir(tmp_path / "calls", {"x": (2, 64)})
    nodes = quantized(model, tmp_path / "quantized", method=method, calibration=calls)
    rows = damage.rank(model, tmp_path / "quantized", nodes, calls, tmp_path)
    assert {row.node for row in rows} == set(nodes)
    assert all(0 < row.damage < 1 for row in rows)
    assert rows == damage.rank(model, tmp_path / "quantized", nodes, calls, tmp_path)
    assert damage.read_rows(json.loads(json.dumps(damage.plain(rows)))) == rows
    assert sorted((row.damage for row in rows), reverse=True) == [row.damage for row in rows]


def test_intensity_is_work_for_what_is_moved(tmp_path: Path) -> None:
    model = deconvolution_dir(tmp_path / "model")
    calls = calls_dir(tmp_path / "calls", {"image": (1, 3, 16, 16)})
    nodes = quantized(model, tmp_path / "quantized", method="static", calibration=calls)
    rows = {row.node: row for row in damage.rank(model, tmp_path / "quantized", nodes, calls, tmp_path)}
    assert rows[nodes[0]].intensity > 1


def test_a_node_that_the_graph_has_not_comes_last(tmp_path: Path) -> None:
    model = onnx_dir(tmp_path / "model")
    calls = calls_dir(tmp_path / "calls", {"x": (2, 64)})
    nodes = quantized(model, tmp_path / "quantized", method="dynamic")
    rows = damage.rank(model, tmp_path / "quantized", ("ghost", *nodes), calls, tmp_path)
    assert (rows[-1].node, rows[-1].damage) == ("ghost", 0.0)


def test_damage_is_what_arrives_at_the_outputs(tmp_path: Path) -> None:
    """Three products that are off by alike: in front of a logarithm, in a branch that a sum outweighs, and inside a nested graph's
    way; and one that nothing reads from the outside."""
    random = np.random.default_rng(3)
    stored = [numpy_helper.from_array(random.normal(size=(64, 64)).astype("float32") / 8, name) for name in ("w1", "w2", "w3")]
    stored += [numpy_helper.from_array(np.array(value, kind), name) for name, value, kind in CONSTANTS]
    inner = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["kept"], "inside")], "then", [], [helper.make_tensor_value_info("kept", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["c"], ["turned"], "inside")], "else", [], [helper.make_tensor_value_info("turned", 1, None)]
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "logged"),
        helper.make_node("Abs", ["a"], ["positive"], "abs"),
        helper.make_node("Add", ["positive", "least"], ["safe"], "safe"),
        helper.make_node("Log", ["safe"], ["first"], "log"),
        helper.make_node("MatMul", ["x", "w2"], ["b"], "outweighed"),
        helper.make_node("Mul", ["x", "hundred"], ["large"], "large"),
        helper.make_node("Add", ["b", "large"], ["second"], "residual"),
        helper.make_node("MatMul", ["x", "w3"], ["c"], "nested"),
        helper.make_node("If", ["yes"], ["third"], "if", then_branch=inner, else_branch=other),
    ]
    x, *results = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in ("x", "first", "second", "third")
    )
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], results, stored), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    (tmp_path / "model").mkdir()
    files.save(model, tmp_path / "model")
    files.finish(tmp_path / "model", tmp_path / "model", {})
    calls = calls_dir(tmp_path / "calls", {"x": (4, 64)})
    named = quantized(tmp_path / "model", tmp_path / "quantized", method="dynamic")
    rows = {row.node: row.damage for row in damage.rank(tmp_path / "model", tmp_path / "quantized", named, calls, tmp_path)}
    assert set(rows) == {"logged", "outweighed", "nested"}
    assert rows["logged"] > 10 * rows["nested"] > 100 * rows["outweighed"] > 0


def test_calls_are_looked_at_once_for_several_forms_of_a_graph(tmp_path: Path) -> None:
    """What is known needs no calls; what is not is looked at, then as ever; and ranges are those of a look by itself."""
    model = files.load(onnx_dir(tmp_path / "model"))
    calls = calls_dir(tmp_path / "calls", {"x": (2, 64)})
    wanted = ranges.Ranges(calls=calls, samples=512, method="minmax")
    alone = ranges.measured(model, tmp_path / "model", ["h", "x"], wanted, tmp_path)
    with ranges.remembered():
        assert ranges.measured(model, tmp_path / "model", ["h", "x"], wanted, tmp_path) == alone
        (calls / "calls.bin").unlink()
        again = ranges.measured(model, tmp_path / "model", ["h"], wanted, tmp_path)
        assert again.ranges == {"h": alone.ranges["h"]}
        with pytest.raises(PassError):
            ranges.measured(model, tmp_path / "model", ["h", "r"], wanted, tmp_path)
    with pytest.raises(PassError):
        ranges.measured(model, tmp_path / "model", ["h"], wanted, tmp_path)
