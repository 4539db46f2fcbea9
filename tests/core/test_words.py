"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.core.text import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.0612, "0.0612"),
        (6.12, "6.12"),
        (61.24, "61.2"),
        (612.4, "612"),
        (6120, "6,120"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_number_has_three_digits(value: float | None, said: str) -> None:
    assert words.number(value) == said


@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (22_800_000, "22.8 MB"),
        (262_144_000, "262 MB"),
        (1.5e9, "1.50 GB"),
        (None, "–"),
    ],
)
def test_size_is_decimal(size_bytes: float | None, said: str) -> None:
    assert words.size(size_bytes) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.43, "$0.430"), (5.0, "$5.00"), (1234.5, "$1,234.50"), (0.0021, "$0.00210"), (-1.0, "-$1.00")]
)
def test_usd_keeps_its_cents(value: float, said: str) -> None:
    assert words.usd(value) == said


@pytest.mark.parametrize(("value", "said"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (61.25, "61 s"), (185, "3 min 05 s")])
def test_seconds_become_minutes(value: float, said: str) -> None:
    assert words.seconds(value) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [("50.0 ms", "50 ms"), ("0.0100", "0.01"), ("$5.00", "$5.00"), ("100 MB", "100 MB"), ("12.50 MB", "12.5 MB")],
)
def test_limit_drops_the_noughts_nobody_wrote(written: str, said: str) -> None:
    assert words.limit(written) == said


def test_apart_never_shows_two_numbers_alike() -> None:
    assert words.apart(100_000_001, 100_000_000, words.size) == ("100.000001 MB", "100 MB")
    assert words.apart(61.2, 50, words.ms) == ("61.2 ms", "50 ms")
    assert words.apart(999_950_000_000, 10**12, words.size) == ("999.95 GB", "1,000 GB")


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_apart_differs_exactly_when_the_numbers_do(first: int, second: int) -> None:
    ours, theirs = words.apart(first, second, words.size)
    assert (words.limit(ours) == theirs) == (first == second)
