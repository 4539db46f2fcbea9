"""Models in the file formats of XGBoost and LightGBM, which hold numbers and names and nothing that runs.

The formats hold no class names: labels are 0, 1, 2, ... even if the fitted classifier had strings.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.passes.convert.boosting import lightgbm_model, objectives, xgboost_model
from mlpack.passes.convert.boosting.lightgbm_model import Lightgbm
from mlpack.passes.convert.estimator import Estimator, Feed, quoted
from mlpack.passes.convert.trees import GraphPart

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx

    from mlpack.core.records import TensorSpec
    from mlpack.passes.convert.boosting.objectives import OutputRule
    from mlpack.passes.convert.boosting.xgboost_model import Xgboost

ML_OPSET = 3
"""The operator set of the domain of trees."""


def described(path: Path, inputs: tuple[TensorSpec, ...]) -> Estimator:
    """The model in a file, as an estimator. Raises PassError for a damaged file, wrong inputs and unknown objectives."""
    is_lightgbm = path.suffix == ".txt"
    name = "LightGBM" if is_lightgbm else "XGBoost"
    with quoted(f"{path.name} is no {name} model, or a damaged one"):
        booster = _lightgbm(path) if is_lightgbm else _xgboost(path)
    _check(booster, inputs, name)
    model = lightgbm_model.read(booster) if is_lightgbm else xgboost_model.read(booster)
    rule = rule_of(model)
    by_class = model.objective == "multi:softmax" and model.targets > 1
    ask = _ask_lightgbm if is_lightgbm else _ask_softmax if by_class else _ask_xgboost
    methods = {"predict": partial(_answer, ask, booster, rule, inputs[0].name, proba=False)}
    if rule.classes:
        methods["predict_proba"] = partial(_answer, ask, booster, rule, inputs[0].name, proba=True)
    return Estimator(
        name=f"{name} {model.objective}",
        inputs=inputs,
        methods=methods,
        label=rule.classes,
        ways=("float32",),
        convert=partial(_converted, model, inputs),
    )


def features(path: Path) -> int:
    """The number of columns that a model's file takes. Raises PassError where the file does not state it."""
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
    # Columns are known by their place here.
    booster.feature_names = None
    booster.feature_types = None
    return booster


def _check(booster: Any, inputs: tuple[TensorSpec, ...], name: str) -> None:
    columns = int(booster.num_feature() if name == "LightGBM" else booster.num_features())
    fits = len(inputs) == 1 and len(inputs[0].shape) == 2 and inputs[0].dtype == "float32"
    if not fits or inputs[0].shape[1] != columns:
        listed = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in inputs)
        raise PassError(
            f"the {name} model takes one input, float32 [batch, {columns}], not {listed}: leave `inputs` out, or say so"
        )


def rule_of(model: Lightgbm | Xgboost) -> OutputRule:
    """How the model's objective turns sums into answers. PassError for an unknown one."""
    return objectives.of_lightgbm(model) if isinstance(model, Lightgbm) else objectives.of_xgboost(model)


def _ask_lightgbm(booster: Any, rows: Any) -> Any:
    return booster.predict(rows)


def _ask_xgboost(booster: Any, rows: Any) -> Any:
    import xgboost

    return booster.predict(xgboost.DMatrix(rows), validate_features=False)


def _ask_softmax(booster: Any, rows: Any) -> Any:
    """Probabilities as of XGBoost's classifier; the library itself returns the class alone."""
    import numpy as np
    import xgboost

    margins = booster.predict(xgboost.DMatrix(rows), output_margin=True, validate_features=False)
    raised = np.exp(margins - margins.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _answer(ask: Callable[[Any, Any], Any], booster: Any, rule: OutputRule, name: str, feed: Feed, *, proba: bool) -> Any:
    """The library's answer in the form of its classifiers: probabilities by column of class, and the class."""
    import numpy as np

    answer = ask(booster, feed[name])
    if not rule.classes:
        return answer
    columns = np.stack([1 - answer, answer], axis=1) if rule.pair else answer
    if proba:
        return columns
    return (columns > 0.5).astype(np.int64) if rule.each else columns.argmax(axis=1)


def _converted(model: Lightgbm | Xgboost, inputs: tuple[TensorSpec, ...], _float64: bool, opset: int) -> onnx.ModelProto:
    from onnx import TensorProto, helper

    (spec,) = inputs
    part, rule = GraphPart(prefix=""), rule_of(model)
    sums = model.emit(part, spec.name)
    width = 2 if rule.pair else model.targets
    if rule.classes:
        objectives.labels(part, objectives.answers(part, sums, rule, "probabilities"), rule, "label")
        outputs = [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None, width] if rule.each else [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, width]),
        ]
    else:
        objectives.answers(part, sums, rule, "variable")
        outputs = [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, width])]
    graph_inputs = [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, [None, spec.shape[1]])]
    graph = helper.make_graph(part.nodes, "booster", graph_inputs, outputs, part.constants)
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8, producer_name="mlpack")
