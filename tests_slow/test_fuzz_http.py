"""Bytes that are nearly HTTP, to a real worker: at most one answer to each request, and a refusal ends the connection.

By default 2,000 connections; with MLPACK_SOAK=1 20,000.
"""

from __future__ import annotations

import pytest
from tests_slow.test_fuzz_requests import SOAK, fuzz


def test_what_is_no_request_gets_no_answer_but_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    fuzz("raw_http", 20_000 if SOAK else 2_000, capsys)
