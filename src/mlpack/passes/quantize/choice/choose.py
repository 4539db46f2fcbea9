"""Chooses for each node how it computes in integers, or the reason why it does not, from the graph alone.

Promises:
- Every node of a kind that can be quantized has a way (`static`, `dynamic`, `weights`) or a reason in words.
- The same graph and options give the same answer.

Will not: know whether ranges were measured (`pairs`) or the engine accepts the result (`held`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.quantize.writing import attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

STATIC, DYNAMIC, WEIGHTS = "static", "dynamic", "weights"

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What gains by integer arithmetic on every engine."""

SMALLEST = 16
"""Matrices with fewer rows or columns stay float: they are slower in int8 and are mostly the first and the last layer."""

_SMALLEST_GROUP = 32
"""Channels of a group of a convolution. Measured on a processor with VNNI, against float: 0.64 of the time with 32, 1.1 with 16 or
8, 1.3 to 1.5 with one (depthwise)."""

TINY = "it is tiny: integers are slower there, and such layers lose most"
GROUPED = "its groups of channels are small: integers are slower there"

PRODUCTS = ("MatMul", "Gemm")
CONVOLUTIONS = ("Conv", "ConvTranspose")
_RECURRENT = ("LSTM", "GRU", "RNN")
TABLES = ("Gather", "EmbedLayerNormalization")
KINDS = (*CONVOLUTIONS, *PRODUCTS, "Attention", *_RECURRENT, *TABLES)
"""What could compute in integers, or be stored in them."""

_WEIGHT_AT = {"EmbedLayerNormalization": (2, 3, 5, 6), "Gather": (0,), **dict.fromkeys(_RECURRENT, (1, 2))}
_FEWEST = 4096
"""Weights that are only stored in integers: fewer save nothing."""
_FLOAT = 1  # TensorProto.FLOAT
_MICROSOFT = "com.microsoft"


@dataclass(frozen=True, slots=True)
class NodeChoice:
    """By names of nodes: how they compute in integers, and why others do not."""

    how: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def by(self, way: str) -> set[str]:
        """The nodes that compute this way."""
        return {name for name, chosen in self.how.items() if chosen == way}

    def without(self, reasons: Mapping[str, str]) -> NodeChoice:
        """The same choice with these nodes in float."""
        return NodeChoice({name: way for name, way in self.how.items() if name not in reasons}, {**self.kept, **reasons})


