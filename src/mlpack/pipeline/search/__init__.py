"""Search a form of a quantized candidate that is inside its budgets: make, pack and judge forms one after the other.

    the first form → rank its nodes (`passes.quantize.damage`) → rung after rung (`ladder.climb`) → what ships, and its trail

Promises:
- A rung is an ordinary chain of steps, and its package is judged like every package, so the store answers for earlier work.
- The order of rungs depends on results alone, not on the clock, unless a budget is about speed.
- Time ends a search only between two rungs, and its trail says so.

Will not: decide. `decide` judges the package that ships again.
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

__all__ = ["Search", "SearchContext", "climbs", "forecast", "remembering"]


def climbs(candidate: Candidate, plan: Plan) -> bool:
    """Whether this candidate is searched: it has exactly one step to vary, the recipe neither switches the search off nor names the
    nodes that stay float, and its target is measured here. A candidate without such a step (a model that is quantized already) has
    a single rung, which proves its accuracy where the recipe asks for a proof."""
    steps = [step for step in candidate.steps if step.name == rungs.STEP]
    if candidate.skipped is not None or plan.recipe.search.minutes is None or TARGETS[candidate.target.kind].device != "cpu":
        return False
    if not steps:
        return plan.recipe.budgets.isa is not None and candidate.target.arch == "x86_64"
    return len(steps) == 1 and not getattr(steps[0].config, rungs.NODES)


def forecast(candidate: Candidate, plan: Plan) -> str | None:
    """The search of this candidate in a build, in words; None where there is none."""
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
    limit = f"at most {recipe.search.minutes:g} min for all candidates (search)"
    if not recipe.search.said:
        bounds = f"{allowance.LEAST_S:g} s to {recipe.search.minutes:g} min"
        limit = f"at most {allowance.TIMES:g} times the time of the float's build, {bounds}, for all candidates (search)"
    return (
        f"if it loses {drop}{slow}, a search tries: {', '.join(ways)}; until it is within every budget, in at most "
        f"log2(layers) + {SPARE} forms and {limit}"
    )


def remembering() -> AbstractContextManager[None]:
    """While the block runs, the ranges of a graph on its calibration data are computed once for all its forms."""
    return ranges.remembered()


class Search:
    """All searches of one build. They share the recipe's minutes, first come first served."""

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._allowance = allowance.Allowance(context.plan.recipe.search)

    def climb(self, result: Result, package: Package, floats: tuple[Result, Package], bench: Bench) -> tuple[Result, Package]:
        """Search one candidate that `climbs`: the form that ships, with its trail. `floats`: the target's baseline, measured or
        not."""
        if not any(step.name == rungs.STEP for step in result.candidate.steps) and self._is_proven(result, package, bench):
            return result, package
        climbing = Climbing(self._context, result, package, floats, bench)
        self._allowance.widen(*floats, bench, self._context.evaluation)
        form = climbing.run(self._allowance)
        trail = climbing.trail(form)
        if form is None or form.package is None:
            return replace(result, trail=trail), package
        return replace(form.result, trail=trail), form.package

    def _is_proven(self, result: Result, package: Package, bench: Bench) -> bool:
        if bench.prover is None:
            return True
        id_ = result.candidate.id
        return bench.prover.here({id_: package}, bench.evaluation(self._context.evaluation))[id_].how is not None
