"""`PLAN.md`: a plan for a pull request. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlpack.core.text import sinks, words
from mlpack.deploy.planning import COUNTED, DeploymentPlan, decided, month


def markdown(plan: DeploymentPlan, files: Mapping[str, str]) -> str:
    """`PLAN.md`. `files`: what each file is for."""
    return "\n".join((*_head(plan), *_tables(plan), *_proofs(), *_files(files), ""))


def _head(plan: DeploymentPlan) -> Iterator[str]:
    yield f"# {sinks.markdown(plan.stack)}: {sinks.markdown(plan.reference)}"
    yield ""
    yield f"Package `{plan.candidate}`. {month(plan)}; {words.usd(plan.bill.fixed_usd)} of it without a request."
    if plan.over:
        yield ""
        yield "**It does not fit:**"
        yield ""
        yield from (f"- {sinks.markdown(sentence)}" for sentence in plan.over)


def _tables(plan: DeploymentPlan) -> Iterator[str]:
    yield "\n## What will exist\n"
    yield "| kind | what |\n| --- | --- |"
    for kind, names in plan.resources.items():
        yield f"| {kind} | {len(names) if kind in COUNTED else ', '.join(sinks.markdown(name) for name in names)} |"
    yield "\n## What it costs\n"
    yield "| component | $ a month | $ per 1,000 requests |\n| --- | ---: | ---: |"
    for name, (fixed, thousand) in plan.bill.components.items():
        yield f"| {name} | {fixed:.2f} | {thousand:.6f} |"
    yield f"| together | {plan.bill.fixed_usd:.2f} | {plan.bill.per_1k_usd:.6f} |"
    yield ""
    yield f"Not counted: {'; '.join(plan.bill.left_out)}."
    yield "\n## Limits that must agree\n"
    yield "| limit | is | at most | margin | key |\n| --- | ---: | ---: | ---: | --- |"
    for each in plan.limits:
        mark = "" if each.holds else " **does not hold**"
        yield f"| {each.name}{mark} | {each.left:g} | {each.right:g} {each.unit} | {each.margin:g} | `{each.where}` |"
    yield "\n## A release's rollout\n"
    if not plan.steps:
        yield "All at once, or by CodeDeploy."
        return
    yield "| step | new release gets |\n| ---: | --- |"
    for step in plan.steps:
        yield f"| {step.percent} % | {decided(step)} |"


def _proofs() -> Iterator[str]:
    yield "\n## What is proven, and what is not\n"
    yield "Resources, limits and cost follow from the recipe and from what the build measured. `mlpack deploy check` runs the"
    yield "proofs over these files that this machine can run, `mlpack deploy simulate` the rollout. Nothing was applied to AWS."


def _files(files: Mapping[str, str]) -> Iterator[str]:
    yield "\n## Files\n"
    yield "| file | |\n| --- | --- |"
    for name, what in files.items():
        yield f"| `{name}` | {what} |"
