"""What an objective makes of the sum of a booster's trees, written behind a graph that gives the sum.

Converters know some objectives, and ONNX's own operator for classifiers has a rule of its own: where all leaves are positive, a
class is what lies above 0.5 before the sigmoid, not after it. So where there is one sum a row, it is asked for as a regression is.
Promises: says of an objective whether it is known here; everything else is left to the converter, and to the comparison.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_LOGISTIC = ("binary:logistic", "reg:logistic")
_XGBOOST = {
    "binary:logistic": "classes", "reg:logistic": "sigmoid", "binary:logitraw": "same", "binary:hinge": "step",
    "rank:ndcg": "same", "rank:pairwise": "same", "rank:map": "same",
}  # fmt: skip
_LIGHTGBM = {"binary": "classes", "cross_entropy": "sigmoid", "regression": "same"}


def plain_xgboost(booster: Any, objective: str) -> tuple[Any, str] | None:
    """The booster as a regression, and what its sum becomes; None where the converter is asked as it is."""
    import xgboost

    if objective == "multi:softmax":
        return _renamed(booster, "multi:softprob", None), ""
    if objective not in _XGBOOST:
        return None
    said = json.loads(booster.save_raw("json"))["learner"]
    if int(said["learner_model_param"].get("num_target", "1")) > 1 or said["gradient_booster"]["name"] != "gbtree":
        return None
    assert isinstance(booster, xgboost.Booster)
    base = float(str(said["learner_model_param"]["base_score"]).strip("[]"))
    if objective in _LOGISTIC:
        base = math.log(base / (1 - base))
    return _renamed(booster, "reg:squarederror", base), _XGBOOST[objective]


def _renamed(booster: Any, name: str, base: float | None) -> Any:
    import xgboost

    model = json.loads(booster.save_raw("json"))
    model["learner"]["objective"] = {**model["learner"]["objective"], "name": name}
    if base is not None:
        model["learner"]["objective"] = {"name": name, "reg_loss_param": {"scale_pos_weight": "1"}}
        model["learner"]["learner_model_param"]["base_score"] = repr(base)
    made = xgboost.Booster({"nthread": 1, "verbosity": 0})
    made.load_model(bytearray(json.dumps(model).encode()))
    made.feature_names = made.feature_types = None
    return made


def plain_lightgbm(booster: Any) -> tuple[Any, str, float] | None:
    """The booster as a regression, what its sum becomes, and a factor before that; None as above."""
    import lightgbm

    text = booster.model_to_string()
    found = re.search(r"(?m)^objective=(\S+)(.*)$", text)
    if found is None or found[1] not in _LIGHTGBM:
        return None
    factor = 1.0 / booster.num_trees() if re.search(r"(?m)^average_output$", text) else 1.0
    becomes = "square" if found[1] == "regression" and "sqrt" in found[2].split() else _LIGHTGBM[found[1]]
    if slope := re.search(r"sigmoid:(\S+)", found[2]):
        factor *= float(slope[1])
    if becomes == "same" and factor == 1.0:
        return None
    text = text[: found.start()] + "objective=regression" + text[found.end() :]
    text = re.sub(r"(?m)^\[objective: .*\]$", "[objective: regression]", text)
    return lightgbm.Booster(model_str=re.sub(r"(?m)^average_output\n", "", text)), becomes, factor


def finish(model: onnx.ModelProto, becomes: str, factor: float = 1.0) -> None:
    """Puts behind the one output of `model`, a sum a row, what the objective makes of it."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    if not becomes:
        return
    (output,) = model.graph.output
    name, nodes = "sum", []
    _call_output(model.graph, output.name, name)
    constants = {"factor": factor, "half": 0.5, "zero": 0.0, "one": 1.0}
    if factor != 1.0:
        nodes.append(helper.make_node("Mul", [name, "factor"], ["scaled"], name="scale"))
        name = "scaled"
    if becomes == "classes":
        nodes += [
            helper.make_node("Sigmoid", [name], ["second"], name="sigmoid"),
            helper.make_node("Sub", ["one", "second"], ["first"], name="other"),
            helper.make_node("Concat", ["first", "second"], ["probabilities"], name="both", axis=1),
            helper.make_node("Greater", ["second", "half"], ["above"], name="decide"),
            helper.make_node("Cast", ["above"], ["classes"], name="number", to=TensorProto.INT64),
            helper.make_node("Reshape", ["classes", "flat"], ["label"], name="flatten"),
        ]
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"))
        outputs = [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ]
    else:
        last = {
            "sigmoid": [helper.make_node("Sigmoid", [name], ["variable"], name="sigmoid")],
            "same": [helper.make_node("Identity", [name], ["variable"], name="same")],
            "square": [
                helper.make_node("Abs", [name], ["size"], name="size"),
                helper.make_node("Mul", [name, "size"], ["variable"], name="square"),
            ],
            "step": [
                helper.make_node("Greater", [name, "zero"], ["above"], name="decide"),
                helper.make_node("Cast", ["above"], ["variable"], name="number", to=TensorProto.FLOAT),
            ],
        }
        nodes += last[becomes]
        outputs = [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, 1])]
    model.graph.node.extend(nodes)
    read = {each for node in nodes for each in node.input}
    for each, value in constants.items():
        if each in read:
            model.graph.initializer.append(numpy_helper.from_array(np.array([value], dtype=np.float32), each))
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def _call_output(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == old:
                    names[at] = new
