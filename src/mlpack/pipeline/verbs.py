"""The verbs in order; the only module that knows them all.

    recipe → plan → transform → pack → measure → decide → boot → what is left in the output directory

A failure with a known meaning (`MlpackError`) in one candidate's step, packing, measuring or boot is that candidate's verdict; one
of the recipe, the data, the source, the float baseline or a service stops the build. The output directory is replaced whole, at
the end, or not touched.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import digest, interrupts, machine, stats  # fmt: skip
from mlpack.core.distribution import VERSION
from mlpack.core.records import Candidate, Decision, Measurement, Model, Plan, Result, Target
from mlpack.core.stats import median
from mlpack.decide import choose
from mlpack.errors import LimitError, MeasureError, MlpackError, PassError, RecipeError, ServiceError
from mlpack.evaluation.metrics import expectations
from mlpack.graphs import files
from mlpack.graphs.facts import anatomy  # fmt: skip
from mlpack.pipeline import calibration as calibrating
from mlpack.pipeline import elsewhere, examine, output, reproduce, search, transform  # fmt: skip
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
from mlpack.targets import TARGETS, licenses, shipped
from mlpack.targets.format.contents import NO_FACTS, Facts

__all__ = ["EFFORTS", "Options", "build", "run_package", "shown"]

if TYPE_CHECKING:
    from mlpack.core.progress import Progress
    from mlpack.oci.distribution.auth import Credentials

Tools = Callable[[str], Path | None]
"""Where a program that boots packages is (`aws-lambda-rie`, `podman`), or None."""


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


def build(path: Path, store: Store, roots: tuple[Path, ...], options: Options, console: Progress) -> BuildResult:
    """Build a recipe. That nothing fits is a result, too."""
    began = time.monotonic()
    planned = planned_of(path, options.only)
    effort = _effort(options.effort, planned)
    out = options.out or Path("out", planned.recipe.name)
    output.check(out)
    programs = {name: options.tools(name) for name in ("aws-lambda-rie", "podman")}
    with reader.lines_of(planned.recipe):
        work = _Build(planned, store, (planned.recipe.root, *roots), options, console)
    with console.step(f"build {planned.recipe.name}: {len(planned.candidates)} candidates"), search.remembering():
        results = work.run()
    decision, startup = _decide_and_boot(work, results, programs, console)
    outcome = recording.BuildOutcome(
        plan=planned,
        results=tuple(results.values()),
        decision=decision,
        baselines=work.baselines,
        machine=machine.this_machine(),
        mlpack_version=VERSION,
        source_digest=work.source.tree,
        calibration=None if work.calibration is None else work.calibration.use,
        seconds=time.monotonic() - began,
        files={},
        effort=effort,
    )
    kept = {id_: p.dir for id_, p in work.packages.items() if id_ in results and (options.keep_all or id_ == decision.chosen)}
    record = output.write(out, outcome, kept, work.failures.scripts())
    work.keep_lock()
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


class _Build:
    """One build under way: what has been made so far, by candidate id."""

    def __init__(self, planned: Plan, store: Store, roots: tuple[Path, ...], options: Options, console: Progress) -> None:
        self._plan, self._store, self._roots, self._console = planned, store, roots, console
        self._options = options
        said = {"base": options.base, "credentials": options.credentials, "facts": options.facts}
        self._maker = Packages(planned.recipe, store, roots, **said)  # type: ignore[arg-type]
        self.packages: dict[str, Package] = {}
        self._too_large: dict[str, Package] = {}
        self.baselines: dict[str, Measurement] = {}
        self.float_sizes: dict[str, int] = {}
        self.calibration: Calibration | None = None
        self.failures = reproduce.Failures(store)
        self.source: Model = transform.take_source(planned.recipe, store, roots)

    def run(self) -> dict[str, Result]:
        """A result for every candidate of the plan, in its order."""
        with self._console.step("data"):
            evaluation, bindings, calibration = self._data()
        if self._options.base is not None and not any(self._maker.needs_base(candidate.target) for candidate in self._all()):
            self._console.warn(f"--base {self._options.base} replaces nothing: no target of this build has a base image")
        agreed = [each for c in self._all() for each in TARGETS[c.target.kind].licenses(c.target.config)]
        for licence in dict.fromkeys(agreed):
            self._console.note(licenses.notice(licence))
        # Bases first: one that cannot be reached stops the build before an hour of work, not after it.
        for candidate in self._all():
            self._maker.base_of(candidate.target)
        results = {candidate.id: self._made(candidate, evaluation, bindings) for candidate in self._plan.baselines}
        self._plan = proposed(self._plan, self.source, self._store, bindings, self._say)
        self.calibration = calibration = calibration or self._settled(evaluation, bindings)
        bindings = {**bindings, **calibration.bindings}
        results |= {each.id: self._made(each, evaluation, bindings) for each in self._all() if each.id not in results}
        with self._store.scratch() as outputs:
            searching = search.Search(
                search.SearchContext(
                    plan=self._plan,
                    store=self._store,
                    packages=self._maker,
                    source=self.source,
                    bindings=bindings,
                    evaluation=calibration.judged,
                    outputs=outputs,
                    observe=self._say,
                )
            )
            for target_id in dict.fromkeys(candidate.target.id for candidate in self._all()):
                self._measure(target_id, results, calibration.judged, searching)
        return {candidate.id: self._examined(results[candidate.id], calibration.judged) for candidate in self._plan.candidates}

    def _examined(self, result: Result, evaluation: Data) -> Result:
        """The result with what its model's graph is made of. That is for people: what cannot be found out stops nothing."""
        if result.model is None or result.model.format != "onnx":
            return result
        try:
            found = examine.graph_of(result.model, evaluation, self._store)
        except PassError as error:
            self._console.warn(f"{result.candidate.id}: what its graph is made of cannot be said: {error}")
            return result
        kept, damage = anatomy.reasons_of(result.model.steps, result.trail)
        return dataclasses.replace(result, anatomy=anatomy.with_reasons(found, kept, damage))

    def keep_lock(self) -> None:
        """See `Packages.keep_lock`."""
        self._maker.keep_lock()

    def _all(self) -> tuple[Candidate, ...]:
        """Baselines first: what fails for them fails for everything."""
        return tuple({candidate.id: candidate for candidate in (*self._plan.baselines, *self._plan.candidates)}.values())

    def _data(self) -> tuple[Data, Bindings, Calibration | None]:
        """Evaluation data, what steps are bound to, and calibration where the recipe names its data or forbids it. They are read
        against the float model's inputs."""
        wanted = self._plan.recipe
        signature, folder = signature_before(self._plan.baselines[0], self.source, wanted, self._store, self._say)
        tokenised = is_tokenised(wanted, folder)
        try:
            evaluation = take_data(wanted.evaluation, signature, self._store, self._roots, tokenised=tokenised)
        except RecipeError:
            told = told_apart(self.source, wanted, self._store, self._roots, take_data)
            if told is None:
                raise
            self.source = told
            return self._data()
        expectations.check(wanted.metric, signature.outputs, evaluation.labels)
        bindings = {"evaluation": (evaluation.tree, evaluation.dir), "examples": excerpt(evaluation, self._store)}
        read = partial(take_data, signature=signature, store=self._store, roots=self._roots, tokenised=tokenised)
        return evaluation, bindings, calibrating.given(wanted, evaluation, read)

    def _settled(self, evaluation: Data, bindings: Bindings) -> Calibration:
        """Calibration where the recipe names no data for it, once the float model is there."""
        settled = settled_on(self._plan, self.source, evaluation, self._store, bindings, self._say)
        if settled.missing is not None:
            self._console.warn(f"nothing to calibrate on: {settled.missing}")
        if settled.use is not None:
            self._console.note(summary.calibrated(settled.use))
        return settled

    def _made(self, candidate: Candidate, evaluation: Data, bindings: Bindings) -> Result:
        """The candidate's model and package, or why there is none."""
        if candidate.skipped:
            return Result(candidate=candidate)
        model: Model | None = None
        failed: list[FailedStep] = []
        sample = evaluation.sample(self._plan.recipe)
        try:
            with self._console.step(f"{candidate.id}: model"):
                model = transform.run_steps(candidate, self.source, self._store, bindings, self._say, failed.append)
            if candidate in self._plan.baselines:  # before an hour of packing and measuring, not after it
                folder = self._store.path(model.tree)
                outputs = files.read_signature(folder).outputs
                expectations.check(self._plan.recipe.metric, outputs, evaluation.labels, names_of(folder))
            with self._console.step(f"{candidate.id}: package"):
                package = self._maker.pack(candidate, model, sample)
        except LimitError as error:
            if model is not None and candidate in self._plan.baselines:
                # What is too large to ship is still what the others are compared with.
                self._too_large[candidate.id] = self._maker.lay_out(candidate, model, sample)
            return Result(candidate=candidate, model=model, over_limit=str(error))
        except (RecipeError, ServiceError):
            raise
        except MlpackError as error:
            interrupts.check()
            if candidate in self._plan.baselines:
                raise self.failures.ended(error, candidate.id, failed) from None
            script = self.failures.script(candidate.id, str(error), failed)
            return Result(candidate=candidate, model=model, failure=str(error), reproduced_by=script)
        except Exception as error:  # noqa: BLE001 - it goes on, and says where its step's script is
            raise self.failures.ended(error, candidate.id, failed) from None
        self.packages[candidate.id] = package
        return Result(candidate=candidate, model=model, artifact=package.artifact)

    def _measure(self, target_id: str, results: dict[str, Result], evaluation: Data, searching: search.Search) -> None:
        """Put measurements and prices into the results of one target, after forms were found that are worth measuring."""
        baseline = next(candidate for candidate in self._plan.baselines if candidate.target.id == target_id)
        made = {**self._too_large, **self.packages}
        packed = {id_: p for id_, p in made.items() if results[id_].candidate.target.id == target_id}
        bench = Bench(
            recipe=self._plan.recipe,
            store=self._store,
            packages=self._maker,
            roots=self._roots,
            effort=self._options.effort,
            observe=self._say,
            model_dir=None if (float_ := results[baseline.id].model) is None else self._store.path(float_.tree),
            prover=Prover(store=self._store, packages=self._maker, find=self._options.tools, observe=self._say),
        )
        if packed.keys() == {baseline.id} and baseline.id in self._too_large:
            return  # nothing that could ship is to be compared with it
        if (said := elsewhere.said(baseline.target)) is not None:
            with self._console.step(f"{target_id}: {said}"):
                judged = elsewhere.judged(bench, baseline, packed, results, evaluation, self._console.warn)
                for id_, (found, estimates) in judged.items():
                    self._put(results, baseline, id_, found, estimates=estimates)
            return
        packed = {**packed, **self._searched(packed, baseline.id, results, bench, searching)}
        with self._console.step(f"{target_id}: measure"):
            measured = bench.measure(packed, baseline.id, evaluation)
        for id_, found in measured.items():
            times = () if isinstance(found, MeasureError) else (median(found.latency_ms), found.throughput_per_s)
            price = TARGETS[baseline.target.kind].price(baseline.target.config, *times) if times else None
            self._put(results, baseline, id_, found, cost_per_million_usd=price)

    def _put(
        self, results: dict[str, Result], baseline: Candidate, id_: str, found: Measurement | MeasureError, **more: Any
    ) -> None:
        """What was measured of a candidate into its result; of the float also to where the others are compared with it."""
        if isinstance(found, MeasureError):
            results[id_] = dataclasses.replace(results[id_], failure=str(found))
            return
        results[id_] = dataclasses.replace(results[id_], measurement=found, **more)
        if id_ == baseline.id:
            self.baselines[baseline.target.id] = found
            self.float_sizes[baseline.target.id] = (self.packages.get(id_) or self._too_large[id_]).artifact.size_bytes

    def _searched(
        self, packed: Mapping[str, Package], base: str, results: dict[str, Result], bench: Bench, searching: search.Search
    ) -> dict[str, Package]:
        """The packages of candidates that are not what they were at first; their results are renewed."""
        renewed = {}
        for id_, package in packed.items():
            if search.climbs(results[id_].candidate, self._plan):
                with self._console.step(f"{id_}: search"):
                    results[id_], found = searching.climb(results[id_], package, (results[base], packed[base]), bench)
                if found is not package:
                    renewed[id_] = self.packages[id_] = found
        return renewed

    def _say(self, text: str) -> None:
        self._console.note(f"  {text}")


