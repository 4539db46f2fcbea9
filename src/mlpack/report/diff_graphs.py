"""A candidate of two builds compared by what its graphs are made of: bytes, what operators compute in, and which layers changed.

Promises: pure; exact, since nothing of it is measured; a layer is the same one in both only where its name is. Records without a
graph have no rows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from mlpack.core.text import words

_TENSORS, _LAYERS = 5, 40
"""Rows of single tensors and layers; a count stands for the rest."""


class Change(StrEnum):
    """What became of one measure of one candidate."""

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


Made = dict[str, Any]
"""A row of `diff` without its candidate and band."""


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Made]:
    """What differs between the graphs of one candidate of two records."""
    old, new = before.get("graph"), after.get("graph")
    if old is None or new is None:
        if (old is None) != (new is None):
            yield _row("weights", _size(old), _size(new), Change.UNKNOWN, "what the graph is made of is not known on one side")
        return
    yield from _sizes("weights", {"": old["size_bytes"]}, {"": new["size_bytes"]})
    yield from _sizes("weights.", *(_by(one["layers"], "layer", "size_bytes") for one in (old, new)))
    yield from _tensors(old, new)
    counts = [_by(one["operators"], "precision", "count") for one in (old, new)]
    for name in _names(*counts):
        first, second = (count.get(name, 0) for count in counts)
        if first != second:
            yield _row(f"operators.{name}", first, second, Change.CHANGED, "")
    yield from _layers(old, new)


def writer(measure: str) -> Callable[..., str] | None:
    """How a number of such a row is written; None for a row of another kind."""
    kind = measure.partition(".")[0]
    if kind in ("weights", "tensor"):
        return words.size
    return _count if kind in ("operators", "layers") else None


def _count(value: float, _digits: int = 3) -> str:
    return f"{value:,.0f}"


def _sizes(prefix: str, old: Mapping[str, int], new: Mapping[str, int]) -> Iterator[Made]:
    for name in _names(old, new):
        first, second = old.get(name, 0), new.get(name, 0)
        if first != second:
            change = Change.BETTER if second < first else Change.WORSE
            yield _row(f"{prefix}{name}", first, second, change, "" if not first else f"{100 * (second / first - 1):+.1f} %")


def _tensors(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Made]:
    """The largest changes among tensors that both name: one that only one names may only have become smaller than the others."""
    sizes = [_by(one["tensors"], "name", "size_bytes") for one in (old, new)]
    both = [name for name in sizes[0] if name in sizes[1] and sizes[0][name] != sizes[1][name]]
    both.sort(key=lambda name: (-abs(sizes[1][name] - sizes[0][name]), name))
    chosen = set(both[:_TENSORS])
    yield from _sizes("tensor.", *({name: size[name] for name in size if name in chosen} for size in sizes))


def _layers(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Made]:
    """Layers that compute in something else now: to float, or back, and why where that is known."""
    first, second = ({row["node"]: row["precision"] for row in one["products"]} for one in (old, new))
    why = {row["node"]: row["why"] for row in (*old["kept_float"], *new["kept_float"]) if row["why"]}
    moved = [name for name in first if name in second and first[name] != second[name]]
    for name in moved[:_LAYERS]:
        yield _row(f"layer.{name}", first[name], second[name], Change.CHANGED, why.get(name, ""))
    if len(moved) > _LAYERS:
        yield _row("layers", len(moved), len(moved), Change.CHANGED, f"{len(moved) - _LAYERS:,} more compute in something else")


def _by(rows: list[dict[str, Any]], name: str, value: str) -> dict[str, int]:
    """Sums by name; what has none is read by nobody."""
    found: dict[str, int] = {}
    for row in rows:
        key = "unused" if row[name] is None else str(row[name])
        found[key] = found.get(key, 0) + int(row[value])
    return found


def _names(old: Mapping[str, int], new: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*new, *old)))


def _size(graph: Mapping[str, Any] | None) -> int | None:
    return None if graph is None else int(graph["size_bytes"])


def _row(measure: str, before: float | str | None, after: float | str | None, change: Change, why: str) -> Made:
    return {"measure": measure, "before": before, "after": after, "change": change, "why": why}
