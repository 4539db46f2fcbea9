"""scikit-learn's histogram boosting: its trees, with sets of categories and missing and unknown values, and its loss.

Promises:
- A category is compared by its number in the user's column, not by the number that the estimator uses inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.passes.convert.boosting.objectives import OutputRule
from mlpack.passes.convert.trees import Forest, GraphPart

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """A fitted estimator. `columns`: by internal column, the column of the table; `categories`: by internal column."""

    estimator: Any
    targets: int
    columns: tuple[int, ...]
    categories: Mapping[int, tuple[float, ...]]

    def emit(self, part: GraphPart, source: str, dtype: str = "float32") -> str:
        """The sums of the columns `source` (float32 or float64), before the loss' own function: a tensor [rows, targets]."""
        import numpy as np

        forest = Forest(columns=len(self.columns), targets=self.targets)
        for row in self.estimator._predictors:
            for target, tree in enumerate(row):
                forest.tree()
                self._grow(forest, tree, target)
        base = np.asarray(self.estimator._baseline_prediction, dtype=np.float32).reshape(1, -1)
        return part.node("Add", [forest.emit(part, source, dtype), part.constant(base)])

    def _grow(self, forest: Forest, tree: Any, target: int) -> None:
        nodes = tree.nodes
        positions: dict[int, int] = {}
        chains: dict[int, tuple[list[int], bool]] = {}
        waiting, order = [0], []
        while waiting:
            at = waiting.pop()
            node = nodes[at]
            if node["is_leaf"]:
                positions[at] = forest.leaf({target: float(node["value"])})
                continue
            order.append(at)
            waiting += [int(node["right"]), int(node["left"])]
            column, missing_left = int(node["feature_idx"]), bool(node["missing_go_to_left"])
            if not node["is_categorical"]:
                number = forest.branch(self.columns[column], "BRANCH_LEQ", float(node["num_threshold"]), missing_true=missing_left)
                positions[at], chains[at] = number, ([number], True)
                continue
            # Missing and unknown values go to one side with the categories that have no test: tests name the other side.
            values = [value for value, is_left in self._sides(column, tree, node) if is_left != missing_left] or [float("-inf")]
            chain = [forest.branch(self.columns[column], "BRANCH_EQ", value, missing_true=False) for value in values]
            positions[at], chains[at] = chain[0], (chain, not missing_left)
        for at in order:
            chain, to_left = chains[at]
            left_child, right_child = positions[int(nodes[at]["left"])], positions[int(nodes[at]["right"])]
            yes, no = (left_child, right_child) if to_left else (right_child, left_child)
            forest.chain(chain, yes, no)

    def _sides(self, column: int, tree: Any, node: Any) -> list[tuple[float, bool]]:
        """Each category of a column, and whether it goes left."""
        bits = tree.raw_left_cat_bitsets[int(node["bitset_idx"])]
        return [
            (value, bool(int(bits[code // 32]) >> (code % 32) & 1)) for code, value in enumerate(self.categories.get(column, ()))
        ]


def read(estimator: Any) -> Histogram:
    """Read a fitted estimator. PassError for categories that are no numbers."""
    import numpy as np

    count, categories = int(estimator.n_features_in_), {}
    columns = list(range(count))
    if getattr(estimator, "_preprocessor", None) is not None:
        at = np.arange(count)
        columns = [int(each) for each in np.concatenate([at[estimator.is_categorical_], at[~estimator.is_categorical_]])]
        for column, known_categories in enumerate(estimator._preprocessor.named_transformers_["encoder"].categories_):
            try:
                numbers = known_categories.astype(np.float64)
            except (TypeError, ValueError):
                raise PassError(
                    f"column {columns[column]} has categories that are words: put an OrdinalEncoder before the boosting, and name"
                    " its columns in categorical_features"
                ) from None
            categories[column] = tuple(float(value) for value in numbers if not np.isnan(value))
    return Histogram(
        estimator=estimator, targets=int(estimator.n_trees_per_iteration_), columns=tuple(columns), categories=categories
    )


def rule_of(model: Histogram) -> OutputRule:
    """How its loss turns sums into answers."""
    if hasattr(model.estimator, "classes_"):
        one = model.targets == 1
        return OutputRule(link="sigmoid" if one else "softmax", classes=True, pair=one)
    return OutputRule(link="exp" if "Log" in type(model.estimator._loss.link).__name__ else "same")
