"""What headers say of time, preference and identity; requests and answers in their other forms."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime import protocol
from mlpack_runtime.door.forms import (
    RefusedError,
    as_answered,
    as_json,
    is_gateways,
    is_id,
    passed_on,
    patience,
    preferences,
    traced,
)
from mlpack_runtime.door.settings import Settings
from mlpack_runtime.ort import Port
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import Reply

SETTINGS = Settings({"MLPACK_QUEUE_URL": "https://q", "MLPACK_RESULTS": "s3://b", "MLPACK_DEADLINE_MS": "20000"})
FAR = 10_000.0
PORTS = (Port("x", "FP32", ("n",)),)


@pytest.mark.parametrize(
    ("headers", "limit_s", "as_ticket", "expected"),
    [
        ({}, FAR, False, (120.0, 120.0, 180.0)),
        ({}, 110.0, False, (110.0, 110.0, 170.0)),  # never beyond the function's own time
        ({}, FAR, True, (120.0, 100.0, None)),
        ({"x-deadline-ms": "1500"}, FAR, False, (101.5, 101.5, 101.5)),
        ({"x-deadline-ms": "60000"}, 110.0, False, (110.0, 110.0, 160.0)),
        ({"x-deadline-ms": "60000"}, 110.0, True, (110.0, 100.0, 160.0)),
        ({"x-deadline-ms": "-5"}, FAR, False, (99.995, 99.995, 99.995)),
        ({"prefer": "wait=3"}, FAR, False, (120.0, 103.0, 163.0)),
        ({"prefer": "respond-async, wait=3"}, FAR, True, (120.0, 103.0, None)),
        ({"prefer": "wait=300"}, FAR, True, (120.0, 120.0, None)),
        ({"prefer": "wait=soon"}, FAR, True, (120.0, 100.0, None)),
    ],
)
def test_patience(headers: dict[str, str], limit_s: float, as_ticket: bool, expected: tuple[float, ...]) -> None:
    made = patience(headers, SETTINGS, 100.0, limit_s, as_ticket=as_ticket)
    assert (made.ends_s, made.until_s, made.deadline_s) == expected


@pytest.mark.parametrize("text", ["soon", "1.5", "--1", "٣", "1" * 15, "-", "1e3", "0x1"])
def test_a_deadline_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="not a number of milliseconds"):
        patience({"x-deadline-ms": text}, SETTINGS, 100.0, FAR, as_ticket=False)


def test_preferences_are_read_as_rfc_7240_says() -> None:
    text = 'Respond-Async ; x=y, wait = "10", wait=20, handling=lenient, ,=, foo'
    found = preferences({"prefer": text})
    assert (found["respond-async"], found["wait"], found["handling"]) == ("", "10", "lenient")
    assert preferences({}) == {"": ""}


@given(st.text(max_size=300), st.text(max_size=20))
def test_no_header_is_too_strange(prefer: str, deadline: str) -> None:
    preferences({"prefer": prefer})
    try:
        made = patience({"prefer": prefer, "x-deadline-ms": deadline}, SETTINGS, 100.0, 130.0, as_ticket=False)
    except RequestError:
        return
    assert made.until_s <= made.ends_s <= 130.0


@pytest.mark.parametrize("text", ["a", "A-1_b.c:d", "0" * 128, "8e03978e-40d5-43e8-bc93-6894a57f9324"])
def test_ids(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize("text", ["", ".", "..", "-a", "a/b", "a b", "é", "a\n", "0" * 129, "a%2f", "²"])
def test_ids_that_could_be_paths_or_worse_are_none(text: str) -> None:
    assert not is_id(text)


def binary_request(*values: float) -> tuple[dict[str, object], protocol.Call]:
    raw = struct.pack(f"<{len(values)}f", *values)
    row = {"name": "x", "shape": [len(values)], "datatype": "FP32", "parameters": {"binary_data_size": len(raw), "kept": 1}}
    value: dict[str, object] = {"id": "a", "inputs": [row], "parameters": {"binary_data_output": True}}
    return value, protocol.decode(value, memoryview(raw), PORTS, PORTS, has_texts=False)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_binary_tensors_are_the_same_in_json(values: list[float]) -> None:
    made = as_json(*binary_request(*values))
    sent = json.loads(json.dumps(made))
    again = protocol.decode(sent, memoryview(b""), PORTS, PORTS, has_texts=False)
    assert bytes(again.inputs["x"].data) == struct.pack(f"<{len(values)}f", *values)
    assert sent["inputs"][0]["parameters"] == {"kept": 1}
    assert (again.id, again.wanted) == ("a", [("x", True)])


def test_binary_tensors_with_what_json_has_not_are_refused() -> None:
    with pytest.raises(RequestError, match="'x' holds 2 values that are not finite"):
        as_json(*binary_request(1.0, float("nan"), float("inf")))


def test_binary_texts_are_texts_in_json() -> None:
    raw = b"".join(struct.pack("<I", len(text)) + text for text in (b"the", "kät".encode()))
    row = {"name": "text", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    value = {"inputs": [row]}
    call = protocol.decode(value, memoryview(raw), PORTS, PORTS, has_texts=True)
    assert as_json(value, call) == {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["the", "kät"]}]}


def test_binary_pairs_of_texts_are_two_lists_in_json() -> None:
    raw = b"".join(struct.pack("<I", len(text)) + text for text in (b"the", b"a", b"cat", b"dog"))
    rows = [{"name": "text", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 12}}]
    rows.append({"name": "text_pair", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw) - 12}})
    call = protocol.decode({"inputs": rows}, memoryview(raw), PORTS, PORTS, has_texts=True)
    assert call.texts == [("the", "cat"), ("a", "dog")]
    assert [row["data"] for row in as_json({"inputs": rows}, call)["inputs"]] == [["the", "a"], ["cat", "dog"]]


@pytest.mark.parametrize(("status", "told"), [(502, 503), (504, 503), (200, 502), (404, 502)])
def test_pages_of_something_in_between_are_no_answers(status: int, told: int) -> None:
    with pytest.raises(RefusedError) as caught:
        as_answered(Reply(status, b"<html>", {"content-type": "text/html"}))
    assert (caught.value.status, caught.value.kind, caught.value.headers) == (told, "Unavailable", {"retry-after": "1"})


def test_answers_carry_their_trace_id_where_they_can() -> None:
    assert json.loads(traced(Reply(200, b'{"a":1}', {}), "t").body) == {"trace_id": "t", "a": 1}
    assert traced(Reply(200, b"[1]", {}), "t").body == b"[1]"
    assert traced(Reply(500, b'{"a":1}', {}), "t").body == b'{"a":1}'


def test_a_retry_is_never_at_once() -> None:
    assert RefusedError("", 503, "Unavailable", 0.0).headers == {"retry-after": "1"}
    assert RefusedError("", 503, "Unavailable", 2.1).headers == {"retry-after": "3"}
    assert RefusedError("", 504, "DeadlineExceeded").headers == {}


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (
            {"content-type": "application/json", "retry-after": "7", "set-cookie": "a"},
            {"content-type": "application/json", "retry-after": "7"},
        ),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        ({"inference-header-content-length": "10"}, {"inference-header-content-length": "10"}),
        *(({"retry-after": value}, {}) for value in ("²", "-1", "1.5", "9" * 5000, "", "soon", "1\r\nX: y", "٣", "7, 8")),
        *(({"inference-header-content-length": value}, {}) for value in ("11", "+1", "9" * 5000, "", "1, 1", "٣")),
        *(
            ({"content-type": value}, {})
            for value in ("a/b\r\nX: y", "a/b;\r\n c", "a/b\x00", "é" * 201, "a\x85", "日", "a" * 201, "")
        ),
    ],
)
def test_worker_headers_go_on_only_where_they_are_well_formed(told: dict[str, str], kept: dict[str, str]) -> None:
    assert passed_on(told, 10) == kept


def test_a_callers_url_says_nothing_of_the_worker() -> None:
    """What it names may fail as often as its host does, and no breaker opens for others."""
    failed = protocol.error_body("FetchFailed", "the URL's host answered 500, not 200", "1")
    assert not is_gateways(Reply(502, failed, {}))
    assert [is_gateways(Reply(status, b"{}", {})) for status in (200, 500, 502, 503, 504)] == [False, False, True, True, True]
