"""A queue of SQS: long polls, deliveries that stay ours while they are worked on, deletes in batches.

Promises: a delivery is invisible to others until it is deleted, given back, or lost; its visibility is extended in time, but never
past SQS's 12 hours from its receipt; one whose receipt has expired is marked lost and left to whoever has it now.
Will not: decide what a message means, or when it is done.

Source: Amazon SQS API reference; developer guide, "Amazon SQS visibility timeout": 12 hours "from the time that Amazon SQS receives
the ReceiveMessage request", which extending does not reset.
"""

import threading
from queue import Empty, Full
from queue import Queue as Inbox
from time import monotonic, time

from mlpack_runtime import aws
from mlpack_runtime.queueing.dead_letters import DeadLetters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

LONGEST_S = 12 * 3600
AT_ONCE = 10  # AWS: "a maximum of 10" messages a receive, and entries a batch
_GONE = ("ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight")
_TOO_LARGE = ("InvalidParameterValue", "InvalidMessageContents", "MessageTooLong")
_ATTRIBUTES = 10  # AWS: at most ten attributes a message


class BurialError(RuntimeError):
    """The dead-letter queue refuses every message like this one: to send it again would change nothing."""


class Delivery:
    """One message, as it was received once. `age_ms`: from its sending to this receipt; `receives`: the how-many-th it is; `group`:
    its message group, "" where it has none; `lost`: others may have it by now."""

    __slots__ = (
        "age_ms",
        "attributes",
        "body",
        "group",
        "lost",
        "message_id",
        "raw_attributes",
        "receipt",
        "received_s",
        "receives",
        "trace",
    )

    def __init__(self, message: "dict[str, Any]", received_s: float, now_ms: float) -> None:
        system = message.get("Attributes", {})
        self.message_id: str = message["MessageId"]
        self.receipt: str = message["ReceiptHandle"]
        self.body: str = message["Body"]
        self.raw_attributes: dict[str, Any] = message.get("MessageAttributes", {})
        self.attributes = {name: value["StringValue"] for name, value in self.raw_attributes.items() if "StringValue" in value}
        self.receives = int(system.get("ApproximateReceiveCount", "1"))
        self.age_ms = max(0.0, now_ms - float(system.get("SentTimestamp", now_ms)))
        self.trace: str = system.get("AWSTraceHeader", "")
        self.group: str = system.get("MessageGroupId", "")
        self.received_s = received_s
        self.lost = False


class Queue:
    """The queue at `url`, and where poison goes. `quick`: a client for all but receiving. Methods raise `aws.failures()`, and what
    botocore makes of answers that are not SQS's."""

    def __init__(
        self,
        client: "Any",
        url: str,
        *,
        dead: DeadLetters,
        visibility_s: int,
        quick: "Any" = None,
        clock: "Callable[[], float]" = monotonic,
    ) -> None:
        self._client = client
        self._quick = quick or client
        self.url = url
        self._dead = dead
        self.visibility_s = visibility_s
        self._clock = clock

    def receive(self, most: int, wait_s: int) -> "list[Delivery]":
        """Up to `most` messages (10 at most), as soon as there is one, or none after `wait_s`."""
        asked_s = self._clock()  # its 12 hours may count from here
        answer = self._client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=min(most, AT_ONCE),
            WaitTimeSeconds=wait_s,
            VisibilityTimeout=self.visibility_s,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp", "AWSTraceHeader", "MessageGroupId"],
            MessageAttributeNames=["All"],
        )
        now_ms = time() * 1000
        return [Delivery(message, asked_s, now_ms) for message in answer.get("Messages", ())]

    def delete(self, deliveries: "Sequence[Delivery]") -> "list[Delivery]":
        """Those that could not be deleted, by the service's fault. One whose receipt is no longer valid is lost, not returned."""
        entries = [(delivery, {"ReceiptHandle": delivery.receipt}) for delivery in deliveries]
        return self._each("delete_message_batch", entries)

    def change(self, deliveries: "Iterable[tuple[Delivery, int]]") -> "list[Delivery]":
        """Make each invisible for so many seconds from now (0: visible at once). Those that could not be, as in `delete`."""
        entries = [
            (delivery, {"ReceiptHandle": delivery.receipt, "VisibilityTimeout": self._capped(delivery, seconds)})
            for delivery, seconds in deliveries
        ]
        return self._each("change_message_visibility_batch", entries)

    def left_s(self, delivery: Delivery) -> float:
        """How long SQS lets it be invisible still."""
        return delivery.received_s + LONGEST_S - self._clock()

    def bury(self, delivery: Delivery, reason: str) -> bool:
        """Send it on to the dead-letter queue, with the attribute `reason` where there is room for it; False where there is no such
        queue, or it takes no message of this size. Raises BurialError where the queue refuses it for good."""
        dead_url = self._dead.url()
        if dead_url is None:
            return False
        copied = {name: _copied(value) for name, value in delivery.raw_attributes.items()}
        tries = [copied]
        if len(copied) < _ATTRIBUTES or "reason" in copied:
            tries.insert(0, copied | {"reason": {"DataType": "String", "StringValue": _plain(reason)}})
        order: dict[str, str] = {}
        if dead_url.endswith(".fifo"):  # the dead-letter queue of a FIFO queue is one, and takes nothing without these
            order = {"MessageGroupId": delivery.group or delivery.message_id, "MessageDeduplicationId": delivery.message_id}
        for attributes in tries:
            try:
                self._quick.send_message(QueueUrl=dead_url, MessageBody=delivery.body, MessageAttributes=attributes, **order)
                return True
            except aws.failures() as error:
                if aws.code(error) in _TOO_LARGE:
                    continue
                if aws.is_final(error):
                    raise BurialError(f"the dead-letter queue refuses it: {aws.told(error)}") from error
                raise
        return False

    def _capped(self, delivery: Delivery, seconds: int) -> int:
        # A second less: SQS refuses a time past the cap by its own clock, which began when the request arrived.
        return max(0, min(seconds, int(self.left_s(delivery)) - 1))

    def _each(self, operation: str, entries: "list[tuple[Delivery, dict[str, Any]]]") -> "list[Delivery]":
        """Ten at a time, all of them; what the first ten that failed raised is raised at the end."""
        failed: list[Delivery] = []
        raised: list[Exception] = []
        for begin in range(0, len(entries), AT_ONCE):
            some = entries[begin : begin + AT_ONCE]
            numbered = [{"Id": str(number), **entry} for number, (_, entry) in enumerate(some)]
            try:
                answer = getattr(self._quick, operation)(QueueUrl=self.url, Entries=numbered)
            except Exception as error:  # noqa: BLE001  (raised below)
                raised.append(error)
                continue
            for row in answer.get("Failed", ()):
                delivery = some[int(row["Id"])][0]
                if row.get("Code", "") in _GONE:
                    delivery.lost = True
                else:
                    failed.append(delivery)
        if raised:
            raise raised[0]
        return failed


