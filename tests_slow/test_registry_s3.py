"""Bytes in S3: uploads at once, cut off and refused; fetches that break off, are killed and go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.services.aws_server import AwsServer, Fault

from mlpack.core import interrupts
from mlpack.core.digest import Digest, of_bytes
from mlpack.errors import ServiceError
from mlpack.registry import Blobs
from mlpack.registry.aws import ranged, s3
from mlpack.registry.aws.clients import Timeouts
from mlpack.registry.aws.opening import open_registry

QUICK = Timeouts(connect_s=2, read_s=1, tries=3)
PART = 64 << 10
PARTS = 5
SMALL = b"some bytes"
LARGE = os.urandom(PART * (PARTS - 1) + 7)
BOTH = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])


@pytest.fixture
def blobs(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Blobs]:
    monkeypatch.setattr(ranged, "PART_BYTES", PART)
    place = open_registry(aws.make_place(), patience=QUICK).place
    yield place.blobs
    place.table.close()


def key(named: Digest) -> str:
    return f"team/blobs/sha256/{named.hex[:2]}/{named.hex}"


def operations(aws: AwsServer) -> list[str]:
    return sorted(one.operation for one in aws.log("s3"))


def unfinished(aws: AwsServer) -> list[Any]:
    client = aws.client("s3")
    found = client.list_multipart_uploads(Bucket="models").get("Uploads", [])
    client.close()
    return found


# --- sending ----------------------------------------------------------------------------------------------------------


def test_what_is_sent_carries_its_digest(aws: AwsServer, blobs: Blobs) -> None:
    client = aws.client("s3")
    for data in (SMALL, LARGE):
        named = of_bytes(data)
        blobs.put(named, data)
        assert client.head_object(Bucket="models", Key=key(named))["Metadata"] == {"sha256": named.hex}
    client.close()


def test_small_bytes_are_one_request_and_large_ones_go_in_parts(aws: AwsServer, blobs: Blobs) -> None:
    blobs.put(of_bytes(SMALL), SMALL)
    assert operations(aws) == ["HeadObject", "PutObject"]
    aws.clear_log()
    blobs.put(of_bytes(SMALL), SMALL)
    assert operations(aws) == ["HeadObject"]
    aws.clear_log()
    blobs.put(of_bytes(LARGE), LARGE)
    assert operations(aws) == ["CompleteMultipartUpload", "CreateMultipartUpload", "HeadObject", *["UploadPart"] * PARTS]


@BOTH
def test_another_publisher_that_was_first_is_found(aws: AwsServer, blobs: Blobs, data: bytes) -> None:
    """Both saw nothing; the second one's condition fails, and what is there is what it wanted."""
    aws.plan(Fault("error", status=404, code="NoSuchKey", operation="HeadObject"))
    blobs.put(of_bytes(data), data)
    aws.plan(Fault("error", status=404, code="NoSuchKey", operation="HeadObject"))
    aws.clear_log()
    assert blobs.put(of_bytes(data), data) is False
    assert {one.status for one in aws.log() if one.operation in ("PutObject", "CompleteMultipartUpload")} == {412}
    assert unfinished(aws) == []
    assert blobs.read(of_bytes(data)) == data


@BOTH
@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_a_publisher_at_the_same_moment_is_waited_for(aws: AwsServer, blobs: Blobs, data: bytes, code: str) -> None:
    last = "PutObject" if data is SMALL else "CompleteMultipartUpload"
    aws.plan(Fault("error", status=409, code=code, operation=last), Fault("error", status=409, code=code, operation=last, number=2))
    assert blobs.put(of_bytes(data), data) is True
    assert operations(aws).count(last) == 3
    assert blobs.read(of_bytes(data)) == data
    assert unfinished(aws) == []


