"""Judge the sizes of a function's memory and propose one; and say what a size that cannot be measured here would do. Pure.

Promises:
- The cheapest size is proposed of those inside every budget; of equal prices the faster one.
- A number that follows from another is called that. It is a bound from above where a size has less than a vCPU: a quota may let a
  short call finish before it bites.

Will not: measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from mlpack.core import stats
from mlpack.core.records import Budgets
from mlpack.core.sizes import MB_PER_VCPU, SizePoint, SizeVerdict
from mlpack.core.stages import SHARE
from mlpack.core.text import words

INIT_S = 10.0
"""What Lambda gives an initialisation (targets.limits.INIT); then it begins anew within the first invocation."""
INIT_MARGIN = 0.8
"""The share of it that a start measured here may take: another processor is slower, and its disk is not warm."""
MEMORY_MARGIN = 0.9
"""The share of a size that the package's peak may take: the rest is for AWS's runtime client and for larger requests."""
PARALLEL_SHARE = 0.8
"""The share of a call that a second thread halves, where two cannot be measured: an assumption, and named in each such estimate."""
WAITS = ("features",)
"""Stages that wait for others, and take no longer with less processor."""


def judge(
    points: Sequence[SizePoint], budgets: Budgets, stages_ms: Mapping[str, Sequence[float]] | None = None, at_mb: int = 0
) -> tuple[SizeVerdict, ...]:
    """What is wrong with each size, the smallest first.

    Args:
        points: The sizes.
        budgets: What each has to keep.
        stages_ms: Samples of a request's stages, where there are budgets for them. They were measured at one size alone: at a
            smaller one each is taken to last longer as whole calls do, and at a larger one to last as long.
        at_mb: That size.

    Returns:
        A verdict for each.
    """
    ordered = sorted(points, key=lambda point: point.memory_mb)
    there = [stats.median(point.latency_ms) for point in ordered if point.memory_mb == at_mb]

    def problems(point: SizePoint) -> tuple[str, ...]:
        slower = max(1.0, stats.median(point.latency_ms) / there[0]) if there and there[0] > 0 else 1.0
        return (*_problems(point, budgets), *_slow_stages(stages_ms or {}, budgets, slower))

    return tuple(SizeVerdict(point=point, problems=problems(point)) for point in ordered)


def _slow_stages(stages_ms: Mapping[str, Sequence[float]], budgets: Budgets, slower: float) -> Iterator[str]:
    for stage, limit in budgets.stages_ms.items():
        if not (samples := stages_ms.get(stage)):
            continue  # then no size is known to keep it, which the choice has said
        value = stats.percentile(samples, SHARE) * (1.0 if stage in WAITS else slower)
        if value > limit:
            yield f"stage {stage} p95 {words.ms(value)} is more than the budget of {words.ms(limit)}"


def propose(verdicts: Sequence[SizeVerdict]) -> int | None:
    """The cheapest size without a problem; None where each has one."""
    fitting = [each.point for each in verdicts if not each.problems]
    if not fitting:
        return None
    best = min(fitting, key=lambda point: (round(point.cost_per_million_usd, 4), stats.median(point.latency_ms), point.memory_mb))
    return best.memory_mb


def init_problem(start_ms: float, memory_mb: int) -> str | None:
    """What is wrong with a start of this length, in words that say what to do; None where Lambda gives it the time."""
    if start_ms <= INIT_S * 1e3 * INIT_MARGIN:
        return None
    return (
        f"its start takes {start_ms / 1e3:.1f} s at {memory_mb:,} MB, and Lambda ends an initialisation after {INIT_S:g} s (held to"
        f" {INIT_MARGIN * INIT_S:g} s here: another processor may be slower). Give it more memory, which brings more processor, a"
        " smaller model, or hooks that import less when they are loaded"
    )


def _problems(point: SizePoint, budgets: Budgets) -> list[str]:
    problems = []
    for share, limit in ((0.5, budgets.latency_p50_ms), (0.95, budgets.latency_p95_ms), (0.99, budgets.latency_p99_ms)):
        value = stats.percentile(point.latency_ms, share)
        if limit is not None and value > limit:
            problems.append(f"latency p{share * 100:g} {words.ms(value)} is more than the budget of {words.ms(limit)}")
    start_ms = stats.median(point.cold_start_ms)
    if budgets.cold_start_ms is not None and start_ms > budgets.cold_start_ms:
        problems.append(f"cold start p50 {words.ms(start_ms)} is more than the budget of {words.ms(budgets.cold_start_ms)}")
    if (slow := init_problem(start_ms, point.memory_mb)) is not None:
        problems.append(slow)
    has_bytes = point.memory_mb * (1 << 20)
    if point.peak_memory_bytes > MEMORY_MARGIN * has_bytes:
        peak = words.size(point.peak_memory_bytes)
        problems.append(f"its peak of {peak} is more than {words.percent(MEMORY_MARGIN)} of {point.memory_mb:,} MB")
    limit_bytes = budgets.peak_memory_bytes
    if limit_bytes is not None and point.peak_memory_bytes > limit_bytes:
        peak = words.size(point.peak_memory_bytes)
        problems.append(f"its peak of {peak} is more than the budget of {words.size(limit_bytes)}")
    limit_usd = budgets.cost_per_million_usd
    if limit_usd is not None and point.cost_per_million_usd > limit_usd:
        problems.append(f"{words.usd(point.cost_per_million_usd)} a million is more than the budget of {words.usd(limit_usd)}")
    return problems


def extrapolated(point: SizePoint, memory_mb: int, price: Callable[[int, float], float]) -> SizePoint:
    """What a size would do, by the processor time of one that was measured.

    Below a vCPU a call takes its processor time divided by the share. Above it threads divide the share of the work that runs side
    by side (Amdahl).

    Args:
        point: A size that was measured with one thread or more.
        memory_mb: The size that is asked about.
        price: From memory and median latency to dollars for a million requests.

    Returns:
        The point, not `measured`, with its basis in words.
    """
    threads = threads_of(memory_mb)
    factor = _seconds(memory_mb, threads) / _seconds(point.memory_mb, point.threads)
    latency_ms = tuple(round(value * factor, 4) for value in point.latency_ms)
    start_factor = max(1.0, MB_PER_VCPU / memory_mb) / max(1.0, MB_PER_VCPU / point.memory_mb)  # most of a start is one thread's
    how = f"{words.percent(round(memory_mb / MB_PER_VCPU, 3))} of a vCPU" if memory_mb < MB_PER_VCPU else f"{threads} threads"
    if threads > 1:
        how += f", which share {words.percent(PARALLEL_SHARE)} of the work"
    return SizePoint(
        memory_mb=memory_mb,
        measured=False,
        basis=f"estimated from {point.memory_mb:,} MB: {how}",
        threads=threads,
        latency_ms=latency_ms,
        cold_start_ms=tuple(round(value * start_factor, 3) for value in point.cold_start_ms),
        peak_memory_bytes=point.peak_memory_bytes,
        cost_per_million_usd=price(memory_mb, stats.median(latency_ms)),
    )


def threads_of(memory_mb: int) -> int:
    """The threads of the engine at a size, as the runtime counts them."""
    return max(1, round(memory_mb / MB_PER_VCPU))


def _seconds(memory_mb: int, threads: int) -> float:
    """The time of a call that takes one thread of a whole vCPU a second."""
    if threads == 1:
        return max(1.0, MB_PER_VCPU / memory_mb)
    return (1 - PARALLEL_SHARE) + PARALLEL_SHARE / threads
