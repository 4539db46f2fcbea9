"""A message of the queue to its end: read, answered, the answer written, then deleted; or given back; or buried.

    answered (2xx)                     result written, deleted
    wrong for good (4xx)               sent to the dead-letter queue with the reason, the error written as its result, deleted;
                                       where that queue refuses it for good, the error is written and the message given back
    too late (its deadline is over)    the error written as its result (504), deleted
    failed here (5xx, a service away)  given back, visible again after a pause that doubles and is jittered; the queue's redrive
                                       policy ends that

Promises: deleted only after its result is there; a request has one result, the first; nothing a message holds ends the worker.
Will not: write a result for a failure that another try may mend, or count tries (the queue does).
"""

from random import uniform

from mlpack_runtime import aws, encodings, telemetry
from mlpack_runtime.aws import objects
from mlpack_runtime.json_room import JsonRoom
from mlpack_runtime.limits import cut
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.queueing import envelopes, letters, payloads, results
from mlpack_runtime.queueing.envelopes import Opened
from mlpack_runtime.queueing.letters import Letter
from mlpack_runtime.queueing.sqs import BurialError
from mlpack_runtime.service import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mlpack_runtime.queueing.batches import Batches
    from mlpack_runtime.queueing.results import Results
    from mlpack_runtime.queueing.sqs import Deleter, Delivery, Keeper, Queue
    from mlpack_runtime.service import Service

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 900.0
PAYLOAD_S = 5.0
"""How long a payload waits for room; then its message is given back."""


