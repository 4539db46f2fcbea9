"""Checks a foreign tokenizer.json against limits before the tokenizers library reads it.

Promises:
- A document beyond the limits is refused by name: its size and nesting, the length of a piece (the library's time for an added
  one grows with its square), the padding, and a vocabulary whose tree would not fit into memory.
- A document within them is loaded, or refused with the library's message.

Will not: judge how long a tokenizer's patterns take on a text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlpack.core.files import bounded
from mlpack.errors import MlpackError

TOKENIZER = "tokenizer.json"
"""The file of a model's directory that says how its texts become tokens."""
PIECE_CHARACTERS = 1024
"""The longest word, piece or added token. The longest real ones are runs of some hundred blanks; 16,000 characters take 10 s to
add."""
PADDED_TOKENS = 1 << 20
"""The longest models read so many."""
_NODE_BYTES = 400
"""The library's memory for a letter of a Unigram piece (tokenizers 0.22: 356 MB for a million)."""


def read(path: Path, refuse: type[MlpackError]) -> dict[str, Any]:
    """The document. `refuse` makes the error from a message."""
    try:
        document = bounded.load_json(path)
        _check(document, path.name, refuse)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {str(error)[:300]}"
        raise refuse(f"{path} is no tokenizer.json of the tokenizers library ({why}); copy it again, or save it anew") from None
    return dict(document)


def load(path: Path, refuse: type[MlpackError]) -> Any:
    """The tokenizer itself, read as by `read`."""
    from tokenizers import Tokenizer

    read(path, refuse)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the binding raises nothing more special for a file that is no tokenizer
        raise refuse(f"{path.name}: not a tokenizer ({str(error)[:300]}); copy it again, or save the tokenizer anew") from error


def _check(document: Any, name: str, refuse: type[MlpackError]) -> None:
    model = document["model"]
    vocabulary = model.get("vocab")
    # Unigram lists pairs of a piece and its score; the others name a number for each piece.
    pieces = [each[0] for each in vocabulary] if isinstance(vocabulary, list) else list(vocabulary or ())
    added = [each["content"] for each in document.get("added_tokens") or ()]
    for piece in (*pieces, *added):
        if len(piece) > PIECE_CHARACTERS:
            raise refuse(f"{name}: the token {piece!r:.60}... has {len(piece):,} characters, more than the {PIECE_CHARACTERS:,} "
                         "of any that a text is cut into: is the file damaged?")  # fmt: skip
    if isinstance(vocabulary, list):
        letters = sum(len(piece.encode("utf-8", "replace")) for piece in pieces)
        bounded.fits_in_memory(letters * _NODE_BYTES, f"the vocabulary of {name}", refuse)
    padding = document.get("padding")
    strategy = padding.get("strategy") if isinstance(padding, dict) else None
    fixed = strategy.get("Fixed") if isinstance(strategy, dict) else None
    multiple = padding.get("pad_to_multiple_of") if isinstance(padding, dict) else None
    for tokens in (fixed, multiple):
        if isinstance(tokens, int) and tokens > PADDED_TOKENS:
            raise refuse(f"{name}: pads each text to {tokens!s:.30} tokens, more than the {PADDED_TOKENS:,} that any model reads")
