"""Rules, waivers and planted faults of deployments, from their tables."""

from __future__ import annotations

from collections.abc import Iterator

from mlpack.deploy.check.rules.all import RULES
from mlpack.deploy.check.waivers import WAIVERS


def rules() -> Iterator[str]:
    """What each rule holds, by what it is about."""
    yield from ("| about | holds |", "| --- | --- |")
    for rule in RULES:
        yield f"| {rule.__module__.rpartition('.')[2]} | {' '.join((rule.__doc__ or '').split()).removesuffix('.')} |"


def waivers() -> Iterator[str]:
    """Each with its reason."""
    yield from ("| checkov | reason |", "| --- | --- |")
    for name, reason in WAIVERS.items():
        yield f"| `{name}` | {reason} |"


def faults() -> Iterator[str]:
    """Each with its place, and who finds it."""
    from tests.support.deploy_faults import FAULTS

    yield from ("| | fault | file | found by |", "| --- | --- | --- | --- |")
    for number, fault in enumerate(FAULTS, 1):
        yield f"| {number} | {fault.name} | `{fault.file}` | {fault.rung} |"