def _copied(value: "dict[str, Any]") -> "dict[str, Any]":
    return {key: value[key] for key in ("DataType", "StringValue", "BinaryValue") if key in value}


def _plain(text: str) -> str:
    """Characters that an attribute may have, at least one."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)[:1000]
    return kept.strip() or "?"


class Keeper:
    """Keeps deliveries ours: every third of the visibility time-out it extends those that are still worked on."""

    def __init__(self, queue: Queue, say: "Callable[[str], None]", clock: "Callable[[], float]" = monotonic) -> None:
        self._queue = queue
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Delivery] = {}
        self._ended = threading.Event()
        self.thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self, until_s: float) -> None:
        """End; nothing is extended any more. Waits for what is under way until then, by the monotonic clock."""
        self._ended.set()
        self.thread.join(max(0.0, until_s - monotonic()))

    def hold(self, deliveries: "Iterable[Delivery]") -> None:
        """These are worked on."""
        with self._lock:
            self._held.update((delivery.receipt, delivery) for delivery in deliveries)

    def drop(self, delivery: Delivery) -> bool:
        """This one is not any more. Whether it was held: whoever drops a delivery decides what becomes of it."""
        with self._lock:
            return self._held.pop(delivery.receipt, None) is not None

    def held(self) -> "list[Delivery]":
        """Those that are worked on."""
        with self._lock:
            return list(self._held.values())

    def beat(self) -> None:
        """Extend what is held. One at the end of its 12 hours, or with a receipt that has expired, is lost and held no longer."""
        going = []
        for delivery in self.held():
            if self._queue.left_s(delivery) <= 1:
                delivery.lost = True
            else:
                going.append(delivery)
        for begin in range(0, len(going), AT_ONCE):
            try:
                self._queue.change([(delivery, self._queue.visibility_s) for delivery in going[begin : begin + AT_ONCE]])
            except Exception as error:  # noqa: BLE001  (without this thread every slow message would come twice)
                self._say(f"visibility could not be extended, next try in {self._every_s:.0f} s: {aws.told(error)}")
        for delivery in self.held():
            if delivery.lost and self.drop(delivery):
                self._say(f"message {delivery.message_id} is no longer ours: its receipt has expired")

    @property
    def _every_s(self) -> float:
        return self._queue.visibility_s / 3

    def _loop(self) -> None:
        while not self._ended.wait(self._every_s):
            self.beat()


class Deleter:
    """Deletes what is done, ten at a time, in a thread of its own: nobody waits for it. Until then `keeper` keeps it from coming
    again. What cannot be deleted does come again, and is found done."""

    LINGER_S = 0.05

    def __init__(self, queue: Queue, keeper: Keeper, say: "Callable[[str], None]") -> None:
        self._queue = queue
        self._keeper = keeper
        self._say = say
        # Bounded: where deletes are slow, whoever adds waits and takes nothing new, instead of holding ever more.
        self._inbox: Inbox[Delivery | None] = Inbox(2 * AT_ONCE)
        self.thread = threading.Thread(target=self._loop, name="delete", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def add(self, delivery: Delivery) -> None:
        """Delete this one soon. Waits while twenty others are due."""
        self._inbox.put(delivery)

    def stop(self, until_s: float) -> None:
        """Delete what was added, and end; by then, of the monotonic clock, or not at all."""
        try:
            self._inbox.put(None, timeout=max(0.0, until_s - monotonic()))
        except Full:
            return
        self.thread.join(max(0.0, until_s - monotonic()))

    def _loop(self) -> None:
        going = True
        while going:
            first = self._inbox.get()
            some = [] if first is None else [first]
            going, until_s = first is not None, monotonic() + self.LINGER_S
            while going and len(some) < AT_ONCE:
                try:
                    another = self._inbox.get(timeout=max(0.0, until_s - monotonic()))
                except Empty:
                    break
                if another is None:
                    going = False
                else:
                    some.append(another)
            self._delete(some)
            for delivery in some:
                self._keeper.drop(delivery)

    def _delete(self, some: "list[Delivery]") -> None:
        if not some:
            return
        try:
            left = self._queue.delete(some)
        except Exception as error:  # noqa: BLE001  (without this thread whoever is done would wait for ever)
            self._say(f"{len(some)} messages that are done could not be deleted; they come again: {aws.told(error)}")
            return
        if left:
            self._say(f"{len(left)} messages that are done could not be deleted; they come again")
