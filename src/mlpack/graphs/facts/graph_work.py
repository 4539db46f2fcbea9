"""The work of a graph, kernel by kernel: its operations and bytes for inputs of given shapes.

Promises:
- Operations are counted exactly (two for a multiply and its add), by element type.
- Bytes rest on one stated assumption: kernels fuse as TensorRT fuses them.

Will not: run anything, know a device or give a time.

**What fuses.** Elementwise operators join the kernel that makes their latest input, quantization and casts among them;
`DequantizeLinear`, reshapes and the like cost nothing by themselves; what depends on weights alone is folded before anything
runs. Every other operator (products, convolutions, recurrences, softmax, normalisation, reductions, gathers, copies) is a
kernel of its own. A kernel reads its weights and its inputs once, writes what others need, and keeps the rest in registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.graphs.facts import operators
from mlpack.graphs.facts.operators import TensorInfo

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelWork:
    """One kernel: its first operator's node and type, and everything that was fused behind it.

    `matrix_flops`: of products and convolutions, which tensor cores do, in element type `dtype`. `vector_flops`: of all else.
    Bytes: read of weights, and read and written of activations. `launches`: more than one for a recurrence.
    """

    name: str
    operator: str
    dtype: str
    matrix_flops: float
    vector_flops: float
    weight_bytes: float
    activation_bytes: float
    launches: int = 1
    fused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphWork:
    """A graph's kernels in order, the bytes of its inputs and outputs, and the unknown operators, which were counted as
    elementwise."""

    kernels: tuple[KernelWork, ...]
    input_bytes: float
    output_bytes: float
    unknown: tuple[str, ...] = ()

    @property
    def flops(self) -> dict[str, float]:
        """Operations of products and convolutions by element type, and `vector`, those of everything else."""
        flops_by_unit = {"vector": sum(kernel.vector_flops for kernel in self.kernels)}
        for kernel in self.kernels:
            if kernel.matrix_flops:
                flops_by_unit[kernel.dtype] = flops_by_unit.get(kernel.dtype, 0.0) + kernel.matrix_flops
        return dict(sorted(flops_by_unit.items()))

    @property
    def weight_bytes(self) -> float:
        """The bytes of weights that are read in one call."""
        return sum(kernel.weight_bytes for kernel in self.kernels)

    @property
    def activation_bytes(self) -> float:
        """The bytes of activations that are read and written in one call."""
        return sum(kernel.activation_bytes for kernel in self.kernels)

    @property
    def launches(self) -> int:
        """The kernels that are started in one call."""
        return sum(kernel.launches for kernel in self.kernels)


def work_of(model_dir: Path, shapes: Mapping[str, tuple[int, ...]], calls: Path | None = None) -> GraphWork:
    """The work of one call of `model_dir`'s graph with inputs of these shapes. `calls`: recorded ones, for values where shapes
    depend on them.

    Raises PassError when the graph is damaged, an input's shape is missing, or a tensor's shape can be found neither by
    inference nor by running the graph once.
    """
    from mlpack.graphs.facts.shapes import resolved

    model, tensors = resolved(model_dir, shapes, calls)
    return count(model, tensors)


def count(model: onnx.ModelProto, tensors: Mapping[str, TensorInfo]) -> GraphWork:
    """The same for a graph in memory, of which every tensor is known."""
    counting = _KernelCounter(model, tensors)
    for node in model.graph.node:
        counting.add(node)
    return counting.finish()


@dataclass(slots=True)
class _Kernel:
    """A kernel under construction. Bytes are kept by the tensor's name, so that none counts twice."""

    name: str
    operator: str
    dtype: str
    matrix_flops: float = 0.0
    vector_flops: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
    reads: dict[str, float] = field(default_factory=dict)
    writes: dict[str, float] = field(default_factory=dict)
    launches: int = 1
    fused: list[str] = field(default_factory=list)


