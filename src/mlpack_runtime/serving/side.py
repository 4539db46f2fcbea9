"""A second port for those who watch a process: health and metrics, and nothing else. The first port then shows no metrics.

Will not: answer requests to the model, on whatever path.
"""

from mlpack_runtime import telemetry
from mlpack_runtime.limits import RequestError
from mlpack_runtime.serving.gzipped import compressed
from mlpack_runtime.serving.health import METRICS, is_metrics
from mlpack_runtime.serving.http_head import Request
from mlpack_runtime.serving.http_listener import Bounds
from mlpack_runtime.serving.http_server import Connections, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlpack_runtime.serving.health import Server
    from mlpack_runtime.serving.http_server import Answer, Content


class Side:
    """The second port of `server`. Once it is there, the first port shows no metrics."""

    body_bytes = 0
    closing = False

    def __init__(self, server: "Server", host: str, port: int) -> None:
        self._server = server
        server.shows_metrics = False
        self.connections = Connections(host, port, Bounds({"MLPACK_HTTP_CONNECTIONS": "8"}), self)

    def vital(self, head: Request) -> bool:
        """Whatever is asked for here."""
        return head.method in ("GET", "HEAD") and (is_metrics(head.path) or self._server.vital(head))

    def reads(self, head: Request) -> bool:  # noqa: ARG002  (an `App` is asked this)
        """No body is looked at."""
        return False

    def answer(self, head: Request, body: "Content", spent_s: float) -> "Answer":
        """Health or metrics; 404 for the rest."""
        if not self.vital(head):
            message = f"this port has {METRICS} and health alone; the model is on port {self._server.port}"
            return self.refuse(RequestError(message, 404, "NotFound"), head)
        if not is_metrics(head.path):
            return self._server.answer(head, body, spent_s)
        return compressed(self._server.measured(head), head.headers.get("accept-encoding", ""), self._server.gzip_bytes)

    def refuse(self, error: RequestError, head: "Request | None") -> "Answer":
        """The answer to what is not here, or no request."""
        return refusal(error, telemetry.trace_id(head.headers if head else {}))
