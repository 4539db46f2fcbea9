"""The records of a search between int8 and float: what a recipe allows, which forms of a candidate were tried, and which form
ships.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchBudget:
    """How long a build looks for candidates' best forms, all together. None: not at all, each is tried as it is said. `said`: the
    recipe says how long; else it is no longer than a few times what the float's build takes (`search.allowance`)."""

    minutes: float | None = 5.0
    said: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStep:
    """One evaluation of a climb: a form of the candidate, made, packed and judged, and why the climb ended there or went on.

    `kept_float`: nodes that stay float beside those that always do. `options`: fields of the step's config that differ from the
    recipe's. `ratio`: median latency over the float's, shortly timed; None where it was not, because accuracy had failed before or
    nothing asks for speed."""

    name: str
    kept_float: tuple[str, ...]
    options: Mapping[str, Any]
    fits: bool
    why: str
    seconds: float
    """As it took when it ran: what a cached one costs again is nothing."""
    metric: str | None = None
    value: float | None = None
    drop: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ratio: float | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """How a candidate came to its form. `layers`: how many nodes were quantized at first; `most`: evaluations that it could have
    cost. `taken`: which of `tried` ships; None where none is inside, and what ships (if the budgets let it) is the first.
    `damage`: of each node that was quantized, what quantizing it alone does to the outputs (the error of their worst channel over
    its variance); largest first, empty where nobody had to know. `ended`: why it ended, in words."""

    layers: int
    most: int
    tried: tuple[SearchStep, ...]
    taken: int | None
    ended: str
    damage: tuple[tuple[str, float], ...] = ()
