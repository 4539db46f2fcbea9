"""Where answers go: one S3 object or DynamoDB item a request, written on the condition that there is none.

Promises: the first answer to a request stays, whoever else comes with one, so that a message that is delivered twice is answered
once; a write is over when the service has confirmed it. A place that would not keep this is found out (`assure`), and used only
where it was agreed to: then each write looks first. Will not: overwrite what it has seen, read answers, or remove them (DynamoDB's
TTL does).

The document, in S3: {"status", "headers", "body", "binary", "trace_id", "request_id"}; the body of a binary one in base64. In
DynamoDB an item {id (S), status (N), body (S): the document, trace_id (S), created (N), expires (N): seconds since 1970}.
"""

from time import time

from mlpack_runtime import aws, jsontext
from mlpack_runtime.aws import promises
from mlpack_runtime.limits import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from mlpack_runtime.service import Reply

    class Results(Protocol):
        """A place for answers. All raise `aws.failures()`. `unconditional`: it keeps no conditions, and is written to without."""

        unconditional: bool

        def refusal(self, model: str) -> str:
            """What the place does with a second answer that is none to keep; "" where it refuses it. Asks it."""

        def put(self, model: str, request_id: str, document: "dict[str, Any]") -> bool:
            """Write it. False: there was an answer already, which stays. Raises TooLargeError."""

        def status(self, model: str, request_id: str) -> int | None:
            """The status of the answer that is there; None where there is none."""


DYNAMODB_LIMIT_BYTES = 400 * 1024  # AWS: "the maximum item size in DynamoDB is 400 KB", names included
_OVERHEAD_BYTES = 2048
_CONFLICTS = 5
_AGAIN = ("ConditionalRequestConflict", "PreconditionFailed", "412")
_DOCUMENT = frozenset(("status", "headers", "body", "binary", "trace_id", "request_id"))
_MARKS = (b"status", b"body", b"binary", b"trace_id", b"request_id")
"""Texts without one of these are not read to find out whether they are answers."""
_LAYERS = 2
"""An item, or a record of one, and the document in its `body`."""
_LOST = (
    "Two workers that have the same message at the same moment would both write its answer, and the later one would replace the "
    "first unseen: `a request has one result` would not be true."
)


class AnswerError(ValueError):
    """What lies where a request should be is an answer that a package has kept: to answer it would be to write another, for this
    package or a second one to answer, without end."""


class TooLargeError(ValueError):
    """The answer is larger than the place takes."""


def document(reply: "Reply", request_id: str, trace_id: str) -> "dict[str, Any]":
    """An answer as it is kept."""
    if reply.binary:
        from binascii import b2a_base64

        body = b2a_base64(reply.body, newline=False).decode("ascii")
    else:
        body = reply.body.decode()
    return {
        "status": reply.status,
        "headers": reply.headers,
        "body": body,
        "binary": reply.binary,
        "trace_id": trace_id,
        "request_id": request_id,
    }


def check_request(body: bytes) -> None:
    """Raise AnswerError where the bytes are an answer, whichever package wrote it: a document, a table's item of one, or a stream's
    record of that item, as DynamoDB's own streams, Kinesis and pipes have it."""
    if all(mark in body for mark in _MARKS):
        try:
            value = jsontext.loads(body)
        except ValueError:
            return
        if _is_answer(value):
            raise AnswerError("it is an answer that a package has written")


def _is_answer(value: "Any") -> bool:
    for _ in range(_LAYERS):
        if type(value) is not dict:
            return False
        if value.keys() == _DOCUMENT:
            return True
        change = value.get("dynamodb")
        image = change.get("NewImage") if type(change) is dict else None
        if type(image) is dict:
            value = {name: held["S"] for name, held in image.items() if type(held) is dict and "S" in held}
        inner = value.get("body")
        try:
            value = jsontext.loads(inner) if type(inner) is str and type(value.get("id")) is str else None
        except ValueError:
            return False
    return False


def keep_s(environment: "Mapping[str, str]") -> int:
    """For how many seconds DynamoDB's TTL is to keep an answer: MLPACK_RESULTS_KEEP_S. Raises SettingsError."""
    return int(number(environment, "MLPACK_RESULTS_KEEP_S", 7 * 86_400, 60, 10 * 365 * 86_400))


def folder(uri: str, model: str) -> str:
    """What addresses of a model's answers begin with: `s3://bucket/prefix/model/`, `dynamodb://table/model/`. Raises AwsError."""
    scheme, place, prefix = aws.split_uri(uri, "s3", "dynamodb")
    return "/".join((f"{scheme}://{place}", *([prefix] if prefix and scheme == "s3" else []), model, ""))


