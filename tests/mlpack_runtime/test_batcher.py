"""The thread around an engine: a real one for its numbers, and one made for the test where a device has to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpack_runtime import model
from mlpack_runtime.backend import BackendError, Shapes, open_backend
from mlpack_runtime.hosting.several import Batchers
from mlpack_runtime.limits import Limits
from mlpack_runtime.serving import batcher as batcher_module
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.batching import Layout
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.probe import probe
from mlpack_runtime.tensor import Tensor, tensor

ROWS = Layout(batched=True)


class Device:
    """y = x + 1, unless a row is negative ("input"), or `fails` says what goes wrong next."""

    kind = device = "test"
    inputs = outputs = ()

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.fails: list[BaseException] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def shapes(self) -> Shapes:
        return Shapes()

    def run(self, feeds: Any) -> dict[str, Tensor]:
        self.entered.set()
        assert self.gate.wait(30)
        if self.fails:
            raise self.fails.pop(0)
        values = feeds["x"].flat()
        if any(value < 0 for value in values):
            raise BackendError("a negative number", "input")
        self.sizes.append(len(values))
        return {"y": tensor([value + 1 for value in values], "INT64", feeds["x"].shape)}

    def close(self) -> None:
        """Nothing."""


def call(*values: int) -> dict[str, Tensor]:
    return {"x": tensor(list(values), "INT64", (len(values),))}


@contextmanager
def running(device: Any, layout: Layout = ROWS, **options: Any) -> Iterator[Batcher]:
    settings_ = {"max_batch": 8, "max_wait_s": 0.0, "breaker": Breaker(cooldown_s=0.05), **options}
    made = Batcher(device, layout, **settings_)
    made.start()
    try:
        yield made
    finally:
        if isinstance(device, Device):
            device.gate.set()
        made.stop()


def outcome(work: Callable[[], dict[str, Tensor]]) -> Any:
    try:
        return work()["y"].flat()
    except BackendError as error:
        return error.sort


@given(
    st.lists(st.lists(st.integers(-1, 50), min_size=1, max_size=12), min_size=1, max_size=30),
    st.integers(1, 8),
    st.booleans(),
)
@settings(deadline=None)
def test_each_call_is_answered_once_and_a_bad_one_fails_alone(calls: list[list[int]], most: int, batched: bool) -> None:
    device = Device()
    with running(device, Layout(batched=batched), max_batch=most, breaker=Breaker(failures=1)) as batcher:
        device.gate.clear()  # so that they gather
        jobs = [batcher.submit([call(*values)]) for values in calls]
        device.gate.set()
        for values, job in zip(calls, jobs, strict=True):
            expected = "input" if min(values) < 0 else [value + 1 for value in values]
            assert outcome(lambda job=job: job.wait(batcher.layout)) == expected
        assert batcher.breaker.closed
    assert all(size <= most for size in device.sizes) or not batched
    answered = sum(len(values) for values in calls if min(values) >= 0)
    assert sum(device.sizes) >= answered


def test_a_batch_waits_for_company_but_not_for_ever() -> None:
    device = Device()
    with running(device, max_batch=4, max_wait_s=60) as batcher:
        jobs = [batcher.submit([call(number)]) for number in range(4)]
        assert [job.wait(ROWS)["y"].flat() for job in jobs] == [[1], [2], [3], [4]]
        assert jobs[0].fill == 1.0
        late = batcher.submit([call(9)])
        batcher.hurry()
        assert late.wait(ROWS)["y"].flat() == [10]
        assert late.fill == 0.25
    assert device.sizes == [4, 1]


def test_a_call_that_is_alone_waits_for_nobody() -> None:
    device, at_work = Device(), [1]
    with running(device, max_batch=4, max_wait_s=60) as batcher:
        batcher.callers = lambda: at_work[0]
        assert batcher.submit([call(1)]).wait(ROWS)["y"].flat() == [2]
        at_work[0] = 3  # two more are on the way
        jobs = [batcher.submit([call(number)]) for number in (2, 3)]
        assert batcher.waiting == 2
        jobs.append(batcher.submit([call(4)]))
        assert [job.wait(ROWS)["y"].flat() for job in jobs] == [[3], [4], [5]]
    assert device.sizes == [1, 3]


def test_joining_a_batch_that_waits_wakes_nobody() -> None:
    with running(Device(), max_batch=16, max_wait_s=60) as batcher:
        looks, due_s = [], batcher._waiting.due_s

        def counted(wait_s: float) -> float:
            looks.append(batcher._waiting.rows)
            return due_s(wait_s)

        batcher._waiting.due_s = counted  # type: ignore[method-assign]
        jobs = [batcher.submit([call(number)]) for number in range(16)]
        for job in jobs:
            job.wait(ROWS)
    assert len(looks) <= 3  # for the first, when the batch is full, and once where a thread of its own came late


class Turned:
    """A clock that moves when it is turned."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_failures_open_the_breaker_and_our_own_probe_closes_it() -> None:
    device, clock = Device(), Turned()
    with running(device, sample=call(7), breaker=Breaker(failures=2, cooldown_s=0.02, clock=clock)) as batcher:
        device.fails = [BackendError("out of memory", "device"), ZeroDivisionError("a bug"), BackendError("still", "device")]
        assert [outcome(lambda: batcher.submit([call(1)]).wait(ROWS)) for _ in range(2)] == ["device", "device"]
        assert not batcher.breaker.closed
        assert outcome(lambda: batcher.submit([call(1)]).wait(ROWS)) == "device"  # at once: the device was not asked
        assert len(device.fails) == 1
        for _ in range(2000):
            if batcher.breaker.closed:
                break
            clock.now_s += 1
            threading.Event().wait(0.02)
        assert outcome(lambda: batcher.submit([call(1)]).wait(ROWS)) == [2]
        assert device.sizes == [1, 1]  # the second probe, and the call