def run_package(package: Path, event: Path | None, tools: Tools, *, memory_mb: int | None, timeout_s: float) -> shipped.Boot:
    """Boot what a build left (its directory, or one artifact's) and give it `event`, or the sample that came with it."""
    folder = output.artifact_dir(package)
    sample = folder / "event.json"
    if event is None and not sample.is_file():
        raise RecipeError(f"{folder}: the package came without its sample request ({sample.name}): say --event")
    request = (event or sample).read_bytes()
    rie, podman = tools("aws-lambda-rie"), tools("podman")
    return shipped.boot(folder, request, timeout_s=timeout_s, memory_mb=memory_mb, rie=rie, podman=podman)


def shown(answer: Any) -> Any:
    """An answer as people read it: the body of an HTTP answer, parsed; a direct call's as it is."""
    body = answer.get("body") if isinstance(answer, dict) else None
    try:
        return json.loads(body) if isinstance(body, str) else answer
    except ValueError:
        return body


def _decide_and_boot(
    work: _Build, results: dict[str, Result], programs: Mapping[str, Path | None], console: Progress
) -> tuple[Decision, Startup | None]:
    """Choose, boot the chosen, and choose again without it when it does not come up."""
    recipe_ = work._plan.recipe
    while True:
        decision = choose.decide(tuple(results.values()), work.baselines, recipe_.budgets, recipe_.prefer, work.float_sizes)
        if decision.chosen is None:
            return decision, None
        package = work.packages[decision.chosen]
        if results[decision.chosen].candidate.target.arch != machine.arch():
            console.warn(
                f"{decision.chosen} was neither timed nor booted: this machine is {machine.arch()}. Build on its kind to be sure"
            )
            return decision, None
        try:
            with console.step(f"boot {decision.chosen}"):
                return decision, _booted(package, results[decision.chosen].candidate.target, programs, work._store)
        except MlpackError as error:
            console.warn(f"{decision.chosen} does not boot, so it cannot win:\n{error}")
            results[decision.chosen] = dataclasses.replace(results[decision.chosen], failure=str(error))


def _booted(package: Package, target: Target, programs: Mapping[str, Path | None], store: Store) -> Startup:
    """Boot a package, once per machine and per set of programs to boot it with."""
    action = {
        "kind": "boot",
        "version": 1,
        # The tree, not the digest of what is deployed: the sample request lies beside that.
        "package": str(package.artifact.tree),
        "machine": dataclasses.asdict(machine.this_machine()),
        "programs": sorted(name for name, path in programs.items() if path),
        **TARGETS[target.kind].provider,
    }
    with store.entry(action, repeatable=False) as entry:
        if not entry.hit:
            event = (package.dir / "event.json").read_bytes()
            up = shipped.boot(package.dir, event, rie=programs["aws-lambda-rie"], podman=programs["podman"])
            kept = {"how": up.how, "init_ms": round(up.init_ms, 1), "status": None if up.answer is None else up.status}
            (entry.dir / "boot.json").write_bytes(digest.canonical_json(kept))
    return Startup(**transform.read_json(entry.dir / "boot.json"))