def open_results(uri: str, *, keep_s: int, region: "str | None" = None, **overrides: "Any") -> "Results":
    """The place at s3://bucket/prefix or dynamodb://table. `overrides` as for `aws.client`. Raises AwsError."""
    scheme, place, prefix = aws.split_uri(uri, "s3", "dynamodb")
    client = aws.client(scheme, region_name=region, **overrides)
    return S3Results(client, place, prefix) if scheme == "s3" else DynamoResults(client, place, keep_s)


def assure(place: "Results", model: str, uri: str, warn: "Callable[[str], None]", *, unconditional: bool) -> None:
    """Ask the place whether it keeps the first answer. PromiseError where it does not; with `unconditional` a warning, and from
    then on it is written to without conditions. Raises `aws.failures()` where it cannot be asked."""
    found = place.refusal(model)
    promises.settle(place, found, promises.said(uri, found, _LOST), warn, unconditional=unconditional)


class S3Results:
    """PREFIX/<model>/<request_id>.json in a bucket."""

    def __init__(self, client: "Any", bucket: str, prefix: str) -> None:
        self.unconditional = False
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def key(self, model: str, request_id: str) -> str:
        """Where an answer is."""
        return f"{self._prefix}{model}/{request_id}.json"

    def put(self, model: str, request_id: str, document: "dict[str, Any]") -> bool:
        """Write it, unless something is there."""
        body = jsontext.dumps(document).encode()
        condition = {} if self.unconditional else {"IfNoneMatch": "*"}
        if self.unconditional and self.status(model, request_id) is not None:
            return False
        for attempt in range(_CONFLICTS):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self.key(model, request_id),
                    Body=body,
                    ContentType="application/json",
                    Metadata={"status": str(document["status"])},  # so that whoever looks need not read the answer
                    **condition,
                )
                return True
            except aws.failures() as error:
                # Whoever is told "no" has its message deleted: what is said to be there has to be.
                if aws.code(error) in ("PreconditionFailed", "412") and self.status(model, request_id) is not None:
                    return False
                # Another writer is at it this very moment: S3 says to try again.
                if aws.code(error) not in _AGAIN or attempt == _CONFLICTS - 1:
                    raise
        raise AssertionError

    def refusal(self, model: str) -> str:
        """As Results says."""
        if promises.is_amazons(self._client):
            return ""
        return promises.in_bucket(self._client, self._bucket, f"{self._prefix}{model}/{promises.NAME}")

    def status(self, model: str, request_id: str) -> "int | None":
        """Ask for the object's head. 200 of one that an older mlpack wrote, which does not say."""
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=self.key(model, request_id))
        except aws.failures() as error:
            if aws.code(error) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise
        return _number(head.get("Metadata", {}).get("status"))


class DynamoResults:
    """Items of a table whose key is `id` (S): <model>/<request_id>. They expire `keep_s` after they were written."""

    def __init__(self, client: "Any", table: str, keep_s: int) -> None:
        self.unconditional = False
        self._client = client
        self._table = table
        self._keep_s = keep_s

    def put(self, model: str, request_id: str, document: "dict[str, Any]") -> bool:
        """Put it on the condition that there is no such item."""
        body, now = jsontext.dumps(document), int(time())
        size = len(body) + len(document["trace_id"]) + len(model) + len(request_id) + _OVERHEAD_BYTES
        if size > DYNAMODB_LIMIT_BYTES:
            raise TooLargeError(f"the answer has {len(body)} bytes; a DynamoDB item takes {DYNAMODB_LIMIT_BYTES}: use an S3 place")
        item = {
            "id": {"S": f"{model}/{request_id}"},
            "status": {"N": str(document["status"])},
            "body": {"S": body},
            "trace_id": {"S": document["trace_id"]},
            "created": {"N": str(now)},
            "expires": {"N": str(now + self._keep_s)},
        }
        condition = {} if self.unconditional else {"ConditionExpression": "attribute_not_exists(id)"}
        if self.unconditional and self.status(model, request_id) is not None:
            return False
        try:
            self._client.put_item(TableName=self._table, Item=item, **condition)
        except aws.failures() as error:
            if aws.code(error) == "ConditionalCheckFailedException" and self.status(model, request_id) is not None:
                return False
            raise
        return True

    def refusal(self, model: str) -> str:
        """As Results says."""
        return "" if promises.is_amazons(self._client) else promises.in_table(self._client, self._table, f"{model}/{promises.NAME}")

    def status(self, model: str, request_id: str) -> "int | None":
        """Read the item's status, as of now."""
        answer = self._client.get_item(
            TableName=self._table,
            Key={"id": {"S": f"{model}/{request_id}"}},
            ConsistentRead=True,
            ProjectionExpression="id, #status",
            ExpressionAttributeNames={"#status": "status"},
        )
        return _number(answer["Item"].get("status", {}).get("N")) if "Item" in answer else None


def _number(text: object) -> int:
    return int(text) if type(text) is str and text.isascii() and text.isdigit() and len(text) < 5 else 200
