"""Reading ONNX directories that are damaged or hostile, and writing them the same every time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.support.models.small_models import onnx_dir

from mlpack.core import digest
from mlpack.core.files import bounded
from mlpack.errors import PassError
from mlpack.graphs import files


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return onnx_dir(tmp_path / "model")


def relocate(model_dir: Path, **fields: str) -> None:
    """Rewrites where the first external tensor says it lies."""
    model = onnx.load(model_dir / "model.onnx", load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL)
    for entry in tensor.external_data:
        entry.value = fields.get(entry.key, entry.value)
    (model_dir / "model.onnx").write_bytes(model.SerializeToString())


def test_load_returns_what_save_wrote(model_dir: Path, tmp_path: Path) -> None:
    loaded = files.load(model_dir)
    again = tmp_path / "again"
    again.mkdir()
    files.save(loaded, again)
    files.finish(model_dir, again, {})
    assert digest.of_tree(again) == digest.of_tree(model_dir)


def test_save_puts_large_weights_on_pages(model_dir: Path) -> None:
    model = onnx.load(model_dir / "model.onnx", load_external_data=False)
    external = {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer if t.external_data}
    assert set(external) == {"w1", "w2"}
    assert {fields["location"] for fields in external.values()} == {"model.onnx.data"}
    assert all(int(fields["offset"]) % 64 == 0 for fields in external.values())


def test_save_leaves_out_who_made_it(tmp_path: Path, model_dir: Path) -> None:
    model = files.load(model_dir)
    model.producer_version, model.doc_string = "9.9", "made in /home/someone"
    model.graph.node[0].doc_string = "File /home/someone/net.py, line 3"
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", "/home/someone/net.py"
    model.graph.initializer.sort(key=lambda tensor: tensor.name, reverse=True)
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    files.save(model, out_dir)
    files.finish(model_dir, out_dir, {})
    assert digest.of_tree(out_dir) == digest.of_tree(model_dir)


def test_signature_names_axes(model_dir: Path) -> None:
    assert json.loads((model_dir / "signature.json").read_text()) == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 64]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 16]}],
    }


def test_signature_refuses_what_is_no_tensor(model_dir: Path) -> None:
    model = files.load(model_dir)
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, tensor))
    kinds = {
        "a sequence of tensors, and how many.*ConcatFromSequence": helper.make_sequence_type_proto(tensor),
        "a list of dictionaries.*zipmap": maps,
        "an optional value": helper.make_optional_type_proto(tensor),
        "sparse tensor": helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]),
    }
    for words, kind in kinds.items():
        model.graph.output.append(helper.make_value_info("probabilities", kind))
        with pytest.raises(PassError, match=words):
            files.signature_of(model)
        del model.graph.output[-1]


@given(cut=st.integers(min_value=0, max_value=10_000))
@settings(max_examples=settings().max_examples * 2 // 5, deadline=None)
def test_load_never_takes_a_truncated_file(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cut") / "model"
    onnx_dir(folder, width=8)
    path = folder / "model.onnx"
    data = path.read_bytes()
    path.write_bytes(data[: cut % len(data)])
    try:
        loaded = files.load(folder)
    except PassError:
        return
    assert loaded.graph.node  # cut behind the graph: only the opset is lost, which the engine refuses by name


def test_load_refuses_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PassError, match=r"model\.onnx: cannot be read"):
        files.load(tmp_path)


def test_load_refuses_missing_external_data(model_dir: Path) -> None:
    (model_dir / "model.onnx.data").unlink()
    with pytest.raises(PassError, match=r"'w1'.*'model\.onnx\.data' is missing"):
        files.load(model_dir)


def test_load_refuses_short_external_data(model_dir: Path) -> None:
    (model_dir / "model.onnx.data").write_bytes(b"short")
    with pytest.raises(PassError, match=r"5 bytes.*are needed"):
        files.load(model_dir)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "a\\..\\secret", "a\0", ""])
def test_load_refuses_external_data_elsewhere(model_dir: Path, location: str) -> None:
    (model_dir.parent / "secret").write_bytes(bytes(100_000))
    relocate(model_dir, location=location)
    with pytest.raises(PassError, match="leaves the model's directory"):
        files.load(model_dir)


@pytest.mark.parametrize(
    "location", ["we:ights.bin", "C:\\w.bin", "a\\b.bin", "deep/x:y", "..w", " w", "-w", "w\n", "ü ñ", "signature.json"]
)
def test_external_data_may_have_any_name(model_dir: Path, location: str) -> None:
    """The engine takes them all: nothing in them is a separator or a drive here."""
    wanted = [tensor.raw_data for tensor in files.load(model_dir).graph.initializer]
    (model_dir / location).parent.mkdir(exist_ok=True)
    shutil.copyfile(model_dir / "model.onnx.data", model_dir / location)
    relocate(model_dir, location=location)
    assert [tensor.raw_data for tensor in files.load(model_dir).graph.initializer] == wanted


def test_load_refuses_external_data_through_a_link(model_dir: Path, tmp_path: Path) -> None:
    shutil.move(model_dir / "model.onnx.data", tmp_path / "elsewhere")
    (model_dir / "model.onnx.data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PassError, match="is a link"):
        files.load(model_dir)


def test_load_refuses_external_data_through_a_linked_folder(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.move(model_dir / "model.onnx.data", tmp_path / "elsewhere" / "data")
    (model_dir / "sub").symlink_to(tmp_path / "elsewhere")
    relocate(model_dir, location="sub/data")
    with pytest.raises(PassError, match="is a link"):
        files.load(model_dir)


@pytest.mark.parametrize(("key", "value"), [("offset", "-4096"), ("length", "-1"), ("offset", "many")])
def test_load_refuses_impossible_offsets(model_dir: Path, key: str, value: str) -> None:
    relocate(model_dir, **{key: value})
    with pytest.raises(PassError):
        files.load(model_dir)


def test_tensors_finds_those_of_nested_graphs() -> None:
    stored = [numpy_helper.from_array(np.ones(3), "c")]
    inner = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "inner", [], [], stored)
    outer = helper.make_graph([helper.make_node("If", ["p"], ["q"], then_branch=inner, else_branch=inner)], "outer", [], [])
    assert [tensor.name for tensor in files.tensors(outer)] == ["c", "c"]


def test_a_file_of_more_than_protobuf_holds_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(PassError, match="2 GiB at most"):
        files.load(tmp_path)


def test_many_tensors_of_one_part_of_a_file_are_counted_each(tmp_path: Path) -> None:
    """A small file of names and one of zeros could ask for any amount of memory."""
    with (tmp_path / "w").open("wb") as file:
        file.truncate(64 << 20)
    model = onnx.ModelProto()
    model.graph.node.add(op_type="Identity", input=["w0"], output=["y"])
    for number in range(10):
        tensor = model.graph.initializer.add(name=f"w{number}", data_type=1, dims=[16 << 20])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    bounded.configure({"MLPACK_MAX_DATA_MB": "40"})
    try:
        with pytest.raises(PassError, match=r"the weights that model\.onnx names would take"):
            files.load(tmp_path)
    finally:
        bounded.configure({})
