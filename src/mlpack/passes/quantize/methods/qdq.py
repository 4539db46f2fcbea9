"""Quantize/dequantize pairs as TensorRT fuses them: signed 8 bit on both sides, symmetric, each consumer with a pair of its own.

Promises:
- Activations have one scale a tensor, weights one an output channel (transposed convolutions: one a tensor), and weights are
  stored as int8. Zero points are zero.
- Biases, normalisation, Softmax and GELU do not change.
- The operand of a residual Add that is not the convolution's own result has a pair, so that the Add fuses into the convolution.
- Standard ONNX only.

Will not: measure ranges (`ranges` does) or judge anything.

Sources: docs.nvidia.com/deeplearning/tensorrt, "Explicit Quantization": quantize all inputs of weighted operations, not their
outputs, and the residual input of skip connections; symmetric, per tensor and per channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlpack.errors import PassError
from mlpack.passes.quantize.choice import choose

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

_STEPS = 127
"""Values are -127 to 127: symmetric, as TensorRT requires."""

_SMALLEST_SCALE: Mapping[str, float] = {"float32": 2.0**-126, "float16": 2.0**-14}
"""The smallest number with all its bits: the error of a smaller scale would exceed the rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A node that will compute in 8 bits: which inputs are activations, and which is a stored weight, with its channel's axis."""

    node: str
    kind: str
    activations: tuple[int, ...]
    weight: int | None = None
    axis: int | None = None


def sites(model: onnx.ModelProto, *, attention: bool) -> tuple[Site, ...]:
    """The places of pairs: nodes with large enough stored weights, and tensors that are added to a convolution's result.

    `attention`: products of two activations too. Every node must have a name of its own.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == 1}  # TensorProto.FLOAT
    tiny = set(choose.tiny(model))
    results: list[Site] = []
    for node in model.graph.node:
        if node.op_type not in choose.WEIGHTED or node.input[0] in weights or node.name in tiny:
            continue
        if node.input[1] in weights:
            axis = _axis(node, len(weights[node.input[1]].dims))
            results.append(Site(node=node.name, kind=node.op_type, activations=(0,), weight=1, axis=axis))
        elif attention and node.op_type == "MatMul":
            results.append(Site(node=node.name, kind=node.op_type, activations=(0, 1)))
    return (*results, *residuals(model, {site.node for site in results}))


def residuals(model: onnx.ModelProto, quantized: set[str]) -> tuple[Site, ...]:
    """Adds that read a quantized convolution's result: the other operand gets a pair, and TensorRT fuses the Add.

    Of two convolutions' results the earlier is the residual: the later convolution runs last and takes the Add along.
    """
    producers = {name: (place, node) for place, node in enumerate(model.graph.node) for name in node.output}
    stored = {tensor.name for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    uses.update(value.name for value in model.graph.output)
    results = []
    for node in model.graph.node:
        if node.op_type != "Add" or any(name in stored for name in node.input) or node.input[0] == node.input[1]:
            continue
        makers = [producers.get(name, (-1, None)) if uses[name] == 1 else (-1, None) for name in node.input]
        places = [place if one is not None and one.op_type == "Conv" and one.name in quantized else -1 for place, one in makers]
        if max(places) >= 0:
            results.append(Site(node=node.name, kind="Add", activations=(1 - places.index(max(places)),)))
    return tuple(results)


def _axis(node: onnx.NodeProto, rank: int) -> int | None:
    """The axis of output channels; None is one scale for the whole weight."""
    if node.op_type == "ConvTranspose" or rank < 2:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1
    return rank - 1 if rank == 2 else None


def tensors(model: onnx.ModelProto, chosen: Sequence[Site]) -> tuple[str, ...]:
    """The activations whose ranges the sites need, in the graph's order."""
    by_name = {node.name: node for node in model.graph.node}
    return tuple(dict.fromkeys(by_name[site.node].input[slot] for site in chosen for slot in site.activations))


