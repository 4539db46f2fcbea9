"""Judge one form of a candidate: accuracy beside the float's, size, and a short timing where a budget or `prefer` asks for speed.

Promises:
- A form that misses its accuracy is not timed, except the first: its time tells what the others could reach.

Will not: judge what needs full effort (p99, cold start, memory).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlpack.core import stats
from mlpack.core.records import Accuracy, Budgets, Measurement, Recipe, Result
from mlpack.core.text import words
from mlpack.decide import budgets
from mlpack.decide.ladder import RungOutcome
from mlpack.errors import MeasureError
from mlpack.pipeline.evidence import Bench, Data
from mlpack.pipeline.measuring.measure import Effort
from mlpack.pipeline.packing.packages import Package
from mlpack.targets import TARGETS

SLOWER = 1.03
"""A form with at least this ratio is slower than its float. Short timings show no smaller difference."""
_HARDLY_QUICK = 1.1
"""The largest ratio for a form that replaces one that was too slow, however wide its interval is."""
_SHORT = Effort(cold_starts=0, blocks=8, samples=160, seconds_per_subject=1.5, warmup_seconds=0.2, throughput_seconds=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The result of judging a form: the outcome for the ladder, its main problem in words, and the numbers."""

    outcome: RungOutcome
    why: str
    accuracy: Accuracy | None = None
    ratio: float | None = None
    unproven: bool = False
    """Whether the recipe asks for a proof that this form lacks."""
    at_risk: bool = False
    """Whether its graph alone gives no proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judges the forms of one target. `float_`: the baseline, with its package. `outputs`: a directory that keeps the float's
    predictions during the build."""

    recipe: Recipe
    bench: Bench
    evaluation: Data
    float_: Result
    float_package: Package
    outputs: Path
    prefers: bool = True
    """Whether a form has to beat the float in what the recipe prefers. False for a source that was quantized before."""

    @property
    def asks_for_speed(self) -> bool:
        """Whether a budget or `prefer` is about time."""
        preferred = self.prefers and self.recipe.prefer in ("cost", "latency")
        return preferred or any(getattr(self.recipe.budgets, name) is not None for name in _TIMES)

    def judge(self, result: Result, package: Package | None, *, searched: bool = True) -> Judgement:
        """Judge a form; without a package `result` says why. `searched`: the form differs from the recipe's."""
        if result.over_limit is not None:  # accurate as far as is known: fewer layers in float make it smaller
            return Judgement(outcome=RungOutcome(accurate=True, lean=False), why=first_line(result.over_limit))
        if package is None:
            return Judgement(outcome=RungOutcome(accurate=False, lean=False), why=first_line(result.failure or "it failed"))
        measurement = self._measure_accuracy(result.candidate.id, package)
        if isinstance(measurement, MeasureError):
            return Judgement(outcome=RungOutcome(accurate=False, lean=False), why=first_line(str(measurement)))
        measured_result, accuracy = replace(result, measurement=measurement), measurement.accuracy
        drop = accuracy.drop if accuracy else None
        proof = accuracy.proof if accuracy else None
        unproven = self.recipe.budgets.isa is not None and (proof is None or proof.how is None)
        at_risk = proof is not None and bool(proof.risks)
        if problems := self._accuracy_problems(measured_result):
            ratio = None if searched else self._speed_problems(measured_result, package, searched=False)[1]
            outcome = RungOutcome(accurate=False, lean=False, drop=drop, pace=ratio)
            return Judgement(outcome=outcome, why=problems[0], accuracy=accuracy, ratio=ratio, unproven=unproven, at_risk=at_risk)
        faults, ratio = self._size_problems(measured_result, package), None
        if not faults:
            faults, ratio = self._speed_problems(measured_result, package, searched=searched)
        reason = faults[0] if faults else "inside every budget"
        return Judgement(
            outcome=RungOutcome(accurate=True, lean=not faults, drop=drop, pace=ratio), why=reason, accuracy=accuracy, ratio=ratio
        )

    def _measure_accuracy(self, id_: str, package: Package) -> Measurement | MeasureError:
        base = self.float_.candidate.id
        folder = self.outputs / self.float_package.content.short
        folder.mkdir(exist_ok=True)
        measurements = self.bench.judge({base: self.float_package, id_: package}, base, self.evaluation, folder)
        if self.recipe.budgets.isa is not None:  # not asked for otherwise: a run under emulation takes as long as several forms
            measurements = self.bench.with_proofs(measurements, {base: self.float_package, id_: package}, self.evaluation)
        return measurements[id_]

    def _accuracy_problems(self, result: Result) -> list[str]:
        limits = self.recipe.budgets
        problems = [
            check.text
            for check in budgets.checks(result, _without_budgets(limits, *_TIMES, *_LATER, *_SIZES), None, itself=False)[0]
        ]
        unbounded = budgets.unbounded(result, limits)
        return problems or ([unbounded] if unbounded else [])

    def _size_problems(self, result: Result, package: Package) -> list[str]:
        limits = _without_budgets(self.recipe.budgets, *_TIMES, *_LATER)
        problems = [check.text for check in budgets.checks(result, limits, None, itself=False)[0]]
        ours, theirs = package.artifact.size_bytes, self.float_package.artifact.size_bytes
        if not problems and self.prefers and self.recipe.prefer == "size" and ours > theirs:
            problems.append(f"larger than its float: {' against '.join(words.apart(ours, theirs, words.size))}")
        return problems

    def _speed_problems(self, result: Result, package: Package, *, searched: bool) -> tuple[list[str], float | None]:
        """Problems of speed by a short timing in turns with the float, and the ratio. Not timed where no budget asks for it."""
        id_, base, limits = result.candidate.id, self.float_.candidate.id, self.recipe.budgets
        preferred = self.prefers and self.recipe.prefer in ("cost", "latency")
        if not self.asks_for_speed:
            return [], None
        if package.content == self.float_package.content:
            return [], 1.0
        bench = replace(self.bench, effort=_short_of(self.bench.effort), prover=None)
        measurement = bench.measure({base: self.float_package, id_: package}, base, self.evaluation)[id_]
        if isinstance(measurement, MeasureError):
            return [first_line(str(measurement))], None
        target = result.candidate.target
        price = TARGETS[target.kind].price(target.config, stats.median(measurement.latency_ms), measurement.throughput_per_s)
        timed_result = replace(result, measurement=measurement, cost_per_million_usd=price)
        interval = stats.quantile_interval(measurement.ratio_samples)
        problems = [check.text for check in budgets.checks(timed_result, _without_budgets(limits, *_LATER), None, itself=False)[0]]
        if preferred and (interval.low > SLOWER or (searched and interval.value > _HARDLY_QUICK)):
            problems.append(f"slower than its float: {words.number(interval.value)} × its median latency")
        return problems, round(interval.value, 4)


def first_line(text: str) -> str:
    """The first line of a message."""
    return text.strip().splitlines()[0][:300] if text.strip() else "it failed"


def _short_of(effort: Effort) -> Effort:
    """The effort of a short timing, which never exceeds that of the final one."""
    return Effort(**{f.name: min(getattr(_SHORT, f.name), getattr(effort, f.name)) for f in dataclasses.fields(Effort)})


_TIMES = ("latency_p50_ms", "latency_p95_ms", "cost_per_million_usd")
_LATER = ("latency_p99_ms", "cold_start_ms", "peak_memory_bytes")
"""Budgets that need full effort."""
_SIZES = ("package_size_bytes",)


def _without_budgets(limits: Budgets, *names: str) -> Budgets:
    """The limits without these. That on accuracy always stays: without it, a default would be checked in its place."""
    others: dict[str, Any] = dict.fromkeys(names)
    return replace(limits, **others, stages_ms={})  # of the final measurement alone
