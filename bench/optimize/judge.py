"""What the figures say of measured rows: pure, and importable without a peer.

A row is one tool's model of one case (`Row`): the float, a candidate of ours, or a peer's preset. The figure: of the models within
the drop that is allowed, none of a peer's is more than 3 % faster or smaller than the one that mlpack chose; the float, which
everyone has, counts among the peers'. `variants: auto` costs at most six float builds.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

DROP = 0.01
MARGIN = 1.03
BUILDS = 6.0
SAME = 0.99
"""A cosine below which a processor is said to answer otherwise, where no metric says how much is lost."""
FLOAT, OURS, PEER = "float", "mlpack", "peer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One tool's model. `blocks`: its median latency in each round, milliseconds; `failure`: why there is no model, or no answer.

    `drop` is by the case's metric on all of the evaluation data; `cosine_avx2` of `samples_avx2` answers that a processor with AVX2
    alone gives, to the same model's answers here, the worst output counting; `drop_avx2` of the same answers from those of the
    float, where the metric compares with it."""

    tool: str
    side: str
    failure: str = ""
    chosen: bool = False
    size_bytes: int = 0
    blocks: tuple[float, ...] = ()
    value: float | None = None
    drop: float | None = None
    cosine_avx2: float | None = None
    drop_avx2: float | None = None
    samples_avx2: int = 0
    seconds: float | None = None

    @property
    def within(self) -> bool:
        """Whether its drop is one that the figure allows."""
        return not self.failure and self.drop is not None and self.drop <= DROP

    @property
    def collapses(self) -> bool:
        """Whether it keeps its answers here and loses them without VNNI."""
        lost = self.drop_avx2 > DROP if self.drop_avx2 is not None else (self.cosine_avx2 or 1.0) < SAME
        return self.within and lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A case's rows, and what its build took. `note`: what its numbers do not say; then sizes are not judged."""

    name: str
    metric: str
    rows: tuple[Row, ...]
    note: str = ""
    build_seconds: float = 0.0
    float_seconds: float = 0.0
    evaluated: int = 0
    load: float = 0.0
    commit: str = ""
    """How busy the machine was, and the last change of what built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number that must hold, with its words."""

    name: str
    value: float
    at_most: float
    detail: str
    unit: str = "×"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a case comes to. `alone`: no peer's preset is within the drop. `missing`: why nothing can be judged."""

    figures: tuple[Figure, ...]
    alone: bool = False
    missing: str = ""
    words: tuple[str, ...] = field(default=())


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """The median of ours over theirs, round by round, with the middle half of the rounds. ValueError without a common round."""
    pairs = [mine / its for mine, its in zip(ours, theirs, strict=False)]
    if not pairs:
        raise ValueError("no round that both sides ran")
    if len(pairs) < 4:
        return statistics.median(pairs), min(pairs), max(pairs)
    low, _, high = statistics.quantiles(pairs, n=4, method="inclusive")
    return statistics.median(pairs), low, high


