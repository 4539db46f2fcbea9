"""What AWS's services put around a request before it lies in a queue or a stream: SNS's envelope, an event of EventBridge, a
notification of S3, and the pointer that the extended clients leave in the place of a large body. They may be in one another.

Promises: a text that is none of these is passed on as it is, without having been read, and so is what a message's attribute says is
none; what is inside has the attributes that each layer says, the outer ones first. Will not: fetch anything.

Sources: Amazon SNS developer guide, "Parsing Amazon SNS messages in HTTP/S"; Amazon S3 user guide, "Event message structure";
EventBridge user guide, "AWS service event metadata"; amazon-sqs-java-extended-client-lib and payload-offloading-java-common.
"""

from urllib.parse import unquote_plus

from mlpack_runtime import jsontext
from mlpack_runtime.aws.objects import Place
from mlpack_runtime.jsontext import text_of
from mlpack_runtime.limits import quoted
from mlpack_runtime.protocol import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ATTRIBUTE, NONE = "envelope", "none"
"""A message's attribute, and its value where the body is the request whatever it looks like: a front door says so of what strangers
send, who are not to choose which object is read."""
LAYERS = 4
"""S3 to SNS to EventBridge to SQS are three; what has more is meant to be wrong."""
_POINTERS = ("software.amazon.payloadoffloading.PayloadS3Pointer", "com.amazon.sqs.javamessaging.MessageS3Pointer")
_MARKS = ('"TopicArn"', '"detail-type"', '"aws:s3"', '"s3:TestEvent"', "S3Pointer")
"""Without one of these a text is no envelope: a request's megabytes are not read twice to find that out."""
_CREATED = "ObjectCreated:"


class Opened:
    """What a message is about: a request's `body`, or the `place` of one; `nothing` in words where it asks for no answer."""

    __slots__ = ("attributes", "body", "nothing", "place")

    def __init__(self, body: str, attributes: "Mapping[str, str]", place: "Place | None" = None, nothing: str = "") -> None:
        self.body = body
        self.attributes = attributes
        self.place = place
        self.nothing = nothing


def opened(body: str, attributes: "Mapping[str, str]") -> Opened:
    """The request in a message's body. Raises RequestError for an envelope that holds none."""
    if attributes.get(ATTRIBUTE) == NONE:
        return Opened(body, attributes)
    for _ in range(LAYERS):
        value = _envelope(body)
        if value is None:
            return Opened(body, attributes)
        if type(value) is list:
            return Opened("", attributes, _pointed(value[1]))
        if _is_sns(value):
            attributes = {**sns_attributes(value), **attributes}
            body = value["Message"]
            continue
        return of_event(value, attributes) if _is_event(value) else of_notification(value, attributes)
    raise RequestError(f"the message has more than {LAYERS} envelopes in one another")


def of_event(event: "Mapping[str, Any]", attributes: "Mapping[str, str]") -> Opened:
    """The request of an EventBridge event: its detail, or the object that it tells of. Raises RequestError."""
    detail, kind = event.get("detail"), event.get("detail-type")
    if event.get("source") != "aws.s3":
        if event.get("source") in ("aws.events", "aws.scheduler") and kind == "Scheduled Event":
            raise RequestError(
                'a scheduled event asks for nothing: give its rule or schedule the input {"warmup": true}, or a request'
            )
        return Opened(_text(detail), attributes)
    if kind != "Object Created":
        raise RequestError(
            f"S3 tells of {quoted(kind)}: only new objects are requests. Match the detail-type 'Object Created' alone"
        )
    what = detail if type(detail) is dict else {}
    return about(_place(what.get("bucket"), what.get("object"), encoded=False), attributes)


def of_notification(value: "Mapping[str, Any]", attributes: "Mapping[str, str]") -> Opened:
    """The object of an S3 notification. Raises RequestError for more than one, and for what is not about a new object."""
    if value.get("Event") == "s3:TestEvent":
        return Opened("", attributes, nothing="S3's test event, which it sends when a notification is set up")
    records = value["Records"]
    if len(records) != 1:
        raise RequestError(f"the notification tells of {len(records)} objects; a message is one request")
    return about(of_record(records[0]), attributes)


def about(place: Place, attributes: "Mapping[str, str]") -> Opened:
    """A message about a new object."""
    folder = place.key.endswith("/") and not place.size
    return Opened(
        "", attributes, place, "an object without bytes that stands for a folder, as S3's console makes them" if folder else ""
    )


def of_record(record: "Mapping[str, Any]") -> Place:
    """The object of one record of an S3 notification. Raises RequestError."""
    name = str(record.get("eventName", "")).removeprefix("s3:")
    if not name.startswith(_CREATED):
        raise RequestError(f"S3 tells of {quoted(name)}: only new objects are requests. Subscribe to s3:{_CREATED}* alone")
    what = record.get("s3")
    what = what if type(what) is dict else {}
    return _place(what.get("bucket"), what.get("object"), encoded=True)


def _place(bucket: object, thing: object, *, encoded: bool) -> Place:
    name, key = text_of(bucket, "name"), text_of(thing, "key")
    if not name or not key:
        raise RequestError("S3's notification does not say which object of which bucket it is about")
    assert type(thing) is dict
    size, key = thing.get("size"), unquote_plus(key) if encoded else key
    version = text_of(thing, "versionId") or text_of(thing, "version-id")
    return Place(name, key, version, size if type(size) is int else 0)


def _pointed(where: object) -> Place:
    bucket, key = text_of(where, "s3BucketName"), text_of(where, "s3Key")
    if not bucket or not key:
        raise RequestError("the message points into S3, as AWS's extended clients do, but not at an object: s3BucketName and s3Key")
    return Place(bucket, key)


def _envelope(text: str) -> "Any":
    """The value of a text that is an envelope; None for any other."""
    if not any(mark in text for mark in _MARKS):
        return None
    try:
        value = jsontext.loads(text)
    except ValueError:
        return None
    if type(value) is list:
        return value if len(value) == 2 and value[0] in _POINTERS and type(value[1]) is dict else None
    return value if type(value) is dict and (_is_sns(value) or _is_event(value) or _is_notification(value)) else None


def _is_sns(value: "Mapping[str, Any]") -> bool:
    return value.get("Type") == "Notification" and bool(text_of(value, "TopicArn")) and type(value.get("Message")) is str


def _is_event(value: "Mapping[str, Any]") -> bool:
    return bool(text_of(value, "detail-type") and text_of(value, "source")) and "detail" in value


def _is_notification(value: "Mapping[str, Any]") -> bool:
    records = value.get("Records")
    if type(records) is list and records:
        return all(type(record) is dict and record.get("eventSource") == "aws:s3" for record in records)
    return value.get("Event") == "s3:TestEvent" and value.get("Service") == "Amazon S3"


def sns_attributes(message: "Mapping[str, Any]") -> "dict[str, str]":
    """What a message of SNS says of itself, as texts."""
    told = message.get("MessageAttributes")
    rows = told.items() if type(told) is dict else ()
    return {name: row["Value"] for name, row in rows if type(row) is dict and type(row.get("Value")) is str}


def _text(value: object) -> str:
    try:
        return value if type(value) is str else jsontext.dumps(value)
    except ValueError as error:  # the stock client reads NaN, which is not JSON
        raise RequestError(f"the event's detail is not JSON: {error}") from None
