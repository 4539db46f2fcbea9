"""The records of a search between int8 and float: what a recipe allows, which forms of a candidate were tried, and which form
ships.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchBudget:
    """How long a build searches for the best forms of all candidates together. `minutes` None: it does not search, and tries each
    candidate as the recipe says. `said`: the recipe states the time; otherwise it is limited to a few times the build of the
    float (`search.allowance`)."""

    minutes: float | None = 5.0
    said: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStep:
    """One evaluation of a search: a form of the candidate that was made, packed and judged, and why the search ended or went on.

    `kept_float`: nodes that stay float beside those that always do. `options`: fields of the step's config that differ from the
    recipe's. `ratio`: median latency over the float's, shortly timed; None where it was not, because accuracy had failed before
    or nothing asks for speed.
    """

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
    """The search that led to a candidate's form. `layers`: the number of quantized nodes at first; `most`: the largest number of
    evaluations. `taken`: the index in `tried` of the form that ships; None where none is inside, and the first form ships if the
    budgets allow it. `damage`: by quantized node, what quantizing it alone does to the outputs (the error of their worst channel
    over its variance), largest first; empty where it was not needed. `ended`: why the search ended, in words."""

    layers: int
    most: int
    tried: tuple[SearchStep, ...]
    taken: int | None
    ended: str
    damage: tuple[tuple[str, float], ...] = ()
