"""Calls of the evaluation data as the JSON bodies of requests.

Promises:
- A text is sent as a plain string, tensors as in the protocol. JSON has no infinity, so a call with one is no body; a missing value
  is null.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from math import isinf
from pathlib import Path
from typing import Any

from mlpack.core.records import Recipe
from mlpack.errors import RecipeError
from mlpack.evaluation.data import calls

_STRUCT_CODES = {"BOOL": "?", "FP16": "e", "FP32": "f", "FP64": "d"} | {
    f"{sign}INT{8 << power}": letter if sign == "" else letter.upper() for sign in ("", "U") for power, letter in enumerate("bhiq")
}
"""Element types of the Open Inference Protocol as `struct` spells them. Importing numpy for one sample would take 0.2 s."""


def sample(recipe: Recipe, every: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """The recipe's example, else the first call without missing values, else the first that is a body. RecipeError without any."""
    if recipe.serve.example is not None:
        return dict(json.loads((recipe.root / recipe.serve.example).read_bytes()))
    missing: dict[str, Any] | None = None
    for call in every:
        found = body(call, folder)
        if found is None:
            continue
        if "inputs" not in found or not any(None in row["data"] for row in found["inputs"]):
            return found
        missing = missing or found
    if missing is not None:
        return missing
    raise RecipeError(
        f"data.evaluation: all of its {len(every)} calls hold infinite values, so none can be the JSON request that "
        "the package is booted with: give one as serve.example, or clean the data"
    )


def body(call: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """A call whose bytes are in `folder` as a request; None of one with infinite values."""
    if "texts" in call:
        first = call["texts"][0]
        return {"text": first} if isinstance(first, str) else {"text": first[0], "text_pair": first[1]}
    rows = []
    for name, row in call["inputs"].items():
        values = _values(row, folder)
        if any(isinstance(value, float) and isinf(value) for value in values):
            return None
        rows.append(
            {
                "name": name,
                "datatype": row["datatype"],
                "shape": row["shape"],
                "data": [None if value != value else value for value in values],
            }
        )
    return {"inputs": rows}


def _values(row: Mapping[str, Any], folder: Path) -> list[Any]:
    with (folder / "calls.bin").open("rb") as stream:
        stream.seek(row["offset"])
        data = stream.read(row["size"])
    if row["datatype"] == "BYTES":
        return calls.strings(data)
    code = _STRUCT_CODES[row["datatype"]]
    return list(struct.unpack(f"<{row['size'] // struct.calcsize(code)}{code}", data))
