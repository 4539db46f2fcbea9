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
        lines = (str(error).strip() or "no message").splitlines()
        raise PassError(f"{doing}: {type(error).__name__}: {lines[0][:400]}") from error
