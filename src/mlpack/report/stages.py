"""The times of a request's stages in words: a table of candidates, where a build measured them.

Promises:
- It is pure and reads the record alone. A budget stands in the heading of its stage.
"""

from __future__ import annotations

from mlpack.core.sizes import COMPARED_MB
from mlpack.core.stages import STAGES
from mlpack.core.text import words
from mlpack.report.record import BuildRecord


def title(record: BuildRecord) -> str:
    """The table's heading: where the package was built for another memory, with the memory that its times are of."""
    return f"Stages of a request, p95{'' if record.size_taken is None else f', at {COMPARED_MB:,} MB'}"


def headings(record: BuildRecord) -> tuple[str, ...]:
    """The first cell, and each stage that took place somewhere or has a budget."""
    limits = record.recipe.budgets.stages_ms
    said = {name: f"{name} (≤ {words.limit(words.ms(most))})" for name, most in limits.items()}
    return ("candidate", *(said.get(name, name) for name in _names(record)))


def rows(record: BuildRecord) -> list[tuple[str, ...]]:
    """A row for each candidate that was measured, with a cell for each of `headings`; none where no budget asked for them."""
    names = _names(record)
    return [
        (one.id, *(words.ms(one.stages_ms[name].p95) if name in one.stages_ms else words.UNKNOWN for name in names))
        for one in record.candidates
        if one.stages_ms
    ]


def _names(record: BuildRecord) -> list[str]:
    there = {name for one in record.candidates for name in one.stages_ms} | set(record.recipe.budgets.stages_ms)
    return [name for name in STAGES if name in there]
