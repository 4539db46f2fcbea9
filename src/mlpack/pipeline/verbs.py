"""The verbs of a build in order. Only this module knows them all.

    recipe → plan → transform → pack → measure → decide → boot → output directory

An `MlpackError` in one candidate's step, packing, measuring or boot is that candidate's verdict. One in the recipe, the data, the
source, the float baseline or a service stops the build. The output directory is replaced whole, at the end, or not touched.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import interrupts, machine, stats  # fmt: skip
from mlpack.core.distribution import VERSION
from mlpack.core.records import Candidate, Measurement, Model, Plan, Result, Target
from mlpack.core.stats import median
from mlpack.errors import LimitError, MeasureError, MlpackError, PassError, RecipeError, ServiceError
from mlpack.evaluation.metrics import expectations
from mlpack.graphs import files
from mlpack.graphs.facts import anatomy  # fmt: skip
from mlpack.pipeline import calibration as calibrating
from mlpack.pipeline import elsewhere, examine, output, reproduce, search, stages, transform  # fmt: skip
from mlpack.pipeline.booting import Tools
from mlpack.pipeline.calibration import Calibration
from mlpack.pipeline.ending import Contender, Contenders, Ending, Surroundings, decide_and_boot, float_measurements, results
from mlpack.pipeline.evidence import Bench, Data, excerpt, names_of, take_data
from mlpack.pipeline.measuring.measure import EFFORTS, Effort
from mlpack.pipeline.outcome import BuildResult
from mlpack.pipeline.outlook import choose_calibration, is_tokenised, load_plan, plan_for_model, separate_axes
from mlpack.pipeline.packing.packages import Package, Packages
from mlpack.pipeline.proof import Prover
from mlpack.pipeline.signatures import source_signature
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
    """The fixed surroundings of one build."""

    store: Store
    roots: tuple[Path, ...]
    options: Options
    progress: Progress
    packages: Packages
    failures: reproduce.Failures

    def say(self, text: str) -> None:
        """Print a note below a step."""
        self.progress.note(f"  {text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """The inputs of all candidates. `calibration` None: it is not chosen yet."""

    plan: Plan
    source: Model
    evaluation: Data
    bindings: Bindings
    calibration: Calibration | None

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates to build, baselines first: a baseline that fails stops the build."""
        return tuple({candidate.id: candidate for candidate in (*self.plan.baselines, *self.plan.candidates)}.values())

    @property
    def judging_data(self) -> Data:
        """The data for accuracy: the evaluation data without the held-out part."""
        return self.evaluation if self.calibration is None else self.calibration.evaluation


def build(path: Path, store: Store, roots: tuple[Path, ...], options: Options, console: Progress) -> BuildResult:
    """Build a recipe. A build in which nothing fits the budgets has a result, too."""
    began = time.monotonic()
    planned = load_plan(path, options.only)
    effort = _effort(options.effort, planned)
    out = options.out or Path("out", planned.recipe.name)
    output.check(out)
    roots = (planned.recipe.root, *roots)
    packages = Packages(planned.recipe, store, roots, base=options.base, credentials=options.credentials, facts=options.facts)
    setting = _Setting(
        store=store, roots=roots, options=options, progress=console, packages=packages, failures=reproduce.Failures(store)
    )
    with reader.lines_of(planned.recipe):
        source = transform.take_source(planned.recipe, store, roots)
    with packages.trees.kept():
        with console.step(f"build {planned.recipe.name}: {len(planned.candidates)} candidates"), search.remembering():
            inputs, contenders = _run(setting, planned, source)
        ending = _end(setting, inputs, contenders, effort)
    contenders = ending.contenders
    outcome = recording.BuildOutcome(
        plan=planned,
        results=results(contenders, inputs.plan),
        decision=ending.decision,
        baselines=float_measurements(contenders, inputs.plan),
        machine=machine.this_machine(),
        mlpack_version=VERSION,
        source_digest=inputs.source.tree,
        calibration=None if inputs.calibration is None else inputs.calibration.use,
        seconds=time.monotonic() - began,
        files={},
        effort=effort,
        sizing=ending.sizing,
    )
    folders = {
        candidate.id: contender.package.dir
        for candidate in inputs.plan.candidates
        if (contender := contenders[candidate.id]).package is not None and contender.ships
        if options.keep_all or candidate.id == ending.decision.chosen
    }
    record = output.write(out, outcome, folders, setting.failures.scripts())
    packages.keep_lock()
    return BuildResult(out=out, record=record, startup=ending.startup)


def _end(setting: _Setting, inputs: _Inputs, contenders: Contenders, effort: str) -> Ending:
    """Choose, and boot what was chosen."""
    return decide_and_boot(
        contenders,
        Surroundings(
            plan=inputs.plan,
            store=setting.store,
            packages=setting.packages,
            progress=setting.progress,
            tools=setting.options.tools,
            evaluation=inputs.evaluation,
            timed=inputs.judging_data,
            is_full=effort == "full",
        ),
    )


