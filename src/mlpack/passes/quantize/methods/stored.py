"""Weights that are stored in 4 or 8 bits and read by operators that take float: smaller files without ranges.

Promises:
- Products read them in blocks with a scale each (the engine's MatMulNBits). Tables are gathered in 8 bits, with a scale a row.
  Every other operator gets them dequantized. Nodes inside If, Loop and Scan as well.

Will not: choose nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlpack.passes.quantize.scales as eight
from mlpack.graphs import files
from mlpack.passes.quantize.methods.pairs import stored_before
from mlpack.passes.quantize.writing import GraphWriter, attributes, replace

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

_MICROSOFT = "com.microsoft"
_STEPS = 127
BLOCKS = {4: 32, 8: 64}
"""The number of values in a product's column that share a scale, by their bits."""
_BY_INTEGERS = 4
"""MatMulNBits' `accuracy_level` at which a block's activations are rounded to 8 bits for it: 0.5 to 0.6 of float's time on MiniLM
instead of 0.9 (4 bits) and 11 (8 bits). Its kernels for AVX2 do not saturate: tried under an emulated Haswell, with every weight
and activation at its limit."""


def insert(writer: GraphWriter, chosen: Collection[str], bits: int) -> None:
    """Store the weights of these nodes of the writer's model in integers, in place. `bits`: of products; others have 8."""
    _of_graph(writer, writer.model.graph, chosen, bits)


def _of_graph(writer: GraphWriter, graph: onnx.GraphProto, chosen: Collection[str], bits: int) -> None:
    instead: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for nested in files.subgraphs(node):
            _of_graph(writer, nested, chosen, bits)
        if node.name not in chosen:
            continue
        if node.op_type in ("MatMul", "Gemm"):
            instead[node.name] = _product(writer, node, bits)
        elif node.op_type == "Gather":
            instead[node.name] = _table(writer, node)
        elif node.op_type == "EmbedLayerNormalization":
            instead[node.name] = [_embedding(writer, node)]
        else:
            instead[node.name] = _before(writer, node)
    if instead:
        replace(graph, instead)


def _product(writer: GraphWriter, node: onnx.NodeProto, bits: int) -> list[onnx.NodeProto]:
    import numpy as np

    writer.imports(_MICROSOFT)
    settings = attributes(node)
    values = writer.values(node.input[1])
    if node.op_type == "Gemm":
        values = (values.T if settings.get("transB", 0) else values) * np.float32(settings.get("alpha", 1.0))
    packed, scales, zeros = blocks(values, bits)
    name, result = node.input[1], node.output[0]
    parts = [writer.keep(f"{name}_int{bits}", packed), writer.keep(f"{name}_int{bits}_scale", scales)]
    parts.append(writer.keep(f"{name}_int{bits}_zero_point", zeros))
    added = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
    product = writer.fresh(f"{result}_product") if added else result
    sizes = {"K": values.shape[0], "N": values.shape[1], "bits": bits, "block_size": BLOCKS[bits]}
    sizes["accuracy_level"] = _BY_INTEGERS
    nodes = [writer.node("MatMulNBits", [node.input[0], *parts], [product], f"{node.name}_blocks", domain=_MICROSOFT, **sizes)]
    if not added:
        return nodes
    if (beta := settings.get("beta", 1.0)) != 1.0:
        times = writer.fresh(f"{result}_added")
        nodes.append(
            writer.node("Mul", [added, writer.keep("gemm_beta", np.array(beta, np.float32))], [times], f"{node.name}_beta")
        )
        added = times
    return [*nodes, writer.node("Add", [product, added], [result], f"{node.name}_add")]


