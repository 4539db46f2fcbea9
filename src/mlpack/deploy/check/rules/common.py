"""What rules share: how they say a finding, and numbers that may be none. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mlpack.deploy.check.facts.reading import Facts, Part
from mlpack.deploy.check.records import Finding

Rule = Callable[[Facts], Iterator[Finding]]


def said(facts: Facts, part: Part, fact: str, reason: str) -> Finding:
    """A finding about a fact of a resource."""
    return Finding(facts.file, part.key(fact), reason)


def number(value: Any) -> float | None:
    """A number, or None for what is none or known to the account alone."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def within(facts: Facts, part: Part, fact: str, least: float, most: float) -> Iterator[Finding]:
    """That a number lies between two others."""
    value = number(part[fact])
    if value is not None and not least <= value <= most:
        yield said(facts, part, fact, f"{value:g} is outside {least:g} to {most:g}")


def function_of(facts: Facts, alias: Any) -> Part | None:
    """The function of an alias that a fact names."""
    owner = facts.get(alias, "alias")
    return facts.get(owner["function"], "function") if owner is not None else None
