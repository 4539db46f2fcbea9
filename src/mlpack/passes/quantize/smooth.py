"""Smoothing: channels of activations with outliers are made smaller and the weights that they meet larger; the products stay.

Promises:
- Only the inputs of products that will be in integers change, and only where that brings them nearer to float on rows of the
  calls, by the strength that helps most.
- A LayerNorm that nothing else reads takes the division along; elsewhere a multiplication by a vector is added.
- Nodes keep their names; a tensor that is divided gets a new one.

Source: G. Xiao et al., "SmoothQuant", ICML 2023; there one strength, a half, for the whole model.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import mlpack.passes.quantize.scales as eight
from mlpack.graphs import weights
from mlpack.passes.quantize.calibration.observed import ObservedGraph, RecordedCalls
from mlpack.passes.quantize.view import View
from mlpack.passes.quantize.writing import GraphWriter, attributes, put

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    import onnx

    from mlpack.passes.quantize.methods.pairs import QuantizationScheme

    Array = np.ndarray[Any, Any]

_KINDS = ("MatMul", "Gemm", "Attention")
_OUTLIES = 4.0
"""How many times the median channel's values an outlier reaches: two bits of eight are lost for the others."""
_NORMS = {"LayerNormalization": (1, 2), "SimplifiedLayerNormalization": (1,), "SkipLayerNormalization": (2, 3)}
"""The inputs of a normalisation that are its factor and its offset."""
_STRENGTHS = (0.25, 0.5, 0.75)
"""The shares of the outliers that are moved to the weights. They have 7 bits on x86-64, one fewer than activations."""
_BETTER = 0.8
"""The largest error that may be left: a multiplication has to pay for itself."""
_ROWS, _MOST_ROWS = 32, 256
"""The most rows of a call, and of all calls."""
_STRONGEST = 1e3


def smoothed(
    model: onnx.ModelProto, chosen: Collection[str], on: RecordedCalls, form: QuantizationScheme
) -> tuple[onnx.ModelProto, list[str]]:
    """A copy of the graph with smoother activations for these nodes, and the names of the nodes that read them."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.name in chosen and node.op_type in _KINDS:
            readers[node.input[0]].append(node)
    reached = _reached(model, {name: _rows(nodes[0], sizes) for name, nodes in readers.items()}, on)
    result = type(model).FromString(model.SerializeToString())
    writer, view = GraphWriter(result, on.spilled), View(result)
    names: list[str] = []
    behind: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for name, nodes in readers.items():
        factors = _factors(*reached[name], [_matrix(writer, node) for node in nodes], form)
        if factors is None:
            continue
        names += [node.name for node in nodes]
        maker = view.made.get(name)
        behind[maker.name if maker is not None else ""] += _divided(writer, view, name, {node.name for node in nodes}, factors)
    put(result.graph, [*behind[""], *(each for node in list(result.graph.node) for each in (node, *behind[node.name]))])
    writer.finish()
    return result, names


def _rows(node: onnx.NodeProto, sizes: Mapping[str, Sequence[int]]) -> int:
    return sizes[node.input[1]][1 if node.op_type == "Gemm" and attributes(node).get("transB", 0) else 0]


def _matrix(writer: GraphWriter, node: onnx.NodeProto) -> Array:
    """A product's weights, a row for each channel of its input."""
    values = writer.values(node.input[1])
    return values.T if node.op_type == "Gemm" and attributes(node).get("transB", 0) else values


