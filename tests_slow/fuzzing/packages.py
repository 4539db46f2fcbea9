"""The packages that are fuzzed: small real models, every number of which is a whole one, so that a right answer is right bit for
bit, whatever else runs in its batch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.runtime.tiny_packages import package, save

from mlpack_runtime import model
from mlpack_runtime.service import Service

HOOKS = """
def preprocess(value):
    if value.get("crash") is True:
        raise RuntimeError("a hook's own fault")
    rows = value.get("rows")
    if type(rows) is not list:
        raise ValueError("rows is needed: lists of four numbers")
    return {"x": rows}


def postprocess(outputs):
    made = outputs["y"]
    if len(made.shape) == 2 and made.shape[0] == 3:
        return made.shape[0]
    return {"rows": made.shape[0], "y": [value if -1e30 < value < 1e30 else None for value in made.flat()]}
"""
HOOKS_FAULTS = ("HookError",)
"""What these hooks raise of their own fault: the only errors 500 that there may be."""

Port = tuple[str, str, tuple[int | str, ...]]
_NAMES = {
    "BOOL": "bool", "UINT8": "uint8", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """What a generator has to know of a package. `correct`: bodies that are answered 200."""

    kind: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    has_texts: bool = False
    hooked: bool = False
    correct: tuple[dict[str, Any], ...] = field(default=())


def _row(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


NUMBERS = Spec(
    "numbers",
    (("x", "FP32", ("batch", 4)),),
    (("y", "FP32", ("batch", 3)),),
    correct=(
        {"inputs": [_row("x", "FP32", [2, 4], [1, 2, 3, 4, -5, 6, 0.5, 8])], "id": "first"},
        {"inputs": {"x": [[1, 0, 0, 2]]}},
    ),
)
TEXTS = Spec(
    "texts",
    (("input_ids", "INT64", ("batch", "sequence")), ("attention_mask", "INT64", ("batch", "sequence"))),
    (("embedding", "FP32", ("batch", 5)),),
    has_texts=True,
    correct=(
        {"text": "a cat sat on the mat"},
        {"texts": ["dogs", "the cat", ""]},
        {"inputs": [_row("text", "BYTES", [2], ["cat", "a dog"])]},
        {"inputs": [_row(name, "INT64", [1, 3], [1, 1, 1]) for name in ("input_ids", "attention_mask")]},
    ),
)
KINDS = Spec(
    "kinds",
    (
        ("tokens", "INT64", ("batch", "seq")),
        ("flags", "BOOL", ("batch", "seq")),
        ("past", "FP32", ("batch", 2, "past", 3)),
        ("pixels", "UINT8", ("batch", 2, 2)),
        ("half", "FP16", ("batch", 3)),
        ("scale", "FP64", ()),
    ),
    (
        ("ids", "INT64", ("batch", "seq")),
        ("memory", "FP32", ("batch", 2, "past", 3)),
        ("level", "FP32", ("batch",)),
        ("halved", "FP16", ("batch", 3)),
        ("scaled", "FP64", ()),
    ),
    correct=(
        {
            "inputs": [
                _row("tokens", "INT64", [1, 2], [7, 2**53 + 1]),
                _row("flags", "BOOL", [1, 2], [True, False]),
                _row("past", "FP32", [1, 2, 0, 3], []),
                _row("pixels", "UINT8", [1, 2, 2], [0, 255, 3, 4]),
                _row("half", "FP16", [1, 3], [1, -0.5, 65504]),
                _row("scale", "FP64", [], [3]),
            ]
        },
    ),
)
HOOKED = Spec(
    "hooked",
    NUMBERS.inputs,
    NUMBERS.outputs,
    hooked=True,
    correct=({"rows": [[1, 2, 3, 4]]}, {"rows": [[1, 2, 3, 4]] * 3}, NUMBERS.correct[0]),
)
SPECS = (NUMBERS, TEXTS, KINDS, HOOKED)


def _infos(ports: tuple[Port, ...]) -> list[Any]:
    from onnx import TensorProto, helper

    kinds = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE"}
    return [helper.make_tensor_value_info(n, getattr(TensorProto, kinds.get(d, d)), list(shape)) for n, d, shape in ports]


def _numbers(path: Path) -> Path:
    import numpy as np
    from onnx import helper

    weights = {"w": np.arange(12, dtype=np.float32).reshape(4, 3)}
    return save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], _infos(NUMBERS.inputs), _infos(NUMBERS.outputs), weights)


def _texts(path: Path) -> Path:
    """embedding = sum over the sequence of E[input_ids] * attention_mask; an id beyond the table is refused by the engine."""
    import numpy as np
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["embedding"], keepdims=0),
    ]
    weights = {"table": np.arange(60, dtype=np.float32).reshape(12, 5), "last": np.array([-1]), "middle": np.array([1])}
    return save(path, nodes, _infos(TEXTS.inputs), _infos(TEXTS.outputs), weights)


def _kinds(path: Path) -> Path:
    import numpy as np
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["flags"], ["counted"], to=TensorProto.INT64),
        helper.make_node("Add", ["tokens", "counted"], ["ids"]),
        helper.make_node("Identity", ["past"], ["memory"]),
        helper.make_node("Cast", ["pixels"], ["light"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["light", "axes"], ["level"], keepdims=0),
        helper.make_node("Identity", ["half"], ["halved"]),
        helper.make_node("Add", ["scale", "one"], ["scaled"]),
    ]
    weights = {"axes": np.array([1, 2]), "one": np.array(1.0)}
    return save(path, nodes, _infos(KINDS.inputs), _infos(KINDS.outputs), weights)


_GRAPHS = {"numbers": _numbers, "texts": _texts, "kinds": _kinds, "hooked": _numbers}


def make(root: Path, spec: Spec) -> Path:
    """Its package, as the build writes one."""

    def described(ports: tuple[Port, ...]) -> list[dict[str, Any]]:
        return [{"name": name, "dtype": _NAMES[datatype], "shape": list(shape)} for name, datatype, shape in ports]

    told: dict[str, Any] = {"inputs": described(spec.inputs), "outputs": described(spec.outputs)}
    if spec.has_texts:
        told["tokenizer"] = {"file": "tokenizer.json", "max_length": 6}
    if spec.hooked:
        told.update(preprocess="fuzz_hooks:preprocess", postprocess="fuzz_hooks:postprocess")
    made = package(root, _GRAPHS[spec.kind], **told)
    if spec.hooked:
        (made / "app/fuzz_hooks.py").write_text(HOOKS)
    return made


def load(root: Path, opener: Any = None) -> model.Model:
    """The model of a package, in this process."""
    model.ROOT = str(root)
    os.environ["MLPACK_MODEL_DIR"] = str(root / "model")
    return model.load(opener)


def service(root: Path) -> Service:
    """The service of a package, as a Lambda function has it."""
    return Service(load(root))
