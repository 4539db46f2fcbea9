"""Quantities as recipes write them: sizes, durations and money, each with its unit, as types of pydantic's. Imported with
`recipe_schema` alone: it needs pydantic.

Promises: a bare number is no size and no duration; what cannot be read is a ValueError that says how it is written.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema  # noqa: TID253

_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_MS = {"us": 0.001, "µs": 0.001, "ms": 1.0, "s": 1000.0, "min": 60_000.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-zµ]+|\$)?\s*", re.ASCII)
_SIZE_FORM = r"^\s*[0-9.]+\s*(B|[kKMG]B|[KMG]iB)\s*$"
_DURATION_FORM = r"^\s*[0-9.]+\s*(us|µs|ms|s|min)\s*$"


def parse_size(value: Any) -> int:
    """Bytes of "100MB" (decimal), "64MiB" (binary) or "0.5GB". Raises ValueError; a bare number has no unit and is
    refused.
    """
    number, unit = _quantity(value, "a size with its unit, such as 100MB or 64MiB")
    if unit not in _BYTES:
        raise ValueError(f"{unit or 'a bare number'} is not a unit of size: write B, kB, MB, GB, KiB, MiB or GiB")
    size = round(number * _BYTES[unit])
    if size < 1:
        raise ValueError("must be more than nothing")
    return size


def parse_duration_ms(value: Any) -> float:
    """Milliseconds of "50ms", "1.5s" or "2min". Raises ValueError; a bare number has no unit and is refused."""
    number, unit = _quantity(value, "a duration with its unit, such as 50ms or 1.5s")
    if unit not in _MS:
        raise ValueError(f"{unit or 'a bare number'} is not a unit of time: write us, ms, s or min")
    if number <= 0:
        raise ValueError("must be more than nothing")
    return number * _MS[unit]


def parse_usd(value: Any) -> float:
    """Dollars of 5, 0.8, "5USD" or "$5" written as "5 $". Raises ValueError."""
    number, unit = _quantity(value, "an amount of money, such as 5USD or 5")
    if unit not in (None, "USD", "$"):
        raise ValueError(f"{unit} is not a currency that mlpack knows: write USD")
    if number <= 0:
        raise ValueError("must be more than nothing")
    return number


def _quantity(value: Any, wanted: str) -> tuple[float, str | None]:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be {wanted}")
    match = _QUANTITY.fullmatch(value if isinstance(value, str) else f"{value:f}" if value >= 0 else "")
    if match is None or len(match[1]) > 40:
        raise ValueError(f"must be {wanted}, not {str(value)[:60]!r}")
    return float(match[1]), match[2]


def _sized(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


Size = Annotated[int, BeforeValidator(parse_size), _sized(_SIZE_FORM)]
Duration = Annotated[float, BeforeValidator(parse_duration_ms), _sized(_DURATION_FORM)]
Money = Annotated[
    float,
    BeforeValidator(parse_usd),
    WithJsonSchema({"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": r"^\s*[0-9.]+\s*(USD|\$)?\s*$"}),
]
