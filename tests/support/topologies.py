"""A service of each topology, by the name of its golden directory."""

from __future__ import annotations

from tests.support.deployments import CACHE, FEATURES, section, service

from mlpack.deploy.service import Service
from mlpack.recipe.deploy.section import Batch, Data, Endpoint, FeatureTable, Jwt, Retrain, Traffic, Warm, Worker
from mlpack.recipe.deploy.times import parse_schedule, parse_window

KEYS = {"api_keys": {"header": "x-api-key", "env": "KEYS"}}
TRAIN = "arn:aws:states:eu-central-1:123456789012:stateMachine:train"
PROGRAMS = {"controller": "c0" * 32, "jobs": "10" * 32}
"""Digests of mlpack's own programs that no change of theirs changes."""


def topologies() -> dict[str, Service]:
    """Every one that the issue of the deploy plane names."""
    tenants = Traffic(peak_rps=50.0, mean_rps=5.0, tenants={"free": 5.0, "gold": 50.0})
    jwt = Jwt(issuer="https://id.example/", audience=("shop",))
    daily = parse_schedule("daily 02:00 Europe/Berlin")
    around = {"features": FEATURES, "cache": CACHE, "log": {"to": "s3://bucket-log/x", "sample": 0.01}}
    return {
        "http-api": service(),
        "http-api-jwt": service("lambda-image", section(endpoint=Endpoint(auth=jwt))),
        "rest-tenants": service(deploy=section(endpoint=Endpoint(kind="rest", auth="key"), traffic=tenants)),
        "alb": service(deploy=section(endpoint=Endpoint(kind="alb", auth="none")), authorize=KEYS),
        "function-url": service(
            deploy=section(
                endpoint=Endpoint(kind="url", auth="none", public=True),
                warm=Warm(provisioned=2, when=parse_window("mon-fri 07-19 Europe/Berlin")),
            )
        ),
        "no-endpoint": service(deploy=section(endpoint=Endpoint(kind="none"), warm=Warm(snapstart=True))),
        "features-cache": service(deploy=section(features=FeatureTable(table="users", key="user_id")), **around),
        "cpu-workers": service("worker", section(worker=Worker(most=8, spot=0.8))),
        "gpu-workers": service("worker", section(worker=Worker(most=4, spot=0.8, wait_s=1.0)), gpu=True),
        "batch-scheduled": service(deploy=section(batch=Batch(source="s3://bucket-in/day/items.jsonl", schedule=daily))),
        "batch-events": service(deploy=section(batch=Batch(source="s3://bucket-in/requests", items=10))),
        "workers-batch": service("worker", section(batch=Batch(source="s3://bucket-in/requests"), endpoint=Endpoint(kind="none"))),
        "workers-batch-scheduled": service("worker", section(batch=Batch(source="s3://bucket-in/a.csv", schedule=daily))),
        "data-plane": service(
            deploy=section(
                features=FeatureTable(table="users", key="user_id"),
                data=Data(source="s3://bucket-rows/new/", columns={"age": "number"}),
            ),
            features=FEATURES,
        ),
        "retrain": service(
            deploy=section(
                retrain=Retrain(train=TRAIN, fresh_data="s3://bucket-rows/new/", drift=0.2, schedule=parse_schedule("weekly"))
            ),
            log={"to": "s3://bucket-log/x", "sample": 0.01},
        ),
        "container": service("container", section(endpoint=Endpoint(kind="alb", internal=True))),
    }
