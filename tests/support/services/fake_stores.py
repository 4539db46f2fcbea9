"""S3, DynamoDB and STS in memory, on loopback, that misbehave on request: each switch is something a compatible store was seen to
do, or may. They do as much as mlpack asks for, and no more: moto is the one that is like AWS.

    def test_something(stores: FakeStores) -> None:          nothing is in it, and boto3 and botocore speak with it
        stores.switches.none_match = "ignored"
        stores.objects          (bucket, key): bytes
        stores.items            table: {key: item}
        stores.requests         ("s3 PutObject", bucket/key), ...
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import secrets
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

import pytest

from mlpack.store import conditional
from mlpack_runtime.aws import promises

REGION = "eu-central-1"
Item = dict[str, dict[str, Any]]


@dataclass
class Switches:
    """How they misbehave. A number counts down with every time they do."""

    none_match: str = "kept"
    """kept | ignored (rclone) | 501 | error-in-200 (refused, with the status of success) | writes (says 412, writes all the same) |
    always (412, whatever is there) | absent-404 (a new name is refused with 404, as a version of versitygw did)"""
    if_match: str = "kept"
    """kept | ignored"""
    complete: str = "kept"
    """Of conditions at the end of an upload in parts: kept | ignored | 501"""
    conflicts: int = 0
    """Conditional writes answered with 409 first."""
    late_reads: int = 0
    """Reads, each of the first after a write, that do not find what is there."""
    forbidden: str = ""
    """A part of the name of what may not be written."""
    conditions: str = "kept"
    """Of a table: kept | ignored | unknown (501)"""
    removals: str = "kept"
    """Conditions of DeleteItem: kept | ignored"""
    transactions: str = "kept"
    """kept | ignored (their conditions) | halves (what came before a condition that fails stays) | unknown (dynalite)"""
    stale_reads: bool = False
    """Reads, consistent ones too, show a row as it was before its last write."""
    returns_item: bool = True
    """Whether a refused condition comes with the row that was there: dynalite's does not."""


@dataclass
class _Upload:
    at: tuple[str, str]
    headers: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


class FakeStores:
    """One server for all three."""

    def __init__(self) -> None:
        self._empty()
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.stores = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def reset(self) -> None:
        """Empty, and well-behaved."""
        with self.lock:
            self._empty()

    def _empty(self) -> None:
        self.switches = Switches()
        self.objects: dict[tuple[str, str], bytes] = {}
        self.metadata: dict[tuple[str, str], dict[str, str]] = {}
        self.settings: dict[tuple[str, str], bytes] = {}
        """A bucket's, by what AWS calls them in the query."""
        self.buckets: set[str] = set()
        self.uploads: dict[str, _Upload] = {}
        self.items: dict[str, dict[tuple[str, ...], Item]] = {}
        self.before: dict[str, dict[tuple[str, ...], Item | None]] = {}
        self.keys: dict[str, tuple[str, ...]] = {}
        self.requests: list[tuple[str, str]] = []
        self.fresh: set[tuple[str, str]] = set()

    def __enter__(self) -> FakeStores:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes boto3 come here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_table(self, table: str, *keys: str) -> None:
        """A table with these keys, all of them strings."""
        self.keys[table] = keys
        self.items.setdefault(table, {})
        self.before.setdefault(table, {})

    def make_place(self) -> str:
        """A bucket and a table for a registry; its address."""
        self.buckets.add("models")
        self.make_table("mlpack-registry", "pk", "sk")
        return "s3://models/team?table=mlpack-registry"

    def asked(self, *, of: str = "") -> list[str]:
        """The operations so far on what has `of` in its name."""
        return [operation for operation, at in self.requests if of in at]


