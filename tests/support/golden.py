"""Records and reports held against the files in `tests/golden/`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"
HOSTILE = "`|\n# <script>alert(1)</script> @everyone [x](http://evil.example) \x1b[31m\u202e **b** $$x$$ #1 ::error::"


def golden(name: str, made: str) -> None:
    """Compare with the file, or write it when asked to."""
    path = GOLDEN / name
    if os.environ.get("MLPACK_GOLDEN") == "write":
        path.write_text(made)
    assert made == path.read_text()


def without_samples(record: dict[str, Any]) -> dict[str, Any]:
    """A copy whose lists of numbers are cut to three: a golden file that people can read."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [cut(v) for v in (value[:3] if value and isinstance(value[0], float) else value)]
        return value

    made = cut(record)
    assert isinstance(made, dict)
    return made
