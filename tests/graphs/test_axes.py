"""Axes of one name that the data show to be several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlpack.errors import PassError
from mlpack.evaluation.data.calls import CallsWriter
from mlpack.graphs import files
from mlpack.graphs.foreign import axes


def product(folder: Path) -> Path:
    """`z = x · y`, with "N" for every axis, as some exporters write what they do not know."""
    folder.mkdir()
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "N"]) for name in "xyz"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "y"], ["z"], name="m")], "g", ends[:2], ends[2:])
    files.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder)
    return folder


def recorded(folder: Path, *shapes: dict[str, tuple[int, ...]]) -> Path:
    folder.mkdir()
    with CallsWriter(folder) as writer:
        for each in shapes:
            writer.tensors({name: np.ones(shape, np.float32) for name, shape in each.items()}, 1)
        writer.finish(None)
    return folder


def listed(folder: Path) -> Any:
    return json.loads((folder / "calls.json").read_text())


def test_a_name_with_two_lengths_is_several_axes(tmp_path: Path) -> None:
    model_dir, calls = product(tmp_path / "m"), recorded(tmp_path / "c", {"x": (3, 3), "y": (3, 3)}, {"x": (2, 3), "y": (3, 4)})
    signature = files.read_signature(model_dir)
    assert axes.contradicted(signature, listed(calls)[:1]) == frozenset()
    assert axes.contradicted(signature, listed(calls)) == {"N"}
    (tmp_path / "out").mkdir()
    axes.apart(model_dir, {"N"}, calls, tmp_path / "out")
    found = files.read_signature(tmp_path / "out")
    assert [spec.shape for spec in found.inputs] == [("x_axis0", "x_axis1"), ("y_axis0", "y_axis1")]
    assert found.inputs == axes.loosened(signature).inputs
    assert found.outputs[0].shape == ("z_axis0", "z_axis1")


def test_data_that_the_graph_does_not_take_tell_nothing_apart(tmp_path: Path) -> None:
    model_dir, calls = product(tmp_path / "m"), recorded(tmp_path / "c", {"x": (2, 3), "y": (5, 4)})
    (tmp_path / "out").mkdir()
    with pytest.raises(PassError, match="cannot run the graph"):
        axes.apart(model_dir, {"N"}, calls, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_texts_have_no_axes() -> None:
    assert axes.contradicted(files.Signature(inputs=(), outputs=()), [{"texts": ["a"]}]) == frozenset()
