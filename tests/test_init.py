"""Tests of `mlpack.init`: a recipe that loads, whatever it was shown, and that nothing of the model is executed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mlpack import init, recipe
from mlpack.errors import RecipeError
from mlpack.records import Recipe


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: where the recipe is meant to stand."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _loaded(text: str) -> Recipe:
    Path("recipe.yaml").write_text(text, "utf-8")
    return recipe.load(Path("recipe.yaml"))


def _onnx(path: Path, columns: int = 3) -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", columns])]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4, columns], [0.0] * (4 * columns))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs, [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)


def _huggingface(folder: Path, architecture: str, *, tokenizer: bool = True) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    if tokenizer:
        (folder / "tokenizer.json").write_text("{}")


def test_onnx_with_data_beside_it(folder: Path) -> None:
    (folder / "models").mkdir()
    _onnx(folder / "models" / "Iris Net.onnx")
    np.savez(folder / "models" / "eval.npz", x=np.zeros((2, 4)), labels=np.zeros(2))
    np.savez(folder / "models" / "calibration.npz", x=np.zeros((2, 4)))
    text = init.suggest(Path("models/Iris Net.onnx"))
    read = _loaded(text)
    assert (read.name, read.source.reference, read.metric) == ("iris-net", "models/Iris Net.onnx", "top1")
    assert (read.evaluation, read.calibration) == ("models/eval.npz", "models/calibration.npz")
    assert "# x: {dtype: float32, shape: [batch, 4]}" in text


def test_onnx_without_labels_is_compared_with_the_float_model(folder: Path) -> None:
    _onnx(folder / "m.onnx")
    np.savez(folder / "eval.npz", x=np.zeros((2, 4)))
    assert _loaded(init.suggest(Path("m.onnx"))).metric == "agreement"
    _onnx(folder / "r.onnx", columns=1)
    assert _loaded(init.suggest(Path("r.onnx"))).metric == "agreement"


def test_data_that_is_missing_is_the_only_problem(folder: Path) -> None:
    _onnx(folder / "m.onnx")
    text = init.suggest(Path("m.onnx"))
    assert "to be written by you" in text
    with pytest.raises(RecipeError) as raised:
        _loaded(text)
    (problem,) = raised.value.problems
    assert "data.evaluation: eval.npz does not exist" in problem


@pytest.mark.parametrize(
    ("architecture", "metric", "task"),
    [
        ("BertModel", "recall_at_1", "feature-extraction"),
        ("BertForSequenceClassification", "top1", None),
        ("BertForMaskedLM", "agreement", None),
    ],
)
def test_huggingface_texts(folder: Path, architecture: str, metric: str, task: str | None) -> None:
    _huggingface(folder / "models" / "mini", architecture)
    (folder / "eval.jsonl").touch()
    read = _loaded(init.suggest(folder / "models" / "mini"))
    assert (read.name, read.source.reference, read.source.task, read.metric) == ("mini", "models/mini", task, metric)
    assert read.evaluation == "eval.jsonl"


def test_huggingface_without_a_tokenizer_takes_arrays(folder: Path) -> None:
    _huggingface(folder / "vit", "ViTForImageClassification", tokenizer=False)
    (folder / "eval.npz").touch()
    assert _loaded(init.suggest(Path("vit"))).evaluation == "eval.npz"


def test_torch_finds_a_factory_without_running_it(folder: Path) -> None:
    (folder / "nets").mkdir()
    (folder / "nets" / "a.py").write_text("raise SystemExit('executed')\ndef build(width): pass\n")
    (folder / "nets" / "b.py").write_text("raise SystemExit('executed')\ndef build(width=3): pass\n")
    (folder / "nets" / "w.safetensors").touch()
    (folder / "eval.npz").touch()
    read = _loaded(init.suggest(Path("nets/w.safetensors")))
    assert (read.source.reference, read.source.weights) == ("nets.b:build", "nets/w.safetensors")
    assert read.inputs[0].shape == ("batch", 1, 28, 28)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.onnx", b"\x08\x09truncated", "cannot be read as an ONNX model"),
        ("m.onnx", b"", "has no inputs"),
        ("m.pt", b"", "none of a Hugging Face directory"),
        ("d/config.json", b"[1, 2", "is damaged"),
        ("d/config.json", b"[]", "is damaged"),
        ("d/model.onnx", b"", "name one of the models in it (model.onnx)"),
    ],
)
def test_what_is_no_model_says_so(folder: Path, name: str, content: bytes, said: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(RecipeError) as raised:
        init.suggest(path.parent if name.startswith("d/") else path)
    assert said in str(raised.value)


def test_missing_model_says_so() -> None:
    with pytest.raises(RecipeError, match="mlpack downloads nothing"):
        init.suggest(Path("org/model"))
