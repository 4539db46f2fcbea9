"""Any section is designed or refused: never a bug, never two answers, and what fits has no limit that does not hold."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.deployments import service
from tests.support.topologies import PROGRAMS

from mlpack.core.yaml_positions import PlacedError
from mlpack.deploy import grants, render
from mlpack.deploy.design import design
from mlpack.deploy.graph.roles import Role
from mlpack.deploy.planning import plan
from mlpack.recipe.deployment import deployment

ANY = st.sampled_from
SECTIONS = st.fixed_dictionaries(
    {"traffic": st.fixed_dictionaries({"peak_rps": ANY([0.5, 3, 50, 900, 20_000])}, optional={"burst": ANY([1, 50, 5000])})},
    optional={
        "endpoint": st.fixed_dictionaries(
            {"kind": ANY(["http-api", "rest", "alb", "url", "none"])},
            optional={"auth": ANY(["iam", "key", "none"]), "accept": ANY(["public"]), "internal": st.booleans()},
        ),
        "slo": st.fixed_dictionaries({}, optional={"latency_p95": ANY(["5ms", "200ms"]), "error_rate": ANY(["0.1%", 0.05])}),
        "rollout": ANY(
            [{}, {"steps": [100]}, {"steps": [1, 100], "bake": "1min"}, {"codedeploy": "AllAtOnce"}, {"give_up": "20min"}]
        ),
        "warm": ANY([{}, {"provisioned": 3}, {"provisioned": 1, "when": "sat 20-24"}, {"snapstart": True}]),
        "worker": ANY([{}, {"tasks": 2, "wait": "1s"}, {"tasks": "1..9", "spot": "50%", "wait": "2min"}, {"on": "ec2"}]),
        "batch": ANY([{"from": "s3://bucket-in/x"}, {"from": "s3://bucket-in/x/a.csv", "schedule": "hourly", "items": 10_000}]),
        "features": ANY([{"table": "users", "key": "id"}, {"table": "users", "key": "id", "type": "N", "create": False}]),
        "data": ANY([{"from": "s3://bucket-rows", "columns": {"age": "number"}}]),
        "budget": ANY([{"month": 10}, {"per_1k": "0.5USD"}]),
        "log": ANY([{"keep": "1d"}, {"keep": "999d"}]),
    },
)
KINDS = ANY([("lambda-zip", False), ("lambda-image", False), ("container", False), ("worker", False), ("worker", True)])


@settings(max_examples=10, deadline=None)
@given(SECTIONS, KINDS, ANY([1, 128, 1769, 10_240, 100_000]))
def test_any_section_is_designed_or_refused(written: dict[str, Any], kind: tuple[str, bool], memory_mb: int) -> None:
    try:
        one = service(kind[0], deployment(written), gpu=kind[1], memory_mb=memory_mb)
        graph = design(one, PROGRAMS)
    except PlacedError as error:
        assert all(each.place[0] == "deploy" and each.message for each in error.found)  # noqa: PT017
        return
    told = plan(one, graph)
    assert told.fits == (all(limit.holds for limit in told.limits) and not told.bill.over(one.deploy.budget))
    assert json.dumps(render.cloudformation(graph), allow_nan=False) == json.dumps(render.cloudformation(design(one, PROGRAMS)))
    render.terraform(graph)
    json.dumps(told.to_json(), allow_nan=False)
    assert told.text()
    assert all(not grants.wildcards(role.grants) for role in graph.of(Role))
