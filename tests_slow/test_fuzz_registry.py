"""Damaged registries under every verb that reads, and some that write: what is answered is true, or an error in words, never a bug.

By default 40 registries; with MLPACK_SOAK=1 5,000.
"""

from __future__ import annotations

import pytest
from tests_slow.test_fuzz_requests import SOAK, fuzz


def test_damaged_registry_is_never_bug_and_never_a_wrong_answer(capsys: pytest.CaptureFixture[str]) -> None:
    fuzz("registries", 5_000 if SOAK else 40, capsys)