class Profiled(Device):
    """The same with a profile of 2 to 4 rows: one is repeated to make two."""

    def shapes(self) -> Shapes:
        return Shapes(({"x": ((2,), (2,), (4,))},))


def test_call_without_rows_is_refused_where_rows_are_repeated() -> None:
    device = Profiled()
    with running(device, max_batch=4) as batcher:
        nothing = {"x": Tensor("INT64", (0,), b"")}
        for _ in range(5):
            assert outcome(lambda: batcher.submit([nothing]).wait(ROWS)) == "input"
        assert batcher.breaker.closed
        assert outcome(lambda: batcher.submit([call(1)]).wait(ROWS)) == [2]


def test_calls_that_cannot_be_joined_fail_alone() -> None:
    """One whose mask is shorter than its ids: together with others there is no batch of it."""
    layout = Layout(batched=True, pads={"x": 0, "mask": 0})

    def text(length: int, masked: int) -> dict[str, Tensor]:
        return {"x": tensor([1] * length, "INT64", (1, length)), "mask": tensor([1] * masked, "INT64", (1, masked))}

    device = Device()
    with running(device, layout, breaker=Breaker(failures=1)) as batcher:
        device.gate.clear()
        jobs = [batcher.submit([text(length, masked)]) for length, masked in ((3, 3), (4, 4), (4, 2), (3, 3))]
        device.gate.set()
        found = [outcome(lambda job=job: job.wait(layout)) for job in jobs]
        assert found[:2] == [[2] * 3, [2] * 4]
        assert found[3] == [2] * 3
        assert batcher.breaker.closed


def test_a_batch_is_never_the_probe() -> None:
    device = Device()
    with running(device, breaker=Breaker(failures=1, cooldown_s=0.0), sample=call(7)) as batcher:
        device.gate.clear()
        first = batcher.submit([call(-1)])
        assert device.entered.wait(30)
        jobs = [batcher.submit([call(1), call(-1)]), batcher.submit([call(-1)])]
        device.fails = [BackendError("a negative number", "input"), BackendError("no", "input"), BackendError("lost", "device")]
        device.gate.set()
        for job in (first, *jobs):
            outcome(lambda job=job: job.wait(ROWS))
        for _ in range(2000):
            if batcher.breaker.closed:
                break
            threading.Event().wait(0.02)
        assert outcome(lambda: batcher.submit([call(1)]).wait(ROWS)) == [2]


