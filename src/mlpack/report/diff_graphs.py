"""Compare the graphs of one candidate in two builds: bytes, element types of operators, and changed layers.

Promises:
- Comparison is pure and exact, since nothing here is measured.
- A layer counts as the same only if its name is the same. Records without a graph have no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from mlpack.core.text import words
from mlpack.report.record.candidates import CandidateRecord
from mlpack.report.record.graphs import GraphRecord

_TENSORS, _LAYERS = 5, 40
"""Rows of single tensors and layers; a count stands for the rest."""


class Change(StrEnum):
    """The change of one measure of one candidate."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    INCOMPARABLE = "incomparable"
    """Measured on different machines, or on different data."""
    CHANGED = "changed"
    """Different, but neither better nor worse."""
    ADDED = "added"
    REMOVED = "removed"
    UNKNOWN = "unknown"
    """Not known on one side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphChange:
    """A row of `diff` that has no noise band, without its candidate."""

    measure: str
    before: float | str | None
    after: float | str | None
    change: Change
    why: str


def changes(before: CandidateRecord, after: CandidateRecord) -> Iterator[GraphChange]:
    """The differences between the graphs of one candidate in two records."""
    old, new = before.graph, after.graph
    if old is None or new is None:
        if (old is None) != (new is None):
            yield _row("weights", _size(old), _size(new), Change.UNKNOWN, "what the graph is made of is not known on one side")
        return
    yield from _sizes("weights", {"": old.size_bytes}, {"": new.size_bytes})
    yield from _sizes("weights.", *(_sums((row.layer, row.size_bytes) for row in one.layers) for one in (old, new)))
    yield from _tensors(old, new)
    counts = [_sums((row.precision, row.count) for row in one.operators) for one in (old, new)]
    for name in _names(*counts):
        first, second = (count.get(name, 0) for count in counts)
        if first != second:
            yield _row(f"operators.{name}", first, second, Change.CHANGED, "")
    yield from _layers(old, new)


def writer(measure: str) -> Callable[..., str] | None:
    """The function that writes a number of such a row; None for a row of another kind."""
    kind = measure.partition(".")[0]
    if kind in ("weights", "tensor"):
        return words.size
    return _count if kind in ("operators", "layers") else None


def _count(value: float, _digits: int = 3) -> str:
    return f"{value:,.0f}"


def _sizes(prefix: str, old: Mapping[str, int], new: Mapping[str, int]) -> Iterator[GraphChange]:
    for name in _names(old, new):
        first, second = old.get(name, 0), new.get(name, 0)
        if first != second:
            change = Change.BETTER if second < first else Change.WORSE
            yield _row(f"{prefix}{name}", first, second, change, "" if not first else f"{100 * (second / first - 1):+.1f} %")


def _tensors(old: GraphRecord, new: GraphRecord) -> Iterator[GraphChange]:
    """The largest changes among tensors that both name: one that only one names may only have become smaller than the others."""
    sizes = [_sums((row.name, row.size_bytes) for row in one.tensors) for one in (old, new)]
    both = [name for name in sizes[0] if name in sizes[1] and sizes[0][name] != sizes[1][name]]
    both.sort(key=lambda name: (-abs(sizes[1][name] - sizes[0][name]), name))
    chosen = set(both[:_TENSORS])
    yield from _sizes("tensor.", *({name: size[name] for name in size if name in chosen} for size in sizes))


def _layers(old: GraphRecord, new: GraphRecord) -> Iterator[GraphChange]:
    """Layers that compute in something else now: to float, or back, and why where that is known."""
    first, second = ({row.node: row.precision for row in one.products} for one in (old, new))
    why = {row.node: row.why for row in (*old.kept_float, *new.kept_float) if row.why}
    moved = [name for name in first if name in second and first[name] != second[name]]
    for name in moved[:_LAYERS]:
        yield _row(f"layer.{name}", first[name], second[name], Change.CHANGED, why.get(name, ""))
    if len(moved) > _LAYERS:
        yield _row("layers", len(moved), len(moved), Change.CHANGED, f"{len(moved) - _LAYERS:,} more compute in something else")


def _sums(numbers: Iterable[tuple[str | None, int]]) -> dict[str, int]:
    """Sums by name; what has none is read by nobody."""
    sums: dict[str, int] = {}
    for name, number in numbers:
        key = "unused" if name is None else name
        sums[key] = sums.get(key, 0) + number
    return sums


def _names(old: Mapping[str, int], new: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*new, *old)))


def _size(graph: GraphRecord | None) -> int | None:
    return None if graph is None else graph.size_bytes


def _row(measure: str, before: float | str | None, after: float | str | None, change: Change, why: str) -> GraphChange:
    return GraphChange(measure=measure, before=before, after=after, change=change, why=why)
