"""The storage of a shared cache: a bucket of S3, or a directory that several machines see.

Promises:
- An object is there whole or not at all. Only a writer that names the version it has read replaces one.
- Every failure is a `StorageUnavailableError` (or OSError), within seconds when a service does not answer.
- boto3 is imported at the first request.

Will not: know what the bytes mean.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mlpack.core.files import atomically
from mlpack.store import conditional

CONNECT_S, ANSWER_S = 3.0, 15.0
"""The time limits for a connection and between two parts of an answer: a build can do without the service."""
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_COPY_BYTES = 1 << 20
_WRITING = ".writing-"
ABANDONED_S = 24 * 3600.0
"""A file that its writer has not written to for so long is abandoned: the writer's time limit is shorter."""
_WHAT = "conditional writes"
_NEEDED = "Reading takes s3:GetObject there and s3:ListBucket on the bucket, writing s3:PutObject as well"
"""Without s3:ListBucket, S3 answers that a missing key is forbidden."""


class StorageUnavailableError(Exception):
    """The storage cannot be used. `writes_only`: it can still be read."""

    def __init__(self, message: str, *, writes_only: bool = False) -> None:
        super().__init__(message)
        self.writes_only = writes_only


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An open object. `read` returns up to so many of its bytes, none at its end; `version` names the version that is read."""

    read: Callable[[int], bytes]
    version: str


class Objects(Protocol):
    """Bytes by name."""

    def open(self, name: str) -> AbstractContextManager[OpenObject | None]:
        """The object, open within the block; None when it does not exist."""

    def write(self, name: str, source: Path, version: str | None, until: float) -> bool:
        """Write a file as a new object (`version` None), or over that version; False when another writer was first.

        StorageUnavailableError when it takes longer than `until`, by `time.monotonic`.
        """

    def uri(self, name: str) -> str:
        """The object's address, for people."""


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A file in `folder`, which is made when missing, for an object that has no place yet."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fresh = stack.enter_context(atomically.unfinished(folder, _WRITING))
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            raise StorageUnavailableError(f"{folder} cannot be written to ({error.strerror})", writes_only=True) from error
        yield fresh


