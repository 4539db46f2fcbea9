"""Models in the formats of XGBoost and LightGBM: numbers and names, nothing that runs. Converted by onnxmltools.

The formats hold no class names: labels are 0, 1, 2, ... even where the classifier that was fitted had strings.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.passes.convert import objectives, thresholds
from mlpack.passes.convert.sources import Estimator, Feed, quoted

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from mlpack.records import TensorSpec


def described(path: Path, inputs: tuple[TensorSpec, ...]) -> Estimator:
    """The model of a file. Raises PassError for a file that is damaged, or inputs that it does not take."""
    is_lightgbm = path.suffix == ".txt"
    name = "LightGBM" if is_lightgbm else "XGBoost"
    with quoted(f"{path.name} is no {name} model, or a damaged one"):
        booster = _lightgbm(path) if is_lightgbm else _xgboost(path)
    _check(booster, inputs, name)
    objective = _lightgbm_objective(booster) if is_lightgbm else _xgboost_objective(booster)
    ask = _ask_lightgbm if is_lightgbm else _ask_xgboost
    classes = objective.startswith("multi") or objective in ("binary", "binary:logistic")
    methods = {"predict": partial(ask, booster, objective, inputs[0].name, proba=False)}
    if classes:
        methods["predict_proba"] = partial(ask, booster, objective, inputs[0].name, proba=True)
    return Estimator(
        name=f"{name} {objective}",
        inputs=inputs,
        methods=methods,
        label=classes,
        ways=("float32",),
        convert=partial(_converted, booster, inputs, is_lightgbm),
    )


def features(path: Path) -> int:
    """How many columns a model's file takes. Raises PassError where the file does not say."""
    if path.suffix == ".txt":
        with path.open("rb") as stream:
            for _ in range(64):
                line = stream.readline(1 << 16)
                if line.startswith(b"max_feature_idx=") and line[16:].strip().isdigit():
                    return int(line[16:]) + 1
        raise PassError(f"{path.name} is no LightGBM model, or a damaged one: no max_feature_idx among its first lines")
    with quoted(f"{path.name} is no XGBoost model, or a damaged one"):
        return int(_xgboost(path).num_features())


def _lightgbm(path: Path) -> Any:
    import lightgbm

    return lightgbm.Booster(model_file=str(path))


def _xgboost(path: Path) -> Any:
    import xgboost

    booster = xgboost.Booster({"nthread": 1, "verbosity": 0})
    booster.load_model(path)
    # Columns are known by their place here; the converter reads names as numbers.
    booster.feature_names = None
    booster.feature_types = None
    return booster


def _check(booster: Any, inputs: tuple[TensorSpec, ...], name: str) -> None:
    columns = int(booster.num_feature() if name == "LightGBM" else booster.num_features())
    fits = len(inputs) == 1 and len(inputs[0].shape) == 2 and inputs[0].dtype == "float32"
    if not fits or inputs[0].shape[1] != columns:
        said = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in inputs)
        raise PassError(f"the {name} model takes one input, float32 [batch, {columns}], not {said}: leave `inputs` out, or say so")


def _lightgbm_objective(booster: Any) -> str:
    said = str(booster.dump_model(num_iteration=1).get("objective", "")).split()
    return said[0] if said else "none"


def _xgboost_objective(booster: Any) -> str:
    import json

    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def _ask_lightgbm(booster: Any, objective: str, name: str, feed: Feed, *, proba: bool) -> Any:
    found = booster.predict(feed[name])
    return _decided(found, objective, proba=proba)


def _ask_xgboost(booster: Any, objective: str, name: str, feed: Feed, *, proba: bool) -> Any:
    import numpy as np
    import xgboost

    margin = objective == "multi:softmax" and proba
    found = booster.predict(xgboost.DMatrix(feed[name]), output_margin=margin, validate_features=False)
    if objective == "multi:softmax":
        if not proba:
            return found.astype(np.int64)
        raised = np.exp(found - found.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)
    return _decided(found, objective, proba=proba)


def _decided(found: Any, objective: str, *, proba: bool) -> Any:
    """Probabilities as columns of classes, and the class that they decide for, as the libraries' own classifiers do."""
    import numpy as np

    if not objective.startswith("multi") and objective not in ("binary", "binary:logistic"):
        return found
    columns = found if found.ndim == 2 else np.stack([1 - found, found], axis=1)
    if proba:
        return columns
    return columns.argmax(axis=1) if found.ndim == 2 else (found > 0.5).astype(np.int64)


def _converted(booster: Any, inputs: tuple[TensorSpec, ...], is_lightgbm: bool, _float64: bool, opset: int) -> onnx.ModelProto:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    (spec,) = inputs
    said: dict[str, Any] = {"initial_types": [(spec.name, FloatTensorType([None, spec.shape[1]]))], "target_opset": opset}
    with quoted("onnxmltools cannot convert this model"):
        if is_lightgbm:
            plain, becomes, factor = objectives.plain_lightgbm(booster) or (booster, "", 1.0)
            model = onnxmltools.convert_lightgbm(plain, zipmap=False, **said)
            thresholds.mend(model, thresholds.of_lightgbm(booster))
        else:
            plain, becomes = objectives.plain_xgboost(booster, _xgboost_objective(booster)) or (booster, "")
            model, factor = onnxmltools.convert_xgboost(plain, **said), 1.0
        objectives.finish(model, becomes, factor)
    return model

