"""The section `deploy`: what is read, what is refused and why, and that it is no part of a build."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.core.yaml_positions import PlacedError
from mlpack.errors import RecipeError
from mlpack.recipe import reader
from mlpack.recipe.deploy import section as form
from mlpack.recipe.deploy.times import Schedule, Window
from mlpack.recipe.deployment import deployment as read

if TYPE_CHECKING:
    from pathlib import Path

LEAST = {"traffic": {"peak_rps": 50}}
JWT = {"issuer": "https://id.example", "audience": ["a"]}
ARN = "arn:aws:states:eu-central-1:123456789012:stateMachine:train"


def with_(**sections: Any) -> dict[str, Any]:
    return {**LEAST, **sections}


def problems(written: Any) -> str:
    with pytest.raises(PlacedError) as caught:
        read(written)
    return str(caught.value)


def test_a_peak_is_enough() -> None:
    section = read(LEAST)
    assert section == form.Section(traffic=form.Traffic(peak_rps=50.0, mean_rps=5.0))
    assert section.rollout.steps == (5, 25, 50, 100)


def test_everything_of_the_research_is_read() -> None:
    section = read(
        {
            "endpoint": {"kind": "rest", "auth": "key"},
            "traffic": {"peak_rps": 50, "mean_rps": 5, "tenants": {"free": "5/s", "gold": "50/s", "slow": "30/min"}},
            "slo": {
                "latency_p95": "200ms",
                "error_rate": "0.5%",
                "cold_starts": 0.05,
                "hops": {"features": "40ms", "model": "60ms"},
            },
            "rollout": {"steps": [5, 25, 50, 100], "bake": "10m", "give_up": "2h", "on_doubt": "hold"},
            "warm": {"provisioned": 2, "when": "mon-fri 07-19 Europe/Berlin"},
            "worker": {"tasks": "0..8", "wait": "10s", "spot": "80%"},
            "batch": {"from": "s3://bucket-in/today.jsonl", "items": 500, "tolerate": "1%", "schedule": "daily 02:00"},
            "data": {"from": "s3://bucket-rows/new/", "columns": {"age": "number"}},
            "retrain": {
                "train": ARN,
                "when": [{"fresh_data": "s3://bucket-rows/new/"}, {"drift": "psi>0.2"}],
                "schedule": "weekly",
            },
            "budget": {"month": "50USD", "per_1k": "0.01USD"},
            "features": {"table": "users", "key": "user_id"},
            "log": {"sample": "1%", "to": "s3://bucket-log/x", "keep": "14d"},
            "notify": "ml@example.com",
        }
    )
    assert section.traffic.tenants == {"free": 5.0, "gold": 50.0, "slow": 0.5}
    assert section.slo == form.Slo(latency_p95_ms=200.0, error_rate=0.005, hops_ms={"features": 40.0, "model": 60.0})
    assert section.warm.when == Window(days=("mon", "tue", "wed", "thu", "fri"), begin=7, end=19, timezone="Europe/Berlin")
    assert (section.worker.least, section.worker.most, section.worker.wait_s, section.worker.spot) == (0, 8, 10.0, 0.8)
    assert section.batch is not None
    assert section.batch.schedule == Schedule(expression="cron(0 2 * * ? *)", timezone="UTC")
    assert section.retrain == form.Retrain(
        train=ARN,
        fresh_data="s3://bucket-rows/new/",
        drift=0.2,
        schedule=Schedule(expression="cron(0 2 ? * MON *)", timezone="UTC"),
    )
    assert section.budget == form.Budget(month_usd=50.0, per_1k_usd=0.01)
    assert section.log == form.Log(sample=0.01, to="s3://bucket-log/x", keep_days=14)


@pytest.mark.parametrize(
    ("written", "place", "reason"),
    [
        ({}, "deploy.traffic", "is required"),
        ({"traffic": {"peak_rps": 0}}, "deploy.traffic.peak_rps", "greater than 0"),
        ({"traffic": {"peak_rps": 1, "mean_rps": 2}}, "deploy.traffic.mean_rps", "more than the peak"),
        ({"traffic": {"peak_rps": 9, "tenants": {"a": "5/s"}}}, "deploy.traffic.tenants", "neither keys nor usage plans"),
        (with_(endpoint={"auth": "key"}), "deploy.endpoint.auth", "neither keys nor usage plans"),
        (with_(endpoint={"kind": "url", "auth": {"jwt": JWT}}), "deploy.endpoint.auth", "checks no tokens"),
        (with_(endpoint={"kind": "alb", "auth": "iam"}), "deploy.endpoint.auth", "checks no signatures"),
        (with_(endpoint={"auth": {"jwt": {"issuer": "http://x", "audience": "a"}}}), "deploy.endpoint.auth", "an https URL"),
        (with_(endpoint={"auth": "public"}), "deploy.endpoint.auth", "must be iam, key, none"),
        (with_(endpoint={"accept": "public"}), "deploy.endpoint.accept", "add auth: none"),
        (with_(endpoint={"internal": True}), "deploy.endpoint.internal", "load balancer"),
        (with_(endpoint={"kind": "alb2"}), "deploy.endpoint.kind", "must be"),
        (with_(slo={"hops": {"model": "9ms"}}), "deploy.slo.hops", "not said"),
        (with_(slo={"latency_p95": "10ms", "hops": {"model": "9ms", "rest": "2ms"}}), "deploy.slo.hops", "take 11 ms together"),
        (with_(slo={"error_rate": 0}), "deploy.slo.error_rate", "greater than 0"),
        (with_(slo={"error_rate": "120%"}), "deploy.slo.error_rate", "share"),
        (with_(rollout={"steps": [5, 25]}), "deploy.rollout.steps", "end with 100"),
        (with_(rollout={"steps": [25, 5, 100]}), "deploy.rollout.steps", "grow"),
        (with_(rollout={"steps": [5, 100], "codedeploy": "AllAtOnce"}), "deploy.rollout.codedeploy", "one owner"),
        (with_(rollout={"codedeploy": "Canary5"}), "deploy.rollout.codedeploy", "must be"),
        (with_(rollout={"bake": "3h"}), "deploy.rollout.give_up", "less than bake"),
        (with_(warm={"provisioned": 2, "snapstart": True}), "deploy.warm.snapstart", "takes one of them"),
        (with_(warm={"when": "07-19"}), "deploy.warm.when", "there are none"),
        (with_(warm={"provisioned": 2, "on": "alias"}), "deploy.warm.on", "alias with weights"),
        (with_(worker={"tasks": "8..0"}), "deploy.worker.tasks", "0..8 or 2"),
        (with_(worker={"tasks": True}), "deploy.worker.tasks", "0..8 or 2"),
        (with_(retrain={"train": ARN}), "deploy.retrain", "begins never"),
        (with_(retrain={"train": ARN, "when": [{}]}), "deploy.retrain.when[0]", "one of"),
        (with_(retrain={"train": ARN.replace("states", "s3"), "schedule": "weekly"}), "deploy.retrain.train", "state machine"),
        (with_(batch={"from": "s3://bucket/x/", "schedule": "daily"}), "deploy.batch.from", "ends in .jsonl"),
        (with_(data={"from": "s3://bucket", "columns": {"a": "number"}}), "deploy.data", "no table"),
        (with_(budget={"month": "50EUR"}), "deploy.budget.month", "currency"),
        (with_(notify="nobody"), "deploy.notify", "match pattern"),
        (with_(trafic={}), "deploy.trafic", "unknown key"),
        (with_(endpoint={"kinds": "rest"}), "deploy.endpoint.kinds", "did you mean 'kind'"),
        (7, "deploy", "must be a mapping"),
        ([], "deploy", "must be a mapping"),
    ],
)
def test_what_cannot_be_is_refused(written: Any, place: str, reason: str) -> None:
    text = problems(written)
    assert f"{place}: " in text
    assert reason in text


def test_all_problems_are_told_at_once() -> None:
    text = problems({"traffic": {"peak_rps": 1, "mean_rps": 2}, "endpoint": {"auth": "key"}, "warm": {"when": "07-19"}})
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize("written", [with_(warm={"provisioned": 2, "on": "alias"}, rollout={"steps": [100]})])
def test_an_alias_without_weights_may_be_warm(written: Any) -> None:
    assert read(written).warm.on == "alias"


def _recipe(folder: Path, tail: str = "") -> Path:
    for name in ("model.onnx", "eval.npz"):
        (folder / name).touch()
    text = "name: tiny\nsource: {onnx: model.onnx}\ndata: {evaluation: eval.npz}\ntargets: {lambda-zip: {memory_mb: 1769}}\n"
    (folder / "recipe.yaml").write_text(text + tail)
    return folder / "recipe.yaml"


def test_the_section_is_no_part_of_a_build(tmp_path: Path) -> None:
    plain = reader.load(_recipe(tmp_path))
    deployed = reader.load(_recipe(tmp_path, f"deploy: {json.dumps(LEAST)}\n"))
    assert plain.deploy is None
    assert deployed.deploy == LEAST
    assert deployed.digest == plain.digest
    assert deployed == plain


def test_problems_have_their_line(tmp_path: Path) -> None:
    tail = "deploy:\n  traffic: {peak_rps: 5}\n  warm:\n    provisioned: 1\n    snapstart: true\n  slo: {error_rate: x}\n"
    with pytest.raises(RecipeError, match=r"recipe.yaml:10: deploy.slo.error_rate: must be a share"):
        reader.load(_recipe(tmp_path, tail))
    with pytest.raises(RecipeError, match=r"recipe.yaml:9: deploy.warm.snapstart: stands beside"):
        reader.load(_recipe(tmp_path, tail.replace("x}", "1%}")))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2000)
    | st.floats(-1, 10)
    | st.text(max_size=8)
    | st.sampled_from(["2h", "5%", "none"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["when", "kind", "auth", "steps"]), inner, max_size=3)
    ),
    max_leaves=6,
)
_NAMES = [
    "traffic",
    "endpoint",
    "slo",
    "rollout",
    "warm",
    "worker",
    "batch",
    "data",
    "retrain",
    "budget",
    "features",
    "log",
    "notify",
]


@given(st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=4))
def test_anything_is_read_or_refused(written: Any) -> None:
    try:
        assert isinstance(read({**LEAST, **written}), form.Section)
    except RecipeError:
        return
