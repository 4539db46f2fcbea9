"""Verdicts whole, with every number and word that people read and that a replay compares."""

from __future__ import annotations

from typing import Any

import pytest

from mlpack_control.records import Rule
from mlpack_control.verdicts import judge

RULE = Rule(metric="errors", limit=0.01, margin=0.005)
FACTS = {"metric": "errors", "limit": 0.01, "margin": 0.005}


def both(bad: int, total: int) -> dict[str, Any]:
    """The counts of two sources that agree."""
    return {"platform": [bad, total], "package": [bad, total]}


ROWS: list[tuple[Any, Any, str, str, dict[str, float]]] = [
    (
        both(0, 1000),
        both(0, 1000),
        "good",
        "at most 0.268 % of 1000 are bad, less than 1.000 %",
        {"upper": 0.002682385, "threshold": 0.01},
    ),
    (
        both(0, 299),
        {},
        "unknown",
        "299 requests of 300 that a verdict needs",
        {"upper": 0.008915123, "threshold": 0.01},
    ),
    (
        both(12, 1000),
        both(0, 1000),
        "unknown",
        "up to 3.331 % of 1000 may be bad, and 1.000 % is the threshold",
        {"upper": 0.033305667, "threshold": 0.01},
    ),
    (
        both(100, 1000),
        both(5, 1000),
        "bad",
        "platform: at least 7.501 % of 1000 are bad, more than 1.521 %",
        {"lower": 0.075010843, "threshold": 0.015214665},
    ),
    (
        {"platform": [0, 900]},
        both(0, 900),
        "unknown",
        "no counts from package",
        {},
    ),
    (
        {"platform": [0, 900]},
        both(90, 900),
        "sick",
        "no counts from package",
        {},
    ),
    (
        both(90, 900),
        both(90, 900),
        "sick",
        "up to 22.275 % of 900 may be bad, and 1.000 % is the threshold; the old version is above the limit too",
        {"upper": 0.222746217, "threshold": 0.01},
    ),
    (
        both(2, 1000),
        both(90, 1000),
        "good",
        "at most 0.886 % of 1000 are bad, less than 1.000 %",
        {"upper": 0.008859876, "threshold": 0.01},
    ),
    (
        both(20, 10000),
        both(150, 10000),
        "good",
        "at most 0.518 % of 10000 are bad, less than 1.000 %",
        {"upper": 0.005176937, "threshold": 0.01},
    ),
    (
        both(5, 30),
        both(1, 29),
        "bad",
        "platform: at least 4.873 % of 30 are bad, more than 1.000 %",
        {"lower": 0.048734819, "threshold": 0.01},
    ),
    (
        both(5, 30),
        both(3, 30),
        "sick",
        "30 requests of 300 that a verdict needs; the old version is above the limit too",
        {"upper": 0.482957171, "threshold": 0.01},
    ),
    (
        both(90, 10000),
        both(90, 10000),
        "good",
        "at most 2.031 % of 10000 are bad, less than 2.095 %",
        {"upper": 0.020313558, "threshold": 0.02094565},
    ),
    (
        {"platform": [6, 400], "package": [1, 380]},
        both(9, 9000),
        "unknown",
        "up to 3.358 % of 380 may be bad, and 1.000 % is the threshold",
        {"upper": 0.033575819, "threshold": 0.01},
    ),
    (
        {},
        {},
        "unknown",
        "no counts from platform, package",
        {},
    ),
]


@pytest.mark.parametrize(("new", "old", "verdict", "why", "numbers"), ROWS)
def test_a_verdict_has_its_numbers(new: Any, old: Any, verdict: str, why: str, numbers: dict[str, float]) -> None:
    row = judge(RULE, {"errors": new}, {"errors": old})
    assert row == {**FACTS, "verdict": verdict, "why": why, "new": new, "old": old, **numbers}
