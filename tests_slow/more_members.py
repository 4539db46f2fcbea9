"""Models of the zoo that are made on the spot instead of fetched: a list of lists, each from the module that makes them.

A maker is a module of `tests_slow` with `models() -> Iterable[Member]` (`sample_models.zoo.Member`, or anything with its name,
`place`, `answers` and `heavy`). One that is not there, or whose libraries are not installed, adds nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

MAKERS = ("tests_slow.hf_zoo", "tests_slow.classical_zoo")


def members() -> tuple[Any, ...]:
    """What every maker that is there makes."""
    made = []
    for name in MAKERS:
        if importlib.util.find_spec(name) is not None:
            made += list(importlib.import_module(name).models())
    return tuple(made)
