"""The precision pass: a graph that computes in another element type, with 32-bit inputs and outputs.

`fp16` halves the bytes everywhere; it is faster only on targets with kernels for it, since a processor without them casts back
and forth. The other types are for TensorRT, which takes precision from the graph alone. `bf16` has explicit casts, with
`cpu.onnx` beside it that rounds in the same places, because the engine that measures accuracy has few kernels for it. `int8`
has symmetric quantize/dequantize pairs, from calibration data. `mixed` is int8 where that holds, node by node, and fp16
elsewhere.

Promises:
- Weights and operators have the type, except where it is known to lose accuracy (a block list). The interface stays as it was.
- The result runs without infinities and close to its input.

Will not: choose a type, or say what a type is worth on real data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack.core.digest import canonical_json
from mlpack.core.files import temporary
from mlpack.errors import PassError
from mlpack.graphs import check, files, trials, weights
from mlpack.graphs.spill import Spill
from mlpack.passes.optimize import ENGINE
from mlpack.passes.precision import casts, checks, int8, trt_form
from mlpack.passes.quantize.calibration import cuts

if TYPE_CHECKING:
    import numpy as np
    import onnx

_MIN_SIMILARITY = 0.99
_PART = 1 << 20
_KEPT_FLOAT = (
    "LayerNormalization", "SkipLayerNormalization", "Softmax", "ReduceL2", "ReduceSum", "ReduceMean", "Pow", "Exp", "Log",
)  # fmt: skip
"""Sums and exponentials: their intermediate values leave fp16's range or precision first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Which type to compute in, and what else must stay float32."""

    type: Literal["fp16", "bf16", "int8", "mixed"] = "fp16"
    """The type of weights and arithmetic; all but `fp16` are for TensorRT."""
    keep_float: tuple[str, ...] = ()
    """Operator types or node names that stay float32, in addition to the built-in list (for int8 and mixed: that stay out of 8
    bits)."""
    attention: bool = False
    """int8 and mixed: whether products of two activations are in 8 bits too. By default attention keeps its type and its own fused
    kernel."""
    rest: Literal["fp16", "float32"] = "fp16"
    """int8: the type of all nodes that are not in 8 bits. TensorRT has no float32 products on some devices (sm75), and elsewhere
    fp16 halves bytes and time; use `float32` where fp16's range is too small. mixed always uses fp16."""
    largest_error: float = 0.05
    """mixed: a node stays in fp16 if its output in int8 is off by more than this part of its size (root mean square)."""
    calibration: Path | None = None
    """Directory of recorded calls (calls.json, calls.bin) for int8 and mixed; never the data that is reported on."""
    calibration_method: cuts.Method = "minmax"
    """int8 and mixed: how the range of an activation is read from the calibration data."""
    percentile: float = cuts.PERCENTILE
    """For `calibration_method: percentile`: the percentage of an activation's values, from zero outwards, that the range holds."""
    samples: int = 512
    """int8 and mixed: the largest number of calls that are used for calibration."""
    examples: Path | None = None
    """Directory of recorded calls (calls.json, calls.bin) on which the result is compared with its input."""

    def __post_init__(self) -> None:
        cuts.check(self.samples, self.percentile)
        if not 0 < self.largest_error < 1:
            raise ValueError(f"largest_error must lie between 0 and 1 (0.05 is 5 % of a node's output), not {self.largest_error}")


def calibrates(config: Precision, _model_dir: Path) -> bool:
    """Whether the type needs calibration data."""
    return config.type in ("int8", "mixed")


def run(model_dir: Path, config: Precision, out_dir: Path) -> None:
    """Convert the graph of `model_dir` into `out_dir`. Raises PassError on overflow or when nothing can be converted."""
    if config.type == "fp16":
        with temporary.directory("weights", out_dir) as folder:
            model = files.outline(model_dir)
            checks.refuse_quantized(model)
            notes = _fp16(model, config, model_dir, out_dir, Spill(folder))
    else:
        model = files.load(model_dir)
        checks.refuse_quantized(model)
        checks.refuse_foreign(model, config.type)
        convert = _bf16 if config.type == "bf16" else int8.run
        notes = convert(model, config, model_dir, out_dir)
        problems = trt_form.trt_problems(files.load(out_dir))
        if problems:
            raise PassError("precision: the graph is not in the form that TensorRT fuses:\n  " + "\n  ".join(problems[:8]))
        (out_dir / ENGINE).write_bytes(canonical_json(checks.FAITHFUL))
    files.finish(model_dir, out_dir, {"type": config.type, **notes})


