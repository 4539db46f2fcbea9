"""Each topology is whole: its limits hold, both languages take it, its rights name their resources, its callers go by an alias."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from tests.support.topologies import PROGRAMS, topologies

from mlpack.deploy import grants, render
from mlpack.deploy.design import design
from mlpack.deploy.design.endpoints import balancer_name
from mlpack.deploy.design.parts import bucket_name
from mlpack.deploy.design.tasks import on_fargate
from mlpack.deploy.graph.endpoints import FunctionUrl, HttpApi, LoadBalancer, RestApi
from mlpack.deploy.graph.functions import Alias, Function, Permission
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.roles import Logs, Role
from mlpack.deploy.graph.stores import Queue
from mlpack.deploy.graph.values import Joined
from mlpack.deploy.limits import limits

SERVICES = topologies()
GRAPHS: dict[str, Graph] = {name: design(service, PROGRAMS) for name, service in SERVICES.items()}


@pytest.mark.parametrize("name", SERVICES)
def test_all_limits_hold(name: str) -> None:
    assert [str(each) for each in limits(SERVICES[name], GRAPHS[name]) if not each.holds] == []


@pytest.mark.parametrize("name", SERVICES)
def test_both_languages_take_it(name: str) -> None:
    graph = GRAPHS[name]
    assert json.dumps(render.cloudformation(graph), allow_nan=False) == json.dumps(
        render.cloudformation(design(SERVICES[name], PROGRAMS))
    )
    assert render.terraform(graph)["resource"]
    assert set(render.policies(graph)) == {role.id for role in graph.of(Role)}


@pytest.mark.parametrize("name", SERVICES)
def test_rights_name_their_resources(name: str) -> None:
    for role in GRAPHS[name].of(Role):
        assert grants.wildcards(role.grants) == {}, role.id


@pytest.mark.parametrize("name", SERVICES)
def test_what_runs_is_bounded_and_forgets(name: str) -> None:
    graph = GRAPHS[name]
    assert all(one.reserved is not None and one.timeout_s <= 900 for one in graph.of(Function))
    assert all(one.retention_days for one in graph.of(Logs))
    assert set(graph.tags) == {"service", "team", "env"}
    dead = {one.dead for one in graph.of(Queue)}
    assert all(one.dead is not None or one.id in dead or one.id.endswith("Dead") for one in graph.of(Queue))


@pytest.mark.parametrize("name", SERVICES)
def test_every_function_has_one_alias(name: str) -> None:
    graph = GRAPHS[name]
    assert sorted(one.function for one in graph.of(Alias)) == sorted(one.id for one in graph.of(Function))
    assert {one.alias for one in graph.of(Permission)} <= {one.id for one in graph.of(Alias)}


def test_each_kind_of_endpoint_is_there() -> None:
    kinds: dict[str, type[Any]] = {"http-api": HttpApi, "rest-tenants": RestApi, "alb": LoadBalancer, "function-url": FunctionUrl}
    for name, kind in kinds.items():
        assert len(GRAPHS[name].of(kind)) == 1
    for kind in kinds.values():
        assert not GRAPHS["no-endpoint"].of(kind)
    assert len(GRAPHS["rest-tenants"].of(RestApi)[0].tenants) == 2


def test_load_balancers_have_names_of_their_own() -> None:
    stacks = ["a" * 30 + "-prod", "a" * 30 + "-preprod", "internal-model-prod", "model-prod", "b" * 22 + "-" + "c" * 20]
    names = [balancer_name(stack) for stack in stacks]
    assert len(set(names)) == len(stacks)
    assert all(len(name) <= 32 and not name.startswith("internal-") and "--" not in name for name in names)
    assert names[3] == "model-prod"


@pytest.mark.parametrize(("spot", "weights"), [(0.001, (99, 1)), (0.07, (93, 7)), (0.8, (1, 4)), (0.97, (3, 97)), (1.0, (1, 99))])
def test_any_share_of_spot_leaves_a_weight_to_both(spot: float, weights: tuple[int, int]) -> None:
    assert on_fargate(spot) == (("FARGATE", 1, weights[0]), ("FARGATE_SPOT", 0, weights[1]))
    assert on_fargate(0.0) == (("FARGATE", 0, 1),)


@pytest.mark.parametrize(("name", "environment"), [("m" * 30, "preproduction-1"), ("m", "Prod"), ("m", "prod"), ("m", "PROD")])
def test_names_of_buckets_fit(name: str, environment: str) -> None:
    service = dataclasses.replace(SERVICES["http-api"], name=name, environment=environment)
    written = bucket_name(service, "artifacts")
    assert isinstance(written, Joined)
    assert re.fullmatch(r"[a-z0-9-]{3,51}", str(written.parts[0]))
    others = {str(bucket_name(dataclasses.replace(service, environment=one), "artifacts")) for one in ("Prod", "prod", "PROD")}
    assert len(others) == 3
