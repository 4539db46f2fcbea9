"""The standard form of a graph, on which passes rely whoever wrote the file.

Promises:
- The engine takes the versions of the file. There are no local functions.
- Every node has a unique name, in nested graphs too.
- Weights are dense initializers of the main graph and no inputs.
- Every open axis of inputs and outputs has a name, and axes share a name only where the file says more than "unknown". Ranks
  and types of outputs are known.
- The graph computes the same. A part that would grow beyond `LARGEST_MADE` bytes or `MOST_NODES` nodes stays as it is, or is
  refused where it cannot stay.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core.files import bounded
from mlpack.errors import PassError
from mlpack.graphs import check, files, weights
from mlpack.graphs.foreign import ranks, versions

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx
    import onnx_ir as ir

LARGEST_MADE = 1 << 29
"""The most bytes of weights that a file does not hold but describes (ConstantOfShape, sparse), all together."""

MOST_NODES = 1_000_000
"""The most nodes after functions are inlined."""

_ASIDE = "set aside: "

_NAMELESS = {"", "?", "-1", "*", "none", "null", "nan", "unknown", "unk", "dynamic", "dyn", "any"}
"""Names that exporters write for an axis that they know nothing of: two of them are two axes."""


def standard(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The model of this file in standard form; do not use `model` again. Raises PassError when it is no model, or too large a
    one."""
    import onnx_ir

    name = path.name
    model = versions.adapted(model, name)
    _check(model, path)
    _densify(model.graph, name)
    for function in model.functions:
        _densify_nodes(function.node, name)
    ranks.infer(model)
    aside = _set_aside(model)
    try:
        graph = onnx_ir.serde.deserialize_model(model)
        _inline(graph, name)
        _name_nodes(graph)
        _lift(graph)
        _name_axes(graph)
        proto = onnx_ir.serde.serialize_model(graph)
    except PassError:
        raise
    except Exception as error:  # onnx_ir raises many classes for a foreign file
        raise PassError(f"{name}: not a graph that can be read ({type(error).__name__}: {str(error)[:300]})") from error
    _put_back(proto, aside)
    return proto


def _set_aside(model: onnx.ModelProto) -> dict[str, bytes]:
    """Remove the bytes of large weights from the graph, so that nothing below copies them, and return them."""
    stored: dict[str, bytes] = {}
    for number, tensor in enumerate(model.graph.initializer):
        if tensor.data_location == tensor.DEFAULT and len(tensor.raw_data) > weights.LARGE_BYTES:
            place = weights.ByteRange(Path(f"{_ASIDE}{number}"), 0, len(tensor.raw_data))
            stored[str(place.path)] = tensor.raw_data
            weights.point(tensor, place)
    return stored


def _put_back(model: onnx.ModelProto, stored: dict[str, bytes]) -> None:
    for tensor in model.graph.initializer:
        place = weights.referred(tensor)
        if place is not None and str(place.path) in stored:
            tensor.raw_data = stored[str(place.path)]
            tensor.data_location = tensor.DEFAULT
            del tensor.external_data[:]


def _check(model: onnx.ModelProto, path: Path) -> None:
    """Raise PassError when neither ONNX's checker nor the engine accepts it: the engine accepts more, and it runs the model."""
    import onnx

    try:
        onnx.checker.check_model(weights.skeleton(model))
    except onnx.checker.ValidationError as error:
        try:
            check.session_of(check.source_of(model, path), "ORT_DISABLE_ALL")
        except PassError as refused:
            raise PassError(
                f"{path.name}: not a valid ONNX model: {str(error).strip().splitlines()[0]}\n"
                "The tool that wrote it is at fault, or the file was edited: export it again, or check it with onnx.checker "
                f"({refused})"
            ) from error


def _densify(graph: onnx.GraphProto, name: str) -> None:
    """Replace the sparse weights of a graph and those nested in it by dense ones."""
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_dense(sparse, name))
    del graph.sparse_initializer[:]
    _densify_nodes(graph.node, name)


def _densify_nodes(nodes: Iterable[onnx.NodeProto], name: str) -> None:
    from onnx import helper

    for node in nodes:
        for attribute in list(node.attribute):
            if attribute.HasField("sparse_tensor") and node.op_type == "Constant":
                node.attribute.remove(attribute)
                node.attribute.append(helper.make_attribute("value", _dense(attribute.sparse_tensor, name)))
        for nested in files.subgraphs(node):
            _densify(nested, name)


