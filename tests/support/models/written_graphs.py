"""A graph of one input and one output, written from its nodes and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def write(folder: Path, nodes: list[Any], stored: dict[str, Any], **more: Any) -> Path:
    x = helper.make_tensor_value_info("x", FLOAT, ["batch", 8])
    y = helper.make_tensor_value_info("y", FLOAT, None)
    held = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], held), opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, folder / "model.onnx", **more)
    return folder / "model.onnx"
