"""The makeup of a graph: how many bytes of weights each kind of layer reads, and how many nodes hold trees.

Promises:
- A weight that several nodes read counts once, for the first kind of them. Only its shape is read.

Will not: decide what follows for a candidate. `plan` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.graphs import files, weights

VERSION = 3
_KINDS: Mapping[str, tuple[str, ...]] = {
    "convolutions": ("Conv", "ConvTranspose", "FusedConv"),
    "products": ("MatMul", "Gemm", "Attention", "FusedMatMul", "FusedGemm"),
    "recurrent": ("LSTM", "GRU", "RNN"),
    "tables": ("Gather", "EmbedLayerNormalization"),
}
_PASSED_ON = ("Cast", "Transpose", "Identity", "Reshape", "DequantizeLinear")
"""Operators whose result is a stored weight if their input is one."""
_QUANTIZED = (
    "DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul", "QAttention", "DynamicQuantizeLSTM",
)  # fmt: skip
_ATTENTION = ("Attention", "MultiHeadAttention", "QAttention")
"""Attention as one operator of the engine's, whose products a quantizer cannot separate."""
_TREES = ("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor")
_DENSE = ("Gemm", "FusedGemm")
"""Layers with one row a sample."""
_COUNTED = ("trees", "quantized", "attention", "dense")
LARGE_BYTES = 64 << 20
"""Products with so many weights read them from memory at each call, and not from a cache: fewer bits are less time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Makeup:
    """Bytes of weights by the kind of layer that reads them, and nodes that hold trees."""

    convolutions: int = 0
    products: int = 0
    recurrent: int = 0
    tables: int = 0
    trees: int = 0
    quantized: int = 0
    """Nodes that compute in integers, or bring them back to float."""
    attention: int = 0
    """Nodes in which the engine computes a whole attention."""
    dense: int = 0
    """Layers of one row a sample (Gemm), where no other layer has weights."""

    @property
    def kinds(self) -> frozenset[str]:
        """`trees`, `attention`, `quantized`, `dense` and the kinds of layers that read weights, if there are any;
        `large-products`."""
        names = {name for name in (*_KINDS, *_COUNTED) if getattr(self, name)}
        return frozenset(names | ({"large-products"} if self.products >= LARGE_BYTES else set()))

    @property
    def text(self) -> str:
        """`convolutions 92 %, products 8 % of the weights`."""
        sizes = {name: getattr(self, name) for name in _KINDS if getattr(self, name)}
        total = sum(sizes.values())
        shares = [f"{name} {max(1, round(100 * size / total))} %" for name, size in sorted(sizes.items(), key=lambda i: -i[1])]
        others = [name for name in ("trees", "quantized") if getattr(self, name)]
        return ", ".join([*others, *shares]) + (" of the weights" if shares else "") or "no weights"


def of(model_dir: Path) -> Makeup:
    """The makeup of the graph in this directory. Raises PassError when it is damaged."""
    model = files.outline(model_dir)
    sizes = {tensor.name: weights.size_of(tensor) for tensor in model.graph.initializer if tensor.data_type != tensor.STRING}
    kinds = {operator: kind for kind, operators in _KINDS.items() for operator in operators}
    kind_bytes: dict[str, int] = dict.fromkeys(_KINDS, 0)
    trees = quantized = attention = dense = others = 0
    for node in files.nodes(model.graph):
        trees += node.op_type in _TREES
        quantized += node.op_type in _QUANTIZED
        attention += node.op_type in _ATTENTION and node.domain == "com.microsoft"
        if node.op_type in _PASSED_ON and node.output and len(node.input) and node.input[0] in sizes:
            sizes.setdefault(node.output[0], sizes[node.input[0]])
        kind = kinds.get(node.op_type)
        weighs = bool(kind) and any(name in sizes for name in node.input)
        dense += weighs and node.op_type in _DENSE
        others += weighs and node.op_type not in _DENSE
        for name in node.input if kind else ():
            kind_bytes[kind or ""] += sizes.pop(name, 0)
    return Makeup(trees=trees, quantized=quantized, attention=attention, dense=0 if others else dense, **kind_bytes)


def plain(makeup: Makeup) -> dict[str, Any]:
    """The makeup for JSON."""
    return {name: getattr(makeup, name) for name in (*_KINDS, *_COUNTED)}