def choose(model: onnx.ModelProto, method: str, keep: Sequence[str], *, embeddings: bool) -> NodeChoice:
    """Choose a way for each node. `method`: static, dynamic, mixed or weights. `keep`: `Quantize.keep_float`. Raises PassError for
    a name in it that matches nothing. Every node must have a name of its own."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    kept_by_recipe = _kept_by_recipe(model, keep, stored)
    choice = NodeChoice()
    for node, holder in walk(model.graph):
        if node.op_type not in KINDS or node.domain not in ("", _MICROSOFT):
            continue
        if node.op_type == "Gather" and not _is_table(node, stored):
            continue  # most Gathers take a row of a shape
        reason = kept_by_recipe.get(node.name) or _unfit(node, stored)
        way, wish = _way(node, method, holder, embeddings=embeddings)
        reason = reason or wish or (_stored_unfit(node, stored) if way == WEIGHTS else _slow(node, stored, way))
        if reason:
            choice.kept[node.name] = reason
        else:
            choice.how[node.name] = way
    return choice


def walk(graph: onnx.GraphProto, holder: str = "") -> Iterator[tuple[onnx.NodeProto, str]]:
    """Every node with the operator in whose body it is, or ''."""
    for node in graph.node:
        yield node, holder
        for nested in files.subgraphs(node):
            yield from walk(nested, node.op_type)


def _way(node: onnx.NodeProto, method: str, holder: str, *, embeddings: bool) -> tuple[str, str]:
    """How a node of this kind computes by this method, or why it does not."""
    kind = node.op_type
    if method == WEIGHTS:
        return WEIGHTS, ("" if kind not in TABLES or embeddings else "the recipe leaves tables float (`embeddings`)")
    if kind in TABLES:
        if method == STATIC:
            return "", "the static method leaves tables float"
        return WEIGHTS, ("" if embeddings else "the recipe leaves tables float (`embeddings`)")
    if kind in ("GRU", "RNN"):
        return "", f"the engine has no {kind} in integers; `method: weights` stores it in 8 bits"
    if kind in CONVOLUTIONS and method == DYNAMIC:
        return "", "a convolution with dynamic ranges is several times slower than float; with calibration data it can be static"
    if kind == "ConvTranspose":
        return WEIGHTS, ""
    if kind == "Conv" or (method == STATIC and kind in PRODUCTS):
        return STATIC, (f"it is in the body of a {holder}, where no range is recorded" if holder else "")
    if method == STATIC:
        return "", f"the static method has no {kind}"
    return DYNAMIC, ""


def _kept_by_recipe(model: onnx.ModelProto, keep: Sequence[str], stored: Mapping[str, onnx.TensorProto]) -> dict[str, str]:
    """Nodes that the config keeps float: by name, by operator, or by place."""
    nodes = [node for node, _ in walk(model.graph)]
    names = {node.name for node in nodes}
    reasons: dict[str, str] = {}
    for word in keep:
        if word in names:
            words = [word]
        elif word == "depthwise":
            words = [node.name for node in nodes if is_depthwise(node, stored)]
        elif word in ("first", "last"):
            words = _ends(model.graph, stored, first=word == "first")
        elif word in KINDS:
            words = [node.name for node in nodes if node.op_type == word]
        else:
            raise PassError(
                f"quantize: `keep_float` names {word!r}, and the graph has no node of that name; it takes names of nodes, an "
                f"operator ({', '.join(KINDS)}), `first`, `last` or `depthwise`"
            )
        reason = "the recipe keeps it float (`keep_float`)" if word in names else f"the recipe keeps {word} float (`keep_float`)"
        reasons |= {name: reason for name in words if name not in reasons}
    return reasons


def is_depthwise(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether each channel is convolved by itself."""
    if node.op_type != "Conv" or node.input[1] not in stored:
        return False
    return bool(attributes(node).get("group", 1) > 1 and stored[node.input[1]].dims[1] == 1)


def _ends(graph: onnx.GraphProto, stored: Mapping[str, onnx.TensorProto], *, first: bool) -> list[str]:
    """Nodes with weights that come before, or after, all other such nodes."""
    nodes = list(graph.node) if first else list(reversed(graph.node))
    behind: set[str] = set()  # tensors that a node with weights is before (after)
    names = []
    for node in nodes:
        near, far = (node.input, node.output) if first else (node.output, node.input)
        weighted = node.op_type in KINDS and any(name in stored for name in node.input)
        if weighted and behind.isdisjoint(near):
            names.append(node.name)
        if weighted or not behind.isdisjoint(near):
            behind.update(name for name in far if name not in stored)
    return names


