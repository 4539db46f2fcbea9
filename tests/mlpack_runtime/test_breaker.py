"""The breaker as a state machine, against the rules in its docstring."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mlpack_runtime.serving.breaker import CLOSED, HALF_OPEN, OPEN, Breaker

FAILURES, COOLDOWN_S, LONGEST_S = 3, 10.0, 35.0


class Machine(RuleBasedStateMachine):
    """Tries that begin, succeed and fail in any order, while time goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.breaker = Breaker(FAILURES, COOLDOWN_S, LONGEST_S, clock=lambda: self.now_s)
        self.in_a_row = 0
        self.failed_probes = 0
        self.opened_s: float | None = None
        self.probes = 0

    @property
    def cooldown_s(self) -> float:
        return min(COOLDOWN_S * 2**self.failed_probes, LONGEST_S)

    @rule(seconds=st.integers(0, 40))
    def time_goes_by(self, seconds: int) -> None:
        self.now_s += seconds

    @rule()
    def ask(self) -> None:
        state, wait_s = self.breaker.state, self.breaker.wait_s
        admitted = self.breaker.admit()
        assert admitted == (state == CLOSED or (state == OPEN and wait_s == 0))
        if admitted and state == OPEN:
            assert self.opened_s is not None
            assert self.now_s >= self.opened_s + self.cooldown_s
            self.probes += 1

    @rule()
    def succeed(self) -> None:
        state = self.breaker.state
        self.breaker.succeeded()
        self.in_a_row = 0
        if state == HALF_OPEN:
            assert self.breaker.state == CLOSED
            self.probes, self.failed_probes, self.opened_s = 0, 0, None
        else:
            assert self.breaker.state == state

    @rule()
    def fail(self) -> None:
        state = self.breaker.state
        self.breaker.failed()
        self.in_a_row += 1
        if state == HALF_OPEN:
            self.failed_probes += 1
            self.probes = 0
        if state == HALF_OPEN or (state == CLOSED and self.in_a_row >= FAILURES):
            assert self.breaker.state == OPEN
            self.opened_s = self.now_s
        else:
            assert self.breaker.state == state

    @invariant()
    def one_probe_at_most(self) -> None:
        assert self.probes <= 1
        assert (self.breaker.state == HALF_OPEN) == (self.probes == 1)

    @invariant()
    def what_it_says_agrees(self) -> None:
        assert self.breaker.closed == (self.breaker.state == CLOSED)
        assert 0 <= self.breaker.wait_s <= LONGEST_S
        if self.breaker.state != OPEN:
            assert self.breaker.wait_s == 0


TestBreaker = Machine.TestCase


def test_it_opens_after_failures_and_closes_after_one_probe() -> None:
    now_s = [0.0]
    breaker = Breaker(2, 10.0, clock=lambda: now_s[0])
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.closed
    breaker.failed()
    assert (breaker.state, breaker.wait_s, breaker.admit()) == (OPEN, 10.0, False)
    now_s[0] = 10.0
    assert [breaker.admit(), breaker.admit()] == [True, False]
    breaker.failed()
    assert (breaker.state, breaker.wait_s) == (OPEN, 20.0)
    now_s[0] = 30.0
    assert breaker.admit()
    breaker.succeeded()
    assert breaker.closed
