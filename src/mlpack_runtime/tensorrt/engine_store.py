"""Where built engines are kept: in the package, and in a bucket under their key.

    MLPACK_ENGINES = s3://bucket/prefix
    PREFIX/<digest>.engine   the bytes, named by their SHA-256
    PREFIX/<key>.json        the record of a key: {"schema", "key", "digest", "size_bytes", "sm", "device", "driver", "tensorrt",
                             "verified"}, put once and never replaced

Promises: a record is written after its bytes and by a conditional put, so exactly one publisher of a key wins, and the other takes
what the winner put; a bucket that does not keep this is told (`Shelf.look_out`), and each publisher then looks first; bytes whose
SHA-256 is not the record's, or the package's own specification's, are never handed out.
Will not: decide who may write to the bucket. Whoever can is trusted with the fleet: an engine is code.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import base64
import hashlib
import json
import os
import time

from mlpack_runtime import aws
from mlpack_runtime.aws import promises
from mlpack_runtime.tensorrt import engine_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

SCHEMA = 1
FAILED, SERVICE, MISS = 3, 4, 5
"""Exit codes: the package or the engine is wrong; a service failed; there is no engine for this device."""

_TAKEN = ("PreconditionFailed", "412")
_CONFLICT = ("ConditionalRequestConflict", "409")
_ATTEMPTS = 6
_PAUSE_S = 0.2
_ABSENT = ("NoSuchKey", "404", "NotFound")


_LOST = (
    "Two processes that build an engine of one key at the same moment both publish theirs, the later one's record replaces the "
    "first, and parts of a fleet may run engines that differ in their roundings. Each is verified all the same; build in one "
    "place, or take another store for MLPACK_ENGINES."
)


class EngineError(RuntimeError):
    """No engine, or none that may be used. `code` is the process's exit code for it."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class Shelf:
    """Engines by key in a bucket. Every failure of the service is an EngineError with SERVICE."""

    def __init__(self, address: str) -> None:
        try:
            _, self._bucket, prefix = aws.split_uri(address, "s3")
            self._client = aws.client("s3")
        except aws.AwsError as error:
            raise EngineError(f"MLPACK_ENGINES: {error}") from None
        self._unconditional = False
        self.address = address.rstrip("/")
        self._prefix = f"{prefix}/" if prefix else ""

    def record(self, key: str) -> "dict[str, Any] | None":
        """What is known of a key's engine, None when nobody has published one. Raises EngineError for a damaged record."""
        data = self._get(f"{key}.json")
        if data is None:
            return None
        try:
            found = json.loads(data)
            whole = found["schema"] == SCHEMA and found["key"] == key and type(found["size_bytes"]) is int
            digits = found["digest"].removeprefix("sha256:")
            whole = whole and len(digits) == 64 and set(digits) <= set("0123456789abcdef")
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise EngineError(f"{self.address}/{key}.json is not the record of an engine: remove it, and build the engine again")
        return dict(found)

    def engine(self, record: "Mapping[str, Any]") -> bytes:
        """The bytes of a record, verified. Raises EngineError."""
        name = _name(record["digest"])
        data = self._get(name)
        if data is None:
            raise EngineError(f"{self.address}/{name} is gone, and the record of {record['key']} names it: build with --force")
        if _digest(data) != record["digest"]:
            raise EngineError(
                f"{self.address}/{name} is not the engine that was published ({len(data):,} bytes of {_digest(data)}): it is "
                "damaged, or somebody replaced it. It was not loaded; find out who wrote there, then build with --force"
            )
        return data

    def publish(self, record: "Mapping[str, Any]", data: bytes, *, force: bool = False) -> "tuple[dict[str, Any], bool]":
        """(the record that stands, whether it is ours). `force` replaces the record of a key. Raises EngineError."""
        self._put(_name(record["digest"]), data, "application/octet-stream", conditional=not force)
        ours = self._put(f"{record['key']}.json", engine_key.canonical(record), "application/json", conditional=not force)
        if ours:
            return dict(record), True
        standing = self.record(record["key"])
        if standing is None:
            raise EngineError(f"the record of {record['key']} was there and is gone: build again", SERVICE)
        return standing, False

    def look_out(self, say: "Callable[[str], None]") -> None:
        """Before an engine is built: ask the bucket whether it keeps the first record of a key, and say what is lost where it does
        not. No reason not to build: engines have their digest as their name, and each is verified. Raises EngineError."""
        if self._unconditional or promises.is_amazons(self._client):
            return
        try:
            found = promises.in_bucket(self._client, self._bucket, self._prefix + promises.NAME)
        except aws.failures() as error:
            raise EngineError(f"{self.address} cannot be asked what it keeps: {aws.told(error)}", SERVICE) from None
        if found:
            self._unconditional = True
            say(promises.said(self.address, found, _LOST))

    def _get(self, name: str) -> "bytes | None":
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            data: bytes = answer["Body"].read()
        except aws.failures() as error:
            if aws.code(error) in _ABSENT:
                return None
            raise EngineError(f"{self.address}/{name} cannot be read: {aws.told(error)}", SERVICE) from None
        return data

    def _put(self, name: str, data: bytes, kind: str, *, conditional: bool) -> bool:
        """Whether it was written; False when the name is taken."""
        digest = hashlib.sha256(data)
        if conditional and self._unconditional and self._get(name) is not None:
            return False
        condition = {"IfNoneMatch": "*"} if conditional and not self._unconditional else {}
        for attempt in range(_ATTEMPTS):
            try:
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + name, Body=data, ContentType=kind,
                    Metadata={"sha256": digest.hexdigest()}, ChecksumSHA256=base64.b64encode(digest.digest()).decode(), **condition,
                )  # fmt: skip
            except aws.failures() as error:
                if conditional and aws.code(error) in _TAKEN:
                    return False
                # Another conditional write of this name is under way: S3 does not say yet how it ends, and asks to try again.
                if conditional and aws.code(error) in _CONFLICT and attempt + 1 < _ATTEMPTS:
                    time.sleep(_PAUSE_S * (attempt + 1))
                    continue
                raise EngineError(f"{self.address}/{name} cannot be written: {aws.told(error)}", SERVICE) from None
            else:
                break
        return True


def _name(digest: str) -> str:
    return digest.removeprefix("sha256:") + ".engine"


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def record_of(key: str, data: bytes, device: "Mapping[str, Any]", spec: "Mapping[str, Any]", verified: "Any") -> "dict[str, Any]":
    """The record of an engine that was just built and verified."""
    return {
        "schema": SCHEMA, "key": key, "digest": _digest(data), "size_bytes": len(data), "sm": device["sm"],
        "device": device["name"], "driver": device["driver"], "tensorrt": spec["tensorrt"], "verified": verified,
    }  # fmt: skip


def packaged(directory: str, row: "Mapping[str, Any]") -> bytes:
    """The engine in the package that this row of the specification names, verified. Raises EngineError."""
    path = os.path.join(directory, row["file"])
    if os.path.isabs(row["file"]) or ".." in row["file"].split("/"):
        raise EngineError(f"{engine_key.FILE} names an engine outside the package: {row['file']!r}")
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise EngineError(f"the engine {path} cannot be read ({error.strerror}): the package is not whole, copy it again") from None
    if _digest(data) != row["digest"]:
        raise EngineError(f"the engine {path} is not the one that {engine_key.FILE} names: it is damaged or was replaced, and was "
                          "not loaded; copy the package again")  # fmt: skip
    return data
