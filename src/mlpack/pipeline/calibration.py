"""What steps calibrate on, and what is then left to judge candidates by.

Promises: no candidate is judged on a sample that calibrated any of them; where a recipe gives no calibration data, a share of its
evaluation data is held out when, and only when, a step of any of its variants cannot do without, whatever part of it is built;
numbers are made up only where the recipe says so. What was done is said, in numbers.
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
"""Where a recipe says nothing: of the samples, and how many at most and at least. 512 is what quantizers look at."""
_BY_LABEL = ("recall_at_", "map_at_")
"""Metrics whose labels say which samples belong together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """`judged`: what candidates are judged by. `data`: what steps are bound to, None: nothing. `use`: what was done, for the
    record. `missing`: why there is nothing although a step needs it."""

    judged: Data
    data: Data | None = None
    use: CalibrationUse | None = None
    missing: str | None = None

    @property
    def bindings(self) -> dict[str, tuple[Digest, Path]]:
        """For steps."""
        return {} if self.data is None else {"calibration": (self.data.tree, self.data.dir)}


def given(recipe: Recipe, evaluation: Data, read: Callable[[str], Data]) -> Calibration | None:
    """What a recipe's own data are, held against the evaluation data; None where it names none. RecipeError where they overlap."""
    if isinstance(recipe.calibration, HeldOutCalibration) or recipe.calibration == INVENTED:
        return None
    if recipe.calibration is None:
        return Calibration(judged=evaluation)
    data = read(recipe.calibration)
    check_disjoint(evaluation, data)
    use = CalibrationUse(source="recipe", samples=sum(call["samples"] for call in data.calls))
    return Calibration(judged=evaluation, data=data, use=use)


def settled(whole: Plan, evaluation: Data, model: Digest, store: Store) -> Calibration:
    """What becomes of a recipe that names no data. `whole`: all of its candidates, whichever are built. `model`: the float model as
    ONNX, before its target's steps. RecipeError for a share that cannot be."""
    recipe = whole.recipe
    wanted = recipe.calibration
    asked = isinstance(wanted, HeldOutCalibration) and wanted.share is not None
    if wanted is None or not _needed(whole, model, store, useful=asked):
        return Calibration(judged=evaluation)
    if wanted == INVENTED:
        return _made_up(evaluation, model, store)
    assert isinstance(wanted, HeldOutCalibration)  # the recipe's own data are `given`
    split = _split(wanted, evaluation, store.path(model), recipe.metric)
    if split.held_samples < (1 if asked else USUAL_LEAST):
        said = _too_few(wanted, split)
        if asked:
            raise RecipeError(f"data.calibration: {said}")
        return Calibration(judged=evaluation, missing=said)
    sides = {"calibration": split.held, "evaluation": split.rest}
    taken = {name: _kept(store, _action(wanted, evaluation, recipe.metric, name), evaluation, side) for name, side in sides.items()}
    check_disjoint(taken["evaluation"], taken["calibration"])
    use = CalibrationUse(source="evaluation", samples=split.held_samples, of=split.samples)
    return Calibration(judged=taken["evaluation"], data=taken["calibration"], use=use)


def before_ends(baseline: Candidate) -> Candidate:
    """The float's chain without what its target ends with: what quantizers start from."""
    ends = TARGETS[baseline.target.kind].chain(baseline.target.config).ends
    return replace(baseline, steps=tuple(step for step in baseline.steps if step.name not in ends))


def _needed(whole: Plan, model: Digest, store: Store, *, useful: bool) -> bool:
    """Whether a step of any variant cannot do without calibration on this graph; `useful`: or can make use of it. Asked once: the
    graph is opened for it."""
    steps = [step for candidate in whole.candidates if not candidate.skipped for step in candidate.steps]
    binding = [step for step in steps if "calibration" in PASSES[step.name].binds]
    if useful or not binding:
        return bool(binding)
    rows = [(PASSES[step.name], step) for step in binding]
    described = [[step.name, row.version, transform.plain(step), *([str(row.plugin)] if row.plugin else [])] for row, step in rows]
    action = {"kind": "calibration/needed", "version": _VERSION, "model": str(model), "steps": described}
    with store.entry(action) as entry:
        if not entry.hit:
            folder = store.path(model)
            found = any(row.calibrates is not None and row.calibrates(step.config, folder) for row, step in rows)
            (entry.dir / "needed.json").write_bytes(digest.canonical_json({"needed": found}))
    return bool(transform.read_json(entry.dir / "needed.json")["needed"])


def foretold(recipe: Recipe) -> str | None:
    """What a recipe says of calibration where it names no data, before its model is known."""
    if isinstance(recipe.calibration, HeldOutCalibration):
        share = recipe.calibration.share
        if share is not None:
            return f"calibration: {share:.0%} of the evaluation data, held out from judging"
        return (
            f"calibration: {USUAL_SHARE:.0%} of the evaluation data ({USUAL_MOST} samples at most), held out from judging, where a "
            "step cannot do without"
        )
    return "calibration: random numbers; accuracy proves nothing" if recipe.calibration == INVENTED else None


def _split(wanted: HeldOutCalibration, evaluation: Data, model_dir: Path, metric: MetricSpec) -> held_out.Split:
    count = sum(call["samples"] for call in evaluation.calls)
    part = wanted.share if wanted.share is not None else min(USUAL_SHARE, USUAL_MOST / count)
    by_label = metric.name.startswith(_BY_LABEL)
    return held_out.split(evaluation.dir, files.read_signature(model_dir), part, by_label=by_label)


def _action(wanted: HeldOutCalibration, evaluation: Data, metric: MetricSpec, side: str) -> dict[str, Any]:
    return {
        "kind": "data/held-out",
        "version": _VERSION,
        "data": str(evaluation.tree),
        "share": wanted.share if wanted.share is not None else [USUAL_SHARE, USUAL_MOST],
        "by_label": metric.name.startswith(_BY_LABEL),
        "side": side,
    }


def _kept(store: Store, action: dict[str, Any], whole: Data, side: tuple[held_out.Piece, ...]) -> Data:
    with store.entry(action) as entry:
        if not entry.hit:
            held_out.write(whole.dir, side, entry.dir)
    return Data(tree=entry.digest, dir=entry.dir)


def _too_few(wanted: HeldOutCalibration, split: held_out.Split) -> str:
    of = f"the evaluation data has {split.samples} samples (equal ones stay together, and those of a call)"
    if wanted.share is None:
        least = f"a share of {USUAL_SHARE:g} gives {split.held_samples} to calibrate on, fewer than {USUAL_LEAST}"
        return f"{of}, of which {least}: give data.calibration, more evaluation data, or `calibration: {{held_out: 0.5}}`"
    return f"{of} that cannot be taken apart so that a share of {wanted.share:g} is held out: give more, or data to calibrate with"


def _made_up(evaluation: Data, model: Digest, store: Store) -> Calibration:
    """Calls of invented numbers, such as the model takes."""
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
    return Calibration(judged=evaluation, data=data, use=CalibrationUse(source=INVENTED, samples=len(data.calls)))
