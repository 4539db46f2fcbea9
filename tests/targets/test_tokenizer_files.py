"""A tokenizer's files: split where that changes nothing, copied where it might."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from mlpack.errors import PackError
from mlpack.targets.format import tokenizer_files

KNOWN = ["[PAD]", "a", "[UNK]", "[CLS]", "[SEP]", "cat", "##s", "ü", "don", "'", "t", "\u2009x"]


def word_pieces(path: Path, known: list[str] = KNOWN) -> Path:
    made = Tokenizer(models.WordPiece({word: at for at, word in enumerate(known)}, unk_token="[UNK]", max_input_chars_per_word=40))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 3), ("[SEP]", 4)])
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    made.save(str(path))
    return path


def loaded(folder: Path, settings: dict[str, Any]) -> Tokenizer:
    """As the runtime loads it."""
    made = Tokenizer.from_file(str(folder / settings["file"]))
    if words := settings.get("wordpiece"):
        options = {key: value for key, value in words.items() if key != "file"}
        made.model = models.WordPiece.from_file(str(folder / words["file"]), **options)
    return made


def test_write_splits_word_pieces_and_tokenises_alike(tmp_path: Path) -> None:
    source = word_pieces(tmp_path / "in.json")
    settings = tokenizer_files.write(source, tmp_path)
    assert settings["wordpiece"]["max_input_chars_per_word"] == 40
    assert (tmp_path / "vocab.txt").read_text("utf-8").split("\n")[:3] == ["[PAD]", "a", "[UNK]"]
    one, other = Tokenizer.from_file(str(source)), loaded(tmp_path, settings)
    for text in ("a cats", "A cat don't ü [SEP]", "b" * 50):
        assert one.encode(text).ids == other.encode(text).ids
    assert one.get_vocab() == other.get_vocab()


def added_beyond(described: dict[str, Any]) -> None:
    described["added_tokens"][0] |= {"id": len(KNOWN), "content": "[NEW]"}


def gap(described: dict[str, Any]) -> None:
    described["model"]["vocab"]["far"] = 1000


def blank(described: dict[str, Any]) -> None:
    described["model"]["vocab"] |= {"word ": len(KNOWN)}


def two_lines(described: dict[str, Any]) -> None:
    described["model"]["vocab"] |= {"two\u2028lines": len(KNOWN)}


@pytest.mark.parametrize("change", [added_beyond, gap, blank, two_lines])
def test_write_what_a_list_cannot_hold_is_copied(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    source = word_pieces(tmp_path / "in.json")
    described = json.loads(source.read_text("utf-8"))
    change(described)
    source.write_text(json.dumps(described), "utf-8")
    assert tokenizer_files.write(source, tmp_path) == {"file": "tokenizer.json"}
    assert (tmp_path / "tokenizer.json").read_bytes() == source.read_bytes()
    assert not (tmp_path / "vocab.txt").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 3}', "\xff"])
def test_write_what_is_no_tokenizer_is_refused(text: str, tmp_path: Path) -> None:
    source = tmp_path / "in.json"
    source.write_bytes(text.encode("latin-1"))
    with pytest.raises(PackError, match=r"no tokenizer\.json"):
        tokenizer_files.write(source, tmp_path)
