"""Converters for scikit-learn's estimators that skl2onnx lacks or computes differently.

Promises:
- An estimator with a setting that is not known here is refused in words.
- The result is compared with the estimator like every other conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.passes.convert import functions
from mlpack.passes.convert.trees import GraphPart

if TYPE_CHECKING:
    Emit = Callable[[GraphPart, str, Any, str], str]

_FLOAT, _DOUBLE = 1, 11


def register() -> None:
    """Register these converters with skl2onnx."""
    from skl2onnx import update_registered_converter
    from sklearn import compose, decomposition, impute, isotonic, kernel_approximation, kernel_ridge, model_selection, preprocessing
    from sklearn.feature_extraction.text import TfidfTransformer

    rows: list[tuple[Any, Emit, Callable[[Any, int], int]]] = [
        (preprocessing.FunctionTransformer, _function, lambda _, width: width),
        (preprocessing.KBinsDiscretizer, _bins, _bins_width),
        (preprocessing.SplineTransformer, _splines, lambda kinds, _: int(kinds.n_features_out_)),
        (isotonic.IsotonicRegression, _isotonic, lambda *_: 1),
        (kernel_ridge.KernelRidge, _kernel_ridge, lambda kinds, _: kinds.dual_coef_.reshape(len(kinds.X_fit_), -1).shape[1]),
        (kernel_approximation.Nystroem, _nystroem, lambda kinds, _: len(kinds.components_)),
        (kernel_approximation.RBFSampler, _sampler, lambda kinds, _: int(kinds.n_components)),
        (decomposition.FastICA, _ica, lambda kinds, _: len(kinds.components_)),
    ]
    # By the name under which the converter of TfidfVectorizer asks for it.
    update_registered_converter(TfidfTransformer, "SklearnTfidfTransformer", _shapes(lambda _, width: width), _converter(_weighted))
    for kind, emit, width in rows:
        update_registered_converter(kind, f"Mlpack{kind.__name__}", _shapes(width), _converter(emit))
    _imputer(impute.SimpleImputer)
    update_registered_converter(compose.TransformedTargetRegressor, "MlpackTransformedTarget", _target_shapes, _target)
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
    for kind in (model_selection.FixedThresholdClassifier, model_selection.TunedThresholdClassifierCV):
        update_registered_converter(kind, f"Mlpack{kind.__name__}", _classifier_shapes, _threshold, options=options)


def _real(operator: Any) -> tuple[Any, str, int]:
    """The element type of results for these inputs: as skl2onnx's class, by numpy's name and by ONNX' number."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kinds = {type(each.type) for each in operator.inputs}
    return (FloatTensorType, "float32", _FLOAT) if kinds <= {FloatTensorType} else (DoubleTensorType, "float64", _DOUBLE)


def _width(operator: Any) -> int:
    return sum(int(each.type.shape[1]) if len(each.type.shape) > 1 and each.type.shape[1] else 1 for each in operator.inputs)


def _shapes(width: Callable[[Any, int], int]) -> Callable[[Any], None]:
    def calculate(operator: Any) -> None:
        rows = operator.inputs[0].get_first_dimension()
        operator.outputs[0].set_type(_real(operator)[0]([rows, width(operator.raw_operator, _width(operator))]))

    return calculate


def _converter(emit: Emit) -> Callable[[Any, Any, Any], None]:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        part = begun(scope)
        result = emit(part, table(part, operator), operator.raw_operator, _real(operator)[1])
        part.node("Identity", [result], operator.outputs[0].full_name)
        ended(part, container)

    return convert


def begun(scope: Any) -> GraphPart:
    """A part whose names are unique in skl2onnx's graph."""
    return GraphPart(prefix=f"{scope.get_unique_variable_name('mlpack')}_")


def ended(part: GraphPart, container: Any) -> None:
    """Add the part's nodes to skl2onnx's graph."""
    container.nodes.extend(part.nodes)
    container.initializers.extend(part.constants)
    container.node_domain_version_pair_sets |= {("", container.target_opset)}


