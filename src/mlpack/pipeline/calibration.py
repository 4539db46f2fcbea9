"""The data that steps calibrate on, and the data that remain to judge candidates.

Promises:
- No candidate is judged on a sample that calibrated any candidate.
- Where a recipe names no calibration data, a share of its evaluation data is held out, but only if a step of some variant needs
  it. All variants of the recipe count, whichever are built.
- Numbers are invented only where the recipe says so.
- The record states what was used, in numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.calibrants import INVENTED, CalibrationUse, HeldOutCalibration
from mlpack.core.digest import Digest
from mlpack.core.records import Candidate, MetricSpec, Plan, Recipe
from mlpack.errors import RecipeError
from mlpack.evaluation.data import calls, held_out
from mlpack.graphs import files, trials
from mlpack.passes import PASSES
from mlpack.pipeline import transform
from mlpack.pipeline.evidence import Data, check_disjoint
from mlpack.store.local import Store
from mlpack.targets import TARGETS

_VERSION = 1
USUAL_SHARE, USUAL_MOST, USUAL_LEAST = 0.2, 512, 5
"""Defaults: the share of the samples, and how many at most and at least. Quantizers look at 512."""
_BY_LABEL = ("recall_at_", "map_at_")
"""Metrics whose labels say which samples belong together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The calibration of one build.

    `evaluation`: the data that candidates are judged on. `data`: the data that steps calibrate on, or None. `use`: for the record.
    `missing`: why there are no data although a step needs them."""

    evaluation: Data
    data: Data | None = None
    use: CalibrationUse | None = None
    missing: str | None = None

    @property
    def bindings(self) -> dict[str, tuple[Digest, Path]]:
        """The bindings for steps."""
        return {} if self.data is None else {"calibration": (self.data.tree, self.data.dir)}


def from_recipe(recipe: Recipe, evaluation: Data, read: Callable[[str], Data]) -> Calibration | None:
    """The calibration data that the recipe names; None where it names none. RecipeError where they overlap the evaluation data."""
    if isinstance(recipe.calibration, HeldOutCalibration) or recipe.calibration == INVENTED:
        return None
    if recipe.calibration is None:
        return Calibration(evaluation=evaluation)
    data = read(recipe.calibration)
    check_disjoint(evaluation, data)
    use = CalibrationUse(source="recipe", samples=sum(call["samples"] for call in data.calls))
    return Calibration(evaluation=evaluation, data=data, use=use)


def choose(whole: Plan, evaluation: Data, model: Digest, store: Store) -> Calibration:
    """Choose calibration data for a recipe that names none. `whole`: the plan of all its candidates, whichever are built. `model`:
    the float model as ONNX, before its target's steps. RecipeError for an impossible share."""
    recipe = whole.recipe
    settings = recipe.calibration
    explicit = isinstance(settings, HeldOutCalibration) and settings.share is not None
    if settings is None or not _is_needed(whole, model, store, useful=explicit):
        return Calibration(evaluation=evaluation)
    if settings == INVENTED:
        return _invented(evaluation, model, store)
    assert isinstance(settings, HeldOutCalibration)  # `from_recipe` handles data that the recipe names
    split = _split(settings, evaluation, store.path(model), recipe.metric)
    if split.held_samples < (1 if explicit else USUAL_LEAST):
        problem = _too_few(settings, split)
        if explicit:
            raise RecipeError(f"data.calibration: {problem}")
        return Calibration(evaluation=evaluation, missing=problem)
    sides = {"calibration": split.held, "evaluation": split.rest}
    data = {
        name: _store_side(store, _action(settings, evaluation, recipe.metric, name), evaluation, side)
        for name, side in sides.items()
    }
    check_disjoint(data["evaluation"], data["calibration"])
    use = CalibrationUse(source="evaluation", samples=split.held_samples, of=split.samples)
    return Calibration(evaluation=data["evaluation"], data=data["calibration"], use=use)


def before_ends(baseline: Candidate) -> Candidate:
    """The float's chain without the last steps of its target. Quantizers start from its result."""
    ends = TARGETS[baseline.target.kind].chain(baseline.target.config).ends
    return replace(baseline, steps=tuple(step for step in baseline.steps if step.name not in ends))


