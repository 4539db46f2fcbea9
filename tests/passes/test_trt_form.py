"""The form that TensorRT fuses: every departure from it is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.graphs import files
from mlpack.passes import precision
from mlpack.passes.precision import Precision, trt_form
from mlpack.passes.quantize import Quantize
from mlpack.passes.quantize import run as quantize


@pytest.fixture(scope="module")
def made(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """int8 graphs of the pass itself, by the model they come from."""
    folders = {}
    for name, calls in (("cnn-simple", "calls"), ("deconvolution", "calls"), ("bert-portable", "texts")):
        folders[name] = tmp_path_factory.mktemp(name)
        precision.run(models[name], Precision(type="int8", rest="float32", calibration=models[calls]), folders[name])
    return folders


def test_what_the_pass_writes_has_no_problem(made: dict[str, Path]) -> None:
    for folder in made.values():
        assert trt_form.trt_problems(files.load(folder)) == ()


@pytest.mark.parametrize("name", ["bert-portable", "cnn-simple", "mlp", "deconvolution"])
def test_float_graphs_have_none_either(models: dict[str, Path], name: str, tmp_path: Path) -> None:
    assert trt_form.trt_problems(files.load(models[name])) == ()
    precision.run(models[name], Precision(), tmp_path)
    assert trt_form.trt_problems(files.load(tmp_path)) == ()


def test_forms_for_processors_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    assert any("is not a standard operator" in said for said in trt_form.trt_problems(files.load(models["bert-simple"])))
    assert any("int8" in said for said in trt_form.trt_problems(files.load(models["cnn-int8"])))
    quantize(models["mlp"], Quantize(method="dynamic"), tmp_path)
    assert any("MatMulInteger computes in integers" in said for said in trt_form.trt_problems(files.load(tmp_path)))


def _node(model: Any, name: str) -> Any:
    return next(node for node in model.graph.node if node.name == name)


def _maker(model: Any, name: str) -> Any:
    return next(node for node in model.graph.node if name in node.output)


def _weight(model: Any, name: str, array: Any) -> None:
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    kept.append(numpy_helper.from_array(np.asarray(array), name))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _zero_point(model: Any) -> None:
    _weight(model, _maker(model, _node(model, "up").input[0]).input[2], np.int8(3))


def _unsigned(model: Any) -> None:
    _weight(model, _maker(model, _node(model, "up").input[0]).input[2], np.uint8(0))


def _negative_scale(model: Any) -> None:
    _weight(model, _maker(model, _node(model, "up").input[0]).input[1], np.float32(-1))


def _channel_scales_of_transposed(model: Any) -> None:
    pair = _maker(model, _node(model, "up").input[1])
    _weight(model, pair.input[1], np.ones(16, np.float32))
    _weight(model, pair.input[2], np.zeros(16, np.int8))
    pair.attribute.append(helper.make_attribute("axis", 1))


def _wrong_axis(model: Any) -> None:
    pair = _maker(model, _node(model, "down").input[1])
    _weight(model, pair.input[1], np.ones(3, np.float32))
    _weight(model, pair.input[2], np.zeros(3, np.int8))
    pair.attribute[0].i = 1


def _shared_pair(model: Any) -> None:
    output = _node(model, "down").input[0]
    model.graph.node.insert(4, helper.make_node("Neg", [output], ["negative"], name="other"))


def _one_side(model: Any) -> None:
    _weight(model, "w2_float", np.ones((32, 16, 2, 2), np.float32))
    _node(model, "up").input[1] = "w2_float"


def _quantized_bias(model: Any) -> None:
    _weight(model, "b2_int8", np.zeros(16, np.int8))
    pair = _maker(model, _node(model, "up").input[1])
    place = list(model.graph.node).index(pair)
    model.graph.node.insert(place, helper.make_node("DequantizeLinear", ["b2_int8", *pair.input[1:]], ["b2_dq"], name="bias"))
    _node(model, "up").input[2] = "b2_dq"


def _bias_in_32_bits(model: Any) -> None:
    _quantized_bias(model)
    _weight(model, "b2_int8", np.zeros(16, np.int32))


def _normalisation(model: Any) -> None:
    pair = _maker(model, _node(model, "up").input[0])
    place = list(model.graph.node).index(_node(model, "up"))
    model.graph.node.insert(place, helper.make_node("Softmax", [pair.output[0]], ["soft"], name="soft"))
    _node(model, "up").input[0] = "soft"


def _types(model: Any) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "b2")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), "b2"))


def _no_quantize(model: Any) -> None:
    _maker(model, _node(model, "up").input[0]).input[0] = "eight"
    model.graph.node.insert(4, helper.make_node("Cast", ["r"], ["eight"], name="eight", to=TensorProto.INT8))


@pytest.mark.parametrize(("damage", "said"), [
    (_zero_point, "a zero point is not 0"),
    (_unsigned, "values are signed"),
    (_negative_scale, "not positive and finite"),
    (_channel_scales_of_transposed, "a transposed convolution's weight has one scale"),
    (_wrong_axis, "is scaled along axis 1, not along its output channels"),
    (_shared_pair, "each consumer needs a pair of its own"),
    (_one_side, "one input is quantized and the other is not"),
    (_quantized_bias, "its bias is quantized"),
    (_bias_in_32_bits, "a bias in 32 bits must stay float"),
    (_normalisation, "reads quantized data; it must stay float"),
    (_types, "types do not agree"),
    (_no_quantize, "is not preceded by the QuantizeLinear of its pair"),
])  # fmt: skip
def test_damage_is_named(made: dict[str, Path], damage: Callable[[Any], None], said: str) -> None:
    model = files.load(made["deconvolution"])
    damage(model)
    found = trt_form.trt_problems(model)
    assert any(said in problem for problem in found), found
