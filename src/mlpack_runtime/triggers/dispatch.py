"""An event of a source, answered as this source wants it.

    sqs                     {"batchItemFailures": [...]}: what failed comes again, and ends in the dead-letter queue. In a FIFO
                            queue what follows a failure in its group fails too, but not for a message that is refused again
    kinesis, dynamodb       the same with the first failure alone: a stream goes on from there
    sns, eventbridge, s3    the answer, which asynchronous invocations pass on to their destination
    map                     the answers in the items' order

Promises: a batch of which nothing succeeded, an asynchronous event that failed, a source that is not taken and an event that is
not in its source's form are FailedError, which Lambda counts, retries and passes on; nothing of an event ends in an answer with an
error that its source takes for success, but what came after its own deadline. Will not: compute.

Source: AWS Lambda developer guide, "Handling errors for an SQS event source in Lambda" (partial batch responses), and the same of
Kinesis and DynamoDB.
"""

from time import monotonic

from mlpack_runtime import aws, jsontext, telemetry
from mlpack_runtime.aws.objects import Place
from mlpack_runtime.limits import cut
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.queueing import results
from mlpack_runtime.service import JSON, Reply, fits_direct
from mlpack_runtime.triggers import records, sources
from mlpack_runtime.triggers.answers import Answers, Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mlpack_runtime.batch.mapped import Mapped
    from mlpack_runtime.service import Service
    from mlpack_runtime.triggers.answers import Outcome
    from mlpack_runtime.triggers.records import Record
    from mlpack_runtime.triggers.settings import Settings
    from mlpack_runtime.triggers.sources import Source

_TAKEN = f"HTTP, direct requests and events of {', '.join(sources.TAKEN)}"
_STREAMS = ("kinesis", "dynamodb")
_BATCHES = ("sqs", *_STREAMS)
"""Sources that take what failed for an answer, and nothing else."""
_DESTINATION_BYTES = 1 << 20
"""AWS: 1 MB to queues, event buses and functions, since 2026; 256 KB to SNS (MLPACK_ANSWER_BYTES). What a destination gets has the
event and the answer in it, and is dropped where it is larger."""
_STATE_BYTES = 1 << 18
"""AWS: "If the data you are passing between states might grow to over 262,144 bytes", an execution of Step Functions ends."""
_NAMED = 20
"""Records that a line of the log names."""


class FailedError(RuntimeError):
    """The event failed, by the source's fault or the package's. The message is the error answer: JSON with the trace id."""


