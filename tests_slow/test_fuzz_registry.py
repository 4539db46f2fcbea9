"""Damaged registries under every verb that reads: what is answered is true, or an error in words (exit 2, 4 or 5), never a bug.

By default 60 registries; with MLPACK_SOAK=1 5,000. Each is asked by every verb in tests_slow/fuzzing/registries.py.
"""

from __future__ import annotations

import pytest
from tests_slow.test_fuzz_requests import SOAK, fuzz


def test_a_damaged_registry_is_never_a_bug_and_never_a_wrong_answer(capsys: pytest.CaptureFixture[str]) -> None:
    fuzz("registries", 5_000 if SOAK else 60, capsys)
