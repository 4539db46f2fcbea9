"""Reading a graph without the weights that lie in its own file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mlpack.core import digest
from mlpack.errors import PassError
from mlpack.graphs import files, weights, wire


def embedded(large: int = 600, **changes: object) -> onnx.ModelProto:
    """Two large weights, a small one, one of floats that are not raw, and a nested graph with one of its own."""
    random = np.random.default_rng(0)
    stored = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("b", (large, 512)), ("s", (512,)), ("a", (large, 512)))
    ]
    stored.append(helper.make_tensor("t", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0]))
    inner = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])], "inner", [], [], [numpy_helper.from_array(np.ones(3), "c")]
    )
    nodes = [
        helper.make_node("Sum", ["x", "a", "b", "s"], ["y"]),
        helper.make_node("If", ["p"], ["q"], then_branch=inner, else_branch=inner),
        helper.make_node("Identity", ["t"], ["u"]),
    ]
    ports = [helper.make_tensor_value_info(name, 1, ["n", 512]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", [*ports[:1], helper.make_tensor_value_info("p", 9, [])], ports[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, **changes)


def written(folder: Path, data: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(data)
    return folder


def test_an_outline_of_one_file_is_saved_as_the_whole_is(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", embedded().SerializeToString())
    outline = files.outline(folder)
    assert [weights.referred(tensor) is not None for tensor in outline.graph.initializer] == [True, False, True, False]
    assert outline.ByteSize() < 8192
    for name, model in (("one", outline), ("other", files.load(folder))):
        (tmp_path / name).mkdir()
        files.save(model, tmp_path / name)
    assert digest.of_tree(tmp_path / "one") == digest.of_tree(tmp_path / "other")


@given(cut=st.integers(min_value=0, max_value=1 << 20), place=st.integers(min_value=0, max_value=1 << 20), byte=st.integers(0, 255))
@settings(deadline=None)
def test_a_damaged_file_is_read_as_the_parser_reads_it(cut: int, place: int, byte: int) -> None:
    data = bytearray(embedded(8).SerializeToString())
    data[place % len(data)] = byte
    del data[len(data) - cut % len(data) // 8 :]
    found = wire.without_weights(memoryview(bytes(data)), 1024)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(bytes(data))
    except DecodeError:  # then what is made of it must fail as well, or not be made
        if found is not None:
            with pytest.raises(DecodeError):
                onnx.ModelProto().ParseFromString(found[0])
        return
    if found is None:
        return
    slim = onnx.ModelProto()
    slim.ParseFromString(found[0])
    for number, (start, end) in found[1].items():
        assert slim.graph.initializer[number].raw_data == b""
        slim.graph.initializer[number].raw_data = bytes(data[start:end])
    assert slim == model


def test_a_graph_in_two_parts_is_read_whole() -> None:
    data = embedded().SerializeToString()
    assert wire.without_weights(memoryview(data), 1 << 20) is not None
    assert wire.without_weights(memoryview(data + data), 1 << 20) is None


def test_weights_with_two_values_are_left_to_the_parser() -> None:
    model = embedded()
    for tensor in model.graph.initializer:
        tensor.external_data.add(key="location", value="/etc/passwd")
    assert wire.without_weights(memoryview(model.SerializeToString()), 1 << 20) is None


def test_a_location_that_says_here_is_no_other_place() -> None:
    model = embedded()
    for tensor in model.graph.initializer:
        tensor.data_location = TensorProto.DEFAULT  # as onnx writes a model that it read from external data
    found = wire.without_weights(memoryview(model.SerializeToString()), 1 << 20)
    assert found is not None
    assert set(found[1]) == {0, 2}
    for tensor in model.graph.initializer:
        tensor.data_location = TensorProto.EXTERNAL
    assert wire.without_weights(memoryview(model.SerializeToString()), 1 << 20) is None


@pytest.mark.parametrize("change", [{"dims": [600, 500]}, {"data_type": 99}, {"data_type": 8}, {"data_type": 0}])
def test_weights_that_are_not_of_their_shape_are_refused(change: dict[str, object], tmp_path: Path) -> None:
    model = embedded()
    for field, value in change.items():
        if field == "dims":
            model.graph.initializer[0].dims[:] = value  # type: ignore[index]
        else:
            setattr(model.graph.initializer[0], field, value)
    with pytest.raises(PassError, match="weights 'b'"):
        files.outline(written(tmp_path, model.SerializeToString()))


@pytest.mark.parametrize(
    ("chain", "operator"),
    [
        (("MatMul", "Softmax"), "Softmax"),
        (("MatMul", "Sigmoid", "Identity", "Cast", "Squeeze"), "Sigmoid"),
        (("Softmax", "MatMul"), "MatMul"),
        (("Identity",), ""),
        (("Softmax", *["Identity"] * 40), ""),
    ],
)
def test_the_operator_behind_an_output_is_found(chain: tuple[str, ...], operator: str) -> None:
    nodes = [helper.make_node(kind, [f"v{at}"], [f"v{at + 1}"]) for at, kind in enumerate(chain)]
    nodes.append(helper.make_node("Add", ["v0", "v0"], ["other"]))
    output = f"v{len(chain)}"
    ports = [helper.make_tensor_value_info(name, 1, ["n"]) for name in (output, "other")]
    data = helper.make_model(helper.make_graph(nodes, "g", [], ports)).SerializeToString()
    assert wire.operator_behind(memoryview(data), output) == operator
    assert wire.operator_behind(memoryview(data), "other") == "Add"
    assert wire.operator_behind(memoryview(data), "none") == ""
    assert wire.operator_behind(memoryview(data)[:-3], output) == ""
