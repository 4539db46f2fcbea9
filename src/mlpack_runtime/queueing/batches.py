"""Orders for batches in a worker's queue: carried out in the thread that has the message, however long it takes.

Promises: the message stays invisible meanwhile, like any other; when the worker is to end, what is answered is written and the
message given back. Will not: send messages, or keep other messages from the engine.
"""

from mlpack_runtime.batch import invoked, orders
from mlpack_runtime.batch.engines import quiet
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.queueing import envelopes, results
from mlpack_runtime.service import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlpack_runtime.aws.objects import Place
    from mlpack_runtime.batch.orders import Order
    from mlpack_runtime.hosting.stop import Stop
    from mlpack_runtime.queueing.letters import Letter
    from mlpack_runtime.queueing.sqs import Delivery
    from mlpack_runtime.service import Service


class Batches:
    """A worker's. `threads`: how many items of a batch are asked of the service at a time."""

    def __init__(self, service: "Service", stop: "Stop", threads: int) -> None:
        self._stop = stop
        self._invoked = invoked.Invoked(quiet(service), threads)

    def order(self, body: str, place: "Place | None", letter: "Letter") -> "Order | None":
        """The batch that a message asks for; None for a request. Raises RequestError, and AnswerError for a notification about a
        batch's own results, which come from wherever manifests lie."""
        if letter.attributes.get(envelopes.ATTRIBUTE) == envelopes.NONE:
            return None
        if place is not None and orders.is_piece(place.key):
            raise results.AnswerError("it is of the results of a batch")
        return invoked.order_in(body, place.uri if place is not None else "", letter.attributes.get("model", ""))

    def reply(self, order: "Order", delivery: "Delivery", letter: "Letter") -> Reply:
        """What is answered when it is done. Raises RequestError, 503 where it is not."""
        answer = self._invoked.answer(order, lambda: not (self._stop.asked or delivery.lost), self._stop.wait)
        if not answer["done"]:
            raise RequestError("the worker ends before the batch does: another goes on with it", 503, "BatchUnfinished")
        return invoked.reply_of(answer, letter.headers)
