"""The verbs in order; the only module that knows them all.

    recipe → plan → transform → pack → measure → decide → boot → what is left in the output directory

A failure with a known meaning (`MlpackError`) in one candidate's step, packing, measuring or boot is that candidate's verdict; one
of the recipe, the data, the source, the float baseline or a service stops the build. The output directory is replaced whole, at
the end, or not touched.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import interrupts, machine, stats  # fmt: skip
from mlpack.core.distribution import VERSION
from mlpack.core.records import Candidate, Decision, Measurement, Model, Plan, Result, Target
from mlpack.core.stats import median
from mlpack.decide import choose
from mlpack.errors import LimitError, MeasureError, MlpackError, PassError, RecipeError, ServiceError
from mlpack.evaluation.metrics import expectations
from mlpack.graphs import files
from mlpack.graphs.facts import anatomy  # fmt: skip
from mlpack.pipeline import booting, elsewhere, examine, output, reproduce, search, transform  # fmt: skip
from mlpack.pipeline import calibration as calibrating
from mlpack.pipeline.booting import Tools
from mlpack.pipeline.calibration import Calibration
from mlpack.pipeline.evidence import Bench, Data, excerpt, names_of, take_data
from mlpack.pipeline.measuring.measure import EFFORTS, Effort
from mlpack.pipeline.outcome import BuildResult, Startup
from mlpack.pipeline.outlook import is_tokenised, planned_of, proposed, settled_on, told_apart
from mlpack.pipeline.packing.packages import Package, Packages
from mlpack.pipeline.proof import Prover
from mlpack.pipeline.signatures import signature_before
from mlpack.pipeline.transform import Bindings, FailedStep
from mlpack.recipe import reader  # fmt: skip
from mlpack.report import recording, summary  # fmt: skip
from mlpack.store.local import Store
from mlpack.targets import TARGETS, licenses
from mlpack.targets.format.contents import NO_FACTS, Facts

__all__ = ["EFFORTS", "Options", "build"]

if TYPE_CHECKING:
    from mlpack.core.progress import Progress
    from mlpack.oci.distribution.auth import Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to build, beside what the recipe says."""

    out: Path | None = None
    """None: `out/<the recipe's name>`."""
    only: str | None = None
    base: str | None = None
    keep_all: bool = False
    tools: Tools = lambda _name: None
    credentials: Credentials | None = None
    facts: Facts = NO_FACTS
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """What a build works with from its beginning to its end."""

    store: Store
    roots: tuple[Path, ...]
    options: Options
    progress: Progress
    packages: Packages
    failures: reproduce.Failures

    def say(self, text: str) -> None:
        """A note below a step."""
        self.progress.note(f"  {text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """What candidates are made of and judged on. `calibration` None: nobody has looked for it yet."""

    plan: Plan
    source: Model
    evaluation: Data
    bindings: Bindings
    calibration: Calibration | None

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All that are made, baselines first: what fails for them fails for everything."""
        return tuple({candidate.id: candidate for candidate in (*self.plan.baselines, *self.plan.candidates)}.values())

    @property
    def judged(self) -> Data:
        """What accuracy is measured on: the evaluation data, less what calibration took of it."""
        return self.evaluation if self.calibration is None else self.calibration.judged


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contender:
    """A candidate with what is known of it so far. `package`: also one that is too large to ship, of a float, which the others are
    compared with; `ships` is False then."""

    result: Result
    package: Package | None = None
    ships: bool = True

    def knowing(self, **more: Any) -> _Contender:
        """The same, with more of its result known."""
        return dataclasses.replace(self, result=dataclasses.replace(self.result, **more))


_Contenders = Mapping[str, _Contender]
"""By candidate."""


def build(path: Path, store: Store, roots: tuple[Path, ...], options: Options, console: Progress) -> BuildResult:
    """Build a recipe. That nothing fits is a result, too."""
    began = time.monotonic()
    planned = planned_of(path, options.only)
    effort = _effort(options.effort, planned)
    out = options.out or Path("out", planned.recipe.name)
    output.check(out)
    programs = {name: options.tools(name) for name in ("aws-lambda-rie", "podman")}
    roots = (planned.recipe.root, *roots)
    packages = Packages(planned.recipe, store, roots, base=options.base, credentials=options.credentials, facts=options.facts)
    setting = _Setting(
        store=store, roots=roots, options=options, progress=console, packages=packages, failures=reproduce.Failures(store)
    )
    with reader.lines_of(planned.recipe):
        source = transform.take_source(planned.recipe, store, roots)
    with console.step(f"build {planned.recipe.name}: {len(planned.candidates)} candidates"), search.remembering():
        inputs, contenders = _run(setting, planned, source)
    decision, startup, contenders = _decide_and_boot(setting, inputs.plan, contenders, programs)
    outcome = recording.BuildOutcome(
        plan=planned,
        results=_results(contenders, inputs.plan),
        decision=decision,
        baselines=_float_measurements(contenders, inputs.plan),
        machine=machine.this_machine(),
        mlpack_version=VERSION,
        source_digest=inputs.source.tree,
        calibration=None if inputs.calibration is None else inputs.calibration.use,
        seconds=time.monotonic() - began,
        files={},
        effort=effort,
    )
    kept = {
        candidate.id: contender.package.dir
        for candidate in inputs.plan.candidates
        if (contender := contenders[candidate.id]).package is not None and contender.ships
        if options.keep_all or candidate.id == decision.chosen
    }
    record = output.write(out, outcome, kept, setting.failures.scripts())
    packages.keep_lock()
    return BuildResult(out=out, record=record, startup=startup)


def _effort(effort: Effort, planned: Plan) -> str:
    """The word for it. RecipeError where a budget could not be shown to hold, however good the model is."""
    name = next((name for name, known in EFFORTS.items() if known == effort), "other")
    if name == "quick" and planned.recipe.budgets.latency_p99_ms is not None:
        raise RecipeError(
            f"--effort quick takes {effort.samples} latencies, and budgets.latency_p99 needs {stats.P99_SAMPLES}: leave one of the"
            " two out (a latency_p95 can be held with either)"
        )
    return name


def _run(setting: _Setting, planned: Plan, source: Model) -> tuple[_Inputs, _Contenders]:
    """Every candidate made, packed, searched and measured, and what of."""
    with setting.progress.step("data"):
        inputs = _read_inputs(setting, planned, source)
    _announce(setting, inputs)
    # Bases first: one that cannot be reached stops the build before an hour of work, not after it.
    for candidate in inputs.candidates:
        setting.packages.base_of(candidate.target)
    floats = {candidate.id: _make(setting, inputs, candidate) for candidate in inputs.plan.baselines}
    inputs = _settle(setting, inputs)
    others = {each.id: _make(setting, inputs, each) for each in inputs.candidates if each.id not in floats}
    contenders: _Contenders = {**floats, **others}
    with setting.store.scratch() as outputs:
        searching = search.Search(
            search.SearchContext(
                plan=inputs.plan,
                store=setting.store,
                packages=setting.packages,
                source=inputs.source,
                bindings=inputs.bindings,
                evaluation=inputs.judged,
                outputs=outputs,
                observe=setting.say,
            )
        )
        for target_id in dict.fromkeys(candidate.target.id for candidate in inputs.candidates):
            own = {id_: each for id_, each in contenders.items() if each.result.candidate.target.id == target_id}
            contenders = {**contenders, **_measure(setting, inputs, own, searching)}
    examined = {each.id: _examine(setting, inputs, contenders[each.id]) for each in inputs.plan.candidates}
    return inputs, {**contenders, **examined}


def _announce(setting: _Setting, inputs: _Inputs) -> None:
    """What the user should know before the work: a base that replaces nothing, licences that he agreed to."""
    base = setting.options.base
    if base is not None and not any(setting.packages.needs_base(candidate.target) for candidate in inputs.candidates):
        setting.progress.warn(f"--base {base} replaces nothing: no target of this build has a base image")
    agreed = [each for c in inputs.candidates for each in TARGETS[c.target.kind].licenses(c.target.config)]
    for licence in dict.fromkeys(agreed):
        setting.progress.note(licenses.notice(licence))


def _read_inputs(setting: _Setting, planned: Plan, source: Model) -> _Inputs:
    """Evaluation data, what steps are bound to, and calibration where the recipe names its data or forbids it. They are read
    against the float model's inputs."""
    wanted, store, roots = planned.recipe, setting.store, setting.roots
    signature, folder = signature_before(planned.baselines[0], source, wanted, store, setting.say)
    tokenised = is_tokenised(wanted, folder)
    try:
        evaluation = take_data(wanted.evaluation, signature, store, roots, tokenised=tokenised)
    except RecipeError:
        told = told_apart(source, wanted, store, roots, take_data)
        if told is None:
            raise
        return _read_inputs(setting, planned, told)
    expectations.check(wanted.metric, signature.outputs, evaluation.labels)
    bindings = {"evaluation": (evaluation.tree, evaluation.dir), "examples": excerpt(evaluation, store)}
    read = partial(take_data, signature=signature, store=store, roots=roots, tokenised=tokenised)
    given = calibrating.given(wanted, evaluation, read)
    return _Inputs(plan=planned, source=source, evaluation=evaluation, bindings=bindings, calibration=given)


def _settle(setting: _Setting, inputs: _Inputs) -> _Inputs:
    """The inputs once the float model is there: the plan for this model, and calibration where the recipe names no data for it."""
    plan = proposed(inputs.plan, inputs.source, setting.store, inputs.bindings, setting.say)
    calibration = inputs.calibration
    if calibration is None:
        calibration = settled_on(plan, inputs.source, inputs.evaluation, setting.store, inputs.bindings, setting.say)
        if calibration.missing is not None:
            setting.progress.warn(f"nothing to calibrate on: {calibration.missing}")
        if calibration.use is not None:
            setting.progress.note(summary.calibrated(calibration.use))
    bindings = {**inputs.bindings, **calibration.bindings}
    return dataclasses.replace(inputs, plan=plan, bindings=bindings, calibration=calibration)


def _make(setting: _Setting, inputs: _Inputs, candidate: Candidate) -> _Contender:
    """The candidate's model and package, or why there is none."""
    if candidate.skipped:
        return _Contender(result=Result(candidate=candidate))
    model: Model | None = None
    failed: list[FailedStep] = []
    evaluation, recipe, is_float = inputs.evaluation, inputs.plan.recipe, candidate in inputs.plan.baselines
    sample = evaluation.sample(recipe)
    try:
        with setting.progress.step(f"{candidate.id}: model"):
            model = transform.run_steps(candidate, inputs.source, setting.store, inputs.bindings, setting.say, failed.append)
        if is_float:  # before an hour of packing and measuring, not after it
            folder = setting.store.path(model.tree)
            outputs = files.read_signature(folder).outputs
            expectations.check(recipe.metric, outputs, evaluation.labels, names_of(folder))
        with setting.progress.step(f"{candidate.id}: package"):
            package = setting.packages.pack(candidate, model, sample)
    except LimitError as error:
        # A float that is too large to ship is still what the others are compared with.
        large = setting.packages.lay_out(candidate, model, sample) if model is not None and is_float else None
        return _Contender(result=Result(candidate=candidate, model=model, over_limit=str(error)), package=large, ships=False)
    except (RecipeError, ServiceError):
        raise
    except MlpackError as error:
        interrupts.check()
        if is_float:
            raise setting.failures.ended(error, candidate.id, failed) from None
        script = setting.failures.script(candidate.id, str(error), failed)
        return _Contender(result=Result(candidate=candidate, model=model, failure=str(error), reproduced_by=script))
    except Exception as error:  # noqa: BLE001 - it goes on, and says where its step's script is
        raise setting.failures.ended(error, candidate.id, failed) from None
    return _Contender(result=Result(candidate=candidate, model=model, artifact=package.artifact), package=package)


def _measure(setting: _Setting, inputs: _Inputs, own: _Contenders, searching: search.Search) -> _Contenders:
    """The candidates of one target in forms that are worth measuring, with measurements and prices."""
    baseline = next(candidate for candidate in inputs.plan.baselines if candidate.id in own)
    target, float_ = baseline.target, own[baseline.id]
    bench = Bench(
        recipe=inputs.plan.recipe,
        store=setting.store,
        packages=setting.packages,
        roots=setting.roots,
        effort=setting.options.effort,
        observe=setting.say,
        model_dir=None if float_.result.model is None else setting.store.path(float_.result.model.tree),
        prover=Prover(store=setting.store, packages=setting.packages, find=setting.options.tools, observe=setting.say),
    )
    packed = _packed(own)
    if packed.keys() == {baseline.id} and not float_.ships:
        return own  # nothing that could ship is to be compared with it
    if (said := elsewhere.said(target)) is not None:
        with setting.progress.step(f"{target.id}: {said}"):
            results = {id_: each.result for id_, each in own.items()}
            judged = elsewhere.judged(bench, baseline, packed, results, inputs.judged, setting.progress.warn)
        return {id_: _with(own[id_], found, estimates=estimates) for id_, (found, estimates) in judged.items()}
    own = _search(setting, inputs, own, baseline, (bench, searching))
    with setting.progress.step(f"{target.id}: measure"):
        measured = bench.measure(_packed(own), baseline.id, inputs.judged)
    return {**own, **{id_: _with(own[id_], found, cost_per_million_usd=_price(target, found)) for id_, found in measured.items()}}


def _with(contender: _Contender, found: Measurement | MeasureError, **more: Any) -> _Contender:
    """The candidate with what was measured of it, or with why it was not."""
    return (
        contender.knowing(failure=str(found)) if isinstance(found, MeasureError) else contender.knowing(measurement=found, **more)
    )


def _price(target: Target, found: Measurement | MeasureError) -> float | None:
    if isinstance(found, MeasureError):
        return None
    return TARGETS[target.kind].price(target.config, median(found.latency_ms), found.throughput_per_s)


def _packed(contenders: _Contenders) -> dict[str, Package]:
    return {id_: each.package for id_, each in contenders.items() if each.package is not None}


def _search(
    setting: _Setting, inputs: _Inputs, own: _Contenders, baseline: Candidate, by: tuple[Bench, search.Search]
) -> _Contenders:
    """The candidates of one target, each in the form that a search has found for it."""
    (bench, searching), packed = by, _packed(own)
    for id_, package in packed.items():
        if search.climbs(own[id_].result.candidate, inputs.plan):
            with setting.progress.step(f"{id_}: search"):
                floats = own[baseline.id].result, packed[baseline.id]
                result, found = searching.climb(own[id_].result, package, floats, bench)
            own = {**own, id_: dataclasses.replace(own[id_], result=result, package=found)}
    return own


def _examine(setting: _Setting, inputs: _Inputs, contender: _Contender) -> _Contender:
    """The candidate with what its model's graph is made of. That is for people: what cannot be found out stops nothing."""
    result = contender.result
    if result.model is None or result.model.format != "onnx":
        return contender
    try:
        graph = examine.graph_of(result.model, inputs.judged, setting.store)
    except PassError as error:
        setting.progress.warn(f"{result.candidate.id}: what its graph is made of cannot be said: {error}")
        return contender
    kept, damage = anatomy.reasons_of(result.model.steps, result.trail)
    return contender.knowing(anatomy=anatomy.with_reasons(graph, kept, damage))


def _results(contenders: _Contenders, planned: Plan) -> tuple[Result, ...]:
    """Of the candidates of the plan, in its order."""
    return tuple(contenders[candidate.id].result for candidate in planned.candidates)


def _float_measurements(contenders: _Contenders, planned: Plan) -> dict[str, Measurement]:
    """By target, what was measured of its float."""
    found = {each.target.id: contenders[each.id].result.measurement for each in planned.baselines}
    return {target_id: measurement for target_id, measurement in found.items() if measurement is not None}


def _decide_and_boot(
    setting: _Setting, planned: Plan, contenders: _Contenders, programs: Mapping[str, Path | None]
) -> tuple[Decision, Startup | None, _Contenders]:
    """Choose, boot the chosen, and choose again without it when it does not come up."""
    recipe, floats = planned.recipe, _float_measurements(contenders, planned)
    packages = {each.target.id: contenders[each.id].package for each in planned.baselines if each.target.id in floats}
    sizes = {target_id: package.artifact.size_bytes for target_id, package in packages.items() if package is not None}
    while True:
        decision = choose.decide(_results(contenders, planned), floats, recipe.budgets, recipe.prefer, sizes)
        if decision.chosen is None:
            return decision, None, contenders
        chosen = contenders[decision.chosen]
        target = chosen.result.candidate.target
        if target.arch != machine.arch():
            setting.progress.warn(
                f"{decision.chosen} was neither timed nor booted: this machine is {machine.arch()}. Build on its kind to be sure"
            )
            return decision, None, contenders
        assert chosen.package is not None
        try:
            with setting.progress.step(f"boot {decision.chosen}"):
                return decision, booting.boot_once(chosen.package, target, programs, setting.store), contenders
        except MlpackError as error:
            setting.progress.warn(f"{decision.chosen} does not boot, so it cannot win:\n{error}")
            contenders = {**contenders, decision.chosen: chosen.knowing(failure=str(error))}
