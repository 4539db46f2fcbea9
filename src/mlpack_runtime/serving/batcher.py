"""The one thread that asks the engine, for whoever hands in a call: dynamic batches, a breaker around the device.

Promises: each call gets its own outputs or its own BackendError, once; a batch closes at `max_batch` rows, when everybody who is at
work on a request waits already (`callers`), or `max_wait_s` after its first call came in; turns go round between calls (`waiting`),
and choosing a batch takes time by what is taken; a batch that the engine refuses is tried call by call, so that only the bad one
fails; while the breaker is open every call is refused at once ("device"). Calls are decoded and answers written by other threads:
the engine lets go of the interpreter while it runs.
Will not: try a call again that the device failed (whoever has it knows better where), or run two batches at a time.
"""

import threading
from _thread import allocate_lock
from time import monotonic

from mlpack_runtime.backend import BackendError
from mlpack_runtime.limits import Limits, exceeded, variable
from mlpack_runtime.serving.batching import Layout, Unit, cut, fitted, join, most_rows, parts, rows_of, together
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.waiting import WASTE, WASTE_ON_CPU, Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlpack_runtime.backend import Backend
    from mlpack_runtime.tensor import Tensor

    Feeds = Mapping[str, Tensor]

PIECE_BYTES = 2048
"""Of a piece of a call: its objects and those of its outputs, whatever values they hold (measured)."""
_LOOK_S = 0.05
_LEAST_PIECES_BYTES = 16 << 20
"""What one call's pieces may come to, however little may wait."""


class Job:
    """One call on its way. `began_s` and `ended_s`: when its first batch began and its last one ended, by the batcher's clock;
    `fill`: rows of its last batch as a share of the most that one may have; `until_s`: after which nobody waits for it."""

    def __init__(self, pieces: int, until_s: "float | None" = None) -> None:
        self.until_s = until_s
        self.began_s = 0.0
        self.ended_s = 0.0
        self.fill = 0.0
        self._outputs: list[dict[str, Tensor] | None] = [None] * pieces
        self._missing = pieces
        self._error: BackendError | None = None
        self._over = False
        self._done = allocate_lock()  # held until it is over; an Event is two locks and some ten calls more, for every request
        self._done.acquire()

    @property
    def failed(self) -> bool:
        """Whether it is over, badly."""
        return self._error is not None

    def deliver(self, place: int, outputs: "dict[str, Tensor]") -> None:
        """One piece's outputs, from the batcher."""
        self._outputs[place] = outputs
        self._missing -= 1
        if not self._missing:
            self._end()

    def fail(self, error: BackendError) -> None:
        """It failed; the first reason stays."""
        self._error = self._error or error
        self._end()

    def wait(self, layout: Layout) -> "dict[str, Tensor]":
        """Its outputs, when they are there. Raises BackendError."""
        with self._done:
            pass
        if self._error is not None:
            raise self._error
        return together([one for one in self._outputs if one is not None], layout)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._done.release()