def _reached(model: onnx.ModelProto, columns: Mapping[str, int], on: RecordedCalls) -> dict[str, tuple[Array, Array]]:
    """The largest value of each channel of these tensors over the calls, and some rows of them."""
    import numpy as np

    beside = ObservedGraph(model)
    for name, count in columns.items():
        table = beside.table(name, count)
        beside.reduce("ReduceMax", table, [0])
        beside.rows(table, _ROWS)
    most = {name: np.zeros(count, np.float32) for name, count in columns.items()}
    rows: dict[str, list[Array]] = {name: [] for name in columns}
    for values in beside.seen(on) if columns else ():
        for name, reach, first in zip(columns, values[::2], values[1::2], strict=True):
            most[name] = np.maximum(most[name], np.nan_to_num(reach, posinf=0))
            if len(rows[name]) * _ROWS < _MOST_ROWS:
                rows[name].append(first)
    return {name: (most[name], np.nan_to_num(np.concatenate(rows[name]))) for name in columns}


def _factors(reached: Array, rows: Array, products: Sequence[Array], form: QuantizationScheme) -> Array | None:
    """The divisor of each channel, or None where no channel is an outlier or nothing is gained."""
    import numpy as np

    alive = reached > 0
    if not alive.any() or reached.max() <= _OUTLIES * np.median(reached[alive]):
        return None
    weight = np.max([np.abs(each).max(axis=1) for each in products], axis=0)
    both = alive & (weight > 0)
    best, least = None, _BETTER * _error(rows, products, np.ones(len(reached), np.float32), form)
    for strength in _STRENGTHS:
        factors = np.ones(len(reached))
        factors[both] = reached[both].astype(np.float64) ** strength / weight[both].astype(np.float64) ** (1 - strength)
        factors[both] /= np.exp(np.log(factors[both]).mean())  # as much up as down: the sizes of both sides stay
        clipped = np.clip(factors, 1 / _STRONGEST, _STRONGEST).astype(np.float32)
        if (error := _error(rows, products, clipped, form)) < least:
            best, least = clipped, error
    return best


def _error(rows: Array, products: Sequence[Array], factors: Array, form: QuantizationScheme) -> float:
    """The error of rounding both sides in the products of these rows, over their energy, in sum."""
    import numpy as np

    divided = rows / factors
    step, zero = eight.of_range(float(divided.min()), float(divided.max()), signed=False, symmetric=False)
    rounded = (np.clip(np.rint(divided / step) + zero, 0, 255) - zero) * np.float32(step)
    total = 0.0
    for matrix in products:
        whole, steps = eight.of_weight(matrix * factors[:, None], 1 if form.per_channel else None, form.steps)
        exact = rows @ matrix
        off = rounded @ (whole * steps) - exact
        total += float(np.square(off, dtype=np.float64).sum() / max(np.square(exact, dtype=np.float64).sum(), 1e-30))
    return total


def _divided(writer: GraphWriter, view: View, name: str, readers: set[str], factors: Array) -> list[onnx.NodeProto]:
    """Change the readers' weights and inputs. Returns the nodes to put behind the tensor's maker."""
    import numpy as np

    smooth = writer.fresh(f"{name}_smooth")
    for node in view.graph.node:
        if node.name not in readers:
            continue
        turned = node.op_type == "Gemm" and attributes(node).get("transB", 0)
        values = writer.values(node.input[1]) * (factors if turned else factors[:, None])
        node.input[0], node.input[1] = smooth, writer.keep(f"{node.input[1]}_smooth", np.asarray(values, np.float32))
    maker = view.made.get(name)
    alone = name not in view.others and all(node.name in readers for node in view.readers[name])
    places = _NORMS.get(maker.op_type, ()) if maker is not None else ()
    inputs = [place for place in places if maker is not None and len(maker.input) > place and maker.input[place]]
    if maker is not None and alone and inputs and all(maker.input[place] in writer.stored for place in inputs):
        for place in inputs:
            stored = weights.array(writer.stored[maker.input[place]])
            maker.input[place] = writer.keep(f"{maker.input[place]}_smooth", np.asarray(stored / factors, np.float32))
        maker.output[list(maker.output).index(name)] = smooth
        return []
    inverse = writer.keep(f"{name}_smooth_factor", (1 / factors).astype(np.float32))
    return [writer.node("Mul", [name, inverse], [smooth], f"{name}_smoothing")]
