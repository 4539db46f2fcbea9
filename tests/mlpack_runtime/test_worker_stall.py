"""What a worker says of itself while its engine is at one batch for long, and what it does when that never ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlpack_runtime.queueing.settings import Settings, SettingsError
from mlpack_runtime.queueing.worker import LOST, Worker


@contextmanager
def worker(running_s: float, **settings: str) -> Iterator[Worker]:
    """One whose engine has been at a batch for so long."""
    made = Worker(Settings({"MLPACK_PORT": "0", **settings}, {}))
    made.server.start()
    made._batcher = SimpleNamespace(running_s=running_s, thread=SimpleNamespace(ident=None))  # type: ignore[assignment]
    made.server.service = SimpleNamespace()  # type: ignore[assignment]
    try:
        yield made
    finally:
        made.server.stop(1.0)


@pytest.mark.parametrize(
    ("running_s", "settings", "said"),
    [
        (0.0, {}, ""),
        (29.0, {}, ""),
        (31.0, {}, "a batch has been run for 31 s, longer than 30 s (MLPACK_STALL_S)"),
        (31.0, {"MLPACK_STALL_S": "60"}, ""),
        (1.0, {"MLPACK_STALL_S": "0.5"}, "a batch has been run for 1 s, longer than 0.5 s (MLPACK_STALL_S)"),
    ],
)
def test_readiness_tells_of_a_batch_that_outlasts_its_time(running_s: float, settings: dict[str, str], said: str) -> None:
    with worker(running_s, **settings) as made:
        assert made.server.ready() == said


def test_an_engine_that_does_not_come_back_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlpack_runtime.hosting.process._LOOK_S", 0.001)
    with worker(901.0) as made:
        made._watch(cast("Any", made._batcher))
        assert made.stop.code == LOST
        assert "has not come back for 901 s (MLPACK_HANG_S)" in made.stop.reason


def test_the_times_are_settings() -> None:
    found = Settings({"MLPACK_STALL_S": "5", "MLPACK_HANG_S": "0"}, {})
    assert (found.stall_s, found.hang_s) == (5, 0)
    with pytest.raises(SettingsError, match="MLPACK_STALL_S"):
        Settings({"MLPACK_STALL_S": "0"}, {})
