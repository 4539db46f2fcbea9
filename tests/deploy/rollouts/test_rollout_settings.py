"""What a rollout goes by, from the recipe's section."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.deployments import section, service

from mlpack.deploy.design import design
from mlpack.deploy.rollouts import settings
from mlpack.errors import RecipeError
from mlpack.recipe.deploy.section import Endpoint, Rollout, Slo, Warm
from mlpack_control import Policy

TARGET = {"kind": "function", "function": "fashion-prod", "alias": "live"}


def test_a_policy_follows_from_the_section() -> None:
    one = service(deploy=section(rollout=Rollout(steps=(10, 100), bake_s=60.5, on_doubt="roll-back"), slo=Slo(error_rate=0.02)))
    policy = settings.policy(one)
    assert policy is not None
    assert (policy.steps, policy.bake_s, policy.on_doubt) == ((10, 100), (61,), "roll_back")
    assert [(rule.metric, rule.limit, rule.margin) for rule in policy.rules] == [
        ("errors", 0.02, 0.01),
        ("slow", 0.05, 0.025),
        ("throttled", 0.01, 0.005),
    ]


@pytest.mark.parametrize(
    ("bake_d", "give_up_d", "expire_s", "look_s"),
    [(0.01, 0.1, 86_400, 60), (1, 1, 345_600, 158), (3, 3, 590_400, 269)],
)
def test_a_rollout_of_days_outlives_its_bake(bake_d: float, give_up_d: float, expire_s: int, look_s: int) -> None:
    rollout = Rollout(steps=(50, 100), bake_s=bake_d * 86_400, give_up_s=give_up_d * 86_400)
    policy = settings.policy(service(deploy=section(rollout=rollout)))
    assert policy is not None
    assert (policy.expire_s, policy.look_s) == (expire_s, look_s)
    assert 9 * expire_s / look_s < 25_000


def test_cold_starts_are_judged_where_environments_are_kept() -> None:
    policy = settings.policy(service(deploy=section(warm=Warm(provisioned=2))))
    assert policy is not None
    assert ([rule.metric for rule in policy.rules][-1], policy.provisioned) == ("cold", 2)


def test_a_workers_errors_are_counted_by_its_own_lines() -> None:
    policy = settings.policy(service("worker"))
    assert policy is not None
    assert [(rule.metric, rule.sources) for rule in policy.rules] == [("errors", ("package",)), ("slow", ("package",))]


def test_settings_are_read_as_they_are_written(tmp_path: Path) -> None:
    written = settings.settings(service(), TARGET, machine="fashion-prod-rollout", alarms=["fashion-prod-brake"])
    assert written is not None
    (tmp_path / settings.FILE).write_text(json.dumps(written))
    assert settings.read(tmp_path) == written
    assert Policy.of(written["policy"]) == settings.policy(service())
    assert written["counting"] == {"service": "fashion-prod", "late_s": 160, "alarms": ["fashion-prod-brake"]}


def test_codedeploy_has_no_policy() -> None:
    one = service(deploy=section(rollout=Rollout(codedeploy="Canary10Percent5Minutes")))
    assert settings.settings(one, TARGET, machine="", alarms=[]) is None


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", json.dumps({"target": {}, "machine": "m", "policy": {"steps": []}})])
def test_what_are_no_settings_is_told(text: Any, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / settings.FILE).write_text(text)
    with pytest.raises(RecipeError, match=settings.FILE):
        settings.read(tmp_path)


def test_the_directory_of_a_deployment_says_what_is_moved() -> None:
    one = service()
    written = settings.of_graph(one, design(one))
    assert written is not None
    assert (written["target"], written["machine"]) == (TARGET, "fashion-prod-rollout")
    assert written["counting"]["alarms"]


@pytest.mark.parametrize(("kind", "target"), [("container", None), ("worker", {"kind": "workers", "cluster": "fashion-prod"})])
def test_tasks_and_weights_are_moved_too(kind: str, target: dict[str, str] | None) -> None:
    one = service(kind, section(endpoint=Endpoint(kind="alb", internal=True)) if kind == "container" else None)
    written = settings.of_graph(one, design(one))
    assert written is not None
    assert settings.checked(written, "it") == written
    assert (written["target"] or {}).items() >= (target or {}).items()
    assert (written["target"] is None, written["brake"]) == (target is None, "fashion-prod-brake")
