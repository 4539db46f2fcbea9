"""Models that strangers brought, made anew with `onnx.helper`: each function writes a model and its data into a folder.

Small, deterministic and without a framework. What each is about stands in its docstring; `tests_slow/test_foreign_models.py` says
what a build of it must give.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, INT32, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL
Shape = list[int | str] | None


def weights(seed: int = 0) -> Any:
    """A maker of float weights: `f(name, *shape, scale=...)`."""
    random = np.random.default_rng(seed)

    def made(name: str, *shape: int, scale: float = 0.15) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(0, scale, shape).astype("f4"), name)

    return made


def constant(name: str, value: Any) -> onnx.TensorProto:
    """An initializer as numpy has it."""
    return numpy_helper.from_array(np.asarray(value), name)


def port(name: str, shape: Shape, kind: int = FLOAT) -> onnx.ValueInfoProto:
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def node(op: str, takes: list[str], gives: list[str], name: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node, named or not."""
    return helper.make_node(op, takes, gives, name=name, **attributes)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: list[onnx.TensorProto],
    **more: Any,
) -> onnx.ModelProto:
    """A model of opset 17 and IR 9 unless said otherwise."""
    said = {"opset_imports": [helper.make_opsetid("", 17)], "ir_version": 9} | more
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, initializers), **said)


def nameless(folder: Path) -> None:
    """A classifier of convolutions twice: nodes without names, which is legal, and with. The first and the head are too small for
    int8, the middle is not."""
    for name, named in (("model", False), ("named", True)):
        f = weights()
        count = iter(range(99))

        def of(op: str, takes: list[str], gives: str, *, named: bool = named, count: Any = count, **more: Any) -> Any:
            return node(op, takes, [gives], f"node{next(count)}" if named else "", **more)

        nodes = [
            of("Conv", ["x", "w1"], "c1", pads=[1] * 4),
            of("Relu", ["c1"], "r1"),
            of("Conv", ["r1", "w2"], "c2", pads=[1] * 4, strides=[2, 2]),
            of("Relu", ["c2"], "r2"),
            of("Conv", ["r2", "w3"], "c3", pads=[1] * 4, strides=[2, 2]),
            of("Relu", ["c3"], "r3"),
            of("GlobalAveragePool", ["r3"], "p"),
            of("Flatten", ["p"], "f"),
            of("Gemm", ["f", "fw", "fb"], "y", transB=1),
        ]
        held = [f("w1", 32, 1, 3, 3, scale=0.3), f("w2", 64, 32, 3, 3, scale=0.06), f("w3", 64, 64, 3, 3, scale=0.04)]
        held += [f("fw", 10, 64, scale=0.2), f("fb", 10, scale=0.1)]
        onnx.save(model(nodes, [port("x", ["n", 1, 28, 28])], [port("y", ["n", 10])], held), folder / f"{name}.onnx")
    x = np.random.default_rng(1).normal(size=(140, 1, 28, 28)).astype("f4")
    np.savez(folder / "eval.npz", x=x[:100])
    np.savez(folder / "calib.npz", x=x[100:])


def names(folder: Path) -> None:
    """Names that trip tools: inputs `labels`, `images:0`, `größe/x`, outputs with a colon and a space, some nodes without any, two
    with nearly the same; a scalar bool, an int32; weights in a file with spaces and an umlaut."""
    f = weights()
    nodes = [
        node("Gather", ["emb", "labels"], ["e"], "a/b"),
        node("MatMul", ["images:0", "w"], ["m"], "größe node"),
        node("Mul", ["größe/x", "m"], ["mm"]),
        node("Add", ["mm", "e"], ["s"], "a/b2"),
        node("Relu", ["s"], ["rs"]),
        node("MatMul", ["rs", "w2"], ["StatefulPartitionedCall:0"]),
        node("Where", ["flag", "s", "rs"], ["out put"]),
    ]
    inputs = [port("labels", ["n"], INT32), port("images:0", ["n", 64]), port("größe/x", ["n", 1]), port("flag", [], BOOL)]
    outputs = [port("StatefulPartitionedCall:0", ["n", 32]), port("out put", ["n", 64])]
    made = model(nodes, inputs, outputs, [f("emb", 20, 64), f("w", 64, 64), f("w2", 64, 32)])
    onnx.save(made, folder / "my model.onnx", save_as_external_data=True, location="wei ghts ü.bin", size_threshold=100)
    r = np.random.default_rng(0)
    values = {"labels": r.integers(0, 20, (30, 1)).astype("i4"), "images:0": r.normal(size=(30, 1, 64)).astype("f4")}
    values |= {"größe/x": r.normal(size=(30, 1, 1)).astype("f4"), "flag": np.arange(30) % 2 == 0}
    np.savez(folder / "calls.npz", **values)


