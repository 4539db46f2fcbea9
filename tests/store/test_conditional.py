"""What a store does with a write that must not overwrite: each way to do it wrong is found, and what is right costs little."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.services.fake_stores import REGION, FakeStores

from mlpack.store import conditional

KEY = f"team/{conditional.NAME}"


@pytest.fixture
def client(stores: FakeStores) -> Any:
    import boto3

    stores.buckets.add("models")
    return boto3.session.Session().client("s3", region_name=REGION)


def test_store_that_keeps_it_is_asked_three_times_then_twice(stores: FakeStores, client: Any) -> None:
    assert conditional.of_objects(client, "models", KEY) == ""
    assert stores.asked() == ["s3 PutObject", "s3 PutObject", "s3 GetObject"]
    kept = dict(stores.objects)
    stores.requests.clear()
    assert conditional.of_objects(client, "models", KEY) == ""
    assert stores.asked() == ["s3 PutObject", "s3 GetObject"]
    assert stores.objects == kept
    assert conditional.of_parts(client, "models", KEY) == ""
    assert stores.objects == kept
    assert stores.uploads == {}
    assert not any("Delete" in operation for operation in stores.asked())


@pytest.mark.parametrize(
    ("none_match", "found", "there"),
    [
        ("ignored", "overwrites what is there", False),
        ("ignored", "overwrites what is there", True),
        ("501", "answers 501 NotImplemented", False),
        ("501", "answers 501 NotImplemented", True),
        ("writes", "writes all the same", False),
        ("writes", "writes all the same", True),
        ("always", "as if something were there, and nothing is", False),
        ("absent-404", "as if something were there, and nothing is", False),
        ("error-in-200", "", False),
        ("error-in-200", "", True),
    ],
)
def test_each_way_not_to_keep_it_is_found(stores: FakeStores, client: Any, none_match: str, found: str, there: bool) -> None:
    if there:
        stores.objects["models", KEY] = b"an earlier one's"
    stores.switches.none_match = none_match
    assert found in conditional.of_objects(client, "models", KEY)
    assert bool(conditional.of_objects(client, "models", KEY)) == bool(found)
    assert set(stores.objects) <= {("models", KEY)}


@pytest.mark.parametrize(("complete", "found"), [("ignored", "ends an upload in parts"), ("501", "answers 501 NotImplemented")])
def test_uploads_in_parts_are_asked_about_for_themselves(stores: FakeStores, client: Any, complete: str, found: str) -> None:
    stores.switches.complete = complete
    assert conditional.of_objects(client, "models", KEY) == ""
    assert found in conditional.of_parts(client, "models", KEY)
    assert stores.uploads == {}


def test_conflicts_and_late_reads_mislead_nobody(stores: FakeStores, client: Any) -> None:
    stores.switches.conflicts, stores.switches.late_reads = 3, 1
    assert conditional.of_objects(client, "models", KEY) == ""


def test_a_conflict_that_stays_is_an_error_and_no_verdict(stores: FakeStores, client: Any) -> None:
    stores.switches.conflicts = 1000
    with pytest.raises(ClientError, match="ConditionalRequestConflict"):
        conditional.of_objects(client, "models", KEY)


def test_rule_that_removes_the_object_now_misleads_nobody(stores: FakeStores, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    removed, send = [], client.put_object

    def put_object(**asked: Any) -> Any:
        if len(removed) < 1 and ("models", KEY) in stores.objects:
            removed.append(stores.objects.pop(("models", KEY)))
        return send(**asked)

    monkeypatch.setattr(client, "put_object", put_object)
    assert conditional.of_objects(client, "models", KEY) == ""
    assert removed


@pytest.mark.slow
def test_many_who_ask_at_once_mislead_each_other_not(stores: FakeStores, client: Any) -> None:
    start, said = threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        said.append(conditional.of_objects(client, "models", KEY))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [""] * 8


def test_who_may_not_write_learns_nothing(stores: FakeStores, client: Any) -> None:
    stores.switches.forbidden = "team"
    with pytest.raises(ClientError, match="AccessDenied"):
        conditional.of_objects(client, "models", KEY)


@pytest.mark.parametrize(
    ("endpoint", "amazons"),
    [
        ("https://s3.eu-central-1.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("https://bucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com", True),
        ("https://ap-123.s3-outposts.us-west-2.amazonaws.com", False),
        ("https://amazonaws.com.example.org", False),
        ("https://notamazonaws.com", False),
        ("http://127.0.0.1:9000", False),
        ("https://s3.amazonaws.com@example.org", False),
        ("https://abc.r2.cloudflarestorage.com", False),
    ],
)
def test_amazons_own_is_known_by_its_host(endpoint: str, amazons: bool) -> None:
    assert conditional.is_amazons(SimpleNamespace(meta=SimpleNamespace(endpoint_url=endpoint))) == amazons


def test_a_store_is_asked_once_for_each_thing(stores: FakeStores, client: Any) -> None:
    assert conditional.is_open(client, "writes")
    conditional.remember(stores.endpoint, "writes")
    assert not conditional.is_open(client, "writes")
    assert conditional.is_open(client, "parts")
