"""The zoo: other people's models from the package index and from `onnx`, each with the recipe that `init` writes, as it stands.

A share by default, of different faults; all of it with MLPACK_SOAK=1. `bench/zoo.py` prints the whole as a table.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_models import zoo
from tests.support.models import more_members
from tools import parts, tryout

from mlpack.store.local import Store

SHARE = ("openwakeword-melspectrogram", "basic-pitch", "ddddocr-common-old", "light-squeezenet")
SHARE_OF_MORE = ("sklearn-columns", "lightgbm-words", "xgboost-missing")
SAME = 1e-4
KEPT = {"detection": 0.6, "reading": 0.9, "sound": 0.8, "classes": 0.95}
"""How much of what the float model finds the chosen package finds, by the kind of model: synthesised data is harder than real."""


def chosen_members() -> list[Any]:
    """A share, or everything."""
    if os.environ.get("MLPACK_SOAK"):
        return [*zoo.members(), *more_members.members()]
    more = {each.name: each for each in more_members.members()}
    return [*(zoo.member(name) for name in SHARE), *(more[name] for name in SHARE_OF_MORE)]


@pytest.mark.parametrize("member", chosen_members(), ids=lambda member: member.name)
def test_model_of_the_zoo(member: Any, store: Store, tmp_path: Path) -> None:
    model = member.place(tmp_path, parts.cache() / "zoo")
    tried = tryout.try_out(tryout.write_recipe(model), store)
    assert tried.code in (0, 5), tried.error
    for candidate in tried.record["candidates"]:
        assert candidate["status"] == "ok" or candidate["reasons"], candidate["id"]
        assert candidate["status"] != "failed" or "bug" not in " ".join(candidate["reasons"])
    if tried.baseline not in tried.answers:
        assert tried.code == 5
        return
    wanted = member.answers(model, tried.calls)
    allowed = SAME
    if model.suffix == ".onnx":  # the engine's own optimisations move some answers further
        allowed = max(SAME, 2 * tryout.difference(zoo.by_the_engine(model, tried.calls, "ORT_ENABLE_ALL"), wanted))
    assert tryout.difference(tried.float_answers, wanted) <= allowed
    if tried.record["chosen"] is not None:
        assert silent_channels(tried.float_answers, tried.chosen_answers) == []
        assert found_again(tried.float_answers, tried.chosen_answers) >= KEPT.get(getattr(member, "kind", ""), 0.0)


def silent_channels(wanted: Any, got: Any) -> list[str]:
    """Channels of the last or the second axis that the float model moves and the package does not: whatever a metric says, users
    would see that."""
    found = []
    for name, ours, theirs in by_output(wanted, got):
        for axis in {1, theirs.ndim - 1} - {0}:
            if axis < theirs.ndim and 1 < theirs.shape[axis] <= 512:
                float_moves, moves = (np.ptp(np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1), axis=1) for a in (theirs, ours))
                found += [f"{name}[{channel}]" for channel in np.flatnonzero((float_moves > 0) & (moves == 0))]
    return found


def found_again(wanted: Any, got: Any) -> float:
    """Of the tenth of numbers that stand out most in each channel of the float model's answers, how many stand out in ours; the
    output that keeps the fewest counts."""
    shares = []
    for _, ours, theirs in by_output(wanted, got):
        if theirs.ndim < 2 or theirs.size < 200 or not np.ptp(theirs):
            continue
        top = max(10, theirs.size // 10)
        a, b = (set(np.argpartition(-np.abs(each - np.median(each)).reshape(-1), top)[:top].tolist()) for each in (ours, theirs))
        shares.append(len(a & b) / top)
    return min(shares, default=1.0)


def by_output(wanted: Sequence[Any], got: Sequence[Any]) -> list[tuple[str, Any, Any]]:
    """Each output of floats whose calls have one shape: ours and the float model's, calls along the first axis."""
    joined = []
    for name, first in wanted[0].items():
        pairs = [(np.asarray(call[name]), np.asarray(its[name])) for call, its in zip(got, wanted, strict=True)]
        if first.dtype.kind == "f" and len({b.shape for _, b in pairs} | {a.shape for a, _ in pairs}) == 1 and first.ndim:
            joined.append((name, *(np.concatenate(side).astype("f8") for side in zip(*pairs, strict=True))))
    return joined
