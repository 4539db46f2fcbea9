"""Expand a recipe into candidates: every variant at every target, each with all its steps. Pure.

Promises:
- It reads no file and no clock. The same recipe and tables give the same plan.
- Implied steps are added here and nowhere else: the export to ONNX where a chain needs it, the clean-up after it, the last steps of
  the target (the saved optimised graph; for a GPU, engines), and what else `targets.chains` asks for.

Will not: say what is cached, or judge anything but what cannot run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from mlpack.core.plugins import Plugin, quoted
from mlpack.core.records import Candidate, Plan, Recipe, Source, Step, Target, Variant
from mlpack.core.sizes import AUTO, COMPARED_MB
from mlpack.errors import PluginError, RecipeError
from mlpack.graphs.facts.makeup import Makeup
from mlpack.recipe.tables import FLOAT, Passes, Targets, tables
from mlpack.targets.chains import Auto, Chain


def expand(recipe: Recipe, passes: Passes | None = None, targets: Targets | None = None) -> Plan:
    """Every candidate, target by target, and each target's float baseline."""
    passes, targets = tables(passes, targets)
    candidates, baselines = [], []
    for target in map(_compared, recipe.targets):
        with _blame_plugin(target, getattr(targets[target.kind], "plugin", None)):
            variants = auto(recipe, target, passes, targets) if recipe.variants is None else recipe.variants
            plain = next((variant for variant in variants if not variant.steps), Variant(name=FLOAT, steps=()))
            baselines.append(_candidate(plain, recipe.source, target, passes, targets))
            candidates += [_candidate(variant, recipe.source, target, passes, targets) for variant in variants]
    expanded = Plan(recipe=recipe, candidates=tuple(candidates), baselines=tuple(baselines))
    return fit_to_model(expanded, Makeup(trees=1), targets) if recipe.source.format in BOOSTERS else expanded


def _compared(target: Target) -> Target:
    """The target as its candidates are compared: where the build chooses the memory, with one vCPU."""
    if getattr(target.config, "memory_mb", None) != AUTO:
        return target
    return dataclasses.replace(target, config=dataclasses.replace(target.config, memory_mb=COMPARED_MB))


@contextmanager
def _blame_plugin(target: Target, plugin: Plugin | None) -> Iterator[None]:
    """Blame the plug-in for a chain that names an unknown pass, or an unknown field of its config."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        if plugin is None:
            raise
        raise PluginError(
            f"the chain of the target {target.kind!r} of {plugin} cannot be written out: {quoted(error)}. It names a pass, or a "
            f"field of a pass's config, that is not there: update {plugin.distribution}, or tell its makers"
        ) from error


def auto(recipe: Recipe, target: Target, passes: Passes, targets: Targets) -> tuple[Variant, ...]:
    """The variants of `variants: auto` at a target.

    On a processor: float; int8, with attention as one operator and as single products; fp16 where a target of the recipe computes
    in it. On a GPU: float, fp16 and, with calibration data, int8 for TensorRT.
    """
    native = any(each.arch in targets[each.kind].float16_archs for each in recipe.targets if targets[each.kind].device == "cpu")
    return tuple(
        Variant(name=row.name, steps=_steps(row, passes))
        for row in targets[target.kind].chain(target.config).auto
        if (native or not row.native) and (recipe.calibration is not None or not row.calibrated)
    )


def _steps(row: Auto, passes: Passes) -> tuple[Step, ...]:
    """The steps of a row: one for its form of the graph, where it asks for one, and its own."""
    pairs = [("simplify", row.form)] if row.form else []
    pairs += [(row.step, row.config)] if row.step else []
    return tuple(Step(name=name, config=passes[name].config(**fields)) for name, fields in pairs)


BOOSTERS = ("xgboost", "lightgbm")
"""Sources that always hold trees."""


def proposal(candidate: Candidate, plan: Plan, targets: Targets | None = None) -> Auto | None:
    """The table's row for this candidate of `variants: auto`; None where the recipe names its variants."""
    if plan.recipe.variants is not None:
        return None
    _, targets = tables(None, targets)
    rows = targets[candidate.target.kind].chain(candidate.target.config).auto
    return next((row for row in rows if row.name == candidate.variant), None)


def fit_to_model(plan: Plan, makeup: Makeup, targets: Targets | None = None) -> Plan:
    """The plan of `variants: auto` for a model with this makeup. Variants that make no sense for it are skipped, with the reason;
    those that would equal another one are left out."""
    candidates = (_fit_candidate(candidate, plan, makeup, targets) for candidate in plan.candidates)
    return dataclasses.replace(plan, candidates=tuple(candidate for candidate in candidates if candidate is not None))


