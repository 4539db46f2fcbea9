"""Checks that a changed graph still computes the same: generated inputs, onnxruntime, and the largest difference.

Promises:
- Generated inputs are the same on every machine (fixed seed), cover several batch sizes and lengths, and are plausible: token
  ids stay inside the embedding table, masks are right-padded runs of ones.
- A difference is relative to the largest reference value where that exceeds 1, absolute otherwise.

Will not: say anything about accuracy on real data. Measuring does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.graphs import apart, files, weights

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from mlpack.core.records import Signature, TensorSpec

Feed = Mapping[str, "np.ndarray[Any, Any]"]
Outputs = Sequence["np.ndarray[Any, Any]"]

TOOL_ERRORS = (RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError, NotImplementedError)
"""The exceptions of the engine's Python tools for a graph that they did not expect."""

_LARGEST_MESSAGE = 2**31 - 1
BATCHES = (1, 2, 5)
_LENGTHS = (16, 7, 33)
LENGTHS_TRIED = (max(_LENGTHS), 32, 16, 8, 4, 2, 1)
"""Longest lengths of open axes in generated inputs, tried one after the other until the model accepts one."""
_PIXELS = (64, 96, 64)
_IN_PLACE = {"session.disable_prepacking": "1"}
"""Weights are read from the mapped file. By default the engine arranges a copy of each for its kernels: the model once more, in
memory that is not the file's."""
_WEIGHTS_IN_PLACE_BYTES = 512 << 20
"""Above, sessions that only check take no copies. Below they do, as where the package runs: sums differ in the last bit."""
_PASSED_ON = ("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten")


def feeds(
    signature: Signature, limits: Mapping[str, int], seed: int = 0, longest: int = 33
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """One set of inputs for each of `BATCHES`. `limits`: for integer inputs, the first value that is too large."""
    import numpy as np

    random = np.random.default_rng(seed)
    batch_axes = {spec.shape[0] for spec in signature.inputs if spec.shape and isinstance(spec.shape[0], str)}
    result = []
    for turn, batch in enumerate(BATCHES):
        sizes: dict[str, int] = dict.fromkeys((str(axis) for axis in batch_axes), batch)
        for spec in signature.inputs:
            for axis in spec.shape:
                if isinstance(axis, str):
                    sizes.setdefault(axis, _PIXELS[turn] if len(spec.shape) >= 4 else min(_LENGTHS[turn], longest))
        result.append({spec.name: _array(spec, sizes, limits.get(spec.name, 2), random) for spec in signature.inputs})
    return result


def _array(spec: TensorSpec, sizes: Mapping[str, int], limit: int, random: np.random.Generator) -> Any:
    import numpy as np

    shape = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape)
    if spec.dtype == files.STRING:
        return np.full(shape, "a", dtype=object)
    dtype = np.dtype(spec.dtype)
    if np.issubdtype(dtype, np.floating):
        return random.standard_normal(shape).astype(dtype)
    if "mask" in spec.name and len(shape) >= 2:
        mask = np.ones(shape, dtype=dtype)
        for row in range(1, shape[0]):
            mask[row, ..., max(1, shape[-1] - 3 * row) :] = 0
        return mask
    if "token_type" in spec.name:
        return np.zeros(shape, dtype=dtype)
    return random.integers(0, limit, shape).astype(dtype)


def limits(model: onnx.ModelProto) -> dict[str, int]:
    """For each integer input that selects rows of a stored table: the number of rows."""
    rows = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) >= 1}
    origin = {value.name: value.name for value in model.graph.input}
    bounds: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in _PASSED_ON and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
        elif node.op_type == "Gather" and node.input[1] in origin:
            _lower(bounds, origin[node.input[1]], rows.get(node.input[0], _rows_behind(model, node.input[0], rows)))
        elif node.op_type == "EmbedLayerNormalization" or node.op_type == "QEmbedLayerNormalization":
            for ids, table in ((0, 2), (1, 4)):
                if node.input[ids] in origin and node.input[table] in rows:
                    _lower(bounds, origin[node.input[ids]], rows[node.input[table]])
    return bounds


def _rows_behind(model: onnx.ModelProto, name: str, rows: Mapping[str, int]) -> int:
    """The rows of a table that is dequantized or cast before it is read; 2 when it is no stored table."""
    for node in model.graph.node:
        if name in node.output and node.op_type in ("DequantizeLinear", "Cast") and node.input[0] in rows:
            return rows[node.input[0]]
    return 2


def _lower(bounds: dict[str, int], name: str, rows: int) -> None:
    bounds[name] = min(rows, bounds.get(name, rows))


