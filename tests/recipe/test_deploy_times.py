"""Times of a deployment as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.recipe.deploy.times import DAYS, Schedule, Window, parse_schedule, parse_span_s, parse_window


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("10min", 600), ("2h", 7200), ("500ms", 0.5), ("1.5s", 1.5), ("7d", 604_800), (" 3 s ", 3)],
)
def test_spans_have_units(text: str, seconds: float) -> None:
    assert parse_span_s(text) == seconds


@pytest.mark.parametrize("text", ["10", 10, "", "0s", "-1s", "1 week", "1e3s", None, True, "1hh", "9" * 12 + "s"])
def test_what_is_no_span_is_told(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_span_s(text)


def test_a_window_is_days_hours_and_a_zone() -> None:
    window = parse_window("mon-fri 07-19 Europe/Berlin")
    assert window == Window(days=DAYS[:5], begin=7, end=19, timezone="Europe/Berlin")
    assert window.share == pytest.approx(60 / 168)
    days = "MON,TUE,WED,THU,FRI"
    assert window.crons(2) == ((f"cron(0 7 ? * {days} *)", 2), (f"cron(0 19 ? * {days} *)", 0))


def test_a_window_to_midnight_ends_on_the_next_day() -> None:
    assert parse_window("sat 20-24").crons(1) == (("cron(0 20 ? * SAT *)", 1), ("cron(0 0 ? * SUN *)", 0))


def test_a_window_may_go_over_a_week_end() -> None:
    assert parse_window("sat-mon 8-9").days == ("mon", "sat", "sun")
    assert parse_window("8-9").days == DAYS


@pytest.mark.parametrize(
    "text", ["mon-fri", "foo 1-2", "mon 5-5", "mon 7-25", "mon 19-07", "mon 7-9 Nowhere/Here", 7, "", "07:30-09"]
)
def test_what_is_no_window_is_told(text: object) -> None:
    with pytest.raises(ValueError):
        parse_window(text)


@pytest.mark.parametrize(
    ("text", "expression", "timezone"),
    [
        ("hourly", "cron(0 * * * ? *)", "UTC"),
        ("daily", "cron(0 2 * * ? *)", "UTC"),
        ("daily 03:30 Europe/Berlin", "cron(30 3 * * ? *)", "Europe/Berlin"),
        ("weekly", "cron(0 2 ? * MON *)", "UTC"),
        ("weekly fri 23:05", "cron(5 23 ? * FRI *)", "UTC"),
        ("monthly", "cron(0 2 1 * ? *)", "UTC"),
        ("rate(12 hours)", "rate(12 hours)", "UTC"),
        ("cron(0/120 8,20-23/2 L * ? 2026-2030)", "cron(0/120 8,20-23/2 L * ? 2026-2030)", "UTC"),
        ("cron(0 12 ? * MON-FRI *) Europe/Berlin", "cron(0 12 ? * MON-FRI *)", "Europe/Berlin"),
    ],
)
def test_schedules_are_written_as_aws_reads_them(text: str, expression: str, timezone: str) -> None:
    assert parse_schedule(text) == Schedule(expression=expression, timezone=timezone)


@pytest.mark.parametrize(
    "text",
    [
        "never",
        "daily 25:00",
        "daily mon 02:00",
        "weekly xyz",
        "cron(1 2 3)",
        "rate(0 days)",
        "rate(x)",
        5,
        None,
        "daily 1:99",
        "rate(1 minutes)",
        "rate(2 hour)",
        "cron(99 2 * * ? *)",
        "cron(0 24 * * ? *)",
        "cron(0 2 * * * *)",
        "cron(0 2 ? * ? *)",
        "cron(0 2 32 * ? *)",
    ],
)
def test_what_is_no_schedule_is_told(text: object) -> None:
    with pytest.raises(ValueError):
        parse_schedule(text)


@given(st.text(max_size=40) | st.integers() | st.none())
def test_any_text_is_read_or_refused(text: object) -> None:
    for parse in (parse_span_s, parse_window, parse_schedule):
        with suppress(ValueError):
            parse(text)
