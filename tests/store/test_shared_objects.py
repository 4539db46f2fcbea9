"""One contract for every place a shared cache may be in, and what is particular to each."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.services.aws_server import REGION, AwsServer, Fault

from mlpack.store.shared_objects import ABANDONED_S, Bucket, Folder, Objects, StorageUnavailableError

NAME = "cache/v1/abc"
BUCKET = "shared"


@pytest.fixture
def bucket(aws: AwsServer) -> Bucket:
    client = aws.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    client.close()
    aws.clear_log()
    return Bucket(BUCKET, "team/models", answer_s=0.5)


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    return Folder(tmp_path / "place") if request.param == "folder" else request.getfixturevalue("bucket")


def write(objects: Objects, path: Path, text: str, version: str | None = None, seconds: float = 60.0) -> bool:
    source = path / f"{text}.txt"
    source.write_text(text)
    return objects.write(NAME, source, version, time.monotonic() + seconds)


def read(objects: Objects) -> tuple[str, str] | None:
    """Its text and version."""
    with objects.open(NAME) as found:
        if found is None:
            return None
        data = b""
        while piece := found.read(2):
            data += piece
        return data.decode(), found.version


def test_nothing_is_there_until_it_is_written(objects: Objects, tmp_path: Path) -> None:
    assert read(objects) is None
    assert write(objects, tmp_path, "hello")
    assert (read(objects) or ())[0] == "hello"


def test_the_first_writer_wins(objects: Objects, tmp_path: Path) -> None:
    assert write(objects, tmp_path, "first")
    assert not write(objects, tmp_path, "second")
    assert (read(objects) or ())[0] == "first"


def test_version_is_replaced_only_by_who_has_seen_it(objects: Objects, tmp_path: Path) -> None:
    write(objects, tmp_path, "damaged")
    seen = read(objects)
    assert seen is not None
    assert write(objects, tmp_path, "mended", seen[1])
    assert not write(objects, tmp_path, "late", seen[1])
    assert (read(objects) or ())[0] == "mended"


def test_what_is_gone_is_not_replaced(objects: Objects, tmp_path: Path) -> None:
    assert not write(objects, tmp_path, "x", '"0123"')
    assert read(objects) is None


def test_of_writers_at_once_one_wins_and_is_whole(objects: Objects, tmp_path: Path) -> None:
    start, won = threading.Barrier(8), []

    def one(number: int) -> None:
        text = str(number) * 100_000
        source = tmp_path / str(number)
        source.write_text(text)
        start.wait()
        if objects.write(NAME, source, None, time.monotonic() + 60):
            won.append(text)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    with objects.open(NAME) as found:
        assert found is not None
        assert found.read(1 << 20) == won[0].encode()


def test_a_writer_gives_up_when_its_time_is_over(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError) as raised:
        write(objects, tmp_path, "slow", seconds=-1)
    assert raised.value.writes_only
    assert read(objects) is None
    assert not list((tmp_path / "place").glob("**/.*"))


def test_what_killed_writers_left_is_swept_by_a_later_one(tmp_path: Path) -> None:
    folder, there = Folder(tmp_path / "place"), tmp_path / "place" / "cache" / "v1"
    there.mkdir(parents=True)
    ages = {".writing-dead": ABANDONED_S + 60, ".writing-alive": ABANDONED_S - 60, "entry": 10 * ABANDONED_S}
    for name, age in ages.items():
        (there / name).touch()
        os.utime(there / name, (time.time() - age,) * 2)
    assert write(folder, tmp_path, "x")
    assert sorted(path.name for path in there.iterdir()) == [".writing-alive", "abc", "entry"]


def test_a_writer_beside_others_takes_nothing_of_theirs(tmp_path: Path) -> None:
    """One that is at work, and what cannot be removed."""
    there = tmp_path / "place" / "cache" / "v1"
    there.mkdir(parents=True)
    (there / ".writing-folder").mkdir()
    os.utime(there / ".writing-folder", (0, 0))
    source, came = tmp_path / "source", []
    source.write_text("x")

    class Beside:
        """Another writer comes while the first one's file is open."""

        def open(self, mode: str) -> Any:
            came.append(Folder(tmp_path / "place").write("cache/v1/other", source, None, time.monotonic() + 60))
            return source.open(mode)

    beside: Any = Beside()
    assert Folder(tmp_path / "place").write(NAME, beside, None, time.monotonic() + 60)
    assert came == [True]
    assert sorted(path.name for path in there.iterdir()) == [".writing-folder", "abc", "other"]


