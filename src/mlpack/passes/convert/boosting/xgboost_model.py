"""Reads XGBoost's own format: trees (gbtree, dart, vector leaves), or a weight for each column (gblinear).

Promises:
- It reads the JSON that the library writes of a loaded model, and refuses what it does not know. Numbers are float32 there.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.passes.convert.trees import Forest, GraphPart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOGIT = ("binary:logistic", "reg:logistic")
_LOG = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")


@dataclass(frozen=True, slots=True, kw_only=True)
class Xgboost:
    """A model of XGBoost: `targets` sums a row, `base` their initial values, `objective` turns them into answers."""

    objective: str
    columns: int
    targets: int
    base: tuple[float, ...]
    booster: Mapping[str, Any]
    trees: int | None
    """How many of its trees count, of those in order; None: all."""

    def emit(self, part: GraphPart, source: str, _dtype: str = "float32") -> str:
        """The sums of the columns `source` (float32, as the library reads any input), before the objective: the name of a tensor
        [rows, targets]."""
        summed = self._linear(part, source) if self.booster["name"] == "gblinear" else self._forest().emit(part, source)
        return part.node("Add", [summed, part.constant([self.base])])

    def _linear(self, part: GraphPart, source: str) -> str:
        import numpy as np

        weights = np.asarray(self.booster["model"]["weights"], dtype=np.float32).reshape(self.columns + 1, self.targets)
        filled = part.node("Where", [part.node("IsNaN", [source]), part.constant(0.0), source])
        return part.node("Gemm", [filled, part.constant(weights[:-1]), part.constant(weights[-1])])

    def _forest(self) -> Forest:
        dart = self.booster["name"] == "dart"
        model = (self.booster["gbtree"] if dart else self.booster)["model"]
        drops = self.booster["weight_drop"] if dart else [1.0] * len(model["trees"])
        forest = Forest(columns=self.columns, targets=self.targets)
        for tree, target, weight in list(zip(model["trees"], model["tree_info"], drops, strict=True))[: self.trees]:
            forest.tree()
            _grow(forest, tree, int(target), float(weight))
        return forest


def read(booster: Any, best_iteration: int | None = None) -> Xgboost:
    """Read a loaded model without the rounds after `best_iteration`. Raises PassError for an unknown booster."""
    learner = json.loads(booster.save_raw("json"))["learner"]
    parameters, ensemble = learner["learner_model_param"], learner["gradient_booster"]
    if ensemble["name"] not in ("gbtree", "dart", "gblinear"):
        raise PassError(f"booster {ensemble['name']!r} is none of gbtree, dart and gblinear: train with one of those")
    objective, targets = (
        str(learner["objective"]["name"]),
        max(1, int(parameters["num_class"]), int(parameters.get("num_target", "1"))),
    )
    base = [float(value) for value in str(parameters["base_score"]).strip("[]").split(",")]
    if len(base) < targets or ensemble["name"] == "gblinear":  # which begins every target with the first one's
        base = base[:1] * targets
    trees = None
    if best_iteration is not None and ensemble["name"] != "gblinear":
        rounds = (ensemble["gbtree"] if ensemble["name"] == "dart" else ensemble)["model"].get("iteration_indptr")
        trees = None if rounds is None else int(rounds[min(best_iteration + 1, len(rounds) - 1)])
    return Xgboost(
        objective=objective,
        columns=int(parameters["num_feature"]),
        targets=targets,
        base=tuple(_margin(value, objective) for value in base),
        booster=ensemble,
        trees=trees,
    )


def _margin(base: float, objective: str) -> float:
    """The initial value of sums: the format stores it as an answer, behind the objective."""
    if objective in _LOGIT:
        return math.log(base / (1 - base))
    return math.log(base) if objective in _LOG else base


def _grow(forest: Forest, tree: Mapping[str, Any], target: int, weight: float) -> None:
    """Add one tree, without recursion, because trees may be deep."""
    sets, width = dict(_sets(tree)), int(tree["tree_param"].get("size_leaf_vector", "1"))
    lefts, rights = tree["left_children"], tree["right_children"]

    def leaf(at: int) -> int:
        if width > 1 and "leaf_weights" in tree:
            vector = tree["leaf_weights"][rights[at] * width : (rights[at] + 1) * width]
            return forest.leaf({place: value * weight for place, value in enumerate(vector)})
        if width > 1:
            vector = tree["base_weights"][at * width : (at + 1) * width]
            return forest.leaf({place: value * weight for place, value in enumerate(vector)})
        return forest.leaf({target: tree["split_conditions"][at] * weight})

    positions: dict[int, int] = {}
    ends: dict[int, list[int]] = {}
    order, waiting = [], [0]
    while waiting:
        at = waiting.pop()
        order.append(at)
        if lefts[at] < 0:
            positions[at] = leaf(at)
            continue
        column, to_left = tree["split_indices"][at], bool(tree["default_left"][at])
        if tree["split_type"][at] == 0:
            positions[at] = forest.branch(column, "BRANCH_LT", tree["split_conditions"][at], missing_true=to_left)
        else:  # one of a set goes right; what is missing may go there as well
            chain = [forest.branch(column, "BRANCH_EQ", value, missing_true=not to_left) for value in sets.get(at) or [-1]]
            positions[at], ends[at] = chain[0], chain
        waiting += [rights[at], lefts[at]]
    for at in order:
        if lefts[at] < 0:
            continue
        left_child, right = positions[lefts[at]], positions[rights[at]]
        if at not in ends:
            forest.children(positions[at], left_child, right)
            continue
        forest.chain(ends[at], right, left_child)


def _sets(tree: Mapping[str, Any]) -> Iterator[tuple[int, list[int]]]:
    """The categories that go right, by node."""
    for node, start, size in zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True):
        yield node, tree["categories"][start : start + size]