def _bf16(model: onnx.ModelProto, config: Precision, model_dir: Path, out_dir: Path) -> dict[str, Any]:
    """bfloat16 and its twin: the same graph, the same roundings, for an engine without bfloat16 kernels."""
    from onnx import TensorProto

    feeds = trials.feeds_of(model_dir, model, config.examples)
    before = Counter(node.op_type for node in model.graph.node)
    checks.refuse_overflow(checks.inferred(model), feeds, "bf16", out_dir)

    def kept(node: onnx.NodeProto) -> bool:
        return node.op_type in config.keep_float or node.name in config.keep_float

    converted, counts = casts.cast(model, TensorProto.BFLOAT16, kept)
    if not counts.get("nodes") or not counts.get("weights"):
        raise checks.nothing(model, "no operator with float32 weights that bf16 is defined for")
    twin, _ = casts.cast(model, TensorProto.BFLOAT16, kept, emulated=True)
    files.save(converted, out_dir)
    files.save(twin, out_dir, name=files.TWIN)
    similar = checks.similarity(model_dir, out_dir, feeds, "bf16", _MIN_SIMILARITY)
    sensitive = {*casts.SENSITIVE, *config.keep_float}
    return {
        "converted_nodes": counts["nodes"], "converted_weights": counts["weights"], "casts": counts["casts"],
        "clamped_masks": counts["clamped_masks"], "similarity": float(f"{similar:.6f}"), "measured_on": files.TWIN,
        "kept_float": {name: before[name] for name in sorted(sensitive) if before[name]},
    }  # fmt: skip


def _fp16(model: onnx.ModelProto, config: Precision, model_dir: Path, out_dir: Path, spilled: Spill) -> dict[str, Any]:
    """float16 by onnxruntime's converter: its operators may be the engine's own."""
    from onnx import TensorProto
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    feeds = trials.feeds_of(model_dir, model, config.examples)
    before = Counter(node.op_type for node in model.graph.node)
    blocked = [*DEFAULT_OP_BLOCK_LIST, *(name for name in _KEPT_FLOAT if before[name]), *config.keep_float]
    _separate(model, blocked)
    names = [node.name for node in model.graph.node if node.name in config.keep_float]
    try:
        with weights.readable():
            model = SymbolicShapeInference.infer_shapes(model, auto_merge=True)  # the converter casts only what has a known type
        checks.refuse_overflow(model, feeds, "fp16", spilled.folder)
        with _narrowing(spilled), weights.readable():
            converted = convert_float_to_float16(
                model, keep_io_types=True, disable_shape_infer=True, op_block_list=blocked, node_block_list=names
            )
    except check.TOOL_ERRORS as error:
        raise PassError(f"precision: the fp16 converter failed ({type(error).__name__}: {error})") from error
    half = [tensor for tensor in converted.graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    if not half:
        raise PassError("precision: nothing to convert: the graph has no float32 weights")
    count = len(half)
    casts.put_in_order(converted)
    files.save(converted, out_dir)
    similar = checks.similarity(model_dir, out_dir, feeds, "fp16", _MIN_SIMILARITY)
    after = Counter(node.op_type for node in converted.graph.node)
    return {
        "converted_weights": count, "similarity": float(f"{similar:.6f}"),
        "kept_float": {name: after[name] for name in blocked if after[name]},
    }  # fmt: skip


@contextmanager
def _narrowing(spilled: Spill) -> Iterator[None]:
    """A context in which onnxruntime's converter also accepts weights in their files."""
    from onnxruntime.transformers import float16

    before = float16.convert_tensor_float_to_float16

    def either(tensor: onnx.TensorProto, *bounds: float) -> onnx.TensorProto:
        if weights.referred(tensor) is not None:
            tensor.CopyFrom(spilled.tensor(_narrowed(weights.array(tensor), bounds), tensor.name))
            return tensor
        narrowed: onnx.TensorProto = before(tensor, *bounds)
        return narrowed

    float16.convert_tensor_float_to_float16 = either
    try:
        yield
    finally:
        float16.convert_tensor_float_to_float16 = before


def _narrowed(values: np.ndarray[Any, Any], bounds: tuple[float, ...]) -> np.ndarray[Any, Any]:
    """float32 values as float16, by the converter's own rule, in parts: the converter takes six times the memory of its input."""
    import numpy as np
    from onnxruntime.transformers.float16 import convert_np_to_float16

    flat, half = values.reshape(-1), np.empty(values.size, np.float16)
    for start in range(0, len(flat), _PART):
        half[start : start + _PART] = convert_np_to_float16(flat[start : start + _PART], *bounds)
    return half.reshape(values.shape)


def _separate(model: onnx.ModelProto, blocked: list[str]) -> None:
    """Give nodes that stay float32 their own copies of shared weights: the converter would cast each twice under one name."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input if name in stored)
    for number, node in enumerate(model.graph.node):
        for slot, name in enumerate(node.input):
            if node.op_type in blocked and uses[name] > 1:
                copy = model.graph.initializer.add()
                copy.CopyFrom(stored[name])
                copy.name = node.input[slot] = f"{name}_{number}_{slot}"
                uses[name] -= 1
