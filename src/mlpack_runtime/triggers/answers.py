"""Records of an event to their answers: each a request of its own, its answer written where answers go, its failure told.

Promises: as a worker has it, where `MLPACK_RESULTS` is set: a record is done after its result is there, and a request has one
result, the first. A request that can never succeed has its error as its result, and is a failure all the same: its source's policy
takes it to where failures go. Will not: delete, bury, or raise for what one record holds.
"""

from time import monotonic

from mlpack_runtime import aws, telemetry
from mlpack_runtime.aws import objects
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.queueing import envelopes, letters, payloads, results
from mlpack_runtime.queueing.letters import Letter
from mlpack_runtime.service import Reply, fits_direct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mlpack_runtime.batch.orders import Order
    from mlpack_runtime.queueing.results import Results
    from mlpack_runtime.service import Service
    from mlpack_runtime.triggers.batches import Batches
    from mlpack_runtime.triggers.records import Record
    from mlpack_runtime.triggers.settings import Settings

_CLIENT: "dict[str, Any]" = {"connect_s": 2, "read_s": 10, "attempts": 2}
"""Of AWS: the function's own time goes by."""


class Outcome:
    """What became of a record: `reply`, None where there was nothing to answer or somebody had answered it before; `failed`: it is
    to come again, or to go where failures go."""

    __slots__ = ("failed", "record", "reply")

    def __init__(self, record: "Record", reply: "Reply | None", *, failed: bool) -> None:
        self.record = record
        self.reply = reply
        self.failed = failed