class Batcher:
    """Calls in from any thread, batches out to one engine. `on_sticky` is told, once, that the device is lost for this process."""

    def __init__(
        self,
        backend: "Backend",
        layout: Layout,
        *,
        max_batch: int,
        max_wait_s: float,
        breaker: Breaker,
        sample: "Feeds | None" = None,
    ) -> None:
        self._backend = backend
        self.layout = layout
        self.max_batch = most_rows(backend.shapes(), max_batch) if layout.batched else max_batch
        self._max_wait_s = max_wait_s
        self.breaker = breaker
        self._sample = sample
        self._changed = threading.Condition()
        self.hold_to(Limits({}, {}))
        self._began_s = 0.0  # when the batch at hand began; 0: there is none
        self._stopping = False
        self._lost: BackendError | None = None
        self.on_sticky: Callable[[BackendError], None] = lambda _: None
        self.callers: Callable[[], int] | None = None
        """How many are at work on a request, those that wait here among them; None where nobody knows."""
        self.busy_s = 0.0
        """How long the engine has run."""
        self.thread = threading.Thread(target=self._loop, name="engine", daemon=True)

    def hold_to(self, limits: Limits) -> None:
        """What may wait, and what the engine is asked for at a time; before the start."""
        self._limits = limits
        waste = WASTE_ON_CPU if self._backend.kind == "cpu" else WASTE
        self._waiting = Waiting(most_tokens=limits.engine_tokens, waste=waste)

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self) -> None:
        """Run what was handed in, without waiting for more, and end. Calls handed in later are refused."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.thread.join()

    def hurry(self) -> None:
        """From now on no batch waits for calls to join it."""
        with self._changed:
            self._max_wait_s = 0.0
            self._changed.notify_all()

    def look(self) -> None:
        """Look at the breaker now: who opened it, and would have tried the device again, is gone."""
        with self._changed:
            self._changed.notify_all()

    def submit(self, calls: "Sequence[Feeds]", until_s: "float | None" = None) -> Job:
        """A call, in one piece or, as texts are, in several; each is cut further where it has more rows than a batch. A piece that
        no batch has taken by `until_s` is not run, and its call fails ("late")."""
        too_many = self._too_many(calls)
        if too_many is not None:
            job = Job(0)
            job.fail(too_many)
            return job
        pieces = [piece for call in calls for piece in parts(self.layout, call, self._most_rows(call))]
        job = Job(len(pieces), until_s)
        units = [Unit(self.layout, piece, job, place) for place, piece in enumerate(pieces)]
        with self._changed:
            refused = self._refusal() or self._wrong(units) or self._full(units)
            if refused is None:
                now, was_idle = monotonic(), not self._waiting
                for unit in units:
                    unit.arrived = now
                self._waiting.add(units)
                if was_idle or self._waiting.rows >= self.max_batch or not self._may_join():  # else it would look, and wait on
                    self._changed.notify_all()
        if refused is not None:
            job.fail(refused)
        return job

    def _too_many(self, calls: "Sequence[Feeds]") -> "BackendError | None":
        """Why these cannot be cut: their pieces alone would hold too much. Rows of one value have few bytes, and pieces many."""
        if not self.layout.batched:
            return None
        held = PIECE_BYTES * sum(-(-rows_of(call) // self._most_rows(call)) for call in calls)
        most = max(_LEAST_PIECES_BYTES, self._limits.waiting_bytes)
        if held <= most:
            return None
        what = f"bytes of the pieces of {self.max_batch} rows or fewer (MLPACK_MAX_BATCH) that the call is run in:"
        return BackendError(exceeded("waiting_bytes", what, held, most), "size")

    def _most_rows(self, call: "Feeds") -> int:
        length = self.layout.length(call)
        return max(1, min(self.max_batch, self._limits.engine_tokens // length)) if length else self.max_batch

    def _refusal(self) -> "BackendError | None":
        if self._lost is not None:
            return self._lost
        if self._stopping:
            return BackendError("the worker is ending", "device")
        return None if self.breaker.closed else _open(self.breaker)

    def _wrong(self, units: "list[Unit]") -> "BackendError | None":
        """Why no batch can have these: rows are repeated to fill a profile, and there are none."""
        if self.layout.batched and self._backend.shapes().profiles and not all(unit.rows for unit in units):
            return BackendError("a call without rows: this engine takes 1 at least", "input")
        return None

    def _full(self, units: "list[Unit]") -> "BackendError | None":
        """Why these cannot wait: with what waits already they hold too much. Alone, a call may be as large as a request may be."""
        held, most = self._waiting.nbytes, self._limits.waiting_bytes
        if not held or held + sum(unit.nbytes for unit in units) <= most:
            return None
        return BackendError(f"too much waits already: {held} of {most} bytes ({variable('waiting_bytes')})", "busy")

    @property
    def waiting(self) -> int:
        """Rows that wait for the engine."""
        return self._waiting.rows

    @property
    def running_s(self) -> float:
        """For how long the batch at hand has been run; 0 while there is none."""
        began_s = self._began_s
        return monotonic() - began_s if began_s else 0.0

    def _loop(self) -> None:
        while True:
            with self._changed:
                batch = self._next()
            if batch is None:
                return
            if batch:
                self._execute_timely(batch)
            else:
                self._probe()

    def _next(self) -> "list[Unit] | None":
        """The batch that is due, after waiting for it; an empty one when it is time for a probe; None at the end."""
        while True:
            if self._lost is not None:
                self._refuse_waiting(self._lost)
                if self._stopping:
                    return None
                self._changed.wait()
                continue
            if not self.breaker.closed:
                self._refuse_waiting(_open(self.breaker))
                if self._stopping:
                    return None
                if not self._changed.wait(self.breaker.wait_s) and self.breaker.wait_s == 0:
                    return []
                continue
            if not self._waiting:
                if self._stopping:
                    return None
                self._changed.wait()
                continue
            due_s = self._waiting.due_s(self._max_wait_s) - monotonic()
            is_open = self.layout.batched and self._waiting.rows < self.max_batch and self._may_join()
            if due_s > 0 and is_open and not self._stopping:
                self._changed.wait(due_s)
                continue
            return self._waiting.take(self.max_batch if self.layout.batched else 0)

    def _may_join(self) -> bool:
        """Whether somebody is on the way here: a call that is alone has nothing to wait for."""
        return self.callers is None or self.callers() > self._waiting.callers

    def _refuse_waiting(self, error: BackendError) -> None:
        for job in self._waiting.clear():
            assert isinstance(job, Job)
            job.fail(error)

    def _fail(self, units: "list[Unit]", error: BackendError) -> None:
        """These calls are over; what else of them waits is not run."""
        with self._changed:
            for unit in units:
                _job(unit).fail(error)
                self._waiting.drop(unit.owner)

    def _execute_timely(self, units: "list[Unit]") -> None:
        """Run those that somebody still waits for."""
        now = monotonic()
        late = [unit for unit in units if (until_s := _job(unit).until_s) is not None and until_s <= now]
        if late:
            self._fail(late, BackendError("the deadline was over before the engine was free; it did not run for this", "late"))
            units = [unit for unit in units if not _job(unit).failed]
        if units:
            self._execute(units)

    def _execute(self, units: "list[Unit]") -> None:
        if not self.breaker.closed:  # a probe is `_probe`'s alone: these may end in an error that says nothing of the device
            self._fail(units, _open(self.breaker))
            return
        began_s = monotonic()
        try:
            cuts = self._outputs(units)
        except BackendError as error:
            if error.sort == "input" and len(units) > 1:
                for unit in units:  # one of them is the bad one
                    self._execute([unit])
                return
            if error.sort != "input":
                self._device_failed(error)
            self._fail(units, error)
            return
        self.breaker.succeeded()
        fill = sum(unit.rows for unit in units) / self.max_batch
        ended_s = monotonic()
        for unit, own in zip(units, cuts, strict=True):
            job = _job(unit)
            job.began_s, job.ended_s, job.fill = job.began_s or began_s, ended_s, fill
            job.deliver(unit.place, own)

    def _outputs(self, units: "list[Unit]") -> "list[dict[str, Tensor]]":
        """Only what the engine itself says is the device's fault: what cannot be joined or cut is the calls'."""
        try:
            rows, length = fitted(self.layout, self._backend.shapes(), units)
            feeds = join(self.layout, units, rows, length)
        except BackendError:
            raise
        except Exception as error:  # callers wait for an answer, and the thread must live
            raise BackendError(f"the call cannot be put into a batch: {type(error).__name__}: {error}", "input") from error
        try:
            self._began_s = monotonic()
            outputs = self._backend.run(feeds)
            self.busy_s += monotonic() - self._began_s
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"{type(error).__name__}: {error}", "device") from error
        finally:
            self._began_s = 0.0
        try:
            return cut(self.layout, units, outputs, length)
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"outputs cannot be cut into calls: {type(error).__name__}: {error}", "input") from error

    def _device_failed(self, error: BackendError) -> None:
        self.breaker.failed()
        if error.sort == "sticky" and self._lost is None:
            with self._changed:
                self._lost = error
                self._refuse_waiting(error)
            self.on_sticky(error)

    def _probe(self) -> None:
        """Try the device with a call of our own: no caller's is spent on it. Without one it is closed, and the next call tells."""
        if self._lost is not None:
            return
        if not self.breaker.admit():  # another model's batcher is trying it
            with self._changed:
                self._changed.wait(_LOOK_S)
            return
        if self._sample is None:
            self.breaker.succeeded()
            return
        try:
            self._outputs([Unit(self.layout, self._sample)])
        except BackendError as error:
            self._device_failed(error)
        else:
            self.breaker.succeeded()


def _open(breaker: Breaker) -> BackendError:
    return BackendError(f"the device failed several times in a row; it is tried again in {breaker.wait_s:.0f} s", "device")


def _job(unit: Unit) -> Job:
    assert isinstance(unit.owner, Job)
    return unit.owner
