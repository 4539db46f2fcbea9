"""One candidate's search: make, pack and judge rung after rung, until one fits, none is left or the time is over."""

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
from mlpack.pipeline.search.judging import SLOWER, Judge, first_line
from mlpack.pipeline.transform import Bindings
from mlpack.store.local import Store
from mlpack.targets import TARGETS

_VERSION = 1
_CALLS_LEAST = 3
"""The fewest calls for each node of a ranking: a single call may leave the channel that loses most untouched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchContext:
    """The parts of a build that a search needs. `outputs`: a directory that keeps the float's predictions during the build."""

    plan: Plan
    store: Store
    packages: Packages
    source: Model
    bindings: Bindings
    evaluation: Data
    outputs: Path
    observe: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """An evaluated form of a candidate, which the build continues with if it ships."""

    result: Result
    package: Package | None
    outcome: RungOutcome
    step: SearchStep
    unproven: bool = False
    """Whether the recipe asks for a proof of its accuracy that is missing."""
    at_risk: bool = False
    """Whether the recipe asks for a proof that the graph alone does not give."""


def tops(plan: Plan, target: Target, *, too_large: bool = False) -> tuple[NumberFormat, ...]:
    """The rungs 16-bit float and float, unless the recipe has a candidate of that kind, which can be chosen by its own name.

    16-bit float is a rung where the processor computes in it, or where bytes are short (`too_large`: the float exceeds a limit of
    its target): it has half the bytes, and about the float's speed, because the engine then computes in float (measured: 1.00 to
    1.14 times its latency).
    """
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
"""Where a form takes less than this share of the float's latency in a short timing, more layers in float cannot make it quicker."""


