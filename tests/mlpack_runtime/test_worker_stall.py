"""What a worker says of itself while its engine is at one batch for long, and what it does when that never ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mlpack_runtime.settings import Settings, SettingsError
from mlpack_runtime.worker import LOST, Worker


def worker(running_s: float, **settings: str) -> Worker:
    made = Worker(Settings({"MLPACK_PORT": "0", **settings}, {}))
    made._batcher = SimpleNamespace(running_s=running_s, thread=SimpleNamespace(ident=None))  # type: ignore[assignment]
    made.server.service = SimpleNamespace()  # type: ignore[assignment]
    return made


def ready(made: Worker) -> tuple[int, dict[str, str], bytes]:
    try:
        assert made.server.answer("GET", "/v2/health/live", {}, b"")[0] == 200
        return made.server.answer("GET", "/v2/health/ready", {}, b"")
    finally:
        made.server._http.server_close()


def test_readiness_tells_of_a_batch_that_outlasts_its_time() -> None:
    assert ready(worker(29.0))[0] == 200
    status, _, body = ready(worker(31.0))
    assert status == 503
    assert b"a batch has been run for 31 s, longer than 30 s (MLPACK_STALL_S)" in body
    assert ready(worker(31.0, MLPACK_STALL_S="60"))[0] == 200


def test_an_engine_that_does_not_come_back_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlpack_runtime.worker._LOOK_S", 0.001)
    made: Any = worker(901.0)
    made._watch(made._batcher)
    assert made.stop.code == LOST
    assert "has not come back for 901 s (MLPACK_HANG_S)" in made.stop.reason
    made.server._http.server_close()


def test_the_times_are_settings() -> None:
    found = Settings({"MLPACK_STALL_S": "5", "MLPACK_HANG_S": "0"}, {})
    assert (found.stall_s, found.hang_s) == (5, 0)
    with pytest.raises(SettingsError, match="MLPACK_STALL_S"):
        Settings({"MLPACK_STALL_S": "0"}, {})
