"""A tokenizer's files as a package carries them.

Promises:
- The package tokenises exactly as tokenizer.json says.
- A WordPiece tokenizer keeps its words in a plain list where one can hold them: the library reads 30,000 words from a list in 17
  ms, from JSON in 29 ms, at every cold start. Both forms are loaded and compared first. Any other file is copied unchanged.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mlpack.core.files import tokenizer_limits
from mlpack.errors import PackError

TOKENIZER, WORDS = "tokenizer.json", "vocab.txt"
_OPTIONS = ("unk_token", "max_input_chars_per_word", "continuing_subword_prefix")
_PROBES = (
    "",
    "Hello, World!",
    "unaffable [MASK] naïve café 北京 ½ İstanbul",
    "x" * 300,
    "a\tb\nc  d",
    "[CLS] don't ##stop 12,345.67",
)


def write(source: Path, out_dir: Path) -> dict[str, Any]:
    """Put the tokenizer at `source` into `out_dir`. Returns its entry for model.json: "file", and "wordpiece" when it was split.

    PackError when the file is no tokenizer.
    """
    tokenizer = tokenizer_limits.read(source, PackError)
    kind = tokenizer["model"].get("type")
    target = out_dir / TOKENIZER
    try:
        words = _plain_words(tokenizer) if kind == "WordPiece" else None
        if words is not None:
            options = {key: tokenizer["model"][key] for key in _OPTIONS if key in tokenizer["model"]}
            tokenizer["model"]["vocab"] = {each["content"]: each["id"] for each in tokenizer["added_tokens"]}
            target.write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")), "utf-8")
            (out_dir / WORDS).write_text("".join(f"{word}\n" for word in words), "utf-8", newline="\n")
            if _agree(tokenizer_limits.load(source, PackError), target, out_dir / WORDS, options):
                return {"file": TOKENIZER, "wordpiece": {"file": WORDS, **options}}
            (out_dir / WORDS).unlink()
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        why = f"{type(error).__name__}: {str(error)[:300]}"
        raise PackError(f"{source} is no tokenizer.json of the tokenizers library ({why}): save it anew") from None
    shutil.copyfile(source, target)
    return {"file": TOKENIZER}


def longest(source: Path) -> int | None:
    """The tokens that a tokenizer.json cuts texts at; None where it does not. PackError when it is no tokenizer."""
    truncation = tokenizer_limits.read(source, PackError).get("truncation")
    length = truncation.get("max_length") if isinstance(truncation, dict) else None
    return length if isinstance(length, int) and length > 0 else None


def _plain_words(tokenizer: dict[str, Any]) -> list[str] | None:
    """The words in the order of their ids. None when a plain list cannot hold them: ids with gaps, blanks at an end, added
    words."""
    vocabulary = tokenizer["model"].get("vocab")
    added = tokenizer.get("added_tokens")
    if not isinstance(vocabulary, dict) or not isinstance(added, list):
        return None
    words = sorted(vocabulary, key=lambda word: int(vocabulary[word]))
    if [vocabulary[word] for word in words] != list(range(len(words))):
        return None
    if any(word != word.rstrip() or len(word.splitlines()) != 1 for word in words):
        return None
    return words if all(vocabulary.get(each["content"]) == each["id"] for each in added) else None


def _agree(one: Any, small: Path, words: Path, options: dict[str, Any]) -> bool:
    """Whether the split tokenizer knows the same words and gives the same tokens as the whole one."""
    from tokenizers import Tokenizer, models

    split = Tokenizer.from_file(str(small))
    split.model = models.WordPiece.from_file(str(words), **options)
    if one.get_vocab() != split.get_vocab():
        return False
    encoded = ((one.encode(text), split.encode(text)) for text in _PROBES)
    return all((a.ids, a.type_ids, a.attention_mask) == (b.ids, b.type_ids, b.attention_mask) for a, b in encoded)
