"""Orders for batches in events, messages and invocations, on an AWS over HTTP: carried out once, handed on, or refused."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.runtime.batches_of_items import Echo, Killed, Mortal, manifest, runner
from tests.support.runtime.functions import Context, function
from tests.support.runtime.source_events import s3, sns, sqs
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.workers import Place, add_botocore, until
from tests.support.services.aws_server import ACCOUNT, REGION, Fault
from tests.support.services.fake_stores import FakeStores

from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.orders import Order
from mlpack_runtime.batch.writing.folders import S3Folder
from mlpack_runtime.triggers import batches

pytestmark = pytest.mark.slow

MANIFEST = "s3://results/in/m.jsonl"
ORDER = {"batch": {"manifest": MANIFEST, "results": "s3://results/out"}}


def lines(number: int) -> bytes:
    rows = [json.dumps({"id": f"i{at}", "inputs": {"pixels": [[1, 1, 1, at]], "marks": [at]}}) for at in range(number)]
    return "\n".join("nope" if at == 1 else row for at, row in enumerate(rows)).encode()


@pytest.fixture
def call(tiny: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    place.s3.put_object(Bucket="results", Key="in/m.jsonl", Body=lines(5))
    monkeypatch.setenv("MLPACK_BATCH_CHECKPOINT_ITEMS", "2")
    monkeypatch.setenv("MLPACK_BATCH_PART_ITEMS", "3")
    return function(tiny, monkeypatch, MLPACK_RESULTS="s3://results/answers")


def read(place: Place, key: str) -> Any:
    return json.loads(place.s3.get_object(Bucket="results", Key=key)["Body"].read())


def keys(place: Place, prefix: str) -> list[str]:
    return [one["Key"] for one in place.s3.list_objects_v2(Bucket="results", Prefix=prefix).get("Contents", ())]


def rows(place: Place, prefix: str = "out/results/") -> list[dict[str, Any]]:
    texts = [place.s3.get_object(Bucket="results", Key=key)["Body"].read() for key in keys(place, prefix)]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def check(place: Place, number: int = 5, prefix: str = "out/") -> None:
    found = rows(place, f"{prefix}results/")
    assert [row["item"] for row in found] == list(range(number))
    assert [row["status"] for row in found] == [400 if at == 1 else 200 for at in range(number)]
    assert read(place, f"{prefix}status.json")["state"] == "complete"
    assert [row["item"] for row in rows(place, f"{prefix}errors/")] == [1]


def test_a_direct_order_is_answered_with_its_state(call: Callable[..., Any], place: Place) -> None:
    answer = call(ORDER)
    assert answer["done"] is True
    assert {name: answer["batch"][name] for name in ("state", "items", "answered", "failed", "parts")} == {
        "state": "complete", "items": 5, "answered": 4, "failed": 1, "parts": 2,
    }  # fmt: skip
    check(place)
    assert call(answer)["batch"]["answered"] == 4  # what was answered is an order again


def test_what_there_is_no_time_for_is_an_order_for_the_rest(
    call: Callable[..., Any], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state machine calls again while `done` is false: each time from where the last one ended."""
    from mlpack_runtime.batch.writing import pieces

    seen: list[int] = []
    add = pieces.Chain.add
    monkeypatch.setattr(pieces.Chain, "add", lambda self, rows: seen.append(len(rows)) or add(self, rows))
    answer, calls = call(ORDER, Context(1)), 1
    assert (answer["done"], answer["batch"]["state"]) == (False, "running")
    while not answer["done"]:
        answer, calls = call(answer, Context(60_000)), calls + 1
    check(place)
    assert sum(seen) == 5


def test_a_message_that_is_an_order_has_its_end_as_result(call: Callable[..., Any], place: Place) -> None:
    assert call(sqs(json.dumps(ORDER))) == {"batchItemFailures": []}
    check(place)
    document = read(place, "answers/tiny/m-0.json")
    assert json.loads(document["body"])["batch"]["state"] == "complete"


