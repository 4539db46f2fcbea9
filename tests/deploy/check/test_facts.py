"""Facts: read back from both languages they are the same, for graphs by hand and for random ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.deploy_graphs import function, graph, graphs

from mlpack.deploy.check.facts.reading import Facts, of_cloudformation, of_terraform
from mlpack.deploy.check.facts.table import TABLE, of_one_language
from mlpack.deploy.check.rules.all import findings
from mlpack.deploy.graph.endpoints import HttpApi, Jwt, Route, Throttle
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.roles import Logs
from mlpack.deploy.graph.stores import Bucket, Queue, Source, Table, Topic
from mlpack.deploy.graph.values import Context, Id, Joined, Parameter, Ref
from mlpack.deploy.graph.watching import Alarm, Metric
from mlpack.deploy.render import cloudformation, terraform

GRAPHS = graphs()
ALONE = {"version", "warmth"}
"""Kinds that one language has: a version is the function's own in Terraform, warmth is the version's own in CloudFormation."""
UNREAD = {"FreshTarget", "SmallsTarget", "RestSettings", "RestDeployment", "Warm1", "Warm2"}


def both(of: Graph) -> tuple[Facts, Facts]:
    """Through the text, as files have them."""
    read = [json.loads(json.dumps(each(of))) for each in (cloudformation, terraform)]
    return of_cloudformation("service.cfn.json", read[0]), of_terraform("service.tf.json", read[1])


def assert_same(of: Graph) -> None:
    one, other = both(of)
    alone = [{part.id for part in each.parts.values() if part.kind in ALONE} for each in (one, other)]
    assert set(one.parts) - alone[0] == set(other.parts) - alone[1]
    for part in one.parts.values():
        if part.kind not in ALONE:
            skipped = of_one_language(part.kind)
            pair = [{k: v for k, v in each.facts.items() if k not in skipped} for each in (part, other.parts[part.id])]
            assert pair[0] == pair[1], part.id


@pytest.mark.parametrize("name", GRAPHS)
def test_facts_are_the_same_in_both_languages(name: str) -> None:
    assert_same(GRAPHS[name])
    one, other = both(GRAPHS[name])
    assert [each for each in one.unknown if not each.startswith("RestDeployment")] == []
    assert {each for each in other.unknown if not each.startswith("Items")} <= UNREAD
    assert not any(
        "no JSON" in repr(value) for each in (one, other) for part in each.parts.values() for value in part.facts.values()
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_rules_find_nothing_in_a_sound_graph(name: str) -> None:
    assert [finding for each in both(GRAPHS[name]) for finding in findings(each)] == []


def test_graphs_have_every_kind_and_nearly_every_fact() -> None:
    seen: dict[str, set[str]] = {}
    for each in GRAPHS.values():
        for facts in both(each):
            for part in facts.parts.values():
                seen.setdefault(part.kind, set()).update(part.facts)
    assert set(seen) == set(TABLE)
    rest = {f"{kind} {name}" for kind, (_, _, row) in TABLE.items() for name in set(row) - seen[kind]}
    single = {f"alarm {name}" for name in ("namespace", "metric", "dimensions", "statistic", "extended", "period")}
    unused = {"logs key", "function key", "function dead", "queue key", "topic key", "table key", "function layers"}
    unused |= {"function snapstart", "alias weights", "alias provisioned", "service launch type", "rule expression"}
    assert rest <= single | unused


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
KEYS = st.none() | st.builds(Parameter, st.just("Key"), st.just("a key"))
VALUES = st.recursive(
    TEXT
    | st.sampled_from([Context("account"), Context("region"), Context("partition"), Parameter("Given", "something")])
    | st.sampled_from([Ref(Id(f"Model{end}"), at) for end, at in (("", "arn"), ("", "name"), ("Logs", "arn"), ("Role", "name"))])
    | st.sampled_from([Ref(Id("ModelLive")), Ref(Id("ModelFirst"), "version"), Ref(Id("Work"), "url"), Ref(Id("Items"), "name")]),
    lambda inner: st.builds(lambda parts: Joined(tuple(parts)), st.lists(inner, min_size=1, max_size=4)),
    max_leaves=6,
)


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """A function, a queue, a bucket, a table, a topic, an API and an alarm, with anything in them."""
    number = st.integers(1, 100_000)
    environment = draw(st.dictionaries(st.from_regex(r"[A-Z][A-Z_]{0,8}", fullmatch=True), VALUES, max_size=4))
    own: dict[str, Any] = {
        "environment": environment, "memory_mb": draw(number), "timeout_s": draw(number), "reserved": draw(st.none() | number),
        "snapstart": draw(st.booleans()), "tracing": draw(st.booleans()), "key": draw(KEYS), "dead_letters": Ref(Id("Dead")),
        "ephemeral_mb": draw(number), "architecture": draw(st.sampled_from(["x86_64", "arm64"])),
    }  # fmt: skip
    auth = draw(st.sampled_from(["iam", "none", Jwt(issuer="https://issuer.example", audience=("a", "b"))]))
    metric = Metric(
        namespace=draw(TEXT), name=draw(TEXT), dimensions=tuple((name, draw(VALUES)) for name in draw(st.sets(NAMES, max_size=2))),
        statistic=draw(st.sampled_from(["Sum", "p95", "Average", "TM(5%:95%)"])), period_s=draw(number),
    )  # fmt: skip
    return graph(
        *function("Model", **own),
        Queue(id=Id("Dead"), name="dead", visibility_s=draw(number), retention_s=draw(number), key=draw(KEYS)),
        Queue(
            id=Id("Work"), name=draw(NAMES), visibility_s=draw(number), retention_s=draw(number),
            dead=draw(st.none() | st.just(Id("Dead"))),
            receives=draw(number), senders=(("s3.amazonaws.com", draw(VALUES)),),
        ),
        Source(
            id=Id("Take"), queue=Id("Work"), alias=Id("ModelLive"), batch=draw(number), window_s=draw(number),
            most_at_once=draw(number),
        ),
        Bucket(
            id=Id("Items"), name=draw(st.none() | VALUES), expire_days=draw(st.none() | number), versioned=draw(st.booleans()),
            key=draw(KEYS),
        ),
        Table(
            id=Id("Rows"), name=draw(NAMES), hash_key=("a", "S"), range_key=draw(st.none() | st.just(("b", "N"))),
            ttl=draw(st.none() | NAMES), recovery=draw(st.booleans()), key=draw(KEYS),
        ),
        Topic(id=Id("Pager"), name=draw(NAMES), key=draw(KEYS), services=("cloudwatch.amazonaws.com",)),
        Logs(id=Id("ApiLogs"), name=draw(TEXT), retention_days=draw(number)),
        HttpApi(
            id=Id("Api"), name=draw(TEXT), alias=Id("ModelLive"), auth=auth, logs=Id("ApiLogs"), timeout_ms=draw(number),
            routes=(Route(method="POST", path=draw(TEXT)),), throttle=Throttle(rate=draw(number), burst=draw(number)),
        ),
        Alarm(
            id=Id("Red"), name=draw(TEXT), description=draw(TEXT), metric=metric, comparison=">", threshold=draw(number),
            periods=draw(number), points=draw(number), missing="ignore", actions=(Ref(Id("Pager")),),
        ),
    )  # fmt: skip


@given(random_graphs())
@settings(max_examples=25)
def test_facts_of_random_graphs_are_the_same(of: Graph) -> None:
    assert_same(of)
    for facts in both(of):
        findings(facts)  # whatever they say, they say it


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | TEXT | st.just({"Ref": "Model"}) | st.just({"Fn::GetAtt": ["Model", "Arn"]}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PLACES = [
    (name, kind, key)
    for name, of in GRAPHS.items()
    for kind, part in cloudformation(of)["Resources"].items()
    for key in part["Properties"]
]


@given(st.sampled_from(PLACES), JSON)
@settings(max_examples=60)
def test_rules_bear_whatever_an_override_says(place: tuple[str, str, str], value: object) -> None:
    template = cloudformation(GRAPHS[place[0]])
    template["Resources"][place[1]]["Properties"][place[2]] = value
    findings(of_cloudformation("service.cfn.json", template))
