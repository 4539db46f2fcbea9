"""Turns users' labels into one plain value a sample: a number, a string, or lists of them (a label a token, boxes of a picture).

Promises:
- A value that cannot be a label is refused with a reason. No foreign code runs.

Will not: know what a label means. The metrics do.
"""

from __future__ import annotations

import math
from typing import Any

_DEPTH = 3
"""Lists in lists: a row of numbers for each box of a picture, and one level to spare."""
_KINDS = "labels must be finite numbers or strings, or lists of them"


def problem(label: Any) -> str | None:
    """The fault of a label in a line of JSON, or None."""
    return None if _good(label, _DEPTH) else "label must be a number or a string, or a list of them"


def _good(label: Any, depth: int) -> bool:
    if isinstance(label, list):
        return depth > 0 and all(_good(one, depth - 1) for one in label)
    if isinstance(label, str):
        return not any("\ud800" <= character <= "\udfff" for character in label)
    return not isinstance(label, bool) and isinstance(label, int | float) and math.isfinite(label)


def arrays(labels: Any) -> Any:
    """A call's labels as an array, or where they are of several lengths (the boxes of each picture) a list of one each."""
    import numpy as np

    if labels is None:
        return None
    try:
        return np.atleast_1d(np.asarray(labels))
    except ValueError:
        return [np.asarray(one) for one in labels]


def plain(labels: Any) -> list[Any] | None:
    """The output of `arrays` as Python's own values, one a sample. ValueError in words for invalid labels."""
    if labels is None:
        return None
    if isinstance(labels, list):
        return [_checked(one).tolist() for one in labels]
    return list(_checked(labels).tolist())


def _checked(array: Any) -> Any:
    import numpy as np

    if array.dtype.kind not in "biufU" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise ValueError(f"{_KINDS}, not {array.dtype.name}")
    return array


def a_sample(labels: list[Any], samples: int) -> list[Any]:
    """One label a sample: several labels of a call with one sample become that sample's list."""
    return [labels] if samples == 1 and len(labels) != 1 else labels
