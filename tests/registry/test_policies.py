"""What an alias asks: read in the recipe's words, kept by compare-and-set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.places import PLACES, empty_place

from mlpack.core.records import Budgets
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import ConflictError, Key, Place, Put, audit
from mlpack.registry.aliases.policies import (
    REGRESSIONS,
    Policy,
    as_json,
    get,
    listed,
    of_alias,
    parse_budgets,
    parse_refuses,
    parse_subject,
    put,
    remove,
)
from mlpack.registry.rows import rows

STRICT = Budgets(latency_p95_ms=20.0, package_size_bytes=65_000_000, accuracy_drop=0.005)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with empty_place(request, tmp_path) as made:
        yield made


def test_budgets_are_read_as_in_a_recipe() -> None:
    assert parse_budgets(["latency_p95=20ms", "package_size=65MB", "accuracy_drop=0.005"]) == STRICT
    assert parse_budgets(["cold_start=0.8s", "cost_per_million=5", "peak_memory=1GB"]) == Budgets(
        cold_start_ms=800.0, cost_per_million_usd=5.0, peak_memory_bytes=1_000_000_000
    )
    assert parse_budgets([]) == Budgets()


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("latency=20ms", "unknown key.*latency_p"),
        ("latency_p95=20", "latency_p95: "),
        ("latency_p95", "KEY=VALUE"),
        ("latency_p95=", "latency_p95: "),
        ("accuracy_drop=nan", "accuracy_drop: "),
        ("accuracy_drop=-1", "accuracy_drop: "),
        ("package_size=-5MB", "package_size: "),
    ],
)
def test_budgets_that_are_none_are_refused(said: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        parse_budgets([said])
    with pytest.raises(RecipeError, match="each key once"):
        parse_budgets(["latency_p95=20ms", "latency_p95=30ms"])


def test_every_wrong_budget_is_told() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_budgets(["latency_p95=20", "colour=red"])
    assert len(caught.value.problems) == 2


def test_regressions_are_read() -> None:
    assert parse_refuses([]) == REGRESSIONS
    assert parse_refuses(["none"]) == ()
    assert parse_refuses(["accuracy", "size"]) == ("size", "accuracy")
    for said in (["none", "size"], ["weight"]):
        with pytest.raises(RecipeError, match="not a regression"):
            parse_refuses(said)


@pytest.mark.parametrize("said", ["", "minilm", "minilm:", ":prod", "*:*", "minilm:*", "MiniLM:prod", "a:b:c", "minilm@1"])
def test_subjects_that_are_none_are_refused(said: str) -> None:
    with pytest.raises(RecipeError, match="NAME:ALIAS"):
        parse_subject(said)


def test_what_is_set_is_what_decides(place: Place) -> None:
    assert of_alias(place, "minilm", "prod") == Policy(subject="minilm:prod")
    every = put(place, Policy(subject="*:prod", budgets=STRICT), "alice")
    assert every.revision == 1
    assert of_alias(place, "minilm", "prod") == every
    assert of_alias(place, "minilm", "canary").revision == 0
    one = put(place, Policy(subject="minilm:prod", refuses=("size",)), "alice")
    assert of_alias(place, "minilm", "prod") == one
    assert of_alias(place, "fashion", "prod") == every
    assert list(listed(place)) == [every, one]
    assert get(place, "minilm:prod") == one
    assert remove(place, "minilm:prod", "bob")
    assert not remove(place, "minilm:prod", "bob")
    assert of_alias(place, "minilm", "prod") == every
    with pytest.raises(RecipeError, match="no policy was set for minilm:prod"):
        get(place, "minilm:prod")


def test_the_same_again_changes_nothing(place: Place) -> None:
    first = put(place, Policy(subject="minilm:prod", budgets=STRICT), "alice")
    assert put(place, dataclasses.replace(first), "bob") == first
    changed = put(place, Policy(subject="minilm:prod"), "bob")
    assert changed.revision == 2
    assert [(entry.what, entry.who, entry.details["subject"]) for _, entry in audit.entries(place)] == [
        ("policy set", "alice", "minilm:prod"),
        ("policy set", "bob", "minilm:prod"),
    ]


def test_removing_is_audited(place: Place) -> None:
    put(place, Policy(subject="minilm:prod", budgets=STRICT), "alice")
    remove(place, "minilm:prod", "bob")
    last = [entry for _, entry in audit.entries(place)][-1]
    assert (last.what, last.who) == ("policy removed", "bob")
    assert last.details["budgets"]["latency_p95_ms"] == 20


def test_an_expected_revision_holds(place: Place) -> None:
    put(place, Policy(subject="minilm:prod"), "alice", expect=0)
    with pytest.raises(ConflictError, match="is at revision 1, not 0"):
        put(place, Policy(subject="minilm:prod", refuses=()), "bob", expect=0)
    with pytest.raises(ConflictError, match="is at revision 1, not 2"):
        remove(place, "minilm:prod", "bob", expect=2)
    assert put(place, Policy(subject="minilm:prod", refuses=()), "bob", expect=1).revision == 2


def test_a_policy_reads_as_json(place: Place) -> None:
    made = put(place, Policy(subject="minilm:prod", budgets=STRICT, refuses=("size",)), "alice")
    assert as_json(made) == {
        "subject": "minilm:prod",
        "budgets": {"latency_p95_ms": 20.0, "package_size_bytes": 65_000_000, "accuracy_drop": 0.005},
        "refuses": ["size"],
        "revision": 1,
    }


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"budgets": {"colour": 1}, "refuses": []},
        {"budgets": {"latency_p95_ms": "fast"}, "refuses": []},
        {"budgets": {"latency_p95_ms": "proven"}, "refuses": []},
        {"budgets": {"isa": "maybe"}, "refuses": []},
        {"budgets": {"isa": 1.0}, "refuses": []},
        {"budgets": {}, "refuses": ["weight"]},
        {"budgets": [], "refuses": []},
    ],
)
def test_a_damaged_policy_lets_nothing_pass(place: Place, head: dict[str, object]) -> None:
    place.table.commit(Put(key=Key(rows.POLICIES, "minilm:prod"), head=head))
    with pytest.raises(ServiceError, match=r"the policy policies/minilm:prod is damaged"):
        of_alias(place, "minilm", "prod")


def test_an_alias_may_accept_estimates(place: Place) -> None:
    budgets = parse_budgets(["latency_p95=20ms", "accept_estimates=true"])
    assert budgets == Budgets(latency_p95_ms=20.0, accept_estimates=True)
    put(place, Policy(subject="minilm:prod", budgets=budgets), "alice")
    assert get(place, "minilm:prod").budgets == budgets
    assert as_json(get(place, "minilm:prod"))["budgets"] == {"latency_p95_ms": 20.0, "accept_estimates": True}


def test_an_alias_may_say_how_sure(place: Place) -> None:
    budgets = parse_budgets(["accuracy_drop=0.01", "confidence=0.95"])
    assert budgets == Budgets(accuracy_drop=0.01, confidence=0.95)
    put(place, Policy(subject="minilm:prod", budgets=budgets), "alice")
    assert get(place, "minilm:prod").budgets == budgets
    with pytest.raises(RecipeError, match="confidence: says how sure accuracy_drop has to be"):
        parse_budgets(["confidence=0.95"])


def test_an_alias_may_ask_for_a_proof(place: Place) -> None:
    budgets = parse_budgets(["isa=proven"])
    put(place, Policy(subject="minilm:prod", budgets=budgets), "alice")
    assert get(place, "minilm:prod").budgets == budgets == Budgets(isa="proven")
    assert as_json(get(place, "minilm:prod"))["budgets"] == {"isa": "proven"}


@pytest.mark.parametrize("key", [each.name for each in dataclasses.fields(Budgets)])
def test_every_budget_of_a_recipe_is_kept_as_it_was_set(key: str, place: Place) -> None:
    known: dict[str, Any] = {"isa": "proven", "accept_estimates": True, "stages_ms": {"infer": 5.0, "decode": 1.0}}
    value = known.get(key, 0.5 if not key.endswith("_bytes") else 7)
    budgets = Budgets(**{key: value})  # type: ignore[arg-type]
    put(place, Policy(subject="minilm:prod", budgets=budgets), "alice")
    assert get(place, "minilm:prod").budgets == budgets


def test_stages_are_budgets_of_an_alias_too(place: Place) -> None:
    budgets = parse_budgets(["stages.infer=60ms", "latency_p95=20ms", "stages.decode=1ms"])
    assert budgets == Budgets(latency_p95_ms=20.0, stages_ms={"decode": 1.0, "infer": 60.0})
    put(place, Policy(subject="minilm:prod", budgets=budgets), "alice")
    assert as_json(get(place, "minilm:prod"))["budgets"] == {"latency_p95_ms": 20.0, "stages_ms": {"decode": 1.0, "infer": 60.0}}
    for wrong in (["stages.inferr=60ms"], ["stages.infer=60"], ["stages=60ms"], ["stages.infer=1ms", "stages.infer=2ms"]):
        with pytest.raises(RecipeError):
            parse_budgets(wrong)


def test_a_budget_of_nought_is_kept() -> None:
    assert as_json(Policy(subject="minilm:prod", budgets=Budgets(accuracy_drop=0.0)))["budgets"] == {"accuracy_drop": 0.0}


def test_accepting_estimates_is_true_or_false() -> None:
    with pytest.raises(RecipeError, match="accept_estimates"):
        parse_budgets(["accept_estimates=perhaps"])


@pytest.mark.parametrize("subject", ["minilm:latest", "*:v1", "minilm:3"])
def test_no_policy_is_set_for_what_can_be_no_alias(subject: str, place: Place) -> None:
    with pytest.raises(RecipeError, match="cannot be an alias"):
        put(place, Policy(subject=subject), "alice")
    place.table.commit(Put(key=Key(rows.POLICIES, subject), head={"budgets": {}, "refuses": []}))
    assert get(place, subject).refuses == ()
    assert remove(place, subject, "alice")
