"""What a package cannot do is refused with its reason and key."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.deployments import FEATURES, section, service

from mlpack.core.yaml_positions import PlacedError
from mlpack.deploy.design import refusals
from mlpack.recipe.deploy.section import Endpoint, FeatureTable, Log, Rollout, Warm, Worker

EFS = {"from": "s3://bucket-weights/x", "cache": ["/mnt/efs", "/tmp"]}
TMP = {"from": "s3://bucket-weights/x", "cache": ["/tmp"]}


@pytest.mark.parametrize(
    ("kind", "asked", "package", "place", "reason"),
    [
        ("lambda-zip", {"endpoint": Endpoint(auth="none")}, {}, "deploy.endpoint.auth", "accept: public"),
        ("lambda-zip", {"endpoint": Endpoint(kind="alb")}, {}, "deploy.endpoint.auth", "has to be said"),
        ("lambda-zip", {"endpoint": Endpoint(kind="url")}, {"cors": {"origins": ["*"]}}, "deploy.endpoint.kind", "preflights"),
        ("container", {"endpoint": Endpoint(kind="url")}, {}, "deploy.endpoint.kind", "load balancer"),
        ("lambda-image", {"warm": Warm(snapstart=True)}, {}, "deploy.warm.snapstart", "zips alone"),
        ("lambda-zip", {"warm": Warm(snapstart=True)}, {"weights": EFS}, "deploy.warm.snapstart", "EFS"),
        ("lambda-zip", {"warm": Warm(snapstart=True)}, {"weights": TMP, "weight_bytes": 10**9}, "deploy.warm.snapstart", "512 MB"),
        ("lambda-zip", {"rollout": Rollout(bake_s=3e5, give_up_s=3e5)}, {}, "deploy.rollout.bake", "takes 10.4 days at least"),
        ("worker", {"warm": Warm(provisioned=1)}, {}, "deploy.warm.provisioned", "is Lambda's"),
        ("worker", {"worker": Worker(on="fargate")}, {"gpu": True}, "deploy.worker.on", "Fargate has no GPUs"),
        ("worker", {}, {"door": None}, "deploy.worker", "frontdoor.zip"),
        (
            "lambda-zip",
            {"features": FeatureTable(table="u", key="user_id")},
            {"features": FEATURES},
            "deploy.features.table",
            "users",
        ),
        (
            "lambda-zip",
            {"features": FeatureTable(table="users", key="k")},
            {"features": FEATURES},
            "deploy.features.key",
            "user_id",
        ),
        ("lambda-zip", {"log": Log(sample=0.1)}, {}, "deploy.log.sample", "logs no predictions"),
        ("lambda-zip", {"log": Log(sample=0.1)}, {"log": {"to": "s3://b", "sample": 0.5}}, "deploy.log.sample", "built with 0.5"),
    ],
)
def test_what_a_package_cannot_do_is_refused(
    kind: str, asked: dict[str, Any], package: dict[str, Any], place: str, reason: str
) -> None:
    with pytest.raises(PlacedError) as caught:
        refusals.check(service(kind, section(**asked), **package))
    assert f"{place}: " in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "asked", "package"),
    [
        ("lambda-zip", {"endpoint": Endpoint(auth="none", public=True)}, {}),
        ("lambda-zip", {"endpoint": Endpoint(auth="none")}, {"authorize": {"api_keys": {"env": "KEYS"}}}),
        ("lambda-zip", {"endpoint": Endpoint(kind="alb", internal=True)}, {}),
        ("lambda-zip", {"warm": Warm(snapstart=True)}, {"weights": {**TMP, "cache": ["memory"]}, "weight_bytes": 10**9}),
        ("worker", {"worker": Worker(on="ec2")}, {"gpu": True}),
    ],
)
def test_what_goes_together_is_taken(kind: str, asked: dict[str, Any], package: dict[str, Any]) -> None:
    refusals.check(service(kind, section(**asked), **package))


def test_long_names_are_refused() -> None:
    import dataclasses

    with pytest.raises(PlacedError, match="more than 48 letters"):
        refusals.check(dataclasses.replace(service(), name="a" * 50))
