"""Orders that come in messages, events and invocations, and what is answered to them.

    {"batch": {"manifest", "results", "state", "items", "answered", "failed", ...}, "done": true}

Promises: an answer that is not `done` is the order for what is left. Will not: hand on what is left; whoever calls does.
"""

import os

from mlpack_runtime import jsontext, telemetry
from mlpack_runtime.batch import orders
from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.jobs import Job, Settings
from mlpack_runtime.batch.writing.progress import COMPLETE
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import JSON, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mlpack_runtime.batch.orders import Order
    from mlpack_runtime.service import Service

_ORDER_BYTES = 1 << 16
_BEGIN = 200
"""Characters in which an order says that it is one."""


class Invoked:
    """Answers orders with a service, which should say nothing of single items. `threads` as of `Job`."""

    def __init__(self, service: "Service", threads: int) -> None:
        self._service = service
        self._threads = threads

    def answer(
        self, order: "Order", going: "Callable[[], bool]", wait: "Callable[[float], object] | None" = None
    ) -> "dict[str, Any]":
        """What is answered. `going` and `wait` as of `Run`. Raises RequestError: 400 for an order that can never be carried out,
        503 for what another try may mend."""
        job = Job(order, self._service, Settings(os.environ), threads=self._threads)
        job.going, job.wait, job.warn = going, wait, self._warn
        if wait is not None:
            job.pause = wait
        try:
            told = job.run()
        except BatchError as error:
            raise _refusal(error) from None
        return {orders.KEY: told, "done": told["state"] == COMPLETE}

    def _warn(self, message: str) -> None:
        telemetry.emit(telemetry.event(self._service.model, "WARNING", message))


def order_in(body: "str | bytes", uri: str = "", model: str = "") -> "Order | None":
    """The order that a message is: its body says so, or the object `uri` that it is about is a manifest; None for a request.
    `model`: the one that the message names. Raises RequestError for one that makes no sense."""
    order = _order_in(body, uri)
    if order is not None:
        order.model = order.model or model
    return order


def _order_in(body: "str | bytes", uri: str) -> "Order | None":
    if uri:
        return orders.Order(uri) if orders.is_manifest(uri) else None
    text = body if isinstance(body, str) else bytes(body[:_ORDER_BYTES]).decode("utf-8", "replace")
    if len(body) > _ORDER_BYTES or f'"{orders.KEY}"' not in text[:_BEGIN]:
        return None
    try:
        value = jsontext.loads(text)
    except ValueError:
        return None  # whoever answers requests says what is wrong with it
    return order_of(value) if orders.is_order(value) else None


def order_of(value: "dict[str, Any]") -> "Order":
    """The order that an event is. Raises RequestError."""
    try:
        return orders.order_of(value)
    except BatchError as error:
        raise _refusal(error) from None


def reply_of(answer: "dict[str, Any]", headers: "Mapping[str, str] | None" = None) -> Reply:
    """As a service replies to a request with these headers."""
    told = {"content-type": JSON, telemetry.TRACE_HEADER: telemetry.trace_id(headers or {})}
    return Reply(200, jsontext.dumps(answer).encode(), told)


def _refusal(error: BatchError) -> RequestError:
    return RequestError(str(error), 400, "InvalidBatch") if error.is_final else RequestError(str(error), 503, "Unavailable")
