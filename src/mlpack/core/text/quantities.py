"""Reads quantities with units as people write them in recipes, settings and options: sizes, durations and money. Pure.

Promises:
- A bare number is neither a size nor a duration.
- An unreadable value is a ValueError that quotes at most 60 characters of it and gives an example.

`words` writes what this module reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MILLISECONDS = {"us": 0.001, "\u00b5s": 0.001, "\u03bcs": 0.001, "ms": 1.0, "s": 1000.0, "min": 60_000.0}
"""The micro sign and the Greek letter look alike, and keyboards have either."""
_QUANTITY = re.compile("\\s*([0-9]+(?:\\.[0-9]+)?|\\.[0-9]+)\\s*([A-Za-z\u00b5\u03bc]+|\\$|%)?\\s*", re.ASCII)
_DIGITS = 40
_QUOTED = 60


def parse_size(value: Any) -> int:
    """Bytes of "100MB" (decimal), "64MiB" (binary) or "0.5GB". Raises ValueError; a bare number has no unit and is
    refused.
    """
    number, unit = _quantity(value, "a size with its unit, such as 100MB or 64MiB")
    if unit not in BYTES:
        raise _unknown(value, unit, "a unit of size", "B, kB, MB, GB, KiB, MiB or GiB", BYTES)
    size = round(number * BYTES[unit])
    if size < 1:
        raise ValueError(f"must be more than nothing, not {quoted(value)}")
    return size


def parse_duration_ms(value: Any) -> float:
    """Milliseconds of "50ms", "1.5s" or "2min". Raises ValueError; a bare number has no unit and is refused."""
    number, unit = _quantity(value, "a duration with its unit, such as 50ms or 1.5s")
    if unit not in MILLISECONDS:
        raise _unknown(value, unit, "a unit of time", "us, ms, s or min", MILLISECONDS)
    return _positive(number, value) * MILLISECONDS[unit]


def parse_usd(value: Any) -> float:
    """Dollars of 5, 0.8, "5USD" or "$5" written as "5 $". Raises ValueError."""
    number, unit = _quantity(value, "an amount of money, such as 5USD or 5")
    if unit not in (None, "USD", "$"):
        raise _unknown(value, unit, "a currency that mlpack knows", "USD", ("USD",))
    return _positive(number, value)


def share_of(value: Any) -> str | None:
    """The share that a percentage means: "5 %" is 0.05. None for a value that is no percentage."""
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] != "%" or len(match[1]) > _DIGITS:
        return None
    return f"{(Decimal(match[1]) / 100).normalize():f}"


def quoted(value: Any) -> str:
    """A value in its own spelling, whole up to 60 characters. A number that is too large to write is described in words."""
    if isinstance(value, str):
        return repr(_cut(value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > 4 * _QUOTED:
        return "a number of that many digits"
    return _cut(str(value).removesuffix(".0"))


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTED else f"{text[: _QUOTED - 3]}..."


def _unknown(value: Any, unit: str | None, what: str, unit_names: str, units: Mapping[str, Any] | tuple[str, ...]) -> ValueError:
    """The message about an unknown or missing unit; a unit with wrong capitals is answered with the right spelling."""
    if unit is None:
        return ValueError(f"{quoted(value)}: a bare number has no unit: write {unit_names} behind it")
    near = next((each for each in units if each.lower() == unit.lower()), None)
    return ValueError(f"{quoted(value)}: {_cut(unit)} is not {what}{f' ({near} is)' if near else ''}: write {unit_names}")


def _positive(number: float, value: Any) -> float:
    if number <= 0:
        raise ValueError(f"must be more than nothing, not {quoted(value)}")
    return number


def _quantity(value: Any, kind: str) -> tuple[float, str | None]:
    match = _QUANTITY.fullmatch(_plain(value))
    if match is None or len(match[1]) > _DIGITS:
        raise ValueError(f"must be {kind}, not {quoted(value)}")
    return float(match[1]), match[2]


def _plain(value: Any) -> str:
    """A text unchanged, and a number without an exponent; empty for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 4 * _DIGITS else ""
    return f"{Decimal(repr(value)):f}" if 0 <= value < float("inf") else ""
