"""scikit-learn's estimators: their own answers, and their conversion by skl2onnx (XGBoost's and LightGBM's in pipelines, too)."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.convert import graph, lacking, scaling, texts, thresholds
from mlpack.passes.convert.boosting import boosted
from mlpack.passes.convert.estimator import Estimator, Feed, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from mlpack.core.records import TensorSpec

_METHODS = ("predict", "predict_proba", "decision_function", "transform", "score_samples", "predict_log_proba")
_TYPES = {
    "float32": "FloatTensorType", "float64": "DoubleTensorType", "int64": "Int64TensorType", "int32": "Int32TensorType",
    "bool": "BooleanTensorType", files.STRING: "StringTensorType", "uint8": "UInt8TensorType", "int8": "Int8TensorType",
    "int16": "Int16TensorType", "uint16": "UInt16TensorType", "uint32": "UInt32TensorType", "uint64": "UInt64TensorType",
    "float16": "Float16TensorType",
}  # fmt: skip


_IMPUTER_OPSET = 18
"""The operator set that skl2onnx needs for KNNImputer."""


def described(estimator: Any, inputs: tuple[TensorSpec, ...]) -> Estimator:
    """The function's result as an estimator. Raises PassError when it is none, or was not fitted."""
    from sklearn.base import BaseEstimator, is_classifier
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    name = type(estimator).__name__
    if not isinstance(estimator, BaseEstimator):
        raise PassError(f"the function returned a {name}, which is no scikit-learn estimator")
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise PassError(f"the function returned a {name} that was not fitted: call fit() before returning it") from None
    except TypeError:
        pass  # an estimator that has nothing to fit
    methods = {method: partial(_answer, estimator, method, inputs) for method in _METHODS if hasattr(estimator, method)}
    if not methods:
        raise PassError(f"a {name} has none of {', '.join(_METHODS)}: there is nothing to ask it")
    clusters = getattr(estimator, "_estimator_type", None) in ("clusterer", "outlier_detector") or hasattr(
        estimator, "cluster_centers_"
    )
    floats = any(spec.dtype == "float32" for spec in inputs)
    return Estimator(
        name=name,
        inputs=inputs,
        methods=methods,
        label=is_classifier(estimator) or clusters or _detects(estimator),
        ways=("float32", "float64") if floats else ("float64",),
        convert=partial(_converted, estimator, inputs),
    )


def _detects(estimator: Any) -> bool:
    from sklearn.base import is_outlier_detector

    return bool(is_outlier_detector(estimator))


def _answer(estimator: Any, method: str, inputs: tuple[TensorSpec, ...], feed: Feed) -> Any:
    """A method's answer as an array; as a list of arrays where every target has its own."""
    import numpy as np

    columns = _columns(estimator, inputs, feed)
    with quoted(f"{type(estimator).__name__}.{method} on the evaluation data"):
        try:
            answer = getattr(estimator, method)(columns)
        except (AttributeError, ValueError, TypeError):
            other = _otherwise(columns, inputs)
            if other is None:
                raise
            answer = getattr(estimator, method)(other)
    if isinstance(answer, list):  # of several targets, each with classes of its own
        return [np.asarray(each) for each in answer]
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)


def _otherwise(columns: Any, inputs: tuple[TensorSpec, ...]) -> Any:
    """The same values in another form, for estimators that refuse the first; None where there is none."""
    if len(inputs) == 1 and inputs[0].dtype == files.STRING and columns.ndim == 2:
        return columns.ravel()  # vectorizers take documents, not a column of them
    if getattr(columns, "dtype", None) == "float32":
        return columns.astype("float64")  # clusterings take the type alone that they were fitted on
    return None