class _RefusedError(Exception):
    """An error's answer."""

    def __init__(self, status: int, code: str, more: dict[str, Any] | None = None) -> None:
        super().__init__(code)
        self.status, self.code, self.more = status, code, more or {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815  (http.server's names)

    @property
    def stores(self) -> FakeStores:
        return self.server.stores  # type: ignore[attr-defined,no-any-return]

    def _answer(self) -> None:
        body = self._body()
        target = self.headers.get("X-Amz-Target")
        try:
            with self.stores.lock:
                if target is not None:
                    status, headers, data = _Table(self.stores).answer(target.rpartition(".")[2], json.loads(body))
                elif b"Action=GetCallerIdentity" in body:
                    status, headers, data = 200, {}, _CALLER
                else:
                    status, headers, data = _Bucket(self.stores, self.headers).answer(self.command, self.path, body)
        except _RefusedError as error:
            status, headers = error.status, {}
            if target is not None:
                data = json.dumps({"__type": f"fake#{error.code}", "message": error.code} | error.more).encode()
            else:
                data = f"<Error><Code>{error.code}</Code><Message>{error.code}</Message></Error>".encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" not in (self.headers.get("Content-Encoding") or ""):
            return body
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            length = int(size.partition(b";")[0], 16)
            if not length:
                break
            whole, body = whole + body[:length], body[length + 2 :]
        return whole


_CALLER = (
    b"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account><Arn>arn:aws:iam::123456789012:user/a</Arn>"
    b"<UserId>a</UserId></GetCallerIdentityResult></GetCallerIdentityResponse>"
)
_NO_SETTING = {
    "publicAccessBlock": "NoSuchPublicAccessBlockConfiguration", "ownershipControls": "OwnershipControlsNotFoundError",
    "encryption": "ServerSideEncryptionConfigurationNotFoundError", "policy": "NoSuchBucketPolicy",
    "lifecycle": "NoSuchLifecycleConfiguration", "tagging": "NoSuchTagSet",
}  # fmt: skip
_Answer = tuple[int, dict[str, str], bytes]


class _Bucket:
    """S3."""

    def __init__(self, stores: FakeStores, headers: Any) -> None:
        self.stores, self.headers, self.switches = stores, headers, stores.switches

    def answer(self, method: str, path: str, body: bytes) -> _Answer:
        path, _, query = path.partition("?")
        bucket, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        if not key:
            return self._bucket(method, bucket, asked, body)
        at = (bucket, key)
        if bucket not in self.stores.buckets:
            raise _RefusedError(404, "NoSuchBucket")
        if "uploads" in asked or "uploadId" in asked:
            return self._parts(method, at, asked, body)
        self._note({"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[method], at)
        if method == "PUT":
            return self._put(at, body)
        if method == "DELETE":
            self.stores.objects.pop(at, None)
            return 204, {}, b""
        return self._get(at)

    def _note(self, operation: str, at: tuple[str, str]) -> None:
        self.stores.requests.append((f"s3 {operation}", "/".join(at)))

    def _put(self, at: tuple[str, str], body: bytes) -> _Answer:
        if self.switches.forbidden and self.switches.forbidden in "/".join(at):
            raise _RefusedError(403, "AccessDenied")
        refusal = self._refusal(at, self.switches.none_match)
        if refusal is not None:
            if self.switches.none_match == "writes":
                self._keep(at, body, self.headers)
            if self.switches.none_match == "error-in-200":
                return 200, {}, f"<Error><Code>{refusal.code}</Code><Message>no</Message></Error>".encode()
            raise refusal
        return 200, {"ETag": self._keep(at, body, self.headers)}, b""

    def _keep(self, at: tuple[str, str], body: bytes, headers: Any) -> str:
        self.stores.objects[at] = body
        # In other letters than they came, as rclone does.
        self.stores.metadata[at] = {key.title(): value for key, value in headers.items() if key.lower().startswith("x-amz-meta-")}
        self.stores.fresh.add(at)
        return _tag(body)

    def _refusal(self, at: tuple[str, str], kept: str) -> _RefusedError | None:
        """What a write's condition comes to; None: it may write."""
        new, same = self.headers.get("If-None-Match") is not None, self.headers.get("If-Match")
        if not new and same is None:
            return None
        if self.switches.conflicts:
            self.switches.conflicts -= 1
            raise _RefusedError(409, "ConditionalRequestConflict")
        if same is not None:
            if self.switches.if_match == "ignored" or kept == "ignored":
                return None
            if at not in self.stores.objects:
                return _RefusedError(404, "NoSuchKey")
            return _RefusedError(412, "PreconditionFailed") if same != _tag(self.stores.objects[at]) else None
        if kept == "501":
            raise _RefusedError(501, "NotImplemented")
        if kept == "always":
            return _RefusedError(412, "PreconditionFailed")
        if kept == "absent-404" and at not in self.stores.objects:
            return _RefusedError(404, "NoSuchKey")
        return _RefusedError(412, "PreconditionFailed") if kept != "ignored" and at in self.stores.objects else None

    def _get(self, at: tuple[str, str]) -> _Answer:
        found = self.stores.objects.get(at)
        if at in self.stores.fresh:
            self.stores.fresh.discard(at)
            if self.switches.late_reads:
                self.switches.late_reads -= 1
                found = None
        if found is None:
            raise _RefusedError(404, "NoSuchKey")
        headers = {"ETag": _tag(found), "Last-Modified": "Sun, 29 Nov 2026 12:00:00 GMT", **self.stores.metadata.get(at, {})}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            return 200, headers | {"Content-Length": str(len(found))}, found
        begin, end = int(wanted[1]), min(int(wanted[2] or len(found)), len(found) - 1)
        if begin >= len(found):
            raise _RefusedError(416, "InvalidRange")
        return 206, headers | {"Content-Range": f"bytes {begin}-{end}/{len(found)}"}, found[begin : end + 1]

    def _parts(self, method: str, at: tuple[str, str], asked: dict[str, str], body: bytes) -> _Answer:
        uploads = self.stores.uploads
        if "uploads" in asked:
            named = secrets.token_hex(8)
            self._note("CreateMultipartUpload", at)
            uploads[named] = _Upload(at, dict(self.headers.items()))
            return 200, {}, f"<InitiateMultipartUploadResult><UploadId>{named}</UploadId></InitiateMultipartUploadResult>".encode()
        upload = uploads.get(asked["uploadId"])
        if upload is None:
            raise _RefusedError(404, "NoSuchUpload")
        if method == "PUT":
            self._note("UploadPart", at)
            upload.parts[int(asked["partNumber"])] = body
            sums = {name: value for name, value in self.headers.items() if name.lower().startswith("x-amz-checksum-")}
            return 200, {"ETag": _tag(body), **sums}, b""
        if method == "DELETE":
            self._note("AbortMultipartUpload", at)
            del uploads[asked["uploadId"]]
            return 204, {}, b""
        self._note("CompleteMultipartUpload", at)
        if (refusal := self._refusal(at, self.switches.complete)) is not None:
            raise refusal
        tag = self._keep(at, b"".join(part for _, part in sorted(upload.parts.items())), upload.headers)
        del uploads[asked["uploadId"]]
        return 200, {}, f"<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>".encode()

    def _bucket(self, method: str, bucket: str, asked: dict[str, str], body: bytes) -> _Answer:
        setting = next((name for name in asked if name in _NO_SETTING or name == "versioning"), None)
        if setting is not None:
            self._note(f"{method} {setting}", (bucket, ""))
            if method == "PUT":
                self.stores.settings[bucket, setting] = body
                return 200, {}, b""
            found = self.stores.settings.get((bucket, setting))
            if found is None and setting == "versioning":
                found = b"<VersioningConfiguration/>"
            if found is None:
                raise _RefusedError(404, _NO_SETTING[setting])
            return 200, {}, found
        if method == "PUT":
            self._note("CreateBucket", (bucket, ""))
            self.stores.buckets.add(bucket)
            return 200, {}, b""
        if bucket not in self.stores.buckets:
            raise _RefusedError(404, "NoSuchBucket")
        if "list-type" in asked:
            return self._list(bucket, asked)
        return 200, {"x-amz-bucket-region": REGION}, b""

    def _list(self, bucket: str, asked: dict[str, str]) -> _Answer:
        self._note("ListObjectsV2", (bucket, asked.get("prefix", "")))
        found = sorted(key for at, key in self.stores.objects if at == bucket and key.startswith(asked.get("prefix", "")))
        each = "<Contents><Key>{}</Key><Size>{}</Size><LastModified>2026-11-29T12:00:00.000Z</LastModified></Contents>"
        listed = "".join(each.format(escape(key), len(self.stores.objects[bucket, key])) for key in found)
        return 200, {}, f"<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>".encode()


def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


class _Table:
    """DynamoDB."""

    def __init__(self, stores: FakeStores) -> None:
        self.stores, self.switches = stores, stores.switches

    def answer(self, operation: str, asked: dict[str, Any]) -> _Answer:
        table = asked.get("TableName", "")
        self.stores.requests.append((f"dynamodb {operation}", table))
        made = {
            "GetItem": self._get, "PutItem": self._write, "DeleteItem": self._write, "UpdateItem": self._write,
            "Query": self._query, "TransactWriteItems": self._transact, "CreateTable": self._create,
            "DescribeTable": self._describe, "UpdateTable": lambda _: {}, "TagResource": lambda _: {},
            "ListTagsOfResource": lambda _: {"Tags": []},
            "DescribeContinuousBackups": lambda _: {}, "UpdateContinuousBackups": lambda _: {},
        }.get(operation)  # fmt: skip
        if made is None:
            raise _RefusedError(400, "UnknownOperationException")
        if table and table not in self.stores.keys and operation != "CreateTable":
            raise _RefusedError(400, "ResourceNotFoundException")
        if operation == "DeleteItem":
            asked["_removes"] = True
        return 200, {}, json.dumps(made(asked)).encode()

    def _key(self, asked: dict[str, Any]) -> tuple[str, ...]:
        item = asked.get("Item") or asked["Key"]
        return tuple(item[name]["S"] for name in self.stores.keys[asked["TableName"]])

    def _shown(self, table: str, key: tuple[str, ...]) -> Item | None:
        if self.switches.stale_reads and key in self.stores.before[table]:
            return self.stores.before[table][key]
        return self.stores.items[table].get(key)

    def _get(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = self._shown(asked["TableName"], self._key(asked))
        return {"Item": found} if found is not None else {}

    def _query(self, asked: dict[str, Any]) -> dict[str, Any]:
        table, values = asked["TableName"], asked["ExpressionAttributeValues"]
        keys = sorted(key for key in self.stores.items[table] if key[0] == values[":pk"]["S"])
        after = values.get(":after", {}).get("S")
        if after is not None:
            newer = "sk > " in asked["KeyConditionExpression"]
            keys = [key for key in keys if (key[1] > after if newer else key[1] < after)]
        if not asked.get("ScanIndexForward", True):
            keys.reverse()
        found = [item for key in keys[: asked.get("Limit")] if (item := self._shown(table, key)) is not None]
        return {"Items": found, "Count": len(found)}

    def _refusal(self, asked: dict[str, Any], kept: str) -> _RefusedError | None:
        condition = asked.get("ConditionExpression")
        if condition is None or kept == "ignored":
            return None
        if kept == "unknown":
            raise _RefusedError(501, "NotImplemented")
        found = self.stores.items[asked["TableName"]].get(self._key(asked))
        if any(_holds(each, found, asked) for each in condition.split(" OR ")):
            return None
        more = {"Item": found} if found and self.switches.returns_item else {}
        return _RefusedError(400, "ConditionalCheckFailedException", more)

    def _write(self, asked: dict[str, Any]) -> dict[str, Any]:
        kept = self.switches.removals if "_removes" in asked and self.switches.conditions == "kept" else self.switches.conditions
        if (refusal := self._refusal(asked, kept)) is not None:
            raise refusal
        self._do(asked)
        return {}

    def _do(self, asked: dict[str, Any]) -> None:
        table, key = asked["TableName"], self._key(asked)
        items = self.stores.items[table]
        self.stores.before[table][key] = copy.deepcopy(items.get(key))
        if "Item" in asked:
            items[key] = asked["Item"]
        elif "UpdateExpression" in asked:
            for each in asked["UpdateExpression"].removeprefix("SET ").split(", "):
                name, value = each.split(" = ")
                items[key][asked.get("ExpressionAttributeNames", {}).get(name, name)] = asked["ExpressionAttributeValues"][value]
        else:
            items.pop(key, None)

    def _transact(self, asked: dict[str, Any]) -> dict[str, Any]:
        how = self.switches.transactions
        if how == "unknown":
            raise _RefusedError(400, "UnknownOperationException")
        writes = [dict(write) for one in asked["TransactItems"] for write in one.values()]
        refusals = [self._refusal(write, "ignored" if how == "ignored" else "kept") for write in writes]
        for write, refusal in zip(writes, refusals, strict=True):
            if not any(refusals) or (how == "halves" and refusal is None):
                self._do(write)
        if any(refusals):
            reasons = [{"Code": "ConditionalCheckFailed", **refusal.more} if refusal else {"Code": "None"} for refusal in refusals]
            raise _RefusedError(400, "TransactionCanceledException", {"CancellationReasons": reasons})
        return {}

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.stores.make_table(asked["TableName"], *(each["AttributeName"] for each in asked["KeySchema"]))
        return self._describe(asked)

    def _describe(self, asked: dict[str, Any]) -> dict[str, Any]:
        keys = self.stores.keys[asked["TableName"]]
        return {
            "Table": {
                "TableName": asked["TableName"], "TableStatus": "ACTIVE", "DeletionProtectionEnabled": True,
                "TableArn": f"arn:aws:dynamodb:{REGION}:123456789012:table/{asked['TableName']}",
                "SSEDescription": {"Status": "ENABLED"}, "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
                "KeySchema": [{"AttributeName": n, "KeyType": kind} for n, kind in zip(keys, ("HASH", "RANGE"), strict=False)],
                "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in keys],
            }
        }  # fmt: skip


def _holds(condition: str, found: Item | None, asked: dict[str, Any]) -> bool:
    if condition.startswith("attribute_not_exists"):
        return found is None
    name, sign, value = condition.split(" ")
    have = (found or {}).get(asked.get("ExpressionAttributeNames", {}).get(name, name))
    if have is None:
        return False
    (kind, left), (_, right) = next(iter(have.items())), next(iter(asked["ExpressionAttributeValues"][value].items()))
    first, second = (float(left), float(right)) if kind == "N" else (left, right)
    return {"=": first == second, "<": first < second, "<=": first <= second}[sign]


@pytest.fixture(scope="session")
def stores_server() -> Iterator[FakeStores]:
    """The server of this test session."""
    from botocore import loaders

    loader = loaders.create_loader()  # each session of botocore would parse AWS's descriptions anew
    with pytest.MonkeyPatch.context() as patch, FakeStores() as made:
        patch.setattr(loaders, "create_loader", lambda _search_path=None: loader)
        yield made


@pytest.fixture
def stores(stores_server: FakeStores, monkeypatch: pytest.MonkeyPatch) -> FakeStores:
    """Empty and well-behaved stores of which this process knows nothing, and to which its environment points."""
    stores_server.reset()
    monkeypatch.setattr(conditional, "_kept", set())
    for pause in (conditional, promises):
        monkeypatch.setattr(pause, "_PAUSE_S", 0.0)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in stores_server.environment.items():
        monkeypatch.setenv(name, value)
    return stores_server
