"""Each tool's answers, judged as mlpack judges its own packages: the recipe's metric on all of the evaluation data, against labels
or the answers of the float that everyone was given.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import engine
import judge
from cases import Case

from mlpack.core.records import MetricSpec
from mlpack.errors import MeasureError
from mlpack.evaluation.metrics.accuracy import AccuracyJudge
from mlpack.recipe import reader

BASE = "float"


def changed(row: judge.Row, **values: Any) -> judge.Row:
    """The row with these values."""
    return dataclasses.replace(row, **values)


def metric_of(case: Case) -> MetricSpec:
    """What the recipe judges by."""
    return reader.load(case.recipe).metric


def scored(case: Case, rows: dict[str, judge.Row], opened: dict[str, engine.Opened], kept: Path) -> dict[str, judge.Row]:
    """The rows with values and drops, or with why there are none."""
    rows, prefixes = dict(rows), {}
    for tool, each in opened.items():
        try:
            prefixes[tool] = engine.answers(each, case.evaluation, kept)
        except engine.AskError as error:
            if tool == BASE:
                raise
            rows[tool] = changed(rows[tool], failure=f"the engine: {error}")
    found = _judged(metric_of(case), case.labels, case.samples, prefixes)
    for tool, each in found.items():
        if isinstance(each, MeasureError):
            rows[tool] = changed(rows[tool], failure=str(each))
        else:
            rows[tool] = changed(rows[tool], value=each.value, drop=each.drop)
    return rows


def without_vnni(
    case: Case, rows: dict[str, judge.Row], opened: dict[str, engine.Opened], places: tuple[Path, Path], seconds: float
) -> dict[str, judge.Row]:
    """The rows with what an emulated processor says, of those within the drop: the cosine to the same model's answers here, and the
    drop from the float's where the metric compares with it. `places`: one to work in, and where answers are kept."""
    rows, (work, kept) = dict(rows), places
    spec = metric_of(case)
    with contextlib.closing(engine.Emulated(case.evaluation, kept, seconds)) as emulated:
        asked = {tool: _asked(emulated, tool, opened[tool]) for tool, row in rows.items() if tool != BASE and row.within}
    for tool, found in asked.items():
        if found is None:
            continue
        there, count = found
        samples = case.samples[:count]
        here = {name: engine.answers(opened[name], case.evaluation, kept) for name in (tool, BASE)}
        pair = {BASE: _first(here[tool], count, work), tool: there}
        cosine = _judged(MetricSpec(name="cosine"), None, samples, pair)[tool]
        rows[tool] = changed(rows[tool], samples_avx2=count, cosine_avx2=getattr(cosine, "value", 0.0))
        if spec.name in ("fidelity", "agreement", "cosine"):
            drop = _judged(spec, None, samples, {BASE: _first(here[BASE], count, work), tool: there})[tool]
            rows[tool] = changed(rows[tool], drop_avx2=getattr(drop, "drop", 1.0))
    return rows


def _asked(emulated: engine.Emulated, tool: str, opened: engine.Opened) -> tuple[Path, int] | None:
    """Where its answers lie, and how many; None where it gives none."""
    try:
        return emulated.answers(opened)
    except engine.AskError as error:
        print(f"  {tool}: without VNNI: {error}", flush=True)
        return None


def _first(prefix: Path, count: int, work: Path) -> Path:
    """The first calls' answers as files of their own, which share the bytes."""
    made = work / f"{prefix.name}-first-{count}"
    if not made.with_suffix(".json").exists():
        described = json.loads(Path(f"{prefix}.json").read_bytes())[:count]
        Path(f"{made}.json").write_text(json.dumps(described))
        Path(f"{made}.bin").symlink_to(f"{prefix}.bin")
    return made


def _judged(
    spec: MetricSpec, labels: tuple[Any, ...] | None, samples: tuple[int, ...], prefixes: dict[str, Path]
) -> dict[str, Any]:
    """Each one's accuracy, or the MeasureError of it."""
    made = AccuracyJudge(metric=spec, labels=labels, isa="", load_hook=_no_hook, samples=samples)
    return dict(made.accuracies(prefixes, BASE))


def _no_hook(reference: str) -> Any:
    raise MeasureError(f"{reference}: hooks are not run here")