def new_opset(folder: Path) -> None:
    """`Attention` and `RMSNormalization` of opset 23; the same at whatever IR and opset `onnx` writes by default; weights' products
    in a local function."""
    f = weights()
    nodes = [node("RMSNormalization", ["x", "g"], ["xn"], "rms")]
    nodes += [node("MatMul", ["xn", f"w{letter}"], [letter], letter) for letter in "qkv"]
    nodes += [
        node("Attention", ["q", "k", "v"], ["a"], "att", q_num_heads=4, kv_num_heads=4),
        node("MatMul", ["a", "wo"], ["o"], "o"),
        node("Add", ["x", "o"], ["y"], "res"),
    ]
    held = [f("g", 64), *(f(f"w{letter}", 64, 64) for letter in "qkvo")]
    ends = ([port("x", ["batch", "len", 64])], [port("y", ["batch", "len", 64])])
    onnx.save(model(nodes, *ends, held, opset_imports=[helper.make_opsetid("", 23)], ir_version=11), folder / "model.onnx")
    newest = helper.make_model(helper.make_graph(nodes, "g", *ends, held))
    onnx.save(newest, folder / "newest.onnx")
    opset = [helper.make_opsetid("", 17)]
    block = helper.make_function(
        "my", "Block", ["a", "w"], ["b"], [node("MatMul", ["a", "w"], ["t"]), node("Relu", ["t"], ["b"])], opset
    )
    calls = [
        helper.make_node("Block", ["x", "wq"], ["u"], domain="my"),
        helper.make_node("Block", ["u", "wk"], ["y"], domain="my"),
    ]
    said = {"opset_imports": [*opset, helper.make_opsetid("my", 1)], "functions": [block]}
    onnx.save(model(calls, *ends, [f("wq", 64, 64), f("wk", 64, 64)], **said), folder / "functions.onnx")
    x = np.random.default_rng(0).normal(size=(50, 8, 64)).astype("f4")
    np.savez(folder / "eval.npz", x=x)
    np.savez(folder / "calib.npz", x=x + 3)


def old_opset(folder: Path) -> None:
    """Opset 9 and IR 3 as older exporters wrote them: weights listed among the inputs, Upsample, BatchNormalization."""
    r = np.random.default_rng(0)
    held = {
        "w1": r.normal(0, 0.2, (32, 3, 3, 3)), "w2": r.normal(0, 0.1, (32, 32, 3, 3)), "g": np.abs(r.normal(1, 0.1, 32)),
        "b": r.normal(0, 0.1, 32), "mean": r.normal(0, 0.1, 32), "var": np.abs(r.normal(1, 0.1, 32)), "sc": np.array([1, 1, 2, 2]),
        "fw": r.normal(0, 0.1, (10, 32)), "fb": r.normal(0, 0.1, 10),
    }  # fmt: skip
    nodes = [
        node("Conv", ["data", "w1"], ["c"], pads=[1] * 4, strides=[2, 2]),
        node("BatchNormalization", ["c", "g", "b", "mean", "var"], ["bn"]),
        node("Relu", ["bn"], ["r"]),
        node("Upsample", ["r", "sc"], ["u"], mode="nearest"),
        node("Conv", ["u", "w2"], ["c2"], pads=[1] * 4, strides=[2, 2]),
        node("Relu", ["c2"], ["r2"]),
        node("GlobalAveragePool", ["r2"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "fw", "fb"], ["prob"], transB=1),
    ]
    inputs = [port("data", ["N", 3, 32, 32]), *(port(name, list(value.shape)) for name, value in held.items())]
    tensors = [constant(name, value.astype("f4")) for name, value in held.items()]
    said = {"opset_imports": [helper.make_opsetid("", 9)], "ir_version": 3}
    onnx.save(model(nodes, inputs, [port("prob", ["N", 10])], tensors, **said), folder / "model.onnx")
    x = r.normal(size=(120, 3, 32, 32)).astype("f4")
    np.savez(folder / "eval.npz", data=x[:80])
    np.savez(folder / "calib.npz", data=x[80:])


