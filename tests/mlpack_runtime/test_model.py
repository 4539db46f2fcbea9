from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.tiny_packages import affine, package, words

from mlpack_runtime import model
from mlpack_runtime.model import ModelError
from mlpack_runtime.ort import OrtError
from mlpack_runtime.tensor import Tensor, tensor

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLPACK_MODEL_DIR", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "LAMBDA_TASK_ROOT"):
        monkeypatch.delenv(name, raising=False)


def load(root: Path, monkeypatch: pytest.MonkeyPatch) -> model.Model:
    """The package at `root`, loaded by the sources under test rather than by its own copy of them."""
    monkeypatch.setattr(model, "ROOT", str(root))
    return model.load()


def changed(root: Path, target: Path, **settings: Any) -> Path:
    shutil.copytree(root, target, symlinks=True)
    described = json.loads((target / "model/model.json").read_text())
    (target / "model/model.json").write_text(json.dumps({**described, **settings}))
    return target


def test_load_and_predict_use_what_model_json_says(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(tiny, monkeypatch)
    assert (loaded.name, loaded.version, loaded.variant, loaded.target) == ("tiny", "3", "fp32", "lambda-zip")
    outputs = loaded.predict({"pixels": tensor([1, 2, 3, 4], "FP32", (1, 4)), "marks": tensor([5], "INT64", (1,))})
    assert outputs["count"].tolist() == 5
    assert outputs["scores"].shape == (1, 3)
    assert {"engine", "session"} <= loaded.stages_ms.keys()
    with pytest.raises(ModelError, match="no tokenizer"):
        loaded.predict_texts(["a"])


def test_predict_texts_equals_the_tokenizers_package(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer

    loaded = load(texts, monkeypatch)
    batch = ["the cats sat", "dog", "the cat sat on the mat on the mat", "unknown ☃"]
    found = loaded.tokenize(batch)
    oracle = Tokenizer.from_file(str(texts / "model/tokenizer.json"))
    oracle.enable_truncation(6)
    oracle.enable_padding()
    rows = oracle.encode_batch(batch)
    assert list(found) == ["input_ids", "attention_mask"]  # what the graph asks for, and no more
    assert found["input_ids"].tolist() == [row.ids for row in rows]
    assert found["attention_mask"].tolist() == [row.attention_mask for row in rows]
    assert found["input_ids"].shape == (4, 6)
    assert loaded.predict_texts(batch)["embedding"].shape == (4, 5)
    for text in (*batch, ("the cat", "a dog"), "the cat " * 2000):  # one alone takes another way, and a long one a third
        assert loaded.tokenize([text])["input_ids"].tolist() == [oracle.encode_batch([text])[0].ids]


def test_tokenizer_padding_of_its_file_gives_way_to_the_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer

    root = package(tmp_path / "p", words, tokenizer={"file": "tokenizer.json", "max_length": 6})
    path = str(root / "model/tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.enable_padding(length=128, direction="left", pad_id=3)
    tokenizer.enable_truncation(128)
    tokenizer.save(path)
    assert load(root, monkeypatch).tokenize(["a", "a cat"])["input_ids"].tolist() == [[3, 2, 4, 3], [2, 4, 5, 3]]


@pytest.mark.parametrize(("chosen", "pad_id"), [(None, 0), ("mat", 11), ("nowhere", 0)])
def test_tokenizer_without_padding_pads_with_its_pad_token(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, pad_id: int
) -> None:
    root = changed(texts, tmp_path / "p", tokenizer={"file": "tokenizer.json", "max_length": 6, "pad_token": chosen})
    assert load(root, monkeypatch).tokenize(["a", "a cat"])["input_ids"].tolist() == [[2, 4, 3, pad_id], [2, 4, 5, 3]]


def test_tokenizer_vocabulary_apart_gives_the_same_ids(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.loads((texts / "model/tokenizer.json").read_text())
    vocabulary = whole["model"]["vocab"]
    special = {token["content"] for token in whole["added_tokens"]}
    whole["model"]["vocab"] = {word: at for word, at in vocabulary.items() if word in special}
    settings = {"file": "vocab.txt", "unk_token": "[UNK]", "max_input_chars_per_word": 100, "continuing_subword_prefix": "##"}
    root = changed(texts, tmp_path / "p", tokenizer={"file": "tokenizer.json", "max_length": 6, "wordpiece": settings})
    (root / "model/tokenizer.json").write_text(json.dumps(whole))
    (root / "model/vocab.txt").write_text("".join(f"{word}\n" for word in sorted(vocabulary, key=vocabulary.__getitem__)))
    batch = ["the cats sat on [MASK] mat", "[SEP] dogs"]
    expected = load(texts, monkeypatch).tokenize(batch)["input_ids"].tolist()
    assert load(root, monkeypatch).tokenize(batch)["input_ids"].tolist() == expected


@pytest.mark.parametrize(("memory_mb", "threads"), [(128, 1), (1769, 1), (2600, 1), (3008, 2), (3538, 2), (10240, 6)])
def test_threads_follow_memory(memory_mb: int, threads: int) -> None:
    assert model.threads(memory_mb) == threads


def test_load_memory_of_the_platform_comes_before_model_json(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(tiny, monkeypatch).session.threads == 1
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3538")
    assert load(tiny, monkeypatch).session.threads == 2


def test_directory_function_code_beside_a_layer_is_found(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, code = tmp_path / "opt", tmp_path / "task"
    shutil.copytree(tiny / "lib", layer / "lib", symlinks=True)
    shutil.copytree(tiny / "model", code / "model")
    monkeypatch.setenv("LAMBDA_TASK_ROOT", str(code))
    assert load(layer, monkeypatch).directory == str(code / "model")
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(tiny / "model"))
    assert load(layer, monkeypatch).directory == str(tiny / "model")
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match=r"no model\.json in .*nowhere"):
        load(layer, monkeypatch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has schema None"),
        ('{"schema": 2}', "has schema 2; this runtime reads schema 1"),
        ('{"schema": 1, "name": "x"}', "has no 'version'"),
    ],
)
def test_load_bad_model_json_is_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    root = changed(tiny, tmp_path / "p")
    (root / "model/model.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        load(root, monkeypatch)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("lib/libonnxruntime.so", "the engine is not in"),
        ("site/tokenizers/tokenizers.abi3.so", "the tokenizer's library is not in"),
        ("model/tokenizer.json", "cannot read the tokenizer"),
        ("model/model.json", "no model.json"),
    ],
)
def test_load_incomplete_package_names_what_is_missing(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: str, message: str
) -> None:
    root = changed(texts, tmp_path / "p")
    (root / removed).unlink()
    monkeypatch.delitem(model.sys.modules, "tokenizers", raising=False)
    with pytest.raises(ModelError, match=message):
        load(root, monkeypatch)


def test_load_damaged_parts_are_clean_errors(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = changed(texts, tmp_path / "p")
    (root / "model/tokenizer.json").write_text('{"version": 1')
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        load(root, monkeypatch)
    (root / "model/model.onnx").write_bytes(b"\x08\x08garbage")
    with pytest.raises(OrtError):
        load(root, monkeypatch)
    monkeypatch.delitem(model.sys.modules, "tokenizers", raising=False)
    root = changed(texts, tmp_path / "q")
    (root / "site/tokenizers/tokenizers.abi3.so").unlink()
    (root / "site/tokenizers/tokenizers.abi3.so").write_bytes(b"\x7fELF but not really")
    with pytest.raises(ModelError, match=r"cannot load .*Is it built for this machine"):
        load(root, monkeypatch)


def test_load_graph_that_wants_more_than_tokens_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = package(tmp_path / "p", affine, tokenizer={"file": "tokenizer.json", "max_length": 6})
    with pytest.raises(ModelError, match="the graph's input 'pixels'"):
        load(root, monkeypatch)


def test_warm_runs_once_and_a_model_that_refuses_stays_cold(tiny: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(texts, monkeypatch).warm()
    loaded = load(tiny, monkeypatch)
    seen: list[dict[str, Tensor]] = []

    def refuse(feeds: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(feeds)
        raise OrtError("not with zeros")

    monkeypatch.setattr(loaded.session, "run", refuse)
    loaded.warm()
    assert seen[0]["pixels"].shape == (1, 4)
