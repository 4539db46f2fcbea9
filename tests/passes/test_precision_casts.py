"""Explicit casts: bfloat16 to the bit in the twin, types that agree, sensitive operators in float32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from mlpack.errors import PassError
from mlpack.graphs import check, files
from mlpack.passes.precision import casts

pytestmark = pytest.mark.slow

BF16, FP16 = TensorProto.BFLOAT16, TensorProto.FLOAT16


def never(_: Any) -> bool:
    return False


def of(nodes: list[Any], outputs: int = 1, **weights: Any) -> Any:
    """A graph of vectors: x and y in, z0, z1, ... out."""
    kind = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"])  # noqa: E731
    stored = [numpy_helper.from_array(np.asarray(array, dtype=np.float32), name) for name, array in weights.items()]
    made = helper.make_graph(nodes, "g", [kind("x"), kind("y")], [kind(f"z{i}") for i in range(outputs)], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


BINARY = ("Add", "Sub", "Mul", "Div")
ELEMENTWISE = of(
    [helper.make_node(kind, ["x", "y"], [f"z{i}"]) for i, kind in enumerate(BINARY)]
    + [helper.make_node("Relu", ["x"], ["z4"]), helper.make_node("Sqrt", ["ay"], ["z5"]), helper.make_node("Abs", ["y"], ["ay"])],
    outputs=6,
)
ELEMENTWISE.graph.node.sort(key=lambda node: node.output[0] != "ay")  # what is read comes first

NUMBERS = arrays.arrays(np.float32, 16, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


@pytest.fixture(scope="module")
def opened() -> list[Any]:
    twin, _ = casts.cast(ELEMENTWISE, BF16, never, emulated=True)
    levels = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL")
    return [check.session_of(twin.SerializeToString(), level) for level in levels]


@settings(deadline=None)
@given(x=NUMBERS, y=NUMBERS)
def test_twin_is_bfloat16_to_the_bit(opened: list[Any], x: Any, y: Any) -> None:
    """Each elementwise result is the exact one rounded once, and no optimisation of the engine takes a rounding out."""
    a, b = x.astype(ml_dtypes.bfloat16), y.astype(ml_dtypes.bfloat16)
    with np.errstate(all="ignore"):
        wide, other = a.astype(np.float64), b.astype(np.float64)
        exact = [wide + other, wide - other, wide * other, wide / other, np.maximum(wide, 0), np.sqrt(np.abs(other))]
        wanted = [_rounded(values) for values in exact]
    for session in opened:
        for name, got, want in zip((*BINARY, "Relu", "Sqrt"), session.run(None, {"x": x, "y": y}), wanted, strict=True):
            assert np.array_equal(got, want, equal_nan=True), name


def _rounded(values: Any) -> Any:
    """float64 to the nearest bfloat16, ties to even, without the engine or ml_dtypes: through the bits of float32, which is wide
    enough for the rounding to be that of the exact result (24 >= 2 * 8 + 2 bits) where the result is a normal number."""
    narrow = values.astype(np.float32)
    bits = narrow.view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return np.where(np.isfinite(narrow), bits.astype(np.uint32).view(np.float32), narrow)


def test_model_has_the_type_and_its_twin_the_same_weights(models: dict[str, Path]) -> None:
    model = files.load(models["mlp"])
    converted, counts = casts.cast(model, BF16, never)
    twin, _ = casts.cast(model, BF16, never, emulated=True)
    assert counts == {"nodes": 3, "weights": 3, "casts": 2, "clamped_masks": 0}
    stored, emulated = ([numpy_helper.to_array(t).tobytes() for t in m.graph.initializer] for m in (converted, twin))
    assert stored == emulated
    assert {tensor.data_type for tensor in converted.graph.initializer} == {BF16}
    assert not [n for n in model.graph.node if n.op_type == "Cast"], "the input was changed"


@pytest.mark.parametrize("name", ["bert-portable", "cnn-simple", "mlp", "deconvolution"])
@pytest.mark.parametrize("low", [BF16, FP16])
def test_types_agree_and_sensitive_operators_read_float32(models: dict[str, Path], name: str, low: int) -> None:
    model = files.load(models[name])
    before = files.signature_of(model)
    converted, _ = casts.cast(model, low, never)
    inferred = onnx.shape_inference.infer_shapes(converted, check_type=True, strict_mode=True, data_prop=True)
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.graph.value_info, *inferred.graph.input)}
    types |= {tensor.name: tensor.data_type for tensor in converted.graph.initializer}
    for node in converted.graph.node:
        kinds = {types[name] for name in node.input if types.get(name) in (TensorProto.FLOAT, low)}
        assert node.op_type == "Cast" or len(kinds) <= 1, node
        assert node.op_type not in casts.SENSITIVE or low not in kinds, node
    assert files.signature_of(converted) == before


def test_a_tensor_is_cast_once(models: dict[str, Path]) -> None:
    converted, _ = casts.cast(files.load(models["bert-portable"]), BF16, never)
    sources = Counter((node.input[0], node.attribute[0].i) for node in converted.graph.node if node.op_type == "Cast")
    assert max(sources.values()) == 1


def test_what_is_kept_stays_float(models: dict[str, Path]) -> None:
    converted, _ = casts.cast(files.load(models["mlp"]), BF16, lambda node: node.name == "first")
    types = {tensor.name: tensor.data_type for tensor in converted.graph.initializer}
    assert types == {"w1": TensorProto.FLOAT, "b1": TensorProto.FLOAT, "w2_bf16": BF16}


@pytest.mark.parametrize(("low", "lowest"), [(BF16, -3.3895313892515355e38), (FP16, -65504.0)])
def test_minus_infinity_of_a_mask_stays_finite(low: int, lowest: float) -> None:
    model = of([helper.make_node("Mul", ["x", "mask"], ["z0"])], mask=[np.finfo(np.float32).min])
    converted, counts = casts.cast(model, low, never)
    assert counts["clamped_masks"] == 1
    assert float(numpy_helper.to_array(converted.graph.initializer[0])[0]) == lowest


def test_weight_that_the_type_cannot_hold_is_named() -> None:
    with pytest.raises(PassError, match=r"weight 'large' reaches 1e\+05"):
        casts.cast(of([helper.make_node("Mul", ["x", "large"], ["z0"])], large=[1e5]), FP16, never)


def test_graphs_inside_a_node_keep_their_types() -> None:
    result = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n"])
    inner = helper.make_graph([helper.make_node("Add", ["s", "s"], ["out"])], "inner", [], [result])
    model = of([
        helper.make_node("Add", ["x", "y"], ["s"]),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["positive"], to=TensorProto.BOOL),
        helper.make_node("If", ["positive"], ["z0"], then_branch=inner, else_branch=inner),
    ])  # fmt: skip
    twin, _ = casts.cast(model, BF16, never, emulated=True)
    ones = np.full(3, 1.01, dtype=np.float32)
    (got,) = check.session_of(twin.SerializeToString(), "ORT_DISABLE_ALL").run(None, {"x": ones, "y": ones})
    rounded = ones.astype(ml_dtypes.bfloat16)
    assert np.array_equal(got, 2 * (rounded + rounded).astype(np.float32))


@given(st.permutations(range(6)))
def test_any_order_is_put_right(order: list[int]) -> None:
    nodes = [helper.make_node("Neg", [source], [f"t{i}"]) for i, source in enumerate(("x", "t0", "t1", "t2", "t3"))]
    nodes.append(helper.make_node("Add", ["t4", "t1"], ["z0"]))
    model = of([nodes[place] for place in order])
    casts.put_in_order(model)
    made = {"x", "y"}
    for node in model.graph.node:
        assert set(node.input) <= made
        made.update(node.output)
    assert len(model.graph.node) == 6


def test_unknown_type_is_refused() -> None:
    model = of([helper.make_node("Later", ["x"], ["u"], domain="elsewhere"), helper.make_node("Relu", ["u"], ["z0"])])
    model.opset_import.add(domain="elsewhere", version=1)
    with pytest.raises(PassError, match="cannot be"):
        casts.cast(model, BF16, never)
