"""Rounds thresholds of trees to float32, to the side that decides as the original's float64 does.

A tree of float64 thresholds asks `x <= t`. For a float32 x that is the same as `x <= t'`, t' the largest float32 not above t.
Converters round t to the nearest instead, which may be above it: rows with exactly that value then go the other way. The branch
that missing values take in scikit-learn's trees is corrected here as well.

Promises:
- Only thresholds of nodes that ask `<=` and whose float64 value is known change, and only to their neighbour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


def mend(model: onnx.ModelProto, exact: Iterable[float]) -> int:
    """Round down the thresholds that were rounded up from one of `exact`. Returns the number of changed nodes."""
    import numpy as np

    sorted_values = np.unique(np.fromiter((value for value in exact if np.isfinite(value)), dtype=np.float64))
    if not sorted_values.size:
        return 0
    with np.errstate(over="ignore"):
        nearest = sorted_values.astype(np.float32)
    above = nearest.astype(np.float64) > sorted_values
    right = np.where(above, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    # If a float32 is right for one node and wrong for another, only the comparison of answers can tell them apart.
    lower = set(nearest[above].tolist()) - set(right.tolist())
    changed = 0
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if "nodes_values" not in attributes or "nodes_modes" not in attributes:
            continue
        values, modes = attributes["nodes_values"].floats, attributes["nodes_modes"].strings
        for at, (value, mode) in enumerate(zip(list(values), list(modes), strict=True)):
            if mode == b"BRANCH_LEQ" and value in lower:
                values[at] = float(np.nextafter(np.float32(value), np.float32(-np.inf)))
                changed += 1
    return changed


def of_parts(estimator: Any) -> Iterator[float]:
    """Every float64 threshold of scikit-learn's trees in an estimator, however deep in pipelines and ensembles. Those of boosters
    need no change (`trees`)."""
    for part in parts(estimator):
        if hasattr(part, "tree_") and hasattr(part.tree_, "threshold"):
            yield from part.tree_.threshold.tolist()


def parts(estimator: Any) -> list[Any]:
    """An estimator and everything in it, however deep."""
    return list(_parts(estimator, set()))


def _parts(value: Any, visited: set[int]) -> Iterator[Any]:
    """An estimator and all estimators that it holds."""
    import numpy as np

    if id(value) in visited:
        return
    visited.add(id(value))
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        for item in value.ravel() if isinstance(value, np.ndarray) else value:
            yield from _parts(item, visited)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _parts(item, visited)
    elif hasattr(value, "get_params") and not isinstance(value, type):
        yield value
        for item in vars(value).values():
            yield from _parts(item, visited)


def mend_missing(model: onnx.ModelProto, estimators: Iterable[Any]) -> int:
    """Send missing values to the side of scikit-learn's own trees, which skl2onnx omits. Returns the number of changed nodes."""
    forests = [[tree.tree_ for tree in trees] for part in estimators if (trees := _trees(part))]
    changed = 0
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if "nodes_treeids" not in attributes or "nodes_missing_value_tracks_true" not in attributes:
            continue
        places = list(zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True))
        counts = _counts(places)
        forest = next((each for each in forests if [tree.node_count for tree in each] == counts), None)
        if forest is None:
            continue
        lefts = [tree.__getstate__()["nodes"]["missing_go_to_left"].tolist() for tree in forest]
        tracks = attributes["nodes_missing_value_tracks_true"].ints
        for at, (tree, number) in enumerate(places):
            if forest[tree].children_left[number] >= 0 and tracks[at] != lefts[tree][number]:
                tracks[at] = int(lefts[tree][number])
                changed += 1
    return changed


def _trees(part: Any) -> list[Any]:
    """The trees of a forest, or the one of a tree; otherwise none."""
    if hasattr(part, "tree_"):
        return [part]
    estimators = getattr(part, "estimators_", None)
    return (
        list(estimators)
        if isinstance(estimators, list) and estimators and all(hasattr(each, "tree_") for each in estimators)
        else []
    )


def _counts(places: list[tuple[int, int]]) -> list[int]:
    """The number of nodes of each tree, by its number."""
    counts = [0] * (max((tree for tree, _ in places), default=-1) + 1)
    for tree, _ in places:
        counts[tree] += 1
    return counts
