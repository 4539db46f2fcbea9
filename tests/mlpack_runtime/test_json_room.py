from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from mlpack_runtime import model
from mlpack_runtime.json_room import JsonRoom
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import Service, open_service


@pytest.fixture
def service(texts: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(model, "ROOT", str(texts))
    return open_service()


def test_json_read_at_a_time_is_bounded_and_one_alone_has_room() -> None:
    room = JsonRoom()
    large = 1 << 20
    assert room.take(100, 10) == 0  # small: not counted
    assert room.take(large, 10) == large  # alone, whatever its size
    with pytest.raises(RequestError, match="MLPACK_LIMIT_JSON_BYTES") as caught:
        room.take(large, 2 * large - 1, 0.01)
    assert (caught.value.status, caught.value.kind, caught.value.headers) == (503, "Overloaded", {"retry-after": "1"})
    assert room.take(large, 2 * large, 0.01) == large
    waiting = threading.Thread(target=lambda: room.take(2 * large, 2 * large))
    waiting.start()
    room.give_back(large)
    room.give_back(large)
    waiting.join(30)
    assert room.used == 2 * large


@pytest.mark.parametrize(
    ("size", "stated", "took"), [(100_000, "", 100_000), (100_000, "200", 0), (100, "", 0), (100_000, "x", 100_000)]
)
@pytest.mark.parametrize("entrance", ["http", "message"])
def test_only_json_of_a_request_takes_room_while_it_is_answered(
    service: Service, monkeypatch: pytest.MonkeyPatch, entrance: str, size: int, stated: str, took: int
) -> None:
    """Over HTTP and out of a queue: what a worker has at hand is all in one memory."""
    service.room = JsonRoom()
    seen: list[int] = []
    split = service._split

    def split_(*given: Any) -> Any:
        assert service.room is not None
        seen.append(service.room.used)
        return split(*given)

    monkeypatch.setattr(service, "_split", split_)
    headers = {"inference-header-content-length": stated} if stated else {}
    if entrance == "http":
        service.http("POST", "/", headers, b" " * size)
    else:
        service.message(headers, b" " * size, "r-1", {})
    assert seen == [took]
    assert service.room.used == 0


def test_what_finds_no_room_is_busy(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.room = JsonRoom()
    monkeypatch.setattr(JsonRoom.take, "__defaults__", (0.01,))
    service.room.take(service.model.limits.json_bytes, service.model.limits.json_bytes)
    reply = service.message({}, b" " * 100_000, "r-1", {})
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
