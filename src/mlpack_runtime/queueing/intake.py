"""From the queue to the consumer: pollers that take messages in, and threads that take each to its end.

Promises: no more than `prefetch` messages are held at a time: the engine is kept busy, others get their share; while the breaker
is open nothing is taken; what is held when the end comes is finished in time or given back; nothing that a service or a message
does ends a thread, and one that has ended all the same is said (`ended`). Will not: look into a message.
"""

import threading
from queue import SimpleQueue
from time import monotonic, sleep

from mlpack_runtime import aws, telemetry
from mlpack_runtime.aws.promises import PromiseError
from mlpack_runtime.queueing import results
from mlpack_runtime.queueing.batches import Batches
from mlpack_runtime.queueing.consumer import Consumer
from mlpack_runtime.queueing.dead_letters import DeadLetters
from mlpack_runtime.queueing.sqs import AT_ONCE, Deleter, Delivery, Keeper, Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlpack_runtime.hosting.stop import Stop
    from mlpack_runtime.queueing.settings import Settings
    from mlpack_runtime.service import Service
    from mlpack_runtime.serving.breaker import Breaker

_PAUSE_S = 1.0
_LOOK_S = 0.02


class Intake:
    """Deliveries in, no more at a time than `prefetch`, and threads that take each to its end."""

    def __init__(self, settings: "Settings", service: "Service", breaker: "Breaker", stop: "Stop") -> None:
        region = aws.region_of(settings.queue_url)
        client = aws.client("sqs", region_name=region, read_s=settings.poll_s + aws.READ_S)
        # What the end waits for: soon over where SQS hangs. What is not deleted or given back comes back by itself.
        quick = aws.client("sqs", region_name=region, connect_s=2, read_s=5, attempts=1)
        self._settings = settings
        self._model = service.model
        self._breaker = breaker
        self._stop = stop
        self._dead = DeadLetters(client, settings.queue_url, settings.dead_url, self._warn)
        self._queue = Queue(client, settings.queue_url, dead=self._dead, visibility_s=settings.visibility_s, quick=quick)
        self._keeper = Keeper(self._queue, self._warn)
        self._deleter = Deleter(self._queue, self._keeper, self._warn)
        self._place = results.open_results(settings.results, keep_s=settings.keep_s, region=region)
        self._assured, self._asking = False, threading.Lock()
        self._consumer = Consumer(service, self._queue, self._keeper, self._deleter, self._place)
        self._consumer.opens = settings.opens
        self._consumer.batches = Batches(service, stop, 2 * settings.max_batch)
        self._consumer.own = results.folder(settings.results, service.model.name)
        self._inbox: SimpleQueue[Delivery] = SimpleQueue()
        self._free = settings.prefetch
        self._changed = threading.Condition()
        self._pollers = [
            threading.Thread(target=self._poll, name=f"poll-{number}", daemon=True) for number in range(settings.pollers)
        ]
        self._handlers = [
            threading.Thread(target=self._consume, name=f"message-{number}", daemon=True) for number in range(settings.prefetch)
        ]

    def start(self) -> None:
        """Begin. Raises PromiseError where results go to a place that would not keep the first."""
        try:
            self._assure()
        except PromiseError:
            raise
        except Exception as error:  # noqa: BLE001  (what answers in its place may be anything)
            self._warn(f"whether {self._settings.results} keeps the first result cannot be known yet: {aws.told(error)}")
        try:
            self._dead.url()  # what is wrong with it is said before it is needed
        except Exception as error:  # noqa: BLE001  (what answers in SQS's place may be anything)
            self._warn(f"which queue is for dead letters cannot be known yet: {aws.told(error)}")
        self._keeper.start()
        self._deleter.start()
        for thread in (*self._handlers, *self._pollers):
            thread.start()

    @property
    def ended(self) -> str:
        """The name of a thread that has ended although nobody asked for it; "" while all are at work."""
        threads = (*self._pollers, *self._handlers, self._keeper.thread, self._deleter.thread)
        return "" if self._stop.asked else next((thread.name for thread in threads if thread.ident and not thread.is_alive()), "")

    def drain(self, until_s: float) -> int:
        """Take no more, finish what is done by `until_s` (of the monotonic clock), give the rest back; how many those were."""
        for poller in self._pollers:
            poller.join(max(0.0, until_s - monotonic()))
        while self._keeper.held() and monotonic() < until_s:
            sleep(_LOOK_S)
        self._deleter.stop(until_s)
        rest = [delivery for delivery in self._keeper.held() if self._keeper.drop(delivery)]
        self._give_back(rest)
        self._keeper.stop(until_s)
        return len(rest)

    def _poll(self) -> None:
        """One poller's life. A service that is away is asked again after a pause."""
        while not self._stop.asked:
            try:
                self._assure()
                self._take()
            except PromiseError as error:  # the place could not be asked when this began
                self._stop.ask(str(error), error.status)
            except Exception as error:  # noqa: BLE001  (a proxy's page in SQS's place, a token file that is gone: the next may go well)
                self._warn(f"no messages, next try in {_PAUSE_S:.0f} s: {aws.told(error)}")
                self._stop.wait(_PAUSE_S)

    def _assure(self) -> None:
        """That results go to a place that keeps the first: nothing is taken before that is known. See `results.assure`."""
        with self._asking:
            if not self._assured:
                said = self._settings
                results.assure(self._place, self._model.name, said.results, self._warn, unconditional=said.unconditional)
                self._assured = True

    def _take(self) -> None:
        """Once for messages, as many as there is room for. Raises whatever SQS and what is in its place make botocore raise."""
        if not self._breaker.closed:
            self._stop.wait(min(_PAUSE_S, max(0.05, self._breaker.wait_s)))
            return
        wanted, kept = self._take_slots(), 0
        try:
            found = self._queue.receive(wanted, self._settings.poll_s) if wanted else []
            self._keeper.hold(found)
            if self._stop.asked or not self._breaker.closed:
                self._give_back([delivery for delivery in found if self._keeper.drop(delivery)])
                return
            for delivery in found:
                self._inbox.put(delivery)
            kept = len(found)
        finally:
            self._return_slots(wanted - kept)

    def _take_slots(self) -> int:
        """Room for a receive's worth of messages, soon for less, but for one at least; 0 at the end."""
        whole = min(AT_ONCE, max(1, self._settings.prefetch // self._settings.pollers))
        with self._changed:
            while self._free < 1 and not self._stop.asked:
                self._changed.wait(_PAUSE_S)
            self._changed.wait_for(lambda: self._free >= whole or self._stop.asked, 0.02)
            taken = 0 if self._stop.asked else min(self._free, whole)
            self._free -= taken
            return taken

    def _return_slots(self, number: int) -> None:
        with self._changed:
            self._free += number
            self._changed.notify_all()

    def _consume(self) -> None:
        while True:
            delivery = self._inbox.get()
            try:
                self._consumer.handle(delivery)
            finally:
                self._return_slots(1)

    def _give_back(self, deliveries: "list[Delivery]") -> None:
        try:
            self._queue.change([(delivery, 0) for delivery in deliveries])
        except Exception as error:  # noqa: BLE001  (as above)
            self._warn(f"{len(deliveries)} messages could not be given back; they come back by themselves: {aws.told(error)}")

    def _warn(self, message: str) -> None:
        telemetry.emit(telemetry.event(self._model, "WARNING", message))
