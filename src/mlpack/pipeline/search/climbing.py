"""One candidate's search: rung after rung made, packed and judged, until one is inside, none is left or the time is over."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mlpack.core import digest, interrupts, machine
from mlpack.core.digest import Digest
from mlpack.core.distribution import version_of
from mlpack.core.records import Candidate, Model, Plan, Result, Step, Target
from mlpack.core.text import words
from mlpack.core.trails import SearchStep, Trail
from mlpack.decide import ladder
from mlpack.decide.ladder import Ladder, NumberFormat, Rung, RungOutcome
from mlpack.errors import LimitError, MlpackError, PassError, RecipeError, ServiceError
from mlpack.graphs import files
from mlpack.passes import PASSES
from mlpack.passes.quantize import damage, rungs
from mlpack.passes.quantize.choice import choose
from mlpack.pipeline import transform
from mlpack.pipeline.evidence import Bench, Data
from mlpack.pipeline.packing.packages import Package, Packages
from mlpack.pipeline.search import ordering
from mlpack.pipeline.search.allowance import Allowance
from mlpack.pipeline.search.judging import SLOWER, Judge, short
from mlpack.pipeline.transform import Bindings
from mlpack.store.local import Store
from mlpack.targets import TARGETS

_VERSION = 1
_CALLS_LEAST = 3
"""Of a ranking, for each node: one call may have nothing to say to the channel that loses most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchContext:
    """What a search needs of a build. `outputs`: a directory for the build's time, where a float's predictions are kept."""

    plan: Plan
    store: Store
    packages: Packages
    source: Model
    bindings: Bindings
    evaluation: Data
    outputs: Path
    observe: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A form of a candidate that was made: what a build goes on with if it ships."""

    result: Result
    package: Package | None
    outcome: RungOutcome
    tried: SearchStep
    unproven: bool = False
    """Whether a proof of its accuracy is asked for and missing."""
    at_risk: bool = False
    """Whether it has products that need more than a look at the graph to be proven, where that is asked for."""


def tops(plan: Plan, target: Target, *, too_large: bool = False) -> tuple[NumberFormat, ...]:
    """16-bit float and float as rungs, where neither is a candidate of its own: what can be chosen by its own name is not hidden
    behind another's. 16-bit float where the processor computes in it, or bytes are short (`too_large`: the float is beyond a limit
    of its target): half of them at about the float's speed, which the engine computes in then (measured: 1.00 to 1.14 times its
    latency)."""
    if plan.recipe.variants is None:
        return ()
    half = any(step.name == "precision" for variant in plan.recipe.variants for step in variant.steps)
    plain = any(not variant.steps for variant in plan.recipe.variants)
    native = target.arch in TARGETS[target.kind].float16_archs
    short = too_large or plan.recipe.budgets.package_size_bytes is not None
    return (
        *((NumberFormat.FP16,) if (native or short) and not half else ()),
        *(() if plain or too_large else (NumberFormat.FLOAT,)),
    )


_QUICKER = 0.9
"""Below this share of the float's latency, as a short timing tells it, what is too slow is not mended by more of the float."""


