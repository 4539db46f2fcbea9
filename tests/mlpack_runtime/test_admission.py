"""How many are let in."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from mlpack_runtime.limits import RequestError
from mlpack_runtime.serving.admission import Admission


def test_no_more_than_it_says_and_again_after_one_has_left() -> None:
    gate = Admission(2)
    with ExitStack() as stack:
        stack.enter_context(gate)
        with gate:
            with pytest.raises(RequestError, match="MLPACK_HTTP_CONCURRENCY") as caught, gate:
                raise AssertionError
            assert (caught.value.status, caught.value.kind) == (429, "TooManyRequests")
            assert caught.value.headers == {"retry-after": "1"}
            assert gate.count == 2
        with gate:
            assert gate.count == 2
    assert gate.count == 0


def test_any_number_where_nothing_is_said_and_failures_leave() -> None:
    gate = Admission()
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(gate)
        assert gate.count == 1000
    with pytest.raises(ValueError, match="x"), gate:
        raise ValueError("x")
    assert gate.count == 0
