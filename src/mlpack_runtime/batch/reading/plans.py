"""A manifest cut into parts, which runners take one at a time: where each begins, and which items it has.

Promises: the same manifest is cut in the same way by everyone; there are fewer than `MOST` parts, however large it is, so that a
plan is short. Will not: read anything.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MOST = 2048
ITEMS = 1000
BYTES = 1 << 20


class Part:
    """Items `first` to `first + items - 1`. `offset`: of its first byte, or of its first row; `end`: after its last; `line`: how
    many lines are before it."""

    __slots__ = ("end", "first", "items", "line", "number", "offset")

    def __init__(self, number: int, row: "list[int]") -> None:
        self.number = number
        self.offset, self.end, self.first, self.items, self.line = row

    @property
    def name(self) -> str:
        """As its files are called."""
        return f"part-{self.number:05}"


class Planner:
    """Told of each item in order; `rows` are the parts. `items`, `size`: how many items, or bytes, are a part at first.

    A plan that takes long may be made in several goes: `state` is what another planner goes on with. `begin`: where that is, the
    offset and the lines before it; None at the manifest's own beginning. `save` is called now and then while items come."""

    def __init__(self, items: int = ITEMS, size: int = BYTES) -> None:
        self.rows: list[list[int]] = []
        self.items = items
        self._size = size
        self._open: list[int] | None = None
        self._total = 0
        self.begin: tuple[int, int] | None = None
        self.save: Callable[[], object] = lambda: None

    @property
    def total(self) -> int:
        """How many items there were."""
        return self._total

    @classmethod
    def of(cls, state: "dict[str, Any]") -> "Planner":
        """One that goes on. Raises ValueError, KeyError or TypeError for what is no `state`."""
        made = cls(state["items"], state["size"])
        made.rows, made._open = [_row(each) for each in state["rows"]], state["open"] and _row(state["open"])
        offset, line = state["begin"]
        made.begin = int(offset), int(line)
        last = made._open or (made.rows[-1] if made.rows else [0, 0, 0, 0, 0])
        made._total = last[2] + last[3]
        return made

    def state(self) -> "dict[str, Any]":
        """As JSON values; to be asked where `begin` is behind the last item."""
        return {"rows": self.rows, "open": self._open, "items": self.items, "size": self._size, "begin": self.begin}

    def add(self, begin: int, end: int, line: int) -> None:
        """One item, its place, and how many lines are before it."""
        row = self._open
        if row is None:
            row = self._open = [begin, end, self._total, 0, line]
        row[1] = end
        row[3] += 1
        self._total += 1
        if row[3] >= self.items or row[1] - row[0] >= self._size:
            self._close(row)

    def parts(self) -> "list[list[int]]":
        """All of them, at the end."""
        if self._open is not None:
            self._close(self._open)
        return self.rows

    def _close(self, row: "list[int]") -> None:
        self.rows.append(row)
        self._open = None
        if len(self.rows) == MOST:  # parts twice as large from now on
            self.rows = [_joined(first, second) for first, second in zip(self.rows[::2], self.rows[1::2], strict=True)]
            self.items *= 2
            self._size *= 2


def _row(value: "Any") -> "list[int]":
    offset, end, first, items, line = value
    return [int(offset), int(end), int(first), int(items), int(line)]


def even(items: int, each: int = ITEMS) -> "list[list[int]]":
    """Parts of a manifest whose number of items is known, and whose items are found by their number."""
    each = max(each, -(-items // MOST))
    return [[at, min(at + each, items), at, min(each, items - at), at] for at in range(0, items, each)]


def parts(rows: "Any") -> "list[Part]":
    """The parts of a plan that was written down."""
    return [Part(number, row) for number, row in enumerate(rows)]


def _joined(first: "list[int]", second: "list[int]") -> "list[int]":
    return [first[0], second[1], first[2], first[3] + second[3], first[4]]
