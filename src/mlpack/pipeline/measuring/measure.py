"""Run packages in child processes and measure them.

Promises:
- Each child runs the unpacked package with nothing else on its path.
- Candidates and their float take turns in the same seconds on the same core, so that ratios hold on a noisy machine.
- Raw samples are kept. Large packages are not in memory all at once: each is loaded anew for its turn.
- A child that dies is a `ChildError` with its last output. No child outlives the call that started it, even after Ctrl-C.

Will not: judge. `decide` does.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlpack.core import interrupts
from mlpack.core.stats import median
from mlpack.errors import MeasureError

_ENVIRONMENT = {"HOME": "/tmp", "LANG": "C.UTF-8", "MLPACK_AROUND": "stub"}
_TIMEOUT_S = 900.0
_LEAVE_S = 5.0
"""Seconds for a child to end after its input is closed."""
_WORDS_BYTES = 2000
_TOGETHER_BYTES = 1 << 30
"""Packages with more bytes in sum are loaded one by one, unless the largest has nearly all: an engine copies their weights."""
_TOGETHER_SHARE = 1.3
"""The most bytes in sum, as a multiple of the largest: a float and its int8 fit."""
_WARM_AGAIN = 3
"""Warm-up calls of a package that is loaded anew for its turn."""
_LAMBDA_MB_PER_CPU = 1769
"""AWS gives one vCPU per 1,769 MB of memory (Lambda developer guide, "Configure memory")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A package to measure: its unpacked root (which will lie at /var/task), and its memory."""

    id: str
    root: Path
    memory_mb: int
    interpreter: Path
    emulator: tuple[str, ...] = ()
    """The command before the interpreter that emulates another processor (see `emulation`)."""

    @property
    def threads(self) -> int:
        """The number of threads of its runtime, by the runtime's own rule."""
        return max(1, round(self.memory_mb / _LAMBDA_MB_PER_CPU))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much to measure. The defaults give 500 latencies when a call takes 20 ms or less, the fewest for a p99."""

    cold_starts: int = 9
    blocks: int = 20
    samples: int = 500
    seconds_per_subject: float = 10.0
    warmup_seconds: float = 0.5
    throughput_seconds: float = 1.0


EFFORTS = {
    "quick": Effort(cold_starts=3, blocks=5, samples=100, seconds_per_subject=2.0, warmup_seconds=0.2, throughput_seconds=0.3),
    "full": Effort(),
}
"""By the name that `mlpack build --effort` takes. `quick` is for looking at a change, not for a release: it gives no p99."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Raw numbers of one subject. Milliseconds, in the order of measuring."""

    load_ms: tuple[float, ...]
    first_answer_ms: tuple[float, ...]
    cold_start_ms: tuple[float, ...]
    latency_ms: tuple[float, ...]
    ratio_samples: tuple[float, ...]
    warmups: int
    throughput_per_s: float
    peak_memory_bytes: int


class ChildError(MeasureError):
    """The failure of a package while it is measured, not of the measurement. `subject_id` names the package."""

    def __init__(self, subject_id: str, message: str) -> None:
        super().__init__(message)
        self.subject_id = subject_id


class Child:
    """The package's own bench server in a process of its own: a JSON line in, a JSON line out."""

    def __init__(self, subject: Subject, calls_dir: Path, cpus: frozenset[int]) -> None:
        self.subject = subject
        self.timeout_s = _TIMEOUT_S
        self._buffer = b""
        # The child's working directory is the package, so these paths have to be absolute.
        root, calls_dir, interpreter = subject.root.absolute(), calls_dir.absolute(), subject.interpreter.absolute()
        # A file, not a pipe: a child that logs more than a pipe holds would wait for a reader for ever.
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        try:
            with _pinned(cpus):
                self._process = subprocess.Popen(
                    [*subject.emulator, interpreter, "-I", "-S", root / "bootstrap.py", "bench", calls_dir],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._words,
                    cwd=root,
                    env={
                        "LAMBDA_TASK_ROOT": str(root),
                        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(subject.memory_mb),
                        **_ENVIRONMENT,
                    },
                    start_new_session=True,
                )
        except OSError as error:
            self._words.close()
            raise MeasureError(
                f"{subject.id}: its process could not be started: {error}. Free memory or processes, and build again"
            ) from None

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one operation and wait for its answer. MeasureError when the child fails, dies or does not answer in time."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer = json.loads(self._line())
        except (BrokenPipeError, ValueError) as error:
            raise self._failure(f"broke off at {request.get('op')!r}") from error
        if "error" in answer:
            raise self._failure(f"failed at {request.get('op')!r}: {answer['error'].get('type')}: {answer['error'].get('message')}")
        return dict(answer)

    def kill(self) -> None:
        """End the process at once. A call that waits for its answer raises ChildError."""
        self._process.kill()

    def close(self) -> None:
        """End the process and wait for it. A child that does not end by itself is killed, also when the wait is interrupted."""
        try:
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):  # the child has ended without reading the last request
                        stream.close()
            interrupts.reap(self._process, _LEAVE_S)
        finally:
            self._process.kill()
            interrupts.reap(self._process)
            self._words.close()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + self.timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(timeout=max(0.0, deadline - time.monotonic())):
                    raise self._failure(f"did not answer within {self.timeout_s:.0f} s")
                chunk = os.read(self._process.stdout.fileno(), 1 << 20)
                if not chunk:
                    raise self._failure("ended without an answer")
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _failure(self, what: str) -> ChildError:
        self._process.kill()
        status = self._process.wait()
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - _WORDS_BYTES))
        words = self._words.read().decode(errors="replace").strip()
        return ChildError(
            self.subject.id,
            f"{self.subject.id}: the packaged runtime {what} (exit status {status}).\n"
            + (f"It said:\n{words}\n" if words else "")
            + "Reproduce it with `mlpack run` on the package, or look for a missing operator, data type or shared library.",
        )


