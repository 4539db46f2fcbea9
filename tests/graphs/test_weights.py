"""Weights that stay in their files: referred to, mapped, streamed, and refused where they do not fit."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.core import digest
from mlpack.errors import PassError
from mlpack.graphs import files, weights
from mlpack.graphs.foreign import adopt

DATA = "model.onnx.data"
_MIB = 1 << 20


def reference(name: str, dims: list[int], offset: int, length: int, kind: int = TensorProto.FLOAT) -> TensorProto:
    tensor = TensorProto(name=name, data_type=kind, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", DATA), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def model_of(folder: Path, *tensors: TensorProto) -> Path:
    """`y = sum(x, w...)` over stored tensors, written as somebody else's tool would."""
    folder.mkdir(exist_ok=True)
    width = tensors[0].dims[-1]
    nodes = [helper.make_node("Sum", ["x", *(tensor.name for tensor in tensors)], ["y"])]
    ports = [helper.make_tensor_value_info(name, 1, ["rows", width]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], list(tensors))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder / "model.onnx"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two weights of 2 MiB, and a small one, in a file of their own order."""
    values = np.random.default_rng(0).standard_normal((2, 512, 1024)).astype(np.float32)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / DATA).write_bytes(bytes(64) + values.tobytes() + np.ones(1024, np.float32).tobytes())
    tensors = [reference(name, [512, 1024], 64 + place * 2 * _MIB, 2 * _MIB) for place, name in enumerate(("b", "a"))]
    model_of(tmp_path / "in", *tensors, reference("c", [1024], 64 + 4 * _MIB, 4096))
    return tmp_path / "in"


def saved(model: onnx.ModelProto, folder: Path) -> digest.Digest:
    folder.mkdir()
    files.save(model, folder)
    return digest.of_tree(folder)


def test_an_outline_is_saved_as_the_whole_model_is(two: Path, tmp_path: Path) -> None:
    outline = files.outline(two)
    assert outline.ByteSize() < 8192, "the large weights are in the graph"
    assert saved(outline, tmp_path / "one") == saved(files.load(two), tmp_path / "other")
    assert saved(files.outline(tmp_path / "one"), tmp_path / "again") == digest.of_tree(tmp_path / "one")


def test_values_are_those_of_the_file(two: Path) -> None:
    whole = {tensor.name: numpy_helper.to_array(tensor) for tensor in files.load(two).graph.initializer}
    for tensor in files.outline(two).graph.initializer:
        assert np.array_equal(weights.array(tensor), whole[tensor.name])
        with weights.readable():
            assert np.array_equal(numpy_helper.to_array(tensor), whole[tensor.name])
    with pytest.raises(onnx.checker.ValidationError):  # and afterwards onnx's own reader is back
        numpy_helper.to_array(files.outline(two).graph.initializer[0])


@pytest.mark.parametrize(("kind", "itemsize"), [("BFLOAT16", 2), ("FLOAT8E4M3FN", 1), ("INT8", 1), ("DOUBLE", 8), ("INT4", 0.5)])
def test_every_element_type_is_mapped(kind: str, itemsize: float, tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 120, 2 * _MIB, dtype=np.uint8)
    (tmp_path / DATA).write_bytes(raw.tobytes())
    width = int(2 * _MIB / itemsize / 512)
    model_of(tmp_path, reference("w", [512, width], 0, 2 * _MIB, TensorProto.DataType.Value(kind)))
    mapped = weights.array(files.outline(tmp_path).graph.initializer[0])
    assert mapped.shape == (512, width)
    assert np.array_equal(mapped, numpy_helper.to_array(files.load(tmp_path).graph.initializer[0]))


def test_a_place_that_two_weights_share_is_written_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / DATA).write_bytes(np.arange(1 << 19, dtype=np.float32).tobytes())
    model_of(tmp_path / "in", *(reference(name, [512, 1024], 0, 2 * _MIB) for name in ("a", "b", "c")))
    saved(files.outline(tmp_path / "in"), tmp_path / "out")
    assert (tmp_path / "out" / DATA).stat().st_size == 2 * _MIB
    arrays = [numpy_helper.to_array(tensor) for tensor in files.load(tmp_path / "out").graph.initializer]
    assert len(arrays) == 3
    assert all(np.array_equal(array, arrays[0]) for array in arrays)


def test_a_shape_that_its_bytes_do_not_fill_is_refused(two: Path) -> None:
    model_of(two, reference("w", [512, 1000], 64, 2 * _MIB))
    with pytest.raises(PassError, match=r"'w': their shape needs 2,048,000 bytes, and 2,097,152 are theirs"):
        files.outline(two)


@pytest.mark.parametrize(("offset", "length"), [(4 * _MIB, 2 * _MIB), (-4096, 2 * _MIB), (0, 1 << 40)])
def test_a_part_beyond_the_file_is_refused(two: Path, offset: int, length: int) -> None:
    model_of(two, reference("w", [length // 4096, 1024], offset, length))
    with pytest.raises(PassError, match=r"bytes, .* are needed"):
        files.outline(two)


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """A directory whose data file says that it has 3 GB, and takes none."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / DATA).touch()
    os.truncate(tmp_path / "in" / DATA, 3 << 30)
    return tmp_path / "in"


def test_a_slice_of_a_file_over_2_gb_is_adopted(sparse: Path, tmp_path: Path) -> None:
    with (sparse / DATA).open("r+b") as stream:
        stream.seek((3 << 30) - 2 * _MIB)
        stream.write(np.arange(1 << 19, dtype=np.float32).tobytes())
    path = model_of(sparse, reference("w", [512, 1024], (3 << 30) - 2 * _MIB, 2 * _MIB))
    (tmp_path / "out").mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert adopt.external_files(path) == [DATA]
    adopt.adopt(path, (), tmp_path / "out")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB: the file was not read
    assert (tmp_path / "out" / DATA).stat().st_size == 2 * _MIB
    assert weights.array(files.outline(tmp_path / "out").graph.initializer[0])[511, 1023] == (1 << 19) - 1


def test_parts_of_one_file_that_would_fill_the_disk_are_refused(sparse: Path, tmp_path: Path) -> None:
    rows = 700_000
    model_of(sparse, *(reference(f"w{place}", [rows, 1024], place * 4096, rows * 4096) for place in range(1_000)))
    with pytest.raises(PassError, match="are free on the disk"):
        saved(files.outline(sparse), tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_a_skeleton_has_every_node_and_no_large_weight(two: Path) -> None:
    model = files.load(two)
    bare = weights.skeleton(model)
    assert bare.graph.node == model.graph.node
    assert bare.ByteSize() < 8192
    assert [tensor.name for tensor in bare.graph.initializer] == [tensor.name for tensor in model.graph.initializer]
    onnx.checker.check_model(bare)
