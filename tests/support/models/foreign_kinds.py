"""Kinds of models that strangers bring and nobody reported yet: `KINDS` by name, each a graph and the evaluation data for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from tests.support.models.foreign_graphs import BOOL, FLOAT, INT32, INT64, constant, model, node, port, weights

Kind = tuple[onnx.ModelProto, dict[str, Any]]
HALF, DOUBLE, UINT8, STRING = TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8, TensorProto.STRING


def _normal(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype("f4")


def keras_nhwc() -> Kind:
    """Channels last, turned around each convolution, as Keras' converter writes it."""
    f = weights()
    nodes = [
        node("Transpose", ["x"], ["t1"], perm=[0, 3, 1, 2]),
        node("Conv", ["t1", "w1"], ["c1"], pads=[1] * 4),
        node("Transpose", ["c1"], ["t2"], perm=[0, 2, 3, 1]),
        node("Add", ["t2", "b1"], ["a1"]),
        node("Relu", ["a1"], ["r1"]),
        node("Transpose", ["r1"], ["t3"], perm=[0, 3, 1, 2]),
        node("Conv", ["t3", "w2"], ["c2"], pads=[1] * 4),
        node("Transpose", ["c2"], ["t4"], perm=[0, 2, 3, 1]),
        node("ReduceMean", ["t4"], ["y"], axes=[1, 2], keepdims=0),
    ]
    held = [f("w1", 32, 3, 3, 3), f("b1", 32), f("w2", 32, 32, 3, 3)]
    return model(nodes, [port("x", ["unk__1", 16, 16, 3])], [port("y", ["unk__2", 32])], held), {"x": _normal(20, 16, 16, 3)}


def uint8_picture() -> Kind:
    """Bytes in, divided inside; any height and width."""
    nodes = [
        node("Cast", ["image"], ["f"], to=FLOAT),
        node("Div", ["f", "all"], ["d"]),
        node("Conv", ["d", "w"], ["c"], pads=[1] * 4, strides=[2, 2]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["y"]),
    ]
    held = [weights()("w", 32, 3, 3, 3), constant("all", np.float32(255))]
    made = model(nodes, [port("image", ["n", 3, "height", "width"], UINT8)], [port("y", ["n", 32])], held)
    return made, {"image": np.random.default_rng(0).integers(0, 256, (20, 3, 40, 56)).astype("u1")}


def int32_tokens() -> Kind:
    """Numbers of tokens as TensorFlow has them."""
    f = weights()
    nodes = [
        node("Gather", ["table", "ids"], ["e"]),
        node("Cast", ["mask"], ["m"], to=FLOAT),
        node("Unsqueeze", ["m", "last"], ["m1"]),
        node("Mul", ["e", "m1"], ["em"]),
        node("ReduceSum", ["em", "one"], ["s"], keepdims=0),
        node("MatMul", ["s", "w"], ["y"]),
    ]
    held = [f("table", 500, 64), f("w", 64, 20), constant("last", [-1]), constant("one", [1])]
    inputs = [port("ids", ["b", "s"], INT32), port("mask", ["b", "s"], INT32)]
    ids = np.random.default_rng(0).integers(0, 500, (30, 9)).astype("i4")
    return model(nodes, inputs, [port("y", ["b", 20])], held), {"ids": ids, "mask": np.ones_like(ids)}


def scalar_and_bool() -> Kind:
    """A scalar in, truth out."""
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Greater", ["h", "limit"], ["y"])]
    inputs = [port("x", ["n", 32]), port("limit", [])]
    arrays = {"x": _normal(20, 1, 32), "limit": np.linspace(-1, 1, 20).astype("f4")}
    return model(nodes, inputs, [port("y", ["n", 24], BOOL)], [weights()("w", 32, 24)]), arrays


def two_batches() -> Kind:
    """Queries and candidates, each with a batch of its own."""
    nodes = [node("MatMul", ["q", "w"], ["a"]), node("Transpose", ["c"], ["t"], perm=[1, 0]), node("MatMul", ["a", "t"], ["y"])]
    inputs = [port("q", ["queries", 32]), port("c", ["candidates", 32])]
    arrays = {"q": _normal(12, 2, 32), "c": _normal(12, 7, 32)}
    return model(nodes, inputs, [port("y", ["queries", "candidates"])], [weights()("w", 32, 32)]), arrays


def no_batch() -> Kind:
    """One sample without a batch axis, all fixed."""
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])]
    return model(nodes, [port("x", [32])], [port("y", [48])], [weights()("w", 32, 48)]), {"x": _normal(20, 32)}


