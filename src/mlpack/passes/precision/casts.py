"""Explicit casts: a graph whose arithmetic is bfloat16 or float16 wherever that keeps its accuracy, every conversion a node.

Promises:
- Each node reads inputs of one floating type, which its operator's ONNX definition allows. Sensitive nodes read and give
  float32.
- Inputs and outputs of the graph keep their types. A weight is stored once in each type that something reads.
- `emulated` gives the numerically equal graph for an engine without bfloat16 kernels: the same operators on float32 values that
  are bfloat16 values, every result rounded to one (to nearest, ties to even, as the engine's Cast does).

Will not: check overflow and similarity; the pass does. Graphs nested in a node stay float32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.graphs import files

if TYPE_CHECKING:
    import onnx

OPSET = 22
"""The first in which convolutions and pooling are defined for bfloat16; float16 scales of Q/DQ need 19."""

SENSITIVE = (
    "LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization", "BatchNormalization",
    "LpNormalization", "MeanVarianceNormalization", "LRN", "Softmax", "LogSoftmax", "Pow", "Exp", "Log", "Erf", "Gelu", "Softplus",
    "Sinh", "Cosh", "CumSum", "GlobalAveragePool", "GlobalLpPool", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
"""Normalisation, sums and exponentials: their intermediate values lose range or precision first."""

_SHAPE_ONLY = ("Shape", "Size")
"""Operators that read no value: any type will do."""

_MASK = -1e30


@dataclass(slots=True)
class _CastGraph:
    """The state of the graph that is being written."""

    low: int
    emulated: bool
    opset: int
    floats: set[str]  # tensors that were float32
    native_low: set[str] = field(default_factory=set)
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    produced: set[str] = field(default_factory=set)
    clamped: int = 0

    @property
    def suffix(self) -> str:
        return "_bf16" if self.low == 16 else "_fp16"  # TensorProto.BFLOAT16


def raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in an opset that defines every operator for the types above. Raises PassError when that fails."""
    from onnx import version_converter

    version = _opset(model)
    if version >= OPSET:
        return model
    try:
        result = version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:
        raise PassError(
            f"precision: the graph's operators (opset {version}) could not be raised to opset {OPSET}, which the type needs "
            f"({str(error).strip()[:300]}); export the model with a newer opset"
        ) from error
    result.ir_version = max(result.ir_version, 10)
    return result


