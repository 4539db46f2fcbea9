"""Finds weights that get one scale for all channels, because a scale a channel costs time and one for all loses almost nothing.

Promises:
- Only LSTM, and products of a single row a sample, are considered. Channels count as alike only if the rounding error of one
  scale stays below `MOST` of the power of each.
- The same weights give the same answer. It changes nothing.

A scale a channel costs the same for one row and for a hundred. Measured on a processor with VNNI: wake words of two LSTMs 0.93
of the time with one scale (their weights are multiplied once a step, a row each), those of two products of one row 0.92 to
0.93; products of 64 rows 0.97, which is not worth any accuracy.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from mlpack.graphs import files, weights
from mlpack.passes.quantize.choice.choose import PRODUCTS, walk
from mlpack.passes.quantize.writing import attributes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

MOST = 2.0**-7
"""Of a channel's power. One scale leaves 0.0006 at worst in the LSTMs of a wake word and 0.0056 in the products of another, whose
fidelity drops by 0.001 and 0.0001, as with a scale a channel. A third's products, with 0.013, answer one call of 24 otherwise."""

_AT_ONCE = 1 << 20
"""Values that are processed at once: a head may have a gigabyte of them."""
Weight = tuple[str, int]
"""A node's name, and the number of its input."""


def weights_of_one_scale(model: onnx.ModelProto, names: Collection[str], steps: int) -> frozenset[Weight]:
    """The weights with one scale among those of these nodes. `steps`: of a weight, on each side of zero."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node, _ in walk(model.graph) if node.name in names]
    single = _single_rows(model, [node.input[0] for node in nodes if node.op_type in PRODUCTS])
    members: set[Weight] = set()
    for node in nodes:
        if node.op_type == "LSTM":
            places = {place: _directions(weights.array(stored[node.input[place]])) for place in (1, 2)}
        elif node.op_type in PRODUCTS and node.input[0] in single:
            values = weights.array(stored[node.input[1]])
            turned = node.op_type == "Gemm" and attributes(node).get("transB", 0)
            places = {1: iter([values.T if turned else values])}
        else:
            continue
        members |= {(node.name, place) for place, matrices in places.items() if _alike(matrices, steps)}
    return frozenset(members)


def _directions(values: Array) -> Iterator[Array]:
    """The matrices in an LSTM's weights [directions, channels, inputs], one after the other, a column a channel."""
    return (each.T for each in values)


def _alike(matrices: Iterable[Array], steps: int) -> bool:
    """Whether one scale for each matrix leaves every column almost unchanged."""
    import numpy as np

    for matrix in matrices:
        step = max(float(matrix.max(initial=0)), -float(matrix.min(initial=0))) / steps
        some = max(1, _AT_ONCE // max(1, len(matrix)))
        for start in range(0, matrix.shape[1] if step else 0, some):
            exact = matrix[:, start : start + some].astype(np.float64)
            noise = np.square(np.rint(exact / step) * step - exact).sum(axis=0)
            if (noise > MOST * np.square(exact).sum(axis=0)).any():
                return False
    return True


def _single_rows(model: onnx.ModelProto, tensors: Collection[str]) -> set[str]:
    """Those of these tensors that surely are one row for each sample, as far as inference knows. A sample is an index of an axis
    with which inputs begin."""
    import onnx

    if not tensors:
        return set()
    batch = {str(spec.shape[0]) for spec in files.inputs_of(model).inputs if spec.shape and isinstance(spec.shape[0], str)}
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return set()
    single = set()
    for graph in files.graphs(model.graph):
        for value in (*graph.input, *graph.value_info):
            dims = value.type.tensor_type.shape.dim[:-1]
            if value.name in tensors and dims and prod(_rows(dim, batch) for dim in dims) == 1:
                single.add(value.name)
    return single


def _rows(dim: onnx.TensorShapeProto.Dimension, batch: Collection[str]) -> int:
    """The axis's length without the batch; 0 where it is not known."""
    return 1 if dim.dim_param in batch else int(dim.dim_value)