def finds_nothing() -> Kind:
    """A detector that is never sure: every answer has no rows."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Greater", ["h", "never"], ["g"]),
        node("NonZero", ["g"], ["z"]),
        node("Transpose", ["z"], ["y"], perm=[1, 0]),
    ]
    held = [weights()("w", 32, 24), constant("never", np.float32(1e9))]
    return model(nodes, [port("x", [1, 32])], [port("y", ["found", 2], INT64)], held), {"x": _normal(20, 32)}


def gru() -> Kind:
    """A GRU as Keras and torch have it: `linear_before_reset`."""
    f = weights()
    nodes = [
        node("GRU", ["x", "w", "r", "b"], ["all", "h"], hidden_size=32, linear_before_reset=1),
        node("Squeeze", ["h", "zero"], ["s"]),
        node("MatMul", ["s", "o"], ["y"]),
    ]
    held = [f("w", 1, 96, 16), f("r", 1, 96, 32), f("b", 1, 192), f("o", 32, 20), constant("zero", [0])]
    return model(nodes, [port("x", ["time", "b", 16])], [port("y", ["b", 20])], held), {"x": _normal(20, 11, 1, 16)}


def einsum() -> Kind:
    """Heads mixed by letters."""
    nodes = [
        node("Einsum", ["x", "w"], ["h"], equation="bld,dhe->blhe"),
        node("Einsum", ["h", "h"], ["y"], equation="blhe,bmhe->bhlm"),
    ]
    made = model(nodes, [port("x", ["b", "l", 32])], [port("y", ["b", 4, "l", "l"])], [weights()("w", 32, 4, 16)])
    return made, {"x": _normal(20, 6, 32)}


def half_model() -> Kind:
    """Float16 weights, inputs and outputs."""
    random = np.random.default_rng(0)
    held = [
        constant("w", random.normal(0, 0.1, (32, 64)).astype("f2")),
        constant("v", random.normal(0, 0.1, (64, 20)).astype("f2")),
    ]
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "v"], ["y"])]
    made = model(nodes, [port("x", ["n", 32], HALF)], [port("y", ["n", 20], HALF)], held)
    return made, {"x": _normal(20, 32).astype("f2")}


def bfloat16_weights() -> Kind:
    """Weights stored in bfloat16 and cast where they are used."""
    values = _normal(32, 64) * np.float32(0.1)
    raw = (values.view("u4") >> 16).astype("<u2").tobytes()
    held = [helper.make_tensor("w", TensorProto.BFLOAT16, [32, 64], raw, raw=True)]
    nodes = [node("Cast", ["w"], ["wf"], to=FLOAT), node("MatMul", ["x", "wf"], ["y"])]
    return model(nodes, [port("x", ["n", 32])], [port("y", ["n", 64])], held), {"x": _normal(20, 32)}


def old_resize() -> Kind:
    """Opset 11's Resize, by sizes, half a pixel off."""
    f = weights()
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        node("Resize", ["c", "roi", "none", "sizes"], ["u"], mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
        node("Conv", ["u", "v"], ["y"]),
    ]
    held = [f("w", 32, 3, 3, 3), f("v", 16, 32, 1, 1), constant("roi", np.zeros(0, "f4")), constant("none", np.zeros(0, "f4"))]
    held.append(constant("sizes", np.array([1, 32, 24, 24])))
    said = {"opset_imports": [helper.make_opsetid("", 11)], "ir_version": 6}
    return model(nodes, [port("x", [1, 3, 12, 12])], [port("y", [1, 16, 24, 24])], held, **said), {"x": _normal(16, 3, 12, 12)}


def top_k() -> Kind:
    """The five best, with their numbers."""
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("TopK", ["h", "five"], ["values", "places"])]
    outputs = [port("values", ["n", 5]), port("places", ["n", 5], INT64)]
    held = [weights()("w", 32, 64), constant("five", [5])]
    return model(nodes, [port("x", ["n", 32])], outputs, held), {"x": _normal(20, 32)}


def input_returned() -> Kind:
    """One output is the input itself."""
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    return model(nodes, [port("x", ["n", 32])], [port("y", ["n", 64]), port("x", ["n", 32])], [weights()("w", 32, 64)]), {
        "x": _normal(20, 32)
    }


def identity() -> Kind:
    """Nothing is computed."""
    return model([node("Identity", ["x"], ["y"])], [port("x", ["n", 8])], [port("y", ["n", 8])], []), {"x": _normal(20, 8)}


def constant_beside() -> Kind:
    """Class names, or anchors, as an output that no input changes."""
    nodes = [node("MatMul", ["x", "w"], ["y"]), node("Identity", ["anchors"], ["grid"])]
    outputs = [port("y", ["n", 64]), port("grid", [4, 4])]
    held = [weights()("w", 32, 64), constant("anchors", np.arange(16, dtype="f4").reshape(4, 4))]
    return model(nodes, [port("x", ["n", 32])], outputs, held), {"x": _normal(20, 32)}


