"""Replays of a rollout: the decisions of a trail made again from their own evidence. Pure.

Promises: a replay compares bytes; evidence that was changed by a digit differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mlpack_control.deciding import decide
from mlpack_control.records import Policy, PolicyError, State


class Replayed(NamedTuple):
    """A decision of the trail, the same made again (None: it cannot be), and whether they agree byte for byte."""

    stored: Any
    again: dict[str, Any] | None
    same: bool


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and without spaces: the same value has the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def replay(policy: Policy, trail: Iterable[Any]) -> Iterator[Replayed]:
    """Each piece of evidence beside the one that its own state, counts and time give now."""
    for stored in trail:
        again = _again(policy, stored)
        yield Replayed(stored, again, again is not None and canonical(again) == canonical(stored))


def _again(policy: Policy, stored: Any) -> dict[str, Any] | None:
    if not isinstance(stored, Mapping) or not {"state", "observed", "at"} <= stored.keys():
        return None
    try:
        return decide(policy, State.of(stored["state"]), stored["observed"], stored["at"])[2]
    except PolicyError:
        return None
