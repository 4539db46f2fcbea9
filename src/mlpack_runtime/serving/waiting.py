"""What waits for the engine, and which of it is the next batch.

Promises: pure. Turns go round: each caller's call leads one batch before any leads its second, whatever the others sent; so with k
callers waiting, a call of one piece is in one of the next k batches, and where every call is of one piece, the one that waits
longest is always chosen. A batch is what leads it and those of its kind, anybody's, whose lengths are nearest, as long as there are
no more rows and tokens (rows x longest) than allowed and no more than a share of it is padding (`waste`). Choosing takes time by
what is taken: `looked_at` counts the pieces that were looked at. Will not: wait, lock, or know what a call is.
"""

from bisect import bisect_left, insort
from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlpack_runtime.serving.batching import Unit

WASTE = 0.25
"""At most this share of a batch may be padding: a call whose length fits the batch worse goes into another one."""
WASTE_ON_CPU = 0.1
"""The same on a processor, where a run costs little beside its tokens: MiniLM int8 on two cores answers 763 texts a second with a
quarter, 875 and 823 with a tenth, 752 with none."""


class Waiting:
    """Pieces of calls by whose they are, and by kind and length. A piece's `owner` is what tells callers apart."""

    def __init__(self, *, most_tokens: "int | None" = None, waste: float = WASTE) -> None:
        self._most_tokens = most_tokens
        self._waste = waste
        self._callers: OrderedDict[object, OrderedDict[Unit, None]] = OrderedDict()  # in the order of their turns
        self._kinds: dict[object, _Kind] = {}
        self._led: set[object] = set()  # callers that had a turn and still wait
        self.rows = 0
        self.nbytes = 0
        self.looked_at = 0

    def __bool__(self) -> bool:
        return bool(self._callers)

    @property
    def callers(self) -> int:
        """How many callers wait."""
        return len(self._callers)

    def add(self, units: "Sequence[Unit]") -> None:
        """A caller's pieces, behind everybody else's. Each owner is added once."""
        for unit in units:
            self._callers.setdefault(unit.owner, OrderedDict())[unit] = None
            kind = self._kinds.get(unit.kind)
            if kind is None:
                kind = self._kinds[unit.kind] = _Kind()
            kind.add(unit)
            self.rows += unit.rows
            self.nbytes += unit.nbytes

    def due_s(self, wait_s: float) -> float:
        """Until when a batch may wait for more: `wait_s` after its first call arrived; not at all where a caller waits for another
        turn. Something has to wait."""
        first = next(iter(next(iter(self._callers.values()))))
        return 0.0 if self._led else first.arrived + wait_s

    def take(self, most_rows: int) -> "list[Unit]":
        """The next batch, out of what waits: at least the first piece of whoever's turn it is."""
        owner, units = next(iter(self._callers.items()))
        first = next(iter(units))
        self.looked_at += 1
        self._remove(first)
        if owner in self._callers:
            self._callers.move_to_end(owner)
            self._led.add(owner)
        kind = self._kinds.get(first.kind)
        return [first, *(self._nearest(kind, first, most_rows) if kind is not None and most_rows > first.rows else ())]

    def drop(self, owner: object) -> None:
        """Forget what an owner has here."""
        for unit in list(self._callers.get(owner, ())):
            self._remove(unit)

    def clear(self) -> "list[object]":
        """Forget everything; whose it was."""
        owners = list(self._callers)
        self._callers.clear()
        self._kinds.clear()
        self._led.clear()
        self.rows = self.nbytes = 0
        return owners

    def _nearest(self, kind: "_Kind", first: "Unit", most_rows: int) -> "list[Unit]":
        taken: list[Unit] = []
        rows, tokens, longest = first.rows, first.rows * first.length, first.length

        def fits(unit: "Unit") -> bool:
            self.looked_at += 1
            together, top = rows + unit.rows, max(longest, unit.length)
            if together > most_rows or (self._most_tokens is not None and together * top > self._most_tokens):
                return False
            return together * top - tokens - unit.rows * unit.length <= self._waste * together * top

        while rows < most_rows:
            below, above = kind.around(first.length)
            below = below if below is not None and fits(below) else None
            above = above if above is not None and fits(above) else None
            if below is not None and (above is None or first.length - below.length <= above.length - first.length):
                unit = below
            elif above is not None:
                unit = above
            else:
                break
            self._remove(unit)
            taken.append(unit)
            rows, tokens, longest = rows + unit.rows, tokens + unit.rows * unit.length, max(longest, unit.length)
        return taken

    def _remove(self, unit: "Unit") -> None:
        kind = self._kinds[unit.kind]
        kind.remove(unit)
        if not kind.lengths:
            del self._kinds[unit.kind]
        units = self._callers[unit.owner]
        del units[unit]
        if not units:
            del self._callers[unit.owner]
            self._led.discard(unit.owner)
        self.rows -= unit.rows
        self.nbytes -= unit.nbytes


class _Kind:
    """Pieces of one kind: for each length that occurs, those of it in the order they came. A list of lengths is short, for a piece
    of length n has n values."""

    __slots__ = ("by_length", "lengths")

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.by_length: dict[int, OrderedDict[Unit, None]] = {}

    def add(self, unit: "Unit") -> None:
        alike = self.by_length.get(unit.length)
        if alike is None:
            alike = self.by_length[unit.length] = OrderedDict()
            insort(self.lengths, unit.length)
        alike[unit] = None

    def remove(self, unit: "Unit") -> None:
        alike = self.by_length[unit.length]
        del alike[unit]
        if not alike:
            del self.by_length[unit.length]
            del self.lengths[bisect_left(self.lengths, unit.length)]

    def around(self, length: int) -> "tuple[Unit | None, Unit | None]":
        """(the first of the nearest length below, the first of the nearest length at least as long)."""
        at = bisect_left(self.lengths, length)
        below = next(iter(self.by_length[self.lengths[at - 1]])) if at else None
        return below, next(iter(self.by_length[self.lengths[at]])) if at < len(self.lengths) else None