def slower(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times slower ours is for sure: the median of the rounds, or less where the fastest rounds say so. What else a
    machine does only ever adds to a round, so that two files of equal bytes differ by one of the two, but hardly by both."""
    return min(ratio(ours, theirs)[0], min(ours) / min(theirs))


def verdict(case: Judged) -> Verdict:
    """The case's figures: latency and size over the best of the others within the drop, and what the build cost."""
    costs = _build_figure(case)
    ours = next((row for row in case.rows if row.side == OURS and row.chosen), None)
    if ours is None or ours.failure:
        failed = [row for row in case.rows if row.side == OURS and row.failure]
        return Verdict(figures=costs, missing="; ".join(f"{row.tool}: {row.failure}" for row in failed) or "nothing was chosen")
    if not ours.within:
        return Verdict(figures=costs, missing=f"the chosen one's drop is {ours.drop}")
    others = [row for row in case.rows if row.side != OURS and row.within]
    figures = []
    timed = [(slower(ours.blocks, row.blocks), row) for row in others if row.blocks and ours.blocks]
    if timed:
        value, best = max(timed, key=lambda each: each[0])
        median, low, high = ratio(ours.blocks, best.blocks)
        words = f"{best.tool}; rounds {median:.2f}, middle half {low:.2f} to {high:.2f}{_but(best)}"
        figures.append(Figure(name=f"{case.name}: latency over the fastest other's", value=value, at_most=MARGIN, detail=words))
    sized = [row for row in others if row.size_bytes]
    if sized and not case.note:
        smallest = min(sized, key=lambda row: row.size_bytes)
        figures.append(
            Figure(
                name=f"{case.name}: size over the smallest other's",
                value=ours.size_bytes / smallest.size_bytes,
                at_most=MARGIN,
                detail=f"{smallest.tool}, {smallest.size_bytes / 1e6:.3g} MB{_but(smallest)}",
            )
        )
    alone = ours.tool != _float_of_ours(case) and not any(row.side == PEER for row in others)
    return Verdict(figures=(*figures, *costs), alone=alone, words=_words(case, others))


def _float_of_ours(case: Judged) -> str:
    """The name of our own float candidate."""
    return next((row.tool for row in case.rows if row.side == OURS and "fp32" in row.tool), "")


def _but(row: Row) -> str:
    """What stands beside a rival that does not keep its answers where it may run."""
    if not row.collapses:
        return ""
    if row.drop_avx2 is None:
        return f"; without VNNI its answers are others: cosine {row.cosine_avx2:.2f}"
    return f"; without VNNI its drop is {row.drop_avx2:.2f}"


def _build_figure(case: Judged) -> tuple[Figure, ...]:
    if not case.build_seconds or not case.float_seconds:
        return ()
    detail = f"{case.build_seconds:.0f} s, the float alone {case.float_seconds:.0f} s"
    value = case.build_seconds / case.float_seconds
    return (Figure(name=f"{case.name}: build with variants: auto over the float's", value=value, at_most=BUILDS, detail=detail),)


def _words(case: Judged, others: Sequence[Row]) -> tuple[str, ...]:
    """What a reader should know of the case beyond its figures."""
    said = []
    peers = [row for row in case.rows if row.side == PEER]
    failed = sum(1 for row in peers if row.failure)
    lost = sum(1 for row in peers if not row.failure and not row.within)
    kept = sum(1 for row in others if row.side == PEER)
    said.append(f"{len(peers)} presets: {failed} failed, {lost} lost more than {DROP}, {kept} within")
    if collapsing := [row.tool for row in others if row.collapses]:
        said.append(f"lose more than {DROP} without VNNI: {', '.join(collapsing)}")
    return tuple(said)


def table(case: Judged) -> str:
    """The case's rows as Markdown: ratios against the float that everyone was given."""
    base = next((row for row in case.rows if row.side == FLOAT), None)
    said = f"{case.metric}, {case.evaluated} evaluation calls; mlpack at {case.commit or 'no commit'}, load {case.load:.0f}"
    lines = [
        f"### {case.name}",
        "",
        f"{said}{f'; {case.note}' if case.note else ''}.",
        "",
        "| tool | outcome | latency | size | drop | without VNNI | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {' | '.join(_cells(row, base))} |" for row in case.rows]
    return "\n".join([*lines, ""])


def _cells(row: Row, base: Row | None) -> list[str]:
    """A row's cells."""
    name = f"**{row.tool}**" if row.chosen else row.tool
    outcome = row.failure.replace("|", "\\|").replace("\n", " ") or ("chosen" if row.chosen else "within" if row.within else "lost")
    if row.side == FLOAT:
        outcome = "given"
    latency = f"{ratio(row.blocks, base.blocks)[0]:.2f}" if base and base.blocks and row.blocks else ""
    size = f"{row.size_bytes / base.size_bytes:.2f}" if base and base.size_bytes and row.size_bytes else ""
    drop = "" if row.drop is None else f"{row.drop:.4f}"
    emulated = ""
    if row.cosine_avx2 is not None:
        emulated = f"{row.cosine_avx2:.4f}" + ("" if row.drop_avx2 is None else f", drop {row.drop_avx2:.4f}")
        emulated += f" (n={row.samples_avx2})"
    return [name, outcome, latency, size, drop, emulated, "" if row.seconds is None else f"{row.seconds:.0f}"]


def tidied(case: Judged) -> Judged:
    """The case without this machine's paths: of a file in a reason only its name stays."""
    rows = [dataclasses.replace(row, failure=re.sub(r"(?<![\w.])/(?:[^/\s'\":;,]+/)+", "", row.failure)) for row in case.rows]
    return dataclasses.replace(case, rows=tuple(rows))


def as_json(case: Judged) -> dict[str, Any]:
    """The case for bench/results."""
    return dataclasses.asdict(case)


def from_json(kept: dict[str, Any]) -> Judged:
    """What `as_json` gave."""
    rows = tuple(Row(**{**row, "blocks": tuple(row["blocks"])}) for row in kept["rows"])
    return Judged(**{**kept, "rows": rows})
