"""A registry at stores that promise less: every misbehaviour by every verb, and what it comes to."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import run
from tests.support.registry.builds import build
from tests.support.services.fake_stores import FakeStores

from mlpack.errors import ServiceError
from mlpack.registry.aws import promises, ranged
from mlpack.registry.infrastructure import setup
from mlpack.registry.places import open_registry
from mlpack.registry.rows.leases import collecting
from mlpack.registry.upkeep import care
from mlpack.store import conditional

pytestmark = pytest.mark.slow  # `tests/store/test_conditional.py` has the same questions by themselves

URL = "s3://models/team?table=mlpack-registry"
WRONG: dict[str, tuple[str, str, str]] = {
    # switch=value: which half, what is said of it, who cannot tell
    "none_match=ignored": ("bytes", "overwrites what is there", ""),
    "none_match=501": ("bytes", "answers 501 NotImplemented", ""),
    "none_match=writes": ("bytes", "writes all the same", ""),
    # With an object of an earlier question there, it looks right; uploads then fail, each with a message.
    "none_match=always": ("bytes", "as if something were there", "verify"),
    "complete=ignored": ("bytes", "ends an upload in parts", "publish"),
    "complete=501": ("bytes", "to the end of an upload in parts", "publish"),
    "conditions=ignored": ("rows", "its conditions do not hold", ""),
    "removals=ignored": ("rows", "is removed on the condition", ""),
    "transactions=ignored": ("rows", "the conditions of its transactions do not hold", ""),
    "transactions=halves": ("rows", "was done by half", ""),
    "transactions=unknown": ("rows", "does not know transactions", ""),
    "stale_reads=True": ("rows", "is not seen by a consistent read", ""),
}
GOOD = ["none_match=error-in-200", "if_match=ignored", "conflicts=2", "late_reads=1", "returns_item=False"]
"""What is not relied on, or is dealt with."""


def misbehave(stores: FakeStores, switch: str) -> None:
    name, _, value = switch.partition("=")
    kind = type(getattr(stores.switches, name))
    stores.switches = dataclasses.replace(stores.switches, **{name: value == "True" if kind is bool else kind(value)})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built") / "out")


@pytest.fixture
def published(stores: FakeStores, built: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStores:
    """minilm@1, of a time when the stores behaved; nothing of it is remembered."""
    open_registry(stores.make_place()).publish(built)
    monkeypatch.setattr(conditional, "_kept", set())
    stores.requests.clear()
    stores.fresh.clear()
    return stores


def refused(code: int, said: str, half: str, found: str) -> None:
    assert code == 4, said
    assert found in said
    assert "this store does not keep what a registry needs" in said
    assert ("the bucket at http" if half == "bytes" else "the table at http") in said
    lost = "No release could be recorded" if "does not know transactions" in found else "the same version twice"
    assert ("may replace the bytes" if half == "bytes" else lost) in said
    assert 'docs/registry.md, "Stores other than AWS"' in said


@pytest.mark.parametrize("switch", WRONG)
@pytest.mark.parametrize("there", [False, True])
def test_create_refuses(stores: FakeStores, switch: str, there: bool, capsys: pytest.CaptureFixture[str]) -> None:
    half, found, _ = WRONG[switch]
    if there:
        stores.make_place()
    misbehave(stores, switch)
    code = run("registry", "create", URL)
    refused(code, capsys.readouterr().err, half, found)
    # Where both halves were there, nothing was changed.
    assert not there or stores.settings == {}
    assert not any(key[1] == "schema" for key in stores.items.get("mlpack-registry", {}))


def test_create_makes_the_rest_and_then_finds_it_complete(stores: FakeStores) -> None:
    assert setup.create(URL)[0] == "make the bucket models in eu-central-1"
    objects = dict(stores.objects)
    setup.create(URL)
    assert stores.objects == objects
    assert set(objects) == {("models", f"team/blobs/{conditional.NAME}")}
    stores.switches.none_match = stores.switches.conditions = "ignored"
    assert setup.create(URL, dry_run=True) == setup.create(URL, dry_run=True)  # which writes nothing, and so cannot ask
    assert stores.objects == objects


@pytest.mark.parametrize("switch", WRONG)
def test_verify_finds_it(published: FakeStores, switch: str, capsys: pytest.CaptureFixture[str]) -> None:
    half, found, blind = WRONG[switch]
    misbehave(published, switch)
    if blind == "verify":
        del published.objects["models", f"team/blobs/{conditional.NAME}"]
    assert run("verify", "--registry", URL, "--json") == 4
    report = json.loads(capsys.readouterr().out)
    wrong = [each for each in report["findings"] if each["what"] == "store"]
    assert [("bucket" in each["where"], found in each["problem"]) for each in wrong] == [(half == "bytes", True)]
    assert report["unasked"] == []
    stale = switch == "stale_reads=True"
    assert stale or len(report["findings"]) == 1


@pytest.mark.parametrize("switch", WRONG)
def test_publish_refuses_before_it_writes(stores: FakeStores, built: Path, switch: str, capsys: pytest.CaptureFixture[str]) -> None:
    half, found, blind = WRONG[switch]
    stores.make_place()
    misbehave(stores, switch)
    code = run("publish", built, "--registry", URL)
    if blind == "publish":  # which sends nothing in parts
        assert code == 0
        return
    refused(code, capsys.readouterr().err, half, found)
    assert not [key for _, key in stores.objects if not key.endswith(conditional.NAME)]
    assert not [key for key in stores.items["mlpack-registry"] if key[0].endswith("/releases")]


@pytest.mark.parametrize("switch", [switch for switch in WRONG if "complete" in switch or "none_match" in switch])
def test_what_is_sent_in_parts_is_refused_too(
    stores: FakeStores, tmp_path: Path, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranged, "PART_BYTES", 1 << 10)
    misbehave(stores, switch)
    with pytest.raises(ServiceError, match=WRONG[switch][1]):
        open_registry(stores.make_place()).publish(build(tmp_path / "large", content=os.urandom(3 << 10)))


@pytest.mark.parametrize("switch", [switch for switch in WRONG if WRONG[switch][0] == "rows"])
def test_whoever_moves_or_collects_is_refused(
    published: FakeStores, switch: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    misbehave(published, switch)
    before = len(published.items["mlpack-registry"])
    verbs = [("promote", "minilm@1", "--to", "production"), ("gc", "--yes")]
    for words in verbs[switch == "stale_reads=True" :]:  # there no release is to be seen that could be promoted
        code = run(*words, "--registry", URL)
        refused(code, capsys.readouterr().err, "rows", WRONG[switch][1])
    assert len(published.items["mlpack-registry"]) <= before + 1  # the row with which it was asked


@pytest.mark.parametrize("switch", [*WRONG, *GOOD])
def test_whoever_reads_is_not_kept_from_it(published: FakeStores, switch: str, tmp_path: Path) -> None:
    if switch != "stale_reads=True":  # of a table that shows what was before, nobody can read
        misbehave(published, switch)
        written = dict(published.objects)
        for words in (("list",), ("show", "minilm"), ("pull", "minilm", "--out", tmp_path / "pulled")):
            assert run(*words, "--registry", URL) == 0, words
        assert published.objects == written
    assert not [operation for operation in published.asked() if "Put" in operation]


@pytest.mark.parametrize("switch", [None, *GOOD])
def test_where_all_that_matters_is_kept_nothing_is_refused(
    stores: FakeStores, built: Path, switch: str | None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if switch:
        misbehave(stores, switch)
    for words in (
        ("registry", "create", URL),
        ("publish", built, "--registry", URL),
        ("publish", built, "--registry", URL),
        ("promote", "minilm@1", "--to", "production", "--registry", URL, "--force", "--why", "first"),
        ("verify", "--registry", URL),
        ("pull", "minilm:production", "--out", tmp_path / "pulled", "--registry", URL),
        ("gc", "--yes", "--registry", URL),
    ):
        code = run(*words)
        said = capsys.readouterr()
        assert code == 0, (words, said.err)
    assert (tmp_path / "pulled" / "build.json").is_file()
    sent = [at for operation, at in stores.requests if operation == "s3 PutObject" and not at.endswith(conditional.NAME)]
    if switch is None:
        assert len(sent) == len(set(sent))  # also with names of metadata in other letters


def test_it_is_asked_once_in_a_process(stores: FakeStores, tmp_path: Path) -> None:
    registry = open_registry(stores.make_place())
    registry.publish(build(tmp_path / "one", content=b"one"))
    first = len(stores.asked(of=conditional.NAME)), len(stores.asked())
    assert first[0] == 3
    stores.requests.clear()
    registry.publish(build(tmp_path / "two", content=b"two"))
    open_registry(stores.make_place()).publish(build(tmp_path / "three", content=b"three"))
    assert stores.asked(of=conditional.NAME) == []
    assert len([key for key in stores.items["mlpack-registry"] if key[0].endswith(":probe")]) == 1


def test_all_that_is_asked_are_sixteen_small_requests(stores: FakeStores) -> None:
    doubts = open_registry(stores.make_place()).place.doubts
    assert [doubt() for doubt in doubts] == [None, None]
    s3 = ["PutObject", "PutObject", "GetObject"]
    s3 += ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload"]
    rows = ["GetItem", "PutItem", "PutItem", "PutItem", "DeleteItem", "TransactWriteItems", "GetItem", "GetItem", "Query"]
    assert [operation.partition(" ")[2] for operation in stores.asked()] == s3 + rows


def test_reader_verifies_and_is_told_what_was_not_asked(published: FakeStores, capsys: pytest.CaptureFixture[str]) -> None:
    published.switches.forbidden = conditional.NAME
    assert run("verify", "--registry", URL) == 0
    said = capsys.readouterr().err
    assert "whether the store keeps what a registry needs could not be asked" in said
    assert "permission is missing" in said
    assert "0 wrong" in said


def test_two_that_ask_a_table_at_once_mislead_each_other_not(stores: FakeStores) -> None:
    url, start, said = stores.make_place(), threading.Barrier(4), []

    def ask() -> None:
        registry = open_registry(url)
        start.wait()
        said.append([doubt() for doubt in registry.place.doubts])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [[None, None]] * 4
    assert len([key for key in stores.items["mlpack-registry"] if key[0].endswith(":probe")]) == 1


def test_amazons_own_is_never_asked(published: FakeStores, monkeypatch: pytest.MonkeyPatch, built: Path) -> None:
    monkeypatch.setattr(conditional, "_AMAZON", ("127.0.0.1",))
    registry, probe = open_registry(URL), (f"models/team:{promises.ROW.partition}", promises.ROW.sort)
    before = dict(published.items["mlpack-registry"][probe])
    published.switches.forbidden = conditional.NAME
    assert care.verify(registry).findings == care.verify(registry).unasked == ()
    registry.publish(built)
    setup.create(URL)
    with collecting(registry.place, "alice"):
        pass
    assert published.asked(of=conditional.NAME) == []
    assert published.items["mlpack-registry"].get(probe) == before


def test_a_list_that_never_ends_is_one_error(stores: FakeStores, monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Any = open_registry(stores.make_place())
    client = registry.place.blobs._clients.get("s3")
    monkeypatch.setattr(client, "list_objects_v2", lambda **_: {"Contents": [], "IsTruncated": True})
    with pytest.raises(ServiceError, match="is not complete and has no token"):
        list(registry.place.blobs.list())
    monkeypatch.setattr(client, "list_objects_v2", lambda **_: {"IsTruncated": True, "NextContinuationToken": "same"})
    with pytest.raises(ServiceError, match="is not complete and has no token"):
        list(registry.place.blobs.list())


def test_what_is_no_policy_is_one_error(stores: FakeStores) -> None:
    stores.make_place()
    stores.settings["models", "policy"] = b"<ListBucketResult/>"  # as rclone answers
    with pytest.raises(ServiceError, match="something that is no policy"):
        setup._Bucket(*_parts(URL))._policy()


def _parts(url: str) -> tuple[Any, Any, Any]:
    from mlpack.registry.aws.clients import Clients, Timeouts
    from mlpack.registry.aws.opening import parse

    address = parse(url)
    clients = Clients(address, Timeouts())
    client = clients.get("s3")
    client.meta._endpoint_url = client.meta.endpoint_url.replace("http:", "https:")
    return clients, address, setup.RegistryOptions()


def test_a_service_that_speaks_another_language_is_one_error(stores: FakeStores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.services.fake_stores._CALLER", b"Not Found")  # as s3rver answers, with 200
    with pytest.raises(ServiceError, match="an answer that no such service gives"):
        setup.create(URL)


def test_bytes_that_are_there_cost_no_question(published: FakeStores, built: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(built, tmp_path / "copy")
    open_registry(URL).publish(copy)
    assert published.asked(of=conditional.NAME) == []