def test_the_rest_is_sent_to_the_messages_own_queue(
    call: Callable[..., Any], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_SPARE", 1.0)
    event = sqs(json.dumps(ORDER))
    event["Records"][0]["eventSourceARN"] = f"arn:aws:sqs:{REGION}:{ACCOUNT}:work"
    assert call(event) == {"batchItemFailures": []}
    assert keys(place, "answers/tiny/m-") == []  # its result is its end
    place.sqs.set_queue_attributes(QueueUrl=place.url, Attributes={"DelaySeconds": "0"})
    assert int(place.sqs.get_queue_attributes(QueueUrl=place.url, AttributeNames=["All"])["Attributes"][
        "ApproximateNumberOfMessagesDelayed"]) == 1  # fmt: skip
    event["Records"][0]["eventSourceARN"] = f"arn:aws:sqs:{REGION}:{ACCOUNT}:gone"
    with pytest.raises(RuntimeError, match="its message comes again"):
        call(event)


def test_a_notification_of_a_manifest_is_an_order(call: Callable[..., Any], place: Place, capfd: Any) -> None:
    answer = call(s3("in/m.jsonl"))
    assert answer["batch"]["state"] == "complete"
    prefix = answer["batch"]["results"].removeprefix("s3://results/") + "/"
    assert prefix.startswith("in/m.jsonl.results/")
    check(place, prefix=prefix)
    for key in (f"{prefix}results/part-00000-000.jsonl", f"{prefix}status.json", f"{prefix}index.json"):
        assert call(s3(key)) == {"nothing": "it is of the results of a batch"}
    assert call(sns(json.dumps(ORDER)))["done"] is True


def test_an_event_that_cannot_be_handed_on_fails(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_SPARE", 1.0)
    for event in (s3("in/m.jsonl"), sns(json.dumps(ORDER))):
        with pytest.raises(RuntimeError, match="BatchUnfinished"):
            call(event)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"manifest": "s3://results/gone.jsonl"}, "there is nothing at s3://results/gone.jsonl"),
        ({"manifest": "/etc/passwd"}, "an address s3://bucket/key is needed"),
        ({"manifest": MANIFEST, "results": "/tmp/x"}, "an address s3://bucket/prefix is needed"),
        ({"manifest": "s3://results"}, "name an object"),
        ({"manifest": MANIFEST, "columns": {"text": "a"}}, "has no columns"),
        ({"manifest": MANIFEST, "colums": {}}, "batch has 'colums'"),
        ({"manifest": MANIFEST, "format": "xml"}, "the format 'xml'"),
    ],
)
def test_an_order_that_makes_no_sense_is_a_function_error(call: Callable[..., Any], told: Any, why: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        call({"batch": told})
    assert why in json.loads(str(caught.value))["error"]
    assert json.loads(str(caught.value))["error_type"] == "InvalidBatch"
    with pytest.raises(RuntimeError):
        call(sqs(json.dumps({"batch": told})))


def test_orders_are_requests_where_batches_are_not_taken(tiny: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    call = function(tiny, monkeypatch, MLPACK_EVENTS="sqs")
    with pytest.raises(RuntimeError, match="does not name 'batch'"):
        call(ORDER)
    with pytest.raises(RuntimeError, match="the body has 'batch'"):
        call(sqs(json.dumps(ORDER)))
    answer = function(tiny, monkeypatch, MLPACK_EVENTS="direct")(ORDER)
    assert "the body has 'batch'" in answer["error"]


def test_a_folder_of_another_manifest_is_refused(call: Callable[..., Any], place: Place) -> None:
    call(ORDER)
    place.s3.put_object(Bucket="results", Key="in/m.jsonl", Body=lines(6))
    with pytest.raises(RuntimeError, match="has the results of another batch"):
        call(ORDER)
    check(place)


def test_a_service_that_is_away_is_no_items_fault(call: Callable[..., Any], place: Place) -> None:
    place.aws.plan(Fault("error", service="s3", operation="PutObject", status=403, code="AccessDenied", onward=True))
    with pytest.raises(RuntimeError, match="AccessDenied"):
        call(ORDER)
    place.aws.plan()
    call(ORDER)
    check(place)


def test_objects_that_a_manifest_names_are_fetched(call: Callable[..., Any], place: Place) -> None:
    request = {"inputs": {"pixels": [[1, 1, 1, 1]], "marks": [2]}}
    place.s3.put_object(Bucket="results", Key="in/a.json", Body=json.dumps(request).encode())
    named = ["a.json", "s3://results/in/a.json", "s3://results/in/gone.json", "https://host/a"]
    text = "\n".join(json.dumps({"id": at, "object": name}) for at, name in enumerate(named))
    place.s3.put_object(Bucket="results", Key="in/o.jsonl", Body=text.encode())
    call({"batch": {"manifest": "s3://results/in/o.jsonl", "results": "s3://results/objects"}})
    assert [row["status"] for row in rows(place, "objects/results/")] == [200, 200, 404, 400]


def test_a_manifest_that_is_replaced_meanwhile_stops_the_batch(
    call: Callable[..., Any], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlpack_runtime.batch.writing import claims

    take = claims.Claims.take

    def replaced(self: Any, part: Any) -> bool:
        place.s3.put_object(Bucket="results", Key="in/m.jsonl", Body=lines(5).replace(b"i0", b"xx"))
        return take(self, part)

    monkeypatch.setattr(claims.Claims, "take", replaced)
    with pytest.raises(RuntimeError, match="has changed since this batch began"):
        call(ORDER)
    assert rows(place) == []


def test_a_store_without_conditions_is_not_written_to(tiny: Path, stores: FakeStores, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.buckets.add("results")
    stores.objects["results", "in/m.jsonl"] = lines(3)
    stores.switches = dataclasses.replace(stores.switches, none_match="ignored")
    with pytest.raises(RuntimeError, match="does not keep conditional writes"):
        function(tiny, monkeypatch)(ORDER)


def test_a_worker_carries_an_order_out_and_ends_in_the_middle(tmp_path: Path, place: Place) -> None:
    """Two workers share a manifest; the first one is ended by SIGKILL, the second by SIGTERM, and a third one ends it."""
    root = add_botocore(package(tmp_path / "tiny", affine))
    number = 3000
    place.s3.put_object(Bucket="results", Key="in/m.jsonl", Body=lines(number))
    settings = {"batch_checkpoint_items": 50, "batch_part_items": 200, "batch_lease_s": 2, "visibility_s": 3}
    place.send(ORDER, request_id="first")
    place.send(ORDER, request_id="second")
    first = place.worker(root, **settings).ready()
    until(lambda: rows(place), "the first piece")
    first.end(9)
    second = place.worker(root, **settings).ready()
    seen = len(keys(place, "out/results/"))
    until(lambda: len(keys(place, "out/results/")) > seen, "another piece")
    assert second.end() == 0
    third = place.worker(root, **settings).ready()
    answers = {name: place.answer(name) for name in ("first", "second")}
    assert third.end() == 0
    assert all(status == 200 and body["batch"]["state"] == "complete" for status, body in answers.values())
    found = [row for key in keys(place, "out/results/") for row in rows(place, key)]
    assert [row["item"] for row in found] == list(range(number))
    assert not [line for line in third.answers if line["request_id"].startswith("i")]  # items have no lines of their own
    assert [line for line in third.lines if line.get("message") == "batch"]


def test_names_of_a_folder_come_in_any_number(place: Place) -> None:
    folder = S3Folder(place.s3, "results", "many/")
    assert folder.names("done/") == []
    for at in range(3):
        assert folder.put_new(f"done/{at}", b"{}", {"a": "b"})
    assert not folder.put_new("done/0", b"other")
    assert folder.names("done/") == ["done/0", "done/1", "done/2"]
    assert folder.note("done/0") == {"a": "b"}
    held = folder.read("done/0")
    assert held is not None
    aged = folder.held("done/0")
    assert aged is not None
    assert aged[:2] == held
    assert aged[2] is not None
    assert -1 <= aged[2] < 60
    assert not folder.replace("done/0", b"x", '"0"')
    assert folder.replace("done/0", b"x", held[1])
    assert folder.note("done/9") is None
    assert (Order("m").manifest, os.environ.get("MLPACK_BATCH_LEASE_S")) == ("m", None)


@pytest.mark.parametrize(("word", "is_told"), [("AccessDenied", True), ("403", True), ("SlowDown", False)])
def test_a_folder_that_is_forbidden_says_which_rights_it_needs(word: str, is_told: bool) -> None:
    """A first look at job.json is refused so where the role may not list."""
    from botocore.exceptions import ClientError

    def refused(**_: object) -> None:
        raise ClientError({"Error": {"Code": word, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")

    folder = S3Folder(SimpleNamespace(get_object=refused, head_object=refused, put_object=refused), "results", "a")
    for work in (lambda: folder.read("job.json"), lambda: folder.note("x"), lambda: folder.put_new("x", b"")):
        with pytest.raises(BatchError, match=word) as caught:
            work()
        assert ("s3:ListBucket" in str(caught.value)) == is_told


@pytest.mark.parametrize(
    ("date", "age_s"),
    [("Tue, 01 Dec 2026 00:02:05 GMT", 124.0), ("Tue, 01 Dec 2026 00:00:00 GMT", -1.0), ("yesterday", None), (None, None)],
)
def test_a_store_says_how_old_an_object_is_by_its_own_clock(date: str | None, age_s: float | None) -> None:
    answer = {
        "Body": io.BytesIO(b"{}"),
        "ETag": '"e"',
        "LastModified": datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC),
        "ResponseMetadata": {"HTTPHeaders": {} if date is None else {"date": date}},
    }
    folder = S3Folder(SimpleNamespace(get_object=lambda **_: answer), "results", "a")
    assert folder.held("x") == (b"{}", '"e"', age_s)


def test_items_of_a_maps_own_reader_are_requests(call: Callable[..., Any], place: Place) -> None:
    """JSON Lines, CSV, lists of objects and inventories, as Step Functions' readers hand them on."""
    request = {"inputs": {"pixels": [[1, 1, 1, 1]], "marks": [2]}}
    place.s3.put_object(Bucket="results", Key="in/a.json", Body=json.dumps(request).encode())
    listed = {"Etag": '"0"', "Key": "in/a.json", "LastModified": 1.0, "Size": 9, "StorageClass": "STANDARD"}
    items = [
        request,
        {"id": "a", **request},
        {"id": "b", "request": request},
        {"object": "s3://results/in/a.json"},
        listed,
        {"Bucket": "results", "Key": "in/a.json", "Size": "9"},
        {"Key": "in/gone.json"},
        {"id": [], "request": request},
        "text",
    ]
    answers = call({"Items": items, "BatchInput": {"bucket": "results"}})
    assert [answer["outputs"][1]["data"] for answer in answers[:6]] == [[2]] * 6
    assert [answer["error_type"] for answer in answers[6:]] == ["NotFound", "InvalidRequest", "InvalidRequest"]
    assert "ItemBatcher" in call({"Items": [listed]})[0]["error"]
    rows = [{"p": "1", "q": "1", "r": "1", "s": ".5", "m": "2", "more": "?"}, {"p": "x", "q": "1", "r": "1", "s": "1", "m": "2"}]
    told = {"columns": {"pixels": ["p", "q", "r", "s"], "marks": "m"}}
    good, bad = call({"Items": rows, "BatchInput": told})
    assert good["outputs"][1]["data"] == [2]
    assert "'x' is no number" in bad["error"]
    assert "the column 'q'" in call({"Items": [{"p": "1"}], "BatchInput": told})[0]["error"]
    with pytest.raises(RuntimeError, match="columns is"):
        call({"Items": rows, "BatchInput": {"columns": 3}})


def test_a_runner_in_s3_ended_at_any_call_is_followed(place: Place, tmp_path: Path) -> None:
    """As on a disk, with conditional writes in the place of links. Right behind a call is before the next one."""
    at = 0
    source = tmp_path / "m.jsonl"
    text = "\n".join("nope" if at == 1 else json.dumps({"id": f"i{at}", "text": f"t{at}"}) for at in range(3))
    while True:
        at += 1
        folder = S3Folder(place.s3, "results", f"{at}")
        try:
            runner(Mortal(folder, at), manifest(source, text), Echo(), part=2).run()
            break
        except Killed:
            for key in keys(place, f"{at}/claims/"):
                place.s3.put_object(Bucket="results", Key=key, Body=b'{"owner": "gone", "until": 0}')
            runner(folder, manifest(source, text), Echo(), part=2).run()
            check(place, 3, prefix=f"{at}/")
    assert at > 15