def _fit_candidate(candidate: Candidate, plan: Plan, makeup: Makeup, targets: Targets | None) -> Candidate | None:
    row = proposal(candidate, plan, targets)
    if row is None:
        return candidate
    suited = not row.suits or bool(makeup.kinds.intersection(row.suits))
    if not suited and not row.otherwise:
        return None
    if candidate.skipped:
        return candidate
    why = next((why for kind, why in row.unless.items() if kind in makeup.kinds), None)
    if why is None and not suited:
        why = row.otherwise
    return candidate if why is None else dataclasses.replace(candidate, skipped=f"{why} ({makeup.text})")


def select(plan: Plan, glob: str) -> Plan:
    """The plan with only the candidates whose id matches (`--only 'int8@*'`), and their targets' baselines.

    Raises RecipeError, listing the ids, when none does.
    """
    matches = tuple(candidate for candidate in plan.candidates if fnmatchcase(candidate.id, glob))
    if not matches:
        raise RecipeError(
            f"no candidate matches {glob!r}; this recipe has:",
            *(f"  {candidate.id}" for candidate in plan.candidates),
        )
    target_ids = {candidate.target.id for candidate in matches}
    baselines = tuple(candidate for candidate in plan.baselines if candidate.target.id in target_ids)
    return dataclasses.replace(plan, candidates=matches, baselines=baselines)


def _candidate(variant: Variant, source: Source, target: Target, passes: Passes, targets: Targets) -> Candidate:
    row = targets[target.kind]
    chain = row.chain(target.config)
    steps = tuple(_with_target_fields(step, chain.binds) for step in _complete_steps(variant.steps, source, passes, chain))
    return Candidate(variant=variant.name, target=target, steps=steps, skipped=_unfit(steps, target, chain, row.float16_archs))


def _complete_steps(steps: tuple[Step, ...], source: Source, passes: Passes, target: Chain) -> list[Step]:
    """The user's steps with the implied ones: export and clean-up before the first that needs ONNX, and the target's last steps.

    A step that the recipe names is not added a second time, unless it only checks.
    """
    names = {step.name for step in steps if not _is_gate(step)}
    chain: list[Step] = []
    state = source.format

    def imply(name: str, **config: Any) -> None:
        if name not in names:
            chain.append(Step(name=name, config=passes[name].config(**{**target.configs.get(name, {}), **config})))

    def enter() -> None:
        """Add the pass that turns the current format into ONNX, and the clean-up after it."""
        nonlocal state
        pass_name = next(name for name, row in passes.items() if state in row.takes and row.gives == "onnx")
        imply(pass_name, **(_task(source) if pass_name == "export" else {}))
        imply("simplify")
        state = "onnx"

    if state == "onnx":
        imply("simplify")
    for step in steps:
        if state not in passes[step.name].takes:
            enter()
        chain.append(_with_task(step, source) if step.name == "export" else step)
        if passes[step.name].gives != "same" and passes[step.name].gives != state:
            state = passes[step.name].gives
            imply("simplify")
    if state != "onnx":
        enter()
    for name in target.ends:
        imply(name)
    return chain


def _is_gate(step: Step) -> bool:
    return getattr(step.config, "builder", None) == "check"


def _task(source: Source) -> dict[str, str]:
    return {} if source.task is None else {"task": source.task}


def _with_task(step: Step, source: Source) -> Step:
    if source.task is None or getattr(step.config, "task", source.task) is not None:
        return step
    return Step(name=step.name, config=dataclasses.replace(step.config, task=source.task))


def _with_target_fields(step: Step, binds: Mapping[str, Any]) -> Step:
    """The step with the target's values (its architecture, its GPUs) in its config, where that has such fields. RecipeError when
    the step has another value."""
    defaults = {field.name: field.default for field in dataclasses.fields(step.config)}
    values = {name: value for name, value in binds.items() if name in defaults}
    for name, value in values.items():
        own = getattr(step.config, name)
        if own not in (defaults[name], value):
            raise RecipeError(
                f"{step.name}: {name} is {_text_of(own)} in the step and {_text_of(value)} at the target, which is what it is "
                f"built for: say {name} at the target alone"
            )
    return Step(name=step.name, config=dataclasses.replace(step.config, **values)) if values else step


def _text_of(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _unfit(steps: tuple[Step, ...], target: Target, chain: Chain, float16_archs: tuple[str, ...]) -> str | None:
    """Why this chain is not worth building for this target, if it is not."""
    for step in steps:
        for row in chain.unfit:
            if step.name != row.step:
                continue
            value = getattr(step.config, row.field, None) if row.field else None
            if row.field is None or value in row.values:
                return f"{step.name}{f' ({row.field}: {value})' if row.field else ''} {row.why}"
    half = any(step.name == "precision" and getattr(step.config, "type", None) == "fp16" for step in steps)
    if half and target.arch not in float16_archs:
        return (
            f"{target.id} does not compute in fp16: every half-precision value would be cast to float32 and back,"
            " so the package would be smaller and slower"
        )
    return None
