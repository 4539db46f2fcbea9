"""Trees of any library as ONNX's operator takes them, and what that operator lacks: linear leaves, and zeros that mean "missing".

Promises:
- The graph's answer is the sum of the leaves that a row reaches, in float32, one column for each target.
- A threshold is the float32 that decides on every float32 as the library's own number does.
- A set of categories is a chain of questions, in the one form in which the engine accepts a node with several parents: from
  their true side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

ZERO = 1e-35
"""LightGBM treats numbers up to this size as zero."""


@dataclass(slots=True)
class GraphPart:
    """Nodes and constants with unique names: `name` makes one that is unique in the graph that receives them."""

    prefix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node. Returns the name of its output."""
        from onnx import helper

        result = output or f"{self.prefix}{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [result], name=f"{self.prefix}node{len(self.nodes)}", **attributes))
        return result

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """Add a constant. Returns its name."""
        import numpy as np
        from onnx import numpy_helper

        name = f"{self.prefix}constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name


_FIELDS = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true")


@dataclass(slots=True)
class Forest:
    """Trees whose leaves add up. `columns`: the numbers in a row; `targets`: the number of sums.

    Trees are numbered by `tree()`. `branch` and `leaf` return the number of a node in the last tree; `children` sets the
    children of a branch once they are known. The first node of a tree is its root.
    """

    columns: int
    targets: int
    linear: bool = False
    zero_missing: set[int] = field(default_factory=set)
    whole: set[int] = field(default_factory=set)
    """Columns of categories of which only what stands before the point counts."""
    nodes: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _FIELDS})
    leaves: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in ("treeids", "nodeids", "ids", "weights")})
    _tree: int = -1
    _count: int = 0
    _start: int = 0

    def tree(self) -> None:
        """Begin the next tree."""
        self._tree, self._count, self._start = self._tree + 1, 0, len(self.nodes["treeids"])

    def branch(self, column: int, mode: str, value: float, *, missing_true: bool) -> int:
        """Add a question; `children` sets its children later."""
        return self._add(column, mode, value, missing_true)

    def children(self, node: int, true: int, false: int) -> None:
        """Set the children of a branch of the last tree."""
        self.nodes["truenodeids"][self._start + node] = true
        self.nodes["falsenodeids"][self._start + node] = false

    def chain(self, branches: Sequence[int], true: int, false: int) -> None:
        """Set the children of branches that ask one after the other: `true` for any that is true, `false` behind the last."""
        for node, behind in zip(branches, [*branches[1:], false], strict=True):
            self.children(node, true, behind)

    def leaf(self, weights: dict[int, float]) -> int:
        """Add a leaf: what it adds, by target (in a forest of linear leaves by coefficient, see `coefficient`)."""
        number = self._add(0, "LEAF", 0.0, missing_true=False)
        for target, weight in weights.items() or ((0, 0.0),):
            for name, value in zip(self.leaves, (self._tree, number, target, float(weight)), strict=True):
                self.leaves[name].append(value)
        return number

    def coefficient(self, target: int, column: int | None) -> int:
        """The number under which a leaf gives the coefficient of a column, or its constant (None)."""
        return target * (self.columns + 1) + (self.columns if column is None else column)

    def _add(self, column: int, mode: str, value: float, missing_true: bool) -> int:
        row = (self._tree, self._count, column, mode, value, 0, 0, int(missing_true))
        for name, each in zip(_FIELDS, row, strict=True):
            self.nodes[name].append(each)
        self._count += 1
        return self._count - 1

    def emit(self, part: GraphPart, source: str, dtype: str = "float32") -> str:
        """Add the sum of the trees on the columns `source` (of `dtype`, float32 or float64) to `part`. Returns its name. It has the
        shape [rows, targets] and is float32; linear leaves compute in float32 as well."""
        if dtype != "float32" and (self.linear or self.zero_missing):
            source, dtype = part.node("Cast", [source], to=1), "float32"
        features = self._zeros_missing(part, source) if self.zero_missing else source
        features = self._cut(part, features) if self.whole else features
        count = self.targets * (self.columns + 1) if self.linear else self.targets
        attributes: dict[str, Any] = {f"nodes_{name}": values for name, values in self.nodes.items() if name != "values"}
        attributes |= {f"target_{name}": values for name, values in self.leaves.items() if name != "weights"}
        attributes |= self._numbers(dtype)
        sums = part.node(
            "TreeEnsembleRegressor", [features], domain="ai.onnx.ml", n_targets=count, post_transform="NONE", **attributes
        )
        return self._linear(part, source, sums) if self.linear else sums

    def _numbers(self, dtype: str) -> dict[str, Any]:
        """Thresholds and the values of leaves, in the type of the columns."""
        import numpy as np
        from onnx import numpy_helper

        values, weights = self.nodes["values"], self.leaves["weights"]
        if dtype == "float32":
            pairs = zip(self.nodes["modes"], values, strict=True)
            values = [below(value) if mode == "BRANCH_LEQ" else float(value) for mode, value in pairs]
            return {"nodes_values": values, "target_weights": weights}
        tensors = {"nodes_values_as_tensor": values, "target_weights_as_tensor": weights}
        return {name: numpy_helper.from_array(np.asarray(each, dtype=np.float64), name) for name, each in tensors.items()}

    def _zeros_missing(self, part: GraphPart, source: str) -> str:
        """Columns in which zero means missing, as the trees read them."""
        where = [[column in self.zero_missing for column in range(self.columns)]]
        small = part.node("LessOrEqual", [part.node("Abs", [source]), part.constant(ZERO)])
        zeros = part.node("And", [small, part.constant(where, "bool")])
        return part.node("Where", [zeros, part.constant(float("nan")), source])

    def _cut(self, part: GraphPart, source: str) -> str:
        """Columns of categories, truncated to whole numbers."""
        where = [[column in self.whole for column in range(self.columns)]]
        cut = part.node("Mul", [part.node("Sign", [source]), part.node("Floor", [part.node("Abs", [source])])])
        return part.node("Where", [part.constant(where, "bool"), cut, source])

    def _linear(self, part: GraphPart, source: str, coefficients: str) -> str:
        """The rows times the coefficients of the leaves that they reach. A coefficient of zero adds nothing, whatever the value."""
        filled = part.node("Where", [part.node("IsNaN", [source]), part.constant(0.0), source])
        padded = part.node("Pad", [filled, part.constant([0, 0, 0, 1], "int64"), part.constant(1.0)])
        row = part.node("Unsqueeze", [padded, part.constant([1], "int64")])
        each = part.node("Reshape", [coefficients, part.constant([-1, self.targets, self.columns + 1], "int64")])
        unused = part.node("Equal", [each, part.constant(0.0)])
        product = part.node("Where", [unused, part.constant(0.0), part.node("Mul", [each, row])])
        return part.node("ReduceSum", [product, part.constant([2], "int64")], keepdims=0)


def below(value: float) -> float:
    """The largest float32 that is not above: `x <= value` has the same answer for every float32."""
    import numpy as np

    with np.errstate(over="ignore"):
        nearest = np.float32(value)
    return float(np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > value else nearest)