def table(part: GraphPart, operator: Any) -> str:
    """All inputs joined by columns, float32 or float64."""
    kind, _, number = _real(operator)
    if any(type(each.type).__name__ == "StringTensorType" for each in operator.inputs):
        raise PassError(f"a {type(operator.raw_operator).__name__} takes numbers here, and was given words")
    each = [one.full_name if type(one.type) is kind else part.node("Cast", [one.full_name], to=number) for one in operator.inputs]
    name = each[0] if len(each) == 1 else part.node("Concat", each, axis=1)
    if len(operator.inputs) == 1 and len(operator.inputs[0].type.shape) == 1:
        return part.node("Reshape", [name, part.constant([-1, 1], "int64")])
    return name


def _function(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    if estimator.kw_args:
        raise PassError("a FunctionTransformer with kw_args cannot be seen through: do that step before the model")
    return functions.applied(part, estimator.func, source, dtype)


def _weighted(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    """Counts of words times their rarity. A count of zero has no logarithm."""
    weighted = source
    if estimator.sublinear_tf:
        some = part.node("Greater", [weighted, part.constant(0.0, dtype)])
        safe = part.node("Where", [some, weighted, part.constant(1.0, dtype)])
        logged = part.node("Add", [part.node("Log", [safe]), part.constant(1.0, dtype)])
        weighted = part.node("Where", [some, logged, part.constant(0.0, dtype)])
    if estimator.use_idf:
        weighted = part.node("Mul", [weighted, part.constant(estimator.idf_, dtype)])
    if estimator.norm is None:
        return weighted
    kind = "ReduceL1" if estimator.norm == "l1" else "ReduceL2"
    length = part.node(kind, [weighted], axes=[1], keepdims=1)
    empty = part.node("Equal", [length, part.constant(0.0, dtype)])
    return part.node("Div", [weighted, part.node("Where", [empty, part.constant(1.0, dtype), length])])


def _bins_width(estimator: Any, width: int) -> int:
    return width if estimator.encode == "ordinal" else int(sum(estimator.n_bins_))


def _bins(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    import numpy as np

    number = _FLOAT if dtype == "float32" else _DOUBLE
    places = functions.counted(part, source, [edges[1:-1] for edges in estimator.bin_edges_], dtype)
    if estimator.encode == "ordinal":
        return part.node("Cast", [places], to=number)
    column = np.repeat(np.arange(len(estimator.n_bins_)), estimator.n_bins_)
    value = np.concatenate([np.arange(count) for count in estimator.n_bins_])
    spread = part.node("Gather", [places, part.constant(column, "int64")], axis=1)
    return part.node("Cast", [part.node("Equal", [spread, part.constant(value[None], "int64")])], to=number)


def _splines(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    """Add spline features: each basis function is a polynomial between two knots, and constant or continued outside."""
    import numpy as np
    from scipy.interpolate import BSpline, PPoly

    if estimator.extrapolation not in ("constant", "continue", "error"):
        raise PassError(
            f"extrapolation={estimator.extrapolation!r} of SplineTransformer is not known here: use 'constant' or 'continue'"
        )
    columns = []
    for column, spline in enumerate(estimator.bsplines_):
        degree, count = spline.k, spline.c.shape[1]
        low, high = float(spline.t[degree]), float(spline.t[-degree - 1])
        each = [PPoly.from_spline(BSpline(spline.t, spline.c[:, basis], degree)) for basis in range(count)]
        knots = each[0].x
        inner = (knots[:-1] >= low) & (knots[:-1] < high) & (np.diff(knots) > 0)
        starts, powers = knots[:-1][inner], np.stack([piece.c[:, inner] for piece in each], axis=2)
        value = part.node("Gather", [source, part.constant([column], "int64")], axis=1)
        if estimator.extrapolation == "constant":
            value = part.node("Clip", [value, part.constant(low, dtype), part.constant(high, dtype)])
        at = functions.counted(part, value, [starts[1:]], dtype)
        along = part.node("Sub", [value, part.node("Gather", [part.constant(starts, dtype), at])])
        total = ""
        for power in range(degree + 1):  # the highest first, by Horner's rule
            term = part.node(
                "Gather", [part.constant(powers[power], dtype), part.node("Reshape", [at, part.constant([-1], "int64")])]
            )
            total = term if not total else part.node("Add", [part.node("Mul", [total, along]), term])
        width = count if estimator.include_bias else count - 1
        columns.append(part.node("Slice", [total, *(part.constant([each], "int64") for each in (0, width, 1))]))
    return columns[0] if len(columns) == 1 else part.node("Concat", columns, axis=1)


def _isotonic(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    xs, ys = estimator.X_thresholds_, estimator.y_thresholds_
    low, high = (part.constant(float(each), dtype) for each in (xs[0], xs[-1]))
    interpolated = functions.between(part, part.node("Clip", [source, low, high]), xs, ys, dtype)
    if estimator.out_of_bounds == "clip":
        return interpolated
    outside = part.node("Or", [part.node("Less", [source, low]), part.node("Greater", [source, high])])
    return part.node("Where", [outside, part.constant(float("nan"), dtype), interpolated])


def _kernel_ridge(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    weights = estimator.dual_coef_.reshape(len(estimator.X_fit_), -1)
    return part.node("MatMul", [functions.kernel(part, source, estimator.X_fit_, estimator, dtype), part.constant(weights, dtype)])


def _nystroem(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    products = functions.kernel(part, source, estimator.components_, estimator, dtype)
    return part.node("MatMul", [products, part.constant(estimator.normalization_.T, dtype)])


def _sampler(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    turned = part.node("MatMul", [source, part.constant(estimator.random_weights_, dtype)])
    waves = part.node("Cos", [part.node("Add", [turned, part.constant(estimator.random_offset_, dtype)])])
    return part.node("Mul", [waves, part.constant((2.0 / estimator.n_components) ** 0.5, dtype)])


def _ica(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    centred = part.node("Sub", [source, part.constant(estimator.mean_, dtype)]) if estimator.whiten else source
    return part.node("MatMul", [centred, part.constant(estimator.components_.T, dtype)])


def _imputer(kind: Any) -> None:
    """skl2onnx' own imputer omits the columns that say what was missing: they are appended."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common import _registration

    if getattr(_registration.get_converter("SklearnImputer"), "mlpack", False):
        return
    convert, shapes = _registration.get_converter("SklearnImputer"), _registration.get_shape_calculator("SklearnImputer")

    def own(estimator: Any) -> bool:
        return bool(estimator.add_indicator and estimator.indicator_ is not None and len(estimator.indicator_.features_))

    def output_shapes(operator: Any) -> None:
        if not own(operator.raw_operator):
            shapes(operator)
            return
        estimator, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
        kept_columns = _kept_columns(estimator)
        operator.outputs[0].set_type(_real(operator)[0]([rows, len(kept_columns) + len(estimator.indicator_.features_)]))

    def converted(scope: Any, operator: Any, container: Any) -> None:
        estimator = operator.raw_operator
        if not own(estimator):
            convert(scope, operator, container)
            return
        part, dtype = begun(scope), _real(operator)[1]
        imputed = _with_indicators(part, table(part, operator), estimator, dtype)
        part.node("Identity", [imputed], operator.outputs[0].full_name)
        ended(part, container)

    converted.mlpack = True  # type: ignore[attr-defined]
    update_registered_converter(kind, "SklearnImputer", output_shapes, converted)


def _kept_columns(estimator: Any) -> list[int]:
    """Columns that were not missing as a whole."""
    return [at for at, value in enumerate(estimator.statistics_) if value == value or estimator.keep_empty_features]


def _with_indicators(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    import numpy as np

    if estimator.missing_values == estimator.missing_values:
        holes = part.node("Equal", [source, part.constant(float(estimator.missing_values), dtype)])
    else:
        holes = part.node("IsNaN", [source])
    filled = part.node(
        "Where", [holes, part.constant(np.nan_to_num(estimator.statistics_.astype(np.float64))[None], dtype), source]
    )
    imputed = part.node("Gather", [filled, part.constant(_kept_columns(estimator), "int64")], axis=1)
    indicators = part.node("Gather", [holes, part.constant(estimator.indicator_.features_, "int64")], axis=1)
    flags = part.node("Cast", [indicators], to=_FLOAT if dtype == "float32" else _DOUBLE)
    return part.node("Concat", [imputed, flags], axis=1)


def _within(scope: Any, operator: Any, estimator: Any, outputs: int) -> list[str]:
    """Add an estimator that is inside another one, on the same inputs. Returns the names of its outputs."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common.data_types import Int64TensorType

    if type(estimator) not in sklearn_operator_name_map:
        raise PassError(f"skl2onnx cannot convert the {type(estimator).__name__} inside the {type(operator.raw_operator).__name__}")
    inner = scope.declare_local_operator(sklearn_operator_name_map[type(estimator)], estimator)
    inner.inputs = operator.inputs
    kinds = [_real(operator)[0]] if outputs == 1 else [Int64TensorType, _real(operator)[0]]
    for number, kind in enumerate(kinds):
        inner.outputs.append(scope.declare_local_variable(f"within{number}", kind()))
    return [each.full_name for each in inner.outputs]


def _target_shapes(operator: Any) -> None:
    operator.outputs[0].set_type(_real(operator)[0]([operator.inputs[0].get_first_dimension(), 1]))


def _target(scope: Any, operator: Any, container: Any) -> None:
    """Add a regressor of a transformed target, with its answer transformed back."""
    estimator, part, dtype = operator.raw_operator, begun(scope), _real(operator)[1]
    (inner,) = _within(scope, operator, estimator.regressor_, 1)
    turned = _turned_back(part, inner, estimator.transformer_, dtype)
    part.node("Reshape", [turned, part.constant([-1, 1], "int64")], operator.outputs[0].full_name)
    ended(part, container)


def _turned_back(part: GraphPart, source: str, estimator: Any, dtype: str) -> str:
    kind = type(estimator).__name__
    if kind == "FunctionTransformer":
        return functions.applied(part, estimator.inverse_func, source, dtype)
    if kind == "StandardScaler":
        scale = estimator.scale_ if estimator.with_std else 1.0
        scaled = part.node("Mul", [source, part.constant(scale, dtype)])
        return part.node("Add", [scaled, part.constant(estimator.mean_ if estimator.with_mean else 0.0, dtype)])
    if kind == "MinMaxScaler":
        return part.node(
            "Div", [part.node("Sub", [source, part.constant(estimator.min_, dtype)]), part.constant(estimator.scale_, dtype)]
        )
    raise PassError(f"a target transformed by {kind} is not known here: use func and inverse_func of numpy, or a StandardScaler")


def _classifier_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    estimator, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    words = estimator.classes_.dtype.kind in "UO"
    operator.outputs[0].set_type((StringTensorType if words else Int64TensorType)([rows]))
    operator.outputs[1].set_type(_real(operator)[0]([rows, len(estimator.classes_)]))


def _threshold(scope: Any, operator: Any, container: Any) -> None:
    """Add a classifier of two classes with a threshold that the user or a search chose."""
    from onnx import helper

    estimator, part, dtype = operator.raw_operator, begun(scope), _real(operator)[1]
    method = getattr(estimator, "response_method", "auto")
    if method == "decision_function" or not hasattr(estimator.estimator_, "predict_proba"):
        raise PassError("a threshold on decision_function is not known here: set response_method='predict_proba'")
    _, scores = _within(scope, operator, estimator.estimator_, 2)
    label = 1 if getattr(estimator, "pos_label", None) is None else list(estimator.classes_).index(estimator.pos_label)
    if hasattr(estimator, "best_threshold_"):
        limit = float(estimator.best_threshold_)
    else:
        limit = 0.5 if estimator.threshold == "auto" else float(estimator.threshold)
    chosen = part.node("Gather", [scores, part.constant(label, "int64")], axis=1)
    over = part.node("GreaterOrEqual", [chosen, part.constant(functions.not_below(limit, dtype), dtype)])
    number = part.node("Where", [over, part.constant(label, "int64"), part.constant(1 - label, "int64")])
    words, name = estimator.classes_.dtype.kind in "UO", f"{part.prefix}classes"
    values = [str(each).encode() if words else int(each) for each in estimator.classes_]
    part.constants.append(helper.make_tensor(name, 8 if words else 7, [2], values))
    part.node("Gather", [name, number], operator.outputs[0].full_name)
    part.node("Identity", [scores], operator.outputs[1].full_name)
    ended(part, container)
