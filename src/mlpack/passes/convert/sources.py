"""Loads fitted estimators from their directories.

    sklearn    estimator.json (`factory`), code/ (the user's Python files, and the file that the function reads)
    xgboost    model.json or model.ubj
    lightgbm   model.txt

Each directory also has signature.json with the inputs.

Promises:
- The function runs once, with a fixed seed. An exception in it is a PassError that quotes it.
- Model files are read by their own library, and by nothing that executes their content.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlpack.core.files import bounded
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.convert.estimator import Estimator, quoted
from mlpack.passes.export import torch_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DESCRIPTION = "estimator.json"
CODE = "code"


@contextmanager
def opened(model_dir: Path) -> Iterator[Estimator]:
    """The estimator of a directory. The user's code can be imported inside the `with` only."""
    inputs = files.read_signature(model_dir).inputs
    if (model_dir / DESCRIPTION).is_file():
        from mlpack.passes.convert import scikit

        with torch_model.importable(model_dir / CODE):
            yield scikit.described(_estimator(model_dir), inputs)
        return
    from mlpack.passes.convert.boosting import boosters

    (path,) = model_dir.glob("model.*")
    yield boosters.described(path, inputs)


def _estimator(model_dir: Path) -> Any:
    """Call the function with numpy's seed fixed, so that an estimator with `random_state=None` is the same every time."""
    import numpy as np

    try:
        factory = str(bounded.load_json(model_dir / DESCRIPTION)["factory"])
        module_name, function = factory.split(":")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PassError(f"{DESCRIPTION}: missing or damaged ({error})") from error
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with quoted(f"{factory!r} (called without arguments, it must return a fitted estimator)"):
            estimator = getattr(importlib.import_module(module_name), function)()
    finally:
        np.random.set_state(state)
    return estimator
