"""Measure: what children answer, how they die, and that none of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support import fake_bench

from mlpack.errors import MeasureError
from mlpack.pipeline.measuring import measure
from mlpack.pipeline.measuring.measure import ChildError, Effort, Subject

EFFORT = Effort(cold_starts=2, blocks=3, samples=12, seconds_per_subject=1.0, warmup_seconds=0.0, throughput_seconds=0.01)


def subject(root: Path, name: str = "a", memory_mb: int = 1769) -> Subject:
    return Subject(id=name, root=root, memory_mb=memory_mb, interpreter=Path(sys.executable))


def everywhere() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0))


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    return fake_bench.write_calls(tmp_path / "calls")


def test_a_child_that_logs_more_than_a_pipe_holds_still_answers(tmp_path: Path, calls: Path) -> None:
    root = fake_bench.write(tmp_path / "p", noise=1 << 20)
    with measure.child(subject(root), calls, everywhere()) as running:
        assert running.ask(op="load")["load_ms"] == 1.0
        assert running.ask(op="memory")["peak_rss_bytes"] == 12345678


def test_a_dead_child_is_named_with_its_last_words(tmp_path: Path, calls: Path) -> None:
    root = fake_bench.write(tmp_path / "p", die_at="first", noise=100_000)
    with measure.child(subject(root, "int8"), calls, everywhere()) as running:
        running.ask(op="load")
        with pytest.raises(ChildError, match=r"(?s)int8: .*exit status 9.*my last words") as caught:
            running.ask(op="first", call=0)
    assert caught.value.subject_id == "int8"
    assert len(str(caught.value)) < 3000


def test_a_child_runs_on_its_cores_and_leaves_its_parents_alone(tmp_path: Path, calls: Path) -> None:
    before = os.sched_getaffinity(0)
    one = frozenset({min(before)})
    with measure.child(subject(fake_bench.write(tmp_path / "p")), calls, one) as running:
        assert running.ask(op="load")["cpus"] == sorted(one)
    assert os.sched_getaffinity(0) == before


def test_an_interpreter_that_is_not_there_is_told(tmp_path: Path, calls: Path) -> None:
    missing = Subject(id="a", root=fake_bench.write(tmp_path / "p"), memory_mb=128, interpreter=tmp_path / "python")
    with pytest.raises(MeasureError, match="could not be started"), measure.child(missing, calls, everywhere()):
        pass
    assert os.sched_getaffinity(0) == everywhere()


def test_predict_tells_apart_who_failed(tmp_path: Path, calls: Path) -> None:
    good, bad = fake_bench.write(tmp_path / "good"), fake_bench.write(tmp_path / "bad", die_at="predict")
    made = measure.predict([subject(good, "good"), subject(bad, "bad")], calls, 4, tmp_path)
    assert isinstance(made["good"], Path)
    assert Path(f"{made['good']}.bin").stat().st_size == 4 * 12
    assert isinstance(made["bad"], ChildError)


def test_timings_are_raw_and_paired_with_the_baseline(tmp_path: Path, calls: Path) -> None:
    subjects = [subject(fake_bench.write(tmp_path / name), name) for name in ("base", "other")]
    made = measure.time_side_by_side(subjects, "base", calls, 4, EFFORT, lambda _text: None)
    assert made["base"].ratio_samples == (1.0,) * EFFORT.blocks
    assert len(made["other"].latency_ms) == EFFORT.samples
    assert made["other"].load_ms == (1.0,) * EFFORT.cold_starts
    assert made["other"].throughput_per_s == 20.0
    assert made["other"].warmups >= 10


@pytest.mark.parametrize("verb", ["predict", "time_side_by_side"])
@pytest.mark.parametrize(("sizes", "most"), [((9, 9, 9), 3), ((40, 10), 2), ((40, 10, 10), 1), ((40, 40), 1)])
def test_large_packages_are_not_in_memory_at_once(
    sizes: tuple[int, ...], most: int, verb: str, tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float and its int8 are, and small ones are; the numbers are as many as ever."""
    roots = [fake_bench.write(tmp_path / f"p{index}") for index in range(len(sizes))]
    for root, size in zip(roots, sizes, strict=True):
        (root / "model").mkdir()
        (root / "model/weights").write_bytes(bytes(size << 20))
    monkeypatch.setattr(measure, "_TOGETHER_BYTES", 30 << 20)
    alive, seen = 0, []
    started, closed = measure.Child.__init__, measure.Child.close

    def start(self: Any, *given: Any) -> None:
        nonlocal alive
        alive += 1
        seen.append(alive)
        started(self, *given)

    def close(self: Any) -> None:
        nonlocal alive
        closed(self)
        alive -= 1

    monkeypatch.setattr(measure.Child, "__init__", start)
    monkeypatch.setattr(measure.Child, "close", close)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    subjects = [subject(root, str(index)) for index, root in enumerate(roots)]
    if verb == "predict":
        assert len(measure.predict(subjects, calls, 4, tmp_path)) == len(sizes)
        assert max(seen) <= most
        return
    made = measure.time_side_by_side(subjects, "0", calls, 4, EFFORT, lambda _text: None)
    assert max(seen) == most
    for timings in made.values():
        assert len(timings.latency_ms) == EFFORT.samples
        assert len(timings.ratio_samples) == EFFORT.blocks
        assert timings.peak_memory_bytes > 0
        assert timings.throughput_per_s == 20.0


def test_a_package_that_dies_in_its_turn_is_named(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_TOGETHER_BYTES", 0)
    good, bad = fake_bench.write(tmp_path / "good"), fake_bench.write(tmp_path / "bad", die_at="throughput")
    with pytest.raises(ChildError) as caught:
        measure.time_side_by_side([subject(good, "good"), subject(bad, "bad")], "good", calls, 4, EFFORT, lambda _text: None)
    assert caught.value.subject_id == "bad"


@pytest.mark.parametrize("verb", ["predict", "time_side_by_side"])
def test_an_interrupt_ends_children_at_once(tmp_path: Path, calls: Path, verb: str) -> None:
    """However long they would still have worked: a Ctrl-C that waits for a minute is followed by a kill -9."""
    root = fake_bench.write(tmp_path / "p", sleep_at="predict" if verb == "predict" else "latency")
    arguments = "4, Path(sys.argv[3])" if verb == "predict" else "4, Effort(cold_starts=1), print"
    program = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
sys.path[:0] = {sys.path!r}
from pathlib import Path
from mlpack.pipeline.measuring import measure
from mlpack.pipeline.measuring.measure import Effort, Subject
one = Subject(id="a", root=Path(sys.argv[1]), memory_mb=1769, interpreter=Path(sys.executable))
print("started", flush=True)
measure.{verb}([one], {"" if verb == "predict" else "'a', "}Path(sys.argv[2]), {arguments})
"""
    running = subprocess.Popen(
        [sys.executable, "-c", program, root, calls, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not _servers(root) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    assert _servers(root)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=45)[1]  # well before the child would be done; a busy machine needs some of it
    assert "KeyboardInterrupt" in said
    assert _servers(root) == []


def _servers(root: Path) -> list[str]:
    """Processes that run the package in `root`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(root / "bootstrap.py").encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            pass  # ended meanwhile
    return found
