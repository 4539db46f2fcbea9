"""Look at the chosen package at the sizes of memory that Lambda sells, and propose the cheapest that fits the budgets.

Promises:
- What ships is measured, all sizes in turns in the same seconds: a part of a vCPU under a quota of the kernel's, two vCPUs on two
  cores. What this machine cannot give is estimated from what it can, and called that.
- A size is measured once per machine and content. Prices are computed anew.

Will not: pack the package for a size (`verbs` does, for `memory_mb: auto`), or measure memory by taking it away: a size has to hold
the package's peak.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mlpack.core import digest, machine
from mlpack.core.records import Budgets, Candidate, Target
from mlpack.core.sizes import AUTO, MB_PER_VCPU, SIZES_MB, SizePoint, Sizing
from mlpack.core.stats import median
from mlpack.decide import sizing
from mlpack.pipeline.measuring import measure, quota
from mlpack.pipeline.measuring.measure import Effort, Subject, Timings
from mlpack.pipeline.measuring.quota import Quota
from mlpack.pipeline.packing.packages import Package, Packages, subject_of
from mlpack.store.local import Store
from mlpack.targets import TARGETS, limits

_VERSION = 1
_RESULT = "sizes.json"
EFFORT = Effort(cold_starts=3, blocks=10, samples=100, seconds_per_subject=2.0, warmup_seconds=0.2, throughput_seconds=0.02)
"""What a curve needs. It decides between sizes whose prices differ by a fifth or more."""


def has_sizes(target: Target) -> bool:
    """Whether a target is a function whose memory this machine can look at."""
    return limits.INIT in TARGETS[target.kind].limits and target.arch == machine.arch()


def is_chosen_here(target: Target, written: tuple[Target, ...]) -> bool:
    """Whether the recipe leaves the memory of this target to the build."""
    return any(each.id == target.id and getattr(each.config, "memory_mb", None) == AUTO for each in written)


def with_memory(target: Target, memory_mb: int) -> Target:
    """The target with another memory."""
    return dataclasses.replace(target, config=dataclasses.replace(target.config, memory_mb=memory_mb))


def size_up(
    candidate: Candidate,
    package: Package,
    calls: tuple[Path, int],
    budgets: Budgets,
    by: tuple[Packages, Store, Callable[[str], None]],
    stages_ms: Mapping[str, tuple[float, ...]] | None = None,
) -> Sizing:
    """Measure or estimate each size, and propose one.

    Args:
        candidate: The chosen one.
        package: Its package.
        calls: The directory of the calls, and how many there are.
        budgets: What a size has to keep.
        by: The build's means.
        stages_ms: The stages of a request to the package as it is, where there are budgets for them.

    Returns:
        The sizes with their problems; not `taken`.

    Raises:
        MeasureError: The package failed while it was measured.
    """
    packages, store, observe = by
    sizes = tuple(sorted({*SIZES_MB, package.memory_mb}))
    ways = quota.ways() if min(sizes) < MB_PER_VCPU else ()
    action = {
        "kind": "sizes",
        "version": _VERSION,
        "machine": dataclasses.asdict(machine.this_machine()),
        "content": str(package.content),
        "calls": str(digest.of_file(calls[0] / "calls.json")),
        "sizes": list(sizes),
        "cores": _cores(),
        "quotas": [way.name for way in ways],
        "effort": dataclasses.asdict(EFFORT),
    }
    with store.entry(action, repeatable=False) as entry:
        if not entry.hit:
            found = quota.first_that_holds(ways)
            held = found if isinstance(found, Quota) else None
            measured = tuple(size for size in sizes if _can_measure(size, _cores(), has_quota=held is not None))
            with packages.trees.of({candidate.id: package}) as folders:
                subject = subject_of(candidate.id, package, folders[candidate.id])
                timings = _measure(subject, measured, held, calls, observe)
            words = f"by {held.name}" if held is not None else f"no quota of the processor here ({found})"
            (entry.dir / _RESULT).write_bytes(digest.canonical_json({"quota": words, "timings": timings}))
    taken = json.loads((entry.dir / _RESULT).read_bytes())
    points = points_of(candidate.target, sizes, taken["timings"], taken["quota"])
    verdicts = sizing.judge(points, budgets, stages_ms, package.memory_mb)
    proposed_mb = sizing.propose(verdicts)
    return Sizing(candidate_id=candidate.id, sizes=verdicts, proposed_mb=proposed_mb, taken=False, quota=taken["quota"])


def points_of(target: Target, sizes: tuple[int, ...], timings: Mapping[str, Any], held: str) -> tuple[SizePoint, ...]:
    """A point for each size: from its timings, else from those of the measured size that is nearest to a vCPU."""

    def price(memory_mb: int, p50_ms: float) -> float:
        row = TARGETS[target.kind]
        return float(row.price(with_memory(target, memory_mb).config, p50_ms, None) or 0.0)

    points: dict[int, SizePoint] = {}
    for size in sizes:
        if (row := timings.get(str(size))) is not None:
            threads = sizing.threads_of(size)
            share = "" if size >= MB_PER_VCPU else f" of {size / MB_PER_VCPU:.0%} of a processor, {held}"
            points[size] = SizePoint(
                memory_mb=size,
                measured=True,
                basis=f"measured with {threads} of this machine's cores{share}",
                threads=threads,
                latency_ms=tuple(row["latency_ms"]),
                cold_start_ms=tuple(row["cold_start_ms"]),
                peak_memory_bytes=row["peak_memory_bytes"],
                cost_per_million_usd=price(size, median(row["latency_ms"])),
            )
    nearest = min(points.values(), key=lambda point: abs(point.memory_mb - MB_PER_VCPU))
    return tuple(points.get(size) or sizing.extrapolated(nearest, size, price) for size in sizes)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _can_measure(size: int, cores: int, *, has_quota: bool) -> bool:
    """A part of a vCPU needs a quota; whole ones need as many cores, and no size between them is measured."""
    if size < MB_PER_VCPU:
        return has_quota
    return size % MB_PER_VCPU == 0 and size // MB_PER_VCPU <= cores


def _measure(
    subject: Subject, sizes: tuple[int, ...], by: Quota | None, calls: tuple[Path, int], observe: Callable[[str], None]
) -> dict[str, Any]:
    observe(f"measure: {subject.id} at {', '.join(f'{size:,}' for size in sizes)} MB")
    with ExitStack() as stack:
        subjects = [
            dataclasses.replace(
                subject,
                id=f"{subject.id} at {size:,} MB",
                memory_mb=size,
                emulator=stack.enter_context(by.held(size / MB_PER_VCPU)) if by is not None and size < MB_PER_VCPU else (),
            )
            for size in sizes
        ]
        taken = measure.time_side_by_side(subjects, subjects[-1].id, calls[0], calls[1], EFFORT, observe)
    return {str(each.memory_mb): _plain(taken[each.id]) for each in subjects}


def _plain(timings: Timings) -> dict[str, Any]:
    return {
        "latency_ms": list(timings.latency_ms),
        "cold_start_ms": list(timings.cold_start_ms),
        "peak_memory_bytes": timings.peak_memory_bytes,
    }
