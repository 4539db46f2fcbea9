"""How many bytes of JSON, and of payloads, a worker reads at a time, of all callers and messages together.

Promises: no more than one request may have, so that memory for one is memory for all. Will not: read any.
"""

import threading
from time import monotonic

from mlpack_runtime.limits import variable
from mlpack_runtime.protocol import HEADER_LENGTH, RequestError, is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    T = TypeVar("T")

_FREE_BYTES = 1 << 16
_ROOM_S = 30.0


class JsonRoom:
    """What is read as JSON at a time: a value may take 30 times the bytes that it came in, and one alone is what memory has room
    for (`MLPACK_LIMIT_JSON_BYTES`). What is small always has room; one alone has, whatever its size.
    `limit` and `what`: its name, and what it is of."""

    def __init__(self, limit: str = "json_bytes", what: str = "JSON") -> None:
        self._limit = limit
        self._what = what
        self._changed = threading.Condition()
        self.used = 0

    def hold(self, headers: "Mapping[str, str]", body: bytes, most: int, work: "Callable[[], T]") -> "T":
        """Do it when there is room for the JSON of a request. Raises RequestError (503) when there is none in time."""
        stated, size = headers.get(HEADER_LENGTH, ""), len(body)
        taken = self.take(min(size, int(stated)) if is_number(stated) else size, most)
        try:
            return work()
        finally:
            self.give_back(taken)

    def take(self, size: int, most: int, seconds: float = _ROOM_S) -> int:
        """Wait for room; what to give back. Raises RequestError (503) when there is none in time."""
        if size <= _FREE_BYTES:
            return 0
        until_s = monotonic() + seconds
        with self._changed:
            while self.used and self.used + size > most:
                if not self._changed.wait(until_s - monotonic()) and monotonic() >= until_s:
                    message = (
                        f"requests at hand have {self.used} of {most} bytes of {self._what} ({variable(self._limit)}): try again"
                    )
                    raise RequestError(message, 503, "Overloaded", 1.0)
            self.used += size
        return size

    def give_back(self, size: int) -> None:
        """It was answered."""
        if size:
            with self._changed:
                self.used -= size
                self._changed.notify_all()
