"""TensorRT for RTX's own parser takes each type's graph: no GPU is needed to ask it. Building engines is for tests_slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorrt_rtx_bindings as trt

from mlpack.passes import precision
from mlpack.passes.precision import Precision

CALLS = {"bert-portable": "texts", "cnn-simple": "calls", "deconvolution": "calls"}


def parsed(path: Path) -> tuple[Any, list[str]]:
    """The network that the parser reads from a file, and what it refuses."""
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    taken = parser.parse_from_file(str(path))
    said = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    assert taken == (not said)
    types = [network.get_layer(index).get_output_type(0) for index in range(network.num_layers)]
    return types, said


@pytest.mark.parametrize("kind", ["fp16", "bf16", "int8", "mixed"])
@pytest.mark.parametrize("name", sorted(CALLS))
def test_parser_takes_the_graph(models: dict[str, Path], name: str, kind: Any, tmp_path: Path) -> None:
    precision.run(models[name], Precision(type=kind, calibration=models[CALLS[name]]), tmp_path)
    types, said = parsed(tmp_path / "model.onnx")
    assert said == []
    promised = {"fp16": {trt.float16}, "bf16": {trt.bfloat16}, "int8": {trt.int8}, "mixed": {trt.int8, trt.float16}}
    assert promised[kind] <= set(types)


def test_parser_refuses_the_form_for_processors(models: dict[str, Path]) -> None:
    _, said = parsed(models["bert-int8"] / "model.onnx")
    assert said
