"""Both renderers: every noun, real names, nothing that a later apply would undo."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from tests.support.deploy_graphs import endpoint, function, graph, graphs

from mlpack.deploy.graph import endpoints, functions, machines, roles, stores, tasks, watching
from mlpack.deploy.graph.values import Id, Joined, Node, Parameter, Ref
from mlpack.deploy.render import cloudformation, documents, parameters, policies, terraform, variables
from mlpack.deploy.render.cfn.language import intrinsic

GRAPHS = graphs()
NOUNS = {
    kind
    for module in (endpoints, functions, machines, roles, stores, tasks, watching)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Node) and kind is not Node
}


def test_graphs_hold_every_noun() -> None:
    assert {type(node) for each in GRAPHS.values() for node in each.nodes} == NOUNS


@pytest.mark.parametrize("name", GRAPHS)
def test_every_noun_has_a_resource_by_its_id(name: str) -> None:
    written = terraform(GRAPHS[name])["resource"]
    resources = {key for each in written.values() for key in each}
    template = cloudformation(GRAPHS[name])["Resources"]
    for node in GRAPHS[name].nodes:
        standing = isinstance(node, functions.Provisioned) and not node.schedule  # stands at the version there
        assert node.id in template or standing
        assert node.id in resources or isinstance(node, functions.Version)


@pytest.mark.parametrize("name", GRAPHS)
def test_references_name_what_is_there(name: str) -> None:
    document = terraform(GRAPHS[name])
    there = {f"{kind}.{key}" for kind, each in document["resource"].items() for key in each}
    text = json.dumps(document["resource"])
    assert set(re.findall(r"\$\{(aws_\w+\.\w+)", text)) <= there
    assert set(re.findall(r"\$\{var\.(\w+)", text)) <= set(document.get("variable", {}))
    template = cloudformation(GRAPHS[name])
    known = {*template["Resources"], *template.get("Parameters", {})}
    text = json.dumps(template["Resources"])
    named = set(re.findall(r'"Ref": "(\w+)"', text)) | set(re.findall(r'"Fn::GetAtt": \["(\w+)"', text))
    subs = {part for each in _subs(template["Resources"]) for part in re.findall(r"\$\{(\w+)[.}]", each)}
    assert named | subs <= known


def _subs(tree: object) -> list[str]:
    if isinstance(tree, dict):
        own = [tree["Fn::Sub"]] if isinstance(tree.get("Fn::Sub"), str) else []
        return own + [text for value in tree.values() for text in _subs(value)]
    return [text for value in tree for text in _subs(value)] if isinstance(tree, list) else []


@pytest.mark.parametrize("name", GRAPHS)
def test_same_graph_same_bytes(name: str) -> None:
    for renderer in (cloudformation, terraform, policies):
        assert json.dumps(renderer(graphs()[name])) == json.dumps(renderer(graphs()[name]))


def test_alias_is_moved_by_no_later_apply() -> None:
    written = GRAPHS["endpoint"]
    alias = terraform(written)["resource"]["aws_lambda_alias"]["ModelLive"]
    assert alias["lifecycle"] == {"ignore_changes": ["function_version", "routing_config"]}
    template = cloudformation(written)["Resources"]
    assert template["ModelLive"]["Properties"]["FunctionVersion"] == {"Fn::GetAtt": ["ModelFirst", "Version"]}
    assert template["ModelFirst"] == {
        "Type": "AWS::Lambda::Version",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {"FunctionName": {"Ref": "Model"}},
    }


def test_literal_text_stays_what_it_is() -> None:
    written = GRAPHS["endpoint"]
    variables_ = cloudformation(written)["Resources"]["Model"]["Properties"]["Environment"]["Variables"]
    assert variables_ == {"LOG": "full ${x}", "QUEUE": {"Ref": "AWS::Region"}}
    model = terraform(written)["resource"]["aws_lambda_function"]["Model"]
    assert model["environment"]["variables"] == {"LOG": "full $${x}", "QUEUE": "${data.aws_region.current.name}"}
    joined = graph(*function("Model", environment={"A": Joined(("${not}", Ref(Id("ModelLogs"), "name"), "%{if}"))}))
    environment = cloudformation(joined)["Resources"]["Model"]["Properties"]["Environment"]
    assert environment == {"Variables": {"A": {"Fn::Sub": "${!not}${ModelLogs}%{if}"}}}


def test_unknown_attribute_is_refused_by_name() -> None:
    wrong = graph(*function("Model", environment={"A": Ref(Id("ModelLogs"), "url")}))
    for renderer in (cloudformation, terraform):
        with pytest.raises(ValueError, match="ModelLogs is a Logs, which has no attribute 'url': arn, name"):
            renderer(wrong)


def test_key_before_an_http_api_is_refused() -> None:
    for renderer in (cloudformation, terraform):
        with pytest.raises(ValueError, match="Api: an HTTP API knows no keys; a REST API does"):
            renderer(graph(*endpoint("key")))


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("plain", "plain"),
        ("a ${!b}", "a ${b}"),
        ("${A}", {"Ref": "A"}),
        ("${AWS::Region}", {"Ref": "AWS::Region"}),
        ("${A.Arn}", {"Fn::GetAtt": ["A", "Arn"]}),
        ("${A.Arn}:*", {"Fn::Sub": "${A.Arn}:*"}),
    ],
)
def test_intrinsics_are_the_shortest_form(template: str, form: object) -> None:
    assert intrinsic(template) == form


def test_parameters_say_what_is_left_to_fill_in() -> None:
    written = GRAPHS["workers"]
    given = parameters(written, "prod", {"Subnets": "subnet-1, subnet-2"})["Parameters"]
    assert given == {
        "Image": "FILL IN for prod: address of the image, by digest",
        "Subnets": "subnet-1, subnet-2",
        "Vpc": "FILL IN for prod: the network",
    }
    assert variables(written, "prod", {"Subnets": "subnet-1, subnet-2"})["Subnets"] == ["subnet-1", "subnet-2"]
    assert {each.name for each in written.parameters} == set(given)
    assert all(isinstance(each, Parameter) for each in written.parameters)


def test_policies_say_who_and_why() -> None:
    role = policies(GRAPHS["workers"])["WorkerRole"]
    assert role["Taken by"] == "ecs-tasks.amazonaws.com"
    assert role["Why"] == ["to sqs:ReceiveMessage"]
    assert role["PolicyDocument"]["Statement"][0]["Resource"] == ["${Work.Arn}"]
    assert roles.Role.__doc__


def test_a_rest_api_is_of_the_openapi_that_aws_takes() -> None:
    operation = {"operationId": "call", "requestBody": {"content": {}}, "responses": {"200": {"description": "", "content": {}}}}
    schema = {"X": {"type": ["string", "null"]}}
    document = {"openapi": "3.1.1", "info": {"title": "x", "version": "7"}, "paths": {"/": {"post": operation, "parameters": []}}}
    api = next(node for node in GRAPHS["tenants"].nodes if isinstance(node, endpoints.RestApi))
    body = documents.openapi(dataclasses.replace(api, document={**document, "components": {"schemas": schema}}))
    assert (body["openapi"], body["info"]["version"], list(body["paths"]["/"])) == ("3.0.1", "7", ["post"])
    assert body["paths"]["/"]["post"].keys() == {"responses", "security", "x-amazon-apigateway-integration"}
    assert body["components"] == {"securitySchemes": {"caller": {"type": "apiKey", "name": "x-api-key", "in": "header"}}}


def test_rest_deployment_is_made_anew_with_its_document() -> None:
    first = cloudformation(GRAPHS["tenants"])["Resources"]
    deployment = next(name for name in first if name.startswith("RestDeployment"))
    assert first["RestStage"]["Properties"]["DeploymentId"] == {"Ref": deployment}