def stored_output() -> Kind:
    """An output that is a stored tensor, without any node."""
    outputs = [port("y", ["n", 64]), port("anchors", [3])]
    held = [weights()("w", 32, 64), constant("anchors", np.arange(3, dtype="f4"))]
    return model([node("MatMul", ["x", "w"], ["y"])], [port("x", ["n", 32])], outputs, held), {"x": _normal(20, 32)}


def scan_state() -> Kind:
    """A running sum by Scan."""
    body = helper.make_graph(
        [node("Add", ["s", "e"], ["n"]), node("Identity", ["n"], ["o"])],
        "body", [port("s", [8]), port("e", [8])], [port("n", [8]), port("o", [8])],
    )  # fmt: skip
    nodes = [node("Scan", ["start", "x"], ["end", "y"], body=body, num_scan_inputs=1), node("MatMul", ["y", "w"], ["z"])]
    held = [constant("start", np.zeros(8, "f4")), weights()("w", 8, 32)]
    return model(nodes, [port("x", ["t", 8])], [port("end", [8]), port("z", ["t", 32])], held), {"x": _normal(12, 5, 8)}


def video() -> Kind:
    """Five axes: Conv3d over frames."""
    f = weights()
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 6),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "v"], ["d"], pads=[1] * 6),
        node("ReduceMean", ["d"], ["y"], axes=[2, 3, 4], keepdims=0),
    ]
    held = [f("w", 32, 3, 3, 3, 3), f("v", 32, 32, 3, 3, 3)]
    return model(nodes, [port("x", ["n", 3, "frames", 16, 16])], [port("y", ["n", 32])], held), {"x": _normal(12, 3, 4, 16, 16)}


def doubles() -> Kind:
    """Float64 all through, as R and some of scikit-learn have it."""
    held = [constant("w", np.random.default_rng(0).normal(size=(32, 64)))]
    made = model([node("MatMul", ["x", "w"], ["y"])], [port("x", ["n", 32], DOUBLE)], [port("y", ["n", 64], DOUBLE)], held)
    return made, {"x": np.random.default_rng(1).normal(size=(20, 32))}


def sequence_inside() -> Kind:
    """Split into a sequence and put together again."""
    nodes = [
        node("SplitToSequence", ["x"], ["parts"], axis=1),
        node("ConcatFromSequence", ["parts"], ["c"], axis=1),
        node("MatMul", ["c", "w"], ["y"]),
    ]
    return model(nodes, [port("x", ["n", 8])], [port("y", ["n", 32])], [weights()("w", 8, 32)]), {"x": _normal(20, 8)}


def words_inside() -> Kind:
    """A text in, hashed by the engine's own operator of strings."""
    nodes = [node("Equal", ["word", "yes"], ["e"]), node("Cast", ["e"], ["y"], to=FLOAT)]
    said = {"opset_imports": [helper.make_opsetid("", 19)]}
    made = model(
        nodes, [port("word", ["n", 1], STRING)], [port("y", ["n", 1])], [constant("yes", np.array(["yes"], object))], **said
    )
    return made, {"word": np.array([["yes"], ["no"], ["Łódź"], [""], ["yes"]] * 4)}


def long_short_names() -> Kind:
    """Axes of one name that differ, unknown axes, names of every kind."""
    nodes = [node("MatMul", ["0", "w"], ["1"]), node("Add", ["1", "2"], ["output"])]
    inputs = [port("0", ["?", 32]), port("2", ["?", 64])]
    return model(nodes, inputs, [port("output", ["?", 64])], [weights()("w", 32, 64)]), {"0": _normal(20, 32), "2": _normal(20, 64)}


def affine_grid() -> Kind:
    """A spatial transformer: GridSample."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        node("GridSample", ["c", "grid"], ["y"]),
    ]
    inputs = [port("x", ["n", 3, 8, 8]), port("grid", ["n", 6, 6, 2])]
    arrays = {"x": _normal(16, 3, 8, 8), "grid": np.tanh(_normal(16, 6, 6, 2))}
    return model(nodes, inputs, [port("y", ["n", 16, 6, 6])], [weights()("w", 16, 3, 3, 3)]), arrays


KINDS: dict[str, Callable[[], Kind]] = {
    made.__name__: made
    for made in (
        keras_nhwc, uint8_picture, int32_tokens, scalar_and_bool, two_batches, no_batch, finds_nothing, gru, einsum, half_model,
        bfloat16_weights, old_resize, top_k, input_returned, identity, constant_beside, stored_output, scan_state, video, doubles,
        sequence_inside, words_inside, long_short_names, affine_grid,
    )
}  # fmt: skip
