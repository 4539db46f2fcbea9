"""What a message says about itself, and which names a result may have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.protocol import RequestError
from mlpack_runtime.queueing.letters import Letter, check, is_done, is_name

MODEL: Any = SimpleNamespace(name="m", version="3")


@given(st.text(max_size=300))
def test_a_name_is_safe_in_a_key(name: str) -> None:
    if is_name(name):
        assert 0 < len(name) <= 200
        assert name.isascii()
        assert not set(name) & set("/\\ %?#\n")
        assert name not in (".", "..")


def test_what_a_message_says_of_itself() -> None:
    letter = Letter({}, "id-1")
    assert (letter.request_id, letter.headers) == ("id-1", {})
    letter = Letter({"request_id": "r", "trace_id": "t", "traceparent": "p"}, "id-1")
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
    try:
        check(Letter(attributes, "id-1"), MODEL)
        refused, said = None, ""
    except RequestError as error:
        refused, said = error.status, str(error)
    assert refused == status
    assert len(said) < 400


@pytest.mark.parametrize(("status", "done"), [(None, False), (200, True), (504, True), (400, False), (422, False)])
def test_refused_message_that_comes_again_is_not_done(status: int | None, done: bool) -> None:
    assert is_done(status) is done
