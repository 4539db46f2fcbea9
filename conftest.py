"""What holds for `tests/` and `tests_slow/` alike.

An assertion in a shared helper explains its failure as one in a test does, and a test's id shows the beginning of long values.
"""

from __future__ import annotations

import gc

import pytest

pytest.register_assert_rewrite("tests.support", "tests_slow.fuzzing", "tests_slow.onnx_suite")

_SHOWN = 32
"""How many characters of a value an id has: a column of CI's, and `-k`, have no room for a file."""


def pytest_sessionstart() -> None:
    """Collecting makes objects and lets go of few: looking for those costs a fifth of its time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Thousands of tests, torch and transformers stay until the end. Frozen, they are not walked through at each full collection,
    which was half the time of short tests."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object) -> str | None:
    """The beginning of a long string; pytest numbers those that begin alike."""
    if not isinstance(val, (str, bytes)):
        return None
    shown = ascii(val).removeprefix("b")[1:-1]
    return f"{shown[: _SHOWN - 2]}.." if len(shown) > _SHOWN else None