@contextmanager
def child(subject: Subject, calls_dir: Path, cpus: frozenset[int]) -> Iterator[Child]:
    """Run a bench server while the block runs. An error or an interrupt kills it at once."""
    running = Child(subject, calls_dir, cpus)
    try:
        yield running
    except BaseException:
        running.kill()
        raise
    finally:
        running.close()


def predict(subjects: Sequence[Subject], calls_dir: Path, n_calls: int, out_dir: Path) -> dict[str, Path | MeasureError]:
    """Every subject's outputs for every call, side by side on all cores: a path prefix (`.json`, `.bin`) or the error."""
    cpus = sorted(os.sched_getaffinity(0))
    stopped = threading.Event()
    children: list[Child] = []

    def predict_one(index: int) -> Path | MeasureError:
        prefix = out_dir / f"outputs-{index}"
        try:
            with child(subjects[index], calls_dir, _share(cpus, index, subjects[index].threads)) as running:
                children.append(running)
                if stopped.is_set():
                    running.kill()
                running.ask(op="load")
                running.ask(op="predict", calls=[0, n_calls], out=str(prefix.absolute()))
        except MeasureError as error:
            return error
        return prefix

    pool = ThreadPoolExecutor(max_workers=max(1, len(cpus)) if _fit_together(subjects) else 1)
    try:
        return dict(zip((s.id for s in subjects), pool.map(predict_one, range(len(subjects))), strict=True))
    except BaseException:
        # An interrupt reaches this thread only; the others wait for children that may have minutes to go.
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for running in children:
            running.kill()
        raise
    finally:
        pool.shutdown()


def time_side_by_side(
    subjects: Sequence[Subject], baseline_id: str, calls_dir: Path, n_calls: int, effort: Effort, observe: Callable[[str], None]
) -> dict[str, Timings]:
    """Timings of every subject, measured in turns. `baseline_id`: the subject that the others' ratios refer to.

    ChildError when a subject fails: measure the others anew, without it.
    """
    starts = _cold_starts(subjects, calls_dir, effort, observe)
    observe(f"measure: latency of {len(subjects)} packages in turns")
    cpus = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        steady: dict[str, _WarmChild] = {}
        for each in subjects:
            open_child = partial(_child_with_model, each, calls_dir, _share(cpus, len(cpus) - 1, each.threads))
            if _fit_together(subjects):
                same = nullcontext(stack.enter_context(open_child()))
                steady[each.id] = _WarmChild(partial(lambda context: context, same), n_calls, effort)
            else:
                steady[each.id] = _WarmChild(open_child, n_calls, effort, again=_WARM_AGAIN)
        per_block = min(run.affordable for run in steady.values())
        for block in range(effort.blocks):
            for run in steady.values():
                run.block(block, per_block)
        base = steady[baseline_id].block_medians
        ends = {id_: run.end() for id_, run in steady.items()}
        return {
            s.id: Timings(
                load_ms=starts[s.id].load_ms,
                first_answer_ms=starts[s.id].first_ms,
                cold_start_ms=starts[s.id].start_ms,
                latency_ms=tuple(steady[s.id].samples),
                ratio_samples=tuple(round(mine / its, 4) for mine, its in zip(steady[s.id].block_medians, base, strict=True)),
                warmups=steady[s.id].warmups,
                throughput_per_s=ends[s.id][0],
                peak_memory_bytes=ends[s.id][1],
            )
            for s in subjects
        }


@dataclass(frozen=True, slots=True)
class _Starts:
    load_ms: tuple[float, ...]
    first_ms: tuple[float, ...]
    start_ms: tuple[float, ...]