def _is_needed(whole: Plan, model: Digest, store: Store, *, useful: bool) -> bool:
    """Whether a step of any variant needs calibration on this graph; with `useful`, whether one can use it. The store keeps the
    answer, because it takes opening the graph."""
    steps = [step for candidate in whole.candidates if not candidate.skipped for step in candidate.steps]
    binding = [step for step in steps if "calibration" in PASSES[step.name].binds]
    if useful or not binding:
        return bool(binding)
    rows = [(PASSES[step.name], step) for step in binding]
    step_keys = [[step.name, row.version, transform.plain(step), *([str(row.plugin)] if row.plugin else [])] for row, step in rows]
    action = {"kind": "calibration/needed", "version": _VERSION, "model": str(model), "steps": step_keys}
    with store.entry(action) as entry:
        if not entry.hit:
            folder = store.path(model)
            answer = any(row.calibrates is not None and row.calibrates(step.config, folder) for row, step in rows)
            (entry.dir / "needed.json").write_bytes(digest.canonical_json({"needed": answer}))
    return bool(transform.read_json(entry.dir / "needed.json")["needed"])


def forecast(recipe: Recipe) -> str | None:
    """The calibration of a recipe that names no data, in words, before its model is known."""
    if isinstance(recipe.calibration, HeldOutCalibration):
        share = recipe.calibration.share
        if share is not None:
            return f"calibration: {share:.0%} of the evaluation data, held out from judging"
        return (
            f"calibration: {USUAL_SHARE:.0%} of the evaluation data ({USUAL_MOST} samples at most), held out from judging, where a "
            "step cannot do without"
        )
    return "calibration: random numbers; accuracy proves nothing" if recipe.calibration == INVENTED else None


def _split(settings: HeldOutCalibration, evaluation: Data, model_dir: Path, metric: MetricSpec) -> held_out.Split:
    count = sum(call["samples"] for call in evaluation.calls)
    part = settings.share if settings.share is not None else min(USUAL_SHARE, USUAL_MOST / count)
    by_label = metric.name.startswith(_BY_LABEL)
    return held_out.split(evaluation.dir, files.read_signature(model_dir), part, by_label=by_label)


def _action(settings: HeldOutCalibration, evaluation: Data, metric: MetricSpec, side: str) -> dict[str, Any]:
    return {
        "kind": "data/held-out",
        "version": _VERSION,
        "data": str(evaluation.tree),
        "share": settings.share if settings.share is not None else [USUAL_SHARE, USUAL_MOST],
        "by_label": metric.name.startswith(_BY_LABEL),
        "side": side,
    }


def _store_side(store: Store, action: dict[str, Any], whole: Data, side: tuple[held_out.Piece, ...]) -> Data:
    with store.entry(action) as entry:
        if not entry.hit:
            held_out.write(whole.dir, side, entry.dir)
    return Data(tree=entry.digest, dir=entry.dir)


def _too_few(settings: HeldOutCalibration, split: held_out.Split) -> str:
    of = f"the evaluation data has {split.samples} samples (equal ones stay together, and those of a call)"
    if settings.share is None:
        least = f"a share of {USUAL_SHARE:g} gives {split.held_samples} to calibrate on, fewer than {USUAL_LEAST}"
        return f"{of}, of which {least}: give data.calibration, more evaluation data, or `calibration: {{held_out: 0.5}}`"
    return (
        f"{of} that cannot be taken apart so that a share of {settings.share:g} is held out: give more, or data to calibrate with"
    )


def _invented(evaluation: Data, model: Digest, store: Store) -> Calibration:
    """Calibration on calls with random inputs that fit the model."""
    action = {"kind": "data/invented", "version": _VERSION, "model": str(model)}
    with store.entry(action) as entry:
        if not entry.hit:
            with calls.CallsWriter(entry.dir) as writer:
                for feed in trials.made_up(store.path(model)):
                    writer.tensors(feed, 1)
                if not writer.count:
                    raise RecipeError("data.calibration: the model takes no random inputs: give data to calibrate with")
                writer.finish(None)
    data = Data(tree=entry.digest, dir=entry.dir)
    return Calibration(evaluation=evaluation, data=data, use=CalibrationUse(source=INVENTED, samples=len(data.calls)))
