"""How long a search may take: what the recipe says, or what the float's own build took, a few times over.

Promises: seconds are those of the first time, kept with what they were taken of, so that a build which finds everything in the
store ends where the first one ended. It ends nothing itself.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

from mlpack.core import digest, machine
from mlpack.core.records import Result
from mlpack.core.stats import median
from mlpack.core.text import words
from mlpack.core.trails import SearchBudget as Wanted
from mlpack.pipeline import transform
from mlpack.pipeline.evidence import Bench, Data
from mlpack.pipeline.measuring.measure import Effort, Subject, child
from mlpack.pipeline.packing.packages import Package, subject_of

TIMES = 3.0
"""A float build, the same for a candidate, and this many times as much for forms in between are five, with what one form takes
longer than the one before to spare."""
LEAST_S = 20.0
"""A build of a small model is over in seconds, most of which are no work on it."""
_FEW = 4
"""Calls that tell about how long one takes."""
_VERSION = 1


class Allowance:
    """The seconds of one build's searches, all together, and what of them is spent."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._floats: dict[str, float] = {}
        self._spent = 0.0
        self._longest = 0.0

    def widen(self, float_: Result, package: Package, bench: Bench, data: Data) -> None:
        """Take a target's float into account."""
        if not self._wanted.said and float_.candidate.id not in self._floats:
            self._floats[float_.candidate.id] = seconds_of(float_, package, bench, data)

    @property
    def seconds(self) -> float:
        """What all searches may take."""
        most = 60 * (self._wanted.minutes or 0.0)
        return most if self._wanted.said else min(most, max(LEAST_S, TIMES * sum(self._floats.values())))

    def spend(self, seconds: float, *, form: bool = True) -> None:
        """A form took so long the first time, or what had to be known before."""
        self._spent += seconds
        self._longest = max(self._longest, seconds if form else 0.0)

    def over(self) -> str:
        """Why no further form is begun, in words; '' where one is. Without `minutes` one is begun only where the longest so far
        would come to its end."""
        if self._wanted.said:
            return f"the search's {self._wanted.minutes:g} minutes were over" if self._spent >= self.seconds else ""
        if self._spent + self._longest <= self.seconds:
            return ""
        return f"the search's {words.seconds(self.seconds)}, {TIMES:g} times what the float's build takes, would be over"


def seconds_of(float_: Result, package: Package, bench: Bench, data: Data) -> float:
    """What the float's build takes: its steps as they took, and its measurement, by its start and a few calls."""
    action = {
        "kind": "pace",
        "version": _VERSION,
        "machine": dataclasses.asdict(machine.this_machine()),
        "package": str(package.content),
        "data": str(data.tree),
        "effort": dataclasses.asdict(bench.effort),
    }
    with bench.store.entry(action, repeatable=False) as entry:
        if not entry.hit:
            with bench.packages.unpacked({"float": package}) as folders:
                subject = subject_of(float_.candidate.id, package, folders["float"])
                found = measured_in(subject, data.dir, len(data.calls), bench.effort)
            (entry.dir / "seconds.json").write_bytes(digest.canonical_json({"seconds": round(found, 3)}))
    steps = sum(run.seconds for run in float_.model.steps) if float_.model else 0.0
    return steps + float(transform.read_json(entry.dir / "seconds.json")["seconds"])


def measured_in(subject: Subject, calls_dir: Path, n_calls: int, effort: Effort) -> float:
    """About how many seconds a measurement of this package alone takes, accuracy included, by one start and a few calls."""
    began = time.perf_counter()
    with child(subject, calls_dir, frozenset(sorted(os.sched_getaffinity(0))[-subject.threads :])) as running:
        running.ask(op="load")
        running.ask(op="first", call=0)
        start = time.perf_counter() - began
        calls = [number % n_calls for number in range(_FEW)]
        call = median([each / 1e9 for each in running.ask(op="latency", calls=calls, repeat=1)["samples_ns"]])
    timed = max(min(effort.samples * call, effort.seconds_per_subject), 3 * effort.blocks * call)
    steady = max(effort.warmup_seconds, 10 * call) + timed + max(effort.throughput_seconds, call)
    return (effort.cold_starts + 2) * start + steady + n_calls * call
