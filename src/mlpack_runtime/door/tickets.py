"""Where the results of queued requests lie, S3 or DynamoDB, as whoever waits for them sees it; and the tickets of those to come.

    PREFIX/MODEL/ID.json     a result, written by a worker, once      DynamoDB: an item with `id` = MODEL/ID, the same in `body`
    PREFIX/MODEL/ID.ticket   that the request was accepted            DynamoDB: an item with `id` = ticket/MODEL/ID

Promises: a result is whole or not there; a ticket holds {"digest", "trace_id", "expires"} and, until its request was sent where a
caller named it, {"state": CLAIMED}; one that has expired is not there; of two digests at once one has the ticket; what AWS refuses
is a `ServiceError` with its words. Will not: wait, retry beyond the client's own, or write results.
"""

from mlpack_runtime import aws, jsontext
from mlpack_runtime.aws import promises
from mlpack_runtime.door.forms import passed_on
from mlpack_runtime.service import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Results(Protocol):
        """Either place. `name` is MODEL/ID. `unconditional`: it keeps no conditions, and is written to without;
        `doubted`: what asks it before the first ticket, where that could not be done at the start."""

        unconditional: bool
        doubted: "Callable[[], None] | None"

        def refusal(self, model: str) -> str:
            """What the place does with a second ticket under one name; "" where it refuses it. Asks it. Raises ServiceError."""

        def result(self, name: str) -> "dict[str, Any] | None":
            """{"status", "headers", "body", "binary"}, or None while there is none."""

        def ticket(self, name: str, now_s: float) -> "dict[str, Any] | None":
            """What `accept` wrote, or None."""

        def accept(self, name: str, ticket: "dict[str, Any]", now_s: float) -> bool:
            """Write a ticket, unless there is one that has not expired: that stays. False when it is another digest's."""

        def note(self, name: str, ticket: "dict[str, Any]") -> None:
            """Write a ticket whose claim `accept` has just written."""


CLAIMED = "claimed"
_TRIES = 5  # at a ticket that others write, or that is removed, at the same moment
_ABSENT = ("NoSuchKey", "404")
_THERE = ("PreconditionFailed", "ConditionalRequestConflict", "ConditionalCheckFailedException")


_LOST = (
    "Two requests that come at once under one id would both be sent, and one result would answer both, though they may ask for "
    "different things."
)


class ServiceError(RuntimeError):
    """A service could not be reached, or refused. The message says which and why; `status` is what its caller gets."""

    status = 503


def failed(error: Exception, doing: str) -> ServiceError:
    """What to raise for one of `aws.failures()`."""
    return ServiceError(f"{doing}: {aws.told(error)}")


def reply_of(document: "dict[str, Any]", name: str) -> Reply:
    """A result as the answer that it is. Raises ServiceError."""
    body = document["body"].encode("utf-8", "surrogatepass")
    if document["binary"]:
        from binascii import Error, a2b_base64

        try:
            body = a2b_base64(body, strict_mode=True)
        except (Error, ValueError) as error:
            raise ServiceError(f"the result at {name} says that it is binary, but is not base64: {error}") from None
    headers = passed_on({key.lower(): str(value) for key, value in document["headers"].items()}, len(body))
    return Reply(document["status"], body, headers, binary=document["binary"])


def open_results(uri: str, **overrides: "Any") -> "Results":
    """The results at s3://BUCKET/PREFIX or dynamodb://TABLE. `overrides` as for `aws.client`. Raises aws.AwsError."""
    scheme, place, prefix = aws.split_uri(uri, "s3", "dynamodb")
    made = aws.client(scheme, **overrides)
    return S3Results(made, place, prefix) if scheme == "s3" else DynamoResults(made, place)


class S3Results:
    """Results as objects of a bucket."""

    def __init__(self, client: "Any", bucket: str, prefix: str) -> None:
        self.unconditional = False
        self.doubted: Callable[[], None] | None = None
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def result(self, name: str) -> "dict[str, Any] | None":
        """As Results says."""
        return _document(self._get(f"{name}.json"), name)

    def ticket(self, name: str, now_s: float) -> "dict[str, Any] | None":
        """As Results says."""
        return _valid(_object(self._get(f"{name}.ticket"), name), now_s)

    def accept(self, name: str, ticket: "dict[str, Any]", now_s: float) -> bool:
        """As Results says."""
        if self.doubted is not None:
            self.doubted()
        if self.unconditional:
            return _looked(self, name, ticket, now_s)
        condition = {"IfNoneMatch": "*"}
        for _ in range(_TRIES):
            if self._put(name, ticket, condition):
                return True
            data, tag = self._read(f"{name}.ticket")
            found = _valid(_object(data, name), now_s)
            if found is not None:
                return bool(found.get("digest") == ticket["digest"])
            condition = {"IfMatch": tag} if data is not None else {"IfNoneMatch": "*"}
        raise _contended(name)

    def note(self, name: str, ticket: "dict[str, Any]") -> None:
        """As Results says."""
        self._put(name, ticket, {})

    def refusal(self, model: str) -> str:
        """As Results says."""
        if promises.is_amazons(self._client):
            return ""
        try:
            return promises.in_bucket(self._client, self._bucket, f"{self._prefix}{model}/{promises.NAME}", replaced=True)
        except aws.failures() as error:
            raise failed(error, f"asking s3://{self._bucket} what it keeps") from error

    def _put(self, name: str, ticket: "dict[str, Any]", condition: "dict[str, str]") -> bool:
        body, key = jsontext.dumps(ticket).encode(), f"{self._prefix}{name}.ticket"
        try:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json", **condition)
        except aws.failures() as error:
            if condition and aws.code(error) in _THERE + _ABSENT:  # absent: what was to be replaced has been removed
                return False
            raise failed(error, f"writing s3://{self._bucket}/{key}") from error
        return True

    def _get(self, name: str) -> "bytes | None":
        return self._read(name)[0]

    def _read(self, name: str) -> "tuple[bytes | None, str]":
        """What lies there, and its ETag."""
        key = self._prefix + name
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            return bytes(answer["Body"].read()), str(answer["ETag"])
        except aws.failures() as error:
            if aws.code(error) in _ABSENT:
                return None, ""
            raise failed(error, f"reading s3://{self._bucket}/{key}") from error


