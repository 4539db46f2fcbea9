"""The two outputs of a model that answers questions: which one says where an answer starts, and which one where it ends.

Promises: decided by names alone, of the two families below; a pair that is in neither is not decided. The order of outputs counts
for nothing: BERT-Squad of the ONNX model zoo has the end first. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mlpack.core.records import TensorSpec

_STARTS, _ENDS = ("start", "starts", "begin", "begins"), ("end", "ends", "stop", "stops")
_BESIDE = frozenset(
    (
        "logits",
        "logit",
        "scores",
        "score",
        "output",
        "outputs",
        "out",
        "qa",
        "squad",
        "span",
        "answer",
        "pred",
        "model",
        "head",
        "token",
    )
)
"""Words that such names have beside. Others mean another thing: `start_top_log_probs` of a beam, `start_probs` after a softmax."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SLICE = re.compile(r"(?P<stem>(?:.*/)?(?:unstack|split)(?:_\d+)?):(?P<at>[01])")
"""A slice of the two columns that TensorFlow names by its number: BERT and all that followed have the start in the first."""


def spans(outputs: Sequence[TensorSpec]) -> dict[str, str] | None:
    """`start` and `end` by their outputs' names; None where names leave a doubt.

    Args:
        outputs: Those that could be meant: a number for each token.
    """
    pairs = [
        {"start": start.name, "end": end.name}
        for start in outputs
        for end in outputs
        if _alike(start.shape, end.shape) and (_are_words(start.name, end.name) or _are_slices(start.name, end.name))
    ]
    return pairs[0] if len(pairs) == 1 else None


def chosen(named: Mapping[str, str | None], outputs: Sequence[TensorSpec]) -> dict[str, str] | None:
    """What the recipe names, else what `spans` finds."""
    start, end = named.get("start"), named.get("end")
    return {"start": start, "end": end} if start and end else spans(outputs)


def _alike(shape: Sequence[int | str | None], other: Sequence[int | str | None]) -> bool:
    """Whether both may be of one size: axes of two names may, two numbers may not."""
    return all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(shape, other, strict=True))


def _are_words(start: str, end: str) -> bool:
    first, second = _words(start), _words(end)
    at = [place for place, word in enumerate(first) if word in _STARTS]
    if len(at) != 1 or len(first) != len(second) or second[at[0]] not in _ENDS:
        return False
    rest, other = first[: at[0]] + first[at[0] + 1 :], second[: at[0]] + second[at[0] + 1 :]
    return rest == other and _BESIDE.issuperset(rest)


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name.rpartition("/")[2])]


def _are_slices(start: str, end: str) -> bool:
    first, second = _SLICE.fullmatch(start), _SLICE.fullmatch(end)
    return bool(first and second and first["stem"] == second["stem"] and (first["at"], second["at"]) == ("0", "1"))
