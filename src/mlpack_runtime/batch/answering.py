"""Items to the lines of their results: each asked of the service, tried again where that may help, by several threads.

    refused (4xx)       its error is its result
    failed (500, ...)   tried three times in all, then its error is its result
    503                 not the item's fault (the device, memory, S3): tried again for some seconds, then the batch stops; for
                        minutes where others have the engine (`Overloaded`)

Promises: one line an item, in the order in which they were handed in; the same item has the same trace id whoever asks.
Will not: write.
"""

import threading
from queue import SimpleQueue

from mlpack_runtime import aws, jsontext, telemetry
from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.writing.pieces import ERROR_CHARS, Line, head
from mlpack_runtime.json_room import JsonRoom
from mlpack_runtime.limits import cut
from mlpack_runtime.protocol import HEADER_LENGTH, RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlpack_runtime.batch.items import Item
    from mlpack_runtime.service import Reply, Service

    Fetch = Callable[[str, Callable[[int], None]], tuple[bytes, Mapping[str, str]]]

TRIES = 3
AWAY_TRIES = 6
BUSY_TRIES = 300
LONGEST_PAUSE_S = 8.0
PAUSE_S = 0.5
_ROOM_S = 600.0
_OF_MEMORY = ("allocate memory", "bad_alloc", "out of memory", "Cannot allocate")
"""What engines say when there is not enough of it: for this item, or for any."""
_KEPT = ("content-type", HEADER_LENGTH)


class Answerer:
    """Asks a service. `fetch`: an object's bytes and headers, by its place (`Places.fetch`); `job`: what trace ids begin with;
    `wait`: a pause."""

    def __init__(self, service: "Service", fetch: "Fetch", job: str, wait: "Callable[[float], object]") -> None:
        self._service = service
        self.headers: dict[str, str] = {}
        """Of every request."""
        self._fetch = fetch
        self._job = job
        self._wait = wait
        self._room = JsonRoom("body_bytes", "objects")  # what all threads hold of them

    def line(self, item: "Item") -> Line:
        """An item's line. Raises BatchError where nothing can be answered now."""
        trace_id = f"{self._job}-{item.number}"
        if item.problem is not None:
            return _error(item, item.problem.status, item.problem.kind, str(item.problem))
        tries = away = 0
        while True:
            reply = self._reply(item, trace_id)
            if reply.status < 500 or reply.status == 504:
                break
            if reply.status == 503:
                away += 1
                kind, why = _told(reply)
                if away == (BUSY_TRIES if kind == "Overloaded" else AWAY_TRIES):
                    raise BatchError(f"item {item.number}: {why}", 3, at_item=any(words in why for words in _OF_MEMORY))
                self._wait(min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(away - 1, 9)))
                continue
            tries += 1
            if tries == TRIES:
                break
            self._wait(PAUSE_S)
        if reply.status >= 400:
            return _error(item, reply.status, *_told(reply))
        return Line(_answer(item, reply), failed=False)

    def _reply(self, item: "Item", trace_id: str) -> "Reply":
        body, headers = item.body, {**self.headers, telemetry.TRACE_HEADER: trace_id}
        name = str(item.identifier if item.identifier is not None else item.number)
        taken: list[int] = []
        most = self._service.model.limits.body_bytes
        try:
            if item.place:
                body, told = self._fetch(item.place, lambda size: taken.append(self._room.take(size, most, _ROOM_S)))
                headers = {**told, **headers}
            return self._service.message(headers, body, name, {})
        except RequestError as error:
            return self._service.refuse(error, name, headers)
        except OSError as error:
            return self._service.refuse(RequestError(f"{item.place}: {error.strerror or error}", 404, "NotFound"), name, headers)
        except Exception as error:  # noqa: BLE001  (what answers in S3's place may be anything)
            kept = RequestError(f"{item.place}: {aws.told(error)}", 403 if aws.is_final(error) else 503, "Unavailable")
            return self._service.refuse(kept, name, headers)
        finally:
            for size in taken:
                self._room.give_back(size)


def _told(reply: "Reply") -> "tuple[str, str]":
    """(type, sentence) of an error's answer."""
    try:
        value = jsontext.loads(reply.body)
    except ValueError:
        value = None
    return jsontext.text_of(value, "error_type") or "Error", jsontext.text_of(value, "error") or reply.body.decode(
        "utf-8", "replace"
    )


def _error(item: "Item", status: int, kind: str, message: str) -> Line:
    more = jsontext.dumps({"type": kind, "error": cut(message, ERROR_CHARS), "line": item.line})
    return Line(f"{head(item.number, item.identifier, status)},{more[1:]}\n".encode(), failed=True)


def _answer(item: "Item", reply: "Reply") -> bytes:
    start = head(item.number, item.identifier, reply.status).encode()
    if reply.binary:
        from binascii import b2a_base64

        headers = jsontext.dumps({name: reply.headers[name] for name in _KEPT if name in reply.headers}).encode()
        return start + b',"headers":' + headers + b',"base64":"' + b2a_base64(reply.body, newline=False) + b'"}\n'
    body = reply.body if b"\n" not in reply.body else jsontext.dumps(jsontext.loads(reply.body)).encode()
    return start + b',"answer":' + body + b"}\n"


class Ticket:
    """An item's place in the order; `size`: about what it holds of memory."""

    __slots__ = ("_done", "_error", "_line", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._line: Line | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()

    def settle(self, line: "Line | None", error: "BaseException | None" = None) -> None:
        """It is answered, or nothing can be."""
        self._line, self._error = line, error
        self._done.set()

    def settled(self, seconds: "float | None" = None) -> bool:
        """Wait until it is, one way or the other; False where that takes longer than `seconds`."""
        return self._done.wait(seconds)

    def wait(self) -> Line:
        """Its line. Raises BatchError."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._line is not None
        return self._line


class Crew:
    """Threads that answer; with one, whoever hands an item in answers it."""

    def __init__(self, answerer: Answerer, threads: int) -> None:
        self._answerer = answerer
        self._inbox: SimpleQueue[tuple[Ticket, Item] | None] = SimpleQueue()
        self.size = threads
        self._threads = [threading.Thread(target=self._work, name=f"item-{number}", daemon=True) for number in range(threads)]
        if threads > 1:
            for thread in self._threads:
                thread.start()

    def hand_in(self, item: "Item") -> Ticket:
        """Answer this one, soon."""
        ticket = Ticket(len(item.body))
        if self.size > 1:
            self._inbox.put((ticket, item))
        else:
            self._answer(ticket, item)
        return ticket

    def end(self) -> None:
        """No more come."""
        for _ in self._threads:
            self._inbox.put(None)
        if self.size > 1:
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        while (order := self._inbox.get()) is not None:
            self._answer(*order)

    def _answer(self, ticket: Ticket, item: "Item") -> None:
        try:
            ticket.settle(self._answerer.line(item))
        except BaseException as error:  # noqa: BLE001  (it is raised again where somebody waits for it)
            ticket.settle(None, error)
