"""Chooses the nodes between 8-bit kernels that carry 8 bits or compute in them, so that nothing is converted on the way.

Promises:
- A node is chosen only where the engine has a faster 8-bit kernel for it (`bench/int8_kernels.py`), its data come in 8 bits,
  and an 8-bit kernel reads its result. A node that only moves or pools may also end in float.
- Softmax, normalisation and tails stay float.

Will not: write anything or know a range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlpack.passes.quantize.writing import attributes

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

    from mlpack.passes.quantize.view import View

MOVED = (
    "MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Split", "Slice", "Gather", "Resize", "DepthToSpace",
)  # fmt: skip
"""Operators that return the numbers of their input: the scale stays. A Resize does when it takes the nearest."""
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")
_COMPUTED = ("Add", "Mul", "LeakyRelu", "Sigmoid", "HardSigmoid")
"""Two convolutions and what is between them take 0.6 of what they take with that in float between conversions: SiLU and HardSwish,
32 channels of 80 by 80, one thread, VNNI. Not here: Softmax, which takes as long as in float; Tanh, Elu, PRelu, Div, Pad, linear
Resize, for which the engine has none."""
_WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_CARRIED = (*MOVED, "AveragePool", "GlobalAveragePool", "Concat")
GIVES_FLOAT = ("MatMul", "Gemm")
"""Kernels that take 8 bits and give float or 8 bits, as needed; convolutions always give 8 bits."""


def between(view: View, static: Collection[str], barred: Collection[str]) -> set[str]:
    """Names of the nodes that carry 8 bits or compute in them when these are `static`. `barred`: nodes that must not."""
    left_out = set(barred)
    while True:
        reached = _reached(view, static, left_out)
        wanted_nodes = _wanted(view, static, reached)
        idle = {
            name for name, (kind, firm) in reached.items() if name not in wanted_nodes and not (firm and kind in (*MOVED, *POOLS))
        }
        if not idle:
            return set(reached)
        left_out |= idle


def results(view: View, node: onnx.NodeProto) -> list[str]:
    """The results of a node that carries or computes in 8 bits: behind its limits, unless the scale is another tensor's or
    fixed."""
    names = [name for name in node.output if name]
    return names if node.op_type in (*MOVED, "HardSigmoid") else [view.clipped(name) for name in names]


def feeds(view: View, tensor: str, carried: Collection[str], static: Collection[str]) -> bool:
    """Whether a node that carries 8 bits, or one in integers, reads this tensor as its data."""
    return any(
        (reader.name in carried and tensor in view.activations(reader)) or (reader.name in static and reader.input[0] == tensor)
        for reader in view.readers[tensor]
    )


def reasons(view: View, static: Collection[str], carried: Collection[str]) -> dict[str, str]:
    """Nodes with 8-bit kernels right before and behind them that stay float, and the reasons."""
    within = {*static, *carried}
    results_within = {name for node in view.graph.node if node.name in within for name in results(view, node)}
    reasons_by_node: dict[str, str] = {}
    for node in view.graph.node:
        if node.name in within or node.op_type in _WEIGHTED or results_within.isdisjoint(node.input) or view.is_limit(node):
            continue
        if any(feeds(view, name, carried, static) for name in node.output if name):
            reasons_by_node[node.name] = _reason(view, node)
    return reasons_by_node


def _reason(view: View, node: onnx.NodeProto) -> str:
    kind = node.op_type
    if kind == "Softmax":
        return "the engine's Softmax in 8 bits takes as long as in float"
    if kind in ("Add", "Mul") and any(name in view.stored for name in node.input):
        return "one of its operands is constant and has several values, which 8 bits would round"
    if kind == "Resize":
        return "the engine resizes in 8 bits by the nearest only"
    if kind in _CARRIED or kind in _COMPUTED:
        return "it takes numbers that are float anyway"
    return f"the engine has no {kind} in 8 bits"


def _reached(view: View, static: Collection[str], left_out: Collection[str]) -> dict[str, tuple[str, bool]]:
    """Nodes whose data come in 8 bits: their operator, and whether all of it does, whatever is behind them. A product may also give
    float: a node that moves its result carries 8 bits only for another kernel."""
    eight_bits: set[str] = set()
    loose: set[str] = set()
    paths: dict[str, tuple[str, bool]] = {}
    for node in view.graph.node:
        if node.name in static:
            (loose if node.op_type in GIVES_FLOAT else eight_bits).add(view.clipped(node.output[0]))
            continue
        if node.domain or node.name in left_out or not _has_kernel(view, node):
            continue
        data = [name for name in view.activations(node) if name not in view.stored]
        if node.op_type in _COMPUTED:
            if data and all(name in eight_bits for name in data):
                paths[node.name] = (node.op_type, True)
                eight_bits.update(results(view, node))
        elif any(name in eight_bits for name in data):
            paths[node.name] = (node.op_type, all(name in eight_bits for name in data))
            eight_bits.update(results(view, node))
        elif any(name in loose for name in data):
            paths[node.name] = (node.op_type, False)
            loose.update(results(view, node))
    return paths


def _wanted(view: View, static: Collection[str], reached: Collection[str]) -> set[str]:
    """The nodes whose result an integer kernel reads, directly or through others of them."""
    names: set[str] = set()
    for node in reversed(view.graph.node):
        if node.name in reached and any(feeds(view, name, names, static) for name in results(view, node)):
            names.add(node.name)
    return names


def _has_kernel(view: View, node: onnx.NodeProto) -> bool:
    """Whether the engine has an 8-bit kernel for a node like this."""
    kind = node.op_type
    if kind not in _CARRIED and kind not in _COMPUTED:
        return False
    if kind == "Split":
        return all(name and (view.readers[name] or name in view.others) for name in node.output)
    if len(node.output) > 1:
        return False
    if kind == "Resize":
        return bool(attributes(node).get("mode", b"nearest") == b"nearest")
    if kind == "HardSigmoid":
        settings = attributes(node)
        return bool(settings.get("alpha", 0.2) > 0 and settings.get("beta", 0.5) > 0)
    if kind in ("Add", "Mul"):
        return all(name not in view.stored or view.scalar(name) is not None for name in node.input)
    return True
