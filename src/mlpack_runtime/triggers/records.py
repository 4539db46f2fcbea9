"""Records of the sources that bring requests, each in one form: what it is called, what it says of itself, and its request.

Promises: a record that is not in its source's form is told from one whose request is wrong: the first is the event's fault
(FormError), the second is kept in the record (`refused`), so that it fails alone. Will not: fetch objects, or know a model.

Sources: AWS Lambda developer guide, the sample events of SQS, SNS, Kinesis and DynamoDB; Amazon S3 user guide, "Event message
structure"; EventBridge user guide, "Amazon EventBridge Pipes batching" (flat records of Kinesis).
"""

from time import time

from mlpack_runtime import jsontext
from mlpack_runtime.jsontext import text_of
from mlpack_runtime.limits import quoted
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.queueing import envelopes
from mlpack_runtime.queueing.envelopes import Opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_AGGREGATED = b"\xf3\x89\x9a\xc2"
"""How the Kinesis Producer Library begins a record of several."""
_COMPRESSED = b"\x1f\x8b"
_NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_OF_ITEM = ("request_id", "trace_id", "traceparent", "model", "version", "deadline_ms", "payload")


class FormError(ValueError):
    """An event has a source's mark, and not its form."""


class Record:
    """One request. `identifier`: what its source calls it when it failed; `name`: its result's, unless it has one of its own;
    `group`: the message group whose order counts; `receives`: the how-many-th time it comes, where the source says so; `origin`: an
    item that it is about, as dynamodb://TABLE/ID; `queue`: the ARN of the queue that it was in; `body`: its bytes; `refused`: why
    there is none."""

    __slots__ = ("age_ms", "body", "group", "identifier", "name", "opened", "origin", "queue", "receives", "refused", "trace")

    def __init__(self, identifier: str, name: str) -> None:
        self.identifier = identifier
        self.name = name
        self.group = ""
        self.receives = 1
        self.age_ms: float | None = None
        self.trace = self.origin = self.queue = ""
        self.body = b""
        self.opened = Opened("", {})
        self.refused: RequestError | None = None

    def open(self, work: "Callable[[], Opened]") -> "Record":
        """Itself, with what that makes of its request, or the reason why there is none."""
        try:
            self.opened = work()
            self.body = self.opened.body.encode("utf-8", "surrogatepass")
        except RequestError as error:
            self.refused = error
        return self


def read(name: str, records: "list[Any]") -> "list[Record]":
    """The records of an event of this source (of `_READERS`). Raises FormError."""
    made = []
    for at, record in enumerate(records):
        if type(record) is not dict:
            raise FormError(f"record {at} of the event is no object")
        try:
            made.append(_READERS[name](record))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            told = f"it has no {error}" if type(error) is KeyError else str(error)
            raise FormError(f"record {at} of the event is not as {name} has them: {told}") from None
    return made


def of_event(event: "Mapping[str, Any]") -> Record:
    """The record that an event of EventBridge is."""
    identifier = text_of(event, "id")
    return Record(identifier, identifier).open(lambda: envelopes.of_event(event, {}))


def _sqs(record: "Mapping[str, Any]") -> Record:
    system, identifier = record.get("attributes"), _text(record, "messageId")
    made = Record(identifier, identifier)
    made.queue = text_of(record, "eventSourceARN")
    if type(system) is dict:
        made.receives = int(_counted(system, "ApproximateReceiveCount") or 1)
        sent_ms = _counted(system, "SentTimestamp")
        made.age_ms = max(0.0, time() * 1000 - int(sent_ms)) if sent_ms else None
        made.trace = text_of(system, "AWSTraceHeader")
        # Queues that are not FIFO may have groups too, for fairness; their order means nothing.
        made.group = text_of(system, "MessageGroupId") if made.queue.endswith(".fifo") else ""
    rows = record.get("messageAttributes")
    told = {name: text_of(row, "stringValue") for name, row in rows.items()} if type(rows) is dict else {}
    return made.open(lambda: envelopes.opened(_string(record, "body"), {name: text for name, text in told.items() if text}))


def _sns(record: "Mapping[str, Any]") -> Record:
    message = record["Sns"]
    identifier = _text(message, "MessageId")
    return Record(identifier, identifier).open(
        lambda: envelopes.opened(_string(message, "Message"), envelopes.sns_attributes(message))
    )


def _s3(record: "Mapping[str, Any]") -> Record:
    try:
        place = envelopes.of_record(record)
    except RequestError as error:
        made = Record("S3's notification", "")
        made.refused = error
        return made
    # A notification may come twice; its sequencer is the same then.
    name = object_name(place.key, place.uri, place.version, text_of(record["s3"]["object"], "sequencer"))
    made = Record(place.uri, name)
    made.opened = envelopes.about(place, {})
    return made


