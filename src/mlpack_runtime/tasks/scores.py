"""From a model's numbers to scores, from scores to the best of them, and to labels with their names. Pure.

Promises: probabilities are computed in double precision without overflow; ties keep the order of the labels. Numbers that are not
finite are a RequestError (422): a score is never made of them.
"""

from math import exp

from mlpack_runtime.limits import RequestError
from mlpack_runtime.tensor import sliced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from mlpack_runtime.tensor import Tensor

ACTIVATIONS = ("softmax", "sigmoid", "none")
TOP_K = 5
"""Labels that an answer has, where nobody says it."""


def rows(output: "Tensor", name: str, *, masked: bool = True) -> "Iterator[list[float]]":
    """The numbers of each row of an output, flat. RequestError for one that is not finite. With `masked`, -infinity is taken: it
    stands for what is ruled out, and an activation makes it 0."""
    most = float("inf")
    for at in range(output.shape[0] if output.shape else 0):
        values: list[float] = sliced(output, at, at + 1).flat()
        # A sum of numbers may be too large to be one; the check of each costs ten times as much.
        if not abs(sum(values)) < most and any(
            value != value or value == most or (value == -most and not masked) for value in values
        ):
            raise RequestError(f"the model gives numbers for row {at} of {name!r} that are not finite", 422, "Unprocessable")
        yield values


def softmax(values: "Sequence[float]") -> "list[float]":
    """Numbers above 0 whose sum is 1."""
    largest = max(values)
    if largest == -float("inf"):
        return [1 / len(values)] * len(values)
    powers = [exp(value - largest) for value in values]
    total = sum(powers)
    return [power / total for power in powers]


def sigmoid(value: float) -> float:
    """A number between 0 and 1."""
    if value >= 0:
        return 1 / (1 + exp(-value))
    power = exp(value)
    return power / (1 + power)


def activated(values: "list[float]", how: str) -> "list[float]":
    """Scores by one of `ACTIVATIONS`."""
    if how == "softmax":
        return softmax(values)
    return [sigmoid(value) for value in values] if how == "sigmoid" else values


def best(scores: "Sequence[float]", most: int, threshold: "float | None" = None) -> "list[int]":
    """Places of the largest, best first: at most `most`, none below the threshold."""
    places = sorted(range(len(scores)), key=lambda at: -scores[at])[:most]
    return places if threshold is None else [at for at in places if scores[at] >= threshold]


def rounded(score: float) -> float:
    """A score with the digits that a float32 has."""
    return float(f"{score:.7g}")


def name_of(place: int, labels: "Sequence[str]") -> str:
    """A label's name; transformers' own for one that has none."""
    return labels[place] if 0 <= place < len(labels) else f"LABEL_{place}"


def classified(output: "Tensor", name: str, labels: "Sequence[str]", taken: "Mapping[str, Any]") -> "list[list[dict[str, Any]]]":
    """For each row of an output its labels with their scores, the best first. `taken`: a request's parameters, `activation` among
    them. Raises RequestError as `rows` does."""
    how, results = taken["activation"], []
    for values in rows(output, name, masked=how != "none"):
        scores = activated(values, how)
        places = best(scores, taken.get("top_k", TOP_K), taken.get("threshold"))
        results.append([{"label": name_of(at, labels), "score": rounded(scores[at])} for at in places])
    return results


def with_best(labels: "list[dict[str, Any]]") -> "dict[str, Any]":
    """A plain answer's object for one row: its best label, and all of them as `labels`."""
    return {**(labels[0] if labels else {"label": None, "score": None}), "labels": labels}