class Dispatch:
    """A function's events. `left_s` of its methods: how long the invocation may still take."""

    def __init__(self, service: "Service", settings: "Settings") -> None:
        self._service = service
        self._settings = settings
        self._answers = Answers(service, settings)

    def takes(self, source: "Source") -> bool:
        """Whether this is an event for here. A batch of items is not, where a hook takes what it likes and no setting names it."""
        return source.name not in ("map", "batch") or self._settings.named or not self._service.model.settings.get("preprocess")

    def answer(self, source: "Source", event: "Any", request_id: str, left_s: float) -> Reply:
        """What the source gets. Raises FailedError."""
        if source.name not in self._settings.sources:
            told = f"MLPACK_EVENTS does not name {source.name!r}: {source.what}" if source.name else sources.refusal(source, _TAKEN)
            raise self._failed(RequestError(told, 501, "UnsupportedEvent"), request_id)
        self._answers.until_s = monotonic() + left_s
        if source.name == "batch":
            return self._batch(event, request_id)
        if source.name == "map":
            return self._mapped(event, Clock(left_s), request_id)
        try:
            found = [records.of_event(event)] if source.name == "eventbridge" else records.read(source.name, source.records or [])
            self._answers.begin(returned=source.name not in _BATCHES)
        except records.FormError as error:
            raise self._failed(RequestError(f"{source.what}: {error}", 501, "UnsupportedEvent"), request_id) from None
        except Exception as error:  # noqa: BLE001  (what answers in a service's place may be anything)
            away = RequestError(f"{self._settings.results}: {aws.told(error)}", 503, "Unavailable")
            raise self._failed(away, request_id) from None
        clock = Clock(left_s)
        if source.name in _STREAMS:
            return self._stream(source, found, clock, request_id)
        if source.name == "sqs":
            return self._queue(source, found, clock, request_id)
        return self._asynchronous(source, found, request_id, _written_bytes(event))

    def _queue(self, source: "Source", found: "list[Record]", clock: Clock, request_id: str) -> Reply:
        failures: list[tuple[Record, str]] = []
        closed: set[str] = set()
        going = True
        for record in found:
            going = going and clock.has_time()
            if not going:
                why = "there was no time left for it"
            elif record.group and record.group in closed:
                why = "a message before it in its group failed"
            else:
                outcome = self._answers.of(record)
                why = _failure(outcome)
                if _is_refused_again(outcome):
                    failures.append((record, why))
                    continue
            if why:
                failures.append((record, why))
                closed.add(record.group)
        return self._reported(source, found, failures, failures, request_id)

    def _stream(self, source: "Source", found: "list[Record]", clock: Clock, request_id: str) -> Reply:
        for at, record in enumerate(found):
            why = _failure(self._answers.of(record)) if clock.has_time() else "there was no time left for it"
            if why:
                return self._reported(source, found, [(record, why)], [(one, "") for one in found[at:]], request_id)
        return self._reported(source, found, [], [], request_id)

    def _reported(
        self,
        source: "Source",
        found: "list[Record]",
        told: "list[tuple[Record, str]]",
        again: "list[tuple[Record, str]]",
        request_id: str,
    ) -> Reply:
        """`told`: the failures that the source is told of; `again`: all that it will send again for them."""
        if again:
            named = [f"{record.identifier}: {why}" for record, why in told[:_NAMED]]
            message = f"{len(again)} of {len(found)} records of {source.what} come again: {cut('; '.join(named))}"
            if len(again) == len(found) or self._settings.raises_batch:
                # Whether its mapping reads batchItemFailures, a function cannot know; a function error is always heard.
                raise self._failed(RequestError(message, 500, "BatchFailed"), request_id)
            self._answers.warn(message)
        body = {"batchItemFailures": [{"itemIdentifier": record.identifier} for record, _ in told]}
        return Reply(200, jsontext.dumps(body).encode(), {"content-type": JSON})

    def _asynchronous(self, source: "Source", found: "list[Record]", request_id: str, beside: int) -> Reply:
        """One record, as these sources send them; of several, a list of their answers."""
        outcomes = [self._answers.of(record) for record in found]
        failed = next((outcome.reply for outcome in outcomes if outcome.failed), None)
        if failed is not None:
            raise FailedError(jsontext.dumps({**jsontext.loads(failed.body), "source": source.what}))
        bodies = [self._returned(outcome, beside) for outcome in outcomes]
        return self._fitting(bodies[0] if len(bodies) == 1 else _listed(bodies), request_id, _DESTINATION_BYTES, beside)

    def _returned(self, outcome: "Outcome", beside: int) -> bytes:
        """An answer as a destination gets it: JSON; of one that does not fit, where it lies. FailedError where that is nowhere."""
        reply = outcome.reply
        if reply is None:
            return jsontext.dumps({"nothing": outcome.record.opened.nothing}).encode()
        trace_id = reply.headers[telemetry.TRACE_HEADER]
        name = outcome.record.opened.attributes.get("request_id") or outcome.record.name
        if reply.binary:
            reply = Reply(200, jsontext.dumps(results.document(reply, name, trace_id)).encode(), reply.headers)
        try:
            self._check(reply, _DESTINATION_BYTES, beside)
        except RequestError as error:
            if not self._answers.go_somewhere:  # as a document in base64 it is larger than it was
                raise self._failed(error, name) from None
            told = {"request_id": name, "trace_id": trace_id, "results": self._settings.results}
            return jsontext.dumps(told).encode()
        return reply.body

    def _mapped(self, event: "dict[str, Any]", clock: Clock, request_id: str) -> Reply:
        """A refused item's error is in its place; one that failed by the package's fault is the batch's."""
        items: list[Any] = event["Items"]
        bodies: list[bytes] = []
        try:
            mapped = self._reader(event)
        except RequestError as error:
            raise self._failed(error, request_id) from None
        for item in items:
            if not clock.has_time():
                told = (
                    f"there was no time left after {len(bodies)} of {len(items)} items: put fewer into a batch (MaxItemsPerBatch)"
                )
                raise self._failed(RequestError(told, 504, "BatchFailed"), request_id)
            reply = self._service.value(item, request_id) if mapped is None else self._item(mapped, item, request_id)
            if reply.status >= 500 or (reply.status >= 400 and self._settings.raises_refused):
                raise FailedError(reply.body.decode())
            bodies.append(reply.body)
        return self._fitting(_listed(bodies), request_id, _STATE_BYTES)

    def _reader(self, event: "dict[str, Any]") -> "Mapped | None":
        """What a map's own reader may have made of a manifest; None where a hook takes items as they are. Raises RequestError."""
        if self._service.model.settings.get("preprocess"):
            return None
        from mlpack_runtime.batch.mapped import Mapped

        return Mapped(self._service.model, event.get("BatchInput"))

    def _item(self, mapped: "Mapped", item: "Any", request_id: str) -> Reply:
        try:
            asked = mapped.request(item)
            if not isinstance(asked, Place):
                return self._service.value(asked, request_id)
            reply = self._service.message(*self._answers.fetch(asked), request_id, {})
            if reply.binary:
                raise RequestError("the object asks for binary outputs, and a map's answers are JSON: leave binary_data out")
            return reply
        except RequestError as error:
            return self._service.refuse(error, request_id)

    def _check(self, reply: Reply, limit: int, beside: int) -> None:
        fits_direct(reply, self._settings.answer_bytes or limit, beside)

    def _batch(self, event: "dict[str, Any]", request_id: str) -> Reply:
        """An order's own answer: what is not done is left to whoever calls again."""
        from mlpack_runtime.batch import invoked

        try:
            return invoked.reply_of(self._answers.batches().answer(invoked.order_of(event), self._answers.until_s))
        except RequestError as error:
            raise self._failed(error, request_id) from None

    def _fitting(self, body: bytes, request_id: str, limit: int, beside: int = 0) -> Reply:
        reply = Reply(200, body, {"content-type": JSON})
        try:
            self._check(reply, limit, beside)
        except RequestError as error:
            raise self._failed(error, request_id) from None
        return reply

    def _failed(self, error: RequestError, request_id: str) -> FailedError:
        return FailedError(self._service.refuse(error, request_id).body.decode())


def _is_refused_again(outcome: "Outcome") -> bool:
    """Whether a message can never succeed, and has been held against its group before: on its way to the dead-letter queue it would
    take those behind it along, whose receipts are counted too."""
    return outcome.record.receives > 1 and outcome.reply is not None and 400 <= outcome.reply.status < 500


def _failure(outcome: "Outcome") -> str:
    """Why a record failed; "" where it did not."""
    if not outcome.failed or outcome.reply is None:
        return ""
    try:
        told = jsontext.loads(outcome.reply.body)
        return f"{outcome.reply.status} {cut(str(told['error']), 300)}"
    except (ValueError, KeyError, TypeError):
        return str(outcome.reply.status)


def _written_bytes(event: "Any") -> int:
    """What an event takes in the record that a destination gets; 0 for one that is no JSON, as the stock client lets in."""
    try:
        return len(jsontext.dumps(event))
    except (ValueError, RecursionError):
        return 0


def _listed(bodies: "list[bytes]") -> bytes:
    return b"[" + b",".join(bodies) + b"]"
