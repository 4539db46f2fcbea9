"""Turns a booster's sums into what the libraries' own `predict` returns for an objective: classes and probabilities, or numbers.

Promises:
- An objective in neither table is refused with a list of the known ones; nothing is guessed.

ONNX's own operator for classifiers is not used: where all leaves are positive, it compares with 0.5 before the sigmoid, not
after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpack.errors import PassError

if TYPE_CHECKING:
    from mlpack.passes.convert.boosting.lightgbm_model import Lightgbm
    from mlpack.passes.convert.boosting.xgboost_model import Xgboost
    from mlpack.passes.convert.trees import GraphPart

_XGBOOST = {
    "binary:logistic": "sigmoid", "reg:logistic": "sigmoid", "binary:logitraw": "same", "binary:hinge": "step",
    "multi:softmax": "softmax", "multi:softprob": "softmax", "count:poisson": "exp", "reg:gamma": "exp", "reg:tweedie": "exp",
    "survival:cox": "exp", "survival:aft": "exp", "reg:squarederror": "same", "reg:squaredlogerror": "same",
    "reg:pseudohubererror": "same", "reg:absoluteerror": "same", "reg:quantileerror": "same", "reg:expectileerror": "same",
    "rank:ndcg": "same", "rank:pairwise": "same", "rank:map": "same",
}  # fmt: skip
_LIGHTGBM = {
    "binary": "sigmoid", "multiclass": "softmax", "multiclassova": "sigmoid", "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "softplus", "poisson": "exp", "gamma": "exp", "tweedie": "exp", "regression": "same",
    "regression_l1": "same", "huber": "same", "fair": "same", "quantile": "same", "mape": "same", "lambdarank": "same",
    "rank_xendcg": "same", "none": "same", "custom": "same",
}  # fmt: skip
_FLOAT, _INT64 = 1, 7
_CLASSES = ("binary:logistic", "multi:softmax", "multi:softprob", "binary", "multiclass", "multiclassova")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRule:
    """How sums become answers. `link`: the function of each; `factor`: the factor before it; `classes`: whether the answers are
    classes; `pair`: whether one sum decides between two; `each`: whether every column is a yes or no of its own."""

    link: str
    factor: float = 1.0
    classes: bool = False
    pair: bool = False
    each: bool = False


def of_xgboost(model: Xgboost) -> OutputRule:
    """Raises PassError for an objective that is not known."""
    link = _look_up(_XGBOOST, model.objective, "XGBoost")
    classes, one = model.objective in _CLASSES, model.targets == 1
    return OutputRule(link=link, classes=classes, pair=classes and one, each=classes and link == "sigmoid" and not one)


def of_lightgbm(model: Lightgbm) -> OutputRule:
    """Raises PassError for an objective that is not known."""
    link = _look_up(_LIGHTGBM, model.objective, "LightGBM")
    if link == "same" and "sqrt" in model.parameters:
        link = "square"
    classes = model.objective in _CLASSES
    return OutputRule(
        link=link, factor=float(model.parameters.get("sigmoid") or 1.0), classes=classes, pair=classes and model.targets == 1
    )


def _look_up(table: Mapping[str, str], objective: str, library: str) -> str:
    if objective not in table:
        raise PassError(f"objective {objective!r} of {library} is not known here (known: {', '.join(sorted(table))})")
    return table[objective]


def answers(part: GraphPart, sums: str, rule: OutputRule, output: str = "") -> str:
    """Add the objective's answer to sums [rows, targets]; two classes get both columns. Returns the tensor's name, `output` if
    given."""
    scaled = sums if rule.factor == 1.0 else part.node("Mul", [sums, part.constant(rule.factor)])
    if rule.link == "square":
        return part.node("Mul", [scaled, part.node("Abs", [scaled])], output)
    if rule.link == "step":
        return part.node("Cast", [part.node("Greater", [scaled, part.constant(0.0)])], output, to=_FLOAT)
    if rule.link == "softmax":
        return part.node("Softmax", [scaled], output, axis=1)
    kind = {"same": "Identity", "sigmoid": "Sigmoid", "exp": "Exp", "softplus": "Softplus"}[rule.link]
    if not rule.pair:
        return part.node(kind, [scaled], output)
    second = part.node(kind, [scaled])
    return part.node("Concat", [part.node("Sub", [part.constant(1.0), second]), second], output, axis=1)


def labels(part: GraphPart, probabilities: str, rule: OutputRule, output: str = "") -> str:
    """Add the number of the class that probabilities decide for: [rows], or [rows, targets] where each column decides."""
    if rule.each:
        return part.node("Cast", [part.node("Greater", [probabilities, part.constant(0.5)])], output, to=_INT64)
    return part.node("ArgMax", [probabilities], output, axis=1, keepdims=0)