def test_lost_device_is_told_once_and_refuses_everything_after() -> None:
    device, told = Device(), []
    with running(device) as batcher:
        batcher.on_sticky = told.append
        device.gate.clear()
        device.fails = [BackendError("an illegal memory access", "sticky")]
        first = batcher.submit([call(1)])
        assert device.entered.wait(30)
        rest = [batcher.submit([call(number)]) for number in range(3)]
        device.gate.set()
        assert [outcome(lambda job=job: job.wait(ROWS)) for job in (first, *rest)] == ["sticky"] * 4
        assert outcome(lambda: batcher.submit([call(1)]).wait(ROWS)) == "sticky"
    assert [error.sort for error in told] == ["sticky"]
    assert device.sizes == []


def test_after_the_end_new_calls_are_refused_and_old_ones_run() -> None:
    device = Device()
    with running(device, max_wait_s=60) as batcher:
        job = batcher.submit([call(1)])
        batcher.stop()
        assert job.wait(ROWS)["y"].flat() == [2]
        assert outcome(lambda: batcher.submit([call(1)]).wait(ROWS)) == "device"


def test_texts_of_a_real_model_are_what_they_are_alone(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "ROOT", str(texts))
    loaded = model.load(open_backend)
    backend: Any = loaded.session
    found = probe(loaded, backend)
    assert (found.why, found.layout.batched, found.layout.lengths) == ("", True, {})
    assert found.layout.pads == {"input_ids": 0, "attention_mask": 0}
    given = ["cat", "the cat sat on", "dogs", "a mat"] * 5
    assert loaded.tokenizer is not None
    with running(backend, found.layout, max_batch=4) as batcher:
        jobs = [batcher.submit(loaded.tokenizer.rows([one], ("input_ids", "attention_mask"))) for one in given]
        outputs = [job.wait(found.layout)["embedding"].flat() for job in jobs]
        whole = batcher.submit(loaded.tokenizer.rows(given, ("input_ids", "attention_mask"))).wait(found.layout)
    for text, output, row in zip(given, outputs, whole["embedding"].tolist(), strict=True):
        alone = loaded.predict_texts([text])["embedding"].flat()
        assert output == pytest.approx(alone, rel=1e-6)
        assert row == pytest.approx(alone, rel=1e-6)
    backend.close()


def test_what_waits_is_bounded_and_a_large_call_is_taken_alone() -> None:
    device = Device()
    limits = Limits({"MLPACK_LIMIT_WAITING_BYTES": "4000"}, {})
    made = Batcher(device, ROWS, max_batch=8, max_wait_s=0.0, breaker=Breaker())  # type: ignore[arg-type]
    made.hold_to(limits)
    made.start()
    device.gate.clear()
    first = made.submit([call(0)])
    assert device.entered.wait(30)
    large = made.submit([call(*range(1000))])
    assert outcome(lambda: made.submit([call(1)]).wait(ROWS)) == "busy"
    device.gate.set()
    assert first.wait(ROWS)["y"].flat() == [1]
    assert large.wait(ROWS)["y"].flat() == [number + 1 for number in range(1000)]
    assert outcome(lambda: made.submit([call(1)]).wait(ROWS)) == [2]
    made.stop()


