"""Orders for batches in a function, whose time is short: as much as there is time for, and the rest handed on.

    a direct invocation, a task of Step Functions   the answer says `"done": false`, and is the order for the rest
    a message of SQS                                the order for the rest is sent to the message's own queue; without the right to,
                                                    the message comes again
    SNS, EventBridge, S3, streams                   the event fails, and is tried again as far as its source does

Promises: what is answered is written before the time is over; the model is asked for several items at a time. Will not: wait for
other runners.
"""

from os import urandom
from time import monotonic

from mlpack_runtime import aws, jsontext
from mlpack_runtime.batch import invoked
from mlpack_runtime.batch.engines import Engine, quiet
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.batch.orders import Order

_SPARE = 0.3
_SPARE_S = 60.0
"""Of the time that is left, what is kept for items that are under way and for writing."""
_DELAY_S = 30
"""After how long the rest of an order comes: others may be at work on it, or one that was killed, whose claims last some time."""


class Batches:
    """A function's. It opens no second model."""

    def __init__(self, service: "Service") -> None:
        if type(service) is Service:
            engine = Engine(service.model)
            self._invoked = invoked.Invoked(engine.service, engine.threads)
        else:  # of several models some are in memory now and then
            self._invoked = invoked.Invoked(quiet(service), 1)

    def answer(self, order: "Order", until_s: float) -> "dict[str, Any]":
        """What is answered to an order before that, by the monotonic clock. Raises RequestError."""
        end_s = until_s - min(_SPARE_S, _SPARE * max(0.0, until_s - monotonic()))
        return self._invoked.answer(order, lambda: monotonic() < end_s)


def hand_on(queue: str, answer: "dict[str, Any]", attributes: "Mapping[str, str]", group: str) -> None:
    """Send the order for the rest to the queue with this ARN. Raises RequestError where that cannot be done."""
    try:
        _, _, _, region, account, name = queue.split(":")
        client = aws.client("sqs", region_name=region or None, connect_s=2, read_s=10, attempts=2)
        url = client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        body = jsontext.dumps(answer)
        told = {key: {"DataType": "String", "StringValue": text} for key, text in attributes.items() if text}
        fifo = {"MessageGroupId": group or "batch", "MessageDeduplicationId": urandom(16).hex()}
        order: dict[str, Any] = fifo if name.endswith(".fifo") else {"DelaySeconds": _DELAY_S}
        client.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=told, **order)
    except Exception as error:  # noqa: BLE001  (a queue without a right to send, or what answers in its place: the message comes again)
        why = f"the rest of the batch cannot be sent to {queue} ({aws.told(error)}): its message comes again"
        raise RequestError(why, 503, "BatchUnfinished") from None


def unfinished(answer: "dict[str, Any]") -> RequestError:
    """What is said where nothing can be handed on."""
    told = answer["batch"]
    return RequestError(
        f"the batch {told['manifest']} has {told['answered'] + told['failed']} of {told['items']} items after this invocation, and"
        " its source takes nothing back: send it through an SQS queue, or let Step Functions call again while `done` is false",
        503,
        "BatchUnfinished",
    )
