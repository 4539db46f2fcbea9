"""The convert pass: a fitted scikit-learn estimator, or a model of XGBoost or LightGBM, becomes an ONNX directory.

Promises:
- The engine's answers are compared with the estimator's on all of the recipe's evaluation data, alone and in batches: labels
  are equal, numbers agree within the tolerance. A difference is an error that names the rows, never a warning.
- An output that belongs to none of the estimator's methods is left out and noted.
- mlpack opens no pickle: scikit-learn's estimators come from a function of the user's.

It tries two ways. In float32, in which trees compute, thresholds are rounded to the side that decides as the original does
(`thresholds`). Where that differs (a scaler before trees computes in float64), the graph is made in float64 behind a cast.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.graphs import check, files, quiet
from mlpack.passes.convert import agreement, graph, sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

    from mlpack.passes.convert.estimator import Estimator

TOLERANCE = 1e-4
"""float32 against float64: hundreds of trees and unscaled columns stay below 2e-6; the wrong side of a threshold is far above."""

OPSET = 15
"""The operator set of both converters; the engine supports it with all its kernels for trees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convert:
    """How to convert."""

    opset: int = OPSET
    """ONNX operator set of the graph."""
    tolerance: float = TOLERANCE
    """Largest difference from the estimator: relative to the largest value if that exceeds 1, else absolute. Labels are equal."""
    evaluation: Path | None = None
    """Directory of recorded calls (calls.json, calls.bin): what the answers are compared on."""


def run(model_dir: Path, config: Convert, out_dir: Path) -> None:
    """Convert `model_dir` (sklearn, xgboost or lightgbm) into `out_dir`. Raises PassError when no way gives the same answers."""
    if config.evaluation is None:
        raise PassError("convert: needs the evaluation data to compare on")
    with quiet.exporters(), sources.opened(model_dir) as estimator:
        table = agreement.EvaluationRows(config.evaluation, model_dir, estimator.inputs)
        references = agreement.References(estimator, table)
        rejected: dict[str, str] = {}
        for way, model in _ways(estimator, config.opset, rejected):
            try:
                comparison = agreement.compared(model, references, table, config.tolerance)
            except PassError as error:
                rejected[way] = str(error)
                continue
            graph.keep_outputs(model, comparison.kept)
            graph.turn_outputs(model, comparison.turned)
            graph.rename_outputs(model, comparison.names)
            files.save(model, out_dir)
            check.session(out_dir)
            files.finish(model_dir, out_dir, _notes(estimator, way, comparison, rejected))
            return
    reasons = "\n".join(f"  {way}: {reason}" for way, reason in rejected.items())
    raise PassError(f"convert: no way of converting {estimator.name} gives its own answers:\n{reasons}\n{remedy(rejected)}")


def remedy(rejected: Mapping[str, str]) -> str:
    """What to do, which depends on what failed."""
    reasons = " ".join(rejected.values())
    if "Unable to find a shape calculator" in reasons or "cannot convert" in reasons:
        return (
            "skl2onnx has no converter for a part of it, or not for its settings: fit with a part that has one, or do"
            " that part before the model (the package's `preprocess` hook), or give a graph of your own as source: {onnx: ...}"
        )
    return (
        "where only a few rows differ, their values lie at a split or between two classes to the last digit: fit on float32 data"
        " (x.astype('float32')), or use float64 `inputs`; where many do, the converter computes something else than the"
        " estimator: fit with another part in its place, or give a graph of your own as source: {onnx: ...}"
    )


def _ways(estimator: Estimator, opset: int, rejected: dict[str, str]) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The graphs to try, the best first. A way that fails is put into `rejected` with the reason."""
    for way in estimator.ways:
        try:
            model = estimator.convert(way == "float64", opset)
        except PassError as error:
            rejected[way] = str(error)
            continue
        yield way, graph.finished(model, estimator.inputs)


def _notes(estimator: Estimator, way: str, comparison: agreement.Agreement, rejected: dict[str, str]) -> dict[str, Any]:
    notes: dict[str, Any] = {
        "estimator": estimator.name,
        "precision": way,
        "difference": float(f"{comparison.difference:.1e}"),
        "rows_compared": comparison.rows,
        "rejected": rejected,
    }
    if comparison.ties:
        notes["ties"] = comparison.ties
    if comparison.dropped:
        notes["left_out"] = comparison.dropped
    return notes


__all__ = ["TOLERANCE", "Convert", "run"]
