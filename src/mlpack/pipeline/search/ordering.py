"""In which order nodes go back to float, and what goes with them: islands of 8 bits that do not pay for their borders.

Promises: counted on the graph, not timed; more nodes in float never mean fewer. Where nobody asks for speed only the order is
given.
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
"""Of all multiplications, less than which 8 bits have to save after their borders, a form is not worth a trial. A detector of which
they saved 0.19 took 0.91 of the float's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`nodes`: what goes to float first, first. `damage`: as the ladder is told it. `static`: those with fixed ranges, whose
    borders can be counted. `quick`: whether somebody asks for speed."""

    nodes: tuple[str, ...]
    damage: tuple[float, ...]
    loads: dict[str, islands.NodeLoad]
    static: frozenset[str]
    graph: onnx.ModelProto
    quick: bool

    def kept(self, count: int) -> tuple[str, ...]:
        """What is in float when so many are: those, and what does not pay any more."""
        first = self.nodes[:count]
        if not self.quick or not count:
            return first
        return (*first, *islands.unpaying(self.graph, self.static - set(first), self.loads))

    def saves(self, count: int = 0) -> bool:
        """Whether something is gained with so many in float, or that cannot be told."""
        if not self.quick or len(self.static) < len(self.nodes):
            return True
        return islands.saved(self.graph, self.static - set(self.nodes[:count]), self.loads) > _LEAST

    def reach(self) -> int | None:
        """With more than so many in float nothing is gained; None where that cannot be told."""
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


def ordered(rows: Sequence[NodeDamage], graph: onnx.ModelProto, static: Collection[str], *, accurate: bool, quick: bool) -> Order:
    """The order of these nodes, which are ranked by damage. `accurate`: the first form is, so that only speed is to be gained, and
    nodes where integers pay least go first. Else those that do most damage: by themselves where some stand out, or where nobody
    asks for speed; for what they save where damage is spread, because then some of what does little is worth little too."""
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