class Folder:
    """Objects as files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._swept = False

    @contextmanager
    def open(self, name: str) -> Iterator[OpenObject | None]:
        """See `Objects.open`."""
        try:
            stream = self._path(name).open("rb")
        except FileNotFoundError:
            yield None
            return
        with stream:
            yield OpenObject(read=stream.read, version=_version(os.fstat(stream.fileno())))

    def write(self, name: str, source: Path, version: str | None, until: float) -> bool:
        """See `Objects.write`.

        Between the look at a version and its replacement another writer may come: then the later of the two stays.
        """
        path = self._path(name)
        with _unfinished(path.parent) as fresh:
            try:
                with fresh.open("wb") as stream, source.open("rb") as file:
                    timed = _DeadlineReader(file, until)
                    while chunk := timed.read(_COPY_BYTES):
                        stream.write(chunk)
                self._sweep(fresh)
                if version is None:
                    fresh.chmod(0o644)  # the directory decides who may read the cache
                    os.link(fresh, path)
                elif _version(path.stat()) == version:
                    atomically.put(fresh, path)
                else:
                    return False
            except (FileExistsError, FileNotFoundError):
                return False
        return True

    def _sweep(self, fresh: Path) -> None:
        """Remove what killed writers left beside `fresh`, which was written just now and so tells the time by the clock of those
        files."""
        if self._swept:
            return
        self._swept = True
        now = fresh.stat().st_mtime
        for leftover in fresh.parent.glob(f"{_WRITING}*"):
            with suppress(OSError):  # another process swept it, or it is another user's
                if now - leftover.lstat().st_mtime > ABANDONED_S:
                    leftover.unlink()

    def uri(self, name: str) -> str:
        """See `Objects.uri`."""
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        return self._root / name


class Bucket:
    """Objects below a prefix of a bucket. boto3 finds credentials, region and endpoint in its usual way.

    `overwrites` is called once, before the first write, if the store does not refuse a write that must not overwrite, with what
    it does instead.
    """

    def __init__(
        self, bucket: str, prefix: str, answer_s: float = ANSWER_S, overwrites: Callable[[str], None] = lambda _: None
    ) -> None:
        self._bucket, self._prefix, self._answer_s = bucket, prefix, answer_s
        self._overwrites = overwrites
        self._unconditional = False

    @contextmanager
    def open(self, name: str) -> Iterator[OpenObject | None]:
        """See `Objects.open`."""
        with self._explained(name):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            except self._client.exceptions.NoSuchKey:
                yield None
                return
            body = answer["Body"]
            try:
                yield OpenObject(read=body.read, version=answer["ETag"])
            finally:
                body.close()

    def write(self, name: str, source: Path, version: str | None, until: float) -> bool:
        """See `Objects.write`. One request: whoever is first is first.

        A store that is not Amazon's own is asked before whether it keeps that. One that does not is written to all the same: then
        the later of two stays.
        """
        from botocore.exceptions import ClientError

        with self._explained(name):
            self._ask(name)
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        if self._unconditional:
            condition = {}
        with source.open("rb") as file:
            timed = _DeadlineReader(file, until)
            with self._explained(name, timed):
                try:
                    self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=timed, **condition)
                except ClientError as error:
                    # 409: another write of this key is under way. 404: the version to be replaced is gone.
                    if _status(error) in (404, 409, 412) and _code(error) != "NoSuchBucket":
                        return False
                    raise
        return True

    def uri(self, name: str) -> str:
        """See `Objects.uri`."""
        return f"s3://{self._bucket}/{self._key(name)}"

    def _ask(self, name: str) -> None:
        """Test the store beside the object that is to be written, because one may write there."""
        if self._unconditional or not conditional.is_open(self._client, _WHAT):
            return None
        probe = self._key(f"{name.rpartition('/')[0]}/{conditional.NAME}".lstrip("/"))
        behaviour = conditional.of_objects(self._client, self._bucket, probe)
        if not behaviour:
            return conditional.remember(str(self._client.meta.endpoint_url), _WHAT)
        self._unconditional = True
        self._overwrites(behaviour)
        return None

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        # Every entry is checked against a signed digest: S3's own checksums would add nothing.
        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=self._answer_s,
            retries={"mode": "standard", "total_max_attempts": 2},
            response_checksum_validation="when_required",
        )
        return boto3.session.Session().client("s3", config=config)

    @contextmanager
    def _explained(self, name: str, timed: _DeadlineReader | None = None) -> Iterator[None]:
        """A context in which whatever boto3 raises becomes a StorageUnavailableError."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            refused = _status(error) == 403
            hint = ". " + _NEEDED if refused else ""
            raise StorageUnavailableError(f"{self.uri(name)}: {error}{hint}", writes_only=refused and timed is not None) from error
        except (BotoCoreError, HTTPError) as error:
            if timed is not None and timed.late:
                raise StorageUnavailableError(f"{self.uri(name)}: the upload took too long", writes_only=True) from error
            raise StorageUnavailableError(f"{self.uri(name)}: {error}") from error


class _DeadlineReader:
    """A file that can be read until a moment, and not later."""

    def __init__(self, file: BinaryIO, until: float) -> None:
        self._file, self._until = file, until
        self.late = False

    def read(self, size: int = -1) -> bytes:
        """See `BinaryIO.read`. StorageUnavailableError when it is too late."""
        if time.monotonic() > self._until:
            self.late = True
            raise StorageUnavailableError("writing to it took too long", writes_only=True)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See `BinaryIO.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """See `BinaryIO.tell`."""
        return self._file.tell()


def _version(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
