"""Refuses a Hugging Face directory's config.json that asks for code or too much memory, and counts the tokens its model takes.

Promises:
- A config that names code, anywhere in it, is refused before transformers reads it, and so is one that describes more than this
  machine holds.
- Positions are counted in the model. It reads no file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlpack.core.files import bounded
from mlpack.errors import PassError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_LAYERS = 10_000
_POSITION_TABLES = ("position_embeddings", "position_embedding", "wpe")
"""The names of tables of absolute positions in transformers' models."""


def check_config(described: Mapping[str, Any]) -> None:
    """Raise PassError for a config that names code, or asks for more memory than any machine has."""
    if "auto_map" in described:
        raise PassError("config.json asks for code from the model's directory (auto_map); mlpack never runs it. "
                        "Use the torch source with your own factory instead")  # fmt: skip
    # transformers 4.56 to 5.2 fetches an attention kernel from the Hub, and runs it, when a config names one (CVE-2026-4372).
    for key, value in _settings(described):
        if key.endswith(("_implementation", "_implementation_internal")) and isinstance(value, str) and not value.isidentifier():
            raise PassError(f"config.json asks for code from elsewhere ({key}: {value!r:.100}); mlpack never runs it")
        if key.endswith(("layers", "layer")) and isinstance(value, int) and value > _MAX_LAYERS:
            raise PassError(f"config.json: {key} is {value!s:.40}, more than the {_MAX_LAYERS:,} that are built: is it damaged?")
    sizes = [described.get(key) for key in ("hidden_size", "vocab_size", "max_position_embeddings")]
    width, *rows = (size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else 1 for size in sizes)
    bounded.fits_in_memory(4 * width * max(sum(rows), width), "the model that config.json describes", PassError)


def _settings(described: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of a config, those of the models inside it and of lists too."""
    for key, value in described.items() if isinstance(described, dict) else ():
        yield str(key), value
        inner = value.values() if isinstance(value, dict) and str(key).endswith("_implementation") else ()
        yield from ((str(key), each) for each in inner)
        for each in value if isinstance(value, list) else [value]:
            yield from _settings(each)


def positions(model: Any) -> int | None:
    """The number of rows in the model's own table of positions; None when it has no such table.

    It counts the table and does not read the config: models like RoBERTa skip its first rows, and those with relative positions
    state a number that is no limit.
    """
    import torch

    lengths = []
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _POSITION_TABLES and isinstance(module, torch.nn.Embedding):
            left_out = 0 if module.padding_idx is None else module.padding_idx + 1
            lengths.append(module.num_embeddings - left_out)
    if lengths and min(lengths) < 1:
        raise PassError("the model has no row of positions for a single token: is max_position_embeddings in config.json right?")
    return min(lengths, default=None)
