"""Precision: half the bytes, the same interface, and overflow found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, numpy_helper
from pass_harness import refusal
from small_models import onnx_dir

from mlpack.digest import size_of_tree
from mlpack.passes import graph, precision
from mlpack.passes.precision import Precision


def test_fp16_halves_weights_and_keeps_the_interface(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m", width=512)
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    precision.run(model_dir, Precision(), out_dir)
    assert graph.read_signature(out_dir) == graph.read_signature(model_dir)
    assert size_of_tree(out_dir) < 0.55 * size_of_tree(model_dir)


def test_keep_float_keeps_operators_float(tmp_path: Path) -> None:
    model_dir, out_dir = onnx_dir(tmp_path / "m"), tmp_path / "out"
    out_dir.mkdir()
    precision.run(model_dir, Precision(keep_float=("Gemm",)), out_dir)
    types = {tensor.name: tensor.data_type for tensor in graph.load(out_dir).graph.initializer}
    assert types["w1"] == TensorProto.FLOAT
    assert types["w2"] == TensorProto.FLOAT16


def test_overflow_is_refused(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m")
    model = graph.load(model_dir)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("w"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(3e4), tensor.name))
    graph.save(model, model_dir)
    assert "leaves fp16's range" in refusal("precision", model_dir, Precision(), tmp_path / "out")


def test_quantized_graph_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    assert "quantized already" in refusal("precision", models["bert-int8"], Precision(), tmp_path / "out")
