"""What a worker is told, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.queueing.settings import Settings, SettingsError


def test_environment_comes_before_package_before_defaults() -> None:
    told = Settings({"MLPACK_MAX_WAIT_MS": "7.5", "MLPACK_PORT": ""}, {"max_batch": 32, "max_wait_ms": 3, "port": 9000})
    assert (told.max_batch, told.max_wait_s, told.port, told.prefetch) == (32, 0.0075, 9000, 74)
    plain = Settings({}, {})
    assert (plain.max_batch, plain.max_wait_s, plain.port, plain.prefetch, plain.queue_url) == (8, 0.005, 8080, 26, "")


@given(st.text(max_size=8))
def test_a_number_is_within_its_bounds_or_named(text: str) -> None:
    try:
        good = text == "" or 1 <= float(text) <= 4096
    except ValueError:
        good = False
    if good:
        assert 1 <= Settings({"MLPACK_MAX_BATCH": text}, {}).max_batch <= 4096
    else:
        with pytest.raises(SettingsError, match="MLPACK_MAX_BATCH"):
            Settings({"MLPACK_MAX_BATCH": text}, {})


def test_a_queue_needs_a_place_for_results() -> None:
    with pytest.raises(SettingsError, match="MLPACK_RESULTS is not"):
        Settings({"MLPACK_QUEUE_URL": "https://x"}, {})
