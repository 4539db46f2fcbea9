"""Channels of activations that outlie the others, made smaller, and the weights that they meet larger: the numbers stay.

Promises: only the input of products that will be in integers is changed, and only where one channel reaches several times as far as
most; a LayerNorm that nothing else reads takes the division along, elsewhere a multiplication by a vector is added. Nodes keep
their names; a tensor that is divided gets a new one.

Source: G. Xiao et al., "SmoothQuant", ICML 2023, with its migration strength of a half.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from mlpack.graphs import weights
from mlpack.passes.quantize.observed import Beside, Calls
from mlpack.passes.quantize.pairs import View
from mlpack.passes.quantize.writing import Writer, attributes, put

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

_KINDS = ("MatMul", "Gemm", "Attention")
_OUTLIES = 4.0
"""How many times as far as the median channel one must reach: two bits of eight are gone for the others."""
_NORMS = {"LayerNormalization": (1, 2), "SimplifiedLayerNormalization": (1,), "SkipLayerNormalization": (2, 3)}
"""Where a normalisation has what it multiplies by, and what it adds."""
_STRONGEST = 1e3


def smoothed(model: onnx.ModelProto, chosen: Collection[str], on: Calls) -> tuple[onnx.ModelProto, list[str]]:
    """A copy of the graph with smoother activations for these nodes, and the names of the nodes that read them."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.name in chosen and node.op_type in _KINDS:
            readers[node.input[0]].append(node)
    reached = _reached(model, {name: _rows(found[0], sizes) for name, found in readers.items()}, on)
    made = type(model).FromString(model.SerializeToString())
    writer = Writer(made)
    names: list[str] = []
    behind: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for name, found in readers.items():
        factors = _factors(reached[name], [_by_row(writer, node) for node in found])
        if factors is None:
            continue
        names += [node.name for node in found]
        view = View(made)
        maker = view.made.get(name)
        behind[maker.name if maker is not None else ""] += _divided(writer, view, name, {node.name for node in found}, factors)
    put(made.graph, [*behind[""], *(each for node in list(made.graph.node) for each in (node, *behind[node.name]))])
    writer.finish()
    return made, names


def _rows(node: onnx.NodeProto, sizes: Mapping[str, Sequence[int]]) -> int:
    return sizes[node.input[1]][1 if node.op_type == "Gemm" and attributes(node).get("transB", 0) else 0]


def _by_row(writer: Writer, node: onnx.NodeProto) -> Array:
    """How far the weights of each channel of a product's input reach."""
    import numpy as np

    turned = node.op_type == "Gemm" and attributes(node).get("transB", 0)
    reach: Array = np.abs(writer.values(node.input[1])).max(axis=0 if turned else 1)
    return reach


def _reached(model: onnx.ModelProto, columns: Mapping[str, int], on: Calls) -> dict[str, Array]:
    """How far each channel of these tensors reaches over the calls."""
    import numpy as np

    beside = Beside(model)
    for name, count in columns.items():
        beside.reduce("ReduceMax", beside.table(name, count), [0])
    found = {name: np.zeros(count, np.float32) for name, count in columns.items()}
    for values in beside.seen(on) if columns else ():
        for (name, most), value in zip(list(found.items()), values, strict=True):
            found[name] = np.maximum(most, np.nan_to_num(value, posinf=0))
    return found


def _factors(reached: Array, by_row: Sequence[Array]) -> Array | None:
    """What each channel is divided by, or None where none outlies."""
    import numpy as np

    alive = reached > 0
    if not alive.any() or reached.max() <= _OUTLIES * np.median(reached[alive]):
        return None
    weight = np.max(by_row, axis=0)
    both = alive & (weight > 0)
    factors = np.ones(len(reached))
    factors[both] = np.sqrt(reached[both].astype(np.float64) / weight[both])
    factors[both] /= np.exp(np.log(factors[both]).mean())  # as much up as down: the sizes of both sides stay
    clipped: Array = np.clip(factors, 1 / _STRONGEST, _STRONGEST).astype(np.float32)
    return clipped


def _divided(writer: Writer, view: View, name: str, readers: set[str], factors: Array) -> list[onnx.NodeProto]:
    """Changes the readers' weights and what they read. Gives what is to be put behind the tensor's maker."""
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
    held = [place for place in places if maker is not None and len(maker.input) > place and maker.input[place]]
    if maker is not None and alone and held and all(maker.input[place] in writer.stored for place in held):
        for place in held:
            stored = weights.array(writer.stored[maker.input[place]])
            maker.input[place] = writer.keep(f"{maker.input[place]}_smooth", np.asarray(stored / factors, np.float32))
        maker.output[list(maker.output).index(name)] = smooth
        return []
    inverse = writer.keep(f"{name}_smooth_factor", (1 / factors).astype(np.float32))
    return [writer.node("Mul", [name, inverse], [smooth], f"{name}_smoothing")]
