"""A worker over HTTP: health, and the Open Inference Protocol through the same batches as the queue's messages.

Promises: `GET /v2/health/live` is 200 while the process can answer at all; `GET /v2/health/ready` is 503, and says why, before the
model is loaded, while the breaker is open and once the end has been asked for; every other request is the service's, unless its
`x-deadline-ms` (the milliseconds that its caller still had when it sent the headers) were over before all of it was here: 504.
Will not: speak TLS or know callers (a load balancer or a network does), or take back what already waits for the engine.
"""

from mlpack_runtime import jsontext, routes, telemetry
from mlpack_runtime.limits import REQUEST_ID
from mlpack_runtime.protocol import RequestError, deadline_ms
from mlpack_runtime.serving.http_head import Request, clean
from mlpack_runtime.serving.http_server import Bounds, Connections, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mlpack_runtime.service import Service
    from mlpack_runtime.serving.http_server import Answer, Content

_LIVE, _READY = ["v2", "health", "live"], ["v2", "health", "ready"]


class Server:
    """HTTP on `port` (0: any that is free) of `host` (nothing: every address). `ready` says why not, or nothing; `service` is set
    once it is loaded."""

    def __init__(self, port: int, ready: "Callable[[], str]", host: str = "", bounds: "Bounds | None" = None) -> None:
        self.service: Service | None = None
        self.ready = ready
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
        """Health is asked for and answered however busy the worker is."""
        return head.method in ("GET", "HEAD") and _parts(head.path) in (_LIVE, _READY)

    def reads(self, head: Request) -> bool:
        """Whether the service would look at the body: inference by this model, or a plain request. What is not here, not allowed
        or not ready yet is said without receiving it."""
        if self.service is None or head.method != "POST":
            return False
        _, parts = routes.split(head.path)
        if parts is None:
            return True
        model = self.service.model
        return parts in (["models", model.name, "infer"], ["models", model.name, "versions", model.version, "infer"])

    def answer(self, head: Request, body: "Content", spent_s: float) -> "Answer":
        """(status, headers, body) for a request whose head was here `spent_s` before the rest of it."""
        vital = self.vital(head)
        if vital and _parts(head.path) == _LIVE:
            return _json(200, {"live": True})
        reason = self.ready()
        if vital:
            return _json(503, {"ready": False, "reason": reason}) if reason else _json(200, {"ready": True})
        if self.service is None:
            return self.refuse(RequestError(reason or "not ready", 503, "NotReady"), head)
        request_id = _request_id(head.headers)
        refused = _refused(head.headers, spent_s) if head.method == "POST" else None
        if refused is not None:
            reply = self.service.refuse(refused, request_id, head.headers)
        else:
            content: bytes = body  # type: ignore[assignment]  # it is read through a memoryview, and not copied for that
            reply = self.service.http(head.method, head.path, head.headers, content, request_id)
        return reply.status, reply.headers, reply.body

    def refuse(self, error: RequestError, head: "Request | None") -> "Answer":
        """The answer to what is no request, or too much of one."""
        return refusal(error, telemetry.trace_id(head.headers if head else {}))


def _parts(path: str) -> "list[str]":
    return [part for part in path.partition("?")[0].split("/") if part]


def _request_id(headers: "dict[str, str]") -> str:
    return clean(headers.get("x-request-id", ""), REQUEST_ID)


def _refused(headers: "dict[str, str]", spent_s: float) -> "RequestError | None":
    """Why a request with that deadline is not run, or None."""
    try:
        left_ms = deadline_ms(headers)
    except RequestError as error:
        return error
    late_ms = spent_s * 1000 - left_ms if left_ms is not None else -1
    if late_ms < 0:
        return None
    return RequestError(f"the deadline was {late_ms:.0f} ms ago; nobody waits for this answer", 504, "DeadlineExceeded")


def _json(status: int, value: object) -> "Answer":
    return status, {"content-type": "application/json"}, jsontext.dumps(value).encode()
