"""How a build ends: the decision, the memory of a function, and the boot of what was chosen.

Promises:
- A package that does not boot, or whose start is longer than its platform allows, cannot win: the choice is made again without it.
- A function's sizes of memory are looked at where timing was asked for in full, or the recipe leaves its memory to the build. Where
  that fails, the package is as it was, and a warning says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.core import machine
from mlpack.core.records import Decision, Measurement, Plan, Result
from mlpack.core.sizes import Sizing
from mlpack.decide import choose
from mlpack.errors import MeasureError, MlpackError
from mlpack.pipeline import booting, sizing
from mlpack.pipeline.booting import Tools
from mlpack.pipeline.evidence import Data
from mlpack.pipeline.outcome import Startup
from mlpack.pipeline.packing.packages import Package, Packages
from mlpack.store.local import Store

if TYPE_CHECKING:
    from mlpack.core.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A candidate with its result so far. `ships` is False for a float that is too large to ship: the others are still compared
    with its `package`."""

    result: Result
    package: Package | None = None
    ships: bool = True

    def with_result(self, **more: Any) -> Contender:
        """A copy with more fields of its result."""
        return dataclasses.replace(self, result=dataclasses.replace(self.result, **more))


Contenders = Mapping[str, Contender]
"""By candidate id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the end of a build needs. `evaluation`: the data that requests are taken from. `timed`: the data whose calls are timed.
    `is_full`: whether timing was asked for in full."""

    plan: Plan
    store: Store
    packages: Packages
    progress: Progress
    tools: Tools
    evaluation: Data
    timed: Data
    is_full: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The decision, how the chosen package booted, the candidates as they are then, and the sizes of the chosen one."""

    decision: Decision
    startup: Startup | None
    contenders: Contenders
    sizing: Sizing | None = None


def results(contenders: Contenders, planned: Plan) -> tuple[Result, ...]:
    """The results of the plan's candidates, in its order."""
    return tuple(contenders[candidate.id].result for candidate in planned.candidates)


def float_measurements(contenders: Contenders, planned: Plan) -> dict[str, Measurement]:
    """The measurement of each target's float, by target id."""
    measurements = {each.target.id: contenders[each.id].result.measurement for each in planned.baselines}
    return {target_id: measurement for target_id, measurement in measurements.items() if measurement is not None}


def decide_and_boot(contenders: Contenders, by: Surroundings) -> Ending:
    """Choose a candidate, look at its sizes and boot it. When it does not boot, choose again without it."""
    planned, recipe, floats = by.plan, by.plan.recipe, float_measurements(contenders, by.plan)
    programs = booting.find_programs(by.tools)
    packages = {each.target.id: contenders[each.id].package for each in planned.baselines if each.target.id in floats}
    sizes = {target_id: package.artifact.size_bytes for target_id, package in packages.items() if package is not None}
    while True:
        decision = choose.decide(results(contenders, planned), floats, recipe.budgets, recipe.prefer, sizes)
        if decision.chosen is None:
            return Ending(decision=decision, startup=None, contenders=contenders)
        contender = contenders[decision.chosen]
        target = contender.result.candidate.target
        if target.arch != machine.arch():
            by.progress.warn(
                f"{decision.chosen} was neither timed nor booted: this machine is {machine.arch()}. Build on its kind to be sure"
                + (", and for memory_mb: auto, which stays at one vCPU's" if sizing.is_chosen_here(target, recipe.targets) else "")
            )
            return Ending(decision=decision, startup=None, contenders=contenders)
        contender, sized = _sized(contender, by)
        assert contender.package is not None
        try:
            with by.progress.step(f"boot {decision.chosen}"):
                target = sizing.with_memory(target, contender.package.memory_mb)
                startup = booting.boot_once(contender.package, target, programs, by.store)
                warning = booting.check_init(startup, target)
        except MlpackError as error:
            by.progress.warn(f"{decision.chosen} does not boot, so it cannot win:\n{error}")
            contenders = {**contenders, decision.chosen: contender.with_result(failure=str(error))}
            continue
        if warning is not None:
            by.progress.warn(f"{decision.chosen}: {warning}")
        contender = contender.with_result(artifact=booting.noted(contender.package.artifact, startup))
        contenders = {**contenders, decision.chosen: contender}
        return Ending(decision=decision, startup=startup, contenders=contenders, sizing=sized)


def _sized(contender: Contender, by: Surroundings) -> tuple[Contender, Sizing | None]:
    """The contender, packed for the memory that its recipe leaves to the build; and its sizes."""
    candidate, package = contender.result.candidate, contender.package
    leaves_it = sizing.is_chosen_here(candidate.target, by.plan.recipe.targets)
    if package is None or not sizing.has_sizes(candidate.target) or not (leaves_it or by.is_full):
        return contender, None
    try:
        with by.progress.step(f"{candidate.id}: sizes of memory"):
            means = (by.packages, by.store, lambda text: by.progress.note(f"  {text}"))
            calls = (by.timed.dir, len(by.timed.calls))
            measured = contender.result.measurement
            stages_ms = measured.stages_ms if measured is not None else {}
            sized = sizing.size_up(candidate, package, calls, by.plan.recipe.budgets, means, stages_ms)
    except MeasureError as error:
        by.progress.warn(f"{candidate.id}: its sizes of memory could not be compared: {error}")
        return contender, None
    if not leaves_it:
        return contender, sized
    proposed_mb = sized.proposed_mb
    if proposed_mb is None:
        by.progress.warn(
            f"{candidate.id}: no size of memory is within the budgets (memory_mb: auto): built for {package.memory_mb:,} MB."
            f" {'; '.join(each for verdict in sized.sizes for each in verdict.problems[:1])}"
        )
        return contender, sized
    sized = dataclasses.replace(sized, taken=True)
    if (warning := guessed(sized)) is not None:
        by.progress.warn(warning)
    if proposed_mb == package.memory_mb or contender.result.model is None:
        return contender, sized
    fitted = dataclasses.replace(candidate, target=sizing.with_memory(candidate.target, proposed_mb))
    packed = by.packages.pack(fitted, contender.result.model, by.evaluation.sample(by.plan.recipe))
    return dataclasses.replace(contender.with_result(artifact=packed.artifact), package=packed), sized


def guessed(sized: Sizing) -> str | None:
    """The warning about a size that was proposed by an estimate; None where it was measured."""
    point = next(verdict.point for verdict in sized.sizes if verdict.point.memory_mb == sized.proposed_mb)
    if point.measured:
        return None
    return (
        f"{sized.candidate_id}: built for {point.memory_mb:,} MB by an estimate, not a measurement ({point.basis};"
        f" {sized.quota}). Measure the function at this size, or write its memory_mb into the recipe"
    )