class Climbing:
    """One candidate's search, with its attempts by rung."""

    def __init__(
        self, context: SearchContext, result: Result, package: Package, floats: tuple[Result, Package], bench: Bench
    ) -> None:
        self._context, self._bottom, self._package = context, result, package
        self._quantizes = any(step.name == rungs.STEP for step in result.candidate.steps)
        self._float, self._float_package = floats
        self._judge = Judge(
            recipe=context.plan.recipe,
            bench=bench,
            evaluation=context.evaluation,
            float_=self._float,
            float_package=self._float_package,
            outputs=context.outputs,
            prefers=self._quantizes,
        )
        self._attempts: list[tuple[Rung, Form]] = []
        self._ranking: tuple[damage.NodeDamage, ...] = ()
        self._options: dict[str, rungs.Option] = {}
        self._order: ordering.Order | None = None
        self._ended = ""
        last = next((step.config for step in result.candidate.steps if step.name == rungs.EXACT_STEP), None)
        self._exact, self._can_be_exact = (
            False,
            result.candidate.target.arch == "x86_64" and getattr(last, rungs.EXACT, True) is False,
        )

    def run(self, allowance: Allowance) -> Form | None:
        """The form that ships. None where no rung fits: then the bottom ships, whatever its verdict is."""
        spend = allowance.spend
        first = self._evaluate_proven(Rung(), spend)
        if first.outcome.fits:
            self._ended = "inside every budget" + ("" if self._exact else " as it is")
            return first
        if first.outcome.drop is None:
            self._ended = "it could not be judged"
            return None
        if not self._quantizes:
            self._ended = "it was quantized before, so that nothing else of it can be varied: build from the float model"
            return None
        if first.outcome.accurate and first.step.ratio is not None and first.step.ratio < _QUICKER:
            self._ended = "it is accurate, and quicker than its float already: layers back in float would not make it quicker"
            return None
        if (ready := self._ladder(first.outcome, partial(spend, form=False))) is None:
            return None
        if not ready.tops and self._is_hopeless(first):
            return None
        climb = ladder.climb(ready, first.outcome)
        try:
            rung = next(climb)
            while True:
                if over := allowance.over():
                    self._ended = f"{over} before rung {len(self._attempts) + 1} (search.minutes)"
                    return self._best()
                rung = climb.send(self._evaluate_proven(rung, spend).outcome)
        except StopIteration as end:
            best_rung: Rung | None = end.value
        if best_rung is not None and best_rung.form is NumberFormat.FLOAT:
            self._float_itself()
        best = next((form for rung, form in self._attempts if rung == best_rung and form.outcome.fits), None)
        self._ended = "inside every budget" if best else self._failure_reason()
        return best

    def _is_hopeless(self, first: Form) -> bool:
        """Whether no other form is worth a try; `_ended` then says why."""
        pace = first.outcome.pace
        if first.outcome.accurate or self._order is None:
            return False
        if not self._order.saves():
            self._ended = "it loses too much, and its conversions cost more than 8 bits save"
        elif pace is not None and pace >= SLOWER and len(self._float_nodes(Rung(float_layers=1))) == 1:
            self._ended = (
                "it loses too much, and is slower than its float already: with layers back in float it would not be quicker"
            )
        return bool(self._ended)

    def _failure_reason(self) -> str:
        """Why no rung fits."""
        slow = [
            form for _, form in self._attempts if form.outcome.accurate and not form.outcome.lean and form.step.ratio is not None
        ]
        if not slow or not self._judge.asks_for_speed or self._attempts[0][1].outcome.accurate:
            return "no rung is inside every budget"
        best = min(slow, key=lambda form: form.step.ratio or 0.0).step
        return (
            f"no rung is inside every budget: forms that keep the accuracy are too slow ({best.name}: {best.ratio:.2f} × its "
            "float's median latency), and quicker ones lose too much"
        )

    def _evaluate_proven(self, rung: Rung, spend: Callable[[float], None]) -> Form:
        """Evaluate a rung. Where its proof is missing, evaluate it again with exact sums, which no processor cuts off.

        If that proves it, all later rungs have exact sums too: without them few forms of this candidate would be proven.
        """
        form = self._evaluate(rung, spend)
        if not (form.unproven and self._can_be_exact and rung.form is NumberFormat.INT8):
            return form
        self._exact, self._can_be_exact = True, False
        exact_form = self._evaluate(rung, spend)
        if exact_form.outcome.drop is not None and not exact_form.unproven:
            return exact_form
        self._exact = False
        return form

    def trail(self, best: Form | None) -> Trail:
        """The record of this search. `best`: the form that ships."""
        layers = len(self._nodes())
        return Trail(
            layers=layers,
            most=ladder.most(layers),
            tried=tuple(form.step for _, form in self._attempts),
            taken=next((index for index, (_, form) in enumerate(self._attempts) if form is best), None),
            ended=self._ended,
            damage=tuple((row.node, row.damage) for row in sorted(self._ranking, key=lambda row: -row.damage)),
        )

    def _best(self) -> Form | None:
        """The form that fits with the fewest layers in float, the first of several."""
        inside = [(rung.float_layers, index) for index, (rung, form) in enumerate(self._attempts) if form.outcome.fits]
        return self._attempts[min(inside)[1]][1] if inside else None

    # --- the ladder -------------------------------------------------------------------------------------------------

    def _notes(self) -> Mapping[str, Any]:
        model = self._bottom.model
        runs = [run for run in model.steps if run.name == rungs.STEP] if model else []
        return runs[0].notes if runs else {}

    def _nodes(self) -> tuple[str, ...]:
        return tuple(self._notes().get("nodes", {}))

    def _ladder(self, first: RungOutcome, spend: Callable[[float], None]) -> Ladder | None:
        """The candidate's ladder; None where its nodes cannot be ranked, and `_ended` says why."""
        try:
            self._ranking, before, seconds = self._rank_nodes()
        except PassError as error:
            self._ended = f"its layers cannot be ranked: {error}"
            return None
        spend(seconds)
        prefer, target = self._context.plan.recipe.prefer, self._bottom.candidate.target
        config = next(step.config for step in self._bottom.candidate.steps if step.name == rungs.STEP)
        options = rungs.offered(config, self._notes(), calibrated="calibration" in self._context.bindings)
        self._options = {option.name: option for option in options}
        ways = dict(self._notes().get("nodes", {}))
        self._order = order = ordering.order_nodes(
            self._ranking,
            files.outline(self._context.store.path(before)),
            {name for name, way in ways.items() if way == choose.STATIC},
            accurate=first.accurate,
            quick=self._judge.asks_for_speed,
        )
        return Ladder(
            damage=order.damage,
            reach=order.reach(),
            options=tuple(self._options),
            tops=tops(self._context.plan, target, too_large=self._float.over_limit is not None),
            first_fit=prefer == "accuracy",
            bottom_evaluations=len(self._attempts) + (self._can_be_exact and self._attempts[0][1].at_risk),
        )

    def _rank_nodes(self) -> tuple[tuple[damage.NodeDamage, ...], Digest, float]:
        """The quantized nodes by damage (from the store if it has them), the graph before quantizing, and the seconds it took."""
        store, bindings, candidate = self._context.store, self._context.bindings, self._bottom.candidate
        place = next(index for index, step in enumerate(candidate.steps) if step.name == rungs.STEP)
        data = self._context.evaluation
        trees = [
            transform.run_steps(
                replace(candidate, steps=candidate.steps[:end]), self._context.source, store, bindings, self._context.observe
            ).tree
            for end in (place, place + 1)
        ]
        # At most the time that judging a few forms takes: they are judged on the same data.
        forwards = min(damage.FORWARDS, max(_CALLS_LEAST * len(self._nodes()), 4 * len(self._context.evaluation.calls)))
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
                self._context.observe(f"{candidate.variant}: what each of {len(self._nodes())} quantized nodes loses")
                rows = damage.rank(store.path(trees[0]), store.path(trees[1]), self._nodes(), data.dir, entry.dir, forwards)
                (entry.dir / "damage.json").write_bytes(digest.canonical_json(damage.plain(rows)))
        return damage.read_rows(json.loads((entry.dir / "damage.json").read_bytes())), trees[0], entry.seconds

    # --- one rung -----------------------------------------------------------------------------------------------------

    def _candidate(self, rung: Rung) -> tuple[Candidate, dict[str, Any]]:
        """The candidate in this form, and its options that differ from the recipe's."""
        bottom = self._bottom.candidate
        if rung.form is NumberFormat.FLOAT:
            return replace(bottom, steps=self._float.candidate.steps), {}
        if rung.form is NumberFormat.FP16:
            half = Step(name="precision", config=PASSES["precision"].config(type="fp16"))
            return replace(bottom, steps=tuple(half if step.name == rungs.STEP else step for step in bottom.steps)), {}
        changed = {self._options[name].field: self._options[name].value for name in rung.options}
        quantize_fields = changed | ({rungs.NODES: self._float_nodes(rung)} if rung.float_layers else {})
        exact = {rungs.EXACT: True} if self._exact else {}
        more = {rungs.STEP: quantize_fields, rungs.EXACT_STEP: exact}
        steps = tuple(
            replace(step, config=replace(step.config, **more[step.name])) if more.get(step.name) else step for step in bottom.steps
        )
        return replace(bottom, steps=steps), changed | exact

    def _evaluate(self, rung: Rung, spend: Callable[[float], None]) -> Form:
        began = time.monotonic()
        interrupts.check()
        candidate, changed = self._candidate(rung)
        result, package = self._build(rung, candidate)
        judgement = self._judge.judge(result, package, searched=rung != Rung() or self._exact)
        seconds = self._seconds(candidate, package, time.monotonic() - began)
        spend(seconds)
        accuracy, outcome, why = judgement.accuracy, judgement.outcome, judgement.why
        step = SearchStep(
            name=self._name(rung),
            kept_float=self._float_nodes(rung),
            options=changed,
            fits=outcome.fits,
            why=why,
            seconds=round(seconds, 3),
            ratio=judgement.ratio,
            size_bytes=result.artifact.size_bytes if result.artifact else None,
            **{name: getattr(accuracy, name) for name in ("metric", "value", "drop", "ci_low", "ci_high") if accuracy},
        )
        form = Form(
            result=result, package=package, outcome=outcome, step=step, unproven=judgement.unproven, at_risk=judgement.at_risk
        )
        self._attempts.append((rung, form))
        self._context.observe(f"{candidate.id}: rung {len(self._attempts)}, {step.name}: {first_line(why)}")
        return form

    def _build(self, rung: Rung, candidate: Candidate) -> tuple[Result, Package | None]:
        """Make the form's model and package, or record why there is none."""
        if rung == Rung() and not self._exact:
            return self._bottom, self._package
        context = self._context
        model: Model | None = None
        try:
            model = transform.run_steps(candidate, context.source, context.store, context.bindings, context.observe)
            package = context.packages.pack(candidate, model, context.evaluation.sample(context.plan.recipe))
        except LimitError as error:
            return Result(candidate=candidate, model=model, over_limit=str(error)), None
        except (RecipeError, ServiceError):
            raise
        except MlpackError as error:
            interrupts.check()
            return Result(candidate=candidate, model=model, failure=str(error)), None
        return Result(candidate=candidate, model=model, artifact=package.artifact), package

    def _seconds(self, candidate: Candidate, package: Package | None, took: float) -> float:
        """Seconds of this form's first evaluation. The search counts them, so that a build from the store ends its search where the
        first one ended."""
        step = next((step for step in candidate.steps if step.name in (rungs.STEP, "precision")), None)
        action = {
            "kind": "rung",
            "version": _VERSION,
            "package": str(package.content) if package else None,
            "step": transform.plain(step) if step else None,
            **({rungs.EXACT: True} if self._exact else {}),
            "model": str(self._bottom.model.tree) if self._bottom.model else None,
            "float": str(self._float_package.content),
            "data": str(self._context.evaluation.tree),
            "machine": dataclasses.asdict(machine.this_machine()),
        }
        with self._context.store.entry(action, repeatable=False) as entry:
            if not entry.hit:
                (entry.dir / "seconds.json").write_bytes(digest.canonical_json({"seconds": round(took, 3)}))
        return float(transform.read_json(entry.dir / "seconds.json")["seconds"])

    def _float_itself(self) -> None:
        """Evaluate the last rung: the float's own model under this candidate's name."""
        rung = Rung(form=NumberFormat.FLOAT)
        self._evaluate(rung, lambda _seconds: None)

    def _float_nodes(self, rung: Rung) -> tuple[str, ...]:
        """The nodes in float in this form, beside those that always are."""
        return self._order.float_nodes(rung.float_layers) if self._order is not None and rung.form is NumberFormat.INT8 else ()

    def _name(self, rung: Rung) -> str:
        if rung.form is not NumberFormat.INT8:
            return "16-bit float" if rung.form is NumberFormat.FP16 else "float"
        float_part = (
            [f"{len(self._float_nodes(rung))} of {words.count(len(self._nodes()), 'layer')} float"] if rung.float_layers else []
        )
        exact = ["exact sums"] if self._exact else []
        return ", ".join((*float_part, *rung.options, *exact)) or "unchanged"
