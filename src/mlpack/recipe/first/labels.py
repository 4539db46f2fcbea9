"""What the labels beside a model look like, by a look into the data: their kind decides which metric sees the model's job.

Promises: bounded; opens no pickle, runs no code. What cannot be read is `unknown`, never an error: reading it properly is
the build's.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from mlpack.core.files import bounded, zips

_READ_MOST = 64 << 20
_LINES_MOST = 200
_NAMES_MOST = 2_000


class Kind(Enum):
    """What labels are, one a sample."""

    UNKNOWN = auto()
    """There is no data yet, or it cannot be looked into."""
    NONE = auto()
    CLASSES = auto()
    NAMES = auto()
    NUMBERS = auto()
    TOKENS = auto()
    FLAGS = auto()
    """Rows of 0 and 1: a yes or no for each class, or of two kinds of tokens."""
    MAPS = auto()
    """A class for each place of a picture."""
    BOXES = auto()
    PAIRS = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """`classes`: the class numbers or names that occur, in order; `width`: numbers a sample; `spread`: their standard deviation."""

    kind: Kind
    classes: tuple[Any, ...] = ()
    width: int = 1
    spread: float = 0.0


UNKNOWN, NONE = Labels(kind=Kind.UNKNOWN), Labels(kind=Kind.NONE)


def look(path: Path | None) -> Labels:
    """The labels of an .npz or .jsonl file; of nothing or of another file they are not known."""
    if path is None:
        return UNKNOWN
    return _of_lines(path) if path.suffix == ".jsonl" else _of_arrays(path)


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of an .npz file's arrays, by their headers."""
    import numpy as np

    shapes_by_name = {}
    try:
        with path.open("rb") as file, zips.opened(file) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    version = np.lib.format.read_magic(stream)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                    shapes_by_name[member.filename.removesuffix(".npy")] = read(stream)[0]
    except (OSError, ValueError, MemoryError, *zips.DAMAGE):
        return {}
    return shapes_by_name


def _of_arrays(path: Path) -> Labels:
    import numpy as np

    try:
        with path.open("rb") as file, zips.opened(file) as archive:
            members = [member for member in archive.infolist() if member.filename == "labels.npy"]
            if not members:
                return NONE
            if members[0].file_size > _READ_MOST:
                return UNKNOWN
            with archive.open(members[0]) as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError, MemoryError, *zips.DAMAGE):
        return UNKNOWN
    return _of_array(array)


def _of_array(array: Any) -> Labels:
    import numpy as np

    if not array.size or array.dtype.kind not in "biufU" or not array.ndim:
        return UNKNOWN
    if array.dtype.kind == "U":
        kind = Kind.NAMES if array.ndim == 1 else Kind.TOKENS
        return Labels(kind=kind, classes=tuple(np.unique(array)[:_NAMES_MOST].tolist()))
    whole = bool(np.isfinite(array).all() and (array == np.floor(array)).all())
    if array.ndim == 3 and array.shape[-1] == 5:
        return Labels(kind=Kind.BOXES)
    if whole and array.ndim == 1:
        classes = tuple(int(each) for each in np.unique(array)[:_NAMES_MOST])
        return Labels(kind=Kind.CLASSES, classes=classes, spread=float(array.std()))
    if whole and array.ndim == 2 and array.shape[1] > 1 and set(np.unique(array).tolist()) <= {0, 1}:
        return Labels(kind=Kind.FLAGS, width=array.shape[1], spread=float(array.std()))
    if whole and array.ndim == 3 and array.dtype.kind in "biu" and min(array.shape[1:]) > 1:
        return Labels(kind=Kind.MAPS, classes=tuple(int(each) for each in np.unique(array)[:_NAMES_MOST]))
    if whole and array.ndim == 2 and array.dtype.kind == "i" and array.shape[1] > 1:
        return Labels(kind=Kind.TOKENS, width=array.shape[1])
    return Labels(kind=Kind.NUMBERS, width=math.prod(array.shape[1:]), spread=float(np.nan_to_num(array).std()))


def _of_lines(path: Path) -> Labels:
    rows = []
    try:
        with path.open("rb") as stream:
            for _ in range(_LINES_MOST):
                line = stream.readline(1 << 20)
                if not line.strip():
                    break
                rows.append(bounded.load_json(line.decode("utf-8-sig")))
    except (OSError, ValueError, RecursionError):
        return UNKNOWN
    if not rows or not all(isinstance(row, dict) for row in rows):
        return UNKNOWN
    if "query" in rows[0]:
        return Labels(kind=Kind.PAIRS)
    return _of_values([row.get("label") for row in rows])


def _of_values(values: list[Any]) -> Labels:
    import numpy as np

    if values[0] is None:
        return NONE
    if all(isinstance(value, list) for value in values):
        widths = {len(value) for value in values}
        if len(widths) == 1 and widths != {1} and all(one in (0, 1) for value in values for one in value):
            return Labels(kind=Kind.FLAGS, width=widths.pop())
        return Labels(kind=Kind.TOKENS)
    if all(isinstance(value, str) for value in values):
        return Labels(kind=Kind.NAMES, classes=tuple(sorted(set(values))[:_NAMES_MOST]))
    if all(isinstance(value, int | float) for value in values):
        return _of_array(np.asarray(values))
    return UNKNOWN


def words_in(name: str) -> set[str]:
    """The words of a tensor's name: `class_logits_0` has class and logits."""
    return set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))
