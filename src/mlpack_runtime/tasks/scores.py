"""From a model's numbers to scores, and from scores to the best of them. Pure.

Promises: probabilities are computed in double precision without overflow; ties keep the order of the labels. Numbers that are not
finite are a RequestError (422): a score is never made of them.
"""

from math import exp

from mlpack_runtime.limits import RequestError
from mlpack_runtime.tensor import sliced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlpack_runtime.tensor import Tensor

ACTIVATIONS = ("softmax", "sigmoid", "none")


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
