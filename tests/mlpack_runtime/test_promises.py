"""Results, tickets, engines and leases at stores that promise less: what is refused, what is said, and what still holds."""

from __future__ import annotations

import dataclasses
import json
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mlpack_runtime import aws as aws_module
from mlpack_runtime.aws import promises
from mlpack_runtime.door import tickets
from mlpack_runtime.hosting.stop import Stop
from mlpack_runtime.queueing import intake, results
from mlpack_runtime.queueing.settings import Settings
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.tensorrt.engine_lease import NOT_KEPT, Lease
from mlpack_runtime.tensorrt.engine_store import SERVICE, EngineError, Shelf

if TYPE_CHECKING:
    from tests.support.services.fake_stores import FakeStores

S3, TABLE = "s3://results/some/where", "dynamodb://results"
BODY = {"status": 200, "headers": {}, "body": "{}", "binary": False, "trace_id": "t", "request_id": "r"}
TICKET = {"digest": "d", "trace_id": "t", "expires": 2_000}
WRONG = {
    "none_match=ignored": (S3, "overwrites what is"),
    "none_match=501": (S3, "answers NotImplemented"),
    "none_match=writes": (S3, "writes all the same"),
    "none_match=always": (S3, "as if something were there, and nothing is"),
    "none_match=absent-404": (S3, "as if something were there, and nothing is"),
    "conditions=ignored": (TABLE, "overwrites what is"),
    "conditions=unknown": (TABLE, "answers NotImplemented"),
}
SLOWLY = pytest.mark.slow  # botocore asks again what looks like an error of the server's
GOOD = [(S3, "none_match=kept"), pytest.param(S3, "none_match=error-in-200", marks=SLOWLY), (S3, "conflicts=2"),
        (S3, "late_reads=1"), (TABLE, "conditions=kept"), (TABLE, "returns_item=False")]  # fmt: skip
READS_ON = ["none_match=ignored", "none_match=501", "none_match=writes", "conditions=ignored", "conditions=unknown"]
"""Those with which one can write without conditions."""


@pytest.fixture(autouse=True)
def places(stores: FakeStores) -> FakeStores:
    stores.buckets |= {"results", "engines"}
    for table in ("results", "leases"):
        stores.make_table(table, "id")
    return stores


def misbehave(stores: FakeStores, switch: str) -> None:
    name, _, value = switch.partition("=")
    kind = type(getattr(stores.switches, name))
    stores.switches = dataclasses.replace(stores.switches, **{name: value == "True" if kind is bool else kind(value)})


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", WRONG)
def test_place_that_would_not_keep_the_first_answer_is_refused(stores: FakeStores, switch: str) -> None:
    uri, found = WRONG[switch]
    misbehave(stores, switch)
    with pytest.raises(promises.PromiseError, match=found) as caught:
        results.assure(results.open_results(uri, keep_s=60), "tiny", uri, pytest.fail, unconditional=False)
    said = str(caught.value)
    assert said.startswith(f"{uri}: this store does not keep conditional writes")
    assert "the later one would replace the first" in said
    assert "MLPACK_RESULTS_UNCONDITIONAL=1" in said
    assert caught.value.status == 4


@pytest.mark.parametrize(("uri", "switch"), GOOD)
def test_place_that_keeps_it_is_asked_three_times_then_twice(stores: FakeStores, uri: str, switch: str) -> None:
    misbehave(stores, switch)
    place = results.open_results(uri, keep_s=60)
    results.assure(place, "tiny", uri, pytest.fail, unconditional=False)
    stores.requests.clear()
    results.assure(place, "tiny", uri, pytest.fail, unconditional=True)
    if switch != "none_match=error-in-200":  # which botocore asks again
        assert len(stores.requests) == 2
    assert not place.unconditional
    assert place.put("tiny", "r", BODY)
    assert not place.put("tiny", "r", BODY | {"body": "another"})
    assert place.status("tiny", "r") == 200


@pytest.mark.parametrize("switch", READS_ON)
def test_where_agreed_to_it_is_told_and_each_write_looks_first(stores: FakeStores, switch: str) -> None:
    uri, found = WRONG[switch]
    misbehave(stores, switch)
    said: list[str] = []
    place = results.open_results(uri, keep_s=60)
    results.assure(place, "tiny", uri, said.append, unconditional=True)
    assert len(said) == 1
    assert found in said[0]
    assert "MLPACK_RESULTS_UNCONDITIONAL is set" in said[0]
    assert place.put("tiny", "r", BODY)
    kept = dict(stores.objects), dict(stores.items["results"])
    assert not place.put("tiny", "r", BODY | {"body": "another"})
    assert (dict(stores.objects), dict(stores.items["results"])) == kept