class Answers:
    """What lasts from event to event: where answers go, and clients. One record at a time, as Lambda has it."""

    def __init__(self, service: "Service", settings: "Settings") -> None:
        self._service = service
        self._settings = settings
        self._place: Results | None = None
        self._s3: Any = None
        self._told = False
        self._batches: Batches | None = None
        self.until_s = float("inf")
        """When the invocation at hand ends, by the monotonic clock."""

    @property
    def go_somewhere(self) -> bool:
        """Whether answers are written."""
        return bool(self._settings.results)

    def begin(self, *, returned: bool) -> None:
        """That results go to a place that keeps the first is known before anything is computed. `returned`: the source gets
        answers itself. Raises what asking the place raises."""
        settings = self._settings
        if not settings.results:
            if not returned:
                self._tell_once()
        elif self._place is None:
            place = results.open_results(settings.results, keep_s=settings.keep_s, **_CLIENT)
            name = self._service.model.name
            results.assure(place, name, settings.results, self.warn, unconditional=settings.unconditional)
            self._place = place

    def of(self, record: "Record") -> Outcome:
        """The answer to one record, written where answers go."""
        if record.opened.nothing:
            return Outcome(record, None, failed=False)
        if self._is_own(record):  # to answer it would be to write another, and so on
            return self._passed_over(record, f"it is about an answer of this package in {self._settings.results}")
        if self._is_of_batch(record):
            return self._passed_over(record, "it is of the results of a batch")
        letter = Letter(record.opened.attributes, record.name, record.trace)
        try:
            try:
                return self._of(record, letter)
            except results.AnswerError as error:
                return self._passed_over(record, str(error))
            except RequestError as error:
                if not letters.is_name(letter.request_id):
                    letter.request_id = record.name
                return self._ended(record, letter, self._service.refuse(error, letter.request_id, letter.headers))
        except Exception as error:  # noqa: BLE001  (a service that is away, or what answers in its place: the record comes again)
            away = RequestError(aws.told(error), 503, "Unavailable")
            return Outcome(record, self._service.refuse(away, letter.request_id, letter.headers), failed=True)

    def _passed_over(self, record: "Record", why: str) -> Outcome:
        record.opened.nothing = why
        self.warn(f"{record.identifier} is passed over: {why}")
        return Outcome(record, None, failed=False)

    def _is_own(self, record: "Record") -> bool:
        """Whether a record is about what this package has written itself."""
        place = record.opened.place
        about = place.uri if place else record.origin
        return self.go_somewhere and about.startswith(results.folder(self._settings.results, self._service.model.name))

    def _is_of_batch(self, record: "Record") -> bool:
        """Whether a record is about results of a batch: their notifications come from wherever manifests lie."""
        if record.opened.place is None or "batch" not in self._settings.sources:
            return False
        from mlpack_runtime.batch import orders

        return orders.is_piece(record.opened.place.key)

    def _of(self, record: "Record", letter: Letter) -> Outcome:
        if record.refused is not None:
            raise record.refused
        model = self._service.described(letter.attributes.get("model"))
        letters.check(letter, model)
        order = self._order(record, letter)
        again = self._place if record.receives > 1 else None
        if again is not None and letters.is_done(again.status(model.name, letter.request_id)):
            return Outcome(record, None, failed=False)  # whoever had it before came no further than this
        if order is not None:
            return self._batch(order, record, letter)
        body = self._body(record, letter)
        if self.go_somewhere and letter.attributes.get(envelopes.ATTRIBUTE) != envelopes.NONE:
            results.check_request(body)
        metrics = {} if record.age_ms is None else {"queue_age_ms": record.age_ms, "retries": float(record.receives - 1)}
        # What is written may be of any size; what is only returned has to fit.
        check = None if self.go_somewhere else fits_direct
        return self._ended(record, letter, self._service.message(letter.headers, body, letter.request_id, metrics, check))

    def _order(self, record: "Record", letter: Letter) -> "Order | None":
        """The batch that a record asks for. Raises RequestError."""
        if "batch" not in self._settings.sources or letter.attributes.get(envelopes.ATTRIBUTE) == envelopes.NONE:
            return None
        from mlpack_runtime.batch import invoked

        place = payloads.stated(letter.attributes, record.opened.place)
        return invoked.order_in(record.body, place.uri if place is not None else "", letter.attributes.get("model", ""))

    def _batch(self, order: "Order", record: "Record", letter: Letter) -> Outcome:
        """As much of it as there is time for; its end is its result. Raises RequestError."""
        from mlpack_runtime.batch import invoked
        from mlpack_runtime.triggers import batches

        answer = self.batches().answer(order, self.until_s)
        reply = invoked.reply_of(answer, letter.headers)
        if answer["done"]:
            return self._ended(record, letter, reply)
        if not record.queue:
            raise batches.unfinished(answer)
        told = {"request_id": letter.request_id, "trace_id": reply.headers[telemetry.TRACE_HEADER]}
        batches.hand_on(record.queue, answer, told, record.group)
        return Outcome(record, reply, failed=False)

    def batches(self) -> "Batches":
        """Opened with the first order."""
        from mlpack_runtime.triggers.batches import Batches

        if self._batches is None:
            self._batches = Batches(self._service)
        return self._batches

    def _ended(self, record: "Record", letter: Letter, reply: Reply) -> Outcome:
        if reply.status >= 500 and reply.status != 504:  # another try may mend it: nothing is written
            return Outcome(record, reply, failed=True)
        reply = self._write(letter, reply)
        return Outcome(record, reply, failed=400 <= reply.status < 500)

    def _write(self, letter: Letter, reply: Reply) -> Reply:
        """What was written: the answer, or that it is too large for where answers go."""
        if self._place is None or not letters.is_name(letter.request_id):
            return reply
        model = self._service.described(letter.attributes.get("model")).name
        trace_id = reply.headers[telemetry.TRACE_HEADER]
        try:
            self._place.put(model, letter.request_id, results.document(reply, letter.request_id, trace_id))
        except results.TooLargeError as error:
            reply = self._service.refuse(RequestError(str(error), 413, "PayloadTooLarge"), letter.request_id, letter.headers)
            self._place.put(model, letter.request_id, results.document(reply, letter.request_id, trace_id))
        return reply

    def _body(self, record: "Record", letter: Letter) -> bytes:
        place = payloads.stated(letter.attributes, record.opened.place)
        if place is None:
            return record.body
        headers, body = self._fetch(place)
        letter.headers = {**headers, **letter.headers}
        return body

    def fetch(self, place: "objects.Place") -> "tuple[dict[str, str], bytes]":
        """What an object says of itself, as headers of a request, and its bytes. Raises RequestError, 503 where S3 is away."""
        try:
            return self._fetch(place)
        except RequestError:
            raise
        except Exception as error:  # noqa: BLE001  (what answers in S3's place may be anything)
            raise RequestError(f"{place.uri}: {aws.told(error)}", 503, "Unavailable") from None

    def _fetch(self, place: "objects.Place") -> "tuple[dict[str, str], bytes]":
        if self._s3 is None:
            self._s3 = aws.client("s3", **_CLIENT)
        body, headers = objects.fetch(self._s3, place, self._service.model.limits)
        return headers, body

    def warn(self, message: str) -> None:
        """A line about no request."""
        telemetry.emit(telemetry.event(self._service.model, "WARNING", message))

    def _tell_once(self) -> None:
        if not self._told:
            self._told = True
            self.warn(
                "MLPACK_RESULTS is not set: answers to records of queues and streams are not kept anywhere. The destinations of"
                " event source mappings get failures alone"
            )


class Clock:
    """Whether there is time for one more record: as long as the longest so far, and a margin."""

    MARGIN_S = 0.5

    def __init__(self, left_s: float, now: "Callable[[], float]" = monotonic) -> None:
        self._now = now
        self._until_s = now() + left_s - self.MARGIN_S
        self._began_s = 0.0
        self._longest_s = 0.0

    def has_time(self) -> bool:
        """Asked before each record."""
        now_s = self._now()
        if self._began_s:
            self._longest_s = max(self._longest_s, now_s - self._began_s)
        self._began_s = now_s
        return now_s + self._longest_s < self._until_s