def loop_seq(folder: Path) -> None:
    """A decoder as a Loop with weights in its body, as many steps as an input says; its output also without a rank, as some
    converters leave it."""
    f = weights()
    body = helper.make_graph(
        [
            node("MatMul", ["s_in", "Wb"], ["m"]),
            node("Tanh", ["m"], ["s_out"]),
            node("Identity", ["s_out"], ["row"]),
            node("Identity", ["c_in"], ["c_out"]),
        ],
        "body",
        [port("i", [], INT64), port("c_in", [], BOOL), port("s_in", ["b", 64])],
        [port("c_out", [], BOOL), port("s_out", ["b", 64]), port("row", ["b", 64])],
        [f("Wb", 64, 64)],
    )
    nodes = [
        node("MatMul", ["x", "W0"], ["s0"], "m0"),
        node("Loop", ["steps", "yes", "s0"], ["s", "rows"], "loop", body=body),
    ]
    held = [f("W0", 32, 64), constant("yes", True)]
    inputs = [port("x", ["b", 32]), port("steps", [], INT64)]
    onnx.save(model(nodes, inputs, [port("rows", ["t", "b", 64])], held), folder / "model.onnx")
    onnx.save(model(nodes, inputs, [port("rows", None)], held), folder / "unk.onnx")
    x = np.random.default_rng(0).normal(size=(30, 1, 32)).astype("f4")
    np.savez(folder / "eval.npz", x=x, steps=np.full(30, 5))


def tied(folder: Path) -> None:
    """One table read by Gather and, transposed, by the last MatMul; one matrix in two MatMuls. `model.onnx` has a 3-d weight
    besides, `only.onnx` has not."""
    for name, between in (("model", node("MatMul", ["b4", "w3"], ["heads"])), ("only", node("Identity", ["b4"], ["heads"]))):
        f = weights()
        nodes = [
            node("Gather", ["table", "ids"], ["x"]),
            node("MatMul", ["x", "shared"], ["a"]),
            node("Relu", ["a"], ["a1"]),
            node("MatMul", ["a1", "shared"], ["b"]),
            node("Unsqueeze", ["b", "one"], ["b4"]),
            between,
            node("ReduceSum", ["heads", "one"], ["s"], keepdims=0),
            node("Transpose", ["table"], ["tt"], perm=[1, 0]),
            node("MatMul", ["s", "tt"], ["logits"]),
        ]
        held = [f("table", 2000, 96), f("shared", 96, 96), f("w3", 4, 96, 96), constant("one", np.array([1]))]
        held = [each for each in held if name == "model" or each.name != "w3"]
        inputs, outputs = [port("ids", ["batch", "length"], INT64)], [port("logits", ["batch", "length", 2000])]
        onnx.save(model(nodes, inputs, outputs, held), folder / f"{name}.onnx")
    np.savez(folder / "eval.npz", ids=np.random.default_rng(0).integers(0, 2000, (40, 12)))


def gnn(folder: Path) -> None:
    """Message passing over edges whose numbers name nodes: what is invented for them must be below the number of nodes."""
    f = weights()
    nodes = [
        node("Gather", ["edge_index", "zero"], ["from"]),
        node("Gather", ["edge_index", "one"], ["to"]),
        node("MatMul", ["x", "w1"], ["h"]),
        node("Gather", ["h", "from"], ["messages"]),
        node("Unsqueeze", ["to", "axis"], ["to1"]),
        node("Mul", ["h", "nil"], ["empty"]),
        node("ScatterND", ["empty", "to1", "messages"], ["got"], reduction="add"),
        node("Relu", ["got"], ["r"]),
        node("MatMul", ["r", "w2"], ["y"]),
    ]
    held = [
        f("w1", 16, 64),
        f("w2", 64, 5),
        constant("zero", 0),
        constant("one", 1),
        constant("axis", [1]),
        constant("nil", np.float32(0)),
    ]
    inputs = [port("x", ["nodes", 16]), port("edge_index", [2, "edges"], INT64)]
    onnx.save(model(nodes, inputs, [port("y", ["nodes", 5])], held), folder / "model.onnx")
    r = np.random.default_rng(0)
    np.savez(folder / "eval.npz", x=r.normal(size=(20, 12, 16)).astype("f4"), edge_index=r.integers(0, 12, (20, 2, 30)))