@pytest.mark.parametrize(("uri", "switch"), [(S3, "none_match=always")])
def test_answer_that_is_said_to_be_there_and_is_not_is_an_error(stores: FakeStores, uri: str, switch: str) -> None:
    """Its message would be deleted otherwise."""
    misbehave(stores, switch)
    with pytest.raises(aws_module.failures()):
        results.open_results(uri, keep_s=60).put("tiny", "r", BODY)


@pytest.mark.parametrize("uri", [S3, TABLE])
def test_amazons_own_is_not_asked(stores: FakeStores, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "_AMAZON", ("127.0.0.1",))
    misbehave(stores, "none_match=ignored")
    misbehave(stores, "conditions=ignored")
    place = results.open_results(uri, keep_s=60)
    results.assure(place, "tiny", uri, pytest.fail, unconditional=False)
    assert stores.requests == []


@pytest.mark.parametrize(
    ("endpoint", "amazons"),
    [
        ("https://s3.eu-central-1.amazonaws.com", True),
        ("https://dynamodb.cn-north-1.amazonaws.com.cn", True),
        ("https://ap-1.s3-outposts.us-west-2.amazonaws.com", False),
        ("https://amazonaws.com.example.org", False),
        ("http://127.0.0.1:9000", False),
        ("https://example.org/s3.amazonaws.com", False),
    ],
)
def test_amazons_own_is_known_by_its_host(endpoint: str, amazons: bool) -> None:
    assert promises.is_amazons(SimpleNamespace(meta=SimpleNamespace(endpoint_url=endpoint))) == amazons