def _dense(sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto:
    import numpy as np
    from onnx import numpy_helper

    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    shape = tuple(sparse.dims)
    _affordable(prod(shape) * values.dtype.itemsize, f"{name}: the sparse weights {sparse.values.name!r} of shape {shape}")
    full = np.zeros(shape, values.dtype)
    try:
        places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        full.reshape(-1)[places] = values
    except (ValueError, IndexError) as error:
        raise PassError(f"{name}: the sparse weights {sparse.values.name!r} have values outside of their shape {shape}") from error
    return numpy_helper.from_array(full, sparse.values.name)


def _affordable(size: int, what: str) -> None:
    if not 0 <= size <= LARGEST_MADE:
        raise PassError(f"{what} would take {size:,} bytes, more than {LARGEST_MADE:,}: save the model with plain weights")
    bounded.fits_in_memory(size, what, PassError)


def _inline(model: ir.Model, name: str) -> None:
    """Replace calls of the file's own functions by the functions' nodes."""
    from onnx_ir.passes import common

    if not model.functions:
        return
    sizes: dict[Any, int] = {}
    if (total := _expanded(model.graph, model, sizes, ())) > MOST_NODES:
        raise PassError(f"{name}: its functions, put in the place of their calls, make {total:,} nodes, more than {MOST_NODES:,}")
    common.InlinePass()(model)


def _expanded(graph: Any, model: ir.Model, sizes: dict[Any, int], above: tuple[Any, ...]) -> int:
    """The number of nodes of a graph once every call is its function's body."""
    import onnx_ir

    total = 0
    for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
        key = node.op_identifier()
        if key in above:
            raise PassError(f"the function {key[1]!r} calls itself, which ONNX does not allow")
        if key in model.functions:
            if key not in sizes:
                sizes[key] = _expanded(model.functions[key], model, sizes, (*above, key))
            total += sizes[key]
        else:
            total += 1
    return total


def _name_nodes(model: ir.Model) -> None:
    """Give every node a name of its own: tools that find nodes by name would take '' for all that have none."""
    import onnx_ir

    nodes = list(onnx_ir.traversal.RecursiveGraphIterator(model.graph))
    names = {node.name for node in nodes if node.name}
    used: set[str] = set()
    count: dict[str, int] = {}
    for node in nodes:
        base = node.name or node.op_type
        if not node.name or node.name in used:
            while (fresh := f"{base}_{count.setdefault(base, 0)}") in names:
                count[base] += 1
            names.add(fresh)
            node.name = fresh
        used.add(node.name)


def _lift(model: ir.Model) -> None:
    """Turn weights, wherever they are written, into initializers of the main graph."""
    from onnx_ir.passes import common

    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.RemoveInitializersFromInputsPass()(model)
    _fill(model)
    common.LiftSubgraphInitializersToMainGraphPass()(model)


def _fill(model: ir.Model) -> None:
    """Replace ConstantOfShape with a constant shape by its tensor, as long as all of them together are small enough."""
    import numpy as np
    import onnx_ir

    remaining = LARGEST_MADE
    for node in list(onnx_ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.op_type != "ConstantOfShape" or node.domain or node.outputs[0].is_graph_output():
            continue
        source = node.inputs[0]
        if source is None or source.const_value is None or source.is_graph_input():
            continue
        shape = tuple(int(length) for length in source.const_value.numpy())
        value = node.attributes["value"].as_tensor().numpy().reshape(-1) if "value" in node.attributes else np.zeros(1, np.float32)
        size = prod(shape) * value.dtype.itemsize
        if min(shape, default=0) < 0 or size > remaining or not _fits(size) or value.dtype.kind not in "fiub":
            continue
        remaining -= size
        constant = onnx_ir.tensor(np.full(shape, value[0]), name=node.outputs[0].name)
        weight = onnx_ir.Value(
            name=node.outputs[0].name, shape=constant.shape, type=onnx_ir.TensorType(constant.dtype), const_value=constant
        )
        assert node.graph is not None
        node.graph.register_initializer(weight)
        node.outputs[0].replace_all_uses_with(weight)
        node.graph.remove(node, safe=True)


def _fits(size: int) -> bool:
    try:
        bounded.fits_in_memory(size, "weights", PassError)
    except PassError:
        return False
    return True


def _name_axes(model: ir.Model) -> None:
    """Name the open axes of inputs and outputs: by the file's own names, else by the tensor's name and the axis' number."""
    import onnx_ir

    inputs = {id(value) for value in model.graph.inputs}
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is None:
            continue
        axes = list(value.shape.dims)
        for place, axis in enumerate(axes):
            if isinstance(axis, int):
                # An input without elements is of no use: old exporters write 0 for an open axis.
                is_fixed = axis > 0 or (axis == 0 and id(value) not in inputs)
            else:
                is_fixed = axis.value is not None and axis.value.strip().lower() not in _NAMELESS
            if not is_fixed:
                axes[place] = onnx_ir.SymbolicDim(f"{value.name}_axis{place}")
        value.shape = onnx_ir.Shape(axes)
