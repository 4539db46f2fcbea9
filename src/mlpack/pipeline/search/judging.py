"""One form of a candidate judged: accuracy beside the float's, size, and a short timing where a budget or `prefer` asks for speed.

Promises: a form that misses its accuracy is not timed, but for the first, whose time tells what others could reach. What full
effort alone can tell (p99, cold start, memory) is not looked at.
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
"""From here on a form is slower than its float: shorter timings than the final ones tell no smaller difference."""
_HARDLY_QUICK = 1.1
"""A form that is searched for because another was too slow has to show more than an interval that is wide."""
_SHORT = Effort(cold_starts=0, blocks=8, samples=160, seconds_per_subject=1.5, warmup_seconds=0.2, throughput_seconds=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a form came to: what the ladder is told, what is wrong with it in words, and the numbers."""

    outcome: RungOutcome
    why: str
    accuracy: Accuracy | None = None
    ratio: float | None = None
    unproven: bool = False
    """Whether the recipe asks for a proof that this form has not got."""
    at_risk: bool = False
    """Whether its graph alone does not prove it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """What one target's forms are held against. `float_`: the baseline and its package; `outputs`: a directory that keeps what the
    float predicts while the build lasts."""

    recipe: Recipe
    bench: Bench
    evaluation: Data
    float_: Result
    float_package: Package
    outputs: Path
    prefers: bool = True
    """Whether a form has to be better than the float by what the recipe prefers: not one that is the float, proven."""

    @property
    def asks_for_speed(self) -> bool:
        """Whether a budget or what the recipe prefers is about time."""
        preferred = self.prefers and self.recipe.prefer in ("cost", "latency")
        return preferred or any(getattr(self.recipe.budgets, name) is not None for name in _TIMES)

    def judged(self, result: Result, package: Package | None, *, searched: bool = True) -> Judged:
        """A form that was made, or was not: `result` says why. `searched`: it is not the one that the recipe says."""
        if result.over_limit is not None:  # fewer layers in float would be smaller
            return Judged(outcome=RungOutcome(accurate=True, lean=False), why=short(result.over_limit))
        if package is None:
            return Judged(outcome=RungOutcome(accurate=False, lean=False), why=short(result.failure or "it failed"))
        found = self._judged(result.candidate.id, package)
        if isinstance(found, MeasureError):
            return Judged(outcome=RungOutcome(accurate=False, lean=False), why=short(str(found)))
        known, accuracy = replace(result, measurement=found), found.accuracy
        drop = accuracy.drop if accuracy else None
        proof = accuracy.proof if accuracy else None
        unproven = self.recipe.budgets.isa is not None and (proof is None or proof.how is None)
        at_risk = proof is not None and bool(proof.risks)
        if wrong := self._inaccurate(known):
            ratio = None if searched else self._slow(known, package, searched=False)[1]
            lost = RungOutcome(accurate=False, lean=False, drop=drop, pace=ratio)
            return Judged(outcome=lost, why=wrong[0], accuracy=accuracy, ratio=ratio, unproven=unproven, at_risk=at_risk)
        heavy, ratio = self._large(known, package), None
        if not heavy:
            heavy, ratio = self._slow(known, package, searched=searched)
        said = heavy[0] if heavy else "inside every budget"
        return Judged(
            outcome=RungOutcome(accurate=True, lean=not heavy, drop=drop, pace=ratio), why=said, accuracy=accuracy, ratio=ratio
        )

    def _judged(self, id_: str, package: Package) -> Measurement | MeasureError:
        base = self.float_.candidate.id
        folder = self.outputs / self.float_package.content.short
        folder.mkdir(exist_ok=True)
        found = self.bench.judge({base: self.float_package, id_: package}, base, self.evaluation, folder)
        if self.recipe.budgets.isa is not None:  # else nobody asks, and a run under emulation takes as long as several forms
            found = self.bench.proven(found, {base: self.float_package, id_: package}, self.evaluation)
        return found[id_]

    def _inaccurate(self, known: Result) -> list[str]:
        given = self.recipe.budgets
        wrong = [check.text for check in budgets.checks(known, _without(given, *_TIMES, *_LATER, *_SIZES), None, itself=False)[0]]
        unbounded = budgets.unbounded(known, given)
        return wrong or ([unbounded] if unbounded else [])

    def _large(self, known: Result, package: Package) -> list[str]:
        limits = _without(self.recipe.budgets, *_TIMES, *_LATER)
        large = [check.text for check in budgets.checks(known, limits, None, itself=False)[0]]
        ours, theirs = package.artifact.size_bytes, self.float_package.artifact.size_bytes
        if not large and self.prefers and self.recipe.prefer == "size" and ours > theirs:
            large.append(f"larger than its float: {' against '.join(words.apart(ours, theirs, words.size))}")
        return large

    def _slow(self, known: Result, package: Package, *, searched: bool) -> tuple[list[str], float | None]:
        """What a short timing in turns with the float finds too slow, and the ratio. Nothing is timed where nobody asks."""
        id_, base, given = known.candidate.id, self.float_.candidate.id, self.recipe.budgets
        preferred = self.prefers and self.recipe.prefer in ("cost", "latency")
        if not self.asks_for_speed:
            return [], None
        if package.content == self.float_package.content:
            return [], 1.0
        bench = replace(self.bench, effort=_short_of(self.bench.effort), prover=None)
        found = bench.measure({base: self.float_package, id_: package}, base, self.evaluation)[id_]
        if isinstance(found, MeasureError):
            return [short(str(found))], None
        target = known.candidate.target
        price = TARGETS[target.kind].price(target.config, stats.median(found.latency_ms), found.throughput_per_s)
        timed = replace(known, measurement=found, cost_per_million_usd=price)
        around = stats.quantile_interval(found.ratio_samples)
        slow = [check.text for check in budgets.checks(timed, _without(given, *_LATER), None, itself=False)[0]]
        if preferred and (around.low > SLOWER or (searched and around.value > _HARDLY_QUICK)):
            slow.append(f"slower than its float: {words.number(around.value)} × its median latency")
        return slow, round(around.value, 4)


def short(text: str) -> str:
    """The first line of a message."""
    return text.strip().splitlines()[0][:300] if text.strip() else "it failed"


def _short_of(effort: Effort) -> Effort:
    """A short timing, and never a longer one than the final."""
    return Effort(**{f.name: min(getattr(_SHORT, f.name), getattr(effort, f.name)) for f in dataclasses.fields(Effort)})


_TIMES = ("latency_p50_ms", "latency_p95_ms", "cost_per_million_usd")
_LATER = ("latency_p99_ms", "cold_start_ms", "peak_memory_bytes")
"""What only full effort tells."""
_SIZES = ("package_size_bytes",)


def _without(given: Budgets, *names: str) -> Budgets:
    """The same but for these. The budget on accuracy always stays: without one, what is taken for granted would be held up."""
    others: dict[str, Any] = dict.fromkeys(names)
    return replace(given, **others)