@pytest.mark.slow
def test_workers_that_start_at_once_mislead_each_other_not(stores: FakeStores) -> None:
    place, start, said = results.open_results(S3, keep_s=60), threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        said.append(place.refusal("tiny"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [""] * 8


# --- the worker's intake ----------------------------------------------------------------------------------------------


def intake_at(monkeypatch: pytest.MonkeyPatch, said: list[str], **more: str) -> tuple[Any, Stop]:
    """What a worker makes of its settings, with a queue that has no message."""
    few = {"MLPACK_POLLERS": "1", "MLPACK_PREFETCH": "1"}
    told = {"MLPACK_QUEUE_URL": "http://127.0.0.1:9/1/q", "MLPACK_RESULTS": S3, **few, **more}
    stop, model = Stop(), SimpleNamespace(name="tiny")
    made = intake.Intake(Settings(told, {}), SimpleNamespace(model=model), Breaker(3, 1.0), stop)  # type: ignore[arg-type]
    monkeypatch.setattr(made, "_warn", said.append)
    monkeypatch.setattr(made._dead, "url", lambda: "")
    return made, stop


def test_a_worker_does_not_start_there(stores: FakeStores, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehave(stores, "none_match=ignored")
    made, _ = intake_at(monkeypatch, [])
    with pytest.raises(promises.PromiseError):
        made.start()
    assert not any(thread.is_alive() for thread in (*made._pollers, *made._handlers))


def test_a_worker_starts_there_where_it_is_agreed_to(stores: FakeStores, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehave(stores, "none_match=ignored")
    said: list[str] = []
    made, _ = intake_at(monkeypatch, said, MLPACK_RESULTS_UNCONDITIONAL="1")
    made._assure()
    made._assure()
    assert len(said) == 1
    assert made._place.unconditional


def test_worker_whose_place_cannot_be_asked_takes_nothing(stores: FakeStores, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with 4 as soon as it is known that its place keeps nothing."""
    stores.switches.forbidden = promises.NAME
    said: list[str] = []
    made, stop = intake_at(monkeypatch, said)
    taken: list[bool] = []
    monkeypatch.setattr(made, "_take", lambda: taken.append(True))
    monkeypatch.setattr(intake, "_PAUSE_S", 0.01)
    made.start()
    stores.switches.none_match, stores.switches.forbidden = "ignored", ""
    made._pollers[0].join(20)
    assert (stop.code, taken) == (4, [])
    assert "whether s3://results/some/where keeps the first result cannot be known yet: AccessDenied" in said[0]
    made._keeper.stop(0)
    made._deleter.stop(0)


# --- tickets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", [*WRONG, "if_match=ignored"])
def test_a_front_door_does_not_open_there(stores: FakeStores, switch: str) -> None:
    uri, found = WRONG.get(switch, (S3, "`If-Match` with another version"))
    misbehave(stores, switch)
    place = tickets.open_results(uri)
    with pytest.raises(promises.PromiseError, match=found) as caught:
        tickets.assure(place, "tiny", uri, pytest.fail, unconditional=False)
    assert "one result would answer both" in str(caught.value)


@pytest.mark.parametrize("switch", [*READS_ON, "if_match=ignored"])
def test_tickets_where_it_is_agreed_to(stores: FakeStores, switch: str) -> None:
    uri = WRONG.get(switch, (S3, ""))[0]
    misbehave(stores, switch)
    said: list[str] = []
    place = tickets.open_results(uri)
    tickets.assure(place, "tiny", uri, said.append, unconditional=True)
    assert len(said) == 1
    assert place.accept("tiny/r", TICKET, 1_000)
    assert not place.accept("tiny/r", TICKET | {"digest": "other"}, 1_000)
    assert place.accept("tiny/r", TICKET, 1_000)
    assert place.accept("tiny/r", TICKET | {"digest": "other", "expires": 9_000}, 2_000)


@pytest.mark.parametrize(("uri", "switch"), GOOD)
def test_a_front_door_opens_where_all_is_kept(stores: FakeStores, uri: str, switch: str) -> None:
    misbehave(stores, switch)
    place = tickets.open_results(uri)
    tickets.assure(place, "tiny", uri, pytest.fail, unconditional=False)
    assert place.doubted is None
    assert place.accept("tiny/r", TICKET, 1_000)
    assert not place.accept("tiny/r", TICKET | {"digest": "other"}, 1_000)
    assert place.ticket(f"tiny/{promises.NAME}", 1_000) is None


def test_place_not_reached_at_the_start_is_asked_before_tickets(stores: FakeStores) -> None:
    stores.switches.forbidden = promises.NAME
    place = tickets.open_results(S3)
    tickets.assure(place, "tiny", S3, pytest.fail, unconditional=False)
    with pytest.raises(tickets.ServiceError, match="asking s3://results what it keeps: AccessDenied"):
        place.accept("tiny/r", TICKET, 1_000)
    stores.switches.forbidden, stores.switches.none_match = "", "ignored"
    with pytest.raises(tickets.ServiceError, match="does not keep conditional writes"):
        place.accept("tiny/r", TICKET, 1_000)
    assert not [key for _, key in stores.objects if key.endswith(".ticket")]
    stores.switches.none_match = "kept"
    assert place.accept("tiny/r", TICKET, 1_000)
    asked = len(stores.asked(of=promises.NAME))
    assert place.accept("tiny/s", TICKET, 1_000)
    assert len(stores.asked(of=promises.NAME)) == asked


# --- engines ----------------------------------------------------------------------------------------------------------


def record_of(data: bytes) -> dict[str, Any]:
    import hashlib

    named = "sha256:" + hashlib.sha256(data).hexdigest()
    return {"schema": 1, "key": "k", "digest": named, "size_bytes": len(data)}


@pytest.mark.parametrize("switch", [switch for switch in READS_ON if WRONG[switch][0] == S3])
def test_loss_is_told_before_an_engine_is_built(stores: FakeStores, switch: str) -> None:
    misbehave(stores, switch)
    shelf, said = Shelf("s3://engines/team"), []
    shelf.look_out(said.append)
    shelf.look_out(said.append)
    assert len(said) == 1
    assert said[0].startswith("s3://engines/team: this store does not keep conditional writes")
    assert "differ in their roundings" in said[0]
    assert shelf.publish(record_of(b"one"), b"one") == (record_of(b"one"), True)
    assert shelf.publish(record_of(b"two"), b"two") == (record_of(b"one"), False)
    assert shelf.engine(record_of(b"one")) == b"one"
    assert json.loads(stores.objects["engines", "team/k.json"]) == record_of(b"one")


@pytest.mark.parametrize("switch", ["none_match=kept", "conflicts=2", "late_reads=1"])
def test_of_a_bucket_that_keeps_records_nothing_is_said(stores: FakeStores, switch: str) -> None:
    misbehave(stores, switch)
    shelf = Shelf("s3://engines/team")
    shelf.look_out(pytest.fail)
    assert shelf.publish(record_of(b"one"), b"one")[1]
    assert not shelf.publish(record_of(b"two"), b"two")[1]


def test_bucket_without_the_right_to_write_is_known_before_work(stores: FakeStores) -> None:
    stores.switches.forbidden = "team"
    with pytest.raises(EngineError, match="cannot be asked what it keeps: AccessDenied") as caught:
        Shelf("s3://engines/team").look_out(pytest.fail)
    assert caught.value.code == SERVICE


def test_who_takes_engines_alone_asks_nothing(stores: FakeStores) -> None:
    assert Shelf("s3://engines/team").record("k") is None
    assert stores.asked(of=promises.NAME) == []


@pytest.mark.parametrize(("conditions", "kept"), [("kept", True), ("ignored", False)])
def test_a_lease_knows_whether_it_keeps_anybody_away(stores: FakeStores, conditions: str, kept: bool) -> None:
    stores.switches.conditions = conditions
    lease, other = (Lease("dynamodb://leases", "engine/k") for _ in range(2))
    assert lease.take()
    assert lease.is_kept() == kept
    assert other.take() != kept
    assert "one engine is kept" in NOT_KEPT
    with lease:
        assert not lease.lost
    assert stores.items["leases"] == {} or not kept
