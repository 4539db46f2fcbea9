"""Pauses, names and reasons; whole messages are in test_worker.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.backend import BackendError
from mlpack_runtime.protocol import Call, RequestError
from mlpack_runtime.queueing.consumer import LONGEST_PAUSE_S, pause_s
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.telemetry import Record

MODEL: Any = SimpleNamespace(name="m", version="3", tokenizer=None, inputs=())


@given(st.integers(1, 10_000))
def test_a_pause_doubles_within_bounds(receives: int) -> None:
    found = pause_s(receives)
    longest = min(LONGEST_PAUSE_S, 2.0 * 2 ** min(receives - 1, 20))
    assert longest / 2 - 0.5 <= found <= longest + 0.5


@pytest.mark.parametrize(("sort", "status"), [("input", 422), ("size", 413), ("device", 503), ("sticky", 503), ("package", 500)])
def test_a_failure_of_the_engine_is_the_callers_or_ours(sort: str, status: int) -> None:
    class Failed:
        def wait(self, _: object) -> None:
            raise BackendError("no", sort)

    batcher = SimpleNamespace(layout=None, submit=lambda *_: Failed())
    with pytest.raises(RequestError) as caught:
        Batched(MODEL, cast("Any", batcher))(Call(), Record("t", "r", cold_start=False))
    assert caught.value.status == status
