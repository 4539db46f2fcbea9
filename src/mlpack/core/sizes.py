"""The sizes of a function's memory: what one package does at each, and which of them is proposed. Values, without a judgement."""

from __future__ import annotations

from dataclasses import dataclass

MB_PER_VCPU = 1769
"""The memory with which a function has one whole vCPU (targets.limits.MEMORY_PER_VCPU)."""
SIZES_MB = (512, 1024, MB_PER_VCPU, 2 * MB_PER_VCPU)
"""What a package is looked at with: parts of a vCPU, one, and two."""
AUTO = "auto"
"""What a recipe says for `memory_mb` where the build chooses it."""
COMPARED_MB = MB_PER_VCPU
"""The memory at which candidates are compared where the build chooses it: one whole vCPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizePoint:
    """One package at one size. Milliseconds; `basis`: how the numbers were found, in words.

    Attributes:
        memory_mb: The size.
        measured: Whether this size was measured; else it follows from another that was.
        threads: Of the engine.
        latency_ms: Of warm calls; where it is not measured, what the samples of the other size become.
        cold_start_ms: Process start to first answer.
        peak_memory_bytes: The largest resident set.
        cost_per_million_usd: Of warm requests.
    """

    memory_mb: int
    measured: bool
    basis: str
    threads: int
    latency_ms: tuple[float, ...]
    cold_start_ms: tuple[float, ...]
    peak_memory_bytes: int
    cost_per_million_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeVerdict:
    """What is wrong with a size, in words; nothing, where it may be taken."""

    point: SizePoint
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """The sizes of the chosen package. `proposed_mb`: the cheapest without a problem; None where there is none. `taken`: whether
    the package was built for it (`memory_mb: auto`)."""

    candidate_id: str
    sizes: tuple[SizeVerdict, ...]
    proposed_mb: int | None
    taken: bool
    quota: str
    """What held the processor to its share while this was measured, or why nothing did."""