def _is_table(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    table = stored.get(node.input[0])
    return table is not None and table.data_type == _FLOAT and len(table.dims) > 1 and prod(table.dims) >= _FEWEST


def _unfit(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> str:
    """The obstacle to every method: weights that are missing or dynamic, or more than the engine's operators take."""
    kind = node.op_type
    if kind == "Attention" and node.domain != _MICROSOFT:
        return "ONNX's Attention takes queries, keys and values, and no weights"
    weights = [
        stored.get(node.input[place]) for place in _WEIGHT_AT.get(kind, (1,)) if len(node.input) > place and node.input[place]
    ]
    if any(tensor is None for tensor in weights) or not weights:
        if kind in PRODUCTS and node.input[0] in stored:
            return "its constant operand is the first one"
        return "it multiplies two activations" if kind in PRODUCTS else "its weights are not constant"
    if any(tensor.data_type != _FLOAT for tensor in weights if tensor):
        return "its weights are not float32"
    if node.input[0] in stored and kind in (*PRODUCTS, *CONVOLUTIONS):
        return "both its operands are constant"
    weight = weights[0]
    if weight is not None and kind in PRODUCTS and len(weight.dims) != 2:
        return "its weights are a stack of matrices" if len(weight.dims) > 2 else "its weights are a vector"
    if kind == "Gemm" and attributes(node).get("transA"):
        return "it transposes its activations"
    return ""


def _slow(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto], way: str) -> str:
    """The reason why integers do not help this node, or are not available."""
    kind, signature = node.op_type, attributes(node)
    if kind in (*PRODUCTS, *CONVOLUTIONS) and is_tiny(kind, tuple(stored[node.input[1]].dims)):
        return TINY
    if kind == "Conv" and signature.get("group", 1) > 1:
        results, takes = stored[node.input[1]].dims[:2]
        if min(takes, results // signature["group"]) < _SMALLEST_GROUP:
            return GROUPED
    if way == STATIC and (unfit := unfit_bias(node, stored)):
        return unfit
    if kind == "LSTM" and (signature.get("layout", 0) or len(stored[node.input[1]].dims) != 3):
        return "the engine's LSTM in integers has its steps first (`layout` 0)"
    if kind == "Attention" and ("qkv_hidden_sizes" in signature or signature.get("do_rotary") or any(node.input[5:])):
        return "the engine's Attention in integers has no heads of several sizes, rotations or biases of positions"
    return ""


def unfit_bias(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> str:
    """Why a bias cannot have the 32 bits that it has beside fixed ranges."""
    if len(node.input) < 3 or not node.input[2]:
        return ""
    bias = stored.get(node.input[2])
    if bias is None or bias.data_type != _FLOAT:
        return "its bias is not constant"
    columns = stored[node.input[1]].dims[0 if attributes(node).get("transB") else -1]
    return "its bias is a matrix" if node.op_type == "Gemm" and prod(bias.dims) not in (1, columns) else ""


def static_unfit(node: onnx.NodeProto, model: onnx.ModelProto) -> str:
    """Why a node that is dynamic cannot be static."""
    return _slow(node, {tensor.name: tensor for tensor in model.graph.initializer}, STATIC)


def _stored_unfit(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> str:
    """Why storing its weights in integers saves nothing, or cannot be."""
    if node.op_type == "EmbedLayerNormalization" and len([name for name in node.output if name]) > 2:
        return "its sum is read too, which the engine's operator in integers does not give"
    if node.op_type == "Attention":
        return "the engine's Attention takes float weights or integers, none that are only stored so"
    places = _WEIGHT_AT.get(node.op_type, (1,))
    sizes = [prod(stored[node.input[place]].dims) for place in places if len(node.input) > place and node.input[place]]
    return "it has few weights" if sum(sizes) < _FEWEST else ""


def name_nodes(model: onnx.ModelProto) -> None:
    """Gives every node a name of its own: files in standard form have them, others need not."""
    names: set[str] = set()
    for number, (node, _) in enumerate(walk(model.graph)):
        if not node.name or node.name in names:
            node.name = f"{node.name or node.op_type}_{number}"
        names.add(node.name)


def tiny(model: onnx.ModelProto) -> list[str]:
    """Names of weighted nodes too small to gain."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED and dims.get(node.input[1], ())]
    return [node.name for node in weighted if is_tiny(node.op_type, dims[node.input[1]])]


def is_tiny(kind: str, shape: tuple[int, ...]) -> bool:
    """Whether a weight of this shape is too small to gain: few products are added up, or few results come of them."""
    if kind == "ConvTranspose":  # [in, out, ...]
        return min(shape[:2]) < SMALLEST
    inner = shape[1:] if kind == "Conv" else shape[:-1]
    outer = shape[0] if kind == "Conv" else shape[-1]
    return min(prod(inner), outer) < SMALLEST
