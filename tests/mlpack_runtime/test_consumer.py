"""Pauses, names and reasons; whole messages are in test_worker.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.backend import BackendError
from mlpack_runtime.protocol import Call, RequestError
from mlpack_runtime.queueing.consumer import LONGEST_PAUSE_S, Batched, Letter, _check, _is_name, pause_s
from mlpack_runtime.queueing.sqs import Delivery
from mlpack_runtime.telemetry import Record

MODEL: Any = SimpleNamespace(name="m", version="3", tokenizer=None, inputs=())


def delivery(**attributes: str) -> Delivery:
    described = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    message = {"MessageId": "id-1", "ReceiptHandle": "h", "Body": "{}", "MessageAttributes": described}
    return Delivery(message, 0.0, 0.0)


@given(st.integers(1, 10_000))
def test_a_pause_doubles_within_bounds(receives: int) -> None:
    found = pause_s(receives)
    longest = min(LONGEST_PAUSE_S, 2.0 * 2 ** min(receives - 1, 20))
    assert longest / 2 - 0.5 <= found <= longest + 0.5


@given(st.text(max_size=300))
def test_a_name_is_safe_in_a_key(name: str) -> None:
    if _is_name(name):
        assert 0 < len(name) <= 200
        assert name.isascii()
        assert not set(name) & set("/\\ %?#\n")
        assert name not in (".", "..")


def test_what_a_message_says_of_itself() -> None:
    letter = Letter(delivery())
    assert (letter.request_id, letter.headers) == ("id-1", {})
    letter = Letter(delivery(request_id="r", trace_id="t", traceparent="p"))
    assert (letter.request_id, letter.headers) == ("r", {"x-trace-id": "t", "traceparent": "p"})


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ({"model": "n"}, 404),
        ({"version": "4"}, 503),
        ({"deadline_ms": "soon"}, 400),
        ({"deadline_ms": "nan"}, None),
        ({"deadline_ms": "1"}, 504),
        ({"deadline_ms": "99999999999999"}, None),
        ({"request_id": "../x"}, 400),
        ({"request_id": "\ud800"}, 400),
        ({"request_id": "x" * 100_000}, 400),
        ({"model": "x" * 100_000}, 404),
        ({"deadline_ms": "x" * 100_000}, 400),
        ({"deadline_ms": "-1e308"}, 504),
        ({"request_id": "a\udc80b"}, 400),
        ({"model": "m", "version": "3"}, None),
    ],
)
def test_attributes_that_rule_a_message_out(attributes: dict[str, str], status: int | None) -> None:
    found = delivery(**attributes)
    try:
        _check(Letter(found), found, MODEL)
        refused, said = None, ""
    except RequestError as error:
        refused, said = error.status, str(error)
    assert refused == status
    assert len(said) < 400


@pytest.mark.parametrize(("sort", "status"), [("input", 422), ("size", 413), ("device", 503), ("sticky", 503), ("package", 500)])
def test_a_failure_of_the_engine_is_the_callers_or_ours(sort: str, status: int) -> None:
    class Failed:
        def wait(self, _: object) -> None:
            raise BackendError("no", sort)

    batcher = SimpleNamespace(layout=None, submit=lambda _: Failed())
    with pytest.raises(RequestError) as caught:
        Batched(MODEL, cast("Any", batcher))(Call(), Record("t", "r", cold_start=False))
    assert caught.value.status == status
