"""Weights that a pass makes, on the disk until their graph is saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mlpack.errors import PassError
from mlpack.graphs import spill, weights
from mlpack.graphs.spill import Spill

LARGE = (spill.HELD_BYTES // 8 + 1, 8)
"""A shape that is large in any type of a byte or more."""


@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "int8", "uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("turned", [False, True], ids=["plain", "turned"])
def test_a_large_tensor_is_a_reference_to_its_values(kind: str, turned: bool, tmp_path: Path) -> None:
    values: Any = np.random.default_rng(0).integers(0, 2, LARGE).astype(kind)
    values = values.T if turned else values
    made = Spill(tmp_path).tensor(values, "w")
    assert made.ByteSize() < 500
    assert (made.name, tuple(made.dims), made.data_type) == ("w", values.shape, numpy_helper.from_array(values[:1]).data_type)
    assert np.array_equal(weights.array(made), values)
    assert weights.array(made).tobytes() == numpy_helper.from_array(values).raw_data


@pytest.mark.parametrize(
    "values", [np.float32(3), np.zeros((0, 5), "f4"), np.zeros(spill.HELD_BYTES, "i1"), np.array(["a"], object)]
)
def test_a_small_tensor_is_in_memory(values: Any, tmp_path: Path) -> None:
    made = Spill(tmp_path).tensor(np.asarray(values), "w")
    assert made == numpy_helper.from_array(np.asarray(values), "w")
    assert not os.listdir(tmp_path)


def test_same_tensor_is_written_once_for_each_name(tmp_path: Path) -> None:
    spilled, values = Spill(tmp_path), np.ones(LARGE, "f4")
    first, again, other = spilled.tensor(values, "a"), spilled.tensor(values, "a"), spilled.tensor(values, "b")
    assert first == again
    assert weights.referred(first) != weights.referred(other)
    assert len(os.listdir(tmp_path)) == 2
    assert weights.referred(spilled.tensor(values.reshape(8, -1), "a")) != weights.referred(first)


def test_a_full_disk_is_told_before_it_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(PassError, match="free on the disk"):
        Spill(tmp_path).tensor(np.ones(LARGE, "f4"), "w")
    assert not os.listdir(tmp_path)


def test_content_tells_values_apart(tmp_path: Path) -> None:
    large = np.zeros(LARGE, "f4")
    other = large.copy()
    other[-1, -1] = 1
    assert spill.content(large) == spill.content(large.copy())
    assert spill.content(large) != spill.content(other)
    assert spill.content(np.array([1, 2], "i1")) == b"\1\2"


def test_what_is_spilled_is_saved_with_its_graph(tmp_path: Path) -> None:
    from mlpack.graphs import files

    (tmp_path / "spill").mkdir()
    (tmp_path / "out").mkdir()
    values = np.random.default_rng(0).normal(size=(600, 600)).astype("f4")
    held, away = numpy_helper.from_array(values, "w"), Spill(tmp_path / "spill").tensor(values, "w")
    written = []
    for tensor in (held, away):
        ports = [onnx.helper.make_tensor_value_info(name, 1, ["n", 600]) for name in "xy"]
        graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [tensor])
        files.save(onnx.helper.make_model(graph, ir_version=8), tmp_path / "out")
        written.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert written[0] == written[1]
