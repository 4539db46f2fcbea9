"""What the calibration calls reach: a range for every activation, and what is wrong with the calls for that purpose.

Promises: calls are read a few at a time; a call with NaN or an infinite number is refused and named; calls that say little (one,
all zero, one that alone makes a range) are taken and said. Histograms for `entropy` and `percentile` have their edges from a first
look at all calls: the engine's grow a bin at a time when a later call reaches further, to hundreds of thousands, and its entropy
takes time by the square of them.

Source of `entropy`: S. Migacz, "8-bit Inference with TensorRT", GTC 2017: of all places to cut, the one whose 128 steps tell least
apart from the whole distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlpack.data import reader
from mlpack.errors import PassError
from mlpack.graphs import check, files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np
    import onnx

    from mlpack.records import Signature

_BINS, _STEPS = 16_384, 128
"""Of a histogram of absolute values, and of the 8 bits' half that they become."""
_PERCENTILE = 99.999

_ALONE = 8.0
"""A call that reaches this many times as far as any other is said: it is probably damaged, and every step is coarser for it."""

_CALLS_AT_A_TIME = 16
_SAID_MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Which recorded calls to look at, how many at most, and how a range is read from them."""

    calls: Path
    samples: int
    method: str


def collected(model: onnx.ModelProto, model_dir: Path, wanted: Ranges, operators: Sequence[str], scratch: Path) -> Any:
    """The engine's `TensorsData`: a range for the inputs and outputs of these operators. Raises what its tools raise, and PassError
    for calls that are not finite."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData, create_calibrator

    signature = files.signature_of(model)

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the engine's package carries no types
        """A window over the calls: the calibrator keeps activations of one window only."""

        def __init__(self, start: int) -> None:
            self._calls = islice(reader.read(wanted.calls, model_dir, signature), start, start + _CALLS_AT_A_TIME)

        def get_next(self) -> Any:
            return next(self._calls, None)

    (scratch / "calibrated").mkdir()
    source = scratch / "calibrated" / files.MODEL
    copied = onnx.ModelProto()
    copied.CopyFrom(model)  # saving moves the weights out of what is saved
    onnx.save_model(copied, source, save_as_external_data=True, location=files.DATA)
    del copied
    augmented = str(scratch / "calibrated" / "augmented.onnx")
    calibrator = create_calibrator(source, list(operators), augmented_model_path=augmented, use_external_data_format=True)
    for start in range(0, min(reader.count(wanted.calls), wanted.samples), _CALLS_AT_A_TIME):
        calibrator.collect_data(Reader(start))
    reached = calibrator.compute_data()
    if wanted.method == "minmax":
        return reached
    feeds = islice(reader.read(wanted.calls, model_dir, signature), wanted.samples)
    return TensorsData(CalibrationMethod.MinMax, _narrowed(source, reached, feeds, wanted.method))


def _narrowed(source: Path, reached: Any, feeds: Iterable[Any], method: str) -> dict[str, Any]:
    """The ranges, each cut where the method says, by a histogram of absolute values over all calls."""
    import numpy as np
    import onnx

    spans = {name: max(float(np.abs(edge).max(initial=0)) for edge in data.range_value) for name, data in reached.items()}
    model = onnx.load(source, load_external_data=False)
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in spans if name not in known)
    probe = source.with_name("probe.onnx")
    probe.write_bytes(model.SerializeToString())
    opened = check.session_of(str(probe), "ORT_ENABLE_BASIC")
    results = [value.name for value in opened.get_outputs()]
    counted = {name: np.zeros(_BINS, np.int64) for name, span in spans.items() if 0 < span < float("inf")}
    for feed in feeds:
        seen = {**feed, **dict(zip(results, check.run(opened, feed), strict=True))}
        for name, histogram in counted.items():
            histogram += np.histogram(np.abs(seen[name]), _BINS, (0, spans[name]))[0]
    cut = {name: _cut(histogram, method) * spans[name] / _BINS for name, histogram in counted.items()}
    return {
        name: tuple(np.clip(edge, -cut[name], cut[name]).astype(edge.dtype) if name in cut else edge for edge in data.range_value)
        for name, data in reached.items()
    }


def _cut(histogram: np.ndarray[Any, Any], method: str) -> int:
    """How many of the bins to keep."""
    import numpy as np

    if method == "percentile":
        return int(np.searchsorted(histogram.cumsum(), histogram.sum() * _PERCENTILE / 100)) + 1
    places = np.unique(np.geomspace(_STEPS, len(histogram), 100).astype(int))
    return int(places[np.argmin([_told_apart(histogram, int(place)) for place in places])])


def _told_apart(histogram: np.ndarray[Any, Any], place: int) -> float:
    """The relative entropy of the distribution, cut here with all that is further at the edge, to its 128 steps."""
    import numpy as np

    kept = histogram[:place].astype(np.float64)
    starts = np.linspace(0, place, _STEPS, endpoint=False).astype(int)
    filled = (kept > 0).astype(np.float64)
    level = np.add.reduceat(kept, starts) / np.maximum(1, np.add.reduceat(filled, starts))
    steps = np.repeat(level, np.diff([*starts, place])) * filled
    whole = kept.copy()
    whole[-1] += histogram[place:].sum()
    there = whole > 0
    steps = np.where(there & (steps == 0), 1e-9 * whole.sum(), steps)
    p, q = whole[there] / whole.sum(), steps[there] / steps.sum()
    return float((p * np.log(p / q)).sum())


def remarks(model_dir: Path, signature: Signature, wanted: Ranges) -> list[str]:
    """What a reader of the result should know of the calls. Raises PassError for one that is not finite."""
    import numpy as np

    reached: dict[str, list[float]] = {spec.name: [] for spec in signature.inputs if spec.dtype.startswith("float")}
    read = 0
    for number, feed in enumerate(islice(reader.read(wanted.calls, model_dir, signature), wanted.samples)):
        read += 1
        for name, largest in reached.items():
            values = feed[name]
            if not np.isfinite(values).all():
                what = "NaN" if np.isnan(values).any() else "an infinite number"
                raise PassError(
                    f"quantize: calibration call {number} (counted from 0) holds {what} in {name}: no range can be read from it; "
                    "leave it out of the calibration data"
                )
            largest.append(float(np.abs(values).max(initial=0)))
    found = ["calibration is one call: ranges are what it alone reaches, and other data may reach further"] if read == 1 else []
    for name, largest in reached.items():
        found += _of_one(name, np.array(largest), wanted.method) if read > 1 or not any(largest) else []
    return found[:_SAID_MOST]


def _of_one(name: str, largest: np.ndarray[Any, Any], method: str) -> list[str]:
    """What is to be said of one input, by how far each call reaches in it."""
    if not largest.any():
        return [f"calibration: {name} is zero in every call: the ranges behind it say nothing about real data"]
    order = largest.argsort()
    first, second = largest[order[-1]], largest[order[-2]]
    if first <= _ALONE * second:
        return []
    remedy = "leave it out, or use `calibration_method: entropy`" if method == "minmax" else "leave it out if it is damaged"
    who = f"calibration call {order[-1]} (counted from 0) is an outlier: it alone reaches {first:.4g} in {name}"
    return [f"{who}, the others {second:.4g}, and every step of int8 is coarser for it; {remedy}"]