def _effort(effort: Effort, planned: Plan) -> str:
    """The name of an effort. RecipeError where it takes too few latencies to check a budget."""
    name = next((name for name, preset in EFFORTS.items() if preset == effort), "other")
    if name == "quick" and planned.recipe.budgets.latency_p99_ms is not None:
        raise RecipeError(
            f"--effort quick takes {effort.samples} latencies, and budgets.latency_p99 needs {stats.P99_SAMPLES}: leave one of the"
            " two out (a latency_p95 can be held with either)"
        )
    return name


def _run(setting: _Setting, planned: Plan, source: Model) -> tuple[_Inputs, Contenders]:
    """Make, pack, search and measure every candidate."""
    with setting.progress.step("data"):
        inputs = _read_inputs(setting, planned, source)
    _announce(setting, inputs)
    # Bases and requirements first: one that cannot be had stops the build before an hour of work, not after it.
    for candidate in inputs.candidates:
        setting.packages.prepare(candidate)
    floats = {candidate.id: _make(setting, inputs, candidate) for candidate in inputs.plan.baselines}
    inputs = _settle(setting, inputs)
    others = {each.id: _make(setting, inputs, each) for each in inputs.candidates if each.id not in floats}
    contenders: Contenders = {**floats, **others}
    with setting.store.scratch() as outputs:
        searching = search.Search(
            search.SearchContext(
                plan=inputs.plan,
                store=setting.store,
                packages=setting.packages,
                source=inputs.source,
                bindings=inputs.bindings,
                evaluation=inputs.judging_data,
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
    """Tell the user before the work about a `--base` without effect, and about accepted licences."""
    base = setting.options.base
    if base is not None and not any(setting.packages.needs_base(candidate.target) for candidate in inputs.candidates):
        setting.progress.warn(f"--base {base} replaces nothing: no target of this build has a base image")
    licences = [each for c in inputs.candidates for each in TARGETS[c.target.kind].licenses(c.target.config)]
    for licence in dict.fromkeys(licences):
        setting.progress.note(licenses.notice(licence))


def _read_inputs(setting: _Setting, planned: Plan, source: Model) -> _Inputs:
    """Read the evaluation data against the float model's inputs, and the calibration data where the recipe names or forbids
    them."""
    recipe, store, roots = planned.recipe, setting.store, setting.roots
    signature, folder = source_signature(planned.baselines[0], source, recipe, store, setting.say)
    tokenised = is_tokenised(recipe, folder)
    try:
        evaluation = take_data(recipe.evaluation, signature, store, roots, tokenised=tokenised)
    except RecipeError:
        other = separate_axes(source, recipe, store, roots, take_data)
        if other is None:
            raise
        return _read_inputs(setting, planned, other)
    expectations.check(recipe.metric, signature.outputs, evaluation.labels)
    bindings = {"evaluation": (evaluation.tree, evaluation.dir), "examples": excerpt(evaluation, store)}
    read = partial(take_data, signature=signature, store=store, roots=roots, tokenised=tokenised)
    calibration = calibrating.from_recipe(recipe, evaluation, read)
    return _Inputs(plan=planned, source=source, evaluation=evaluation, bindings=bindings, calibration=calibration)


def _settle(setting: _Setting, inputs: _Inputs) -> _Inputs:
    """Complete the inputs once the float model is made: the plan for this model, and calibration where the recipe names no data."""
    plan = plan_for_model(inputs.plan, inputs.source, setting.store, inputs.bindings, setting.say)
    calibration = inputs.calibration
    if calibration is None:
        calibration = choose_calibration(plan, inputs.source, inputs.evaluation, setting.store, inputs.bindings, setting.say)
        if calibration.missing is not None:
            setting.progress.warn(f"nothing to calibrate on: {calibration.missing}")
        if calibration.use is not None:
            setting.progress.note(summary.calibration_text(calibration.use))
    bindings = {**inputs.bindings, **calibration.bindings}
    return dataclasses.replace(inputs, plan=plan, bindings=bindings, calibration=calibration)


def _make(setting: _Setting, inputs: _Inputs, candidate: Candidate) -> Contender:
    """Make the candidate's model and package, or record why there is none."""
    if candidate.skipped:
        return Contender(result=Result(candidate=candidate))
    model: Model | None = None
    failed_steps: list[FailedStep] = []
    evaluation, recipe, is_float = inputs.evaluation, inputs.plan.recipe, candidate in inputs.plan.baselines
    sample = evaluation.sample(recipe)
    try:
        with setting.progress.step(f"{candidate.id}: model"):
            model = transform.run_steps(candidate, inputs.source, setting.store, inputs.bindings, setting.say, failed_steps.append)
        if is_float:  # before an hour of packing and measuring, not after it
            folder = setting.store.path(model.tree)
            outputs = files.read_signature(folder).outputs
            expectations.check(recipe.metric, outputs, evaluation.labels, names_of(folder))
        with setting.progress.step(f"{candidate.id}: package"):
            package = setting.packages.pack(candidate, model, sample)
    except LimitError as error:
        # The others are compared with the float even where it is too large to ship.
        large = setting.packages.lay_out(candidate, model, sample) if model is not None and is_float else None
        return Contender(result=Result(candidate=candidate, model=model, over_limit=str(error)), package=large, ships=False)
    except (RecipeError, ServiceError):
        raise
    except MlpackError as error:
        interrupts.check()
        if is_float:
            raise setting.failures.with_script(error, candidate.id, failed_steps) from None
        script = setting.failures.script(candidate.id, str(error), failed_steps)
        return Contender(result=Result(candidate=candidate, model=model, failure=str(error), reproduced_by=script))
    except Exception as error:  # noqa: BLE001 - raised again, with the path of its step's script
        raise setting.failures.with_script(error, candidate.id, failed_steps) from None
    return Contender(result=Result(candidate=candidate, model=model, artifact=package.artifact), package=package)


def _measure(setting: _Setting, inputs: _Inputs, own: Contenders, searching: search.Search) -> Contenders:
    """Search and measure the candidates of one target, with prices."""
    baseline = next(candidate for candidate in inputs.plan.baselines if candidate.id in own)
    target, float_contender = baseline.target, own[baseline.id]
    bench = Bench(
        recipe=inputs.plan.recipe,
        store=setting.store,
        packages=setting.packages,
        roots=setting.roots,
        effort=setting.options.effort,
        observe=setting.say,
        model_dir=None if float_contender.result.model is None else setting.store.path(float_contender.result.model.tree),
        prover=Prover(store=setting.store, packages=setting.packages, find=setting.options.tools, observe=setting.say),
    )
    packages = _packages_of(own)
    if packages.keys() == {baseline.id} and not float_contender.ships:
        return own  # no package that ships is left to compare with it
    if (description := elsewhere.description(target)) is not None:
        with setting.progress.step(f"{target.id}: {description}"):
            results = {id_: each.result for id_, each in own.items()}
            judgements = elsewhere.judge(bench, baseline, packages, results, inputs.judging_data, setting.progress.warn)
        return {id_: _with(own[id_], measurement, estimates=estimates) for id_, (measurement, estimates) in judgements.items()}
    own = _search(setting, inputs, own, baseline, (bench, searching))
    with setting.progress.step(f"{target.id}: measure"):
        measurements = bench.measure(_packages_of(own), baseline.id, inputs.judging_data)
        if inputs.plan.recipe.budgets.stages_ms:
            measurements = stages.with_stages(bench, measurements, _packages_of(own), inputs.judging_data)
    return {
        **own,
        **{id_: _with(own[id_], found, cost_per_million_usd=_price(target, found)) for id_, found in measurements.items()},
    }


def _with(contender: Contender, measurement: Measurement | MeasureError, **more: Any) -> Contender:
    """The candidate with its measurement, or with the failure of measuring."""
    return (
        contender.with_result(failure=str(measurement))
        if isinstance(measurement, MeasureError)
        else contender.with_result(measurement=measurement, **more)
    )


def _price(target: Target, measurement: Measurement | MeasureError) -> float | None:
    if isinstance(measurement, MeasureError):
        return None
    return TARGETS[target.kind].price(target.config, median(measurement.latency_ms), measurement.throughput_per_s)


def _packages_of(contenders: Contenders) -> dict[str, Package]:
    return {id_: each.package for id_, each in contenders.items() if each.package is not None}


def _search(
    setting: _Setting, inputs: _Inputs, own: Contenders, baseline: Candidate, by: tuple[Bench, search.Search]
) -> Contenders:
    """The candidates of one target, each in the form that its search chose."""
    (bench, searching), packages = by, _packages_of(own)
    for id_, package in packages.items():
        if search.climbs(own[id_].result.candidate, inputs.plan):
            with setting.progress.step(f"{id_}: search"):
                floats = own[baseline.id].result, packages[baseline.id]
                result, best_package = searching.climb(own[id_].result, package, floats, bench)
            own = {**own, id_: dataclasses.replace(own[id_], result=result, package=best_package)}
    return own


def _examine(setting: _Setting, inputs: _Inputs, contender: Contender) -> Contender:
    """The candidate with its graph's anatomy. It is only for people, so a failure is a warning."""
    result = contender.result
    if result.model is None or result.model.format != "onnx":
        return contender
    try:
        graph = examine.graph_of(result.model, inputs.judging_data, setting.store)
    except PassError as error:
        setting.progress.warn(f"{result.candidate.id}: what its graph is made of cannot be said: {error}")
        return contender
    reasons, damage = anatomy.reasons_of(result.model.steps, result.trail)
    return contender.with_result(anatomy=anatomy.with_reasons(graph, reasons, damage))
