"""The optimize pass: onnxruntime's own optimisation, run once at build time instead of at every cold start.

Promises:
- The saved graph loads with optimisation off (`engine.json` says so) and agrees with its input, on the recipe's own calls and
  on generated ones as far as the model takes those. Where it differs or fails, fewer rewrites are applied, and the notes say
  which.
- Only rewrites that do not depend on the build machine are kept. Blocked convolution layouts are not, so a graph with
  convolutions in float is still optimised when it is loaded, which `engine.json` says too.
- Tensors between nodes get short names; nodes, weights, inputs and outputs keep theirs. A second run gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack.core.digest import canonical_json
from mlpack.core.files import temporary
from mlpack.errors import PassError
from mlpack.graphs import brief, check, files, trials

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-3
"""Float graphs agree to 1e-5; the wider bound is for the table, where int8 graphs are allowed a rounding step."""

ENGINE = "engine.json"
_QUANTIZED = ("MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "QAttention", "QuantizeLinear")
_LEFT_OUT = ["NchwcTransformer", "WeightBiasQuantization"]
"""Blocked layouts depend on the machine that builds. The other one puts a convolution that was kept float into integers where it
stands between two pairs: weights of all 8 bits, which overflow without VNNI, in one scale for all channels."""
_STAYS_FLOAT = {"optimization.disable_specified_optimizers": _LEFT_OUT[1]}
"""The same, for a graph that is optimised when it is loaded."""
_BLOCK = 16
"""Results of a convolution from which the engine blocks its channels (by 8 or 16, as wide as vectors are)."""
_LEVEL_OFF, _LEVEL_ALL = 0, 99
EXACT = {"session.x64quantprecision": "1"}
"""The engine's own switch: where a processor would cut sums of signed weights off, it makes them unsigned, and sums exactly.
Stored ones alone, and no ConvInteger's (measured under qemu on onnxruntime 1.31.1: tests_slow/test_overflow_kernels.py)."""
_LOADED = {_LEVEL_OFF: "as it is loaded", _LEVEL_ALL: "optimised when loaded"}
_SIGNED = {
    "MatMulInteger": (1, 3), "MatMulIntegerToFloat": (1, 5), "DynamicQuantizeMatMul": (1, 3), "QLinearMatMul": (3, 5),
    "QLinearConv": (3, 5), "QGemm": (3, 5), "QAttention": (1, 7), "DynamicQuantizeLSTM": (1, 2, 9, 11), "DequantizeLinear": (0, 2),
}  # fmt: skip
"""The inputs of products that are weights, and their zero points."""
_INLINE_BYTES = 64 * 1024  # measured: 38 outside tensors instead of 143 make a MiniLM session in 36 ms of CPU instead of 45


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimize:
    """How far to optimise ahead of loading, for the target's processor."""

    arch: Literal["x86_64", "arm64"] | None = None
    """Keeps s8 activations for arm64 where x86-64 wants u8."""
    level: Literal["extended", "basic"] = "extended"
    """onnxruntime's own levels: `basic` folds and removes, `extended` also fuses."""
    exact: bool = False
    """x86_64: whether integer products are summed in 32 bits on every processor. 8-bit weights need that on processors without
    VNNI; 7-bit weights do not. It costs time on those processors only, and some milliseconds of loading."""
    examples: Path | None = None
    """Directory of recorded calls (calls.json, calls.bin) on which the result is compared with its input."""


def run(model_dir: Path, config: Optimize, out_dir: Path) -> None:
    """Optimise the graph of `model_dir` into `out_dir`, as far as the numbers stay: in the worst case it stays unchanged.

    Raises PassError when the engine does not accept the graph, or not the recipe's own data.
    """
    original = files.outline(model_dir)
    before = Counter(node.op_type for node in original.graph.node)
    entries = {"session.qdqisint8allowed": "1"} if config.arch == "arm64" else {}
    exact = config.exact and config.arch != "arm64"
    blocked = _is_quantized(before) and _is_blocked(original)
    trial_data = _trials(original, model_dir, entries, config.examples, blocked=blocked)
    rejected: dict[str, str] = {}
    for level, loading in _ways(before, config, blocked=blocked, half=_is_half(original)):
        loaded = entries | (EXACT if exact else {}) | (_STAYS_FLOAT if blocked and loading == _LEVEL_ALL else {})
        try:
            after = _optimize(model_dir, entries, level, out_dir, exact=exact)
            opened = check.session(out_dir, "ORT_DISABLE_ALL" if loading == _LEVEL_OFF else "ORT_ENABLE_ALL", loaded)
            gap = trial_data.gap(partial(check.run, opened)) if trial_data.feeds or level != "none" else 0.0
            del opened
        except PassError as error:
            rejected[f"{level}, {_LOADED[loading]}"] = str(error)
        else:
            if gap <= TOLERANCE or level == "none":
                break
            rejected[f"{level}, {_LOADED[loading]}"] = f"differs by {gap:.2e}"
        files.clear(out_dir)
    else:
        reasons = "\n".join(f"  {way}: {reason}" for way, reason in rejected.items())
        raise PassError(f"optimize: the engine takes no form of the graph:\n{reasons}")
    (out_dir / ENGINE).write_bytes(canonical_json({"graph_optimization_level": loading, "session": loaded}))
    notes: dict[str, Any] = {"nodes_before": before.total(), "nodes": after.total(), "difference": float(f"{gap:.1e}"),
             "graph_optimization_level": loading, **trial_data.notes(original),
             **({"rejected": rejected} if rejected else {})}  # fmt: skip
    files.finish(model_dir, out_dir, notes)


