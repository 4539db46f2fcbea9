"""The checks for every type of the precision pass: finite numbers, similarity to the input, and standard operators.

Promises:
- A float32 run finds numbers that a type cannot hold, so that an engine which computes wider than it stores cannot hide them.
- Similarity is the smallest cosine of any row of any output.

Will not: measure accuracy on the task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlpack.core.files import temporary
from mlpack.errors import PassError
from mlpack.graphs import check, files

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import onnx

    Feeds = Sequence[Mapping[str, np.ndarray[Any, Any]]]

LARGEST = {"fp16": 65504.0, "bf16": 3.3895313892515355e38}
"""The largest finite number of each type."""

FAITHFUL: Mapping[str, Any] = {"graph_optimization_level": 1, "session": {"session.disable_quant_qdq": "1"}}
"""engine.json for a graph whose accuracy the engine measures for another: constants are folded, and no pair of conversions is
fused into kernels that round or saturate elsewhere."""

_MASK = -1e30
_DONE = ("DequantizeLinear", "QuantizeLinear", "MatMulInteger", "QAttention", "QLinearConv", "DynamicQuantizeLinear")


_WHY = {
    "bf16": "some operators need more than bf16's 8 bits; name them in `keep_float`",
    "int8": "some activations have outliers that 8 bits cannot hold; name their nodes in `keep_float`, try "
    "`calibration_method: percentile`, or `type: mixed`, which leaves such nodes in fp16",
    "mixed": "lower `largest_error`, which leaves more nodes in fp16",
}
"""Why a type's graph is probably unlike its input, and what to do."""


def refuse_quantized(model: onnx.ModelProto) -> None:
    """Raise PassError when the graph is quantized already."""
    if any(node.op_type in _DONE for node in model.graph.node):
        raise PassError("precision: the graph is quantized already; convert the float model instead")


def refuse_foreign(model: onnx.ModelProto, kind: str) -> None:
    """Raise PassError unless every operator is ONNX's own."""
    foreign = Counter(f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in ("", "ai.onnx"))
    if foreign or model.functions:
        names = ", ".join(sorted(foreign)) or "functions of its own"
        raise PassError(
            f"precision: type {kind} is for TensorRT, which knows standard operators only, and the graph has {names}; "
            "say `simplify: {operators: portable}` before it"
        )


def refuse_overflow(model: onnx.ModelProto, feeds: Feeds, kind: str, place: Path) -> None:
    """Raise PassError when a float32 run leaves the type's range: a processor without its kernels would hide it. `place`: a folder
    for a copy of the graph."""
    import numpy as np
    from onnx import TensorProto, helper

    probe = type(model).FromString(model.SerializeToString())
    produced = {name for node in probe.graph.node for name in node.output} - {value.name for value in probe.graph.output}
    floats = [v.name for v in probe.graph.value_info if v.name in produced and v.type.tensor_type.elem_type == TensorProto.FLOAT]
    names = [value.name for value in probe.graph.output] + floats
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in floats)
    with temporary.directory("probe", place) as folder:
        files.place_weights(probe, folder)
        (folder / files.MODEL).write_bytes(probe.SerializeToString())
        for results in _answers(folder, feeds, "ORT_DISABLE_ALL"):
            for name, values in zip(names, results, strict=True):
                if values.dtype.kind == "f" and values.size:
                    large = np.abs(values[values > _MASK])  # masks are meant to be as low as the type allows
                    if large.size and large.max() > LARGEST[kind]:
                        raise PassError(
                            f"precision: {name!r} reaches {large.max():.3g}, which leaves {kind}'s range of {LARGEST[kind]:g}; "
                            "name the operators that make it in `keep_float`"
                        )


def _answers(folder: Path, feeds: Feeds, level: str, entries: Mapping[str, str] | None = None) -> Iterator[check.Outputs]:
    """The answers of a directory's graph, call by call; its session is closed at the end."""
    opened = check.session(folder, level, entries)
    for feed in feeds:
        yield check.run(opened, feed)


def similarity(model_dir: Path, out_dir: Path, feeds: Feeds, kind: str, least: float) -> float:
    """How alike the two directories' outputs are, 1 at best. Raises PassError below `least`, or for infinities."""
    entries = FAITHFUL["session"] if kind in ("int8", "mixed") else None
    expected = list(_answers(model_dir, feeds, "ORT_ENABLE_BASIC"))  # one session at a time: each may hold a copy of its weights
    actual = _answers(out_dir, feeds, "ORT_ENABLE_BASIC", entries)
    worst = min(check.similarity(got, want) for got, want in zip(actual, expected, strict=True))
    if worst < least:
        what = "gives infinities" if worst == -1.0 else f"differs (cosine {worst:.4f})"
        why = _WHY.get(kind, "")
        if not why or (worst == -1.0 and kind in LARGEST):
            why = f"a value probably leaves {kind}'s range of {LARGEST[kind]:g}; name the operators to keep in `keep_float`"
        raise PassError(f"precision: the {kind} graph {what}: {why}")
    return worst


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the type and shape of every tensor that can be known. Raises PassError when that fails."""
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    try:
        result: onnx.ModelProto = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
    except check.TOOL_ERRORS as error:
        raise PassError(f"precision: types cannot be inferred ({type(error).__name__}: {str(error)[:300]})") from error
    return result


def nothing(model: onnx.ModelProto, what: str) -> PassError:
    """The error when there is nothing to convert: what was searched, and what there is."""
    listed = ", ".join(f"{count} {name}" for name, count in Counter(n.op_type for n in model.graph.node).most_common(5))
    return PassError(f"precision: nothing to convert: {what} among {listed}")
