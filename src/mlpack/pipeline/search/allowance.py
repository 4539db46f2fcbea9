"""The time for a search: the recipe's minutes, or a multiple of the time that the float's build takes.

Promises:
- Every form counts with the seconds of its first evaluation, which the store keeps. So a build from the store ends its searches
  where the first build ended them.

Will not: end a search. The caller does.
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
from mlpack.core.trails import SearchBudget
from mlpack.pipeline import transform
from mlpack.pipeline.evidence import Bench, Data
from mlpack.pipeline.measuring.measure import Effort, Subject, child
from mlpack.pipeline.packing.packages import Package, subject_of

TIMES = 3.0
"""With the builds of the float and of the candidate itself this makes five times the float's build, and leaves time to spare for
forms that take longer."""
LEAST_S = 20.0
"""The least time: a build of a small model takes seconds, most of them overhead."""
_FEW = 4
"""Calls from which the time of one is estimated."""
_VERSION = 1


class Allowance:
    """The seconds for all searches of one build, and the seconds spent."""

    def __init__(self, budget: SearchBudget) -> None:
        self._budget = budget
        self._floats: dict[str, float] = {}
        self._spent = 0.0
        self._longest = 0.0

    def widen(self, baseline: Result, package: Package, bench: Bench, data: Data) -> None:
        """Add the time of a target's float."""
        if not self._budget.said and baseline.candidate.id not in self._floats:
            self._floats[baseline.candidate.id] = seconds_of(baseline, package, bench, data)

    @property
    def seconds(self) -> float:
        """The seconds for all searches."""
        most = 60 * (self._budget.minutes or 0.0)
        return most if self._budget.said else min(most, max(LEAST_S, TIMES * sum(self._floats.values())))

    def spend(self, seconds: float, *, form: bool = True) -> None:
        """Count the seconds of a form's first evaluation, or with `form` false those of other work."""
        self._spent += seconds
        self._longest = max(self._longest, seconds if form else 0.0)

    def over(self) -> str:
        """Why no further form is started, in words; '' where there is time. Without `minutes` there has to be time for a form as
        long as the longest so far."""
        if self._budget.said:
            return f"the search's {self._budget.minutes:g} minutes were over" if self._spent >= self.seconds else ""
        if self._spent + self._longest <= self.seconds:
            return ""
        return f"the search's {words.seconds(self.seconds)}, {TIMES:g} times what the float's build takes, would be over"


def seconds_of(baseline: Result, package: Package, bench: Bench, data: Data) -> float:
    """Seconds of the float's build: the recorded time of its steps, and an estimate for its measurement."""
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
            with bench.packages.trees.of({"float": package}) as folders:
                subject = subject_of(baseline.candidate.id, package, folders["float"])
                measuring = measuring_seconds(subject, data.dir, len(data.calls), bench.effort)
            (entry.dir / "seconds.json").write_bytes(digest.canonical_json({"seconds": round(measuring, 3)}))
    steps = sum(run.seconds for run in baseline.model.steps) if baseline.model else 0.0
    return steps + float(transform.read_json(entry.dir / "seconds.json")["seconds"])


def measuring_seconds(subject: Subject, calls_dir: Path, n_calls: int, effort: Effort) -> float:
    """Estimated seconds for measuring this package alone, accuracy included, from one start and a few calls."""
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
