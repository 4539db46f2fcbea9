"""What a build would do: its plan, and as far as the store knows what its steps are bound to. Runs no step.

Promises: `foresee` reads no framework unless the source is a new ONNX file; what it calls cached, a build does not run again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.records import Candidate, Model, Plan, Recipe
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.graphs.facts import makeup
from mlpack.passes import PASSES
from mlpack.pipeline import calibration, plan, search, transform
from mlpack.pipeline.evidence import Data, excerpt, known_data
from mlpack.pipeline.signatures import signature_before, signature_known
from mlpack.pipeline.transform import Bindings, PlannedStep
from mlpack.recipe import reader
from mlpack.report import summary
from mlpack.store.local import Store
from mlpack.targets import TARGETS


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCandidate:
    """One candidate as a build would go."""

    id: str
    steps: tuple[PlannedStep, ...]
    skipped: str | None
    search: str | None = None
    """What would be tried beyond these steps, in which order and for how long; None where nothing would."""
    why: str | None = None
    """What `variants: auto` proposes it for."""
    calibration: str | None = None
    """What the build would calibrate on, in words, where the recipe names no data for it."""
    plugins: tuple[str, ...] = ()
    """Which of its passes, and whether its target, are not mlpack's own, and whose."""

    @property
    def summary(self) -> str:
        """What is cached, in a few words."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        missing = [step.name for step in self.steps if not step.cached]
        return f"must run: {', '.join(missing)}" if missing else "cached"

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        steps = [dataclasses.asdict(step) for step in self.steps]
        said = {"why": self.why, "search": self.search, "calibration": self.calibration}
        return {"id": self.id, "skipped": self.skipped, "steps": steps, **said, "plugins": list(self.plugins)}


def foresee(path: Path, store: Store, roots: tuple[Path, ...], only: str | None) -> tuple[PlannedCandidate, ...]:
    """Every candidate of a recipe, and what a build would have to run. Reads no framework unless the source is a new ONNX file."""
    planned = planned_of(path, only)
    with reader.lines_of(planned.recipe):
        source = transform.take_source(planned.recipe, store, (planned.recipe.root, *roots))
    rows = []
    source = told_apart(source, planned.recipe, store, (planned.recipe.root, *roots), known_data) or source
    bindings, planned, calibrated = _known(planned, source, store, roots)
    for candidate in planned.candidates:
        steps = () if candidate.skipped else tuple(transform.forecast(candidate, source, store, bindings))
        row, beyond = plan.proposal(candidate, planned), search.foreseen(candidate, planned)
        why = row.why if row and not candidate.skipped else None
        uses = any("calibration" in PASSES[step.name].binds for step in candidate.steps) and not candidate.skipped
        said = calibrated if uses else None
        foreseen = PlannedCandidate(
            id=candidate.id,
            steps=steps,
            skipped=candidate.skipped,
            search=beyond,
            why=why,
            calibration=said,
            plugins=_plugins_of(candidate),
        )
        rows.append(foreseen)
    return tuple(rows)


def _plugins_of(candidate: Candidate) -> tuple[str, ...]:
    """What of a candidate is not mlpack's own."""
    target = candidate.target.kind
    rows = [
        ("target", target, TARGETS[target].plugin),
        *(("pass", each.name, PASSES[each.name].plugin) for each in candidate.steps),
    ]
    return tuple(f"the {noun} {name} is that of {plugin}" for noun, name, plugin in dict.fromkeys(rows) if plugin is not None)


def planned_of(path: Path, only: str | None) -> Plan:
    """The plan of a recipe, with only what matches `only`. RecipeError for a licence that it needs and nobody accepted."""
    planned = plan.expand(reader.load(path))
    planned = planned if only is None else plan.select(planned, only)
    with reader.lines_of(planned.recipe):
        reader.check_licenses(planned.recipe, {candidate.target for candidate in planned.candidates if not candidate.skipped})
    return planned


