"""Islands of 8 bits (parts of a graph whose tensors stay in integers), and whether what an island saves pays for its borders.

Promises:
- The answer follows from the graph and the sizes of its tensors alone, without timing. An island pays as a whole or not at all.
- A value that crosses a border is rounded or widened, and often copied to another layout; a multiplication in integers saves a
  little.

Will not: ask whether accuracy is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpack.passes.quantize.choice.between import results
from mlpack.passes.quantize.methods import pairs
from mlpack.passes.quantize.view import View

if TYPE_CHECKING:
    import onnx

PAYS = 64.0
"""Multiplications for each value that crosses. An estimate from the profiles of a few detectors with VNNI: a multiplication saves
some 20 ps, a value costs about 1 ns to round, lay out anew and widen. So 3x3 convolutions of 16 channels pay by themselves, 1x1
ones of 64 do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLoad:
    """The load of a node in one call: multiplications, and the number of values that it reads and writes."""

    work: float
    read: float
    written: float


@dataclass(slots=True)
class Island:
    """Nodes whose tensors stay in 8 bits between them. `crossing`: values that are rounded on the way in or widened on the way
    out."""

    nodes: list[str]
    work: float = 0.0
    crossing: float = 0.0

    @property
    def saved(self) -> float:
        """The gain in multiplications: below zero the island costs more than it saves."""
        return self.work - PAYS * self.crossing


def islands(model: onnx.ModelProto, static: Collection[str], loads: Mapping[str, NodeLoad]) -> list[Island]:
    """The islands when these nodes are static, in the graph's order. Values of a node without a load count as 0."""
    view, layout = View(model), pairs.layout(model, static)
    kernels = [node for node in model.graph.node if _is_kernel(node, layout)]
    names = {node.name for node in kernels}
    joined: dict[str, str] = {}
    for node in kernels:
        for name in (*node.input, *node.output, *results(view, node)):
            if layout.pairs.get(name):
                joined[_top(joined, name)] = _top(joined, node.name)
    sizes: dict[str, float] = {}
    island_of: dict[str, Island] = {}
    crossed: set[tuple[str, str]] = set()
    for node in kernels:
        top, load = _top(joined, node.name), loads.get(node.name)
        island = island_of.setdefault(top, Island(nodes=[]))
        if load is not None:
            island.nodes.append(node.name)
            island.work += load.work
            sizes.setdefault(node.input[0], load.read)
        written = load.written if load else sum(sizes.get(name, 0.0) for name in view.activations(node))
        writers = dict.fromkeys(results(view, node), written)
        sizes |= writers
        into = [name for name in node.input if layout.pairs.get(name) is False]
        out = [name for name in writers if layout.pairs.get(name) and _leaves(view, name, names)]
        for name in (*into, *out):
            if (top, name) not in crossed:
                island.crossing += sizes.get(name, 0.0)
                crossed.add((top, name))
    return [island for island in island_of.values() if island.nodes]


def _top(joined: dict[str, str], name: str) -> str:
    while joined.setdefault(name, name) != name:
        name = joined[name]
    return name


def _is_kernel(node: onnx.NodeProto, layout: pairs.PairLayout) -> bool:
    """Whether the engine computes a node in 8 bits: a static one, one that carries, or a sum that is fused."""
    return node.name in layout.static | layout.carried or any(layout.pairs.get(name) for name in node.output)


def _leaves(view: View, tensor: str, kernels: Collection[str]) -> bool:
    """Whether any node reads a tensor in float."""
    return tensor in view.others or any(reader.name not in kernels for reader in view.readers[tensor])


def unpaying(model: onnx.ModelProto, static: Collection[str], loads: Mapping[str, NodeLoad]) -> tuple[str, ...]:
    """The nodes of islands that cost more at their borders than they save, in the graph's order."""
    return tuple(name for island in islands(model, static, loads) if island.saved <= 0 for name in island.nodes)


def saved(model: onnx.ModelProto, static: Collection[str], loads: Mapping[str, NodeLoad]) -> float:
    """The gain of these nodes in 8 bits, as a share of all known multiplications: 0 where no island pays."""
    total = sum(load.work for load in loads.values())
    return sum(max(0.0, island.saved) for island in islands(model, static, loads)) / total if total else 0.0
