"""One request at the front door: checked, sent on, waited for.

Promises: nothing is sent that a worker would refuse for its form; a request that was sent has an answer or a ticket; what fails is
counted by the way's own breaker. Will not: know Lambda's events, or how SQS, S3, DynamoDB and HTTP are spoken.
"""

from time import sleep, time

from mlpack_runtime import aws, jsontext, model, protocol, routes, telemetry
from mlpack_runtime.door.forms import (
    LONGEST_ID,
    Patience,
    RefusedError,
    answers_freely,
    as_answered,
    as_json,
    as_text,
    handed_on,
    is_gateways,
    is_id,
    media_of,
    patience,
    preferences,
    scope_of,
    traced,
    xray,
)
from mlpack_runtime.door.sending import Message, Queue, Worker
from mlpack_runtime.door.settings import Settings
from mlpack_runtime.door.tickets import CLAIMED, ServiceError, assure, open_results, reply_of
from mlpack_runtime.limits import quoted
from mlpack_runtime.protocol import Call, RequestError
from mlpack_runtime.service import BINARY, JSON, Reply, Service, open_access
from mlpack_runtime.serving.breaker import Breaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mlpack_runtime.door.tickets import Results

FIRST_POLL_S, POLL_GROWTH, LONGEST_POLL_S = 0.02, 1.5, 0.5
BACKLOG_EVERY_S = 5.0
# The caller is waiting: what does not answer at once is not there. An attempt is one more than the first: twice 3 s in all.
_CLIENT = {"connect_s": 1, "read_s": 3, "attempts": 1}
_HUNG_S = 0.5  # a look that fails this long after its time is one at a service that hangs, which is not asked for more


class Door:
    """What lasts from request to request: the ways that are open, and how they fared. One request at a time, as Lambda has it."""

    def __init__(
        self,
        described: model.Described,
        settings: Settings,
        ways: "tuple[Queue | None, Results | None, Worker | None]",
        now: "Callable[[], float]" = time,
        pause: "Callable[[float], None]" = sleep,
    ) -> None:
        self.described = described
        self.access = open_access(described, hooks=False)
        described.target = "frontdoor"  # in log lines and metrics: the worker's own are beside them
        self.settings = settings
        self.queue, self.results, self.worker = ways
        self.now = now
        self.pause = pause
        self.cold = True
        self.queue_breaker = Breaker(settings.breaker_failures, settings.breaker_open_s, clock=now)
        self.worker_breaker = Breaker(settings.breaker_failures, settings.breaker_open_s, clock=now)
        self._backlog = 0
        self._backlog_read_s = float("-inf")

    def exchange(self, headers: "Mapping[str, str]", request_id: str, limit_s: float) -> "Exchange":
        """One request's handling. `request_id`: its name unless the caller gave one; `limit_s`: when the function must be done."""
        return Exchange(self, headers, request_id, limit_s)

    def is_overloaded(self) -> bool:
        """Whether more wait in the queue than the settings allow, as it was some seconds ago. Unknown is no."""
        if not self.settings.backlog_limit or self.queue is None:
            return False
        if self.now() - self._backlog_read_s >= BACKLOG_EVERY_S:
            self._backlog_read_s = self.now()
            try:
                self._backlog = self.queue.backlog()
            except ServiceError:  # whether the queue can be reached, the next message tells
                self._backlog = 0
        return self._backlog > self.settings.backlog_limit