class _KernelCounter:
    """One pass over a graph in its topological order."""

    def __init__(self, model: onnx.ModelProto, tensors: Mapping[str, TensorInfo]) -> None:
        self._graph = model.graph
        self._tensors = tensors
        self._weights = {t.name: operators.stored_bytes(t) for t in model.graph.initializer}
        """Bytes behind each constant: of an initializer, or of what it was folded from."""
        self._same: dict[str, str] = {}
        """What costs nothing: another name for the tensor that lies in memory."""
        self._int8: set[str] = set()
        """Tensors that come from int8 by a DequantizeLinear."""
        self._maker: dict[str, int] = {}
        self._kernels: list[_Kernel] = []
        self._unknown: dict[str, None] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """Count one node: folded, free, fused, or a kernel of its own."""
        inputs = [name for name in node.input if name]
        kind = operators.kind_of(node.op_type)
        if node.op_type in operators.SHAPE_ONLY or all(name in self._weights for name in inputs):
            self._fold(node, inputs)
            return
        if node.op_type == "DequantizeLinear":
            self._mark_int8(node)
            self._same[node.output[0]] = self._stored(node.input[0])
            return
        if kind is operators.FusionKind.FREE:
            self._same[node.output[0]] = self._stored(node.input[0])
            if node.input[0] in self._int8:
                self._int8.add(node.output[0])
            for name in node.output[1:]:  # a mask that inference never has
                self._weights[name] = 0.0
            return
        if kind is operators.FusionKind.UNKNOWN:
            self._unknown.setdefault(node.op_type)
        kernel = self._kernel_for(node, inputs, fuses=kind in (operators.FusionKind.ELEMENTWISE, operators.FusionKind.UNKNOWN))
        self._charge(self._kernels[kernel], kernel, node)
        for name in node.output:
            self._maker[name] = kernel

    def _fold(self, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        """Fold what is known before the first call. Weights that are only unpacked keep the bytes and type in which they are
        stored."""
        unpacks = node.op_type == "DequantizeLinear" or (
            node.op_type in operators.UNPACKED and bool(inputs) and inputs[0] in self._int8
        )
        for name in node.output:
            self._weights[name] = self._weights[inputs[0]] if unpacks else self._bytes(name)
        if unpacks:
            self._mark_int8(node)

    def _mark_int8(self, node: onnx.NodeProto) -> None:
        """Record that a node's results are int8 in all but name."""
        tensor = self._tensors.get(node.input[0])
        if node.input[0] in self._int8 or (tensor is not None and operators.ARITHMETIC.get(tensor.dtype) == "int8"):
            self._int8.add(node.output[0])

    def _stored(self, name: str) -> str:
        return self._same.get(name, name)

    def _bytes(self, name: str) -> float:
        tensor = self._tensors.get(name)
        return 0.0 if tensor is None else tensor.nbytes

    def _kernel_for(self, node: onnx.NodeProto, inputs: Sequence[str], *, fuses: bool) -> int:
        """The kernel that computes this node. Joining the latest of the kernels that make its inputs closes no circle, since every
        other input comes from an earlier one."""
        makers = [self._maker[stored] for name in inputs if (stored := self._stored(name)) in self._maker]
        if fuses and makers:
            latest = max(makers)
            self._kernels[latest].fused.append(node.op_type)
            return latest
        self._kernels.append(_Kernel(name=node.name or node.output[0], operator=node.op_type, dtype=self._arithmetic(node)))
        return len(self._kernels) - 1

    def _charge(self, kernel: _Kernel, index: int, node: onnx.NodeProto) -> None:
        """Add a node's operations and reads to its kernel."""
        tensors = [self._tensors.get(name) if name else None for name in node.input]
        outputs = [self._tensors.get(name) for name in node.output]
        matrix, vector, launches = operators.flops(node, tensors, outputs)
        kernel.matrix_flops += matrix
        kernel.vector_flops += vector
        kernel.launches = max(kernel.launches, launches)
        rows = self._bytes(node.output[0]) if node.op_type in operators.ROWS_OF_FIRST_INPUT else None
        for slot, name in enumerate(node.input):
            if not name:
                continue
            if name in self._weights:
                stored = self._weights[name]
                kernel.weights[name] = stored if rows is None or slot else min(stored, rows)
            elif self._maker.get(self._stored(name)) != index:
                read = self._bytes(self._stored(name))
                kernel.reads[self._stored(name)] = read if rows is None or slot else min(read, rows)

    def _arithmetic(self, node: onnx.NodeProto) -> str:
        """The element type of a product: int8 where its operands are, or where both were until a DequantizeLinear."""
        if node.op_type in operators.INTEGER_PRODUCTS:
            return "int8"
        operands = [name for name in operators.operands(node) if name]
        if operands and all(name in self._int8 for name in operands):
            return "int8"
        tensor = self._tensors.get(operands[0]) if operands else None
        return "fp32" if tensor is None else operators.ARITHMETIC.get(tensor.dtype, "fp32")

    def finish(self) -> GraphWork:
        """Add what each kernel writes: the tensors that another kernel or the caller reads."""
        for index, kernel in enumerate(self._kernels):
            for name in kernel.reads:
                maker = self._maker.get(name)
                if maker is not None and maker != index:
                    self._note(maker, name)
        for value in self._graph.output:
            stored = self._stored(value.name)
            if stored in self._maker:
                self._note(self._maker[stored], stored)
        weights = {tensor.name for tensor in self._graph.initializer}
        inputs = [value.name for value in self._graph.input if value.name not in weights]
        return GraphWork(
            kernels=tuple(self._finished(kernel) for kernel in self._kernels),
            input_bytes=sum(self._bytes(name) for name in inputs),
            output_bytes=sum(self._bytes(value.name) for value in self._graph.output),
            unknown=tuple(self._unknown),
        )

    def _note(self, maker: int, name: str) -> None:
        """Record a write of a tensor, which counts once, however many kernels read it."""
        self._kernels[maker].writes[name] = self._bytes(name)

    def _finished(self, kernel: _Kernel) -> KernelWork:
        return KernelWork(
            name=kernel.name,
            operator=kernel.operator,
            dtype=kernel.dtype,
            matrix_flops=kernel.matrix_flops,
            vector_flops=kernel.vector_flops,
            weight_bytes=float(sum(kernel.weights.values())),
            activation_bytes=float(sum(kernel.reads.values()) + sum(kernel.writes.values())),
            launches=kernel.launches,
            fused=tuple(kernel.fused),
        )