def unet64(folder: Path) -> None:
    """Six halvings and one long skip: pictures whose sides are no multiples of 64 do not fit together again."""
    f = weights()
    nodes, last, held = [], "x", []
    for depth in range(6):
        held.append(f(f"d{depth}", 16, 3 if depth == 0 else 16, 3, 3))
        nodes += [
            node("Conv", [last, f"d{depth}"], [f"c{depth}"], pads=[1] * 4, strides=[2, 2]),
            node("Relu", [f"c{depth}"], [f"r{depth}"]),
        ]
        last = f"r{depth}"
    nodes += [
        node("Resize", [last, "", "scales"], ["up"], mode="nearest"),
        node("Concat", ["up", "r0"], ["cat"], axis=1),
        node("Conv", ["cat", "head"], ["y"]),
    ]
    held += [constant("scales", np.array([1, 1, 32, 32], "f4")), f("head", 4, 32, 1, 1)]
    onnx.save(model(nodes, [port("x", ["b", 3, "h", "w"])], [port("y", ["b", 4, "h2", "w2"])], held), folder / "model.onnx")
    r = np.random.default_rng(0)
    np.savez(folder / "eval.npz", x=r.normal(size=(12, 3, 64, 128)).astype("f4"))
    np.savez(folder / "calib.npz", x=r.normal(size=(6, 3, 64, 128)).astype("f4"))


def seg_origsize(folder: Path) -> None:
    """A mask head with the size of its answer as an input, as SAM's decoder has."""
    f = weights()
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        node("Cast", ["orig_size"], ["hw"], to=INT64),
        node("Concat", ["nc", "hw"], ["size"], axis=0),
        node("Resize", ["c", "", "", "size"], ["mask"], mode="linear"),
    ]
    held = [f("w", 4, 8, 3, 3), constant("nc", np.array([1, 4]))]
    inputs = [port("x", [1, 8, 16, 16]), port("orig_size", [2])]
    onnx.save(model(nodes, inputs, [port("mask", [1, 4, "h", "w"])], held), folder / "model.onnx")
    r = np.random.default_rng(0)
    sizes = np.array([[20 + i, 40 - i] for i in range(12)], "f4")
    np.savez(folder / "eval.npz", x=r.normal(size=(12, 1, 8, 16, 16)).astype("f4"), orig_size=sizes)
    np.savez(folder / "calib.npz", x=r.normal(size=(6, 1, 8, 16, 16)).astype("f4"), orig_size=sizes[:6] + 1)


def nms(folder: Path) -> None:
    """A detector that ends in NonMaxSuppression: how many rows it gives differs from picture to picture."""
    f = weights()
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], pads=[1] * 4, strides=[4, 4]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1] * 4),
        node("Reshape", ["c2", "flat"], ["raw"]),
        node("Transpose", ["raw"], ["t"], perm=[0, 2, 1]),
        node("Slice", ["t", "zero", "four", "two"], ["box"]),
        node("Sigmoid", ["box"], ["boxes"]),
        node("Slice", ["raw", "four", "six", "one"], ["score"]),
        node("Sigmoid", ["score"], ["scores"]),
        node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["picked"]),
    ]
    held = [f("w1", 32, 3, 3, 3, scale=0.3), f("w2", 6, 32, 3, 3, scale=0.2)]
    held += [constant(name, np.array([value])) for name, value in (("zero", 0), ("one", 1), ("two", 2), ("four", 4), ("six", 6))]
    held += [constant("flat", np.array([0, 6, -1])), constant("most", np.array([20]))]
    held += [constant("overlap", np.array([0.4], "f4")), constant("least", np.array([0.6], "f4"))]
    outputs = [port("picked", ["found", 3], INT64)]
    onnx.save(model(nodes, [port("x", [1, 3, 32, 32])], outputs, held), folder / "model.onnx")
    r = np.random.default_rng(0)
    np.savez(folder / "eval.npz", x=(r.normal(size=(24, 3, 32, 32)) * r.uniform(0.1, 2, (24, 1, 1, 1))).astype("f4"))
    np.savez(folder / "calib.npz", x=r.normal(size=(8, 3, 32, 32)).astype("f4"))


def noise(folder: Path) -> None:
    """A sampler that draws random numbers in its graph, beside an output that does not depend on them."""
    f = weights()
    nodes = [
        node("MatMul", ["x", "w"], ["mean"]),
        node("RandomNormalLike", ["mean"], ["z"]),
        node("Add", ["mean", "z"], ["sampled"]),
    ]
    outputs = [port("sampled", ["n", 64]), port("mean", ["n", 64])]
    onnx.save(model(nodes, [port("x", ["n", 64])], outputs, [f("w", 64, 64)]), folder / "model.onnx")
    np.savez(folder / "eval.npz", x=np.random.default_rng(0).normal(size=(40, 64)).astype("f4"))
