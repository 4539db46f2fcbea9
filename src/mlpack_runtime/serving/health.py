"""A package over HTTP: health, and the Open Inference Protocol through the same batches as the queue's messages.

Promises: `GET /v2/health/live` is 200 while the process can answer at all; `GET /v2/health/ready` is 503, and says why, before the
model is loaded, while the breaker is open and once the end has been asked for, and so is SageMaker's `/ping`; `/startupz` is 503
only until the model is loaded; every other request is the service's, unless its `x-deadline-ms` (the milliseconds that its caller
still had when it sent the headers) are over before the engine is free for it: 504.
Will not: speak TLS or know callers (a load balancer or a network does), or take back what the engine has begun.
"""

from time import monotonic

from mlpack_runtime import jsontext, routes, telemetry
from mlpack_runtime.limits import REQUEST_ID
from mlpack_runtime.protocol import RequestError, deadline_ms
from mlpack_runtime.serving.admission import Admission
from mlpack_runtime.serving.gzipped import compressed
from mlpack_runtime.serving.http_head import Request, clean
from mlpack_runtime.serving.http_listener import Bounds
from mlpack_runtime.serving.http_server import Connections, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mlpack_runtime.access.cors import Cors
    from mlpack_runtime.service import Service
    from mlpack_runtime.serving.http_server import Answer, Content
    from mlpack_runtime.serving.prometheus import Gauge, Metrics

_VITAL = {
    "/v2/health/live": "live",
    "/v2/health/ready": "ready",
    "/ping": "ready",  # SageMaker's
    "/startupz": "started",
}
"""Paths of health, each with the question that it answers."""
METRICS = "/metrics"


