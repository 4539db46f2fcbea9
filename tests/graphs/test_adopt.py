"""Adopt: other people's ONNX files narrowed to a recipe's inputs, and everything the model cannot have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mlpack.core.records import Shape, Signature, TensorSpec
from mlpack.core.yaml_positions import PlacedError
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.graphs.foreign import adopt


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """`sum = left + right` of [batch, width, 4] and [batch, 1, 4]."""
    left = helper.make_tensor_value_info("left", TensorProto.FLOAT, ["batch", "width", 4])
    right = helper.make_tensor_value_info("right", TensorProto.FLOAT, ["batch", 1, 4])
    result = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", "width", 4])
    made = helper.make_graph([helper.make_node("Add", ["left", "right"], ["sum"])], "g", [left, right], [result])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def spec(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def adopted(model: Path, *inputs: TensorSpec) -> dict[str, Shape]:
    out = model.parent / "out"
    out.mkdir()
    adopt.adopt(model, inputs, out)
    signature = files.read_signature(out)
    return {each.name: each.shape for each in (*signature.inputs, *signature.outputs)}


def test_without_inputs_the_model_stays_as_it_is(model: Path) -> None:
    assert adopted(model) == {"left": ("batch", "width", 4), "right": ("batch", 1, 4), "sum": ("batch", "width", 4)}


def test_an_open_axis_is_fixed_wherever_it_stands(model: Path) -> None:
    assert adopted(model, spec("left", 8, "width", 4)) == {"left": (8, "width", 4), "right": (8, 1, 4), "sum": (8, "width", 4)}


def test_an_axis_may_take_the_name_of_one_that_is_fixed(model: Path) -> None:
    found = adopted(model, spec("left", "n", 3, 4), spec("right", "batch", 1, 4))
    assert found == {"left": ("n", 3, 4), "right": ("n", 1, 4), "sum": ("n", 3, 4)}
    (model.parent / "out").rename(model.parent / "before")
    assert adopted(model, spec("left", "width", 3, 4))["left"] == ("width", 3, 4)


def test_every_mismatch_is_told_with_its_place(model: Path) -> None:
    inputs = (spec("left", 8, "width", 5, dtype="int64"), spec("right", 1, 4), spec("rigth", "batch", 1, 4))
    with pytest.raises(PlacedError) as caught:
        adopted(model, *inputs)
    assert caught.value.problems == (
        "inputs.left.dtype: the model takes float32, not int64",
        "inputs.left.shape[2]: is 4 in the model and cannot become 5",
        "inputs.right.shape: the model takes 3 axes ['batch', 1, 4], not 2 [1, 4]",
        "inputs.rigth: the model has no such input; did you mean 'right'? (it has left, right)",
    )
    assert list((model.parent / "out").iterdir()) == []


def test_one_axis_cannot_have_two_lengths(model: Path) -> None:
    with pytest.raises(PlacedError, match=r"inputs\.right\.shape\[0\]: .*'batch'.* cannot become 2 here and 8 in inputs\.left"):
        adopted(model, spec("left", 8, "width", 4), spec("right", 2, 1, 4))


def reshaping(folder: Path, rank: list[str] | None, shape: int) -> Path:
    """`y = reshape(x, s)`, whose rank only the values of `s` tell."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, rank)
    s = helper.make_tensor_value_info("s", TensorProto.INT64, [shape])
    nodes = [helper.make_node("Concat", ["s", "s"], ["t"], axis=0), helper.make_node("Compress", ["t", "on"], ["u"], axis=0)]
    on = onnx.numpy_helper.from_array(np.arange(2 * shape) < shape, "on")
    nodes.append(helper.make_node("Reshape", ["x", "u"], ["y"]))
    made = helper.make_graph(nodes, "g", [x, s], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [on])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "r.onnx")
    return folder / "r.onnx"


def test_rank_that_only_running_tells_is_found_on_recipes_calls(tmp_path: Path) -> None:
    path = reshaping(tmp_path, ["n", "w"], 3)
    assert not adopt.says_all(path)
    asked = []

    def calls(signature: Signature) -> list[dict[str, Any]]:
        asked.append(tuple(each.name for each in signature.inputs))
        return [{"x": np.zeros((6, 4), np.float32), "s": np.array([2, 3, 4])}]

    (tmp_path / "out").mkdir()
    adopt.adopt(path, (), tmp_path / "out", calls)
    assert asked == [("x", "s")]
    assert files.read_signature(tmp_path / "out").outputs[0].shape == ("y_axis0", "y_axis1", "y_axis2")


def test_the_rank_of_an_input_is_the_recipes_to_say(tmp_path: Path) -> None:
    path = reshaping(tmp_path, None, 2)
    (tmp_path / "out").mkdir()
    with pytest.raises(PassError, match=r"how many axes its input 'x' has: say it in the recipe, `inputs: \{x: "):
        adopt.adopt(path, (), tmp_path / "out")
    calls = [{"x": np.zeros((6, 4), np.float32), "s": np.array([8, 3])}]
    adopt.adopt(path, (spec("x", "n", 4), spec("s", 2, dtype="int64")), tmp_path / "out", lambda _signature: calls)
    signature = files.read_signature(tmp_path / "out")
    assert [each.shape for each in signature.inputs] == [("n", 4), (2,)]
    assert len(signature.outputs[0].shape) == 2
