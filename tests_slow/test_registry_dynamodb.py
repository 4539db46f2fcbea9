"""Rows in DynamoDB: answers that were lost, others in the way, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import pytest
from tests.support.services.aws_server import AwsServer, Fault

from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import ConflictError, Delete, Key, Put, Row, Table
from mlpack.registry.aws.clients import Timeouts
from mlpack.registry.aws.opening import open_registry

A, B = Key("p", "a"), Key("p", "b")
QUICK = Timeouts(connect_s=2, read_s=2, tries=3)


@pytest.fixture
def table(aws: AwsServer) -> Iterator[Table]:
    made = open_registry(aws.make_place(), patience=QUICK).place.table
    yield made
    made.close()


def operations(aws: AwsServer) -> list[str]:
    return [one.operation for one in aws.log("dynamodb")]


def test_one_write_and_one_read_are_one_request_each(aws: AwsServer, table: Table) -> None:
    table.commit(Put(key=A, head={"n": 1}, body=b"x"))
    table.get(A)
    assert len(list(table.query("p", limit=1))) == 1
    assert len(list(table.query("p", newest_first=True, bodies=True, limit=1))) == 1
    table.commit(Delete(key=A, expect=1))
    table.commit(Put(key=A, head={}), Put(key=B, head={}))
    assert operations(aws) == ["PutItem", "GetItem", "Query", "Query", "DeleteItem", "TransactWriteItems"]


def rewrite(aws: AwsServer, key: Key, **attributes: dict[str, object]) -> None:
    """Change an item behind the table's back."""
    client = aws.client("dynamodb")
    where = {"TableName": "mlpack-registry", "Key": {"pk": {"S": f"models/team:{key.partition}"}, "sk": {"S": key.sort}}}
    item = client.get_item(**where)["Item"]
    client.put_item(TableName="mlpack-registry", Item=item | attributes)
    client.close()


def test_pages_are_read_one_ahead_from_the_second_on(aws: AwsServer, table: Table) -> None:
    """Of five, a megabyte each."""
    for first in range(0, 160, 20):
        table.commit(*(Put(key=Key("p", f"{i:03d}"), head={}, body=b"x" * 30_000) for i in range(first, first + 20)))
    asked = {1: 1, 2: 1, 60: 3, 160: 5}
    for count, pages in asked.items():
        aws.clear_log()
        found = table.query("p")
        assert [row.key.sort for row in islice(found, count)] == [f"{i:03d}" for i in range(count)]
        found.close()  # type: ignore[attr-defined]
        assert operations(aws) == ["Query"] * pages
    aws.clear_log()
    aws.plan(Fault("error", status=400, code="AccessDeniedException", service="dynamodb", operation="Query", number=3))
    got = []
    with pytest.raises(ServiceError, match="Query"):
        got.extend(row.key.sort for row in table.query("p"))
    assert len(operations(aws)) == 3


# --- answers that were lost -------------------------------------------------------------------------------------------

WRITES: dict[str, tuple[Callable[[Table], None], dict[Key, int | None]]] = {
    "make": (lambda t: t.commit(Put(key=B, head={"n": 2}, body=b"new")), {A: 1, B: 1}),
    "change": (lambda t: t.commit(Put(key=A, head={"n": 2}, expect=1)), {A: 2}),
    "delete": (lambda t: t.commit(Delete(key=A, expect=1)), {A: None}),
    "make two": (lambda t: t.commit(Put(key=B, head={}), Put(key=Key("p", "c"), head={})), {A: 1, B: 1, Key("p", "c"): 1}),
    "make and delete": (lambda t: t.commit(Delete(key=A, expect=1), Put(key=B, head={})), {A: None, B: 1}),
    "change and make": (lambda t: t.commit(Put(key=A, head={}, expect=1), Put(key=B, head={})), {A: 2, B: 1}),
}
FAULTS = [
    Fault("close", after=True),
    Fault("close", after=False),
    Fault("error", after=True, status=500, code="InternalServerError"),
    Fault("error", after=False, code="ServiceUnavailable"),
    Fault("error", after=False, status=400, code="ProvisionedThroughputExceededException"),
]
NAMES = [f"{fault.action} {fault.code} {'after' if fault.after else 'before'}" for fault in FAULTS]


@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
@pytest.mark.parametrize("write", WRITES)
def test_write_whose_answer_was_lost_is_not_taken_for_anothers(aws: AwsServer, table: Table, write: str, fault: Fault) -> None:
    table.commit(Put(key=A, head={"n": 1}))
    work, expected = WRITES[write]
    aws.plan(fault)
    work(table)
    assert {key: row.revision if (row := table.get(key)) else None for key in expected} == expected


@pytest.mark.parametrize("write", ["make", "delete", "make two"])
def test_an_answer_that_is_too_late_is_lost(aws: AwsServer, table: Table, write: str) -> None:
    table.commit(Put(key=A, head={"n": 1}))
    work, expected = WRITES[write]
    aws.plan(Fault("hang", after=True))
    work(table)
    assert {key: row.revision if (row := table.get(key)) else None for key in expected} == expected


def test_two_deletes_whose_answer_was_lost_are_done(aws: AwsServer, table: Table) -> None:
    table.commit(Put(key=A, head={}), Put(key=B, head={}))
    aws.plan(Fault("close", after=True))
    table.commit(Delete(key=A, expect=1), Delete(key=B, expect=1))
    assert list(table.query("p")) == []


