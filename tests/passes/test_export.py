"""Export: pooling as the directory says, tokenizers that pad to the batch, fallbacks on record, and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.support.models.small_models import huggingface_dir, torch_dir
from tests.support.pass_harness import refusal
from tokenizers import Tokenizer

from mlpack.graphs import check, files
from mlpack.passes import export
from mlpack.passes.export import Export, hf_tokenizer, huggingface


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return huggingface_dir(tmp_path_factory.mktemp("bert") / "model")


def exported(model_dir: Path, out_dir: Path, **options: Any) -> dict[str, Any]:
    out_dir.mkdir()
    export.run(model_dir, Export(**options), out_dir)
    notes: dict[str, Any] = json.loads((out_dir / "notes.json").read_text())
    return notes


@pytest.mark.slow
def test_sentence_embedding_is_only_output_and_has_unit_length(bert: Path, tmp_path: Path) -> None:
    notes = exported(bert, tmp_path / "out")
    assert (notes["exporter"], notes["task"]) == ("optimum", "feature-extraction")
    assert (notes["pooling"], notes["normalize"]) == ("mean", True)
    signature = files.read_signature(tmp_path / "out")
    assert [(spec.name, spec.shape) for spec in signature.outputs] == [("sentence_embedding", ("batch", 64))]
    feed = {name: np.array([[2, 4, 3], [2, 3, 0]]) for name in ("input_ids", "attention_mask", "token_type_ids")}
    feed |= {"attention_mask": np.array([[1, 1, 1], [1, 1, 0]]), "token_type_ids": np.zeros((2, 3), np.int64)}
    (vectors,) = check.run(check.session(tmp_path / "out"), feed)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_padding_does_not_change_an_embedding(bert: Path, tmp_path: Path) -> None:
    exported(bert, tmp_path / "out")
    opened = check.session(tmp_path / "out")

    def embed(ids: list[int], length: int) -> Any:
        padded, zeros = ids + [0] * (length - len(ids)), [0] * length
        mask = [1] * len(ids) + [0] * (length - len(ids))
        feed = {"input_ids": padded, "attention_mask": mask, "token_type_ids": zeros}
        return check.run(opened, {name: np.array([row]) for name, row in feed.items()})[0]

    np.testing.assert_allclose(embed([2, 5, 6, 3], 4), embed([2, 5, 6, 3], 20), atol=1e-5)


def test_tokenizer_pads_to_batch_and_cuts_at_the_models_length(bert: Path, tmp_path: Path) -> None:
    exported(bert, tmp_path / "out")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert [len(row.ids) for row in tokenizer.encode_batch(["the cat", "a dog sat"])] == [5, 5]
    assert len(tokenizer.encode("the " * 100).ids) == 24


def test_texts_of_xlnet_are_padded_on_the_left(bert: Path, tmp_path: Path) -> None:
    for kind, side in (("xlnet", "left"), ("bert", "right")):
        place, out = tmp_path / kind, tmp_path / f"{kind}-out"
        place.mkdir()
        out.mkdir()
        tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.save(str(place / "tokenizer.json"))
        (place / "config.json").write_text(json.dumps({"model_type": kind}))
        hf_tokenizer.write(place, out, 30_000, None)
        padding = Tokenizer.from_file(str(out / "tokenizer.json")).padding
        assert padding["direction"] == side
        assert padding["pad_token"] == "[PAD]"


@pytest.mark.parametrize(
    ("config", "own", "side"),
    [
        ({}, None, "right"),
        ({"truncation_side": "left"}, None, "left"),
        ({}, "left", "left"),
        ({"truncation_side": "right"}, "left", "right"),
        ({"truncation_side": 3}, None, "right"),
    ],
)
def test_texts_are_cut_on_the_tokenizers_side(bert: Path, tmp_path: Path, config: Any, own: str | None, side: str) -> None:
    for folder in ("model", "out"):
        (tmp_path / folder).mkdir()
    tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
    if own is not None:
        tokenizer.enable_truncation(100, direction=own)
    tokenizer.save(str(tmp_path / "model/tokenizer.json"))
    (tmp_path / "model/tokenizer_config.json").write_text(json.dumps(config))
    hf_tokenizer.write(tmp_path / "model", tmp_path / "out", 30_000, 4)
    cut = Tokenizer.from_file(str(tmp_path / "out/tokenizer.json"))
    words = ["the", "cat", "sat"]
    assert cut.encode(" ".join(words)).tokens[1:-1] == (words[1:] if side == "left" else words[:2])


def test_plain_directory_keeps_its_own_output(tmp_path: Path) -> None:
    notes = exported(huggingface_dir(tmp_path / "plain", sentence=False), tmp_path / "out", task="feature-extraction")
    assert notes["pooling"] is None
    assert [spec.name for spec in files.read_signature(tmp_path / "out").outputs] == ["last_hidden_state"]


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_huggingface_by_torchs_own_exporters(bert: Path, tmp_path: Path, exporter: str) -> None:
    assert exported(bert, tmp_path / "out", exporter=exporter)["exporter"] == exporter


def test_cls_pooling_takes_the_first_token(bert: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cls"
    shutil.copytree(bert, copy)
    (copy / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    assert exported(copy, tmp_path / "out")["pooling"] == "cls"


@pytest.mark.parametrize("normalize", [True, False])
def test_cls_pooling_takes_the_first_token_behind_padding(bert: Path, tmp_path: Path, normalize: bool) -> None:
    copy = tmp_path / "left"
    shutil.copytree(bert, copy)
    (copy / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    if not normalize:
        modules = json.loads((copy / "modules.json").read_text())
        (copy / "modules.json").write_text(json.dumps([one for one in modules if not one["type"].endswith("Normalize")]))
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.enable_padding(direction="left")
    tokenizer.save(str(copy / "tokenizer.json"))
    exported(copy, tmp_path / "out")
    assert Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).padding["direction"] == "left"
    opened = check.session(tmp_path / "out")
    ids = np.array([[2, 4, 6, 3], [0, 2, 5, 3], [0, 0, 2, 3]])
    feed = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64), "token_type_ids": np.zeros_like(ids)}
    (vectors,) = check.run(opened, feed)
    model = transformers.AutoModel.from_pretrained(copy).eval()
    with torch.inference_mode():
        hidden = model(**{name: torch.from_numpy(values) for name, values in feed.items()}).last_hidden_state.numpy()
    wanted = hidden[np.arange(3), [0, 1, 2]]
    np.testing.assert_allclose(vectors, wanted / (np.linalg.norm(wanted, axis=1, keepdims=True) if normalize else 1), atol=1e-5)


def test_unknown_pooling_is_refused(bert: Path, tmp_path: Path) -> None:
    copy = tmp_path / "max"
    shutil.copytree(bert, copy)
    (copy / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    assert "max_tokens" in refusal("export", copy, Export(), tmp_path / "out")


def test_code_of_the_directory_is_refused(bert: Path, tmp_path: Path) -> None:
    copy = tmp_path / "remote"
    shutil.copytree(bert, copy)
    described = json.loads((copy / "config.json").read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}
    (copy / "config.json").write_text(json.dumps(described))
    (copy / "evil.py").write_text("raise SystemExit('executed')")
    assert "auto_map" in refusal("export", copy, Export(), tmp_path / "out")


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


def test_pickled_checkpoint_is_never_executed(bert: Path, tmp_path: Path) -> None:
    copy, mark = tmp_path / "pickled", tmp_path / "executed"
    shutil.copytree(bert, copy)
    (copy / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Malicious(mark)}, copy / "pytorch_model.bin")
    assert "would run code" in refusal("export", copy, Export(), tmp_path / "out")
    assert not mark.exists()


def test_missing_weights_are_refused(bert: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bare"
    shutil.copytree(bert, copy)
    (copy / "model.safetensors").unlink()
    assert "no weights" in refusal("export", copy, Export(), tmp_path / "out")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_truncated_files_are_refused(bert: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "cut"
    shutil.copytree(bert, copy)
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    refusal("export", copy, Export(), tmp_path / "out")


def test_optimum_for_a_torch_source_is_refused(tmp_path: Path) -> None:
    assert "dynamo" in refusal("export", torch_dir(tmp_path / "m"), Export(exporter="optimum"), tmp_path / "out")


@pytest.mark.slow
def test_older_exporter_wins_when_the_new_one_fails(tmp_path: Path) -> None:
    model_dir = torch_dir(tmp_path / "m", weights=False)
    # Python control flow on a value: tracing records one branch, the graph capture of the new exporter refuses.
    (model_dir / "code" / "net.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.f = nn.Linear(16, 4)\n\n    def forward(self, image):\n"
        "        if float(image.sum()) != 12345.0:\n            return self.f(image.mean(dim=(1, 2)))\n"
        "        return image.sum(dim=(1, 2))\n\n"
        "def build():\n    return Net()\n"
    )
    notes = exported(model_dir, tmp_path / "out")
    assert notes["exporter"] == "torchscript"
    assert list(notes["rejected"]) == ["dynamo"]


def test_graph_that_differs_from_eager_is_refused(tmp_path: Path) -> None:
    model_dir = torch_dir(tmp_path / "m", weights=False)
    # The older exporter freezes what depends on the batch size; here the answer does.
    (model_dir / "code" / "net.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n    def forward(self, image):\n"
        "        return image.mean(dim=(1, 2, 3)) * int(image.shape[0])\n\ndef build():\n    return Net()\n"
    )
    message = refusal("export", model_dir, Export(exporter="torchscript"), tmp_path / "out")
    assert "differs from the eager model" in message


def test_inputs_that_do_not_fit_forward_are_refused(tmp_path: Path) -> None:
    model_dir = torch_dir(tmp_path / "m")
    described = json.loads((model_dir / "torch.json").read_text())
    described["inputs"][0]["shape"] = ["batch", 4, 16, 16]
    (model_dir / "torch.json").write_text(json.dumps(described))
    assert "the module itself fails" in refusal("export", model_dir, Export(), tmp_path / "out")


def test_pooling_of_a_plain_directory_is_none(tmp_path: Path) -> None:
    assert huggingface.read_pooling(tmp_path) is None


TIED = """
import torch