class DynamoResults:
    """Results as items of a table whose key is the string `id`."""

    def __init__(self, client: "Any", table: str) -> None:
        self.unconditional = False
        self.doubted: Callable[[], None] | None = None
        self._client = client
        self._table = table

    def result(self, name: str) -> "dict[str, Any] | None":
        """As Results says."""
        item = self._get(name)
        return _document(str(item.get("body", "")).encode() if item else None, name)

    def ticket(self, name: str, now_s: float) -> "dict[str, Any] | None":
        """As Results says."""
        item = self._get(f"ticket/{name}")
        return _valid(item and {**item, "expires": int(item["expires"])}, now_s)

    def accept(self, name: str, ticket: "dict[str, Any]", now_s: float) -> bool:
        """As Results says."""
        if self.doubted is not None:
            self.doubted()
        if self.unconditional:
            return _looked(self, name, ticket, now_s)
        condition = {
            "ConditionExpression": "attribute_not_exists(id) OR #expires <= :now",
            "ExpressionAttributeNames": {"#expires": "expires"},
            "ExpressionAttributeValues": {":now": {"N": str(int(now_s))}},
        }
        for _ in range(_TRIES):
            if self._put(name, ticket, condition):
                return True
            found = self.ticket(name, now_s)
            if found is not None:
                return bool(found.get("digest") == ticket["digest"])
        raise _contended(name)

    def note(self, name: str, ticket: "dict[str, Any]") -> None:
        """As Results says."""
        self._put(name, ticket, {})

    def refusal(self, model: str) -> str:
        """As Results says."""
        if promises.is_amazons(self._client):
            return ""
        try:
            return promises.in_table(self._client, self._table, f"{model}/{promises.NAME}")
        except aws.failures() as error:
            raise failed(error, f"asking the table {self._table} what it keeps") from error

    def _put(self, name: str, ticket: "dict[str, Any]", condition: "dict[str, Any]") -> bool:
        item: dict[str, Any] = {key: {"N": str(value)} if key == "expires" else {"S": value} for key, value in ticket.items()}
        try:
            self._client.put_item(TableName=self._table, Item={"id": {"S": f"ticket/{name}"}, **item}, **condition)
        except aws.failures() as error:
            if condition and aws.code(error) in _THERE:
                return False
            raise failed(error, f"writing to the table {self._table}") from error
        return True

    def _get(self, name: str) -> "dict[str, Any] | None":
        try:
            answer = self._client.get_item(TableName=self._table, Key={"id": {"S": name}}, ConsistentRead=True)
        except aws.failures() as error:
            raise failed(error, f"reading from the table {self._table}") from error
        item = answer.get("Item")
        # An answer whose CRC is wrong every time comes back from botocore as one without an item.
        if item is None and answer["ResponseMetadata"].get("MaxAttemptsReached"):
            raise ServiceError(f"reading from the table {self._table}: the answer was damaged on its way")
        return {key: next(iter(value.values())) for key, value in item.items()} if item else None


def assure(place: "Results", model: str, uri: str, warn: "Callable[[str], None]", *, unconditional: bool) -> None:
    """Ask the place whether it keeps the first ticket. PromiseError where it does not; with `unconditional` a warning, and from
    then on it is written to without conditions. Where it cannot be asked now, the first ticket asks again, and fails if need be."""

    def ask() -> None:
        found = place.refusal(model)
        promises.settle(place, found, promises.said(uri, found, _LOST), warn, unconditional=unconditional)
        place.doubted = None

    def again() -> None:
        try:
            ask()
        except promises.PromiseError as error:
            raise ServiceError(str(error)) from None

    try:
        ask()
    except ServiceError:
        place.doubted = again


def _looked(place: "Results", name: str, ticket: "dict[str, Any]", now_s: float) -> bool:
    """`accept` where there are no conditions: who comes a moment later sees what is there."""
    found = place.ticket(name, now_s)
    if found is None:
        place.note(name, ticket)
    return found is None or bool(found.get("digest") == ticket["digest"])


def _contended(name: str) -> ServiceError:
    return ServiceError(f"the ticket of {name} was written or removed by others at every one of {_TRIES} tries: try again")


def _object(data: "bytes | None", name: str) -> "dict[str, Any] | None":
    if data is None:
        return None
    try:
        found = jsontext.loads(data)
    except ValueError:
        found = None
    if type(found) is not dict:
        raise ServiceError(f"what lies at {name} is no JSON object: who else writes there?")
    return found


def _document(data: "bytes | None", name: str) -> "dict[str, Any] | None":
    found = _object(data, name)
    if found is None:
        return None
    kinds = {"status": int, "headers": dict, "body": str, "binary": bool}
    if any(type(found.get(key)) is not kind for key, kind in kinds.items()) or not 200 <= found["status"] <= 599:
        raise ServiceError(f"what lies at {name} is no result: status, headers, body and binary are needed")
    return found


def _valid(found: "dict[str, Any] | None", now_s: float) -> "dict[str, Any] | None":
    expires = found.get("expires") if found else None
    return found if isinstance(expires, int) and expires > now_s else None
