"""Models in the own formats of XGBoost and LightGBM, by a look at the ends of the file: what they take, and what they decide.

Promises: bounded; neither library is loaded. What the ends do not say is left out of the recipe's comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mlpack.recipe.first.labels import Kind, Labels
from mlpack.recipe.first.metric import ABSOLUTE, FIDELITY, Proposal, of_spread

_END_BYTES = 1 << 20
_SAID = {
    "lightgbm": (rb"(?m)^max_feature_idx=(\d+)", rb"(?m)^objective=([a-z_]+)"),
    "xgboost": (rb'num_feature"?[:SUiIlL\x00-\x1f" ]*(\d+)', rb"((?:binary|multi|reg|rank|count|survival):[a-z_]+)"),
}


def kind(path: Path) -> str | None:
    """`xgboost` or `lightgbm`, where the file is a model of theirs."""
    if path.suffix not in (".json", ".ubj", ".txt") or not path.is_file():
        return None
    head, _ = _ends(path)
    if path.suffix == ".txt":
        return "lightgbm" if re.match(rb"tree\r?\n", head) else None
    return "xgboost" if head.lstrip()[:1] == b"{" and b"learner" in head[:4096] else None


def columns(path: Path, kind: str) -> int | None:
    """How many columns it takes."""
    number = _found(path, _SAID[kind][0])
    if number is None or len(number) > 9:
        return None
    return int(number) + (kind == "lightgbm")


def classifies(path: Path, kind: str) -> bool:
    """Whether it says classes, by its objective."""
    objective = _objective(path, kind)
    return objective in (b"binary", b"binary:logistic") or objective.startswith(b"multi")


def threshold(path: Path, kind: str) -> str | None:
    """Above what its one number means class 1, where its objective decides between two classes without saying which."""
    return {b"binary:hinge": "0.5", b"binary:logitraw": "0"}.get(_objective(path, kind))


def scores(path: Path, kind: str) -> bool:
    """Whether what it says has a scale of its own, not that of the labels: rankers, risks, objectives of somebody's own."""
    return _objective(path, kind).startswith((b"rank", b"lambdarank", b"survival:cox", b"custom"))


def proposed(*, classes: bool, scores: bool, threshold: str | None = None) -> Callable[[Labels], Proposal]:
    """The metric, by what the labels beside the model look like."""

    def propose(labels: Labels) -> Proposal:
        if classes and labels.kind in (Kind.CLASSES, Kind.UNKNOWN):
            return Proposal(metric="top1", why="share of samples whose class, as the model says it, is the label")
        if classes and labels.kind is Kind.FLAGS:
            why = "macro F1 of the classes that the model says a sample has"
            return Proposal(metric="{name: multilabel_f1, output: label}", why=why)
        if threshold is not None and labels.kind in (Kind.CLASSES, Kind.UNKNOWN):
            return Proposal(metric=f"{{name: f1, threshold: {threshold}}}", why="macro F1 of above and below the threshold")
        if not classes and not scores and labels.kind in (Kind.CLASSES, Kind.FLAGS, Kind.NUMBERS):
            return Proposal(metric="mae", why=ABSOLUTE, drop=of_spread(labels))
        return FIDELITY

    return propose


def _objective(path: Path, kind: str) -> bytes:
    return _found(path, _SAID[kind][1]) or b""


def _ends(path: Path) -> tuple[bytes, bytes]:
    with path.open("rb") as stream:
        head = stream.read(_END_BYTES)
        stream.seek(max(0, path.stat().st_size - _END_BYTES))
        return head, stream.read(_END_BYTES)


def _found(path: Path, pattern: bytes) -> bytes | None:
    for part in reversed(_ends(path)):
        if match := re.search(pattern, part):
            return match[1]
    return None