def _cold_starts(
    subjects: Sequence[Subject], calls_dir: Path, effort: Effort, observe: Callable[[str], None]
) -> Mapping[str, _Starts]:
    """Fresh processes, in turns: process start to first answer. The page cache is warm, as for all but a host's first start."""
    if effort.cold_starts < 1:
        return {s.id: _Starts((), (), ()) for s in subjects}
    observe(f"measure: {effort.cold_starts} cold starts each of {len(subjects)} packages")
    cpus = sorted(os.sched_getaffinity(0))
    load: dict[str, list[float]] = {s.id: [] for s in subjects}
    first: dict[str, list[float]] = {s.id: [] for s in subjects}
    start: dict[str, list[float]] = {s.id: [] for s in subjects}
    for _ in range(effort.cold_starts):
        for subject in subjects:
            began = time.perf_counter()
            with child(subject, calls_dir, _share(cpus, len(cpus) - 1, subject.threads)) as running:
                load_answer = running.ask(op="load")
                first_answer = running.ask(op="first", call=0)
                start[subject.id].append(round((time.perf_counter() - began) * 1e3, 3))
            load[subject.id].append(float(load_answer["load_ms"]))
            first[subject.id].append(float(first_answer["ns"]) / 1e6)
    return {s.id: _Starts(tuple(load[s.id]), tuple(first[s.id]), tuple(start[s.id])) for s in subjects}


@contextmanager
def _child_with_model(subject: Subject, calls_dir: Path, cpus: frozenset[int]) -> Iterator[Child]:
    """Run a bench server with its model in memory while the block runs."""
    with child(subject, calls_dir, cpus) as running:
        running.ask(op="load")
        yield running


def _fit_together(subjects: Sequence[Subject]) -> bool:
    """Whether all of them may be loaded at once, by their bytes on disk."""
    sizes = [
        sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(each.root) for name in names)
        for each in subjects
    ]
    return sum(sizes) <= max(_TOGETHER_BYTES, _TOGETHER_SHARE * max(sizes, default=0))


class _WarmChild:
    """One warm child: blocks of latencies over calls spread through the data, so that their lengths are mixed as in the data.

    `opener`: opens the child with its model loaded: the same one each time, or a new one, which first makes `again` calls.
    """

    def __init__(self, opener: Callable[[], AbstractContextManager[Child]], n_calls: int, effort: Effort, again: int = 0) -> None:
        self._opener, self._calls, self._again = opener, n_calls, again
        self.samples: list[float] = []
        self.block_medians: list[float] = []
        self.warmups = 0
        warmup_ms: list[float] = []
        began = time.monotonic()
        with opener() as running:
            while self.warmups < 10 or time.monotonic() - began < effort.warmup_seconds:
                warmup_ms = _latencies(running, [self.warmups % n_calls])
                self.warmups += 1
        per_call_ms = max(median(warmup_ms), 0.001)
        samples = -(-effort.samples // effort.blocks)
        in_time = int(effort.seconds_per_subject * 1e3 / effort.blocks / per_call_ms)
        self.affordable = max(3, min(samples, in_time))
        self._throughput_seconds = effort.throughput_seconds

    def block(self, number: int, size: int) -> None:
        """Run one block. A block has the same calls for every subject, so that its medians can be compared."""
        stride = max(1, self._calls // 97)
        with self._warm() as running:
            latencies = _latencies(running, [(number * size + k) * stride % self._calls for k in range(size)])
        self.samples.extend(latencies)
        self.block_medians.append(median(latencies))

    def end(self) -> tuple[float, int]:
        """Calls a second, back to back, with the package's threads; and its peak memory in bytes."""
        calls = list(range(min(self._calls, 64)))
        with self._warm() as running:
            answer = running.ask(op="throughput", calls=calls, seconds=self._throughput_seconds)
            most = int(running.ask(op="memory")["peak_rss_bytes"])
        return round(float(answer["rows"]) / float(answer["seconds"]), 2), most

    @contextmanager
    def _warm(self) -> Iterator[Child]:
        with self._opener() as running:
            if self._again:
                _latencies(running, [number % self._calls for number in range(self._again)])
            yield running


def _latencies(running: Child, calls: list[int]) -> list[float]:
    """Milliseconds of these calls, one after the other."""
    answer = running.ask(op="latency", calls=calls, repeat=1)
    return [round(nanoseconds / 1e6, 4) for nanoseconds in answer["samples_ns"]]


def _share(cpus: Sequence[int], first: int, threads: int) -> frozenset[int]:
    """One core for each thread, counted from `first` and round the ring."""
    return frozenset(cpus[(first + k) % len(cpus)] for k in range(min(threads, len(cpus))))


@contextmanager
def _pinned(cpus: frozenset[int]) -> Iterator[None]:
    """Processes that this thread starts in the block run on these cores from their first instruction.

    A child inherits its parent thread's cores. Setting them in the child between fork and exec would forbid vfork, and forking a
    process that has loaded an exporter costs milliseconds, which would count as the package's cold start.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
