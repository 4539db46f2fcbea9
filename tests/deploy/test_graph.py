"""The graph of a deployment: who is named is there, and what environments give is collected once."""

from __future__ import annotations

import pytest

from mlpack.deploy.graph.functions import Alias, Function, Image, Version
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.roles import Grant, Logs, Role
from mlpack.deploy.graph.values import Id, Joined, Node, Parameter, Ref

IMAGE = Parameter("Image", "address of the image, by digest")


def nodes(**changes: object) -> tuple[Node, ...]:
    grant = Grant(actions=("logs:PutLogEvents",), resources=(Joined((Ref(Id("Lines")), ":*")),), why="log lines")
    settings = {
        "id": Id("Model"),
        "name": "model",
        "role": Id("ModelRole"),
        "code": Image(uri=IMAGE),
        "architecture": "arm64",
        "memory_mb": 512,
        "timeout_s": 10,
        "logs": Id("Lines"),
        "environment": {"IMAGE": IMAGE},
    }
    return (
        Logs(id=Id("Lines"), name="/aws/lambda/model", retention_days=30),
        Role(id=Id("ModelRole"), service="lambda.amazonaws.com", grants=(grant,)),
        Function(**settings | changes),  # type: ignore[arg-type]
        Version(id=Id("First"), function=Id("Model")),
        Alias(id=Id("Live"), function=Id("Model"), version=Id("First")),
    )


def graph(*all_nodes: Node) -> Graph:
    return Graph(name="fashion", environment="prod", nodes=all_nodes, tags={})


def test_nodes_are_found_by_kind_and_id() -> None:
    one = graph(*nodes())
    assert [node.id for node in one.of(Alias)] == ["Live"]
    assert isinstance(one["Model"], Function)
    assert one.parameters == (IMAGE,)


@pytest.mark.parametrize("field", ["role", "logs"])
def test_a_node_that_is_named_has_to_be_there(field: str) -> None:
    with pytest.raises(ValueError, match=r"not there.*Gone"):
        graph(*nodes(**{field: Id("Gone")}))


def test_a_reference_inside_a_value_counts() -> None:
    with pytest.raises(ValueError, match=r"not there.*Table"):
        graph(*nodes(environment={"TABLE": Joined(("a/", Ref(Id("Table"), "name")))}))


@pytest.mark.parametrize("name", ["model", "1Model", "Mo-del", "", "M" * 65])
def test_ids_are_logical_ids(name: str) -> None:
    with pytest.raises(ValueError, match="no logical id"):
        graph(Logs(id=Id(name), name="x", retention_days=1))


def test_an_id_stands_for_one_node() -> None:
    with pytest.raises(ValueError, match="two nodes"):
        graph(*nodes(), *nodes())