def _columns(estimator: Any, inputs: tuple[TensorSpec, ...], feed: Feed) -> Any:
    """The inputs as the table that the estimator was fitted on: a data frame where it knows names, else one array."""
    import numpy as np

    arrays = [feed[spec.name] for spec in inputs]
    if len(arrays) == 1 and arrays[0].ndim != 2:
        return arrays[0]
    blocks = [array.reshape(len(array), -1) for array in arrays]
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None and sum(block.shape[1] for block in blocks) == len(names):
        try:
            import pandas as pd
        except ModuleNotFoundError:
            pass
        else:
            flat = [block[:, at] for block in blocks for at in range(block.shape[1])]
            input_names = [spec.name for spec in inputs]
            columns = input_names if len(input_names) == len(names) and set(input_names) == set(names) else list(names)
            return pd.DataFrame(dict(zip(columns, flat, strict=True)))[list(names)]
    if len(blocks) == 1:
        return blocks[0]
    same = len({block.dtype for block in blocks}) == 1
    return np.hstack(blocks if same else [block.astype(object) for block in blocks])


def _converted(estimator: Any, inputs: tuple[TensorSpec, ...], float64: bool, opset: int) -> onnx.ModelProto:
    from skl2onnx import convert_sklearn
    from skl2onnx.common import data_types

    while hasattr(estimator, "best_estimator_"):  # a search answers as the best that it found
        estimator = estimator.best_estimator_
    types = []
    for spec in inputs:
        dtype = "float64" if float64 and spec.dtype == "float32" else spec.dtype
        free = [axis if isinstance(axis, int) else None for axis in spec.shape]
        types.append((spec.name, getattr(data_types, _TYPES[dtype])(free)))
    if any(type(part).__name__ == "KNNImputer" for part in thresholds.parts(estimator)):
        opset = max(opset, _IMPUTER_OPSET)
    options: dict[str, Any] = {"initial_types": types, "target_opset": {"": opset, "ai.onnx.ml": 3}}
    with quoted(f"skl2onnx cannot convert this {type(estimator).__name__}"), _mended(), _converters_way(estimator):
        _register()
        words = texts.options(thresholds.parts(estimator))
        try:
            model = convert_sklearn(estimator, options={id(estimator): {"zipmap": False}, **words}, **options)
        except NameError:  # what is no classifier has no such option
            model = convert_sklearn(estimator, options=words, **options)
    graph.targets_apart(model, estimator.classes_ if isinstance(getattr(estimator, "classes_", None), list) else [])
    thresholds.mend(model, thresholds.of_parts(estimator))
    thresholds.mend_missing(model, thresholds.parts(estimator))
    if not float64:
        scaling.mend(model, thresholds.parts(estimator))
    return model


@contextmanager
def _converters_way(estimator: Any) -> Iterator[None]:
    """A context with settings that skl2onnx requires and that do not affect the result: `flatten_transform` concerns transform()
    alone."""
    changed = [part for part in thresholds.parts(estimator) if getattr(part, "flatten_transform", None) is True]
    for part in changed:
        part.flatten_transform = False
    try:
        yield
    finally:
        for part in changed:
            part.flatten_transform = True


@contextmanager
def _mended() -> Iterator[None]:
    """A context that corrects two faults of skl2onnx. It hands numpy's scalars to onnx, which from protobuf 6 on accepts only
    Python's for some of them. And it searches without end for the float64 nearest to an infinite threshold (a tree's split of
    missing values)."""
    import numpy as np
    from skl2onnx.common import _container, tree_ensemble

    original, threshold = _container.make_node, tree_ensemble.sklearn_threshold

    def finite(dy: Any, dtype: Any, mode: Any) -> Any:
        return threshold(dy, dtype, mode) if np.isfinite(dy) else dy

    def plain(value: Any) -> Any:
        if isinstance(value, np.bool_):
            return int(value)
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufUO":
            return [plain(item) for item in value.tolist()]
        return int(value) if isinstance(value, bool) else value

    def make_node(*args: Any, **attributes: Any) -> Any:
        return original(*args, **{name: plain(value) for name, value in attributes.items()})

    _container.make_node, tree_ensemble.sklearn_threshold = make_node, finite
    try:
        yield
    finally:
        _container.make_node, tree_ensemble.sklearn_threshold = original, threshold


def _register() -> None:
    """Register converters that skl2onnx lacks or has otherwise, and the option by which pipelines switch dictionaries off, for the
    one classifier whose converter does not know it."""
    from skl2onnx.common import _registration

    boosted.register()
    lacking.register()
    _registration.get_converter("SklearnLinearSVC").get_allowed_options().setdefault("zipmap", [True, False, "columns"])