def proposed(planned: Plan, source: Model, store: Store, bindings: Bindings, observe: Callable[[str], None] | None) -> Plan:
    """The plan of `variants: auto` with what makes no sense for this model skipped. `observe`: told what is run to know the model;
    None: nothing is run, and a model that is not known yet leaves the plan as it is."""
    if planned.recipe.variants is not None or not planned.baselines:
        return planned
    plain = calibration.before_ends(planned.baselines[0])
    if observe is None and not all(step.cached for step in transform.forecast(plain, source, store, bindings)):
        return planned
    tree = transform.run_steps(plain, source, store, bindings, observe or (lambda _text: None)).tree
    action = {"kind": "makeup", "version": makeup.VERSION, "model": str(tree)}
    if observe is None and store.find(action) is None:
        return planned
    with store.entry(action) as entry:
        if not entry.hit:
            (entry.dir / "makeup.json").write_bytes(digest.canonical_json(makeup.plain(makeup.of(store.path(tree)))))
    return plan.fitted(planned, makeup.Makeup(**transform.read_json(entry.dir / "makeup.json")))


def _known(planned: Plan, source: Model, store: Store, roots: tuple[Path, ...]) -> tuple[Bindings, Plan, str | None]:
    """What steps would be bound to and the plan for this model, as far as the store knows: calibration can only be read once the
    float model is there. And what is to be said of calibration where the recipe names no data for it."""
    wanted: Recipe = planned.recipe
    foretold = calibration.foretold(wanted)
    if not signature_known(planned.baselines[0], source, store):
        return {}, planned, foretold
    signature, folder = signature_before(planned.baselines[0], source, wanted, store, lambda _text: None)
    tokenised = is_tokenised(wanted, folder)

    def read(reference: str) -> Data | None:
        return known_data(reference, signature, store, (wanted.root, *roots), tokenised=tokenised)

    evaluation = read(wanted.evaluation)
    bindings: dict[str, tuple[digest.Digest, Path]] = {}
    if evaluation is not None:
        bindings = {"evaluation": (evaluation.tree, evaluation.dir), "examples": excerpt(evaluation, store)}
    fitted = proposed(planned, source, store, bindings, None)
    if isinstance(wanted.calibration, str) and foretold is None:
        data = read(wanted.calibration)
        return bindings if data is None else {**bindings, "calibration": (data.tree, data.dir)}, fitted, None
    chain = calibration.before_ends(planned.baselines[0])
    if evaluation is None or foretold is None:
        return bindings, fitted, foretold
    if not all(step.cached for step in transform.forecast(chain, source, store, bindings)):
        return bindings, fitted, foretold
    settled = settled_on(planned, source, evaluation, store, bindings, None)  # every step is cached
    said = settled.missing if settled.use is None else summary.calibrated(settled.use)
    return {**bindings, **settled.bindings}, fitted, said


def settled_on(
    planned: Plan, source: Model, evaluation: Data, store: Store, bindings: Bindings, observe: Callable[[str], None] | None
) -> calibration.Calibration:
    """What a recipe that names no data calibrates on. `observe`: as of `proposed`."""
    chain = calibration.before_ends(planned.baselines[0])
    model = transform.run_steps(chain, source, store, bindings, observe or (lambda _text: None))
    whole = proposed(plan.expand(planned.recipe), source, store, bindings, observe)
    return calibration.settled(whole, evaluation, model.tree, store)


def is_tokenised(wanted: Recipe, folder: Path) -> bool:
    """Whether texts become the model's inputs."""
    return wanted.serve.tokenizer is not None or (folder / files.TOKENIZER).is_file()


def told_apart(
    source: Model, wanted: Recipe, store: Store, roots: tuple[Path, ...], read: Callable[..., Data | None]
) -> Model | None:
    """The source with axes of one name told apart that the evaluation data have several lengths for; None where that is not it.
    `read`: `take_data`, or `known_data` to look ahead."""
    from mlpack.graphs.foreign import axes

    folder = store.path(source.tree)
    if source.format != "onnx" or (folder / files.TOKENIZER).is_file():
        return None
    like = {"kind": "source/axes", "model": str(source.tree)}
    if read is known_data and (store.nearest(like) or {}).get("model") != like["model"]:
        return None
    signature = files.read_signature(folder)
    data = read(wanted.evaluation, axes.loosened(signature), store, roots, tokenised=False)
    names = frozenset() if data is None else axes.contradicted(signature, data.calls)
    if data is None or not names:
        return None
    action = {"kind": "source/axes", "version": 1, "model": str(source.tree), "axes": sorted(names), "data": str(data.tree)}
    try:
        with store.entry(action) as entry:
            if not entry.hit:
                axes.apart(folder, names, data.dir, entry.dir)
    except PassError:
        return None
    return Model(format="onnx", tree=entry.digest, size_bytes=digest.size_of_tree(entry.dir))