class Climbing:
    """One candidate's search: what was tried, by rung."""

    def __init__(
        self, means: SearchContext, result: Result, package: Package, floats: tuple[Result, Package], bench: Bench
    ) -> None:
        self._means, self._bottom, self._package = means, result, package
        self._quantizes = any(step.name == rungs.STEP for step in result.candidate.steps)
        self._float, self._float_package = floats
        self._judge = Judge(
            recipe=means.plan.recipe,
            bench=bench,
            evaluation=means.evaluation,
            float_=self._float,
            float_package=self._float_package,
            outputs=means.outputs,
            prefers=self._quantizes,
        )
        self._tried: list[tuple[Rung, Made]] = []
        self._ranking: tuple[damage.NodeDamage, ...] = ()
        self._options: dict[str, rungs.Option] = {}
        self._sorted: ordering.Order | None = None
        self._ended = ""
        last = next((step.config for step in result.candidate.steps if step.name == rungs.EXACT_STEP), None)
        self._exact, self._mendable = False, result.candidate.target.arch == "x86_64" and getattr(last, rungs.EXACT, True) is False

    def run(self, allowance: Allowance) -> Made | None:
        """The form that ships; None where no rung is inside (then it is the bottom, whatever becomes of it)."""
        spend = allowance.spend
        first = self._proven(Rung(), spend)
        if first.outcome.fits:
            self._ended = "inside every budget" + ("" if self._exact else " as it is")
            return first
        if first.outcome.drop is None:
            self._ended = "it could not be judged"
            return None
        if not self._quantizes:
            self._ended = "it was quantized before, so that nothing else of it can be varied: build from the float model"
            return None
        if first.outcome.accurate and first.tried.ratio is not None and first.tried.ratio < _QUICKER:
            self._ended = "it is accurate, and quicker than its float already: layers back in float would not make it quicker"
            return None
        if (ready := self._ladder(first.outcome, partial(spend, form=False))) is None:
            return None
        if not ready.tops and self._is_lost(first):
            return None
        climb = ladder.climb(ready, first.outcome)
        try:
            rung = next(climb)
            while True:
                if over := allowance.over():
                    self._ended = f"{over} before rung {len(self._tried) + 1} (search.minutes)"
                    return self._best()
                rung = climb.send(self._proven(rung, spend).outcome)
        except StopIteration as end:
            taken: Rung | None = end.value
        if taken is not None and taken.form is NumberFormat.FLOAT:
            self._float_itself()
        found = next((form for rung, form in self._tried if rung == taken and form.outcome.fits), None)
        self._ended = "inside every budget" if found else self._in_vain()
        return found

    def _is_lost(self, first: Made) -> bool:
        """Whether no form can be worth it, and `_ended` says why."""
        pace = first.outcome.pace
        if first.outcome.accurate or self._sorted is None:
            return False
        if not self._sorted.saves():
            self._ended = "it loses too much, and its conversions cost more than 8 bits save"
        elif pace is not None and pace >= SLOWER and len(self._kept(Rung(kept=1))) == 1:
            self._ended = (
                "it loses too much, and is slower than its float already: with layers back in float it would not be quicker"
            )
        return bool(self._ended)

    def _in_vain(self) -> str:
        """Why no rung is inside."""
        slow = [form for _, form in self._tried if form.outcome.accurate and not form.outcome.lean and form.tried.ratio is not None]
        if not slow or not self._judge.asks_for_speed or self._tried[0][1].outcome.accurate:
            return "no rung is inside every budget"
        best = min(slow, key=lambda form: form.tried.ratio or 0.0).tried
        return (
            f"no rung is inside every budget: what keeps the accuracy is too slow ({best.name}: {best.ratio:.2f} × its float's "
            "median latency), and what is quicker loses too much"
        )

    def _proven(self, rung: Rung, spend: Callable[[float], None]) -> Made:
        """The rung, and where its accuracy has to be proven and is not, the same with sums that no processor cuts off, where that
        proves it: what is asked for from then on has them too, because little of this candidate is proven without."""
        made = self._evaluate(rung, spend)
        if not (made.unproven and self._mendable and rung.form is NumberFormat.INT8):
            return made
        self._exact, self._mendable = True, False
        again = self._evaluate(rung, spend)
        if again.outcome.drop is not None and not again.unproven:
            return again
        self._exact = False
        return made

    def trail(self, found: Made | None) -> Trail:
        """What is kept of it."""
        layers = len(self._nodes())
        return Trail(
            layers=layers,
            most=ladder.most(layers),
            tried=tuple(form.tried for _, form in self._tried),
            taken=next((index for index, (_, form) in enumerate(self._tried) if form is found), None),
            ended=self._ended,
            damage=tuple((row.node, row.damage) for row in sorted(self._ranking, key=lambda row: -row.damage)),
        )

    def _best(self) -> Made | None:
        """Of what was tried, the first that is inside with fewest layers float."""
        inside = [(rung.kept, index) for index, (rung, form) in enumerate(self._tried) if form.outcome.fits]
        return self._tried[min(inside)[1]][1] if inside else None

    # --- what there is to climb ---------------------------------------------------------------------------------------

    def _notes(self) -> Mapping[str, Any]:
        model = self._bottom.model
        runs = [run for run in model.steps if run.name == rungs.STEP] if model else []
        return runs[0].notes if runs else {}

    def _nodes(self) -> tuple[str, ...]:
        return tuple(self._notes().get("nodes", {}))

    def _ladder(self, first: RungOutcome, spend: Callable[[float], None]) -> Ladder | None:
        """The candidate's ladder; None, and `_ended` says why, where its nodes cannot be ranked."""
        try:
            self._ranking, before, seconds = self._ranked()
        except PassError as error:
            self._ended = f"its layers cannot be ranked: {error}"
            return None
        spend(seconds)
        prefer, target = self._means.plan.recipe.prefer, self._bottom.candidate.target
        config = next(step.config for step in self._bottom.candidate.steps if step.name == rungs.STEP)
        offered = rungs.offered(config, self._notes(), calibrated="calibration" in self._means.bindings)
        self._options = {option.name: option for option in offered}
        ways = dict(self._notes().get("nodes", {}))
        self._sorted = order = ordering.ordered(
            self._ranking,
            files.outline(self._means.store.path(before)),
            {name for name, way in ways.items() if way == choose.STATIC},
            accurate=first.accurate,
            quick=self._judge.asks_for_speed,
        )
        return Ladder(
            damage=order.damage,
            reach=order.reach(),
            options=tuple(self._options),
            tops=tops(self._means.plan, target, too_large=self._float.over_limit is not None),
            first_fit=prefer == "accuracy",
            asked=len(self._tried) + (self._mendable and self._tried[0][1].at_risk),
        )

    def _ranked(self) -> tuple[tuple[damage.NodeDamage, ...], Digest, float]:
        """The quantized nodes by damage, from the store where that is known, the graph before, and how long it took."""
        store, bindings, candidate = self._means.store, self._means.bindings, self._bottom.candidate
        place = next(index for index, step in enumerate(candidate.steps) if step.name == rungs.STEP)
        data = self._means.evaluation
        trees = [
            transform.run_steps(
                replace(candidate, steps=candidate.steps[:end]), self._means.source, store, bindings, self._means.observe
            ).tree
            for end in (place, place + 1)
        ]
        # No more of it than a few forms would cost to judge: they are judged on these data.
        forwards = min(damage.FORWARDS, max(_CALLS_LEAST * len(self._nodes()), 4 * len(self._means.evaluation.calls)))
        action = {
            "kind": "damage",
            "version": damage.VERSION,
            "forwards": forwards,
            "models": [str(tree) for tree in trees],
            "nodes": list(self._nodes()),
            "calls": str(data.tree),
            "tools": {name: version_of(name) for name in ("onnx", "onnxruntime")},
        }
        with store.entry(action, repeatable=False) as entry:
            if not entry.hit:
                self._means.observe(f"{candidate.variant}: what each of {len(self._nodes())} quantized nodes loses")
                rows = damage.rank(store.path(trees[0]), store.path(trees[1]), self._nodes(), data.dir, entry.dir, forwards)
                (entry.dir / "damage.json").write_bytes(digest.canonical_json(damage.plain(rows)))
        return damage.read_rows(json.loads((entry.dir / "damage.json").read_bytes())), trees[0], entry.seconds

    # --- one rung -----------------------------------------------------------------------------------------------------

    def _candidate(self, rung: Rung) -> tuple[Candidate, dict[str, Any]]:
        """The candidate in this form, and the options that differ from the recipe's."""
        bottom = self._bottom.candidate
        if rung.form is NumberFormat.FLOAT:
            return replace(bottom, steps=self._float.candidate.steps), {}
        if rung.form is NumberFormat.FP16:
            half = Step(name="precision", config=PASSES["precision"].config(type="fp16"))
            return replace(bottom, steps=tuple(half if step.name == rungs.STEP else step for step in bottom.steps)), {}
        changed = {self._options[name].field: self._options[name].value for name in rung.options}
        given = changed | ({rungs.NODES: self._kept(rung)} if rung.kept else {})
        exact = {rungs.EXACT: True} if self._exact else {}
        more = {rungs.STEP: given, rungs.EXACT_STEP: exact}
        steps = tuple(
            replace(step, config=replace(step.config, **more[step.name])) if more.get(step.name) else step for step in bottom.steps
        )
        return replace(bottom, steps=steps), changed | exact

    def _evaluate(self, rung: Rung, spend: Callable[[float], None]) -> Made:
        began = time.monotonic()
        interrupts.check()
        candidate, changed = self._candidate(rung)
        result, package = self._made(rung, candidate)
        judged = self._judge.judged(result, package, searched=rung != Rung() or self._exact)
        seconds = self._seconds(candidate, package, time.monotonic() - began)
        spend(seconds)
        accuracy, outcome, why = judged.accuracy, judged.outcome, judged.why
        tried = SearchStep(
            name=self._name(rung),
            kept_float=self._kept(rung),
            options=changed,
            fits=outcome.fits,
            why=why,
            seconds=round(seconds, 3),
            ratio=judged.ratio,
            size_bytes=result.artifact.size_bytes if result.artifact else None,
            **{name: getattr(accuracy, name) for name in ("metric", "value", "drop", "ci_low", "ci_high") if accuracy},
        )
        form = Made(result=result, package=package, outcome=outcome, tried=tried, unproven=judged.unproven, at_risk=judged.at_risk)
        self._tried.append((rung, form))
        self._means.observe(f"{candidate.id}: rung {len(self._tried)}, {tried.name}: {short(why)}")
        return form

    def _made(self, rung: Rung, candidate: Candidate) -> tuple[Result, Package | None]:
        """The form's model and package, or why there is none."""
        if rung == Rung() and not self._exact:
            return self._bottom, self._package
        means = self._means
        model: Model | None = None
        try:
            model = transform.run_steps(candidate, means.source, means.store, means.bindings, means.observe)
            package = means.packages.pack(candidate, model, means.evaluation.sample(means.plan.recipe))
        except LimitError as error:
            return Result(candidate=candidate, model=model, over_limit=str(error)), None
        except (RecipeError, ServiceError):
            raise
        except MlpackError as error:
            interrupts.check()
            return Result(candidate=candidate, model=model, failure=str(error)), None
        return Result(candidate=candidate, model=model, artifact=package.artifact), package

    def _seconds(self, candidate: Candidate, package: Package | None, took: float) -> float:
        """How long this form took when it was evaluated first. The search's minutes are counted by it, so that a build which finds
        everything in the store ends where the first one ended."""
        step = next((step for step in candidate.steps if step.name in (rungs.STEP, "precision")), None)
        action = {
            "kind": "rung",
            "version": _VERSION,
            "package": str(package.content) if package else None,
            "step": transform.plain(step) if step else None,
            **({rungs.EXACT: True} if self._exact else {}),
            "model": str(self._bottom.model.tree) if self._bottom.model else None,
            "float": str(self._float_package.content),
            "data": str(self._means.evaluation.tree),
            "machine": dataclasses.asdict(machine.this_machine()),
        }
        with self._means.store.entry(action, repeatable=False) as entry:
            if not entry.hit:
                (entry.dir / "seconds.json").write_bytes(digest.canonical_json({"seconds": round(took, 3)}))
        return float(transform.read_json(entry.dir / "seconds.json")["seconds"])

    def _float_itself(self) -> None:
        """The last rung: the float's own model under this candidate's name."""
        rung = Rung(form=NumberFormat.FLOAT)
        self._evaluate(rung, lambda _seconds: None)

    def _kept(self, rung: Rung) -> tuple[str, ...]:
        """The nodes that are in float in this form, beside those that always are."""
        return self._sorted.kept(rung.kept) if self._sorted is not None and rung.form is NumberFormat.INT8 else ()

    def _name(self, rung: Rung) -> str:
        if rung.form is not NumberFormat.INT8:
            return "16-bit float" if rung.form is NumberFormat.FP16 else "float"
        kept = [f"{len(self._kept(rung))} of {words.count(len(self._nodes()), 'layer')} float"] if rung.kept else []
        exact = ["exact sums"] if self._exact else []
        return ", ".join((*kept, *rung.options, *exact)) or "unchanged"