class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(600, 600)
        self.head = torch.nn.Linear(600, 600)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.table(ids).mean(1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_weights_beside_exporters_graph_are_the_same_weights(
    exporter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of large models are written beside it; none of them is in memory with the graph, tied ones included."""
    source = tmp_path / "source"
    (source / "code").mkdir(parents=True)
    (source / "code/tied.py").write_text(TIED)
    inputs = [{"name": "ids", "dtype": "int64", "shape": ["batch", 7]}]
    (source / "torch.json").write_text(json.dumps({"factory": "tied:Tied", "inputs": inputs}))
    saved: list[int] = []
    save = files.save

    def watched(model: Any, *rest: Any, **more: Any) -> Any:
        saved.append(model.ByteSize())
        return save(model, *rest, **more)

    monkeypatch.setattr(files, "save", watched)
    exported(source, tmp_path / "one", exporter=exporter)
    monkeypatch.setattr(export, "_ONE_FILE_BYTES", 0)
    exported(source, tmp_path / "beside", exporter=exporter)
    assert max(saved) < 100_000  # a table of 1.4 MB
    assert (tmp_path / "one" / files.DATA).read_bytes() == (tmp_path / "beside" / files.DATA).read_bytes()
    one, beside = (files.load(tmp_path / name).graph for name in ("one", "beside"))
    assert list(one.node) == list(beside.node)
    assert not [path for path in (tmp_path / "beside").iterdir() if path.is_dir()]
