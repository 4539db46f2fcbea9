"""How good the packed models are: predictions that `measure` wrote, scored and compared with the float baseline's.

Promises: baseline and candidate are compared sample by sample on the same data; what was compared with is said. Runs no model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack import metrics
from mlpack.data.calls import DTYPES
from mlpack.errors import MeasureError
from mlpack.records import Accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Call = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """What accuracy means in this build: a metric by name, the labels (None: compared with the baseline), and where it is run."""

    metric: str
    labels: tuple[Any, ...] | None
    isa: str
    load_hook: Callable[[str], Callable[..., Any]]

    def accuracies(self, predictions: Mapping[str, Path], baseline_id: str) -> dict[str, Accuracy | MeasureError]:
        """The accuracy of every model whose predictions these are, or why it has none; `baseline_id` is one of them."""
        metric = metrics.find(self.metric, self.load_hook)
        baseline_outputs = read_outputs(predictions[baseline_id])
        baseline = metrics.evaluate(metric, baseline_outputs, self.labels)
        found: dict[str, Accuracy | MeasureError] = {}
        for id_, prefix in predictions.items():
            try:
                scores = (
                    baseline
                    if id_ == baseline_id
                    else metrics.evaluate(metric, read_outputs(prefix), self.labels, baseline_outputs)
                )
            except MeasureError as error:
                found[id_] = error
                continue
            drop, low, high = metrics.paired_drop(metric, baseline, scores)
            found[id_] = Accuracy(
                metric=self.metric,
                value=scores.value,
                drop=drop,
                ci_low=low,
                ci_high=high,
                n=scores.n,
                isa=self.isa,
                compared_with="labels" if metric.compares == "labels" else "float baseline",
            )
        return found


def read_outputs(prefix: Path) -> list[Call]:
    """Every call's outputs by name, from the two files that the package's bench wrote. The bytes stay in the file until used."""
    import mmap

    import numpy as np

    described = json.loads(Path(f"{prefix}.json").read_bytes())
    with Path(f"{prefix}.bin").open("rb") as stream:
        # An empty file, of outputs without elements, cannot be mapped.
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if stream.seek(0, 2) else b""

    def array(row: Mapping[str, Any]) -> NDArray[Any]:
        dtype = np.dtype(DTYPES[row["datatype"]])
        return np.frombuffer(data, dtype, row["size"] // dtype.itemsize, row["offset"]).reshape(row["shape"])

    return [{name: array(row) for name, row in call.items()} for call in described]
