"""A fitted estimator of any library: the methods that it has, and its conversion to ONNX.

Promises:
- One form for scikit-learn's estimators and for models in the formats of XGBoost and LightGBM.

Will not: open either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.passes.export import extras

if TYPE_CHECKING:
    import onnx

    from mlpack.core.records import TensorSpec

Feed = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """A fitted estimator. `methods`: its methods by name, `predict` first; `label`: whether `predict` returns a class.

    `ways`: the types in which the graph may compute, the best first. `convert(float64, opset)`: the graph, not finished.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    methods: Mapping[str, Callable[[Feed], Any]]
    label: bool
    ways: tuple[str, ...]
    convert: Callable[[bool, int], onnx.ModelProto]


@contextmanager
def quoted(doing: str) -> Iterator[None]:
    """A context in which whatever foreign code raises becomes a PassError with its message."""
    try:
        yield
    except PassError:
        raise
    except Exception as error:  # libraries and users derive errors of their own from Exception
        if missing := extras.missing(error):
            raise missing from None
        lines = (str(error).strip() or "no message").splitlines()
        raise PassError(f"{doing}: {type(error).__name__}: {lines[0][:400]}") from error
