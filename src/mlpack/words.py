"""Numbers as people read them: one way to write a size, a time, a price and a share, on the terminal and in every
report.

Promises: pure, locale-free, three significant digits, and two numbers that differ never look equal in `apart`. It
reads nothing back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

UNKNOWN = "–"


def number(value: float | None, digits: int = 3) -> str:
    """`0.0612`, `6.12`, `61.2`, `612`, `6,120`: `digits` significant ones, thousands parted, never an exponent of
    normal sizes."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    places = max(0, digits - 1 - size)
    if places > 9:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{places}f}"


def size(size_bytes: float | None, digits: int = 3) -> str:
    """Decimal units, as budgets and AWS' own pages are read: `22.8 MB`."""
    if size_bytes is None or not math.isfinite(size_bytes):
        return UNKNOWN
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size_bytes) >= scale:
            return f"{number(size_bytes / scale, digits)} {unit}"
    return f"{size_bytes:.0f} bytes"


def ms(value: float | None, digits: int = 3) -> str:
    """`61.2 ms`."""
    return UNKNOWN if value is None else f"{number(value, digits)} ms"


def usd(value: float | None, digits: int = 3) -> str:
    """`$0.52`: cents, or as many places as three significant digits need."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    sign = "-" if value < 0 else ""
    text = f"{abs(value):,.2f}" if abs(value) >= 1 and digits <= 3 else number(abs(value), digits)
    return f"{sign}${text}"


def share(value: float | None, digits: int = 3) -> str:
    """A metric or its drop, to a ten-thousandth: `0.9214`; more digits show smaller differences."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.{digits + 1}f}"


def seconds(value: float | None) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02d} s"


def count(items: int, one: str, many: str | None = None) -> str:
    """`1 candidate`, `3 candidates`."""
    return f"{items:,} {one if items == 1 else many or one + 's'}"


def clean(text: object) -> str:
    """Somebody else's text without control characters and tricks with its direction; line ends and tabs stay."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "", str(text).replace("\r\n", "\n"))


def limit(text: str) -> str:
    """A written number as people write limits: `50 ms` for `50.0 ms`; prices keep their cents."""
    return text if "$" in text else re.sub(r"(\d)\.0+(?!\d)|(\.\d*?[1-9])0+(?!\d)", r"\1\2", text)


def apart(value: float, bound: float, write: Callable[[float, int], str]) -> tuple[str, str]:
    """A value and its limit with as many digits as it takes to tell them apart: never `100 MB exceeds 100 MB`."""
    for digits in range(3, 16):
        texts = write(value, digits), limit(write(bound, digits))
        if limit(texts[0]) != texts[1] or value == bound:  # `1,000.0 GB` reads as `1,000 GB` does
            return texts
    return repr(value), repr(bound)
