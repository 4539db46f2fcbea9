"""Pauses, names and reasons; whole messages are in test_worker.py."""

from __future__ import annotations

import gzip
from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.backend import BackendError
from mlpack_runtime.limits import Limits
from mlpack_runtime.protocol import Call, RequestError
from mlpack_runtime.queueing import consumer as consumers
from mlpack_runtime.queueing.consumer import LONGEST_PAUSE_S, Consumer, pause_s
from mlpack_runtime.queueing.envelopes import Opened
from mlpack_runtime.queueing.letters import Letter
from mlpack_runtime.queueing.sqs import Delivery
from mlpack_runtime.service import Reply
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.telemetry import Record

MODEL: Any = SimpleNamespace(name="m", version="3", tokenizer=None, inputs=())


@given(st.integers(1, 10_000))
def test_a_pause_doubles_within_bounds(receives: int) -> None:
    found = pause_s(receives)
    longest = min(LONGEST_PAUSE_S, 2.0 * 2 ** min(receives - 1, 20))
    assert longest / 2 - 0.5 <= found <= longest + 0.5


@pytest.mark.parametrize("key", ["plain", "packed"])
def test_payloads_of_all_messages_together_are_bounded(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread would hold as much as one request may have."""
    monkeypatch.setattr(consumers, "PAYLOAD_S", 0.01)
    size = 1_000_000
    seen: list[tuple[int, int]] = []
    plain, small = {"ContentLength": size, "Body": bytes(size)}, gzip.compress(bytes(size))
    packed = {"ContentLength": len(small), "Body": small, "ContentEncoding": "gzip"}

    def message(_headers: object, body: bytes, *_: object) -> Reply:
        seen.append((len(body), consumer._room.used))
        return Reply(200, b"{}", {})

    def refuse(error: RequestError, *_: object) -> Reply:
        return Reply(error.status, str(error).encode(), {})

    limits = Limits({"MLPACK_LIMIT_BODY_BYTES": str(size)}, {})  # one alone is no more than that
    service: Any = SimpleNamespace(model=SimpleNamespace(name="m", version="3", limits=limits), message=message, refuse=refuse)
    none = cast("Any", None)
    consumer = Consumer(service, none, none, none, none)
    objects: dict[str, Any] = {"plain": plain, "packed": packed}
    consumer._s3 = SimpleNamespace(get_object=lambda Key, **_: {**objects[Key], "Body": BytesIO(objects[Key]["Body"])})  # noqa: N803
    told = {"payload": f"s3://b/{key}"}
    delivery = Delivery({"MessageId": "1", "ReceiptHandle": "r", "Body": "{}"}, 0.0, 0.0)

    def reply() -> Reply:
        return consumer._reply(delivery, Letter(told, "1"), Opened("{}", told))

    assert reply().status == 200
    assert consumer._room.used == 0
    assert [row[0] for row in seen] == [size]
    assert size - 100_000 < seen[0][1] <= size
    others = consumer._room.take(2 * size, 0)  # other threads'
    full = reply()
    assert (full.status, b"MLPACK_LIMIT_BODY_BYTES" in full.body, len(seen)) == (503, True, 1)
    assert consumer._room.used == others


@pytest.mark.parametrize(("sort", "status"), [("input", 422), ("size", 413), ("device", 503), ("sticky", 503), ("package", 500)])
def test_a_failure_of_the_engine_is_the_callers_or_ours(sort: str, status: int) -> None:
    class Failed:
        def wait(self, _: object) -> None:
            raise BackendError("no", sort)

    batcher = SimpleNamespace(layout=None, submit=lambda *_: Failed())
    with pytest.raises(RequestError) as caught:
        Batched(MODEL, cast("Any", batcher))(Call(), Record("t", "r", cold_start=False))
    assert caught.value.status == status
