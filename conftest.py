"""What holds for `tests/` and `tests_slow/` alike: an assertion in a shared helper explains its failure as one in a test does."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.support", "tests_slow.fuzzing", "tests_slow.onnx_suite")