def _is_half(model: onnx.ModelProto) -> bool:
    from onnx import TensorProto

    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)


def _is_quantized(operators: Counter[str]) -> bool:
    return any(operators[name] for name in _QUANTIZED)


def _trials(
    original: onnx.ModelProto, model_dir: Path, entries: dict[str, str], examples: Path | None, *, blocked: bool
) -> trials.Trials:
    """The inputs and answers for the comparison. An int8 graph that runs node by node rounds in other places than its fused form.
    Its reference is therefore the engine's own fused form, by the same optimisers. One rounding step that falls the other way
    exceeds the tolerance, and a graph that is not fused is slower than float."""
    quantized = _is_quantized(Counter(node.op_type for node in original.graph.node))
    left_out = _LEFT_OUT[1:] if blocked else _LEFT_OUT
    try:
        reference = (
            check.session(model_dir, "ORT_ENABLE_ALL", entries, left_out)
            if quantized
            else check.session(model_dir, "ORT_DISABLE_ALL", entries)
        )
    except PassError:
        reference = check.session(model_dir, "ORT_DISABLE_ALL", entries)
    # The session is closed once its answers are there: two open sessions of a large model take its bytes twice.
    return trials.of(partial(check.run, reference), original, model_dir, examples)


def _is_blocked(model: onnx.ModelProto) -> bool:
    """Whether some convolution is in float and large enough for a blocked layout. Without it they cost twice as much, those between
    int8 ones too (measured: a detector with a head in int8 took 1.37 of its float's time without, 0.91 with it)."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = (stored.get(node.input[1]) for node in model.graph.node if node.op_type == "Conv")
    return any(weight is not None and weight.dims[0] >= _BLOCK for weight in weights)


def _ways(operators: Counter[str], config: Optimize, *, blocked: bool, half: bool) -> tuple[tuple[str, int], ...]:
    """Levels of optimisation, ahead and at loading, in the order in which they are tried. The last one leaves the graph
    unchanged."""
    levels = ("extended", "basic") if config.level == "extended" else ("basic",)
    if config.exact and config.arch != "arm64":  # what is done for a processor without VNNI is done when the graph is loaded there
        return tuple((level, _LEVEL_ALL) for level in (*levels, "none"))
    # Convolutions in float need the blocked layout of the machine they run on, which only loading can give them.
    # Beyond basic, the engine writes 16-bit weights out as the floats that it computes in where the processor that builds has no
    # kernels for them: twice the bytes, and on an arm64 processor, which has, no gain (seen: a wake word's 0.43 MB again 0.85).
    if (operators["Conv"] or half) and not _is_quantized(operators):
        return (("basic", _LEVEL_ALL), ("basic", _LEVEL_OFF), ("none", _LEVEL_OFF))
    first = tuple((level, _LEVEL_ALL) for level in levels) if blocked else ()
    return (*first, *((level, _LEVEL_OFF) for level in levels), ("none", _LEVEL_OFF))


def _optimize(model_dir: Path, entries: dict[str, str], level: str, out_dir: Path, *, exact: bool) -> Counter[str]:
    """Write the graph optimised to that level, and count its operators."""
    with temporary.directory("optimize", out_dir) as scratch:
        model = files.outline(model_dir) if level == "none" else _optimised(model_dir, entries, scratch, basic=level == "basic")
        if exact:
            _apart(model)
        if level != "none":
            brief.shorten(model)
        files.save(model, out_dir, _INLINE_BYTES)
    return Counter(node.op_type for node in model.graph.node)


def _apart(model: onnx.ModelProto) -> None:
    """Give each product signed weights and zero points of its own. Where two products read one tensor, onnxruntime 1.31.1 does not
    load the graph on a processor for which it makes weights unsigned ("Attempt to replace the existing tensor", seen under
    qemu)."""
    from onnx import TensorProto

    stored = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8}
    read: set[str] = set()
    for number, node in enumerate(files.nodes(model.graph)):
        for place in _SIGNED.get(node.op_type, ()):
            name = node.input[place] if place < len(node.input) else ""
            if name in read:
                copied = model.graph.initializer.add()
                copied.CopyFrom(stored[name])
                copied.name = node.input[place] = f"{name}/again{number}_{place}"
            elif name in stored:
                read.add(name)


def _optimised(model_dir: Path, entries: dict[str, str], scratch: Path, *, basic: bool) -> onnx.ModelProto:
    # Level "all" less blocked layouts is "extended" and channels-last for int8 convolutions, which any processor runs alike.
    level = "ORT_ENABLE_BASIC" if basic else "ORT_ENABLE_ALL"
    try:
        check.save_optimised(model_dir / files.MODEL, scratch / files.MODEL, level, entries, leave_out=_LEFT_OUT)
    except check.engine_errors() as error:
        raise PassError(f"optimize: the engine refuses the graph: {check.engine_message(error, model_dir, scratch)}") from error
    return files.outline(scratch)
