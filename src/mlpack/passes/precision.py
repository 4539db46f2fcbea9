"""The precision pass: a graph that computes in 16-bit floating point, with 32-bit inputs and outputs.

Promises: weights and operators are fp16 except where fp16 is known to lose (a block list), the interface stays as it was, and
the result runs without infinities and close to its input on random data. Half the bytes everywhere; speed only on targets
whose kernels compute in fp16: a processor without them casts back and forth.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlpack.errors import PassError
from mlpack.passes import check, graph

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

_LARGEST = 65504.0
_MIN_SIMILARITY = 0.99
_MASK = -1e30
_KEPT_FLOAT = (
    "LayerNormalization", "SkipLayerNormalization", "Softmax", "ReduceL2", "ReduceSum", "ReduceMean", "Pow", "Exp", "Log",
)  # fmt: skip
"""Sums and exponentials: their intermediate values leave fp16's range or precision first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Which type to compute in, and what else must stay float32."""

    type: Literal["fp16"] = "fp16"
    """The type of weights and arithmetic."""
    keep_float: tuple[str, ...] = ()
    """Operator types or node names that stay float32 beside the built-in block list."""


def run(model_dir: Path, config: Precision, out_dir: Path) -> None:
    """Converts the graph of `model_dir` into `out_dir`. Raises PassError on overflow or when nothing can be converted."""
    from onnx import TensorProto
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    model = graph.load(model_dir)
    feeds = check.feeds(graph.signature_of(model), check.limits(model))
    before = Counter(node.op_type for node in model.graph.node)
    if any(before[name] for name in ("DequantizeLinear", "MatMulInteger", "QAttention", "QLinearConv")):
        raise PassError("precision: the graph is quantized already; convert the float model instead")
    blocked = [*DEFAULT_OP_BLOCK_LIST, *(name for name in _KEPT_FLOAT if before[name]), *config.keep_float]
    _separate(model, blocked)
    names = [node.name for node in model.graph.node if node.name in config.keep_float]
    try:
        model = SymbolicShapeInference.infer_shapes(model, auto_merge=True)  # the converter casts only what has a known type
        _refuse_overflow(model, feeds)
        converted = convert_float_to_float16(
            model, keep_io_types=True, disable_shape_infer=True, op_block_list=blocked, node_block_list=names
        )
    except check.TOOL_ERRORS as error:
        raise PassError(f"precision: the fp16 converter failed ({type(error).__name__}: {error})") from error
    half = [tensor for tensor in converted.graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    if not half:
        raise PassError("precision: nothing to convert: the graph has no float32 weights")
    count = len(half)
    graph.save(converted, out_dir)
    similar = _similarity(model_dir, out_dir, feeds)
    after = Counter(node.op_type for node in converted.graph.node)
    graph.finish(model_dir, out_dir, {
        "type": config.type, "converted_weights": count, "similarity": float(f"{similar:.6f}"),
        "kept_float": {name: after[name] for name in blocked if after[name]},
    })  # fmt: skip


def _refuse_overflow(model: onnx.ModelProto, feeds: list[dict[str, Any]]) -> None:
    """Raises PassError when a float32 run leaves fp16's range: a processor without fp16 kernels would hide it."""
    import numpy as np
    from onnx import TensorProto, helper

    probe = type(model).FromString(model.SerializeToString())
    made = {name for node in probe.graph.node for name in node.output} - {value.name for value in probe.graph.output}
    floats = [v.name for v in probe.graph.value_info if v.name in made and v.type.tensor_type.elem_type == TensorProto.FLOAT]
    names = [value.name for value in probe.graph.output] + floats
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in floats)
    opened = check.session_of(probe.SerializeToString(), "ORT_DISABLE_ALL")
    for feed in feeds:
        for name, values in zip(names, check.run(opened, feed), strict=True):
            if values.dtype.kind == "f" and values.size:
                kept = np.abs(values[values > _MASK])  # masks are meant to be as low as the type allows
                if kept.size and kept.max() > _LARGEST:
                    raise PassError(
                        f"precision: {name!r} reaches {kept.max():.3g}, which leaves fp16's range of {_LARGEST:g}; "
                        "name the operators that make it in `keep_float`"
                    )


def _separate(model: onnx.ModelProto, blocked: list[str]) -> None:
    """Gives nodes that stay float32 their own copies of shared weights: the converter would cast each twice under one name."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input if name in weights)
    for number, node in enumerate(model.graph.node):
        for slot, name in enumerate(node.input):
            if node.op_type in blocked and uses[name] > 1:
                copy = model.graph.initializer.add()
                copy.CopyFrom(weights[name])
                copy.name = node.input[slot] = f"{name}_{number}_{slot}"
                uses[name] -= 1


def _similarity(model_dir: Path, out_dir: Path, feeds: list[dict[str, Any]]) -> float:
    reference, opened = check.session(model_dir, "ORT_ENABLE_BASIC"), check.session(out_dir, "ORT_ENABLE_BASIC")
    worst = min(check.similarity(check.run(opened, feed), check.run(reference, feed)) for feed in feeds)
    if worst < _MIN_SIMILARITY:
        what = "gives infinities" if worst == -1.0 else f"differs (cosine {worst:.4f})"
        raise PassError(
            f"precision: the fp16 graph {what}: a value probably leaves fp16's range of {_LARGEST:g}; "
            "name the operators to keep in `keep_float`"
        )
    return worst