def test_call_of_more_pieces_than_memory_is_refused_uncut(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits({"MLPACK_LIMIT_WAITING_BYTES": str(100 * batcher_module.PIECE_BYTES)}, {})
    monkeypatch.setattr(batcher_module, "_LEAST_PIECES_BYTES", 0)
    made = Batcher(Device(), ROWS, max_batch=8, max_wait_s=0.0, breaker=Breaker())  # type: ignore[arg-type]
    made.hold_to(limits)
    made.start()
    for calls in ([call(*range(800))], [call(1)] * 100):
        made.submit(calls).wait(ROWS)
    monkeypatch.setattr(batcher_module, "parts", None)  # nothing is cut
    for calls in ([call(*range(801))], [call(1)] * 101, [call(*range(100_000))]):
        with pytest.raises(BackendError, match=r"at most 204800 are taken here \(MLPACK_LIMIT_WAITING_BYTES\)") as caught:
            made.submit(calls).wait(ROWS)
        assert caught.value.sort == "size"
    made.stop()
    whole = Batcher(Device(), Layout(batched=False), max_batch=8, max_wait_s=0.0, breaker=Breaker())  # type: ignore[arg-type]
    whole.hold_to(limits)
    assert whole._too_many([call(*range(100_000))]) is None  # one piece, however many rows


def test_one_callers_many_pieces_do_not_hold_up_anothers_one() -> None:
    device = Device()
    with running(device) as batcher:
        device.gate.clear()
        many = batcher.submit([call(number) for number in range(1000)])
        assert device.entered.wait(30)
        one = batcher.submit([{"x": tensor([5, 6], "INT64", (1, 2))}])  # of a kind that no batch of the others has
        device.gate.set()
        one.wait(ROWS)
        many.wait(ROWS)
    assert 2 in device.sizes[:4]
    assert sum(device.sizes) == 1002


def test_the_rest_of_a_call_that_failed_is_not_run() -> None:
    device = Device()
    with running(device, max_batch=1) as batcher:
        device.gate.clear()
        bad = batcher.submit([call(-1), *[call(number) for number in range(100)]])
        device.gate.set()
        assert outcome(lambda: bad.wait(ROWS)) == "input"
        assert outcome(lambda: batcher.submit([call(1)]).wait(ROWS)) == [2]
    assert device.sizes == [1]


def test_how_long_a_batch_has_been_run_is_known() -> None:
    device = Device()
    with running(device) as batcher:
        assert batcher.running_s == 0
        device.gate.clear()
        job = batcher.submit([call(1)])
        assert device.entered.wait(30)
        assert batcher.running_s > 0
        device.gate.set()
        job.wait(ROWS)
        batcher.submit([call(1)]).wait(ROWS)
    assert batcher.running_s == 0


def test_a_call_that_nobody_waits_for_is_not_run() -> None:
    device = Device()
    device.gate.clear()
    with running(device, max_batch=2, max_wait_s=0.0) as batcher:
        first = batcher.submit([call(1)])
        assert device.entered.wait(30)
        late = batcher.submit([call(2), call(3), call(4)], until_s=monotonic())
        timely = batcher.submit([call(5)], until_s=monotonic() + 60)
        device.gate.set()
        assert outcome(lambda: first.wait(ROWS)) == [2]
        assert outcome(lambda: timely.wait(ROWS)) == [6]
        with pytest.raises(BackendError, match="deadline") as caught:
            late.wait(ROWS)
        assert caught.value.sort == "late"
        assert batcher.breaker.closed
    assert sum(device.sizes) == 2


def test_the_device_is_tried_again_by_whoever_is_left() -> None:
    """Of several models, the one that failed is let go of: the others share its breaker, and were asleep when it opened."""
    breaker, failing, batchers = Breaker(1, cooldown_s=0.3), Device(), Batchers()
    failing.fails = [BackendError("gone", "device")] * 9
    with running(Device(), breaker=breaker) as other:
        one = Batcher(failing, ROWS, max_batch=8, max_wait_s=0.0, breaker=breaker)
        one.start()
        batchers.add("one", one)
        batchers.add("other", other)
        assert outcome(lambda: one.submit([call(1)]).wait(ROWS)) == "device"
        batchers.remove("one")
        until_s = monotonic() + 60
        while not breaker.closed and monotonic() < until_s:
            sleep(0.01)
        assert breaker.closed
        assert outcome(lambda: other.submit([call(1)]).wait(ROWS)) == [2]


def test_who_does_not_try_the_device_waits_for_who_does(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks = Turned(), list[bool]()
    breaker, device = Breaker(1, cooldown_s=0.02, clock=clock), Device()
    monkeypatch.setattr(batcher_module, "_LOOK_S", 60.0)
    admit = breaker.admit
    monkeypatch.setattr(breaker, "admit", lambda: (looks.append(admit()), looks[-1])[1])
    device.fails = [BackendError("gone", "device")]
    with running(device, breaker=breaker, sample=call(1)) as one, running(Device(), breaker=breaker) as other:
        assert outcome(lambda: one.submit([call(1)]).wait(ROWS)) == "device"
        device.gate.clear()
        device.entered.clear()
        clock.now_s += 1
        assert device.entered.wait(30)  # the probe is under way
        other.look()
        until_s = monotonic() + 60
        while False not in looks and monotonic() < until_s:
            sleep(0.01)
        sleep(0.2)
        assert looks == [True, False]  # it looked once, and waits
        device.gate.set()
        until_s = monotonic() + 60
        while not breaker.closed and monotonic() < until_s:
            sleep(0.01)
        assert outcome(lambda: other.submit([call(1)]).wait(ROWS)) == [2]
