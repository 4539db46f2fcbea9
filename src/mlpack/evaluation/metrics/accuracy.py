"""The accuracy of packed models: scores the predictions that `measure` wrote and compares them with the float baseline's.

Promises:
- Baseline and candidate are compared sample by sample on the same data, and the result says what was compared.

Will not: run a model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core.records import Accuracy, MetricSpec
from mlpack.core.stats import CONFIDENCE
from mlpack.errors import MeasureError, RecipeError
from mlpack.evaluation import metrics
from mlpack.evaluation.data.calls import DTYPES, from_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Call = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyJudge:
    """The accuracy of this build: a metric, the labels (None: compared with the baseline), the samples of each call (None: as many
    as their outputs have rows), the model's names of its classes, the outputs that depend on random numbers in the graph, where
    it runs, and the confidence for the interval of a drop."""

    metric: MetricSpec
    labels: tuple[Any, ...] | None
    isa: str
    load_hook: Callable[[str], Callable[..., Any]]
    samples: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    drawn: tuple[str, ...] = ()
    confidence: float = CONFIDENCE

    def accuracies(self, predictions: Mapping[str, Path], baseline_id: str) -> dict[str, Accuracy | MeasureError]:
        """The accuracy of every model, or why it has none, by the id of its predictions; `baseline_id` is one of them."""
        metric = metrics.find(self.metric, self.load_hook)
        baseline_outputs = self._judged(metric, read_outputs(predictions[baseline_id]))
        unjudged = self._unjudged(metric, baseline_outputs)
        baseline = metrics.evaluate(metric, baseline_outputs, self.labels, None, self.samples, self.names)
        metric = self._settled(metric, baseline)
        results: dict[str, Accuracy | MeasureError] = {}
        for id_, prefix in predictions.items():
            try:
                scores = baseline if id_ == baseline_id else self._candidate(metric, prefix, baseline_outputs)
                drop = metrics.paired_drop(metric, baseline, scores, self.confidence)
            except MeasureError as error:
                results[id_] = error
                continue
            results[id_] = Accuracy(
                metric=self.metric.name,
                value=scores.value,
                drop=drop.value,
                ci_low=drop.low,
                ci_high=drop.high,
                confidence=self.confidence,
                interval=drop.how,
                lower_is_better=metric.lower_is_better,
                n=scores.n,
                isa=self.isa,
                compared_with=self._compared_with(metric),
                output=scores.output or None,
                column=scores.column,
                threshold=scores.threshold,
                unjudged=unjudged,
                spread=drop.spread,
            )
        return results

    def _settled(self, metric: metrics.Metric, baseline: metrics.Scores) -> metrics.Metric:
        """The metric, set to read of every candidate what it read of the baseline."""
        spec = self.metric
        if metric.compares != "labels" or metric.hook is not None or spec.output is not None or not baseline.output:
            return metric
        return dataclasses.replace(metric, spec=dataclasses.replace(spec, output=baseline.output))

    def _candidate(self, metric: metrics.Metric, prefix: Path, baseline_outputs: list[Call]) -> metrics.Scores:
        """A candidate's scores. A fault that the baseline does not have is the candidate's, not the recipe's."""
        outputs = self._judged(metric, read_outputs(prefix))
        try:
            return metrics.evaluate(metric, outputs, self.labels, baseline_outputs, self.samples, self.names)
        except RecipeError as error:
            raise MeasureError(f"its outputs cannot be judged as the float's were: {error}") from error

    def _judged(self, metric: metrics.Metric, outputs: list[Call]) -> list[Call]:
        """The outputs that can be compared with another model's: random ones differ from run to run."""
        if metric.compares == "labels" or self.metric.output is not None or set(self.drawn) >= set(outputs[0] if outputs else ()):
            return outputs
        return [{name: array for name, array in call.items() if name not in self.drawn} for call in outputs]

    def _unjudged(self, metric: metrics.Metric, outputs: list[Call]) -> str | None:
        """The remark about random outputs: that they were left out, or that the number says little."""
        if not self.drawn or not outputs:
            return None
        drawn = ", ".join(self.drawn)
        if metric.compares != "labels" and not set(self.drawn) & set(outputs[0]):
            return f"{drawn} cannot be judged: the graph draws random numbers, so that it differs from run to run"
        return (
            f"{drawn} depends on random numbers that the graph draws, and differs from run to run of the float itself: the"
            f" {metric.name} of a candidate says little of it"
        )

    def _compared_with(self, metric: metrics.Metric) -> str:
        against = metric.compares == "baseline" or (metric.compares == "either" and self.labels is None)
        return "float baseline" if against else "labels"


def read_outputs(prefix: Path) -> list[Call]:
    """Every call's outputs by name, from the two files that the package's bench wrote. The bytes stay in the file until used.

    Strings are arrays of objects.
    """
    import mmap

    import numpy as np

    described = json.loads(Path(f"{prefix}.json").read_bytes())
    with Path(f"{prefix}.bin").open("rb") as stream:
        # An empty file, of outputs without elements, cannot be mapped.
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if stream.seek(0, 2) else b""

    def array(row: Mapping[str, Any]) -> NDArray[Any]:
        if row["datatype"] == "BYTES":
            return from_bytes(data[row["offset"] : row["offset"] + row["size"]], row["datatype"], row["shape"])
        dtype = np.dtype(DTYPES[row["datatype"]])
        return np.frombuffer(data, dtype, row["size"] // dtype.itemsize, row["offset"]).reshape(row["shape"])

    return [{name: array(row) for name, row in call.items()} for call in described]