def _kinesis(record: "Mapping[str, Any]") -> Record:
    row = record["kinesis"] if type(record.get("kinesis")) is dict else record  # flat in EventBridge Pipes
    identifier = _text(row, "sequenceNumber")
    made = Record(identifier, text_of(record, "eventID") or identifier)
    arrived_s = row.get("approximateArrivalTimestamp")
    if type(arrived_s) is float or type(arrived_s) is int:
        made.age_ms = max(0.0, (time() - arrived_s) * 1000)

    def work() -> Opened:
        raw = _decoded(_string(row, "data"))
        try:
            return envelopes.opened(raw.decode(), {})
        except UnicodeDecodeError:
            raise RequestError("the record's data is not text in UTF-8: a request is JSON") from None

    return made.open(work)


def _dynamodb(record: "Mapping[str, Any]") -> Record:
    change, kind = record["dynamodb"], _text(record, "eventName")
    made = Record(_text(change, "SequenceNumber"), text_of(record, "eventID"))
    made.name = made.name or made.identifier
    table = text_of(record, "eventSourceARN").partition(":table/")[2].partition("/")[0]
    keys = change.get("Keys")
    made.origin = f"dynamodb://{table}/{text_of(keys.get('id'), 'S') if type(keys) is dict else ''}"
    if kind == "REMOVE":
        made.opened = Opened("", {}, nothing="an item was removed")
        return made
    image = change.get("NewImage")
    if type(image) is not dict:  # nor has any other record: an answer to each, in a table that is streamed so too, would never end
        raise ValueError("the stream does not have the new items: its view type has to be NEW_IMAGE or NEW_AND_OLD_IMAGES")
    return made.open(lambda: _of_item(image))


_READERS = {"sqs": _sqs, "sns": _sns, "s3": _s3, "kinesis": _kinesis, "dynamodb": _dynamodb}


def object_name(key: str, *parts: str) -> str:
    """A name for the result about an object: as much of its key as a name may hold, and a digest of what tells it from others."""
    from hashlib import sha256

    plain = "".join(letter if letter in _NAME_LETTERS else "-" for letter in key[-120:])
    return f"{plain}.{sha256(chr(0).join(parts).encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _decoded(data: str) -> bytes:
    from binascii import Error, a2b_base64

    try:
        raw = a2b_base64(data, strict_mode=True)
    except (Error, ValueError) as error:
        raise RequestError(f"the record's data is not base64: {error}") from None
    if raw.startswith(_AGGREGATED):
        raise RequestError("the record holds several, as the Kinesis Producer Library packs them: switch its aggregation off")
    if raw.startswith(_COMPRESSED):
        raise RequestError("the record is compressed, as CloudWatch Logs writes it: a request is JSON as it is")
    return raw


def _of_item(image: "Mapping[str, Any]") -> Opened:
    """The request in an item: its attribute `request`, a map or JSON as a string, or else the whole item."""
    try:
        item = {name: _plain(value) for name, value in image.items()}
        request = item.get("request", item)
        body = request if type(request) is str else jsontext.dumps(request)
    except (ValueError, TypeError, RecursionError) as error:
        raise RequestError(f"the item is not as DynamoDB writes them: {error}") from None
    attributes = {name: item[name] for name in _OF_ITEM if type(item.get(name)) is str} if "request" in item else {}
    return Opened(body, attributes)


def _plain(value: object) -> "Any":
    """A value of an item as JSON has it: numbers as numbers, sets as lists, binary ones in base64 as they come."""
    if type(value) is not dict or len(value) != 1:
        raise ValueError("a value of it is no object with one type")
    ((kind, held),) = value.items()
    if kind in ("S", "B", "BOOL", "SS", "BS"):
        return held
    if kind == "NULL":
        return None
    if kind == "N":
        return _number(held)
    if kind == "NS" and type(held) is list:
        return [_number(one) for one in held]
    if kind == "L" and type(held) is list:
        return [_plain(one) for one in held]
    if kind == "M" and type(held) is dict:
        return {name: _plain(one) for name, one in held.items()}
    raise ValueError(f"a value of it has the type {quoted(kind)}")


def _number(text: object) -> "int | float":
    if type(text) is not str or len(text) > 64:
        raise ValueError("a number of it is no short text")
    return float(text) if any(letter in text for letter in ".eE") else int(text)


def _text(value: object, key: str) -> str:
    """A text that a record of this source has. Raises KeyError or ValueError."""
    found = value[key] if type(value) is dict else None
    if type(found) is not str or not found:
        raise ValueError(f"its {key} is {quoted(found)}, not a text")
    return found


def _string(value: "Mapping[str, Any]", key: str) -> str:
    """The text that a request is in, which may be empty: it is refused then, alone."""
    found = value.get(key)
    if type(found) is not str:
        raise RequestError(f"the record's {key} is {quoted(found)}, not a text")
    return found


def _counted(value: "Mapping[str, Any]", key: str) -> str:
    """A text of digits; "" for anything else."""
    found = text_of(value, key)
    return found if found.isascii() and found.isdigit() and len(found) < 18 else ""
