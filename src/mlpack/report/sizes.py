"""The sizes of the chosen package in words: a table, and what is proposed. The same for terminal, pull request and page.

Promises:
- It is pure and reads the record alone. A number that was not measured has "estimated" beside it.
"""

from __future__ import annotations

from mlpack.core.sizes import COMPARED_MB
from mlpack.core.text import words
from mlpack.report import svg
from mlpack.report.record import BuildRecord
from mlpack.report.record.sizes import SizeRecord, SizingRecord

HEADINGS = ("memory", "latency p50", "p95", "cold start p50", "peak memory", "$/million", "how", "fits")
NUMBERS = 6
"""The first cells of a row, which are numbers."""


def rows(sizing: SizingRecord) -> list[tuple[str, ...]]:
    """A row for each size, with a cell for each of `HEADINGS`."""
    return [_row(size, sizing) for size in sizing.sizes]


def sentence(sizing: SizingRecord) -> str:
    """What is proposed, in one sentence."""
    at = next((size for size in sizing.sizes if size.memory_mb == sizing.proposed_mb), None)
    if at is None:
        return f"{sizing.candidate}: none of the sizes of memory is within the budgets"
    guess = "" if at.measured else ", estimated"
    numbers = f"p95 {words.ms(at.latency_p95_ms)}, {words.usd(at.cost_per_million_usd)} per million{guess}"
    if sizing.taken:
        return f"{sizing.candidate}: built for {at.memory_mb:,} MB ({numbers}); candidates are compared at {COMPARED_MB:,} MB"
    return f"{sizing.candidate}: the cheapest memory within the budgets is {at.memory_mb:,} MB ({numbers})"


def lines(sizing: SizingRecord | None) -> list[str]:
    """The sentence and the table as lines of plain text, columns under one another."""
    if sizing is None:
        return []
    table = [HEADINGS, *rows(sizing)]
    widths = [max(len(row[index]) for row in table) for index in range(len(HEADINGS))]
    shown = []
    for row in table:
        cells = [
            cell.rjust(width) if index < NUMBERS else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        shown.append("  " + "  ".join(cells).rstrip())
    return [sentence(sizing), *shown]


def plots(record: BuildRecord) -> tuple[str, str]:
    """Two drawings, p95 and price by memory; empty where no sizes were looked at."""
    sizing, budgets = record.sizing, record.recipe.budgets
    if sizing is None:
        return "", ""
    drawn = []
    for title, field, budget, name, write in (
        ("Latency p95 by memory", "latency_p95_ms", budgets.latency_p95_ms, "p95 budget", words.ms),
        ("Price per million by memory", "cost_per_million_usd", budgets.cost_per_million_usd, "budget", words.usd),
    ):
        points = [
            svg.CurvePoint(
                x=size.memory_mb,
                y=float(getattr(size, field)),
                label=label(size),
                marked=size.memory_mb == sizing.proposed_mb,
                estimated=not size.measured,
            )
            for size in sizing.sizes
        ]
        limits = [] if budget is None else [svg.LimitLine(value=budget, label=f"{name} {words.limit(write(budget))}")]
        drawn.append(svg.curve(title, points, limits, write))
    return drawn[0], drawn[1]


def label(size: SizeRecord) -> str:
    """A size's name in a plot."""
    return f"{size.memory_mb:,} MB" + ("" if size.measured else ", estimated")


def _row(size: SizeRecord, sizing: SizingRecord) -> tuple[str, ...]:
    proposed = size.memory_mb == sizing.proposed_mb
    return (
        f"{size.memory_mb:,} MB",
        words.ms(size.latency_p50_ms),
        f"{words.ms(size.latency_p95_ms)} (n={size.latency_n})" if size.measured else words.ms(size.latency_p95_ms),
        words.ms(size.cold_start_ms),
        words.size(size.peak_memory_bytes),
        words.usd(size.cost_per_million_usd),
        "measured" if size.measured else "estimated",
        ("taken" if sizing.taken else "proposed") if proposed else "; ".join(size.problems) or "yes",
    )
