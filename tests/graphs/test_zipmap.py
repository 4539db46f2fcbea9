"""Dictionaries that converters end classifiers with become the tensor that they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mlpack.errors import PassError
from mlpack.graphs import check, files
from mlpack.graphs.foreign import adopt, locales, zipmap


def classifier(classes: dict[str, list[Any]], read: bool = False) -> onnx.ModelProto:
    """What is given, through ZipMap; the label beside it."""
    nodes = [
        helper.make_node("Softmax", ["X"], ["raw"], name="softmax"),
        helper.make_node("ArgMax", ["raw"], ["label"], axis=1, keepdims=0),
        helper.make_node("ZipMap", ["raw"], ["output_probability"], domain="ai.onnx.ml", **classes),
    ]
    kind = TensorProto.STRING if "classlabels_strings" in classes else TensorProto.INT64
    maps = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_value_info("output_probability", helper.make_sequence_type_proto(maps)),
    ]
    if read:
        nodes.append(helper.make_node("SequenceLength", ["output_probability"], ["length"]))
        outputs.append(helper.make_tensor_value_info("length", TensorProto.INT64, []))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", 3])], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8)


@pytest.mark.parametrize("classes", [{"classlabels_strings": ["a", "ü", "c"]}, {"classlabels_int64s": [4, 2, 9]}])
def test_file_with_dictionaries_comes_in_with_their_tensor(tmp_path: Path, classes: dict[str, list[Any]]) -> None:
    onnx.save(classifier(classes), tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    adopt.adopt(tmp_path / "model.onnx", (), tmp_path / "out")
    given = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    label, rows = check.run(check.session(tmp_path / "out"), {"X": given})
    assert np.allclose(rows.sum(axis=1), 1)
    assert label.tolist() == rows.argmax(axis=1).tolist()
    shapes = {spec.name: spec.shape for spec in files.read_signature(tmp_path / "out").outputs}
    assert shapes["output_probability"] == ("rows", 3)
    assert zipmap.rewritten(classifier(classes)) == {"output_probability": next(iter(classes.values()))}


def test_numbers_keep_the_type_that_the_dictionaries_had() -> None:
    model = classifier({"classlabels_int64s": [0, 1, 2]})
    model.graph.output[1].type.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.DOUBLE
    zipmap.rewritten(model)
    assert model.graph.output[1].type.tensor_type.elem_type == TensorProto.DOUBLE


def test_dictionaries_that_the_graph_itself_reads_stay(tmp_path: Path) -> None:
    model = classifier({"classlabels_int64s": [0, 1, 2]}, read=True)
    assert zipmap.rewritten(model) == {}
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    with pytest.raises(PassError):
        adopt.adopt(tmp_path / "model.onnx", (), tmp_path / "out")


@pytest.mark.parametrize(("said", "wanted"), [(None, "C.UTF-8"), ("en_US", "C.UTF-8"), ("tr_TR", "tr_TR")])
def test_folding_of_case_asks_for_a_locale_that_containers_have(said: str | None, wanted: str) -> None:
    options = {} if said is None else {"locale": said}
    node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER", **options)
    value = [helper.make_tensor_value_info(name, TensorProto.STRING, [None]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph([node], "g", value[:1], value[1:]))
    assert locales.portable(model) == (said != wanted)
    (found,) = (each.s.decode() for each in model.graph.node[0].attribute if each.name == "locale")
    assert found == wanted


def test_letters_beyond_ascii_are_folded_in_that_locale() -> None:
    node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER", is_case_sensitive=0)
    value = [helper.make_tensor_value_info(name, TensorProto.STRING, [None]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    locales.portable(model)
    session = check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL")
    (found,) = check.run(session, {"x": np.array(["ŁÓDŹ", "Ärger ÑANDÚ"], dtype=object)})
    assert found.tolist() == ["łódź", "ärger ñandú"]