def _opset(model: onnx.ModelProto) -> int:
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def cast(
    model: onnx.ModelProto, low: int, is_kept: Callable[[onnx.NodeProto], bool], *, emulated: bool = False
) -> tuple[onnx.ModelProto, dict[str, int]]:
    """A new graph whose nodes compute in `low`, except those that are `is_kept` or not defined for it; and the numbers of such
    nodes, weights and casts.

    Raises PassError for a weight that the type cannot hold; weights that stand for minus infinity become its lowest number.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(raised(model))
    state = _CastGraph(low=low, emulated=emulated, opset=_opset(result), floats=_floats(result))
    state.weights = {tensor.name: tensor for tensor in result.graph.initializer}
    counted: Counter[str] = Counter()
    for node in list(result.graph.node):
        slots = _slots(node, state) if not is_kept(node) and node.op_type not in SENSITIVE else None
        if slots is None:
            _as_float(state, node)
        else:
            counted["nodes"] += 1
            _as_low(state, node, slots)
    for value in result.graph.output:
        _float_version(state, value.name)
    del result.graph.node[:]
    result.graph.node.extend(state.nodes)
    _stored(result, state)
    counted["weights"] = sum(tensor.data_type == low for tensor in result.graph.initializer)
    counted["casts"] = sum(node.op_type == "Cast" for node in result.graph.node)
    counted["clamped_masks"] = state.clamped
    return result, dict(counted)


def _floats(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors. Raises PassError when a type cannot be inferred."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise PassError(f"precision: types cannot be inferred ({str(error)[:300]}); simplify the graph first") from error
    types = {tensor.name: tensor.data_type for tensor in inferred.graph.initializer}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    for node in model.graph.node:
        unknown = [name for name in node.output if name and name not in types]
        if unknown:
            raise PassError(
                f"precision: the type of {unknown[0]!r} ({node.op_type}) cannot be inferred; simplify the graph first "
                "(`simplify: {operators: portable}`)"
            )
    return {name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT}


def _slots(node: onnx.NodeProto, state: _CastGraph) -> tuple[set[int], set[int]] | None:
    """The inputs and outputs that take the low type, or None where the operator is not defined for it."""
    import onnx

    if node.op_type in ("Cast", "CastLike") or any(a.HasField("g") or a.graphs for a in node.attribute):
        return None
    type_name = "tensor(bfloat16)" if state.low == onnx.TensorProto.BFLOAT16 else "tensor(float16)"
    schema = onnx.defs.get_schema(node.op_type, state.opset)
    allowed = {one.type_param_str: one.allowed_type_strs for one in schema.type_constraints}
    inputs, kinds = set(), set()
    for slot, name in enumerate(node.input):
        kind = schema.inputs[min(slot, len(schema.inputs) - 1)].type_str
        if name in state.floats and type_name in allowed.get(kind, (kind,)):
            inputs.add(slot)
            kinds.add(kind)
    outputs = set()
    for slot, name in enumerate(node.output):
        kind = schema.outputs[min(slot, len(schema.outputs) - 1)].type_str
        if name in state.floats:
            # From opset 23 the definition of DequantizeLinear no longer says that its result has the type of its scale.
            if kind not in kinds and node.op_type != "DequantizeLinear":
                return None
            outputs.add(slot)
    return (inputs, outputs) if inputs and (outputs or node.op_type == "QuantizeLinear") else None


def _as_float(state: _CastGraph, node: onnx.NodeProto) -> None:
    if node.op_type in _SHAPE_ONLY and node.input[0] in state.native_low and node.input[0] not in state.produced:
        node.input[0] += state.suffix
    for name in (*node.input, *_captured(node)):
        _float_version(state, name)
    state.nodes.append(node)
    state.produced.update(node.output)


def _as_low(state: _CastGraph, node: onnx.NodeProto, slots: tuple[set[int], set[int]]) -> None:
    for slot, name in enumerate(node.input):
        if slot in slots[0]:
            node.input[slot] = _low_version(state, name)
        else:
            _float_version(state, name)
    rounded = []
    for slot, name in enumerate(node.output):
        if slot in slots[1]:
            low_name = name + state.suffix
            state.native_low.add(name)
            state.produced.add(low_name)
            node.output[slot] = f"{low_name}_exact" if state.emulated else low_name
            rounded.append(low_name)
        else:
            state.produced.add(name)
    state.nodes.append(node)
    if state.emulated:
        for low_name in rounded:
            _round(state, f"{low_name}_exact", low_name)


def _float_version(state: _CastGraph, name: str) -> None:
    """Make sure that the float32 tensor of this name exists."""
    if name in state.native_low and name not in state.produced:
        state.produced.add(name)
        _cast_node(state, name + state.suffix, name, 1)  # TensorProto.FLOAT; of float32 to float32 where it is emulated


def _low_version(state: _CastGraph, name: str) -> str:
    """The name of this tensor in the low type; the cast is added at the first call."""
    low_name = name + state.suffix
    if low_name in state.produced:
        return low_name
    state.produced.add(low_name)
    if name in state.weights:
        stored = f"{low_name}_stored" if state.emulated else low_name
        state.weights[stored] = _narrowed(state, state.weights[name], stored)
        if state.emulated:
            _cast_node(state, stored, low_name, 1)
    elif state.emulated:
        _round(state, name, low_name)
    else:
        _cast_node(state, name, low_name, state.low)
    return low_name


def _round(state: _CastGraph, source: str, target: str) -> None:
    _cast_node(state, source, f"{target}_narrow", state.low)
    _cast_node(state, f"{target}_narrow", target, 1)


def _cast_node(state: _CastGraph, source: str, target: str, kind: int) -> None:
    from onnx import helper

    state.nodes.append(helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=kind))


def _narrowed(state: _CastGraph, tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    import numpy as np
    import onnx
    from onnx import numpy_helper

    kind = onnx.helper.tensor_dtype_to_np_dtype(state.low)
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        narrow = values.astype(kind)
    overflowed = np.isfinite(values) & ~np.isfinite(narrow.astype(np.float32))
    if overflowed.any():
        if (values[overflowed] > _MASK).any():
            worst = float(np.abs(values[overflowed]).max())
            raise PassError(
                f"precision: weight {tensor.name!r} reaches {worst:.3g}, more than the type can hold; "
                "name the operators that read it in `keep_float`"
            )
        lowest = onnx.helper.tensor_dtype_to_np_dtype(state.low).type(_lowest(state.low))
        narrow = np.where(overflowed, lowest, narrow).astype(kind)
        state.clamped += 1
    return numpy_helper.from_array(narrow, name)


def _lowest(low: int) -> float:
    """The most negative finite number: bfloat16's has float32's exponent and seven bits of ones after the first."""
    return -65504.0 if low == 10 else -3.3895313892515355e38  # TensorProto.FLOAT16


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    """Names that graphs nested in the node may take from outside."""

    def inside(graph: onnx.GraphProto) -> Iterator[str]:
        for inner in graph.node:
            yield from inner.input
            yield from _captured(inner)
        yield from (value.name for value in graph.output)

    for graph in files.subgraphs(node):
        yield from inside(graph)


def put_in_order(model: onnx.ModelProto) -> None:
    """Put each node behind those that it reads from, as ONNX requires, otherwise in its old order: converters append casts at the
    end."""
    nodes = list(model.graph.node)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    needs = [sorted({makers[name] for name in (*node.input, *_captured(node)) if name in makers}) for node in nodes]
    order: dict[int, None] = {}
    for first in range(len(nodes)):
        waiting = [first]
        while waiting:
            missing = [place for place in needs[waiting[-1]] if place not in order and place != waiting[-1]]
            if missing:
                waiting.append(missing[0])
            else:
                order.setdefault(waiting.pop())
    copies = [type(nodes[place]).FromString(nodes[place].SerializeToString()) for place in order]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _stored(model: onnx.ModelProto, state: _CastGraph) -> None:
    """Keep the weights that something still reads, in the order of their names."""
    read: set[Any] = {name for node in state.nodes for name in (*node.input, *_captured(node))}
    read |= {value.name for value in model.graph.output}
    initializers = [state.weights[name] for name in sorted(state.weights) if name in read]
    copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in initializers]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)
    del model.graph.value_info[:]