class Server:
    """HTTP on `port` (0: any that is free) of `host` (nothing: every address). `ready` says why not, or nothing; `service` is set
    once it is loaded."""

    def __init__(self, port: int, ready: "Callable[[], str]", host: str = "", bounds: "Bounds | None" = None) -> None:
        self.service: Service | None = None
        self.ready = ready
        self.limit: Callable[[float | None], None] = lambda _: None
        """Told until when (by `monotonic`) the caller of this thread waits."""
        self.asked = False
        """Whether anything but health and metrics has been asked for."""
        self.admission = Admission()
        self.cors: Cors | None = None
        """Which origins' pages may read the answers; before the model is there, too."""
        self.hides_metrics = False
        """Whether they are for callers that are known: before the model is there, nobody is."""
        self.gzip_bytes = 0
        """Answers from this length are compressed for whoever reads that; 0: none."""
        self.metrics: Metrics | None = None
        self.gauges: Callable[[], list[Gauge]] = list
        self.shows_metrics = True
        """Whether they are shown here, and not on a port of their own."""
        self.connections = Connections(host, port, bounds or Bounds({}), self)
        self.port = self.connections.port

    def start(self) -> None:
        """Begin."""
        self.connections.start()

    def stop(self, seconds: float) -> bool:
        """Take no more, and wait that long for requests that are being answered; whether all were."""
        return self.connections.stop(seconds)

    @property
    def closing(self) -> bool:
        """Whether connections end with their next answer: a balancer is to go elsewhere."""
        return bool(self.ready())

    @property
    def body_bytes(self) -> int:
        """How long a request's body may be."""
        return self.service.model.limits.body_bytes if self.service else 0

    def vital(self, head: Request) -> bool:
        """Health and metrics are asked for and answered however busy the process is."""
        return head.method in ("GET", "HEAD") and (_question(head.path) != "" or self._is_metrics(head.path))

    def reads(self, head: Request) -> bool:
        """Whether the service would look at the body: inference by this model, or a plain request. What is not here, not allowed
        or not ready yet is said without receiving it."""
        if self.service is None or head.method != "POST":
            return False
        access = self.service.access
        if access is not None and access.reads_early and self._stranger(head) is not None:
            return False
        _, parts = routes.split(head.path)
        if parts is None:
            return True
        return self.service.takes(parts)

    def answer(self, head: Request, body: "Content", spent_s: float) -> "Answer":
        """(status, headers, body) for a request whose head was here `spent_s` before the rest of it."""
        if self.vital(head):
            question = _question(head.path)
            answer = self._stranger(head) or (self._health(question) if question else self.measured(head))
        else:
            self.asked = True
            answer = self._served(head, body, spent_s)
        return self._marked(compressed(answer, head.headers.get("accept-encoding", ""), self.gzip_bytes), head)

    def _stranger(self, head: Request) -> "Answer | None":
        """The refusal of a request that this package lets only callers ask whom it knows; None for one that it answers."""
        access = self.service.access if self.service else None
        if self.service is None and self.hides_metrics and self._is_metrics(head.path):
            return self.refuse(RequestError(self.ready() or "not ready", 503, "NotReady"), head)
        try:
            if access is not None:
                access.check(head.method, head.path, head.headers)
        except RequestError as error:
            return self.refuse(error, head)
        return None

    def _marked(self, answer: "Answer", head: "Request | None") -> "Answer":
        if self.cors is not None and head is not None:
            self.cors.mark(head.headers, answer[1])
        return answer

    def _served(self, head: Request, body: "Content", spent_s: float) -> "Answer":
        if self.service is None:
            early = self.cors.preflight(head.method, head.headers) if self.cors is not None else None
            if early is not None:
                return 204, early, b""
            return self.refuse(RequestError(self.ready() or "not ready", 503, "NotReady"), head)
        try:
            with self.admission:
                return self._reply(self.service, head, body, spent_s)
        except RequestError as error:  # too many at a time
            return self.refuse(error, head)

    def _reply(self, service: "Service", head: Request, body: "Content", spent_s: float) -> "Answer":
        request_id = _request_id(head.headers)
        refused = self._late(head.headers, spent_s) if head.method == "POST" else None
        if refused is not None:
            reply = service.refuse(refused, request_id, head.headers)
        else:
            content: bytes = body  # type: ignore[assignment]  # it is read through a memoryview, and not copied for that
            reply = service.http(head.method, head.path, head.headers, content, request_id)
        return reply.status, reply.headers, reply.body

    def measured(self, head: Request) -> "Answer":
        """The metrics, in the form that the reader asks for."""
        assert self.metrics is not None  # it would not be vital
        model = self.service.model if self.service else None
        kind, document = self.metrics.text(model, self.gauges(), head.headers.get("accept", ""))
        return 200, {"content-type": kind}, document

    def _is_metrics(self, path: str) -> bool:
        return self.metrics is not None and self.shows_metrics and is_metrics(path)

    def _health(self, question: str) -> "Answer":
        if question == "live":
            return _json(200, {"live": True})
        reason = self.ready()
        if question == "started":
            return _json(200, {"started": True}) if self.service else _json(503, {"started": False, "reason": reason})
        return _json(503, {"ready": False, "reason": reason}) if reason else _json(200, {"ready": True})

    def _late(self, headers: "dict[str, str]", spent_s: float) -> "RequestError | None":
        """Why a request with that deadline is not run, or None; then the deadline is known to whoever runs it."""
        try:
            left_ms = deadline_ms(headers)
        except RequestError as error:
            return error
        left_s = None if left_ms is None else left_ms / 1000 - spent_s
        if left_s is not None and left_s <= 0:
            message = f"the deadline was {-1000 * left_s:.0f} ms ago; nobody waits for this answer"
            return RequestError(message, 504, "DeadlineExceeded")
        self.limit(None if left_s is None else monotonic() + left_s)
        return None

    def refuse(self, error: RequestError, head: "Request | None") -> "Answer":
        """The answer to what is no request, or too much of one."""
        if self.metrics is not None:
            self.metrics.refuse(error.status)
        return self._marked(refusal(error, telemetry.trace_id(head.headers if head else {})), head)


def is_metrics(path: str) -> bool:
    """Whether somebody asks for the metrics."""
    return path.partition("?")[0] == METRICS


def _question(path: str) -> str:
    """What a path of health asks; nothing for every other path."""
    return _VITAL.get(path) or _VITAL.get("/" + "/".join(routes.parts_of(path)), "")


def _request_id(headers: "dict[str, str]") -> str:
    return clean(headers.get("x-request-id", ""), REQUEST_ID)


def _json(status: int, value: object) -> "Answer":
    return status, {"content-type": "application/json"}, jsontext.dumps(value).encode()