@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
def test_anothers_row_is_a_conflict_also_on_the_second_try(aws: AwsServer, table: Table, fault: Fault) -> None:
    table.commit(Put(key=A, head={"n": 1}))
    aws.plan(replace(fault, after=False))
    with pytest.raises(ConflictError):
        table.commit(Put(key=A, head={"n": 1}))
    aws.plan(replace(fault, after=False))
    with pytest.raises(ConflictError) as caught:
        table.commit(Put(key=B, head={}), Put(key=A, head={"n": 1}))
    assert caught.value.key == A
    assert table.get(B) is None


def test_what_nobody_can_know_is_said(aws: AwsServer, table: Table) -> None:
    """Our answer was lost, and by the second try others have written twice: ours may have been between."""
    table.commit(Put(key=A, head={"n": 1}))
    rewrite(aws, A, rev={"N": "3"})
    aws.plan(Fault("close"))
    with pytest.raises(ServiceError, match="p/a: the answer to a write was lost, and others have written since") as caught:
        table.commit(Put(key=A, head={"n": 2}, expect=1))
    assert not isinstance(caught.value, ConflictError)
    with pytest.raises(ConflictError):
        table.commit(Put(key=A, head={"n": 2}, expect=1))


def test_service_that_stays_away_is_told_with_its_attempts(aws: AwsServer, table: Table) -> None:
    aws.plan(Fault("error", status=500, code="InternalServerError", onward=True))
    with pytest.raises(ServiceError, match=r"dynamodb:PutItem on .*table/mlpack-registry failed 3 times with 500") as caught:
        table.commit(Put(key=A, head={}))
    assert caught.value.retryable
    assert operations(aws) == ["PutItem"] * 3
    aws.plan()
    assert table.get(A) is None


# --- others in the way ------------------------------------------------------------------------------------------------


def test_a_transaction_of_others_is_waited_for(aws: AwsServer, table: Table) -> None:
    busy = Fault("error", status=400, code="TransactionConflictException")
    aws.plan(busy, replace(busy, number=2), Fault("close", after=True, number=3))
    table.commit(Put(key=A, head={"n": 1}))
    assert table.get(A) == Row(key=A, head={"n": 1})
    assert operations(aws) == ["PutItem"] * 4 + ["GetItem"]


def test_write_that_was_done_before_transaction_got_in_the_way(aws: AwsServer, table: Table) -> None:
    aws.plan(Fault("error", after=True, status=400, code="TransactionConflictException"))
    table.commit(Put(key=A, head={"n": 1}))
    assert table.get(A) == Row(key=A, head={"n": 1})


def test_a_cancelled_transaction_is_tried_again_or_explained(aws: AwsServer, table: Table) -> None:
    cancelled = Fault("error", status=400, code="TransactionCanceledException")
    both = (Put(key=A, head={}), Put(key=B, head={}))
    reasons = [{"Code": "None"}, {"Code": "TransactionConflict", "Message": "busy"}]
    aws.plan(replace(cancelled, details={"CancellationReasons": reasons}))
    table.commit(*both)
    assert operations(aws) == ["TransactWriteItems"] * 2
    reasons = [{"Code": "None"}, {"Code": "ValidationError", "Message": "no good"}]
    aws.plan(replace(cancelled, details={"CancellationReasons": reasons}))
    with pytest.raises(ServiceError, match="a transaction was refused: p/a: None ; p/b: ValidationError no good"):
        table.commit(*both)


def test_others_that_never_end_are_given_up(aws: AwsServer, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlpack.registry.aws.dynamodb._BUSY_TRIES", 3)
    aws.plan(Fault("error", status=400, code="TransactionConflictException", onward=True))
    with pytest.raises(ServiceError, match="p/a: others' transactions were in the way 3 times: try again") as caught:
        table.commit(Put(key=A, head={}))
    assert caught.value.retryable


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_record_that_is_too_large_is_refused_before_it_is_sent(aws: AwsServer, table: Table) -> None:
    with pytest.raises(RecipeError, match=r"p/a would have 4\d\d,\d\d\d bytes, and DynamoDB keeps at most 409,600"):
        table.commit(Put(key=A, head={}, body=b"x" * 409_600))
    with pytest.raises(RecipeError, match="p/b would have"):
        table.commit(Put(key=A, head={}), Put(key=B, head={"text": "ä" * 204_800}))
    with pytest.raises(RecipeError, match="12 records of 4,8"):
        table.commit(*(Put(key=Key("p", str(i)), head={}, body=b"x" * 400_000) for i in range(12)))
    assert aws.log() == []
    table.commit(Put(key=A, head={}, body=b"x" * 290_000))  # moto counts bytes as base64


@pytest.mark.parametrize("attributes", [{"head": {"S": "{"}}, {"head": {"S": "[1]"}}, {"head": {"N": "1"}}, {"rev": {"S": "x"}}])
def test_a_row_that_is_no_row_is_named(aws: AwsServer, table: Table, attributes: dict[str, dict[str, object]]) -> None:
    table.commit(Put(key=A, head={"n": 1}))
    rewrite(aws, A, **attributes)
    for row in (table.get(A), *table.query("p")):  # given all the same: those after it can still be read
        assert row is not None
        assert row.key == A
        with pytest.raises(ServiceError, match="the record p/a is damaged"):
            dict(row.head)
