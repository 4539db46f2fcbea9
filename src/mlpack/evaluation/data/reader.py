"""Reads recorded calls of a model: a directory with `calls.json` and `calls.bin`, one call at a time.

`calls.json` is a list of `{"inputs": {name: {"datatype", "shape", "offset", "size"}}}` (bytes in calls.bin, little endian,
datatypes as the Open Inference Protocol names them) or `{"texts": [...]}`, tokenised with the model's own tokenizer.

Promises:
- Calls are read one by one, so a large set is never in memory at once.
- Damage is a PassError that names the call.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mlpack.core.files import tokenizer_limits
from mlpack.errors import PassError
from mlpack.evaluation.data.calls import from_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from mlpack.core.records import Signature

INDEX, BYTES = "calls.json", "calls.bin"


def count(folder: Path) -> int:
    """The number of calls in the directory."""
    return len(_listed(folder))


def _listed(folder: Path) -> list[dict[str, Any]]:
    try:
        listed = json.loads((folder / INDEX).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PassError(f"{INDEX}: missing or damaged ({error})") from error
    if not isinstance(listed, list) or not listed or not all(isinstance(call, dict) for call in listed):
        raise PassError(f"{INDEX}: holds no calls")
    return listed


def read(folder: Path, model_dir: Path, signature: Signature) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """The inputs of each call, in order, with the element types of the model."""
    listed = _listed(folder)
    tokenizer = _tokenizer(model_dir) if any("texts" in call for call in listed) else None
    for number, call in enumerate(listed):
        try:
            yield _tokens(tokenizer, call["texts"], signature) if "texts" in call else _arrays(folder, call["inputs"], signature)
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            what = f"{type(error).__name__}: {error}"
            raise PassError(f"{INDEX}: call {number} is damaged or does not fit the model ({what})") from error


def shapes(folder: Path, model_dir: Path, signature: Signature) -> Iterator[dict[str, tuple[int, ...]]]:
    """The shapes of what `read` would return. Each text counts by itself, after the empty text, which is the shortest."""
    listed = _listed(folder)
    tokenizer = _tokenizer(model_dir) if any("texts" in call for call in listed) else None
    if tokenizer is not None:
        tokenizer.no_padding()
        yield _row(tokenizer.encode(""), signature)
    for number, call in enumerate(listed):
        try:
            if tokenizer is not None and "texts" in call:
                yield from (_row(one, signature) for one in tokenizer.encode_batch(_texts(call["texts"])))
            else:
                yield {spec.name: tuple(int(n) for n in call["inputs"][spec.name]["shape"]) for spec in signature.inputs}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise PassError(f"{INDEX}: call {number} is damaged or does not fit the model ({what})") from error


def _row(encoded: Any, signature: Signature) -> dict[str, tuple[int, ...]]:
    return {spec.name: (1, len(encoded.ids)) for spec in signature.inputs}


def _tokenizer(model_dir: Path) -> Any:
    path = model_dir / tokenizer_limits.TOKENIZER
    if not path.is_file():
        raise PassError(f"the data holds texts, but the model's directory has no {tokenizer_limits.TOKENIZER}")
    return tokenizer_limits.load(path, PassError)


def _texts(listed: list[Any]) -> list[Any]:
    """The texts of a call as the tokenizer takes them: a pair is a tuple."""
    return [text if isinstance(text, str) else tuple(text) for text in listed]


def _tokens(tokenizer: Any, texts: list[Any], signature: Signature) -> dict[str, Any]:
    import numpy as np

    encoded = tokenizer.encode_batch(_texts(texts))
    fields = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return {
        spec.name: np.array([getattr(row, fields[spec.name]) for row in encoded], dtype=spec.dtype) for spec in signature.inputs
    }


def _arrays(folder: Path, inputs: dict[str, Any], signature: Signature) -> dict[str, Any]:
    result = {}
    with (folder / BYTES).open("rb") as stream:
        for spec in signature.inputs:
            stored = inputs[spec.name]
            stream.seek(int(stored["offset"]))
            data = stream.read(int(stored["size"]))
            array = from_bytes(data, stored["datatype"], [int(n) for n in stored["shape"]])
            if (stored["datatype"] == "BYTES") != (spec.dtype == "string"):
                raise ValueError(f"{spec.name} is {stored['datatype']}, not {spec.dtype}")
            result[spec.name] = array if array.dtype == object else array.astype(spec.dtype, copy=False)
    return result
