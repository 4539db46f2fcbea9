"""Times as people write them in options and settings."""

from __future__ import annotations

from datetime import UTC, datetime

from mlpack.errors import RecipeError


def parse_time(text: str) -> float:
    """ISO 8601, a date or a date with a time, UTC where it does not say; seconds since the epoch. RecipeError on anything else."""
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise RecipeError(f"{text!r} is not a time: write 2026-11-24 or 2026-11-24T09:30+01:00 (UTC unless it says)") from error
