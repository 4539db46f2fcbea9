"""What the graph of a candidate's model is made of, as `build.json` has it and `mlpack explain` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlpack.report.record.parts import RecordPart


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord(RecordPart):
    """The stored bytes that layers of one type read."""

    layer: str | None
    """The type of the layers, such as MatMul; null: what no layer reads."""
    size_bytes: int
    """Bytes of the tensors that these layers read."""
    tensors: int
    """The number of these tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRecord(RecordPart):
    """One stored tensor."""

    name: str
    """Its name in the graph."""
    dtype: str
    """The type of its elements, by ONNX's name."""
    shape: tuple[int, ...]
    """The lengths of its axes."""
    size_bytes: int
    """Bytes of its elements."""
    layer: str | None
    """The type of the layer that reads it; null: no layer does."""
    node: str | None
    """The node that reads it; null: no node does, or it has no name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRecord(RecordPart):
    """All operators of one kind that compute in one precision."""

    precision: str
    """float32, fp16, bf16, float64, int8 static, int8 dynamic, int8 weights, 4-bit weights, whole numbers, strings, conversions,
    control or unknown."""
    operator: str
    """ONNX's name of the operator."""
    count: int
    """The number of nodes."""
    size_bytes: int
    """Bytes of the tensors that they read."""
    operations: int | None
    """Operations of one call, two for a multiply and its add; null where shapes are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRecord(RecordPart):
    """One layer of those that quantizers look for."""

    node: str
    """Its name before it was quantized."""
    operator: str
    """ONNX's name of the operator."""
    precision: str
    """Its precision, by the names of `operators[].precision`."""
    size_bytes: int
    """Bytes of its weights."""
    operations: int | None
    """Operations of one call; null where shapes are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFloatRecord(RecordPart):
    """One layer that stayed float where others did not, or that a step says it left."""

    node: str
    """The layer's name."""
    why: str | None
    """Why it stayed float; null where that was not recorded."""
    damage: float | None
    """The error that quantizing it alone adds, from the search; null where there was none."""
    operator: str | None
    """ONNX's name of the operator; null where the layer is not in the graph."""
    size_bytes: int | None
    """Bytes of its weights; null where the layer is not in the graph."""
    operations: int | None
    """Operations of one call; null where they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsRecord(RecordPart):
    """How much one call computes."""

    total: int
    """Operations of one call, two for a multiply and its add, without tensors of unknown shape."""
    unknown_shapes: int
    """Tensors whose shape is not known."""
    inputs: Mapping[str, tuple[int, ...]]
    """The shape of each input that this was counted for: those that the evaluation data have most often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRecord(RecordPart):
    """The anatomy of a model's graph, which was not run for it."""

    nodes: int
    """Nodes of the graph, with those of inner graphs."""
    size_bytes: int
    """Bytes of all stored tensors."""
    layers: tuple[LayerRecord, ...]
    """Bytes by the type of the layer that reads them."""
    tensors: tuple[TensorRecord, ...]
    """The largest stored tensors."""
    operators: tuple[OperatorRecord, ...]
    """Operators by what they compute in."""
    products: tuple[ProductRecord, ...]
    """The layers that quantizers look for."""
    kept_float: tuple[KeptFloatRecord, ...]
    """The layers that stayed float where others did not, and what the steps say that they left."""
    operations: OperationsRecord | None
    """How much one call computes; null where shapes are not known."""