def session(
    model_dir: Path, level: str = "ORT_ENABLE_ALL", entries: Mapping[str, str] | None = None, leave_out: Sequence[str] = ()
) -> apart.IsolatedSession:
    """A session of this directory's graph, or of its twin if it has one; one thread. `leave_out`: optimisers by name. PassError
    when the engine refuses the graph, or crashes."""
    twin = model_dir / files.TWIN
    path = twin if twin.is_file() else model_dir / files.MODEL
    packs = weights.outside_bytes(path) < _WEIGHTS_IN_PLACE_BYTES
    return session_of(str(path), level, entries if packs else {**_IN_PLACE, **(entries or {})}, leave_out)


def session_of(
    source: str | bytes, level: str, entries: Mapping[str, str] | None = None, leave_out: Sequence[str] = ()
) -> apart.IsolatedSession:
    """The same for a file's path or a serialised graph."""
    try:
        return apart.IsolatedSession(source, level, entries or {}, leave_out)
    except apart.EngineEndedError as error:
        raise PassError(f"the engine does not survive opening the graph: {error}") from error
    except apart.OnnxRuntimeError as error:
        where = (Path(source).parent,) if isinstance(source, str) else ()
        raise PassError(f"the engine refuses the graph: {engine_message(error, *where)}") from error


def source_of(model: onnx.ModelProto, path: Path) -> str | bytes:
    """The argument of `session_of` for a graph that was read from `path`: itself, or the file if it is not whole in one message."""
    outside = any(weights.referred(tensor) for tensor in model.graph.initializer)
    return str(path) if outside or model.ByteSize() > _LARGEST_MESSAGE else model.SerializeToString()


def save_optimised(
    source: Path, target: Path, level: str, entries: Mapping[str, str] | None = None, *, leave_out: Sequence[str] = ()
) -> None:
    """Write the graph at `source`, as the engine optimises it, to `target`, with weights beside it. Raises `engine_errors`.

    `leave_out`: optimisers by name. Weights stay in their file: the engine would arrange copies of them for a run.
    """
    saved = {
        "session.optimized_model_external_initializers_file_name": files.DATA,
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    }
    apart.save_optimised(source, target, level, {**saved, **_IN_PLACE, **(entries or {})}, leave_out)


def run(opened: apart.IsolatedSession, feed: Feed, limit_s: float = apart.RUN_S) -> list[np.ndarray[Any, Any]]:
    """All outputs, in order. Raises PassError when the engine fails or ends, or takes more than `limit_s` seconds."""
    try:
        return opened.run(None, feed, limit_s)
    except apart.OnnxRuntimeError as error:
        shapes = {name: tuple(array.shape) for name, array in feed.items()}
        if isinstance(error, apart.EngineEndedError):
            raise PassError(f"the engine does not survive the graph on inputs of shapes {shapes}: {error}") from error
        if error.terminated:
            raise PassError(
                f"the engine has not ended one call of the graph on inputs of shapes {shapes} after {limit_s:g} s; a Loop whose "
                "condition never turns false does that. Look at the model, or give evaluation data that it ends on"
            ) from error
        raise PassError(f"the engine cannot run the graph on inputs of shapes {shapes}: {engine_message(error)}") from error


def engine_message(error: Exception, *folders: Path) -> str:
    """The engine's message without paths, because it goes on record, where the same model must give the same bytes."""
    text = str(error).strip()
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    return re.sub(r"/[^\s:]*/(?=[^/\s:]+)", "", text)[:600]


def engine_errors() -> tuple[type[Exception], ...]:
    """The exceptions of the engine."""
    return (apart.OnnxRuntimeError, ValueError)


def difference(got: Outputs, reference: Outputs) -> float:
    """The largest difference over all outputs: relative to the largest reference value if that exceeds 1. NaN is infinity."""
    import numpy as np

    worst = 0.0
    for ours, theirs in zip(got, reference, strict=True):
        if ours.shape != theirs.shape:
            return float("inf")
        if ours.dtype == object or ours.size == 0:
            worst = max(worst, 0.0 if np.array_equal(ours, theirs) else float("inf"))
            continue
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return float("inf")
        finite = np.isfinite(b)
        if finite.any():
            gap = np.abs(a[finite] - b[finite]).max() / max(1.0, np.abs(b[finite]).max())
            worst = max(worst, float(gap))
    return worst


def similarity(got: Outputs, reference: Outputs) -> float:
    """The smallest cosine between a row of ours and theirs, over all floating outputs: for changes that are not exact."""
    import numpy as np

    worst = 1.0
    for ours, theirs in zip(got, reference, strict=True):
        if ours.shape != theirs.shape or not np.isfinite(ours.astype(np.float64)).all():
            return -1.0
        if not np.issubdtype(theirs.dtype, np.floating) or theirs.size == 0:
            continue
        a = ours.astype(np.float64).reshape(len(ours) if ours.ndim else 1, -1)
        b = theirs.astype(np.float64).reshape(a.shape)
        scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine = np.where(scale > 0, (a * b).sum(axis=1) / np.where(scale > 0, scale, 1), np.all(a == b, axis=1))
        worst = min(worst, float(cosine.min()))
    return worst
