"""The part of a record about sizes of memory: what the chosen package does at each, and which is proposed."""

from __future__ import annotations

from dataclasses import dataclass

from mlpack.report.record.parts import RecordPart


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRecord(RecordPart):
    """The chosen package at one size."""

    memory_mb: int
    """The size in MB; 1,769 is one vCPU."""
    measured: bool
    """Whether it was measured at this size; else its numbers follow from another's."""
    basis: str
    """How the numbers were found, in words."""
    threads: int
    """Threads of the engine."""
    latency_p50_ms: float
    """Median latency of a warm call."""
    latency_p95_ms: float
    """95th percentile of a warm call."""
    latency_n: int
    """How many calls were measured."""
    cold_start_ms: float
    """Process start to first answer, median."""
    peak_memory_bytes: int
    """The largest resident set."""
    cost_per_million_usd: float
    """Dollars for a million warm requests."""
    problems: tuple[str, ...]
    """Why it may not be taken; none: it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizingRecord(RecordPart):
    """The sizes of the chosen package."""

    candidate: str
    """The id of the chosen candidate."""
    proposed_mb: int | None
    """The cheapest size within every budget; null: there is none."""
    taken: bool
    """Whether the package was built for it, as `memory_mb: auto` asks."""
    quota: str
    """What held the processor to its share, or why nothing did."""
    sizes: tuple[SizeRecord, ...]
    """Each size, the smallest first."""
