"""What is the same for every entrance: how a run is counted, watched and told, and how one of its requests is named when it fails.

Watched are the process's own output (each log line is read as it is written), its memory, and time, by an alarm alone: a request
that takes longer than `PATIENCE_S` ends the run, naming it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tests_slow.fuzzing import oracle

PATIENCE_S = 60
GROWTH_BYTES = 48 << 20
"""How much larger a process may be at the end than after its first tenth, without what its allocator keeps for later."""
PEAK_BYTES = 192 << 20
PEAK_PER_BYTE = 100
"""The most that a process may ever need beyond its size after that tenth: so much, and so much for each byte of the request that
it has. (JSON in Python needs some fifty for each byte of a list of numbers.)"""
BLOCKS = 30_000
"""How many more blocks of Python's own memory may be in use at the end."""


@dataclass(frozen=True)
class Told:
    """What a run is told: where it may write, how many requests of which seed, or `only` one; `survey`: go on after a failure."""

    work: Path
    count: int
    seed: int
    only: int | None = None
    survey: bool = False


def settled_bytes() -> int:
    """What this process needs now: what is free has been given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return rss_bytes()


class Failed(Exception):  # noqa: N818
    """A request's answer was none of those that are promised. The message names it, and how to send it again by itself."""


def rss_bytes(pid: int | str = "self") -> int:
    """What a process has in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def status_bytes(pid: int | str, key: str) -> int:
    """VmHWM, the most that it ever had, or Threads."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    number = next(line.split()[1] for line in lines if line.startswith(key + ":"))
    return int(number) * (1024 if key.startswith("Vm") else 1)


