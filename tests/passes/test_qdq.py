"""Pairs as TensorRT fuses them: where they go, what they hold, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.quantize.methods import qdq
from mlpack.passes.quantize.methods.qdq import Site

pytestmark = pytest.mark.slow


def residual(*, shortcut: bool = False, second_use: bool = False) -> Any:
    """A convolution's result added to what it read, or to another convolution's result."""
    random = np.random.default_rng(4)
    weights = {f"w{i}": random.standard_normal((16, 16, 3, 3)).astype(np.float32) for i in range(2)}
    nodes = [helper.make_node("Relu", ["x"], ["r"], name="relu")]
    if shortcut:
        nodes.append(helper.make_node("Conv", ["r", "w1"], ["s"], name="shortcut", pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Conv", ["r", "w0"], ["c"], name="conv", pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Add", ["c", "s" if shortcut else "r"], ["a"], name="add"))
    nodes.append(helper.make_node("Mul", ["a", "c" if second_use else "a"], ["y"], name="square"))
    kind = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 16, 8, 8])  # noqa: E731
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items() if shortcut or name == "w0"]
    made = helper.make_graph(nodes, "residual", [kind("x")], [kind("y")], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_sites_name_channels_and_leave_small_matrices_out(models: dict[str, Path]) -> None:
    assert qdq.sites(files.load(models["deconvolution"]), attention=False) == (
        Site(node="down", kind="Conv", activations=(0,), weight=1, axis=0),
        Site(node="up", kind="ConvTranspose", activations=(0,), weight=1, axis=None),
    )
    found = qdq.sites(files.load(models["mlp"]), attention=False)
    assert [(site.node, site.axis) for site in found] == [("first", 1), ("second", 1)]
    found = qdq.sites(files.load(models["cnn-simple"]), attention=False)
    assert [site.kind for site in found] == ["Conv", "Conv", "Conv", "Add"]  # the classifier has 10 outputs


def test_transposed_gemm_has_its_channels_first(models: dict[str, Path]) -> None:
    model = files.load(models["mlp"])
    model.graph.node[0].attribute.append(helper.make_attribute("transB", 1))
    assert qdq.sites(model, attention=False)[0].axis == 0


def test_products_of_activations_only_when_asked(models: dict[str, Path]) -> None:
    model = files.load(models["bert-portable"])
    plain, all_of_them = (qdq.sites(model, attention=attention) for attention in (False, True))
    assert len(plain) == 12
    assert {site.activations for site in set(all_of_them) - set(plain)} == {(0, 1)}
    assert len(all_of_them) == 16


def test_the_other_operand_of_a_residual_add_is_quantized() -> None:
    assert qdq.residuals(residual(), {"conv"}) == (Site(node="add", kind="Add", activations=(1,)),)
    assert qdq.residuals(residual(), set()) == ()
    assert qdq.residuals(residual(second_use=True), {"conv"}) == ()  # its result is needed beside the sum: no fusion


def test_of_two_convolutions_the_earlier_is_the_residual() -> None:
    (site,) = qdq.residuals(residual(shortcut=True), {"conv", "shortcut"})
    assert residual(shortcut=True).graph.node[3].input[site.activations[0]] == "s"


def test_insert_gives_each_consumer_its_own_pair_and_keeps_bias(models: dict[str, Path]) -> None:
    model = residual()
    chosen = qdq.sites(model, attention=False)
    qdq.insert(model, chosen, {"r": 2.54})
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Relu", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv",
                     "QuantizeLinear", "DequantizeLinear", "Add", "Mul"]  # fmt: skip
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert stored["r_scale"] == np.float32(0.02)
    assert stored["w0_axis0_int8"].dtype == np.int8
    assert stored["w0_axis0_scale"].shape == (16,)

    model = files.load(models["deconvolution"])
    qdq.insert(model, qdq.sites(model, attention=False), {"image": 1.0, "r": 1.0})
    (up,) = (node for node in model.graph.node if node.name == "up")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert up.input[2] == "b2"
    assert stored["b2"].dtype == np.float32
    assert stored["w2_tensor_scale"].shape == ()


WEIGHTS = arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(-1e3, 1e3, width=32))


@given(WEIGHTS, st.sampled_from([None, 0, 1]), st.sampled_from(["float32", "float16"]))
def test_weight_is_off_by_half_a_step_at_most(values: Any, axis: int | None, scale_type: str) -> None:
    whole, scales = qdq.quantized(values, axis, "w", scale_type)
    assert whole.dtype == np.int8
    assert np.abs(whole.astype(int)).max() <= 127
    spread = scales if axis is None else scales.reshape([-1 if i == axis else 1 for i in range(2)])
    assert (spread > 0).all()
    assert np.array_equal(spread, spread.astype(scale_type).astype(np.float32))
    # A scale rounded down to 16 bits cuts the largest value off by as much: 2**-11 of 127 steps.
    slack = 0.5 if scale_type == "float32" else 0.5 + 127 * 2**-11
    assert (np.abs(whole * spread.astype(np.float64) - values) <= spread * slack * (1 + 1e-5)).all()


def test_channel_of_zeros_stays_zeros() -> None:
    whole, scales = qdq.quantized(np.array([[0.0, 0.0], [1.0, -2.0]], dtype=np.float32), 0, "w", "float32")
    assert whole.tolist() == [[0, 0], [64, -127]]
    assert scales.tolist() == [1.0, np.float32(2 / 127)]


@pytest.mark.parametrize(
    ("values", "said"), [([np.inf], "holds infinities"), ([np.nan], "holds infinities"), ([3e38], "more than float16")]
)
def test_weight_that_cannot_be_quantized_is_named(values: list[float], said: str) -> None:
    with pytest.raises(PassError, match=f"'w'.*{said}"):
        qdq.quantized(np.array(values, dtype=np.float32), None, "w", "float16")
