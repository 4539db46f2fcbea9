"""numpy's functions of one array as nodes, and parts that several converters share: interpolation and kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError

if TYPE_CHECKING:
    from mlpack.passes.convert.trees import GraphPart

_PLAIN = {
    "log": "Log", "exp": "Exp", "sqrt": "Sqrt", "abs": "Abs", "absolute": "Abs", "fabs": "Abs", "sin": "Sin", "cos": "Cos",
    "tan": "Tan", "tanh": "Tanh", "negative": "Neg", "reciprocal": "Reciprocal", "sign": "Sign", "floor": "Floor",
    "ceil": "Ceil", "rint": "Round", "arctan": "Atan", "arcsin": "Asin", "arccos": "Acos", "sinh": "Sinh", "cosh": "Cosh",
    "positive": "Identity",
}  # fmt: skip


def applied(part: GraphPart, function: Any, source: str, dtype: str) -> str:
    """A numpy function of an array, in the array's type; None is the identity. PassError for any other function."""
    import numpy as np

    if function is None:
        return source
    name = str(getattr(function, "__name__", ""))
    if getattr(np, name, None) is not function:
        raise PassError(
            f"it calls the function {name or function!r}, whose steps cannot be seen: numpy's own ({', '.join(names())}) can be"
            " written as a graph; do anything else before the model, in the package's `preprocess` hook"
        )
    if name in _PLAIN:
        return part.node(_PLAIN[name], [source])
    emitters: dict[str, Callable[[], str]] = {
        "log1p": lambda: part.node("Log", [part.node("Add", [source, part.constant(1.0, dtype)])]),
        "expm1": lambda: part.node("Sub", [part.node("Exp", [source]), part.constant(1.0, dtype)]),
        "square": lambda: part.node("Mul", [source, source]),
        "cbrt": lambda: _cube_root(part, source, dtype),
        "log2": lambda: part.node("Div", [part.node("Log", [source]), part.constant(np.log(2.0), dtype)]),
        "log10": lambda: part.node("Div", [part.node("Log", [source]), part.constant(np.log(10.0), dtype)]),
        "exp2": lambda: part.node("Pow", [part.constant(2.0, dtype), source]),
    }
    if name not in emitters:
        raise PassError(f"it calls numpy's {name}, which is not known here (known: {', '.join(names())})")
    return emitters[name]()


def names() -> list[str]:
    """The numpy functions that can be written as a graph."""
    return sorted([*_PLAIN, "log1p", "expm1", "square", "cbrt", "log2", "log10", "exp2"])


def _cube_root(part: GraphPart, source: str, dtype: str) -> str:
    size = part.node("Pow", [part.node("Abs", [source]), part.constant(1 / 3, dtype)])
    return part.node("Mul", [part.node("Sign", [source]), size])


def not_below(edges: Any, dtype: str) -> Any:
    """Float64 edges as numbers of the type, such that `x >= edge` has the same answer for each x of that type."""
    import numpy as np

    edges = np.asarray(edges, dtype=np.float64)
    if dtype == "float64":
        return edges
    nearest = edges.astype(np.float32)
    return np.where(nearest.astype(np.float64) < edges, np.nextafter(nearest, np.float32(np.inf)), nearest)


def counted(part: GraphPart, source: str, edges: Any, dtype: str) -> str:
    """How many edges of its column each value [rows, columns] has reached, int64. `edges`: a list for each column."""
    import numpy as np

    longest = max(1, *(len(each) for each in edges))
    table = np.full((1, len(edges), longest), np.nan)
    for column, each in enumerate(edges):
        table[0, column, : len(each)] = not_below(each, dtype)
    values = part.node("Unsqueeze", [source, part.constant([2], "int64")])
    reached = part.node("Cast", [part.node("GreaterOrEqual", [values, part.constant(table, dtype)])], to=7)
    return part.node("ReduceSum", [reached, part.constant([2], "int64")], keepdims=0)


def between(part: GraphPart, source: str, xs: Any, ys: Any, dtype: str) -> str:
    """Linear interpolation of (xs, ys), at values [rows, 1] that are within them."""
    import numpy as np

    xs, ys = np.asarray(xs, dtype=np.float64), np.asarray(ys, dtype=np.float64)
    if len(xs) == 1:
        return part.node("Add", [part.node("Mul", [source, part.constant(0.0, dtype)]), part.constant(ys, dtype)])
    slopes = np.diff(ys) / np.diff(xs)
    at = counted(part, source, [xs[1:-1]], dtype)
    start, base, slope = (part.node("Gather", [part.constant(each, dtype), at]) for each in (xs[:-1], ys[:-1], slopes))
    return part.node("Add", [base, part.node("Mul", [part.node("Sub", [source, start]), slope])])


def kernel(part: GraphPart, source: str, rows: Any, estimator: Any, dtype: str) -> str:
    """scikit-learn's pairwise kernel of values [n, columns] and the rows of a fitted estimator: [n, rows]."""
    import numpy as np

    rows = np.asarray(rows, dtype=np.float64)
    gamma = 1.0 / rows.shape[1] if estimator.gamma is None else float(estimator.gamma)
    if estimator.kernel == "rbf":
        unsqueezed = part.node("Unsqueeze", [source, part.constant([1], "int64")])
        apart = part.node("Sub", [unsqueezed, part.constant(rows[None], dtype)])
        squares = part.node("ReduceSum", [part.node("Mul", [apart, apart]), part.constant([2], "int64")], keepdims=0)
        return part.node("Exp", [part.node("Mul", [squares, part.constant(-gamma, dtype)])])
    product = part.node("MatMul", [source, part.constant(rows.T, dtype)])
    if estimator.kernel == "linear":
        return product
    if estimator.kernel not in ("poly", "polynomial", "sigmoid"):
        raise PassError(f"kernel {estimator.kernel!r} is not known here: use rbf, linear, poly or sigmoid")
    offset = 1.0 if estimator.coef0 is None else float(estimator.coef0)
    scaled = part.node("Add", [part.node("Mul", [product, part.constant(gamma, dtype)]), part.constant(offset, dtype)])
    if estimator.kernel == "sigmoid":
        return part.node("Tanh", [scaled])
    return part.node("Pow", [scaled, part.constant(3.0 if estimator.degree is None else float(estimator.degree), dtype)])
