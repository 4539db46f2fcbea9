"""The shorter ways of `tests/support/services/moto_hurry.py` give moto's own answers."""

from __future__ import annotations

import base64
import copy
import string
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from moto.dynamodb.exceptions import TransactionCanceledException
from moto.dynamodb.models import DynamoDBBackend, dynamo_type, table, utilities
from tests.support.services import moto_hurry

PARTITIONS = ("a", "b")
SORTS = [f"{number:02d}" for number in range(12)] + ["é", "zz"]
VALUES = st.one_of(
    st.text("aé\U0001f916", max_size=5).map(lambda text: {"S": text}),
    st.integers(-(10**30), 10**30).map(lambda number: {"N": str(number)}),
    st.sampled_from([{"N": "007"}, {"N": "1.50"}, {"N": "1E3"}, {"BOOL": True}, {"NULL": True}, {"SS": ["x", "y"]}]),
    st.binary(max_size=5).map(lambda data: {"B": base64.b64encode(data).decode()}),
    st.just({"M": {"deep": {"L": [{"N": "1"}, {"S": "é"}]}}}),
)
ATTRIBUTES = st.dictionaries(st.sampled_from(["rev", "head", "body"]), VALUES)
KEYS = st.tuples(st.sampled_from(PARTITIONS), st.sampled_from(SORTS))
ROWS = st.dictionaries(KEYS, ATTRIBUTES, max_size=20)


def item(key: tuple[str, str], attributes: dict[str, Any]) -> dict[str, Any]:
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}, **attributes}


def backend(rows: dict[tuple[str, str], dict[str, Any]]) -> DynamoDBBackend:
    made = DynamoDBBackend("eu-central-1", "123456789012")
    named = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")]
    made.create_table(
        "t",
        schema=[{"AttributeName": name, "KeyType": kind} for name, kind in (("pk", "HASH"), ("sk", "RANGE"))],
        throughput={"ReadCapacityUnits": 0, "WriteCapacityUnits": 0},
        attr=named,
        global_indexes=[],
        indexes=[],
        streams={},
        billing_mode="PAY_PER_REQUEST",
        sse_specification=None,
        tags=[],
        deletion_protection_enabled=False,
        warm_throughput=None,
    )
    for key, attributes in rows.items():
        made.tables["t"].put_item(item(key, attributes))
    return made


@given(
    rows=ROWS,
    partition=st.sampled_from([*PARTITIONS, "c"]),
    limit=st.none() | st.integers(1, 5),
    start=st.none() | st.sampled_from(SORTS),
    forward=st.booleans(),
    beyond=st.none() | st.sampled_from(SORTS),
)
def test_queries(rows: Any, partition: str, limit: int | None, start: str | None, forward: bool, beyond: str | None) -> None:
    found = backend(rows).tables["t"]
    since = {"pk": {"S": partition}, "sk": {"S": start}} if start else None
    values = [dynamo_type.DynamoType({"S": beyond})] if beyond else []
    asked = (dynamo_type.DynamoType({"S": partition}), ">" if beyond else None, values, limit, since, forward, None)
    assert moto_hurry.narrowed(table.Table.query)(found, *asked) == table.Table.query(found, *asked)


@given(ATTRIBUTES, st.lists(st.sampled_from([["sk"], ["rev"], ["head"], ["none"], ["none", "deep"]]), min_size=1, max_size=3))
def test_items(attributes: dict[str, Any], wanted: list[list[str]]) -> None:
    made = backend({("a", "b"): attributes}).tables["t"].items[dynamo_type.DynamoType({"S": "a"})]
    (found,) = made.values()
    assert moto_hurry.picked(dynamo_type.Item)(found, wanted) == found.project(wanted)
    assert moto_hurry.counted(dynamo_type.Item.size)(found) == found.size()
    flat = moto_hurry.flattened(utilities.dynamo_to_dict, dynamo_type.DynamoType)
    assert flat(found.attrs) == utilities.dynamo_to_dict(found.attrs)
    again = moto_hurry.duplicated(dynamo_type.Item, dynamo_type.DynamoType)(found, {})
    assert again == copy.deepcopy(found)
    assert all(again.attrs[name] is not found.attrs[name] for name in found.attrs)


KINDS = st.sampled_from(["put", "put new", "delete"])
WRITES = st.lists(st.tuples(KEYS, KINDS, ATTRIBUTES), max_size=6, unique_by=lambda one: one[0])


@given(ROWS, st.lists(WRITES, max_size=3))
def test_transactions(rows: Any, transactions: Any) -> None:
    ours, theirs = backend(rows), backend(rows)
    hurried = moto_hurry.shallow(DynamoDBBackend.transact_write_items, table.Table)
    for writes in transactions:
        asked = [write(*each) for each in writes]
        assert outcome(hurried, ours, asked) == outcome(DynamoDBBackend.transact_write_items, theirs, copy.deepcopy(asked))
        assert dict(ours.tables["t"].items) == dict(theirs.tables["t"].items)
    assert "__deepcopy__" not in vars(table.Table)


def write(key: tuple[str, str], kind: str, attributes: dict[str, Any]) -> dict[str, Any]:
    new = {"ConditionExpression": "attribute_not_exists(pk)", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    if kind == "delete":
        return {"Delete": {"TableName": "t", "Key": item(key, {}), "ConditionExpression": "attribute_exists(pk)"}}
    return {"Put": {"TableName": "t", "Item": item(key, attributes), **(new if kind == "put new" else {})}}


def outcome(transact: Any, *asked: Any) -> Any:
    """What a transaction says: nothing, or why it was refused."""
    try:
        return transact(*asked)
    except TransactionCanceledException as error:
        return error.description


@given(st.integers(0, 60), st.booleans(), st.booleans())
def test_names_of_answers(length: int, digits: bool, lower: bool) -> None:
    text = moto_hurry.letters(Random(length), length, digits, lower)
    assert len(text) == length
    assert set(text) <= set(string.ascii_lowercase + ("" if lower else string.ascii_uppercase) + (string.digits if digits else ""))
