"""Every rule, and all of them over the facts of one file. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mlpack.deploy.check.facts.reading import Facts
from mlpack.deploy.check.records import Finding
from mlpack.deploy.check.rules import access, endpoints, functions, machines, metrics, stores, tasks
from mlpack.deploy.check.rules.common import Rule

RULES: tuple[Rule, ...] = (
    *functions.RULES,
    *stores.RULES,
    *access.RULES,
    *endpoints.RULES,
    *machines.RULES,
    *metrics.RULES,
    *tasks.RULES,
)


def findings(facts: Facts) -> tuple[Finding, ...]:
    """All that is wrong with a file, sorted."""
    return tuple(sorted({finding for rule in RULES for finding in _of(rule, facts)}))


def _of(rule: Rule, facts: Facts) -> Iterator[Finding]:
    """What a rule finds; where an override has a form that it cannot read, that."""
    try:
        yield from rule(facts)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        yield Finding(
            facts.file, rule.__name__, f"something here has a form that nobody takes ({error}): see what the linters say of it"
        )
