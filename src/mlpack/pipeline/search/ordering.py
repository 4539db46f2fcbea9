"""The order in which nodes go back to float, together with the islands of 8 bits that then cost more at their borders than they
save.

Promises:
- It counts on the graph and times nothing. More nodes in float never mean fewer.
- Without a wish for speed only the order is given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpack.decide.ladder import standing_out
from mlpack.passes.quantize import islands
from mlpack.passes.quantize.damage import NodeDamage

if TYPE_CHECKING:
    import onnx

_LEAST = 0.05
"""The least share of all multiplications that 8 bits have to save after the cost of their borders. Below it a form is not worth a
trial. A detector for which they saved 0.19 took 0.91 of the float's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`nodes`: in the order in which they go to float. `damage`: for the ladder. `static`: the nodes with fixed ranges, whose
    borders can be counted. `quick`: whether a budget or `prefer` asks for speed."""

    nodes: tuple[str, ...]
    damage: tuple[float, ...]
    loads: dict[str, islands.NodeLoad]
    static: frozenset[str]
    graph: onnx.ModelProto
    quick: bool

    def float_nodes(self, count: int) -> tuple[str, ...]:
        """The nodes in float when the first `count` are: these, and the islands that do not pay any more."""
        first = self.nodes[:count]
        if not self.quick or not count:
            return first
        return (*first, *islands.unpaying(self.graph, self.static - set(first), self.loads))

    def saves(self, count: int = 0) -> bool:
        """Whether 8 bits still save work with so many nodes in float. True where that is not known."""
        if not self.quick or len(self.static) < len(self.nodes):
            return True
        return islands.saved(self.graph, self.static - set(self.nodes[:count]), self.loads) > _LEAST

    def reach(self) -> int | None:
        """The most nodes in float with which 8 bits still save work; None where that is not known."""
        if not self.quick or len(self.static) < len(self.nodes):
            return None
        low, high = 0, len(self.nodes)
        while high - low > 1:
            middle = (low + high) // 2
            if self.saves(middle):
                low = middle
            else:
                high = middle
        return low


def order_nodes(
    rows: Sequence[NodeDamage], graph: onnx.ModelProto, static: Collection[str], *, accurate: bool, quick: bool
) -> Order:
    """The order for these nodes, which are ranked by damage.

    With `accurate` the first form is accurate and only too slow: the nodes where integers save least go first. Otherwise the nodes
    with the most damage go first; where speed counts and no node stands out, those with the most damage for the work they save.
    """
    damage = tuple(row.damage for row in rows)
    if accurate:
        rows = sorted(rows, key=lambda row: row.intensity)
        damage = (1.0,) * len(rows)
    elif quick and not standing_out(damage):
        rows = sorted(rows, key=lambda row: -row.damage / max(1.0, row.work))
    return Order(
        nodes=tuple(row.node for row in rows),
        damage=damage,
        loads={row.node: islands.NodeLoad(work=row.work, read=row.read, written=row.written) for row in rows},
        static=frozenset(static),
        graph=graph,
        quick=quick,
    )
