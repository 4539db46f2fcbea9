"""Every topology: both languages say the same, and no rule finds a fault where none is."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tests.support.topologies import topologies

from mlpack.deploy.check.facts.reading import of_cloudformation, of_terraform
from mlpack.deploy.check.facts.table import of_one_language
from mlpack.deploy.check.rules.all import findings
from mlpack.deploy.design import design
from mlpack.deploy.render import cloudformation, terraform

TOPOLOGIES = topologies()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_topology_is_sound_and_the_same_twice(name: str) -> None:
    graph = design(TOPOLOGIES[name])
    one = of_cloudformation("service.cfn.json", json.loads(json.dumps(cloudformation(graph))))
    other = of_terraform("service.tf.json", json.loads(json.dumps(terraform(graph))))
    assert [str(each) for facts in (one, other) for each in findings(facts)] == []
    for part in one.parts.values():
        if part.kind != "version":
            twin = other.parts[part.id]
            for fact in {*part.facts, *twin.facts} - of_one_language(part.kind):
                assert part[fact] == twin[fact], part.key(fact)


def test_an_open_address_takes_two_rights() -> None:
    graph = design(TOPOLOGIES["function-url"])
    template, configuration = cloudformation(graph), json.loads(json.dumps(terraform(graph)))
    del template["Resources"]["EndpointMayInvoke"]["Properties"]["InvokedViaFunctionUrl"]
    stack = configuration["resource"]["aws_cloudformation_stack"]["EndpointMayInvoke"]
    assert json.loads(stack["template_body"])["Resources"]["EndpointMayInvoke"]["Properties"]["InvokedViaFunctionUrl"] is True
    del configuration["resource"]["aws_cloudformation_stack"]
    for facts in (of_cloudformation("f", template), of_terraform("f", configuration)):
        assert any("takes lambda:InvokeFunction, too" in str(each) for each in findings(facts))


@pytest.mark.parametrize("name", ["http-api", "http-api-jwt", "rest-tenants"])
def test_preflights_reach_a_package_with_cors(name: str) -> None:
    service = TOPOLOGIES[name]
    graph = design(
        dataclasses.replace(service, package=dataclasses.replace(service.package, cors={"origins": ["https://a.example"]}))
    )
    one = of_cloudformation("f", json.loads(json.dumps(cloudformation(graph))))
    other = of_terraform("f", json.loads(json.dumps(terraform(graph))))
    for facts in (one, other):
        assert [str(each) for each in findings(facts)] == []
        asked = {str(part["key"]): part["auth"] for part in facts.of("route")}
        bodies = [part["body"]["paths"].values() for part in facts.of("rest")]
        assert all(auth == "NONE" for key, auth in asked.items() if key.startswith("OPTIONS"))
        assert len([key for key in asked if key.startswith("OPTIONS")]) == (0 if bodies else 2)
        assert all(item["options"]["security"] == [] for paths in bodies for item in paths)
