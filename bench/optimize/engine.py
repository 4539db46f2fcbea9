"""Every tool's model through one engine: answers, latencies in turns, and answers under a processor without VNNI.

Promises: a child a model, all on the same core, one thread each; blocks take turns, and the same block has the same calls for all;
a model that dies or does not load is that tool's result, never the bench's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROCESSOR = "Haswell"
"""AVX2 and nothing newer, as qemu names it: what Lambda promises on x86-64."""
ANSWER_S = 900.0
SAMPLES = 16
SLOW, SLOW_ROUNDS = 3.0, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A model file and how it is opened: a package says so itself; everyone else's as the engine does by default."""

    path: Path
    level: int = 99
    entries: Mapping[str, str] = field(default_factory=dict)


class AskError(Exception):
    """What the engine said of a model, or how its process ended."""


class Child:
    """A process that asks models, one after the other."""

    def __init__(self, calls: Path, before: tuple[str, ...] = (), cpu: int | None = None) -> None:
        self.words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.left = b""
        self.process = subprocess.Popen(
            [*before, sys.executable, str(HERE / "ask.py"), str(calls)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.words,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        if cpu is not None:
            os.sched_setaffinity(self.process.pid, {cpu})

    def load(self, opened: Opened) -> None:
        """Open a model, instead of the one before it. AskError."""
        self.ask(op="load", model=str(opened.path), level=opened.level, entries=dict(opened.entries))

    def ask(self, **request: Any) -> dict[str, Any]:
        """One operation. AskError."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            answer = json.loads(self._line())
        except (BrokenPipeError, ValueError) as error:
            self.process.kill()
            self.words.seek(0)
            said = self.words.read().decode(errors="replace").strip().splitlines()
            raise AskError(f"its process ended with {self.process.wait()}: {said[-1] if said else 'no word'}") from error
        if "error" in answer:
            raise AskError(" ".join(answer["error"].split())[:300])
        return dict(answer)

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.left:
                chunk = os.read(self.process.stdout.fileno(), 1 << 16) if selector.select(ANSWER_S) else b""
                if not chunk:
                    return b""
                self.left += chunk
        line, _, self.left = self.left.partition(b"\n")
        return line

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.words):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@contextlib.contextmanager
def child(opened: Opened, calls: Path, cpu: int | None = None) -> Iterator[Child]:
    """A child with an open model, that ends with the block. AskError."""
    made = Child(calls, cpu=cpu)
    try:
        made.load(opened)
        yield made
    finally:
        made.close()


def answers(opened: Opened, calls: Path, kept: Path) -> Path:
    """Outputs of every call: where they lie, as a prefix of .json and .bin. Kept by content. AskError."""
    prefix = kept / "answers" / _key(opened, calls)
    if not prefix.with_suffix(".json").is_file():
        with child(opened, calls) as running:
            _ask(running, prefix, most=1 << 30, seconds=ANSWER_S)
    return prefix


def _ask(running: Child, prefix: Path, **asked: float) -> None:
    """Have answers written at `prefix`: both files or none."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    partial = prefix.with_name(f".{prefix.name}-{os.getpid()}")
    running.ask(op="answers", out=str(partial), **asked)
    for suffix in (".bin", ".json"):
        partial.with_name(partial.name + suffix).replace(prefix.with_name(prefix.name + suffix))


def _key(opened: Opened, calls: Path, *more: Any) -> str:
    """What decides answers: the model's files, how it is opened, the calls."""
    files = sorted((path.name, _sha256(path)) for path in opened.path.parent.glob("*.onnx*"))
    parts = [files, opened.level, dict(opened.entries), opened.path.name, _sha256(calls), *more]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


class Emulated:
    """An emulated processor that has AVX2 and nothing newer; its process starts when needed, and anew after a model ended it."""

    def __init__(self, calls: Path, kept: Path, seconds: float) -> None:
        self.calls, self.kept, self.seconds = calls, kept / "without-vnni", seconds
        self.emulator = shutil.which("qemu-x86_64-static")
        self.running: Child | None = None

    def answers(self, opened: Opened) -> tuple[Path, int] | None:
        """Outputs of the first sixteen calls, as many as the seconds allow: where they lie and how many. None where there is no
        emulator. Kept by content. AskError."""
        if self.emulator is None:
            return None
        prefix = self.kept / _key(opened, self.calls, self.seconds, PROCESSOR)
        if not prefix.with_suffix(".json").is_file():
            if self.running is None:
                self.running = Child(self.calls, (self.emulator, "-cpu", PROCESSOR))
            try:
                self.running.load(opened)
                _ask(self.running, prefix, most=SAMPLES, seconds=self.seconds)
            except AskError:
                self.close()
                raise
        return prefix, len(json.loads(prefix.with_suffix(".json").read_bytes()))

    def close(self) -> None:
        """End its process."""
        if self.running is not None:
            self.running.close()
            self.running = None


def in_turns(opened: Mapping[str, Opened], calls: Path, n_calls: int, rounds: int, block_ms: float) -> dict[str, list[float]]:
    """Of each model, the median milliseconds of every block. All sit on one core; in a round each has one block of the same calls,
    after a call that is not counted. A model that fails on the way is left out; one that is several times slower than the first,
    which nobody would ship, has a few rounds only."""
    import statistics

    cpu = max(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        running: dict[str, Child] = {}
        for name, each in opened.items():
            with contextlib.suppress(AskError):
                running[name] = stack.enter_context(child(each, calls, cpu=cpu))
        once: dict[str, float] = {}
        for name, each in list(running.items()):
            try:
                once[name] = statistics.median(each.ask(op="latency", calls=[0] * 5)["ms"][1:])
            except AskError:
                del running[name]
        slow = {name for name, taken in once.items() if taken > SLOW * next(iter(once.values()))}
        slowest = max((taken for name, taken in once.items() if name not in slow), default=1.0)
        size = max(2, min(40, round(block_ms / max(slowest, 1e-3))))
        medians: dict[str, list[float]] = {name: [] for name in running}
        order = list(running)
        for number in range(rounds):
            wanted = [(number * size + k) % n_calls for k in range(size)]
            if number == SLOW_ROUNDS:
                order = [name for name in order if name not in slow]
            for name in order[number % len(order) :] + order[: number % len(order)]:
                try:
                    taken = running[name].ask(op="latency", calls=[wanted[0], *wanted])["ms"][1:]
                    medians[name].append(round(statistics.median(taken), 5))
                except AskError:
                    medians[name] = []
            order = [name for name in order if medians[name]]
        return medians


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
