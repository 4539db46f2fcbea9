"""Writes the tokenizer of a Hugging Face directory as one tokenizer.json that pads to a batch and cuts at a length.

Promises:
- The tokenizer pads to the longest text of a batch and cuts at the model's own length.
- Where the directory has only a vocabulary (vocab.txt, vocab.json and merges.txt, a sentencepiece model), it is converted with
  transformers' fast tokenizer. Nothing is fetched and no code of the directory runs.
- A model that takes more than tokens gets none, because a text alone could not become its inputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlpack.core.files import bounded, tokenizer_limits
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.export import extras
from mlpack.passes.export.pooling import Pooling, read_object

if TYPE_CHECKING:
    from pathlib import Path

    from mlpack.core.records import TensorSpec

TOKENS = ("input_ids", "attention_mask", "token_type_ids")
"""The outputs of a tokenizer, by the names of a model's inputs."""
_SLOW = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model")
"""Vocabularies from which transformers makes a fast tokenizer."""
_BYTES_IN_MEMORY = 40
"""The approximate memory for a byte of a vocabulary during the conversion."""


def has_texts(model_dir: Path) -> bool:
    """Whether the directory has a tokenizer, in any form."""
    return any((model_dir / name).is_file() for name in (files.TOKENIZER, *_SLOW))


def from_tokens(inputs: tuple[TensorSpec, ...]) -> bool:
    """Whether a tokenizer alone gives all inputs of the model."""
    return all(spec.name in TOKENS and len(spec.shape) == 2 for spec in inputs)


def write(model_dir: Path, out_dir: Path, rows: int, max_length: int | None) -> None:
    """Write tokenizer.json. `rows`: the number of tokens that the model knows. PassError for a damaged one or another model's."""
    path = model_dir / files.TOKENIZER
    if path.is_file():
        tokenizer, name = tokenizer_limits.load(path, PassError), path.name
    elif has_texts(model_dir):
        tokenizer, name = _converted(model_dir, out_dir)
    else:
        return
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    if not vocabulary:
        raise PassError(f"{name} holds no words, so every text would be the same: copy the tokenizer's files again")
    largest = max(vocabulary.values())
    if largest >= rows > 1:
        raise PassError(
            f"{name} gives tokens up to number {largest} and the model has {rows} (vocab_size): it belongs to another model"
        )
    _write(tokenizer, model_dir, out_dir, max_length)


def write_padded(path: Path, out_dir: Path, max_length: int | None) -> None:
    """Write the tokenizer at `path` as one that pads, so that calls of texts can be read. PassError where it is damaged."""
    _write(tokenizer_limits.load(path, PassError), path.parent, out_dir, max_length)


def _write(tokenizer: Any, model_dir: Path, out_dir: Path, max_length: int | None) -> None:
    """Write it with padding to the longest text of a batch, and the length at which texts are cut."""
    padding: dict[str, Any] = tokenizer.padding or padding_of(model_dir, tokenizer)
    padding |= {"length": None}
    tokenizer.enable_padding(**padding)
    _cut_at(tokenizer, max_length, model_dir)
    (out_dir / files.TOKENIZER).write_text(tokenizer.to_str(), "utf-8")


def _cut_at(tokenizer: Any, max_length: int | None, model_dir: Path) -> None:
    """Texts are cut at this length: on the side that tokenizer_config.json says, else tokenizer.json, as in transformers."""
    if max_length is None:
        return
    path = model_dir / "tokenizer_config.json"
    side = read_object(path).get("truncation_side") if path.is_file() else None
    if side not in ("left", "right"):
        side = (tokenizer.truncation or {}).get("direction", "right")
    tokenizer.enable_truncation(max_length, direction=side)


def _converted(model_dir: Path, out_dir: Path) -> tuple[Any, str]:
    """The fast tokenizer that transformers makes of a directory without tokenizer.json, and the file that it read."""
    import transformers

    file_name = next(name for name in _SLOW if (model_dir / name).is_file())
    size = (model_dir / file_name).stat().st_size
    bounded.fits_in_memory(_BYTES_IN_MEMORY * size, f"the tokenizer that {file_name} holds", PassError)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            model_dir, use_fast=True, local_files_only=True, trust_remote_code=False
        )
        if not tokenizer.is_fast:
            raise PassError(
                f"{file_name}: transformers has no fast form of {type(tokenizer).__name__}, and packages carry no Python "
                "tokenizer; make one yourself and give it as serve.tokenizer, or send tensors"
            )
        written = out_dir / files.TOKENIZER
        written.write_text(tokenizer.backend_tokenizer.to_str(), "utf-8")
        return tokenizer_limits.load(written, PassError), file_name
    except PassError:
        raise
    except Exception as error:  # the tokenizers library raises nothing more special
        if missing := extras.missing(error):
            raise missing from None
        raise PassError(
            f"{file_name}: transformers cannot make a fast tokenizer of it ({type(error).__name__}: {str(error)[:300]}); are "
            "all files of the tokenizer there (and, for sentencepiece models, the packages sentencepiece and protobuf)? Or "
            "save it with a tokenizer.json (AutoTokenizer.from_pretrained(...).save_pretrained(...))"
        ) from error


def pad_id(model_dir: Path) -> int:
    """The token that pads texts; 0 where no file names one, as in the runtime."""
    path = model_dir / files.TOKENIZER
    tokenizer = tokenizer_limits.load(path, PassError) if path.is_file() else None
    padding = {} if tokenizer is None else tokenizer.padding or padding_of(model_dir, tokenizer)
    return int(padding.get("pad_id", 0))


def pooled(pooling: Pooling | None, model_dir: Path) -> Pooling | None:
    """The pooling, which has to look for the first token where the tokenizer puts padding before it."""
    path = model_dir / files.TOKENIZER
    if pooling is None or pooling.mode != "cls" or not path.is_file():
        return pooling
    padding = tokenizer_limits.load(path, PassError).padding or {}
    return replace(pooling, left=padding.get("direction") == "left")


def padding_of(model_dir: Path, tokenizer: Any) -> dict[str, Any]:
    """The padding token in the directory's other files, for a tokenizer that does not name one; else a usual one. And the side:
    on the right the rows of every model that looks only at its mask are those of each text alone, but XLNet's head reads the last
    place, padding or not, so that its texts are padded on the left, as transformers does."""
    token_config: Any = None
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if token_config is None and (model_dir / name).is_file():
            token_config = read_object(model_dir / name).get("pad_token")
    config = read_object(model_dir / "config.json") if (model_dir / "config.json").is_file() else {}
    side = {"direction": "left"} if config.get("model_type") == "xlnet" else {}
    token = token_config.get("content") if isinstance(token_config, dict) else token_config
    for candidate in (token, "[PAD]", "<pad>"):
        number = tokenizer.token_to_id(candidate) if isinstance(candidate, str) and candidate else None
        if number is not None:
            return {"pad_id": number, "pad_token": candidate, **side}
    return side
