"""A stranger's tokenizer.json: what it asks for is looked at before the library sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from mlpack.core.files import bounded, tokenizer_limits
from mlpack.errors import PackError


def described(**more: Any) -> dict[str, Any]:
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return {"version": "1.0", "added_tokens": [], "model": {**model, "vocab": {"[UNK]": 0, "a": 1}}} | more


def added(content: Any) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": 2, "content": content, "special": True, **flags}


def unigram(*pieces: Any) -> dict[str, Any]:
    return described(model={"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], *([each, -1.0] for each in pieces)]})


def padded(**more: Any) -> dict[str, Any]:
    said = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    return described(padding={"strategy": "BatchLongest", **said, **more})


GOOD = [
    described(),
    described(added_tokens=[added("<|endoftext|>"), {**added(" " * 1024), "id": 3}]),
    unigram("a", "▁the", "é" * 1000),
    padded(),
    padded(strategy={"Fixed": 128}, pad_to_multiple_of=8),
]


@pytest.mark.parametrize("good", GOOD)
def test_what_real_tokenizers_say_is_loaded(good: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(good))
    found = tokenizer_limits.load(tmp_path / "tokenizer.json", PackError)
    assert found.get_vocab() == Tokenizer.from_str(json.dumps(good)).get_vocab()


BAD: list[tuple[Any, str]] = [
    (described(added_tokens=[added("ab" * 2_500_000)]), r"5,000,000 characters, more than the 1,024"),
    (described(model={"type": "BPE", "vocab": {"b" * 1025: 0}, "merges": []}), "1,025 characters"),
    (unigram("b" * 100_000), "100,000 characters"),
    (padded(strategy={"Fixed": 10**7}), "pads each text to 10000000 tokens"),
    (padded(pad_to_multiple_of=10**30), "pads each text"),
    (unigram(3), "no tokenizer.json"),
    (unigram(["a"] * 3), "no tokenizer.json"),
    (described(added_tokens=[added(None)]), "no tokenizer.json"),
    (described(added_tokens=[3]), "no tokenizer.json"),
    (described(added_tokens=7), "no tokenizer.json"),
    (described(model={"type": "WordPiece", "vocab": 5}), "no tokenizer.json"),
    (described(model=[]), "no tokenizer.json"),
    (described(model={"type": "Nobody's", "vocab": {}}), "not a tokenizer"),
    (described(normalizer={"type": "Nobody's"}), "not a tokenizer"),
    (described(more=json.loads("[" * 70 + "]" * 70)), "nested more than 64 deep"),
    ([], "no tokenizer.json"),
    ("text", "no tokenizer.json"),
]


@pytest.mark.parametrize(("bad", "says"), BAD)
def test_what_none_says_is_refused_by_name(bad: Any, says: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(bad))
    with pytest.raises(PackError, match=says.replace(".", r"\.")) as refused:
        tokenizer_limits.load(tmp_path / "tokenizer.json", PackError)
    assert len(str(refused.value)) < 1000


def test_a_vocabulary_that_does_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(unigram(*(f"{number:08d}" * 4 for number in range(800)))))
    bounded.configure({"MLPACK_MAX_DATA_MB": "9"})
    try:
        with pytest.raises(PackError, match=r"the vocabulary of tokenizer\.json would take 11 MB"):
            tokenizer_limits.read(tmp_path / "tokenizer.json", PackError)
    finally:
        bounded.configure({})
    assert tokenizer_limits.read(tmp_path / "tokenizer.json", PackError)["model"]["type"] == "Unigram"


def test_a_file_of_a_terabyte_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PackError, match="more than the 268,435,456 bytes"):
        tokenizer_limits.read(tmp_path / "tokenizer.json", PackError)
