"""What a build would do: its plan, and the bindings of its steps as far as the store knows them. Runs no step.

Promises:
- `foresee` loads no framework unless the source is a new ONNX file.
- A build does not run a step again that `foresee` calls cached.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.records import Candidate, Model, Plan, Recipe
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.graphs.facts import makeup
from mlpack.passes import PASSES
from mlpack.pipeline import calibration, plan, search, transform
from mlpack.pipeline.evidence import Data, cached_data, excerpt
from mlpack.pipeline.packing import requirements, wheels
from mlpack.pipeline.signatures import is_cached, source_signature
from mlpack.pipeline.transform import Bindings, PlannedStep
from mlpack.recipe import reader
from mlpack.report import summary
from mlpack.store.local import Store
from mlpack.targets import TARGETS


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCandidate:
    """The forecast of one candidate."""

    id: str
    steps: tuple[PlannedStep, ...]
    skipped: str | None
    search: str | None = None
    """The search of this candidate: what it would try, in which order and for how long; None where there is none."""
    why: str | None = None
    """Why `variants: auto` proposes it."""
    calibration: str | None = None
    """The calibration data, in words, where the recipe names none."""
    plugins: tuple[str, ...] = ()
    """Its passes, and its target, that come from plug-ins, each with the plug-in."""
    requirements: str | None = None
    """What its hooks need, and the pins, in words; None where they need nothing."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    """The budgets of a request's stages, which its build measures: the most milliseconds of the 95th percentile."""

    @property
    def summary(self) -> str:
        """The steps that have to run, in a few words."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        missing = [step.name for step in self.steps if not step.cached]
        return f"must run: {', '.join(missing)}" if missing else "cached"

    def as_json(self) -> dict[str, Any]:
        """The candidate as `--json` prints it."""
        steps = [dataclasses.asdict(step) for step in self.steps]
        texts = {"why": self.why, "search": self.search, "calibration": self.calibration}
        more = {"requirements": self.requirements} if self.requirements is not None else {}
        return {"id": self.id, "skipped": self.skipped, "steps": steps, **texts, "plugins": list(self.plugins), **more}


def foresee(path: Path, store: Store, roots: tuple[Path, ...], only: str | None) -> tuple[PlannedCandidate, ...]:
    """Every candidate of a recipe, and the steps that a build would run. Loads no framework unless the source is a new ONNX
    file."""
    planned = load_plan(path, only)
    with reader.lines_of(planned.recipe):
        source = transform.take_source(planned.recipe, store, (planned.recipe.root, *roots))
    rows = []
    source = separate_axes(source, planned.recipe, store, (planned.recipe.root, *roots), cached_data) or source
    bindings, planned, calibration_note = _known_bindings(planned, source, store, roots)
    for candidate in planned.candidates:
        steps = () if candidate.skipped else tuple(transform.forecast(candidate, source, store, bindings))
        row, search_text = plan.proposal(candidate, planned), search.forecast(candidate, planned)
        why = row.why if row and not candidate.skipped else None
        uses = any("calibration" in PASSES[step.name].binds for step in candidate.steps) and not candidate.skipped
        calibration_text = calibration_note if uses else None
        planned_candidate = PlannedCandidate(
            id=candidate.id,
            steps=steps,
            skipped=candidate.skipped,
            search=search_text,
            why=why,
            calibration=calibration_text,
            plugins=_plugins_of(candidate),
            requirements=None if candidate.skipped else _requirements_of(planned.recipe, candidate),
            stages_ms={} if candidate.skipped else planned.recipe.budgets.stages_ms,
        )
        rows.append(planned_candidate)
    return tuple(rows)


def _requirements_of(recipe: Recipe, candidate: Candidate) -> str | None:
    target = candidate.target
    lines, _ = requirements.asked(recipe, target)
    if not lines:
        return None
    lock = wheels.read_lock(recipe.root / wheels.LOCK_NAME)
    return requirements.outlook(lines, lock, getattr(target.config, "python", None), target.arch)


def _plugins_of(candidate: Candidate) -> tuple[str, ...]:
    """The target and the passes of a candidate that come from plug-ins, in words."""
    target = candidate.target.kind
    rows = [
        ("target", target, TARGETS[target].plugin),
        *(("pass", each.name, PASSES[each.name].plugin) for each in candidate.steps),
    ]
    return tuple(f"the {noun} {name} is that of {plugin}" for noun, name, plugin in dict.fromkeys(rows) if plugin is not None)


def load_plan(path: Path, only: str | None) -> Plan:
    """The plan of a recipe, with only the candidates that match `only`. RecipeError for a needed licence that is not accepted."""
    planned = plan.expand(reader.load(path))
    planned = planned if only is None else plan.select(planned, only)
    with reader.lines_of(planned.recipe):
        reader.check_licenses(planned.recipe, {candidate.target for candidate in planned.candidates if not candidate.skipped})
    return planned


def plan_for_model(planned: Plan, source: Model, store: Store, bindings: Bindings, observe: Callable[[str], None] | None) -> Plan:
    """The plan of `variants: auto` without the variants that make no sense for this model. `observe`: receives the steps that run
    to make the model; with None no step runs, and the plan stays unchanged where the model is not in the store."""
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
    return plan.fit_to_model(planned, makeup.Makeup(**transform.read_json(entry.dir / "makeup.json")))


def _known_bindings(planned: Plan, source: Model, store: Store, roots: tuple[Path, ...]) -> tuple[Bindings, Plan, str | None]:
    """The steps' bindings and the plan for this model, as far as the store knows them: calibration needs the float model. And a
    text about calibration where the recipe names no data for it."""
    recipe: Recipe = planned.recipe
    forecast = calibration.forecast(recipe)
    if not is_cached(planned.baselines[0], source, store):
        return {}, planned, forecast
    signature, folder = source_signature(planned.baselines[0], source, recipe, store, lambda _text: None)
    tokenised = is_tokenised(recipe, folder)

    def read(reference: str) -> Data | None:
        return cached_data(reference, signature, store, (recipe.root, *roots), tokenised=tokenised)

    evaluation = read(recipe.evaluation)
    bindings: dict[str, tuple[digest.Digest, Path]] = {}
    if evaluation is not None:
        bindings = {"evaluation": (evaluation.tree, evaluation.dir), "examples": excerpt(evaluation, store)}
    fitted = plan_for_model(planned, source, store, bindings, None)
    if isinstance(recipe.calibration, str) and forecast is None:
        data = read(recipe.calibration)
        return bindings if data is None else {**bindings, "calibration": (data.tree, data.dir)}, fitted, None
    chain = calibration.before_ends(planned.baselines[0])
    if evaluation is None or forecast is None:
        return bindings, fitted, forecast
    if not all(step.cached for step in transform.forecast(chain, source, store, bindings)):
        return bindings, fitted, forecast
    choice = choose_calibration(planned, source, evaluation, store, bindings, None)  # every step is cached
    text = choice.missing if choice.use is None else summary.calibration_text(choice.use)
    return {**bindings, **choice.bindings}, fitted, text


def choose_calibration(
    planned: Plan, source: Model, evaluation: Data, store: Store, bindings: Bindings, observe: Callable[[str], None] | None
) -> calibration.Calibration:
    """The calibration of a recipe that names no data. `observe`: as of `plan_for_model`."""
    chain = calibration.before_ends(planned.baselines[0])
    model = transform.run_steps(chain, source, store, bindings, observe or (lambda _text: None))
    whole = plan_for_model(plan.expand(planned.recipe), source, store, bindings, observe)
    return calibration.choose(whole, evaluation, model.tree, store)


def is_tokenised(recipe: Recipe, folder: Path) -> bool:
    """Whether a tokenizer makes the model's inputs of texts."""
    return recipe.serve.tokenizer is not None or (folder / files.TOKENIZER).is_file()


def separate_axes(
    source: Model, recipe: Recipe, store: Store, roots: tuple[Path, ...], read: Callable[..., Data | None]
) -> Model | None:
    """The source with new names for axes that share one although the evaluation data give them different lengths; None where there
    are none. `read`: `take_data`, or `cached_data` for `plan`."""
    from mlpack.graphs.foreign import axes

    folder = store.path(source.tree)
    if source.format != "onnx" or (folder / files.TOKENIZER).is_file():
        return None
    like = {"kind": "source/axes", "model": str(source.tree)}
    if read is cached_data and (store.nearest(like) or {}).get("model") != like["model"]:
        return None
    signature = files.read_signature(folder)
    data = read(recipe.evaluation, axes.loosened(signature), store, roots, tokenised=False)
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
