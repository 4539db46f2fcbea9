"""A few calls with the CPU engine's answers, stored with the graph: an engine is compared with them on the device.

    tensorrt-check.json   {"schema": 1, "tolerance": {"cosine", "difference", "equal"}, "calls": [{"inputs", "outputs"}]}
    tensorrt-check.bin    the bytes of all of them; each tensor is {"datatype", "shape", "offset", "size"}, as in calls.json

Promises:
- Inputs lie within the first profile.
- The answers are the CPU engine's for the very graph that is built, or for its twin `cpu.onnx` where that engine cannot run it,
  with each int8 pair computed as written.
- Equal inputs give equal bytes.

Will not: measure accuracy. A handful of calls shows that an engine computes this model, not how well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import digest
from mlpack.errors import PassError
from mlpack.evaluation.data import reader
from mlpack.evaluation.data.calls import DATATYPES
from mlpack.graphs import check, files, trials
from mlpack.passes.precision import checks

if TYPE_CHECKING:
    from mlpack.core.records import Signature

INDEX, BYTES = "tensorrt-check.json", "tensorrt-check.bin"

TOLERANCES: Mapping[str, Mapping[str, float]] = {
    "fp32": {"cosine": 0.9999, "difference": 1e-3, "equal": 1.0},
    "fp16": {"cosine": 0.999, "difference": 2e-2, "equal": 0.95},
    "bf16": {"cosine": 0.995, "difference": 5e-2, "equal": 0.9},
    "int8": {"cosine": 0.99, "difference": 0.2, "equal": 0.9},
    "mixed": {"cosine": 0.99, "difference": 0.2, "equal": 0.9},
}
"""By precision: the least cosine of an output row to the CPU engine's, the largest difference relative to the output's largest
value, and the least share of equal whole numbers; the runtime's `engine_verify` has the rules. Kernels sum in another order, and
int8 ones round halves apart: each step of the scale may go either way. None is without a bound on the difference, because a cosine
alone takes an output of any size."""

_CALLS = 3
_ROWS = 4
_LARGEST_BYTES = 8 << 20


def write(model_dir: Path, out_dir: Path, spec: Mapping[str, Any], evaluation: Path | None) -> int:
    """Write both files into `out_dir`. Returns the number of calls. Raises PassError when the CPU engine cannot run the graph."""
    signature = files.read_signature(model_dir)
    twin = model_dir / files.TWIN
    # Not with integer kernels: without VNNI theirs saturate, and a third of a convolution's answer was seen to be wrong.
    source = str(twin if twin.is_file() else model_dir / files.MODEL)
    opened = check.session_of(source, "ORT_ENABLE_BASIC", checks.FAITHFUL["session"])
    names = [spec_.name for spec_ in signature.outputs]
    chunks: list[bytes] = []
    listed: list[dict[str, Any]] = []
    for feed in _feeds(model_dir, signature, spec["profiles"], evaluation):
        answers = dict(zip(names, check.run(opened, feed), strict=True))
        if sum(map(len, chunks)) + sum(array.nbytes for array in (*feed.values(), *answers.values())) > _LARGEST_BYTES and listed:
            break
        listed.append({"inputs": _stored(feed, chunks), "outputs": _stored(answers, chunks)})
    if not listed:
        raise PassError("tensorrt: no recorded call fits the first profile, so that nothing could be checked: widen the profile")
    (out_dir / BYTES).write_bytes(b"".join(chunks))
    value = {"schema": 1, "tolerance": TOLERANCES[spec["precision"]], "calls": listed}
    (out_dir / INDEX).write_bytes(digest.canonical_json(value))
    return len(listed)


def _feeds(
    model_dir: Path, signature: Signature, profiles: Sequence[Mapping[str, Any]], evaluation: Path | None
) -> Iterator[dict[str, Any]]:
    """At most `_CALLS` calls within the first profile, recorded ones where there are some."""
    if evaluation is not None:
        candidates: Iterator[dict[str, Any]] = reader.read(evaluation, model_dir, signature)
    else:
        candidates = iter(trials.feeds_of(model_dir, files.load(model_dir)))
    count = 0
    for feed in candidates:
        cut = _within(feed, signature, profiles[0] if profiles else {})
        if cut is not None:
            yield cut
            count += 1
        if count == _CALLS:
            return


def _within(feed: Mapping[str, Any], signature: Signature, profile: Mapping[str, Any]) -> dict[str, Any] | None:
    """The call cut to the profile, a few rows at most, axes of one name to one length; None when it is too small for it."""
    import numpy as np

    sizes: dict[str, int] = {}
    least: dict[str, int] = {}
    for spec in signature.inputs:
        bounds = profile.get(spec.name)
        for place, axis in enumerate(spec.shape):
            if isinstance(axis, str):
                high = bounds["max"][place] if bounds else feed[spec.name].shape[place]
                low = bounds["min"][place] if bounds else 0
                length = min(feed[spec.name].shape[place], high, max(low, _ROWS) if place == 0 else high)
                sizes[axis] = min(length, sizes.get(axis, length))
                least[axis] = max(low, least.get(axis, low))
    if any(sizes[axis] < least[axis] for axis in sizes):
        return None
    result = {}
    for spec in signature.inputs:
        window = tuple(slice(0, sizes[axis]) if isinstance(axis, str) else slice(None) for axis in spec.shape)
        result[spec.name] = np.ascontiguousarray(feed[spec.name][window])
    return result


def _stored(arrays: Mapping[str, Any], chunks: list[bytes]) -> dict[str, Any]:
    stored = {}
    for name, array in arrays.items():
        if array.dtype.name not in DATATYPES:
            raise PassError(f"tensorrt: {name!r} is of type {array.dtype.name}, which no engine takes or gives")
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        stored[name] = {"datatype": DATATYPES[array.dtype.name], "shape": list(array.shape),
                        "offset": sum(map(len, chunks)), "size": len(data)}  # fmt: skip
        chunks.append(data)
    return stored
