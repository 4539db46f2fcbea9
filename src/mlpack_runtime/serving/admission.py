"""How many requests are worked on at a time, and what is said to the next one.

Promises: never more than `most` at a time; whoever is refused is told so at once, and after how long it is worth to try again.
Will not: let anybody wait: what waits for the engine is the batcher's, bounded in bytes.
"""

import threading

from mlpack_runtime.limits import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

RETRY_S = 1.0


class Admission:
    """A gate around the work on a request: `with admission: ...`. `most`: at a time; 0: any number. Raises RequestError (429)."""

    def __init__(self, most: int = 0) -> None:
        self._most = most
        self._lock = threading.Lock()
        self.count = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._most and self.count >= self._most:
                message = f"{self._most} requests are being answered, and no more are taken (MLPACK_HTTP_CONCURRENCY): try again"
                raise RequestError(message, 429, "TooManyRequests", RETRY_S)
            self.count += 1

    def __exit__(self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None") -> None:
        with self._lock:
            self.count -= 1