def insert(
    model: onnx.ModelProto,
    chosen: Sequence[Site],
    largest: Mapping[str, float],
    scale_type: Literal["float32", "float16"] = "float32",
) -> None:
    """Add the pairs to `model`, in place. `largest`: for each activation, the absolute value that becomes 127.

    `scale_type`: scales are rounded to it before anything is divided by them, and stored as float32. Raises PassError for a
    weight or range that is not finite.
    """
    from onnx import helper, numpy_helper

    sites_by_node = {site.node: site for site in chosen}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    added: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []

    def keep(name: str, values: Array) -> str:
        added.setdefault(name, numpy_helper.from_array(values, name))
        return name

    zero = "qdq_zero"
    for node in model.graph.node:
        site = sites_by_node.get(node.name)
        for slot in site.activations if site else ():
            tensor, label = node.input[slot], f"{node.name}_input{slot}"
            scale = keep(f"{tensor}_scale", _scale(largest[tensor], tensor, scale_type))
            keep(zero, _zeros(()))
            for kind, source, result in (("Quantize", tensor, f"{label}_q"), ("Dequantize", f"{label}_q", f"{label}_dq")):
                parts = [source, scale, zero]
                nodes.append(helper.make_node(f"{kind}Linear", parts, [result], name=f"{label}_{kind.lower()}"))
            node.input[slot] = f"{label}_dq"
        if site and site.weight is not None:
            name, label = node.input[site.weight], f"{node.name}_weight"
            whole, scales = quantized(numpy_helper.to_array(stored[name]), site.axis, name, scale_type)
            form = "tensor" if site.axis is None else f"axis{site.axis}"
            parts = [keep(f"{name}_{form}_int8", whole), keep(f"{name}_{form}_scale", scales)]
            parts.append(keep(f"{name}_{form}_zero", _zeros(scales.shape)))
            options = {} if site.axis is None else {"axis": site.axis}
            nodes.append(helper.make_node("DequantizeLinear", parts, [f"{label}_dq"], name=f"{label}_dequantize", **options))
            node.input[site.weight] = f"{label}_dq"
        nodes.append(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    model.graph.initializer.extend(added.values())
    del model.graph.value_info[:]


def quantized(values: Array, axis: int | None, name: str, scale_type: str) -> tuple[Array, Array]:
    """A weight as int8, and its scale: one, or one for each index of `axis`."""
    import numpy as np

    if not np.isfinite(values).all():
        raise PassError(f"precision: weight {name!r} holds infinities or NaN; the model is damaged, or its training diverged")
    if axis is None:
        scales = np.asarray(_scale(float(np.abs(values).max(initial=0)), name, scale_type))
        spread = scales
    else:
        others = tuple(i for i in range(values.ndim) if i != axis)
        reached = np.abs(values).max(axis=others, initial=0)
        scales = np.array([_scale(float(value), name, scale_type) for value in reached], dtype=np.float32)
        spread = scales.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    whole = np.clip(np.rint(values / spread), -_STEPS, _STEPS).astype(np.int8)
    return whole, scales


def _scale(largest: float, name: str, scale_type: str) -> Array:
    import numpy as np

    if not np.isfinite(largest):
        raise PassError(f"precision: {name!r} is not finite on the calibration data; keep its node float with `keep_float`")
    kind = np.dtype(scale_type)
    scale = max(largest / _STEPS, _SMALLEST_SCALE[scale_type]) if largest > 0 else 1.0
    if scale > float(np.finfo(kind).max):
        raise PassError(f"precision: {name!r} reaches {largest:.3g}, more than {scale_type} scales can hold; keep its node float")
    return np.asarray(scale, dtype=kind).astype(np.float32)


def _zeros(shape: tuple[int, ...]) -> Array:
    import numpy as np

    return np.zeros(shape, dtype=np.int8)
