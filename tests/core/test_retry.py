"""Tests of `mlpack.core.retry`: how often, after which pauses, and of what something is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from mlpack.core import retry


class Flaky:
    """Work that fails with these errors, one an attempt, and then gives 7."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return 7


def again(error: Exception, made: int) -> float | None:
    """Of timeouts, after as many seconds as there were attempts."""
    return float(made) if isinstance(error, TimeoutError) else None


@pytest.mark.parametrize("failures", range(4))
def test_work_is_called_until_it_raises_nothing(failures: int) -> None:
    work, slept = Flaky(*[TimeoutError()] * failures), list[float]()
    assert retry.call(work, 4, again, sleep=slept.append) == 7
    assert work.calls == failures + 1
    assert slept == [1.0, 2.0, 3.0][:failures]


def test_the_last_error_comes_out_without_a_pause_after_it() -> None:
    errors, slept = [TimeoutError(str(each)) for each in range(5)], list[float]()
    with pytest.raises(TimeoutError) as raised:
        retry.call(Flaky(*errors), 3, again, sleep=slept.append)
    assert raised.value is errors[2]
    assert slept == [1.0, 2.0]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_another_attempt_does_not_help_comes_out_at_once(error: BaseException) -> None:
    work = Flaky(TimeoutError(), error, TimeoutError())
    with pytest.raises(type(error)):
        retry.call(work, 9, again, sleep=lambda _: None)
    assert work.calls == 2


def test_one_attempt_is_one_attempt() -> None:
    work = Flaky(TimeoutError())
    with pytest.raises(TimeoutError):
        retry.call(work, 1, again, sleep=lambda _: pytest.fail("it waited"))
    assert work.calls == 1


@pytest.mark.parametrize(("left_at", "pauses"), [(1, []), (2, [1]), (4, [1, 2, 3]), (None, [1, 2, 3])])
def test_attempts_are_numbered_with_a_pause_between_two(left_at: int | None, pauses: list[int]) -> None:
    slept: list[float] = []
    numbers = []
    for number in retry.attempts(4, float, sleep=slept.append):
        numbers.append(number)
        if number == left_at:
            break
    assert numbers == [1, 2, 3, 4][: left_at or 4]
    assert slept == pauses


@pytest.mark.parametrize("run", [
    lambda: list(retry.attempts(3, lambda made: made / 8)),
    lambda: retry.call(Flaky(TimeoutError(), TimeoutError()), 3, lambda _, made: made / 8),
])  # fmt: skip
def test_the_system_waits_where_nobody_else_is_given(run: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    run()
    assert slept == [0.125, 0.25]


def test_pauses_double_up_to_the_longest() -> None:
    longest = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    drawn = [[retry.spread(0.1, 1.0)(made) for _ in range(300)] for made in range(1, 7)]
    for most, pauses in zip(longest, drawn, strict=True):
        assert 0 <= min(pauses) < most / 4
        assert most * 3 / 4 < max(pauses) <= most
    assert all(0.5 <= retry.spread(1.0, 9.0, least=0.5)(1) <= 1.0 for _ in range(300))


def test_pauses_after_any_number_of_attempts_are_numbers() -> None:
    assert 0 <= retry.spread(0.02, 0.5)(10**6) <= 0.5
    assert retry.spread(0.0, 0.0)(1000) == 0.0