def test_publishers_that_never_end_are_given_up(aws: AwsServer, blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_TRIES", 3)
    aws.plan(Fault("error", status=409, code="ConditionalRequestConflict", operation="PutObject", onward=True))
    with pytest.raises(ServiceError, match="others wrote it at the same moment, again and again") as caught:
        blobs.put(of_bytes(SMALL), SMALL)
    assert caught.value.retryable


@BOTH
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("action", ["close", "error", "hang"])
def test_an_answer_that_was_lost_changes_nothing(aws: AwsServer, blobs: Blobs, data: bytes, action: str, after: bool) -> None:
    for operation in ("HeadObject", "PutObject") if data is SMALL else ("UploadPart", "CompleteMultipartUpload"):
        named = of_bytes(data + operation.encode())
        aws.plan(Fault(action, after=after, operation=operation))
        blobs.put(named, data + operation.encode())
        assert blobs.put(named, data + operation.encode()) is False
        assert blobs.check(named) is None
    assert unfinished(aws) == []


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_an_upload_that_fails_leaves_nothing(aws: AwsServer, blobs: Blobs, operation: str) -> None:
    aws.plan(Fault("error", status=500, code="InternalError", operation=operation, onward=True))
    with pytest.raises(ServiceError, match=r"s3:PutObject on arn:aws:s3:::models/team/blobs/.* failed 3 times with 500") as caught:
        blobs.put(of_bytes(LARGE), LARGE)
    assert caught.value.retryable
    aws.plan()
    assert unfinished(aws) == []
    assert list(blobs.list()) == []
    assert blobs.put(of_bytes(LARGE), LARGE) is True


def test_an_upload_that_was_aborted_by_others_begins_again(aws: AwsServer, blobs: Blobs) -> None:
    aws.plan(Fault("error", status=404, code="NoSuchUpload", operation="UploadPart", number=3))
    assert blobs.put(of_bytes(LARGE), LARGE) is True
    assert operations(aws).count("CreateMultipartUpload") == 2
    assert blobs.read(of_bytes(LARGE)) == LARGE


def test_bytes_that_were_replaced_since_are_looked_at_again(aws: AwsServer, blobs: Blobs) -> None:
    """Damage is replaced only as it was seen."""
    client = aws.client("s3")
    named = of_bytes(SMALL)
    client.put_object(Bucket="models", Key=key(named), Body=b"damaged")
    aws.plan(Fault("error", status=412, code="PreconditionFailed", operation="PutObject"))
    assert blobs.put(named, SMALL) is True
    assert blobs.read(named) == SMALL
    client.close()


# --- reading ----------------------------------------------------------------------------------------------------------


def test_parts_are_as_large_as_s3_wants_them(aws: AwsServer, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    data = os.urandom((17 << 20) + 5)
    assert blobs.put(of_bytes(data), data) is True
    blobs.fetch(of_bytes(data), tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == data
    assert [operations(aws).count(name) for name in ("UploadPart", "GetObject")] == [3, 3]


def test_large_bytes_are_fetched_in_parts(aws: AwsServer, blobs: Blobs, tmp_path: Path) -> None:
    blobs.put(of_bytes(LARGE), LARGE)
    aws.clear_log()
    blobs.fetch(of_bytes(LARGE), tmp_path / "got")
    assert operations(aws) == ["GetObject"] * PARTS


@pytest.mark.parametrize("action", ["cut", "close", "error", "hang"])
@pytest.mark.parametrize("use", ["read", "check", "fetch"])
def test_an_answer_that_breaks_off_is_gone_on_with(aws: AwsServer, blobs: Blobs, tmp_path: Path, use: str, action: str) -> None:
    named = of_bytes(LARGE)
    blobs.put(named, LARGE)
    aws.plan(Fault(action, operation="GetObject"), Fault(action, operation="GetObject", number=3))
    if use == "read":
        assert blobs.read(named) == LARGE
    elif use == "check":
        assert blobs.check(named) is None
    else:
        blobs.fetch(named, tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == LARGE


def test_an_answer_that_always_breaks_off_is_an_error(
    aws: AwsServer, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_TRIES", 2)
    blobs.put(of_bytes(LARGE), LARGE)
    aws.plan(Fault("cut", operation="GetObject", number=2, onward=True))
    with pytest.raises(ServiceError, match=r"s3:GetObject on .* got no answer: .*check the network") as caught:
        blobs.fetch(of_bytes(LARGE), tmp_path / "got")
    assert caught.value.retryable
    assert not (tmp_path / "got").exists()
    aws.plan()
    aws.clear_log()
    blobs.fetch(of_bytes(LARGE), tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == LARGE
    assert len(operations(aws)) < PARTS  # the first one was there
    assert [path.name for path in tmp_path.iterdir()] == ["got"]


def killed(work: Any) -> bool:
    """Run in a process of its own; whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("number", range(1, PARTS + 1))
def test_a_fetch_that_was_killed_goes_on(aws: AwsServer, blobs: Blobs, tmp_path: Path, number: int) -> None:
    named, got = of_bytes(LARGE), [0]
    blobs.put(named, LARGE)
    aws.clear_log()

    def fetch() -> None:
        aws.plan(Fault("kill", operation="GetObject", number=number, pid=os.getpid()))
        open_registry("s3://models/team?table=mlpack-registry", patience=QUICK).place.blobs.fetch(named, tmp_path / "got")

    assert killed(fetch)
    assert not (tmp_path / "got").exists()
    aws.plan()
    aws.clear_log()
    blobs.fetch(named, tmp_path / "got", got.append)
    assert (tmp_path / "got").read_bytes() == LARGE
    assert sum(got) == len(LARGE)
    assert [path.name for path in tmp_path.iterdir()] == ["got"]


def left_by(tmp_path: Path, named: Digest, done: list[int], data: bytes = LARGE, version: str = "") -> None:
    """What a killed fetch leaves: these parts."""
    part = tmp_path / f".got.{named.hex[:16]}.part"
    part.write_bytes(data)
    lines = [f'{{"size": {len(LARGE)}, "version": "{version}"}}', *map(str, done)]
    part.with_suffix(".parts").write_text("\n".join(lines) + "\n")


def tag_of(aws: AwsServer, named: Digest) -> str:
    client = aws.client("s3")
    tag = str(client.head_object(Bucket="models", Key=key(named))["ETag"])
    client.close()
    return tag.replace('"', '\\"')


def test_only_what_is_missing_is_fetched(aws: AwsServer, blobs: Blobs, tmp_path: Path) -> None:
    named = of_bytes(LARGE)
    blobs.put(named, LARGE)
    left_by(tmp_path, named, [0, 1, 3], version=tag_of(aws, named))
    aws.clear_log()
    blobs.fetch(named, tmp_path / "got")
    assert operations(aws) == ["GetObject"] * 2
    left_by(tmp_path, named, [0, 1, 2, 3, 4], version=tag_of(aws, named))
    aws.clear_log()
    blobs.fetch(named, tmp_path / "got")
    assert operations(aws) == []
    assert (tmp_path / "got").read_bytes() == LARGE


@pytest.mark.parametrize("change", ["bytes", "version", "journal", "length", "part"])
def test_what_was_left_is_not_trusted(aws: AwsServer, blobs: Blobs, tmp_path: Path, change: str) -> None:
    named = of_bytes(LARGE)
    blobs.put(named, LARGE)
    data = LARGE[:99] + b"?" + LARGE[100:] if change == "bytes" else LARGE[:-1] if change == "length" else LARGE
    version = '\\"elsewhere\\"' if change == "version" else tag_of(aws, named)
    left_by(tmp_path, named, [0, 1, 9 if change == "part" else 3], data, version)
    if change == "journal":
        (tmp_path / f".got.{named.hex[:16]}.parts").write_text("[]\nnot a number\n")
    blobs.fetch(named, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == LARGE
    assert [path.name for path in tmp_path.iterdir()] == ["got"]


def test_a_file_that_another_process_fetches_is_not_touched(aws: AwsServer, blobs: Blobs, tmp_path: Path) -> None:
    import fcntl

    named = of_bytes(LARGE)
    blobs.put(named, LARGE)
    theirs = tmp_path / f".got.{named.hex[:16]}.part"
    with theirs.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write(b"theirs")
        stream.flush()
        blobs.fetch(named, tmp_path / "got")
        assert theirs.read_bytes() == b"theirs"
    assert (tmp_path / "got").read_bytes() == LARGE
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["got", theirs.name])


def test_a_full_disk_leaves_nothing(aws: AwsServer, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs.put(of_bytes(LARGE), LARGE)
    written = [0]
    real = os.pwrite

    def full(stream: int, data: bytes, at: int) -> int:
        written[0] += len(data)
        if written[0] > 2 * PART:
            raise OSError(28, "No space left on device")
        return real(stream, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        blobs.fetch(of_bytes(LARGE), tmp_path / "got")
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_replaced_while_they_are_read(aws: AwsServer, blobs: Blobs, tmp_path: Path) -> None:
    named = of_bytes(LARGE)
    blobs.put(named, LARGE)
    aws.plan(Fault("error", status=412, code="PreconditionFailed", operation="GetObject", number=2))
    with pytest.raises(ranged.ChangedError, match="was replaced while it was read: try again"):
        blobs.fetch(named, tmp_path / "got")
    aws.plan()
    blobs.fetch(named, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == LARGE


def test_an_interrupt_ends_a_fetch_and_what_is_there_stays(
    aws: AwsServer, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may run in a thread, which no signal reaches."""
    named = of_bytes(LARGE)
    blobs.put(named, LARGE)
    seen: list[int] = []
    monkeypatch.setattr(interrupts, "_seen", seen)
    with pytest.raises(KeyboardInterrupt):
        blobs.fetch(named, tmp_path / "got", lambda _: seen.append(2))
    assert not (tmp_path / "got").exists()
    assert len(list(tmp_path.glob(".got*"))) == 2
    with pytest.raises(KeyboardInterrupt):
        blobs.put(of_bytes(LARGE[1:]), LARGE[1:])
    assert unfinished(aws) == []
    seen.clear()
    blobs.fetch(named, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == LARGE


def test_lists_come_in_pages(aws: AwsServer, blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_PAGE", 10)
    client = aws.client("s3")
    every = sorted(of_bytes(str(i).encode()) for i in range(23))
    for named in every:
        client.put_object(Bucket="models", Key=key(named), Body=b"")
    client.close()
    aws.clear_log()
    assert [one.digest for one in blobs.list()] == every
    assert operations(aws) == ["ListObjectsV2"] * 3


def test_a_head_that_failed_for_a_moment(aws: AwsServer, blobs: Blobs) -> None:
    """Its answers have no words: it is asked why in another way, which may know more."""
    refused = Fault("error", status=403, code="AccessDenied", operation="HeadObject")
    aws.plan(refused)
    assert blobs.size(of_bytes(SMALL)) is None
    for data in (SMALL, b""):
        blobs.put(of_bytes(data), data)
        aws.plan(refused)
        with pytest.raises(ServiceError, match="permission is missing"):
            blobs.size(of_bytes(data))
        assert blobs.size(of_bytes(data)) == len(data)