def blocks(values: Array, bits: int) -> tuple[Array, Array, Array]:
    """A matrix [K, N] in the form of MatMulNBits: bytes [N, blocks, ...], scales [N, blocks], zero points [N, ...], from the lowest
    to the highest value of each block."""
    import numpy as np

    (rows, columns), length = values.shape, BLOCKS[bits]
    count = -(-rows // length)
    padded = np.zeros((columns, count * length), np.float32)
    padded[:, :rows] = values.T
    cut = padded.reshape(columns, count, length)
    low, high = np.minimum(cut.min(axis=2), 0), np.maximum(cut.max(axis=2), 0)
    top = 2**bits - 1
    scales = np.where(high > low, np.maximum((high - low) / top, eight.SMALLEST_SCALE), 1).astype(np.float32)
    zeros = np.clip(np.rint(-low / scales), 0, top)
    whole = np.clip(np.rint(cut / scales[..., None]) + zeros[..., None], 0, top).astype(np.uint8)
    return _packed(whole, bits), scales, _packed(zeros.astype(np.uint8), bits)


def _packed(values: Array, bits: int) -> Array:
    """Two values of four bits in a byte, the earlier one below, along the last axis."""
    import numpy as np

    if bits == 8:
        return values
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros((*values.shape[:-1], 1), np.uint8)], axis=-1)
    return np.ascontiguousarray(values[..., 0::2] | (values[..., 1::2] << 4))


def _table(writer: GraphWriter, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A table whose rows are gathered in 8 bits. One of two axes has a scale a row, which is gathered too; others have one
    scale."""
    import numpy as np

    values, settings = writer.values(node.input[0]), attributes(node)
    by_row = values.ndim == 2 and settings.get("axis", 0) in (0, -2)
    whole, scales = eight.of_weight(values, 0 if by_row else None, _STEPS)
    name, result = node.input[0], node.output[0]
    table = writer.keep(f"{name}_int8", whole)
    gathered = writer.fresh(f"{result}_int8")
    nodes = [writer.node("Gather", [table, node.input[1]], [gathered], f"{node.name}_rows", **settings)]
    if not by_row:
        parts = [writer.keep(f"{name}_scale", scales), writer.keep(f"{name}_zero_point", np.zeros((), np.int8))]
        return [*nodes, writer.node("DequantizeLinear", [gathered, *parts], [result], f"{node.name}_dequantize")]
    steps = writer.keep(f"{name}_scale", scales.reshape(-1, 1))
    cast, factor = writer.fresh(f"{result}_cast"), writer.fresh(f"{result}_scale")
    return [
        *nodes,
        writer.node("Cast", [gathered], [cast], f"{node.name}_cast", to=1),  # TensorProto.FLOAT
        writer.node("Gather", [steps, node.input[1]], [factor], f"{node.name}_scales", **settings),
        writer.node("Mul", [cast, factor], [result], f"{node.name}_scale"),
    ]


def _embedding(writer: GraphWriter, node: onnx.NodeProto) -> onnx.NodeProto:
    """The engine's own operator of three tables and a normalisation in 8 bits, one scale each."""
    import numpy as np

    writer.imports(_MICROSOFT)
    inputs, scales, zeros = [], [], []
    for name in node.input[2:7]:
        if not name:
            inputs.append("")
            scales.append("")
            zeros.append("")
            continue
        whole, scale = eight.of_weight(writer.values(name), None, _STEPS)
        inputs.append(writer.keep(f"{name}_int8", whole))
        scales.append(writer.keep(f"{name}_scale", scale))
        zeros.append(writer.keep(f"{name}_zero_point", np.zeros((), np.int8)))
    mask = node.input[7] if len(node.input) > 7 else ""
    takes = [*node.input[:2], *inputs, mask, *scales, *zeros]
    settings = attributes(node)
    return writer.node("QEmbedLayerNormalization", takes, list(node.output), f"{node.name}_int8", domain=_MICROSOFT, **settings)


def _before(writer: GraphWriter, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The node behind nodes that dequantize its weights."""
    copy = type(node).FromString(node.SerializeToString())
    nodes = []
    for place in (1, 2) if node.op_type in ("LSTM", "GRU", "RNN") else (1,):
        axis = 0 if node.op_type == "Conv" else 1
        operands = eight.of_weight(writer.values(node.input[place]), axis, _STEPS)
        nodes.append(stored_before(writer, copy, place, operands, axis))
    return [*nodes, copy]