def pause_s(receives: int) -> int:
    """How long a message that failed for the how-many-th time stays invisible: doubling, and half of it by chance."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(receives - 1, 16))
    return max(1, round(uniform(longest / 2, longest)))


class Consumer:
    """Handles deliveries, any number at a time, each in its caller's thread."""

    opens = True
    """Whether requests are taken out of AWS's envelopes; else a message's body is the request, whatever it is."""
    own = ""
    """What addresses of this worker's answers begin with: a notification about one asks for nothing, or its answer would be the
    next one's request, without end."""

    batches: "Batches | None" = None
    """Carries out orders for batches, which may take hours. None: they are requests like others."""

    def __init__(self, service: "Service", queue: "Queue", keeper: "Keeper", deleter: "Deleter", results_: "Results") -> None:
        self._service = service
        self._queue = queue
        self._keeper = keeper
        self._deleter = deleter
        self._results = results_
        self._s3: Any = None
        self._room = JsonRoom("body_bytes", "payloads")

    def handle(self, delivery: "Delivery") -> None:
        """Take one to its end. Raises nothing."""
        try:
            self._handle(delivery)
        except BaseException as error:  # noqa: BLE001  (the boundary: neither a hook's SystemExit nor Rust's panic ends a thread)
            level = "WARNING" if isinstance(error, (BurialError, *aws.failures())) else "ERROR"
            said = str(error) if isinstance(error, BurialError) else aws.told(error)
            self._say(level, f"message {delivery.message_id} is given back: {said}")
            self._give_back(delivery)

    def _handle(self, delivery: "Delivery") -> None:
        if delivery.lost:
            self._keeper.drop(delivery)
            return
        letter = Letter(delivery.attributes, delivery.message_id, delivery.trace)
        try:
            opened = self._open(delivery)
            letter = Letter(opened.attributes, delivery.message_id, delivery.trace)
            model = self._service.described(letter.attributes.get("model"))
            letters.check(letter, model)
        except RequestError as error:
            if not letters.is_name(letter.request_id):
                letter.request_id = delivery.message_id
            reply = self._service.refuse(error, letter.request_id, letter.headers)
        else:
            if opened.nothing:
                self._pass_over(delivery, opened.nothing)
                return
            if delivery.receives > 1 and letters.is_done(self._results.status(model.name, letter.request_id)):
                self._done(delivery)  # whoever had it before was stopped between its answer and its deletion
                return
            try:
                reply = self._reply(delivery, letter, opened)
            except results.AnswerError as error:
                self._pass_over(delivery, str(error))
                return
        if reply.status >= 500 and reply.status != 504:
            self._give_back(delivery)
            return
        if 400 <= reply.status < 500:
            try:
                self._bury(delivery, reply)
            except BurialError:  # its queue's redrive policy ends it; whoever waits for an answer is told now
                self._write(delivery, letter, reply)
                raise
        self._write(delivery, letter, reply)
        self._done(delivery)

    def _pass_over(self, delivery: "Delivery", why: str) -> None:
        self._say("INFO", f"message {delivery.message_id} asks for nothing: {why}")
        self._done(delivery)

    def _bury(self, delivery: "Delivery", reply: Reply) -> None:
        if not self._queue.bury(delivery, _reason(reply)):
            self._say("WARNING", f"message {delivery.message_id} is wrong; no dead-letter queue takes it: only its result says so")

    def _open(self, delivery: "Delivery") -> Opened:
        """What is in the message's envelopes, where it is not to be passed on as it is."""
        if not self.opens:
            return Opened(delivery.body, delivery.attributes)
        opened = envelopes.opened(delivery.body, delivery.attributes)
        if self.own and opened.place is not None and opened.place.uri.startswith(self.own):
            opened.nothing = f"it is about an answer of this package below {self.own}"
        return opened

    def _reply(self, delivery: "Delivery", letter: Letter, opened: Opened) -> Reply:
        metrics = {"queue_age_ms": delivery.age_ms, "retries": float(delivery.receives - 1)}
        taken: list[int] = []  # of the room that all messages have for payloads
        try:
            if self.opens and self.batches is not None:
                place = payloads.stated(letter.attributes, opened.place)
                order = self.batches.order(opened.body, place, letter)
                if order is not None:
                    return self.batches.reply(order, delivery, letter)
            body = self._body(letter, opened, taken)
            if self.opens and letter.attributes.get(envelopes.ATTRIBUTE) != envelopes.NONE:
                results.check_request(body)
            return self._service.message(letter.headers, body, letter.request_id, metrics)
        except RequestError as error:
            return self._service.refuse(error, letter.request_id, letter.headers)
        finally:
            for size in taken:
                self._room.give_back(size)

    def _write(self, delivery: "Delivery", letter: Letter, reply: Reply) -> None:
        model = self._service.described(letter.attributes.get("model")).name
        trace_id = reply.headers[telemetry.TRACE_HEADER]
        try:
            self._results.put(model, letter.request_id, results.document(reply, letter.request_id, trace_id))
        except results.TooLargeError as error:
            refused = self._service.refuse(RequestError(str(error), 413, "PayloadTooLarge"), letter.request_id, letter.headers)
            self._bury(delivery, refused)
            self._results.put(model, letter.request_id, results.document(refused, letter.request_id, trace_id))

    def _body(self, letter: Letter, opened: Opened, taken: "list[int]") -> bytes:
        place = payloads.stated(letter.attributes, opened.place)
        if place is None:
            return opened.body.encode("utf-8", "surrogatepass")
        if self._s3 is None:
            self._s3 = aws.client("s3", region_name=aws.region_of(self._queue.url))
        limits = self._service.model.limits

        def admit(size: int) -> None:  # as many threads as there are messages would each hold what one may have
            most = 2 * limits.body_bytes  # one alone may be as large as a body compressed, and as large when it is not any more
            taken.append(self._room.take(size, most, PAYLOAD_S))

        body, headers = objects.fetch(self._s3, place, limits, admit)
        coding = headers.pop(encodings.HEADER, "")
        letter.headers = {**headers, **letter.headers}
        return _decoded(coding, body, limits.body_bytes, admit)

    def _done(self, delivery: "Delivery") -> None:
        if delivery.lost:
            self._keeper.drop(delivery)
        else:
            self._deleter.add(delivery)

    def _give_back(self, delivery: "Delivery") -> None:
        if not self._keeper.drop(delivery) or delivery.lost:
            return
        try:
            self._queue.change([(delivery, pause_s(delivery.receives))])
        except Exception as error:  # noqa: BLE001  (what answers in SQS's place may be anything)
            self._say("WARNING", f"message {delivery.message_id} comes back by itself: {aws.told(error)}")

    def _say(self, level: str, message: str) -> None:
        telemetry.emit(telemetry.event(self._service.model, level, message))


def _decoded(coding: str, body: bytes, most: int, admit: "Callable[[int], None]") -> bytes:
    """A payload as it was before it was compressed; what it becomes counts while it does. Raises RequestError."""
    done = 0

    def count(size: int) -> None:
        nonlocal done
        admit(size - done)
        done = size

    return encodings.decoded(coding, body, most, count)  # type: ignore[return-value]  # read as a memoryview


def _reason(reply: Reply) -> str:
    return cut(f"{reply.status} {reply.body.decode('utf-8', 'replace')}")
