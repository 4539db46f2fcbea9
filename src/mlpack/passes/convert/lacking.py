"""scikit-learn's estimators that skl2onnx lacks, or has otherwise than they compute: what each makes of its table, as nodes.

Promises: where an estimator has settings that are not known here, it is refused in words. Whatever is written here is compared with
the estimator like everything else.
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
    """Makes these converters skl2onnx's."""
    from skl2onnx import update_registered_converter
    from sklearn import compose, decomposition, impute, isotonic, kernel_approximation, kernel_ridge, model_selection, preprocessing
    from sklearn.feature_extraction.text import TfidfTransformer

    rows: list[tuple[Any, Emit, Callable[[Any, int], int]]] = [
        (preprocessing.FunctionTransformer, _function, lambda _, width: width),
        (preprocessing.KBinsDiscretizer, _bins, _bins_width),
        (preprocessing.SplineTransformer, _splines, lambda made, _: int(made.n_features_out_)),
        (isotonic.IsotonicRegression, _isotonic, lambda *_: 1),
        (kernel_ridge.KernelRidge, _kernel_ridge, lambda made, _: made.dual_coef_.reshape(len(made.X_fit_), -1).shape[1]),
        (kernel_approximation.Nystroem, _nystroem, lambda made, _: len(made.components_)),
        (kernel_approximation.RBFSampler, _sampler, lambda made, _: int(made.n_components)),
        (decomposition.FastICA, _ica, lambda made, _: len(made.components_)),
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
    """The type of what comes out for these inputs, by skl2onnx's class, by numpy's name and by ONNX' number."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kinds = {type(each.type) for each in operator.inputs}
    return (FloatTensorType, "float32", _FLOAT) if kinds <= {FloatTensorType} else (DoubleTensorType, "float64", _DOUBLE)


def _width(operator: Any) -> int:
    return sum(int(each.type.shape[1]) if len(each.type.shape) > 1 and each.type.shape[1] else 1 for each in operator.inputs)


def _shapes(width: Callable[[Any, int], int]) -> Callable[[Any], None]:
    def said(operator: Any) -> None:
        rows = operator.inputs[0].get_first_dimension()
        operator.outputs[0].set_type(_real(operator)[0]([rows, width(operator.raw_operator, _width(operator))]))

    return said


def _converter(emit: Emit) -> Callable[[Any, Any, Any], None]:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        part = begun(scope)
        found = emit(part, table(part, operator), operator.raw_operator, _real(operator)[1])
        part.node("Identity", [found], operator.outputs[0].full_name)
        ended(part, container)

    return convert


def begun(scope: Any) -> GraphPart:
    """Nodes with names that are unique in skl2onnx's graph."""
    return GraphPart(prefix=f"{scope.get_unique_variable_name('mlpack')}_")


def ended(part: GraphPart, container: Any) -> None:
    """The nodes go into skl2onnx's graph."""
    container.nodes.extend(part.nodes)
    container.initializers.extend(part.constants)
    container.node_domain_version_pair_sets |= {("", container.target_opset)}


def table(part: GraphPart, operator: Any) -> str:
    """All inputs beside each other, float32 or float64."""
    kind, _, number = _real(operator)
    if any(type(each.type).__name__ == "StringTensorType" for each in operator.inputs):
        raise PassError(f"a {type(operator.raw_operator).__name__} takes numbers here, and was given words")
    each = [one.full_name if type(one.type) is kind else part.node("Cast", [one.full_name], to=number) for one in operator.inputs]
    name = each[0] if len(each) == 1 else part.node("Concat", each, axis=1)
    if len(operator.inputs) == 1 and len(operator.inputs[0].type.shape) == 1:
        return part.node("Reshape", [name, part.constant([-1, 1], "int64")])
    return name


def _function(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    if made.kw_args:
        raise PassError("a FunctionTransformer with kw_args cannot be seen through: do that step before the model")
    return functions.applied(part, made.func, given, dtype)


def _weighted(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    """Counts of words by how rare these are. Of counts that are zero no logarithm is taken."""
    found = given
    if made.sublinear_tf:
        some = part.node("Greater", [found, part.constant(0.0, dtype)])
        safe = part.node("Where", [some, found, part.constant(1.0, dtype)])
        logged = part.node("Add", [part.node("Log", [safe]), part.constant(1.0, dtype)])
        found = part.node("Where", [some, logged, part.constant(0.0, dtype)])
    if made.use_idf:
        found = part.node("Mul", [found, part.constant(made.idf_, dtype)])
    if made.norm is None:
        return found
    kind = "ReduceL1" if made.norm == "l1" else "ReduceL2"
    length = part.node(kind, [found], axes=[1], keepdims=1)
    empty = part.node("Equal", [length, part.constant(0.0, dtype)])
    return part.node("Div", [found, part.node("Where", [empty, part.constant(1.0, dtype), length])])


def _bins_width(made: Any, width: int) -> int:
    return width if made.encode == "ordinal" else int(sum(made.n_bins_))


def _bins(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    import numpy as np

    number = _FLOAT if dtype == "float32" else _DOUBLE
    places = functions.counted(part, given, [edges[1:-1] for edges in made.bin_edges_], dtype)
    if made.encode == "ordinal":
        return part.node("Cast", [places], to=number)
    column = np.repeat(np.arange(len(made.n_bins_)), made.n_bins_)
    value = np.concatenate([np.arange(count) for count in made.n_bins_])
    spread = part.node("Gather", [places, part.constant(column, "int64")], axis=1)
    return part.node("Cast", [part.node("Equal", [spread, part.constant(value[None], "int64")])], to=number)


def _splines(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    """Each basis function is a polynomial between two knots; outside it stays as it is there, or goes on."""
    import numpy as np
    from scipy.interpolate import BSpline, PPoly

    if made.extrapolation not in ("constant", "continue", "error"):
        raise PassError(
            f"extrapolation={made.extrapolation!r} of SplineTransformer is not known here: use 'constant' or 'continue'"
        )
    found = []
    for column, spline in enumerate(made.bsplines_):
        degree, count = spline.k, spline.c.shape[1]
        low, high = float(spline.t[degree]), float(spline.t[-degree - 1])
        each = [PPoly.from_spline(BSpline(spline.t, spline.c[:, basis], degree)) for basis in range(count)]
        knots = each[0].x
        inner = (knots[:-1] >= low) & (knots[:-1] < high) & (np.diff(knots) > 0)
        starts, powers = knots[:-1][inner], np.stack([piece.c[:, inner] for piece in each], axis=2)
        value = part.node("Gather", [given, part.constant([column], "int64")], axis=1)
        if made.extrapolation == "constant":
            value = part.node("Clip", [value, part.constant(low, dtype), part.constant(high, dtype)])
        at = functions.counted(part, value, [starts[1:]], dtype)
        along = part.node("Sub", [value, part.node("Gather", [part.constant(starts, dtype), at])])
        total = ""
        for power in range(degree + 1):  # the highest first, by Horner's rule
            term = part.node(
                "Gather", [part.constant(powers[power], dtype), part.node("Reshape", [at, part.constant([-1], "int64")])]
            )
            total = term if not total else part.node("Add", [part.node("Mul", [total, along]), term])
        kept = count if made.include_bias else count - 1
        found.append(part.node("Slice", [total, *(part.constant([each], "int64") for each in (0, kept, 1))]))
    return found[0] if len(found) == 1 else part.node("Concat", found, axis=1)


def _isotonic(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    xs, ys = made.X_thresholds_, made.y_thresholds_
    low, high = (part.constant(float(each), dtype) for each in (xs[0], xs[-1]))
    found = functions.between(part, part.node("Clip", [given, low, high]), xs, ys, dtype)
    if made.out_of_bounds == "clip":
        return found
    outside = part.node("Or", [part.node("Less", [given, low]), part.node("Greater", [given, high])])
    return part.node("Where", [outside, part.constant(float("nan"), dtype), found])


def _kernel_ridge(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    weights = made.dual_coef_.reshape(len(made.X_fit_), -1)
    return part.node("MatMul", [functions.kernel(part, given, made.X_fit_, made, dtype), part.constant(weights, dtype)])


def _nystroem(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    found = functions.kernel(part, given, made.components_, made, dtype)
    return part.node("MatMul", [found, part.constant(made.normalization_.T, dtype)])


def _sampler(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    turned = part.node("MatMul", [given, part.constant(made.random_weights_, dtype)])
    waves = part.node("Cos", [part.node("Add", [turned, part.constant(made.random_offset_, dtype)])])
    return part.node("Mul", [waves, part.constant((2.0 / made.n_components) ** 0.5, dtype)])


def _ica(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    centred = part.node("Sub", [given, part.constant(made.mean_, dtype)]) if made.whiten else given
    return part.node("MatMul", [centred, part.constant(made.components_.T, dtype)])


def _imputer(kind: Any) -> None:
    """skl2onnx' own, which leaves out the columns that say what was missing: they are put behind."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common import _registration

    if getattr(_registration.get_converter("SklearnImputer"), "mlpack", False):
        return
    convert, shapes = _registration.get_converter("SklearnImputer"), _registration.get_shape_calculator("SklearnImputer")

    def own(made: Any) -> bool:
        return bool(made.add_indicator and made.indicator_ is not None and len(made.indicator_.features_))

    def said(operator: Any) -> None:
        if not own(operator.raw_operator):
            shapes(operator)
            return
        made, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
        kept = _kept(made)
        operator.outputs[0].set_type(_real(operator)[0]([rows, len(kept) + len(made.indicator_.features_)]))

    def converted(scope: Any, operator: Any, container: Any) -> None:
        made = operator.raw_operator
        if not own(made):
            convert(scope, operator, container)
            return
        part, dtype = begun(scope), _real(operator)[1]
        found = _with_indicators(part, table(part, operator), made, dtype)
        part.node("Identity", [found], operator.outputs[0].full_name)
        ended(part, container)

    converted.mlpack = True  # type: ignore[attr-defined]
    update_registered_converter(kind, "SklearnImputer", said, converted)


def _kept(made: Any) -> list[int]:
    """Columns that were not missing as a whole."""
    return [at for at, value in enumerate(made.statistics_) if value == value or made.keep_empty_features]


def _with_indicators(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    import numpy as np

    if made.missing_values == made.missing_values:
        holes = part.node("Equal", [given, part.constant(float(made.missing_values), dtype)])
    else:
        holes = part.node("IsNaN", [given])
    filled = part.node("Where", [holes, part.constant(np.nan_to_num(made.statistics_.astype(np.float64))[None], dtype), given])
    kept = part.node("Gather", [filled, part.constant(_kept(made), "int64")], axis=1)
    asked = part.node("Gather", [holes, part.constant(made.indicator_.features_, "int64")], axis=1)
    flags = part.node("Cast", [asked], to=_FLOAT if dtype == "float32" else _DOUBLE)
    return part.node("Concat", [kept, flags], axis=1)


def _within(scope: Any, operator: Any, made: Any, outputs: int) -> list[str]:
    """An estimator inside another one, on the same inputs: the names of what it gives."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common.data_types import Int64TensorType

    if type(made) not in sklearn_operator_name_map:
        raise PassError(f"skl2onnx cannot convert the {type(made).__name__} inside the {type(operator.raw_operator).__name__}")
    inner = scope.declare_local_operator(sklearn_operator_name_map[type(made)], made)
    inner.inputs = operator.inputs
    kinds = [_real(operator)[0]] if outputs == 1 else [Int64TensorType, _real(operator)[0]]
    for number, kind in enumerate(kinds):
        inner.outputs.append(scope.declare_local_variable(f"within{number}", kind()))
    return [each.full_name for each in inner.outputs]


def _target_shapes(operator: Any) -> None:
    operator.outputs[0].set_type(_real(operator)[0]([operator.inputs[0].get_first_dimension(), 1]))


def _target(scope: Any, operator: Any, container: Any) -> None:
    """A regressor of a transformed target: what it says, turned back."""
    made, part, dtype = operator.raw_operator, begun(scope), _real(operator)[1]
    (found,) = _within(scope, operator, made.regressor_, 1)
    turned = _turned_back(part, found, made.transformer_, dtype)
    part.node("Reshape", [turned, part.constant([-1, 1], "int64")], operator.outputs[0].full_name)
    ended(part, container)


def _turned_back(part: GraphPart, given: str, made: Any, dtype: str) -> str:
    kind = type(made).__name__
    if kind == "FunctionTransformer":
        return functions.applied(part, made.inverse_func, given, dtype)
    if kind == "StandardScaler":
        scale = made.scale_ if made.with_std else 1.0
        scaled = part.node("Mul", [given, part.constant(scale, dtype)])
        return part.node("Add", [scaled, part.constant(made.mean_ if made.with_mean else 0.0, dtype)])
    if kind == "MinMaxScaler":
        return part.node("Div", [part.node("Sub", [given, part.constant(made.min_, dtype)]), part.constant(made.scale_, dtype)])
    raise PassError(f"a target transformed by {kind} is not known here: use func and inverse_func of numpy, or a StandardScaler")


def _classifier_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    made, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    words = made.classes_.dtype.kind in "UO"
    operator.outputs[0].set_type((StringTensorType if words else Int64TensorType)([rows]))
    operator.outputs[1].set_type(_real(operator)[0]([rows, len(made.classes_)]))


def _threshold(scope: Any, operator: Any, container: Any) -> None:
    """Two classes, decided where the user or a search says."""
    from onnx import helper

    made, part, dtype = operator.raw_operator, begun(scope), _real(operator)[1]
    method = getattr(made, "response_method", "auto")
    if method == "decision_function" or not hasattr(made.estimator_, "predict_proba"):
        raise PassError("a threshold on decision_function is not known here: set response_method='predict_proba'")
    _, scores = _within(scope, operator, made.estimator_, 2)
    label = 1 if getattr(made, "pos_label", None) is None else list(made.classes_).index(made.pos_label)
    if hasattr(made, "best_threshold_"):
        limit = float(made.best_threshold_)
    else:
        limit = 0.5 if made.threshold == "auto" else float(made.threshold)
    chosen = part.node("Gather", [scores, part.constant(label, "int64")], axis=1)
    over = part.node("GreaterOrEqual", [chosen, part.constant(functions.not_below(limit, dtype), dtype)])
    number = part.node("Where", [over, part.constant(label, "int64"), part.constant(1 - label, "int64")])
    words, name = made.classes_.dtype.kind in "UO", f"{part.prefix}classes"
    values = [str(each).encode() if words else int(each) for each in made.classes_]
    part.constants.append(helper.make_tensor(name, 8 if words else 7, [2], values))
    part.node("Gather", [name, number], operator.outputs[0].full_name)
    part.node("Identity", [scores], operator.outputs[1].full_name)
    ended(part, container)