class Exchange(Service):
    """A Service whose inference happens elsewhere: for one request, whose `headers` it knows."""

    def __init__(self, door: Door, headers: "Mapping[str, str]", request_id: str, limit_s: float) -> None:
        self._door = door
        self.model = door.described  # type: ignore[assignment]  # all that a Service asks of it but predictions
        self._preprocess = self._postprocess = self._task = None
        self.access = door.access
        self._media = media_of(door.described.settings)
        self._headers = headers
        self._limit_s = limit_s
        self._arrived_s = door.now()
        self._prefix = self._scope = ""
        given = (headers.get("idempotency-key") or headers.get("x-request-id") or "").strip().strip('"')
        self._named = bool(given)
        self._bad_id = given if given and not is_id(given) else None
        self.request_id = given if given and self._bad_id is None else request_id

    @property
    def _cold(self) -> bool:
        return self._door.cold

    @_cold.setter
    def _cold(self, cold: bool) -> None:
        self._door.cold = cold

    def _route(self, record: telemetry.Record, method: str, path: str, headers: "Mapping[str, str]", body: bytes) -> Reply:
        self._scope, (prefix, parts) = scope_of(record), routes.split(path)
        if parts is None:
            return super()._route(record, method, path, headers, body)
        self._prefix = "".join(f"/{part}" for part in prefix)
        if parts[:1] == ["requests"] and len(parts) == 2:
            return self._told(record, lambda: self._asked_again(record, method, parts[1]))
        return super()._route(record, method, path, headers, body)

    def _infer(self, record: telemetry.Record, value: object, binary: "memoryview | None") -> Reply:
        return self._told(record, lambda: self._sent_on(record, value, binary))

    def _told(self, record: telemetry.Record, work: "Callable[[], Reply]") -> Reply:
        try:
            return work()
        except ServiceError as error:
            refusal = RefusedError(str(error), error.status, "Unavailable", 1)
        except RefusedError as error:
            refusal = error
        record.detail.update(error_type=refusal.kind, error_message=str(refusal))
        body = protocol.error_body(refusal.kind, refusal, record.trace_id, refusal.more)
        return Reply(refusal.status, body, {"content-type": JSON, **refusal.headers})

    def _sent_on(self, record: telemetry.Record, value: object, binary: "memoryview | None") -> Reply:
        if self._bad_id is not None:
            raise RequestError(
                f"the request id {quoted(self._bad_id)} is not 1 to {LONGEST_ID} letters, digits, '-', '_', '.', ':'"
            )
        clock, after = telemetry.Clock(record), memoryview(b"") if binary is None else binary
        value = as_text(value) if self._media is not None else value
        call = self._checked(value, binary, clock)
        record.asked, record.batch = True, call.batch if call is not None else 1
        mode = self._door.settings.mode
        if self._door.queue is not None and "respond-async" in preferences(self._headers):
            mode = "ticket"
        if mode == "http":
            reply = self._forwarded(record, value, after, clock)
        else:
            message = self._message(record, value, call, after)
            reply = self._queued(record, message, clock, as_ticket=mode == "ticket")
        reply.headers["x-request-id"] = self.request_id
        if binary is None and answers_freely(self.model.settings) and not protocol.is_inference(value):
            return traced(reply, record.trace_id)  # without HTTP there is no header to carry it
        return reply

    def _checked(self, value: object, binary: "memoryview | None", clock: telemetry.Clock) -> "Call | None":
        """The call, or None where only the package's hook or its task can tell."""
        described = self.model
        if protocol.is_inference(value):
            after = memoryview(b"") if binary is None else binary
            ports, texts = (described.inputs, described.outputs), described.has_texts
            call = protocol.decode(value, after, *ports, has_texts=texts, limits=described.limits)  # type: ignore[arg-type]
            if binary is None and any(wants for _, wants in call.wanted):
                raise RequestError("a direct invocation's answer is JSON: binary outputs need HTTP. Leave binary_data out")
            clock.lap("decode")
            return call
        protocol.check_no_bytes(binary)
        if not described.settings.get("preprocess") and not described.settings.get("task"):
            return self._plain(value, clock)
        if type(value) is not dict:
            raise RequestError("the body is no JSON object, which is what this package's preprocess hook or its task takes")
        clock.lap("decode")
        return None

    def _message(self, record: telemetry.Record, value: object, call: "Call | None", after: memoryview) -> Message:
        body = protocol.rewritten(as_json(value, call) if len(after) else value)
        attributes = {
            "request_id": ("String", self._scope + self.request_id),
            "trace_id": ("String", record.trace_id),
            "model": ("String", self.model.name),
            "version": ("String", self.model.version),
            "envelope": ("String", "none"),  # callers are strangers: a body of theirs that looks like S3's is no notification
        }
        return Message(f"{self.model.name}/{self._scope}{self.request_id}", body, attributes)

    def _queued(self, record: telemetry.Record, message: Message, clock: telemetry.Clock, *, as_ticket: bool) -> Reply:
        door, time_left = self._door, self._patience(as_ticket=as_ticket)
        assert door.queue is not None
        assert door.results is not None
        if time_left.deadline_s is not None:
            message.attributes["deadline_ms"] = ("Number", str(int(time_left.deadline_s * 1000)))
        ticket = {"digest": message.digest, "trace_id": record.trace_id, "expires": int(door.now() + door.settings.ticket_s)}
        failure = reply = None
        if not self._was_sent(message):
            door.queue.check(message)
            if door.now() >= time_left.ends_s:
                raise RefusedError("the deadline was over before the request was sent", 504, "DeadlineExceeded")
            failure = self._handed_over(message, ticket, as_ticket=as_ticket)
            clock.lap("send")
        # Where noting it took until the time was over, the service hangs: a look would be as long again.
        if time_left.until_s > self._arrived_s and (failure is None or door.now() < time_left.until_s):
            try:
                reply = self._waited(message.name, time_left.until_s)
            except ServiceError as error:
                failure = error
        clock.lap("wait")
        if reply is not None:
            return reply
        if as_ticket:
            return self._accepted(record)
        raise self._late(message, ticket, failure, time_left.until_s)

    def _was_sent(self, message: Message) -> bool:
        """Whether this very request was sent before under the id that its caller gave it. RequestError when another was."""
        door = self._door
        assert door.results is not None
        if not self._named:
            return False
        found = self._ticket(message)
        if found is None and door.results.result(message.name) is not None:
            # A twin's, accepted and answered between the two looks? Else nobody knows any more whose answer it is.
            found = self._ticket(message)
            if found is None:
                raise self._reused(f"; what was answered then is at {self._href()}")
        return found is not None and found.get("state") != CLAIMED

    def _ticket(self, message: Message) -> "dict[str, Any] | None":
        assert self._door.results is not None
        found = self._door.results.ticket(message.name, self._door.now())
        if found is not None and found.get("digest") != message.digest:
            raise self._reused()
        return found

    def _reused(self, more: str = "") -> RequestError:
        return RequestError(
            f"another request was sent as {self.request_id!r} before: give this one an id of its own{more}", 422, "IdReused"
        )

    def _handed_over(self, message: Message, ticket: "dict[str, Any]", *, as_ticket: bool) -> "ServiceError | None":
        """Send it, under a ticket where it has one from the start. Returned: why the ticket does not say that it was sent."""
        if not self._named:  # one that is waited for gets its ticket when it needs it
            self._send(message, ticket if as_ticket else None)
            return None
        assert self._door.results is not None
        self._send(message, {**ticket, "state": CLAIMED})
        try:  # afterwards: whoever finds it need not send again, and what failed before that is sent when it comes again
            self._door.results.note(message.name, ticket)
        except ServiceError as error:
            return error
        return None

    def _send(self, message: Message, ticket: "dict[str, Any] | None") -> None:
        door, breaker = self._door, self._door.queue_breaker
        assert door.queue is not None
        assert door.results is not None
        if door.is_overloaded():
            raise RefusedError("too many requests wait already: try again later", 503, "Overloaded", BACKLOG_EVERY_S)
        if not breaker.admit():
            raise RefusedError("the queue could not be reached repeatedly: try again later", 503, "CircuitOpen", breaker.wait_s)
        tell = breaker.released  # whatever else fails, the queue has said nothing
        try:
            # First: a request whose ticket nobody can ask with is lost, and of two under one name only one may be sent.
            if ticket is not None and not door.results.accept(message.name, ticket, door.now()):
                raise self._reused()
            try:
                door.queue.send(message, xray())
            except ServiceError:
                tell = breaker.failed
                raise
            tell = breaker.succeeded
        finally:
            tell()

    def _late(self, message: Message, ticket: "dict[str, Any]", failure: "ServiceError | None", until_s: float) -> RefusedError:
        """What to say of a request that was sent and whose result was not there until then: ask again."""
        results, now_s = self._door.results, self._door.now()
        assert results is not None
        if not self._named and (failure is None or now_s < until_s + _HUNG_S):
            try:
                results.accept(message.name, ticket, now_s)
            except ServiceError as error:
                failure = error
        # With an error too: the request was sent, and its result will be there whether the ticket is or not.
        if failure is None:
            said = "the result was not there before the deadline: ask again with the ticket"
            refusal = RefusedError(said, 504, "DeadlineExceeded")
        else:
            refusal = RefusedError(f"{failure}; ask again with the ticket", 503, "Unavailable", 1)
        refusal.more = {"ticket": self.request_id, "href": self._href()}
        return refusal

    def _waited(self, name: str, until_s: float) -> "Reply | None":
        """The result, looked for at least once; None when it is not there in time. ServiceError when the last look failed."""
        door, pause = self._door, FIRST_POLL_S
        assert door.results is not None
        while True:
            failure = None
            try:
                found = door.results.result(name)
                if found is not None:
                    return reply_of(found, name)
            except ServiceError as error:
                failure = error
            left = until_s - door.now()
            if left <= 0:
                if failure is not None:
                    raise failure
                return None
            door.pause(min(pause, left))
            pause = min(pause * POLL_GROWTH, LONGEST_POLL_S)

    def _asked_again(self, record: telemetry.Record, method: str, request_id: str) -> Reply:
        routes.allow(method, "GET", "HEAD")
        door, name = self._door, f"{self.model.name}/{self._scope}{request_id}"
        if door.results is None or not is_id(request_id):
            raise RequestError(f"no request {quoted(request_id)} here", 404, "NotFound")
        self.request_id = request_id
        reply = self._waited(name, self._patience(as_ticket=True).until_s)
        if reply is None and door.results.ticket(name, door.now()) is None:
            raise RequestError(f"no request {request_id!r} here, or its ticket has expired", 404, "NotFound")
        if reply is None:
            return self._accepted(record)
        reply.headers["x-request-id"] = request_id
        return reply

    def _forwarded(self, record: telemetry.Record, value: object, after: memoryview, clock: telemetry.Clock) -> Reply:
        from urllib.parse import quote

        door, breaker, time_left = self._door, self._door.worker_breaker, self._patience(as_ticket=False)
        assert door.worker is not None
        left_s = time_left.until_s - door.now()
        if left_s <= 0:
            raise RefusedError("the deadline was over before the request was sent", 504, "DeadlineExceeded")
        headers = handed_on(self._headers, door.access)
        headers |= {"content-type": JSON, "x-request-id": self.request_id, telemetry.TRACE_HEADER: record.trace_id}
        headers["x-deadline-ms"] = str(int(left_s * 1000))
        body = protocol.rewritten(value).encode()
        if len(after):
            headers |= {"content-type": BINARY, protocol.HEADER_LENGTH: str(len(body))}
            body += bytes(after)
        if not breaker.admit():
            raise RefusedError("the worker could not be reached repeatedly: try again later", 503, "CircuitOpen", breaker.wait_s)
        # A worker that is too slow every time is as good as none; but no caller's own haste may close it to the others.
        in_full = time_left.until_s >= min(self._arrived_s + door.settings.deadline_s, self._limit_s)
        tell = breaker.released
        try:
            reply = door.worker.ask(f"/v2/models/{quote(self.model.name, safe='')}/infer", body, headers, left_s)
            if not is_gateways(reply):
                tell = breaker.succeeded
            elif reply.status != 504 or in_full:
                tell = breaker.failed
        except TimeoutError:
            tell = breaker.failed if in_full else breaker.released
            raise RefusedError("the worker did not answer before the deadline", 504, "DeadlineExceeded") from None
        except ServiceError:
            tell = breaker.failed
            raise
        finally:
            tell()
        clock.lap("forward")
        return as_answered(reply)

    def _patience(self, *, as_ticket: bool) -> Patience:
        return patience(self._headers, self._door.settings, self._arrived_s, self._limit_s, as_ticket=as_ticket)

    def _accepted(self, record: telemetry.Record) -> Reply:
        href = self._href()
        body = {"ticket": self.request_id, "href": href, "trace_id": record.trace_id}
        headers = {"content-type": JSON, "location": href, "retry-after": "1", "x-request-id": self.request_id}
        if "respond-async" in preferences(self._headers):
            headers["preference-applied"] = "respond-async"
        return Reply(202, jsontext.dumps(body).encode(), headers)

    def _href(self) -> str:
        return f"{self._prefix}/v2/requests/{self.request_id}"


def open_door(environ: "Mapping[str, str]") -> Door:
    """The front door of the package around this module. Raises SettingsError, ModelError, AwsError: it must not start then."""
    settings, described = Settings(environ), model.describe()
    queue = results = worker = None
    if settings.queue_url:
        sqs = aws.client("sqs", region_name=aws.region_of(settings.queue_url), **_CLIENT)
        s3 = aws.client("s3", **_CLIENT) if settings.payloads else None
        queue = Queue(sqs, settings.queue_url, settings.message_bytes, s3, settings.payloads)
        results = open_results(settings.results, **_CLIENT)
        assure(results, described.name, settings.results, telemetry.warn, unconditional=settings.unconditional)
    if settings.worker_url:
        worker = Worker(settings.worker_url)
    return Door(described, settings, (queue, results, worker))
