"""Fitted estimators, however they are kept: what to ask them, and how they become ONNX.

    sklearn    estimator.json (`factory`), code/ (the user's Python files, and the file that the function reads)
    xgboost    model.json or model.ubj
    lightgbm   model.txt

Each directory also has signature.json with the inputs. Promises: the function runs once, with a fixed seed; an exception in it is
a PassError that quotes it. Files are read by their own library and by nothing that executes what they hold.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack import bounded
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.export import extras, torch_model

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from mlpack.records import TensorSpec

DESCRIPTION = "estimator.json"
CODE = "code"

Feed = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """Something fitted. `methods`: what it can be asked, by name, `predict` first; `label`: whether that is a class.

    `ways`: in what the graph may compute, the best first. `convert(float64, opset)`: the graph, raw.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    methods: Mapping[str, Callable[[Feed], Any]]
    label: bool
    ways: tuple[str, ...]
    convert: Callable[[bool, int], onnx.ModelProto]


@contextmanager
def quoted(doing: str) -> Iterator[None]:
    """Whatever somebody else's code raises, as a PassError with its words."""
    try:
        yield
    except PassError:
        raise
    except Exception as error:  # libraries and users derive errors of their own from Exception
        if missing := extras.missing(error):
            raise missing from None
        said = (str(error).strip() or "no message").splitlines()
        raise PassError(f"{doing}: {type(error).__name__}: {said[0][:400]}") from error


@contextmanager
def opened(model_dir: Path) -> Iterator[Estimator]:
    """The estimator of a directory. The user's code stays importable inside the `with` only."""
    inputs = files.read_signature(model_dir).inputs
    if (model_dir / DESCRIPTION).is_file():
        from mlpack.passes.convert import scikit

        with torch_model.importable(model_dir / CODE):
            yield scikit.described(_made(model_dir), inputs)
        return
    from mlpack.passes.convert import boosters

    (path,) = model_dir.glob("model.*")
    yield boosters.described(path, inputs)


def _made(model_dir: Path) -> Any:
    """Calls the function with numpy's seed fixed: what is fitted with `random_state=None` is then the same every time."""
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
            made = getattr(importlib.import_module(module_name), function)()
    finally:
        np.random.set_state(state)
    return made
