"""A runner's way through a batch: part after part that nobody has, piece after piece, until all is done or it has to stop.

    planning.json             how far the plan is, while it takes long (`planning`)
    job.json                  which manifest, model and columns this folder is for, and the parts; written once
    claims/part-00012.json    who works on a part
    results/, errors/         `pieces`
    done/part-00012.json      a part that is whole: its pieces with their counts and digests
    index.json                all parts, at the end; written once
    status.json               `progress`

Promises: wherever a runner is killed, the next one goes on after the last piece; of any number of runners each works on parts of
its own while there are some; asked to stop, it writes what is answered. Will not: know formats, services or where it runs.
"""

from collections import deque
from hashlib import sha256
from time import monotonic

from mlpack_runtime import jsontext
from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.writing.pieces import Chain
from mlpack_runtime.batch.writing.progress import COMPLETE, RUNNING, Counts
from mlpack_runtime.protocol import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from mlpack_runtime.batch.answering import Crew, Ticket
    from mlpack_runtime.batch.items import Item
    from mlpack_runtime.batch.reading.plans import Part
    from mlpack_runtime.batch.writing.claims import Claims
    from mlpack_runtime.batch.writing.folders import Folder
    from mlpack_runtime.batch.writing.pieces import Line
    from mlpack_runtime.batch.writing.progress import Progress

INDEX = "index.json"
CAREFUL, HOPELESS = 2, 4
"""After how many runners that ended at the same place items are answered one by one, and the first of them not any more."""
HELD_BYTES = 32 << 20
"""Of requests that are at hand."""


class Bounds:
    """When a piece is written: after so many items, bytes of results, or seconds."""

    __slots__ = ("items", "seconds", "size")

    def __init__(self, items: int = 1000, size: int = 8 << 20, seconds: float = 30.0) -> None:
        self.items = items
        self.size = size
        self.seconds = seconds


