"""The verbs of the ladder: forms of a candidate made, packed and judged, one after the other, until one is inside its budgets.

    the first form: fits? → rank its nodes (`passes.quantize.damage`) → rung after rung (`ladder.climb`) → what ships, and its trail

Promises: a rung is an ordinary chain of steps, and its package is judged as every package is, so that what was done before is not
done again; what is asked for depends on results alone, not on the clock, but for speed where that is a budget; time ends a search
between two rungs, and the search then says so. It decides nothing that `decide` does not decide again on what ships.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

from mlpack.core.records import Candidate, Plan, Result
from mlpack.decide.ladder import SPARE, NumberFormat
from mlpack.passes.quantize import rungs
from mlpack.passes.quantize.calibration import ranges
from mlpack.pipeline.evidence import Bench
from mlpack.pipeline.packing.packages import Package
from mlpack.pipeline.search import allowance
from mlpack.pipeline.search.climbing import Climbing, SearchContext, tops
from mlpack.targets import TARGETS

__all__ = ["Search", "SearchContext", "climbs", "foreseen", "remembering"]


def climbs(candidate: Candidate, plan: Plan) -> bool:
    """Whether this candidate's ladder is climbed: not where it has no one step to vary, where the recipe switches the search off or
    says which nodes stay float, or where its target is not measured here. One without such a step (a model that is quantized
    already) has a single rung, which proves its accuracy where the recipe asks for that."""
    steps = [step for step in candidate.steps if step.name == rungs.STEP]
    if candidate.skipped is not None or plan.recipe.search.minutes is None or TARGETS[candidate.target.kind].device != "cpu":
        return False
    if not steps:
        return plan.recipe.budgets.isa is not None and candidate.target.arch == "x86_64"
    return len(steps) == 1 and not getattr(steps[0].config, rungs.NODES)


def foreseen(candidate: Candidate, plan: Plan) -> str | None:
    """What a build would try of this candidate beyond its steps, in words; None where that is nothing."""
    if not climbs(candidate, plan):
        return None
    recipe = plan.recipe
    step = next((step for step in candidate.steps if step.name == rungs.STEP), None)
    if step is None:
        return None
    options = [option.name for option in rungs.offered(step.config, None)]
    drop = "more than accuracy_drop" if recipe.budgets.accuracy_drop is not None else "much"
    slow = " or is slower than its float" if recipe.prefer in ("cost", "latency") else ""
    options += (
        ["exact sums where its accuracy is not proven (isa)"] if recipe.budgets.isa and candidate.target.arch == "x86_64" else []
    )
    last = ["16-bit float" if form is NumberFormat.FP16 else "float" for form in tops(plan, candidate.target)]
    back = "layers back in float, those with the most damage first"
    back += " and those that do not pay for their conversions" if slow else ""
    ways = [back, *options, *last]
    said = f"at most {recipe.search.minutes:g} min for all candidates (search)"
    if not recipe.search.said:
        bounds = f"{allowance.LEAST_S:g} s to {recipe.search.minutes:g} min"
        said = f"at most {allowance.TIMES:g} times the time of the float's build, {bounds}, for all candidates (search)"
    return (
        f"if it loses {drop}{slow}, a search tries: {', '.join(ways)}; until it is within every budget, in at most "
        f"log2(layers) + {SPARE} forms and {said}"
    )


def remembering() -> AbstractContextManager[None]:
    """While the block runs, what calibration data reach in a graph is looked at once for all its forms."""
    return ranges.remembered()


class Search:
    """All searches of one build: they share the recipe's minutes, in the order in which they are asked for."""

    def __init__(self, means: SearchContext) -> None:
        self._means = means
        self._allowance = allowance.Allowance(means.plan.recipe.search)

    def climb(self, result: Result, package: Package, floats: tuple[Result, Package], bench: Bench) -> tuple[Result, Package]:
        """One that `climbs`, in the form that ships, with its trail. `floats`: the target's baseline, measured or not."""
        if not any(step.name == rungs.STEP for step in result.candidate.steps) and self._is_proven(result, package, bench):
            return result, package
        climbing = Climbing(self._means, result, package, floats, bench)
        self._allowance.widen(*floats, bench, self._means.evaluation)
        found = climbing.run(self._allowance)
        trail = climbing.trail(found)
        if found is None or found.package is None:
            return replace(result, trail=trail), package
        return replace(found.result, trail=trail), found.package

    def _is_proven(self, result: Result, package: Package, bench: Bench) -> bool:
        if bench.prover is None:
            return True
        id_ = result.candidate.id
        return bench.prover.here({id_: package}, bench.evaluation(self._means.evaluation))[id_].how is not None
