"""Expands a recipe into candidates: every variant at every target, each with all its steps written out. Pure.

Promises: reads no file and no clock; the same recipe and tables give the same plan. What a recipe leaves out is put in
here and nowhere else: the export to ONNX where a chain needs it, the clean-up after it, the saved optimised graph at
the end, and the architecture that the target decides. It does not say what is cached, and it judges nothing but what
cannot run.
"""

from __future__ import annotations

import dataclasses
from fnmatch import fnmatchcase
from typing import Any

from mlpack.errors import RecipeError
from mlpack.recipe_tables import FLOAT, Passes, Targets, tables
from mlpack.records import Candidate, Plan, Recipe, Source, Step, Target, Variant


def expand(recipe: Recipe, passes: Passes | None = None, targets: Targets | None = None) -> Plan:
    """Every candidate, target by target, and each target's float baseline."""
    passes, targets = tables(passes, targets)
    variants = auto(recipe, passes, targets) if recipe.variants is None else recipe.variants
    plain = next((variant for variant in variants if not variant.steps), Variant(name=FLOAT, steps=()))
    candidates, baselines = [], []
    for target in recipe.targets:
        baselines.append(_candidate(plain, recipe.source, target, passes, targets))
        candidates += [_candidate(variant, recipe.source, target, passes, targets) for variant in variants]
    return Plan(recipe=recipe, candidates=tuple(candidates), baselines=tuple(baselines))


def auto(recipe: Recipe, passes: Passes, targets: Targets) -> tuple[Variant, ...]:
    """What `variants: auto` means: float, int8 by the method that suits the architecture, fp16 where a target runs it
    natively.
    """
    variants = [
        Variant(name="fp32", steps=()),
        Variant(name="int8", steps=(Step(name="quantize", config=passes["quantize"].config()),)),
    ]
    if any(target.arch in targets[target.kind].float16_archs for target in recipe.targets):
        variants.append(Variant(name="fp16", steps=(Step(name="precision", config=passes["precision"].config()),)))
    return tuple(variants)


def select(plan: Plan, glob: str) -> Plan:
    """The plan with only the candidates whose id matches (`--only 'int8@*'`), and their targets' baselines.

    Raises RecipeError, listing the ids, when none does.
    """
    chosen = tuple(candidate for candidate in plan.candidates if fnmatchcase(candidate.id, glob))
    if not chosen:
        raise RecipeError(
            f"no candidate matches {glob!r}; this recipe has:",
            *(f"  {candidate.id}" for candidate in plan.candidates),
        )
    kept = {candidate.target.id for candidate in chosen}
    baselines = tuple(candidate for candidate in plan.baselines if candidate.target.id in kept)
    return dataclasses.replace(plan, candidates=chosen, baselines=baselines)


def _candidate(variant: Variant, source: Source, target: Target, passes: Passes, targets: Targets) -> Candidate:
    steps = tuple(_bound(step, target) for step in _written_out(variant.steps, source, passes))
    return Candidate(
        variant=variant.name, target=target, steps=steps, skipped=_unfit(steps, target, targets[target.kind].float16_archs)
    )


def _written_out(steps: tuple[Step, ...], source: Source, passes: Passes) -> list[Step]:
    """The user's steps with what they imply: export and clean-up before the first that needs ONNX, optimize at the end.

    A step that the recipe names itself is never added a second time.
    """
    named = {step.name for step in steps}
    chain: list[Step] = []
    state = source.format

    def imply(name: str, **config: Any) -> None:
        if name not in named:
            chain.append(Step(name=name, config=passes[name].config(**config)))

    if state == "onnx":
        imply("simplify")
    for step in steps:
        if state not in passes[step.name].takes:
            imply("export", **_task(source))
            imply("simplify")
            state = "onnx"
        chain.append(_with_task(step, source) if step.name == "export" else step)
        if passes[step.name].gives != "same" and passes[step.name].gives != state:
            state = passes[step.name].gives
            imply("simplify")
    if state != "onnx":
        imply("export", **_task(source))
        imply("simplify")
    imply("optimize")
    return chain


def _task(source: Source) -> dict[str, str]:
    return {} if source.task is None else {"task": source.task}


def _with_task(step: Step, source: Source) -> Step:
    if source.task is None or getattr(step.config, "task", source.task) is not None:
        return step
    return Step(name=step.name, config=dataclasses.replace(step.config, task=source.task))


def _bound(step: Step, target: Target) -> Step:
    """The step with the target's architecture in its config, where it has a place for one."""
    if not any(field.name == "arch" for field in dataclasses.fields(step.config)):
        return step
    return Step(name=step.name, config=dataclasses.replace(step.config, arch=target.arch))


def _unfit(steps: tuple[Step, ...], target: Target, float16_archs: tuple[str, ...]) -> str | None:
    """Why this chain is not worth building for this target, if it is not."""
    half = any(step.name == "precision" and getattr(step.config, "type", None) == "fp16" for step in steps)
    if half and target.arch not in float16_archs:
        return (
            f"{target.id} does not compute in fp16: every half-precision value would be cast to float32 and back,"
            " so the package would be smaller and slower"
        )
    return None
