"""Converters of boosted estimators (XGBoost, LightGBM, scikit-learn's histograms) for skl2onnx, alone or in a pipeline.

Promises:
- They use the same trees and objectives as the libraries' own files. In a graph of float64 thresholds are float64; sums are
  float32 in both. Labels are the estimator's own classes.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.passes.convert.boosting import histogram_model, lightgbm_model, objectives, xgboost_model
from mlpack.passes.convert.boosting.boosters import ML_OPSET, rule_of
from mlpack.passes.convert.trees import GraphPart

if TYPE_CHECKING:
    from mlpack.passes.convert.boosting.histogram_model import Histogram
    from mlpack.passes.convert.boosting.lightgbm_model import Lightgbm
    from mlpack.passes.convert.boosting.objectives import OutputRule
    from mlpack.passes.convert.boosting.xgboost_model import Xgboost

    Boosted = Histogram | Lightgbm | Xgboost

_OPTIONS = {"nocl": [True, False], "zipmap": [True, False, "columns"], "output_class_labels": [False, True]}
_FLOAT, _INT64, _DOUBLE = 1, 7, 11


def register() -> None:
    """Register these converters with skl2onnx, for the libraries that are installed."""
    from skl2onnx import update_registered_converter
    from sklearn import ensemble

    raw = _OPTIONS | {"raw_scores": [True, False]}
    kinds: list[tuple[Any, str, dict[str, Any] | None]] = [
        (ensemble.HistGradientBoostingClassifier, "MlpackHistogramClassifier", raw),
        (ensemble.HistGradientBoostingRegressor, "MlpackHistogramRegressor", None),
    ]
    if find_spec("lightgbm") is not None:
        import lightgbm

        kinds.append((lightgbm.LGBMClassifier, "MlpackLgbmClassifier", _OPTIONS))
        kinds += [(each, f"Mlpack{each.__name__}", None) for each in (lightgbm.LGBMRegressor, lightgbm.LGBMRanker)]
    if find_spec("xgboost") is not None:
        import xgboost

        kinds += [(each, f"Mlpack{each.__name__}", _OPTIONS) for each in (xgboost.XGBClassifier, xgboost.XGBRFClassifier)]
        plain = (xgboost.XGBRegressor, xgboost.XGBRFRegressor, xgboost.XGBRanker)
        kinds += [(each, f"Mlpack{each.__name__}", None) for each in plain]
    for kind, alias, options in kinds:
        update_registered_converter(kind, alias, _shapes, _convert, options=options)


def _read(estimator: Any) -> tuple[Boosted, OutputRule]:
    """The model in a fitted estimator, as far as its own `predict` uses it."""
    if type(estimator).__module__.startswith("sklearn."):
        model = histogram_model.read(estimator)
        return model, histogram_model.rule_of(model)
    if type(estimator).__module__.startswith("lightgbm."):
        booster: Lightgbm | Xgboost = lightgbm_model.read(estimator.booster_)
    else:
        best = estimator.best_iteration if getattr(estimator, "early_stopping_rounds", None) else None
        booster = xgboost_model.read(estimator.get_booster(), best)
    rule = rule_of(booster)
    if hasattr(estimator, "classes_") != rule.classes:
        raise PassError(f"objective {booster.objective!r} says no class probabilities, as a {type(estimator).__name__} needs them")
    return booster, rule


def _shapes(operator: Any) -> None:
    """Declare two outputs of a classifier, one of a regressor, in the type of the table."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

    model, rule = _read(operator.raw_operator)
    rows = operator.inputs[0].get_first_dimension()
    floats = DoubleTensorType if isinstance(operator.inputs[0].type, DoubleTensorType) else FloatTensorType
    width = 2 if rule.pair else model.targets
    if not rule.classes:
        operator.outputs[0].set_type(floats([rows, width]))
        return
    words = _classes(operator.raw_operator).dtype.kind in "UO" and not rule.each
    operator.outputs[0].set_type((StringTensorType if words else Int64TensorType)([rows, width] if rule.each else [rows]))
    operator.outputs[1].set_type(floats([rows, width]))


def _classes(estimator: Any) -> Any:
    import numpy as np

    return np.asarray(estimator.classes_)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    estimator = operator.raw_operator
    model, rule = _read(estimator)
    part = GraphPart(prefix=f"{scope.get_unique_variable_name('boosted')}_")
    columns, dtype = _columns(part, operator, estimator)
    sums = model.emit(part, columns, dtype)
    last = operator.outputs[-1]
    kind = _DOUBLE if type(last.type).__name__ == "DoubleTensorType" else _FLOAT
    raw = (
        "raw_scores" in container._get_allowed_options(estimator)
        and container.get_options(estimator, {"raw_scores": False})["raw_scores"]
    )
    answer = objectives.answers(part, sums, rule)
    if rule.classes:
        _labels(part, operator.outputs[0].full_name, objectives.labels(part, answer, rule), estimator, rule)
    if raw:
        answer = part.node("Concat", [part.node("Neg", [sums]), sums], axis=1) if rule.pair else sums
    part.node("Cast", [answer], last.full_name, to=kind)
    container.nodes.extend(part.nodes)
    container.initializers.extend(part.constants)
    container.node_domain_version_pair_sets |= {("", container.target_opset), ("ai.onnx.ml", ML_OPSET)}


def _columns(part: GraphPart, operator: Any, estimator: Any) -> tuple[str, str]:
    """The table as the trees read it, and its type. XGBoost always reads float32."""
    if len(operator.inputs) != 1:
        raise PassError(
            f"a {type(estimator).__name__} takes one table here: put a ColumnTransformer(remainder='passthrough') before it"
        )
    source, kind = operator.inputs[0].full_name, type(operator.inputs[0].type).__name__
    if kind == "StringTensorType":
        raise PassError(f"a {type(estimator).__name__} takes numbers: encode the columns of words before it")
    if type(estimator).__module__.startswith("xgboost."):
        missing = getattr(estimator, "missing", None)
        source = source if kind == "FloatTensorType" else part.node("Cast", [source], to=_FLOAT)
        if missing is not None and missing == missing:  # a number that stands for missing
            holes = part.node("Equal", [source, part.constant(missing)])
            source = part.node("Where", [holes, part.constant(float("nan")), source])
        return source, "float32"
    if kind == "FloatTensorType":
        return source, "float32"
    if kind == "DoubleTensorType":
        return source, "float64"
    return part.node("Cast", [source], to=_DOUBLE), "float64"


def _labels(part: GraphPart, output: str, numbers: str, estimator: Any, rule: OutputRule) -> None:
    """Map class numbers to the estimator's own classes."""
    classes = _classes(estimator)
    if rule.each:
        part.node("Identity", [numbers], output)
        return
    from onnx import helper

    name = f"{part.prefix}classes"
    if classes.dtype.kind in "UO":
        words = [str(each).encode() for each in classes]
        part.constants.append(helper.make_tensor(name, 8, [len(words)], words))
    else:
        part.constants.append(helper.make_tensor(name, _INT64, [len(classes)], [int(each) for each in classes]))
    part.node("Gather", [name, numbers], output)
