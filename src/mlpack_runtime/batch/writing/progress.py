"""How far a batch is: in `status.json` beside its results, in lines of the log that are metrics, and to whoever wants to know.

    {"state": "running" | "complete", "manifest", "results", "items", "answered", "failed", "parts", "parts_done", "updated"}

Promises: what is `complete` never becomes `running` again; the object is written no more than every `EVERY_S` seconds.
Will not: decide anything.
"""

from time import gmtime, monotonic, strftime, time, time_ns

from mlpack_runtime import jsontext, telemetry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mlpack_runtime.batch.writing.folders import Folder
    from mlpack_runtime.batch.writing.pieces import Piece
    from mlpack_runtime.model import Described

STATUS = "status.json"
RUNNING, COMPLETE = "running", "complete"
EVERY_S = 10.0
_BEAT_S = 1.0
METRICS = {"batch_items": "Count", "batch_failed": "Count", "batch_progress": "Percent"}


class Counts:
    """Of a batch: `answered` and `failed` items of all runners, as far as they are known here; `parts_done` of `parts`."""

    __slots__ = ("answered", "failed", "items", "parts", "parts_done")

    def __init__(self, items: int, parts: int) -> None:
        self.items = items
        self.parts = parts
        self.answered = self.failed = self.parts_done = 0

    @property
    def done(self) -> int:
        """Items with a result."""
        return self.answered + self.failed

    def to_json(self) -> "dict[str, int]":
        """As the status has them."""
        return {name: getattr(self, name) for name in ("items", "answered", "failed", "parts", "parts_done")}


class Progress:
    """Tells. `about`: what the status says besides; `say`: told the same, at once."""

    def __init__(
        self, folder: "Folder", model: "Described", about: "dict[str, Any]", say: "Callable[[dict[str, Any]], None] | None" = None
    ) -> None:
        self._folder = folder
        self._model = model
        self._about = about
        self._say = say
        self._next_s = self._beat_s = 0.0

    def beat(self, counts: Counts, more: int) -> None:
        """So many items more are answered, and not written yet: told to who wants to know, once a second."""
        if self._say is not None and monotonic() >= self._beat_s:
            self._beat_s = monotonic() + _BEAT_S
            self._say({"state": RUNNING, **self._about, **counts.to_json(), "done": counts.done + more})

    def wrote(self, piece: "Piece", counts: Counts) -> None:
        """A piece is there."""
        telemetry.emit(_line(self._model, self._about, piece, counts))
        self.tell(counts, RUNNING)

    def tell(self, counts: Counts, state: str) -> "dict[str, Any]":
        """The state; what the status says."""
        now = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(time()))
        told = {"state": state, **self._about, **counts.to_json(), "updated": now}
        if self._say is not None:
            self._say({**told, "done": counts.done})
        if state == COMPLETE or monotonic() >= self._next_s:
            self._next_s = monotonic() + EVERY_S
            self._write(told)
        return told

    def _write(self, told: "dict[str, Any]") -> None:
        data = jsontext.dumps(told).encode()
        held = self._folder.read(STATUS)
        if held is None:
            if self._folder.put_new(STATUS, data):
                return
            held = self._folder.read(STATUS)
        for _ in range(3):
            if held is None or jsontext.loads(held[0])["state"] == COMPLETE or self._folder.replace(STATUS, data, held[1]):
                return
            if told["state"] != COMPLETE:
                return  # another runner was first, and knows as much
            held = self._folder.read(STATUS)


def _line(model: "Described", about: "dict[str, Any]", piece: "Piece", counts: Counts) -> str:
    now_ms = time_ns() // 1_000_000
    metrics = {
        "batch_items": piece.items,
        "batch_failed": piece.failed,
        "batch_progress": round(100 * counts.done / counts.items, 3) if counts.items else 100.0,
    }
    return telemetry.event(
        model,
        "INFO",
        "batch",
        manifest=about["manifest"],
        **telemetry.placed(model),
        **metrics,
        _aws={"Timestamp": now_ms, "CloudWatchMetrics": telemetry.description(METRICS)},
    )
