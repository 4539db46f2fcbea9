"""Where answers go: one S3 object or DynamoDB item a request, written on the condition that there is none.

Promises: the first answer to a request stays, whoever else comes with one, so that a message that is delivered twice is answered
once; a write is over when the service has confirmed it. Will not: overwrite, read answers, or remove them (DynamoDB's TTL does).

The document, in S3: {"status", "headers", "body", "binary", "trace_id", "request_id"}; the body of a binary one in base64. In
DynamoDB an item {id (S), status (N), body (S): the document, trace_id (S), created (N), expires (N): seconds since 1970}.
"""

from time import time

from mlpack_runtime import aws, jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from mlpack_runtime.service import Reply

    class Results(Protocol):
        """A place for answers. Both raise `aws.failures()`."""

        def put(self, model: str, request_id: str, document: "dict[str, Any]") -> bool:
            """Write it. False: there was an answer already, which stays. Raises TooLargeError."""

        def has(self, model: str, request_id: str) -> bool:
            """Whether there is an answer."""


DYNAMODB_LIMIT_BYTES = 400 * 1024  # AWS: "the maximum item size in DynamoDB is 400 KB", names included
_OVERHEAD_BYTES = 2048
_CONFLICTS = 5


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


def open_results(uri: str, *, keep_s: int, region: "str | None" = None) -> "Results":
    """The place at s3://bucket/prefix or dynamodb://table. Raises AwsError."""
    scheme, place, prefix = aws.split_uri(uri, "s3", "dynamodb")
    client = aws.client(scheme, region_name=region)
    return S3Results(client, place, prefix) if scheme == "s3" else DynamoResults(client, place, keep_s)


class S3Results:
    """PREFIX/<model>/<request_id>.json in a bucket."""

    def __init__(self, client: "Any", bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def key(self, model: str, request_id: str) -> str:
        """Where an answer is."""
        return f"{self._prefix}{model}/{request_id}.json"

    def put(self, model: str, request_id: str, document: "dict[str, Any]") -> bool:
        """Write it, unless something is there."""
        body = jsontext.dumps(document).encode()
        for attempt in range(_CONFLICTS):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self.key(model, request_id),
                    Body=body,
                    ContentType="application/json",
                    IfNoneMatch="*",
                )
                return True
            except aws.failures() as error:
                if aws.code(error) in ("PreconditionFailed", "412"):
                    return False
                # Another writer is at it this very moment: S3 says to try again.
                if aws.code(error) != "ConditionalRequestConflict" or attempt == _CONFLICTS - 1:
                    raise
        raise AssertionError

    def has(self, model: str, request_id: str) -> bool:
        """Ask for the object's head."""
        try:
            self._client.head_object(Bucket=self._bucket, Key=self.key(model, request_id))
        except aws.failures() as error:
            if aws.code(error) in ("404", "NoSuchKey", "NotFound"):
                return False
            raise
        return True


class DynamoResults:
    """Items of a table whose key is `id` (S): <model>/<request_id>. They expire `keep_s` after they were written."""

    def __init__(self, client: "Any", table: str, keep_s: int) -> None:
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
        try:
            self._client.put_item(TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(id)")
        except aws.failures() as error:
            if aws.code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def has(self, model: str, request_id: str) -> bool:
        """Read the item's key, as of now."""
        answer = self._client.get_item(
            TableName=self._table, Key={"id": {"S": f"{model}/{request_id}"}}, ConsistentRead=True, ProjectionExpression="id"
        )
        return "Item" in answer