class Run:
    """One runner. `items(part, skipped)`: those of a part but the first ones; `going`: whether there is time for more;
    `wait`: a pause, while others have what is left."""

    def __init__(
        self,
        folder: "Folder",
        parts: "list[Part]",
        items: "Callable[[Part, int], Iterator[Item]]",
        crew: "Crew",
        claims: "Claims",
        progress: "Progress",
    ) -> None:
        self._folder = folder
        self._parts = parts
        self._items = items
        self._crew = crew
        self._claims = claims
        self._progress = progress
        self.bounds = Bounds()
        self.going: Callable[[], bool] = lambda: True
        self.wait: Callable[[float], object] | None = None
        self._done: dict[int, dict[str, Any]] = {}
        self._counts = Counts(sum(part.items for part in parts), len(parts))

    def run(self) -> "dict[str, Any]":
        """Until all is done, or there is no more time; or, without `wait`, until others have all that is left. What the status says
        then. Raises BatchError."""
        pause_s = 0.5
        while True:
            self._look()
            if len(self._done) == len(self._parts):
                return self._end()
            worked = False
            for part in self._parts:
                if not self.going():
                    return self._progress.tell(self._counts, RUNNING)
                if part.number not in self._done:
                    worked = self._work(part) or worked
            if worked:
                pause_s = 0.5
                continue
            self._look()
            if len(self._done) < len(self._parts):
                if self.wait is None:
                    return self._progress.tell(self._counts, RUNNING)
                self._progress.tell(self._counts, RUNNING)
                self.wait(pause_s)
                pause_s = min(10.0, pause_s * 2)

    def _look(self) -> None:
        """Learn which parts are done."""
        numbers = {f"done/{part.name}.json": part.number for part in self._parts}
        for name in self._folder.names("done/"):
            number = numbers.get(name)  # None: not ours, such as the mark of a folder that a console makes
            if number is not None and number not in self._done:
                held = self._folder.read(name)
                if held is not None:
                    self._done[number] = _counts(jsontext.loads(held[0]))
        self._count()

    def _count(self, open_chain: "Chain | None" = None) -> None:
        counts = self._counts
        rows = list(self._done.values())
        pieces = [] if open_chain is None else open_chain.pieces
        counts.failed = sum(row["failed"] for row in rows) + sum(piece.failed for piece in pieces)
        counts.answered = sum(row["items"] for row in rows) + sum(piece.items for piece in pieces) - counts.failed
        counts.parts_done = len(rows)

    def _work(self, part: "Part") -> bool:
        """A part as far as it goes; False where somebody else has it."""
        if not self._claims.take(part):
            return False
        chain, failed = Chain(self._folder, part), False
        try:
            chain.read()
            if not chain.is_whole:
                self._answer(chain)
            if chain.is_whole:
                self._close(chain)
        except BatchError as error:
            failed = error.at_item
            raise
        finally:
            if failed:
                self._claims.leave(part, chain.done)
            elif not chain.is_whole:
                self._claims.give_back(part)
        return True

    def _close(self, chain: Chain) -> None:
        chain.list_errors()
        part = chain.part
        row = {
            "part": part.number,
            "first": part.first,
            "items": part.items,
            "failed": sum(piece.failed for piece in chain.pieces),
            "sha256": sha256("".join(piece.sha256 for piece in chain.pieces).encode()).hexdigest(),
            "pieces": chain.rows(),
        }
        self._folder.put_new(f"done/{part.name}.json", jsontext.dumps(row).encode())
        self._done[part.number] = _counts(row)
        self._count()

    def _answer(self, chain: Chain) -> None:
        """The items of a part that have no result, into pieces; ends where there is no time, and where somebody else writes one."""
        self._count(chain)
        self._progress.beat(self._counts, 0)  # what was there before this runner is told first
        deaths = self._claims.deaths(chain.part, chain.done)
        if deaths >= CAREFUL:
            self._answer_carefully(chain, deaths)
            return
        items = self._items(chain.part, chain.done)
        hands: deque[Ticket] = deque()
        lines: list[Line] = []
        size, held, began_s = 0, 0, monotonic()
        going = True
        try:
            while True:
                while going and len(hands) < 2 * self._crew.size and held < HELD_BYTES:
                    going = self.going()
                    item = next(items, None) if going else None
                    if item is None:
                        going = False
                        break
                    hands.append(self._crew.hand_in(item))
                    held += hands[-1].size
                if hands:
                    ticket = hands.popleft()
                    lines.append(self._line(ticket, chain.part))
                    held -= ticket.size
                    size += len(lines[-1].data)
                    self._claims.keep(chain.part)
                    self._progress.beat(self._counts, len(lines))
                bounds, spent_s = self.bounds, monotonic() - began_s
                is_full = len(lines) >= bounds.items or size >= bounds.size or spent_s >= bounds.seconds
                if lines and (is_full or not hands):
                    if not chain.add(lines):
                        return
                    self._count(chain)
                    self._progress.wrote(chain.pieces[-1], self._counts)
                    lines, size, began_s = [], 0, monotonic()
                if not hands and not going:
                    return
        except BaseException:
            self._keep(chain, lines)
            raise
        finally:
            for ticket in hands:  # of nobody's any more; their threads are to be free when the next part begins
                ticket.settled()

    def _line(self, ticket: "Ticket", part: "Part") -> "Line":
        """A ticket's line. The part stays ours meanwhile, however long its item takes: who lost it would count as one who died."""
        while not ticket.settled(self._claims.pause_s):
            self._claims.keep(part)
        return ticket.wait()

    def _answer_carefully(self, chain: Chain, deaths: int) -> None:
        """One item after the other, each a piece of its own: runners have ended at this place again and again, by an item that
        takes all memory or all time, or because nobody lets them live long enough for a whole piece."""
        part = chain.part
        for item in self._items(part, chain.done):
            if not self.going():
                return
            if deaths >= HOPELESS:
                why = f"{deaths} runners have ended while they answered it: it takes more memory or time than there is"
                item.problem = RequestError(why, 500, "RunnerDied")
            if not chain.add([self._line(self._crew.hand_in(item), part)]):
                return
            deaths = CAREFUL
            self._count(chain)
            self._progress.wrote(chain.pieces[-1], self._counts)
            self._claims.mark(part, chain.done, deaths)

    def _keep(self, chain: Chain, lines: "list[Line]") -> None:
        """What is answered before the batch has to stop is not answered again."""
        if lines and not chain.is_whole:
            chain.add(lines)

    def _end(self) -> "dict[str, Any]":
        rows = [dict(self._done[part.number]) for part in self._parts]
        for row, part in zip(rows, self._parts, strict=True):
            row["record"] = f"done/{part.name}.json"
        self._count()
        told = {
            **self._counts.to_json(),
            "done": rows,
            "sha256": sha256("".join(row["sha256"] for row in rows).encode()).hexdigest(),
        }
        self._folder.put_new(INDEX, jsontext.dumps(told).encode())
        return self._progress.tell(self._counts, COMPLETE)


def _counts(row: "dict[str, Any]") -> "dict[str, Any]":
    """A finished part without its pieces, of which a long batch has very many."""
    return {name: value for name, value in row.items() if name != "pieces"}
