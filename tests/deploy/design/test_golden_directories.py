"""Each topology against its golden directory: the plan, and what the template has of it.

Alarms and dashboards are left out, and documents in one text: they have tests of their own. After a change that is meant:
`MLPACK_GOLDEN=write pytest tests/deploy/design/test_golden_directories.py`, and read the difference.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.golden import GOLDEN, golden
from tests.support.topologies import PROGRAMS, topologies

from mlpack.deploy import plan_page, render
from mlpack.deploy.design import design
from mlpack.deploy.planning import plan

SERVICES = topologies()
_APART = ("AWS::CloudWatch::", "AWS::Logs::", "AWS::Budgets::", "AWS::CE::")
_DOCUMENTS = ("DefinitionString", "Body", "UserData")


def essence(template: dict[str, Any]) -> dict[str, Any]:
    """The template without what is watched, and without tags and documents."""
    resources = {}
    for name, one in template["Resources"].items():
        if not one["Type"].startswith(_APART):
            kept = {key: value for key, value in one["Properties"].items() if key != "Tags"}
            resources[name] = {**one, "Properties": {key: "..." if key in _DOCUMENTS else value for key, value in kept.items()}}
    return {**template, "Resources": resources}


@pytest.mark.parametrize("name", SERVICES)
def test_a_topology_is_as_its_directory_has_it(name: str) -> None:
    (GOLDEN / "deploy" / name).mkdir(parents=True, exist_ok=True)
    graph = design(SERVICES[name], PROGRAMS)
    template = essence(render.cloudformation(graph))
    golden(f"deploy/{name}/template.json", json.dumps(template, indent=1) + "\n")
    golden(f"deploy/{name}/PLAN.md", plan_page.markdown(plan(SERVICES[name], graph), {}))