class Output:
    """The process's own stdout and stderr, caught in a file: `lines` since the last call are read after each request."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed at the end of the `with` that this is)
        self._kept = [os.dup(number) for number in (1, 2)]
        self._at = 0

    def __enter__(self) -> Output:
        sys.stdout.flush()
        for number in (1, 2):
            os.dup2(self._file.fileno(), number)
        return self

    def __exit__(self, *_: object) -> None:
        for number, kept in zip((1, 2), self._kept, strict=True):
            os.dup2(kept, number)
            os.close(kept)
        self._file.close()

    def say(self, text: str) -> None:
        """On the real stderr."""
        os.write(self._kept[1], text.encode("utf-8", "backslashreplace") + b"\n")

    def lines(self) -> list[str]:
        """What was written since."""
        size = os.fstat(self._file.fileno()).st_size
        if size == self._at:
            return []
        data = os.pread(self._file.fileno(), size - self._at, self._at)
        self._at = size
        oracle.check(data.endswith(b"\n"), "half a line", data[-200:])
        if self._at > 16 << 20:
            os.ftruncate(self._file.fileno(), 0)
            os.lseek(self._file.fileno(), 0, os.SEEK_SET)
            self._at = 0
        return data.decode("utf-8", "replace")[:-1].split("\n")


class Run:
    """`count` requests, one after the other. `work(number)` sends one, raises Broken, and returns (its bytes, what is counted)."""

    def __init__(self, name: str, told: Told, output: Output | None = None) -> None:
        self.name = name
        self.told = told
        self.output = output
        self.counted: Counter[str] = Counter()
        self.took_s = 0.0
        self.kept_per_request = 0  # blocks: what a program that ends after one verb leaves behind
        self._doing = -1
        self._peak = 0

    def each(self, work: Callable[[int], tuple[int, str]], describe: Callable[[int], str]) -> None:
        """All of them, or the one that was asked for; prints what was seen. Raises Failed for the first that is broken."""
        told = self.told

        def late(_: int, __: FrameType | None) -> None:
            self.say(f"more than {PATIENCE_S} s: {self._named(self._doing, describe)}")
            os._exit(3)

        signal.signal(signal.SIGALRM, late)
        began_s, base, blocks, largest = time.monotonic(), 0, 0, 0
        warm = max(20, told.count // 10)
        for done, number in enumerate(range(told.count) if told.only is None else [told.only]):
            if done == warm:
                base, blocks = settled_bytes(), sys.getallocatedblocks()
            self._doing = number
            signal.alarm(PATIENCE_S)
            try:
                size, outcome = work(number)
                largest = max(largest, size)
                if base:
                    self._bounded(base, size)
            except Exception as error:
                signal.alarm(0)
                found = f"{type(error).__name__}: {error}"
                if not told.survey:
                    raise Failed(f"{found}\n{self._named(number, describe)}") from error
                outcome = "BROKEN " + found[:90]
                if self.counted[outcome] < 2:
                    self.say(f"{found}\n{self._named(number, describe)}\n")
                if self.output is not None:
                    self.output.lines()
            self.counted[outcome] += 1
        signal.alarm(0)
        grown, more = (settled_bytes() - base, sys.getallocatedblocks() - blocks) if base else (0, 0)
        peak = status_bytes("self", "VmHWM") >> 20
        memory = f"memory {base >> 20} MB after a tenth, {grown >> 20:+d} MB at the end ({more:+,} blocks), peak {peak} MB"
        self.tell(time.monotonic() - began_s, f"largest {largest:,} bytes; {memory}")
        if base:
            allowed = self.kept_per_request * told.count
            oracle.check(grown <= GROWTH_BYTES + 200 * allowed, f"it grew from {base:,} by {grown:,} bytes")
            oracle.check(more <= BLOCKS + allowed, f"{more:,} more blocks of memory are in use")

    def spread(self, threads: int, work: Callable[[int, int], tuple[int, str]], describe: Callable[[int], str]) -> None:
        """As `each`, by several threads at once: `work(thread, number)`. Memory is another process's: the caller watches it."""
        lock, stop, failed = threading.Lock(), threading.Event(), list[Failed]()
        told, began_s = self.told, time.monotonic()

        def share(thread: int) -> None:
            for number in range(thread, told.count, threads) if told.only is None else [told.only][thread:]:
                if stop.is_set():
                    return
                try:
                    _, outcome = work(thread, number)
                except Exception as error:  # noqa: BLE001  (told in the main thread)
                    outcome = "BROKEN " + f"{type(error).__name__}: {error}"[:90]
                    found = f"{type(error).__name__}: {error}\n{self._named(number, describe)}"
                    if not told.survey:
                        failed.append(Failed(found))
                        stop.set()
                    elif self.counted[outcome] < 2:
                        self.say(found + "\n")
                with lock:
                    self.counted[outcome] += 1

        workers = [threading.Thread(target=share, args=(number,)) for number in range(threads)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
        if failed:
            raise failed[0]
        self.took_s = time.monotonic() - began_s

    def _bounded(self, base: int, size: int) -> None:
        peak = status_bytes("self", "VmHWM")  # not ru_maxrss: that begins with what the parent had
        allowed = base + PEAK_BYTES + PEAK_PER_BYTE * size
        if peak > allowed and peak > self._peak:
            raise oracle.Broken(f"a peak of {peak:,} bytes; {base:,} after the first tenth, {size:,} bytes in the request")
        self._peak = peak

    def _named(self, number: int, describe: Callable[[int], str]) -> str:
        again = f"python -m tests_slow.fuzzing {self.name} --seed {self.told.seed} --count {self.told.count} --only {number}"
        return f"again: {again}\nrequest {number}: {describe(number)}"

    def say(self, text: str) -> None:
        """On stderr, past whatever catches this process's output."""
        if self.output is not None:
            self.output.say(text)
        else:
            os.write(2, text.encode("utf-8", "backslashreplace") + b"\n")

    def tell(self, took_s: float, more: str) -> None:
        """The counts, in one line."""
        seen = ", ".join(f"{number:,} {what}" for what, number in sorted(self.counted.items()))
        self.say(f"{self.name}: {sum(self.counted.values()):,} requests, seed {self.told.seed}: {seen}; {more}; {took_s:.0f} s")


def limited(gigabytes: int = 6) -> None:
    """Let this process have no more: a request that asks for all memory is to fail here, not end the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))


def shown(value: Any) -> str:
    """A request in words, in full unless it is long."""
    text = repr(value)
    return text if len(text) < 3000 else f"{text[:1500]} ... {len(text)} letters ... {text[-300:]}"
