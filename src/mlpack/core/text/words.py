"""Numbers as people read them, and foreign text with its odd characters visible (`clean`, which every sink begins with). Pure.

Promises:
- There is one way to write a size, a time, a price and a share, on the terminal and in every report.
- Numbers have three significant digits and no locale. Two numbers that differ never look equal in `apart`.
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
    """A size in decimal units, as in budgets and AWS' own pages: `22.8 MB`."""
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


def percent(share: float) -> str:
    """`95 %`, `99.9 %`."""
    return f"{100 * share:.6g} %"


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


# Printable by Unicode's categories, but invisible: fillers, joiners and selectors. U+FE0E and U+FE0F stay, since they
# choose between two forms of one character.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]")
_NOT_ASCII = re.compile(r"[^\n\t -~]")


def clean(text: object) -> str:
    """Foreign text that can be shown: every character that would move, hide, colour or reverse other text is written as an escape.

    That is every character that Unicode does not call printable (controls, changes of direction, zero widths, other line ends,
    halves of surrogate pairs, noncharacters), as Python writes it. Line feeds and tabs stay; spaces of other kinds become
    spaces.
    """
    return _NOT_ASCII.sub(_visible, str(text).replace("\r\n", "\n"))


def escaped(character: str) -> str:
    """A character by its number, as Python and YAML write it: `\\x1b`."""
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def is_seen(character: str) -> bool:
    """Whether a reader sees this character, and it has no other effect; a space counts as seen, a tab does not."""
    return character.isprintable() and _UNSEEN.match(character) is None


def _visible(match: re.Match[str]) -> str:
    character = match[0]
    if is_seen(character):
        return character
    space = character >= "\xa0" and character.isspace() and character not in "\u2028\u2029"
    return " " if space else escaped(character)


def limit(text: str) -> str:
    """A formatted number as people write limits: `50 ms` for `50.0 ms`; prices keep their cents."""
    return text if "$" in text else re.sub(r"(\d)\.0+(?!\d)|(\.\d*?[1-9])0+(?!\d)", r"\1\2", text)


def apart(value: float, bound: float, write: Callable[[float, int], str]) -> tuple[str, str]:
    """A value and its limit with as many digits as make them differ: never `100 MB exceeds 100 MB`."""
    for digits in range(3, 16):
        texts = write(value, digits), limit(write(bound, digits))
        if limit(texts[0]) != texts[1] or value == bound:  # `1,000.0 GB` reads as `1,000 GB` does
            return texts
    return repr(value), repr(bound)
