"""Times of a deployment as people write them: `2h`, `mon-fri 07-19 Europe/Berlin`, `daily 02:00 Europe/Berlin`. Pure.

Promises: what cannot be read is a ValueError that shows how to write it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlpack.core.text.quantities import quoted

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_SPAN = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s|m|min|h|d)\s*")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ZONE = r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}"
_WINDOW = re.compile(rf"\s*(?:([a-z]{{3}})(?:-([a-z]{{3}}))?\s+)?([0-9]{{1,2}})-([0-9]{{1,2}})(?:\s+({_ZONE}))?\s*")
_NAMED = re.compile(rf"\s*(hourly|daily|weekly|monthly)(?:\s+([a-z]{{3}}))?(?:\s+([0-9]{{1,2}}):([0-9]{{2}}))?(?:\s+({_ZONE}))?\s*")
_RAW = re.compile(rf"\s*((?:cron|rate)\([A-Za-z0-9 ,*?/#-]{{1,100}}\))(?:\s+({_ZONE}))?\s*")
_RATE = r"rate\((1 (minute|hour|day)|([2-9]|[1-9][0-9]+) (minutes|hours|days))\)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours of days of the week. Whole hours; `days` in the order of the week."""

    days: tuple[str, ...]
    begin: int
    end: int
    timezone: str

    @property
    def share(self) -> float:
        """Of the hours of a week."""
        return len(self.days) * (self.end - self.begin) / 168

    def crons(self, count: int) -> tuple[tuple[str, int], ...]:
        """EventBridge's expressions of its beginnings and ends, with how many there are from then on."""
        days = ",".join(day.upper() for day in self.days)
        following = ",".join(DAYS[(DAYS.index(day) + 1) % 7].upper() for day in self.days)
        end = f"cron(0 0 ? * {following} *)" if self.end == 24 else f"cron(0 {self.end} ? * {days} *)"
        return ((f"cron(0 {self.begin} ? * {days} *)", count), (end, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When something begins, as EventBridge Scheduler writes it."""

    expression: str
    timezone: str


def parse_span_s(value: object) -> float:
    """Seconds of "10m", "10min", "2h", "500ms" or "7d"."""
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"must be a time with its unit (ms, s, min, h or d), such as 10min or 2h, not {quoted(value)}")
    if (seconds := float(match[1]) * _UNITS_S[match[2]]) <= 0:
        raise ValueError(f"must be more than nothing, not {quoted(value)}")
    return seconds


def parse_window(value: object) -> Window:
    """A window of "mon-fri 07-19 Europe/Berlin"."""
    match = _WINDOW.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'must be days, whole hours and a time zone, such as "mon-fri 07-19 Europe/Berlin", not {quoted(value)}')
    first, last = match[1] or "mon", match[2] or match[1] or "sun"
    begin, end = int(match[3]), int(match[4])
    for day in (first, last):
        if day not in DAYS:
            raise ValueError(f"{quoted(day)} is no day: {', '.join(DAYS)}")
    if not begin < end <= 24:
        raise ValueError(f"the hours {match[3]}-{match[4]} do not lie in one day: they begin before they end, at 24 at the latest")
    at, to = DAYS.index(first), DAYS.index(last)
    days = DAYS[at : to + 1] if at <= to else (*DAYS[: to + 1], *DAYS[at:])
    return Window(days=days, begin=begin, end=end, timezone=_zone(match[5]))


def parse_schedule(value: object) -> Schedule:
    """A schedule of "daily 02:00 Europe/Berlin", "weekly mon 03:00", "hourly", or EventBridge's own `cron(...)` and `rate(...)`."""
    text = value if isinstance(value, str) else ""
    if raw := _RAW.fullmatch(text):
        expression = raw[1]
        if expression.startswith("cron") and len(expression[5:-1].split()) != 6:
            raise ValueError(f"{quoted(expression)}: cron has six fields: minutes hours day month weekday year")
        if expression.startswith("cron"):
            _cron(expression)
        if expression.startswith("rate") and not re.fullmatch(_RATE, expression):
            raise ValueError(f"{quoted(expression)}: rate is a number and its unit, such as rate(1 hour) or rate(12 hours)")
        return Schedule(expression=expression, timezone=_zone(raw[2]))
    match = _NAMED.fullmatch(text)
    if match is None:
        raise ValueError(
            f'must be hourly, daily, weekly or monthly with a time ("daily 02:00 Europe/Berlin"), or cron(...), not {quoted(value)}'
        )
    word, day, hour, minute = match[1], match[2], int(match[3] or 2), int(match[4] or 0)
    if hour > 23 or minute > 59:
        raise ValueError(f"{match[3]}:{match[4]} is no time of a day")
    if day is not None and (word != "weekly" or day not in DAYS):
        raise ValueError(f"{quoted(day)}: only weekly has a day, one of {', '.join(DAYS)}")
    fields = {
        "hourly": f"{minute} * * * ? *",
        "daily": f"{minute} {hour} * * ? *",
        "weekly": f"{minute} {hour} ? * {(day or 'mon').upper()} *",
        "monthly": f"{minute} {hour} 1 * ? *",
    }[word]
    return Schedule(expression=f"cron({fields})", timezone=_zone(match[5]))


def _cron(expression: str) -> None:
    """ValueError for what EventBridge takes for no cron: numbers that no clock shows, or days in both ways or in none."""
    minutes, hours, day, _, weekday, _ = expression[5:-1].split()
    if (day == "?") == (weekday == "?"):
        raise ValueError(f"{quoted(expression)}: one of day and weekday is ?, and the other says when")
    for name, field, most in (("minutes", minutes, 59), ("hours", hours, 23), ("day", day, 31)):
        if any(int(number) > most for number in re.findall(r"(?<!/)\b[0-9]+", field)):
            raise ValueError(f"{quoted(expression)}: {field} are no {name}: at most {most}")


def _zone(name: str | None) -> str:
    """A time zone of this machine's tables; any well-written one where it has none."""
    from zoneinfo import available_timezones

    if name is None:
        return "UTC"
    if (known := available_timezones()) and name not in known:
        raise ValueError(f"{quoted(name)} is no time zone: such as Europe/Berlin or UTC")
    return name