def test_people_can_find_it(bucket: Bucket, tmp_path: Path) -> None:
    assert bucket.uri(NAME) == f"s3://{BUCKET}/team/models/{NAME}"
    assert Bucket(BUCKET, "").uri(NAME) == f"s3://{BUCKET}/{NAME}"
    assert Folder(tmp_path).uri(NAME) == str(tmp_path / NAME)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Tests may run as root, whom no mode of a directory keeps from anything."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


def test_a_directory_that_may_only_be_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    (tmp_path / "place").mkdir(mode=0o555)
    with ordinary_user(), pytest.raises(StorageUnavailableError, match="cannot be written") as raised:
        Folder(tmp_path / "place").write(NAME, source, None, time.monotonic() + 60)
    assert raised.value.writes_only


def test_a_bucket_that_may_only_be_read(bucket: Bucket, aws: AwsServer, tmp_path: Path) -> None:
    assert write(bucket, tmp_path, "there")
    aws.plan(Fault("error", operation="PutObject", status=403, code="AccessDenied", onward=True))
    with pytest.raises(StorageUnavailableError, match="s3:PutObject") as raised:
        write(bucket, tmp_path, "more")
    assert raised.value.writes_only
    assert (read(bucket) or ())[0] == "there"


def test_a_bucket_that_may_not_be_read(bucket: Bucket, aws: AwsServer) -> None:
    aws.plan(Fault("error", operation="GetObject", status=403, code="AccessDenied", onward=True))
    with pytest.raises(StorageUnavailableError, match="s3:ListBucket") as raised:
        read(bucket)
    assert not raised.value.writes_only


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault("error", onward=True), Fault("close", onward=True), Fault("hang", onward=True)])
@pytest.mark.parametrize("verb", ["read", "write"])
def test_a_service_that_fails_is_tried_twice_and_no_more(
    bucket: Bucket, aws: AwsServer, tmp_path: Path, fault: Fault, verb: str
) -> None:
    aws.plan(fault)
    with pytest.raises(StorageUnavailableError) as raised:
        read(bucket) if verb == "read" else write(bucket, tmp_path, "x")
    assert not raised.value.writes_only
    aws.plan()
    if fault.action != "hang":  # those end when the server is reset
        assert len(aws.log("s3")) == 2


def test_a_fault_that_passes_is_got_over(bucket: Bucket, aws: AwsServer, tmp_path: Path) -> None:
    aws.plan(Fault("close", operation="PutObject"))
    assert write(bucket, tmp_path, "x")
    aws.plan(Fault("error", operation="GetObject"))
    assert (read(bucket) or ())[0] == "x"


def test_a_write_whose_answer_was_lost_is_not_made_twice(bucket: Bucket, aws: AwsServer, tmp_path: Path) -> None:
    aws.plan(Fault("close", operation="PutObject", after=True))
    assert not write(bucket, tmp_path, "x")  # somebody was first: itself
    assert (read(bucket) or ())[0] == "x"


def test_another_write_under_way_is_first(bucket: Bucket, aws: AwsServer, tmp_path: Path) -> None:
    aws.plan(Fault("error", operation="PutObject", status=409, code="ConditionalRequestConflict", onward=True))
    assert not write(bucket, tmp_path, "x")


def test_a_bucket_that_is_not_there(aws: AwsServer, tmp_path: Path) -> None:
    nowhere = Bucket("nowhere", "")
    with pytest.raises(StorageUnavailableError, match="NoSuchBucket"):
        write(nowhere, tmp_path, "x")
    with pytest.raises(StorageUnavailableError, match="NoSuchBucket"):
        write(nowhere, tmp_path, "x", '"0123"')
    with pytest.raises(StorageUnavailableError, match="NoSuchBucket"):
        read(nowhere)


def test_nobody_there_and_no_credentials(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageUnavailableError, match="connect"):
        read(Bucket(BUCKET, ""))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(StorageUnavailableError, match="credentials"):
        read(Bucket(BUCKET, ""))


def test_an_answer_that_breaks_off(bucket: Bucket, aws: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header of an answer may promise more than comes."""

    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        # The listener's end is an error of accept; a client that gave up is one of the connection.
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(1 << 16)
                    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "1"\r\n\r\nonly this')

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    with pytest.raises(StorageUnavailableError):
        read(Bucket(BUCKET, ""))
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()
