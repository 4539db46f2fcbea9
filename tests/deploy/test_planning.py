"""A plan: what fits, what does not and which key says so, and its words."""

from __future__ import annotations

import json

from tests.support.deployments import section, service

from mlpack.deploy.planning import plan, steps
from mlpack.recipe.deploy.section import Budget, Rollout, Slo, Traffic


def test_a_peak_alone_fits() -> None:
    told = plan(service())
    assert told.fits
    assert told.resources["Function"] == ("fashion-prod", "fashion-prod-controller", "fashion-prod-brake")
    assert all(limit.holds for limit in told.limits)
    json.dumps(told.to_json(), allow_nan=False)
    text = told.text()
    for words in ("fashion@8", "what will exist", "per 1,000 requests", "limits", "rollout", "5 %"):
        assert words in text


def test_over_budget_names_its_key() -> None:
    told = plan(service(deploy=section(budget=Budget(month_usd=1.0, per_1k_usd=0.0001))))
    assert not told.fits
    assert [sentence.partition(":")[0] for sentence in told.over] == ["deploy.budget.month", "deploy.budget.per_1k"]
    assert "does not fit" in told.text()


def test_a_limit_that_does_not_hold_names_its_key() -> None:
    told = plan(service(deploy=section(slo=Slo(latency_p95_ms=1.0))))
    assert not told.fits
    assert "deploy.slo.latency_p95" in told.over[0]


def test_little_traffic_decides_late_or_never() -> None:
    day = section(traffic=Traffic(peak_rps=2.0, mean_rps=10_000 / 86_400))
    assert [step.asks for step in steps(service(deploy=day))] == [True, True, False]
    patient = section(traffic=day.traffic, rollout=Rollout(give_up_s=2 * 86_400.0))
    few = steps(service(deploy=patient))
    assert not any(step.asks for step in few)
    assert 14 < (few[0].hours or 0) < 36


def test_codedeploy_has_no_steps_of_ours() -> None:
    told = plan(service(deploy=section(rollout=Rollout(codedeploy="AllAtOnce"))))
    assert told.steps == ()
    assert "CodeDeploy" in told.text()
