"""Directories of estimators and of their evaluation data, as `transform` and `data` write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mlpack.evaluation.data.calls import CallsWriter

Inputs = dict[str, "np.ndarray[Any, Any]"]


def spec(name: str, array: Any) -> dict[str, Any]:
    dtype = "string" if array.dtype.kind in "UO" else array.dtype.name
    return {"name": name, "dtype": dtype, "shape": ["batch", *array.shape[1:]]}


def signed(folder: Path, inputs: Inputs) -> Path:
    """The signature of a source whose data are these."""
    value = {"inputs": [spec(name, array) for name, array in inputs.items()], "outputs": []}
    (folder / "signature.json").write_text(json.dumps(value))
    return folder


def sklearn_dir(folder: Path, code: str, inputs: Inputs, function: str = "fitted") -> Path:
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "fit.py").write_text(code)
    (folder / "estimator.json").write_text(json.dumps({"factory": f"fit:{function}"}))
    return signed(folder, inputs)


def evaluation_dir(folder: Path, inputs: Inputs, rows: int = 7) -> Path:
    """Calls of some rows each."""
    folder.mkdir(parents=True)
    total = len(next(iter(inputs.values())))
    with CallsWriter(folder) as writer:
        for at in range(0, total, rows):
            writer.tensors({name: array[at : at + rows] for name, array in inputs.items()}, min(rows, total - at))
        writer.finish(None)
    return folder
