"""The bytes of a manifest, from a file or from S3, from any offset on, a chunk at a time.

Promises: all bytes are of one version of the manifest: one that changes meanwhile is a BatchError, or, in a bucket that keeps
versions, is read as it was; a connection that breaks is opened again where it broke; no more than a chunk is held.
Will not: know lines.
"""

# ruff: noqa: PTH123 - pathlib is nothing that this runtime needs

import os
from time import sleep

from mlpack_runtime import aws
from mlpack_runtime.batch.errors import BatchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO, Protocol

    class Source(Protocol):
        """A manifest. `uri`: as people write it; `tag`: what tells its version from others; `size`: in bytes."""

        uri: str
        tag: str
        size: int

        def chunks(self, offset: int) -> "Iterator[bytes]":
            """From there to the end. Raises BatchError."""

        def opened(self) -> "BinaryIO":
            """As a file that can seek, for readers that start at the end. Raises BatchError."""

        def check(self) -> None:
            """Raise BatchError where the manifest has changed."""


CHUNK_BYTES = 1 << 20
_TRIES = 5
_PAUSE_S = 0.5
_CHANGED = ("PreconditionFailed", "412", "NoSuchKey", "NoSuchVersion", "404")


def open_source(uri: str, client: "Callable[[], Any]") -> "Source":
    """The manifest at s3://bucket/key, or the file of that path. `client`: makes a client of S3. Raises BatchError."""
    if not uri.startswith("s3://"):
        return FileSource(uri)
    try:
        _, bucket, key = aws.split_uri(uri, "s3")
    except aws.AwsError as error:
        raise BatchError(str(error)) from None
    key = uri.removeprefix("s3://").partition("/")[2]  # as it is: a key may begin or end with a slash
    if not key:
        raise BatchError(f"{uri} is a bucket: name an object in it")
    return S3Source(client(), bucket, key)


class FileSource:
    """A file of this machine."""

    def __init__(self, path: str) -> None:
        self.uri = os.path.abspath(path)
        try:
            told = os.stat(self.uri)
            if not os.path.isfile(self.uri):
                raise BatchError(f"{self.uri} is no file: a manifest is one, with a request a line")
        except OSError as error:
            raise BatchError(f"{self.uri} cannot be read: {error.strerror}") from None
        self.size = told.st_size
        self.tag = f"{told.st_size}-{told.st_mtime_ns}"

    def check(self) -> None:
        """By its size and the time of its last change."""
        try:
            told = os.stat(self.uri)
        except OSError as error:
            raise BatchError(f"{self.uri} cannot be read any more: {error.strerror}") from None
        if f"{told.st_size}-{told.st_mtime_ns}" != self.tag:
            raise _changed(self.uri)

    def opened(self) -> "BinaryIO":
        """The file."""
        self.check()
        return open(self.uri, "rb")

    def chunks(self, offset: int) -> "Iterator[bytes]":
        """Its bytes."""
        with self.opened() as stream:
            stream.seek(offset)
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
                self.check()


class S3Source:
    """An object."""

    def __init__(self, client: "Any", bucket: str, key: str) -> None:
        self.uri = f"s3://{bucket}/{key}"
        self._client = client
        self._place: dict[str, str] = {"Bucket": bucket, "Key": key}
        try:
            head = client.head_object(**self._place)
        except aws.failures() as error:
            raise _failure(self.uri, error, "cannot be read") from None
        version = head.get("VersionId")
        if version and version != "null":
            self._place["VersionId"] = version
        self._etag = str(head["ETag"])
        self.size = int(head["ContentLength"])
        self.tag = self._etag.strip('"')

    def check(self) -> None:
        """By its ETag."""
        try:
            self._client.head_object(**self._place, IfMatch=self._etag)
        except aws.failures() as error:
            raise self._failed(error) from None

    def opened(self) -> "BinaryIO":
        """The object as a file, read in ranges."""
        from io import BufferedReader

        from mlpack_runtime.batch.reading.ranges import RangedFile

        return BufferedReader(RangedFile(self.size, self._range), CHUNK_BYTES)

    def chunks(self, offset: int) -> "Iterator[bytes]":
        """Its bytes, by one request; by another one from there on where that breaks."""
        tries = 0
        while offset < self.size:
            try:
                body = self._get(f"bytes={offset}-")
                while chunk := body.read(CHUNK_BYTES):
                    offset += len(chunk)
                    tries = 0
                    yield chunk
                if offset < self.size:
                    raise OSError("the answer ended early")
            except BatchError:
                raise
            except Exception as error:  # noqa: BLE001  (what breaks while a body is read is of many kinds: urllib3's, botocore's, the system's)
                tries += 1
                if tries == _TRIES:
                    raise _failure(self.uri, error, f"cannot be read from byte {offset} on") from None
                sleep(_PAUSE_S * tries)

    def _range(self, begin: int, end: int) -> bytes:
        for tried in range(_TRIES):
            try:
                data = bytes(self._get(f"bytes={begin}-{end - 1}").read())
                if len(data) == end - begin:
                    return data
                raise OSError("the answer ended early")
            except BatchError:
                raise
            except Exception as error:  # noqa: BLE001  (as above)
                if tried == _TRIES - 1:
                    raise _failure(self.uri, error, f"cannot be read at byte {begin}") from None
                sleep(_PAUSE_S * (tried + 1))
        raise AssertionError

    def _get(self, span: str) -> "Any":
        try:
            return self._client.get_object(**self._place, Range=span, IfMatch=self._etag)["Body"]
        except aws.failures() as error:
            if aws.code(error) in _CHANGED or aws.is_final(error):
                raise self._failed(error) from None
            raise

    def _failed(self, error: Exception) -> BatchError:
        return _changed(self.uri) if aws.code(error) in _CHANGED else _failure(self.uri, error, "cannot be read")


def _changed(uri: str) -> BatchError:
    return BatchError(f"{uri} has changed since this batch began: its results would be of two manifests. Run it again as it is now")


def _failure(uri: str, error: Exception, what: str) -> BatchError:
    if aws.code(error) in ("404", "NoSuchKey", "NoSuchBucket"):
        return BatchError(f"there is nothing at {uri}")
    return BatchError(f"{uri} {what}: {aws.told(error)}", 2 if aws.is_final(error) else 4)
