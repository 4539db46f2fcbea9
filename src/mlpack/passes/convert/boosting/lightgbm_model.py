"""Reads LightGBM's own format: trees of numbers and sets of categories, with constant or linear leaves.

Promises:
- It reads what the library dumps of a loaded model. Thresholds are float64 there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.passes.convert.trees import Forest, GraphPart

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Lightgbm:
    """A model of LightGBM: `targets` sums a row, which `objective` with its parameters turns into answers."""

    objective: str
    parameters: Mapping[str, str]
    columns: int
    targets: int
    trees: tuple[Mapping[str, Any], ...]
    averaged: bool
    """Whether the trees' mean counts, and not their sum (random forests)."""

    def emit(self, part: GraphPart, source: str, dtype: str = "float32") -> str:
        """The sums of the columns `source` (float32 or float64), before the objective: the name of a tensor [rows, targets]."""
        forest = Forest(columns=self.columns, targets=self.targets, linear=_linear(self.trees))
        share = self.targets / len(self.trees) if self.averaged and self.trees else 1.0
        kinds: dict[int, set[str]] = {}
        for number, tree in enumerate(self.trees):
            forest.tree()
            _grow(forest, tree, number % self.targets, share, kinds)
        forest.zero_missing = {column for column, kind in kinds.items() if "Zero" in kind}
        if mixed := sorted(column for column in forest.zero_missing if len(kinds[column]) > 1):
            raise PassError(f"zero stands for missing in some splits of column {mixed[0]} and not in others: train it in one piece")
        return forest.emit(part, source, dtype)


def read(booster: Any) -> Lightgbm:
    """Read a loaded model, up to its best iteration."""
    dumped = booster.dump_model()
    words = str(dumped.get("objective", "")).split()
    parameters = dict(word.partition(":")[::2] for word in words[1:])
    return Lightgbm(
        objective=words[0] if words else "none",
        parameters=parameters,
        columns=int(dumped["max_feature_idx"]) + 1,
        targets=int(dumped["num_tree_per_iteration"]),
        trees=tuple(each["tree_structure"] for each in dumped["tree_info"]),
        averaged=bool(re.search(r"(?m)^average_output$", booster.model_to_string(num_iteration=1))),
    )


def _linear(trees: tuple[Mapping[str, Any], ...]) -> bool:
    waiting = list(trees)
    while waiting:
        node = waiting.pop()
        if node.get("leaf_coeff"):
            return True
        waiting += [node[side] for side in ("left_child", "right_child") if side in node]
    return False


def _grow(forest: Forest, tree: Mapping[str, Any], target: int, share: float, kinds: dict[int, set[str]]) -> None:
    """Add one tree, without recursion. The meaning of missing values in each column's splits is added to `kinds`."""
    waiting: list[tuple[Mapping[str, Any], list[int], bool]] = [(tree, [], False)]
    links: dict[int, dict[bool, int]] = {}
    while waiting:
        node, parents, side = waiting.pop()
        if "left_child" not in node:
            number = _leaf(forest, node, target, share)
        else:
            number, asking, last = _branch(forest, node, kinds, links)
            waiting += [(node["right_child"], [last], False), (node["left_child"], asking, True)]
        for parent in parents:
            links.setdefault(parent, {})[side] = number
    for parent, sides in links.items():
        forest.children(parent, sides[True], sides[False])


def _branch(
    forest: Forest, node: Mapping[str, Any], kinds: dict[int, set[str]], links: dict[int, dict[bool, int]]
) -> tuple[int, list[int], int]:
    """Add a split. Returns its number, the questions that lead left when true, and the one that leads right when false."""
    column = int(node["split_feature"])
    if node["decision_type"] == "==":
        # A missing value is in no set. The questions are chained by their false sides.
        forest.whole.add(column)
        values = str(node["threshold"]).split("||")
        chain = [forest.branch(column, "BRANCH_EQ", float(value), missing_true=False) for value in values]
        for one, following in pairwise(chain):
            links.setdefault(one, {})[False] = following
        return chain[0], chain, chain[-1]
    kinds.setdefault(column, set()).add(str(node["missing_type"]))
    threshold = float(node["threshold"])
    # If nothing was missing in training, a missing value counts as zero.
    missing_left = threshold >= 0 if node["missing_type"] == "None" else bool(node["default_left"])
    number = forest.branch(column, "BRANCH_LEQ", threshold, missing_true=missing_left)
    return number, [number], number


def _leaf(forest: Forest, node: Mapping[str, Any], target: int, share: float) -> int:
    """Add a leaf; a linear one gets questions before it whether a column is missing, in which case its constant is the answer."""
    value = float(node["leaf_value"]) * share
    if not forest.linear:
        return forest.leaf({target: value})
    columns = [int(column) for column in node.get("leaf_features", ())]
    if not columns:  # its constant counts even here, where no line could be fitted and it may be another number than the value
        return forest.leaf({forest.coefficient(target, None): float(node.get("leaf_const", node["leaf_value"])) * share})
    tests = [forest.branch(column, "BRANCH_LEQ", float("inf"), missing_true=False) for column in columns]
    ends = [forest.leaf({forest.coefficient(target, None): value}) for _ in columns]
    weights = {forest.coefficient(target, None): float(node["leaf_const"]) * share}
    for column, factor in zip(columns, node["leaf_coeff"], strict=True):
        weights[forest.coefficient(target, column)] = float(factor) * share
    last = forest.leaf(weights)
    for place, number in enumerate(tests):
        forest.children(number, tests[place + 1] if place + 1 < len(tests) else last, ends[place])
    return tests[0]
