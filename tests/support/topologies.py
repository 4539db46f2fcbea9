"""A service of each topology, by the name of its golden directory."""

from __future__ import annotations

from tests.support.deployments import CACHE, FEATURES, section, service

from mlpack.deploy.service import Service
from mlpack.recipe.deploy.section import Endpoint, FeatureTable, Jwt, Traffic, Warm, Worker
from mlpack.recipe.deploy.times import parse_window

KEYS = {"api_keys": {"header": "x-api-key", "env": "KEYS"}}
PROGRAMS = {"controller": "c0" * 32, "jobs": "10" * 32}
"""Digests of mlpack's own programs that no change of theirs changes."""


def topologies() -> dict[str, Service]:
    """Every one that the issue of the deploy plane names."""
    tenants = Traffic(peak_rps=50.0, mean_rps=5.0, tenants={"free": 5.0, "gold": 50.0})
    jwt = Jwt(issuer="https://id.example/", audience=("shop",))
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
        "container": service("container", section(endpoint=Endpoint(kind="alb", internal=True))),
    }
