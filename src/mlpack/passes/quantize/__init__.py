"""The quantize pass: 8-bit weights and integer kernels, node by node.

Promises:
- Every node that could be in integers is, or has its reason in the notes (`nodes`, `kept`). A node that fails, also one that
  the engine refuses, does not cost the others.
- Convolutions are never quantized dynamically (6x slower than float).
- Element types are explicit: u8 activations with 7-bit s8 weights on x86-64, whose kernels without VNNI overflow otherwise, s8
  and s8 on arm64. LayerNorm, Softmax, GELU and tails stay float; residual Adds have ranges of their own.
- A graph with nothing to quantize is an error.

Will not: judge accuracy. The change is intended, and the build measures it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack.core.files import temporary
from mlpack.errors import PassError
from mlpack.graphs import check, files, kernels, trials
from mlpack.graphs.foreign import versions
from mlpack.graphs.spill import Spill
from mlpack.passes.quantize import correct, smooth, widen
from mlpack.passes.quantize.calibration import cuts, observed, ranges
from mlpack.passes.quantize.choice import alike, choose, held, inner
from mlpack.passes.quantize.choice.choose import DYNAMIC, STATIC, WEIGHTS, NodeChoice
from mlpack.passes.quantize.choice.held import Attempt
from mlpack.passes.quantize.methods import dynamic, pairs, stored
from mlpack.passes.quantize.rungs import ONE_SCALE
from mlpack.passes.quantize.writing import GraphWriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

_SAME = 1e-5
"""The largest difference of a graph in another operator set: its sums are the same."""
_FEW = 0.1
"""Weights of convolutions over those of products of matrices: patches of a ViT hold 0.7 %, wav2vec's front end 5 %."""
_KEPT_FLOAT = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Attention", "LSTM", "GRU", "Add", "LayerNormalization", "SkipLayerNormalization",
    "BatchNormalization", "Softmax", "Gelu", "BiasGelu", "FastGelu", "Erf",
)  # fmt: skip
_DONE = ("DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QAttention", "MatMulNBits", "DynamicQuantizeLSTM")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """How to quantize."""

    method: Literal["auto", "static", "dynamic", "mixed", "weights"] = "auto"
    """`static`: the ranges of activations come from calibration data. `dynamic`: each call finds them, for all but convolutions.
    `mixed`: convolutions and the products right behind them are static; other products, attention and LSTM are dynamic. `weights`:
    weights are stored in 4 or 8 bits and computed in float. `auto`: mixed when convolutions hold more than a tenth as many weights
    as products do, or outnumber them, else dynamic."""
    arch: Literal["x86_64", "arm64"] | None = None
    """Where it will run; the machine that builds does not count. None is x86_64."""
    per_channel: bool | None = None
    """Whether each output channel of a weight has a scale, instead of one for the whole weight. By default yes, except for LSTM and
    dynamic products of one row a sample whose channels are alike: one scale is quicker there, and next to nothing is lost."""
    reduce_range: bool | None = None
    """Whether weights have 7 bits. By default yes on x86_64, where 8 bits overflow on hosts without VNNI, and no on arm64."""
    embeddings: bool = True
    """Whether embedding tables are quantized too (not by `static`): most of a small transformer's bytes, none of its time."""
    calibration: Path | None = None
    """Directory of recorded calls (calls.json, calls.bin) for the static method; never the data that is reported on."""
    calibration_method: cuts.Method = "minmax"
    """Static only: how the range of an activation is read from the calibration data."""
    percentile: float = cuts.PERCENTILE
    """For `calibration_method: percentile`: the percentage of an activation's values, from zero outwards, that the range holds."""
    samples: int = 512
    """Static only: the largest number of calls that are used for calibration."""
    keep_float: tuple[str, ...] = ()
    """The nodes that stay float, whatever the method: their names in the graph that the step gets, an operator (`Conv`),
    `depthwise`, or `first` and `last` (nodes with weights that no other such node comes before, or after)."""
    weight_bits: Literal[4, 8] = 8
    """Bits of the weights of products by the method `weights`; other weights have 8."""
    symmetric_activations: bool = False
    """Static only: whether zero is in the middle of the range of an activation that has both signs."""
    smooth: bool = False
    """Whether activations of products with outlying channels are divided by channel, and the weights multiplied (SmoothQuant).
    Needs calibration data."""
    bias_correction: bool = False
    """Whether a node's bias makes up for the shift of the mean that rounding its weights causes. Needs calibration data."""

    def __post_init__(self) -> None:
        cuts.check(self.samples, self.percentile)


def calibrates(config: Quantize, model_dir: Path) -> bool:
    """Whether the graph has nodes that the method would compute with fixed ranges."""
    _, _, chosen = _begun(model_dir, config, None)
    return bool(chosen.by(STATIC))


def run(model_dir: Path, config: Quantize, out_dir: Path) -> None:
    """Quantize the graph of `model_dir` into `out_dir`. Raises PassError when there is nothing to do or data are missing."""
    with temporary.directory("weights", out_dir) as folder:
        _run(model_dir, config, out_dir, Spill(folder))


def _run(model_dir: Path, config: Quantize, out_dir: Path, spilled: Spill) -> None:
    model, method, chosen = _begun(model_dir, config, spilled)
    operators = Counter(node.op_type for node in files.nodes(model.graph))
    if config.calibration is None:
        chosen = chosen.without(dict.fromkeys(sorted(chosen.by(STATIC)), _NO_DATA))
    if not chosen.how:
        raise _nothing(method, operators, chosen)
    least = pairs.OPSET if chosen.by(STATIC) | chosen.by(WEIGHTS) else _DYNAMIC_OPSET
    raised = _raised(model, model_dir, config.calibration, least, spilled) if versions.of(model) < least else model
    if raised is None:  # ONNX's converter does not know the graph, or changes it
        refusal = f"its operator set {versions.of(model)} cannot be raised to {least}, which 8 bits need"
        raise _nothing(method, operators, chosen.without(dict.fromkeys(chosen.how, refusal)))
    reduce_range = config.arch != "arm64" if config.reduce_range is None else config.reduce_range
    form = pairs.QuantizationScheme(
        steps=64 if reduce_range else 127, per_channel=config.per_channel is not False, signed=config.arch == "arm64",
        symmetric=config.symmetric_activations,
    )  # fmt: skip
    chosen = _static_products(raised, chosen) if method == "mixed" else chosen
    raised, form, options = _bettered(raised, chosen, model_dir, config, form, spilled)
    measured = ranges.MeasuredRanges(ranges={}, refused={}, remarks=())
    request = Attempt(chosen)
    if chosen.by(STATIC):
        measured = ranges.measured(raised, model_dir, pairs.tensors(raised, chosen.by(STATIC)), _ranges(config), spilled.folder)
        request = _with_ranges(raised, chosen, measured, config.keep_float)
        if not request.chosen.how:
            raise _nothing(method, operators, request.chosen, measured.remarks)
    make = partial(_quantized_graph, raised, spilled, ranges=measured.ranges, form=form, bits=config.weight_bits)
    kinds = {node.name: node.op_type for node, _ in choose.walk(raised.graph)}
    judge = held.EngineCheck(model_dir, model, config.calibration)
    attempt = held.settled(request, make, judge, out_dir, kinds)
    done = attempt.chosen
    if not done.how:
        raise _nothing(method, operators, done)
    done = NodeChoice(done.how, pairs.reasons_for_float(raised, done.by(STATIC), attempt.barred) | done.kept)
    quantized = Counter(kinds[name] for name in done.how)
    rest = operators - quantized
    notes: dict[str, Any] = {
        "method": _called(done), "reduce_range": reduce_range, "per_channel": form.per_channel,
        "quantized": dict(sorted(quantized.items())), "kept_float": {name: rest[name] for name in _KEPT_FLOAT if rest[name]},
        "nodes": done.how, "kept": done.kept,
    }  # fmt: skip
    if one := sorted({name for name, _ in form.alike} & set(done.how)):
        notes[ONE_SCALE] = one
    notes |= options | ({"weight_bits": config.weight_bits} if method == WEIGHTS else {})
    files.finish(model_dir, out_dir, notes | ({"remarks": list(measured.remarks)} if measured.remarks else {}))


def _begun(model_dir: Path, config: Quantize, spilled: Spill | None) -> tuple[onnx.ModelProto, str, NodeChoice]:
    """The graph with names for its nodes, the method, and the choice for each node as far as the graph tells."""
    model = files.outline(model_dir)
    widen.widen(model, spilled)
    choose.name_nodes(model)
    kernels.spread_softmax(model)
    method = config.method if config.method != "auto" else _suited(model)
    choice = partial(choose.choose, model, method, config.keep_float, embeddings=config.embeddings)
    chosen = choice()
    if chosen.by(STATIC) and config.per_channel is not False:
        names = inner.normalisations(model, chosen, config.keep_float)
        inner.as_convolutions(model, names)
        chosen = choice() if names else chosen
    return model, method, inner.convolutions(model, chosen)


_NO_DATA = "its ranges need calibration data, and there is none: neither in the recipe nor held out of the evaluation data"
_DYNAMIC_OPSET = 11


def _suited(model: onnx.ModelProto) -> str:
    """`mixed` where convolutions hold enough weights to be worth the calibration, or outnumber products (a recogniser of texts has
    one product for all its characters), else `dynamic`: products of a vision transformer or a speech encoder, which begin with a
    few convolutions, lose accuracy and time by fixed ranges."""
    size = {tensor.name: prod(tensor.dims) for tensor in model.graph.initializer}
    held_by, counted = {"Conv": 0, "MatMul": 0}, {"Conv": 0, "MatMul": 0}
    for node in files.nodes(model.graph):
        kind = "Conv" if node.op_type in choose.CONVOLUTIONS else "MatMul" if node.op_type in _PRODUCTS else ""
        if kind:
            held_by[kind] += sum(size.get(name, 0) for name in node.input[1:])
            counted[kind] += 1
    many = held_by["Conv"] > _FEW * held_by["MatMul"] or counted["Conv"] > counted["MatMul"]
    return "mixed" if many else "dynamic"


_PRODUCTS = (*choose.PRODUCTS, "Attention", "LSTM")


def _nothing(method: str, operators: Counter[str], chosen: NodeChoice, remarks: Sequence[str] = ()) -> PassError:
    if any(operators[name] for name in _DONE):
        return PassError("quantize: the graph is quantized already, and nothing is left to do; give the float model")
    listed = ", ".join(f"{count} {name}" for name, count in operators.most_common(5))
    reasons = Counter(chosen.kept.values())
    reasons_text = "".join(
        f"\n  {count} of them: {reason}" for reason, count in sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
    )
    hint = ""
    if method == DYNAMIC and (operators["Conv"] or operators["ConvTranspose"]):
        hint = "; dynamic int8 convolutions are several times slower than float: use `method: static` with calibration data"
    if _NO_DATA in reasons:
        hint = "; static quantization needs calibration data: add 100 to 500 samples apart from the evaluation (data.calibration)"
    reasons_text += "".join(f"\n  {remark}" for remark in remarks)
    return PassError(f"quantize: nothing to quantize by the method {method} among {listed}{hint}{reasons_text}")


def _called(done: NodeChoice) -> str:
    """One word for how the graph computes."""
    ways = set(done.how.values()) - {WEIGHTS}
    return "mixed" if len(ways) > 1 else ways.pop() if ways else WEIGHTS


def _ranges(config: Quantize) -> ranges.Ranges:
    assert config.calibration is not None
    return ranges.Ranges(
        calls=config.calibration, samples=config.samples, method=config.calibration_method, percentile=config.percentile,
        grid=cuts.CENTRED if config.symmetric_activations else cuts.UNSIGNED,
    )  # fmt: skip


def _static_products(model: onnx.ModelProto, chosen: NodeChoice) -> NodeChoice:
    """Make products static whose input a convolution gives in 8 bits anyway: nothing is rounded once more for them."""
    there = pairs.layout(model, chosen.by(STATIC))
    how = {
        node.name: STATIC
        for node in model.graph.node
        if node.op_type in choose.PRODUCTS and node.name in chosen.how and there.pairs.get(node.input[0])
        and not choose.static_unfit(node, model)
    }  # fmt: skip
    return NodeChoice(chosen.how | how, chosen.kept)


def _bettered(
    model: onnx.ModelProto, chosen: NodeChoice, model_dir: Path, config: Quantize, form: pairs.QuantizationScheme, spilled: Spill
) -> tuple[onnx.ModelProto, pairs.QuantizationScheme, dict[str, Any]]:  # fmt: skip
    """The graph with weights and biases that lose less in integers, as the config asks; the scheme, with weights that have one
    scale; and the changed nodes."""
    notes: dict[str, Any] = {}
    names = chosen.by(STATIC) | chosen.by(DYNAMIC)
    if config.calibration is None and (config.smooth or config.bias_correction):
        raise PassError("quantize: `smooth` and `bias_correction` need calibration data; add it to the recipe (data.calibration)")
    calls = config.calibration
    on = (
        None if calls is None else observed.RecordedCalls(model_dir=model_dir, calls=calls, samples=config.samples, spilled=spilled)
    )
    if config.smooth and on:
        model, notes["smoothed"] = smooth.smoothed(model, names, on, form)
    if config.per_channel is None:
        form = replace(form, alike=alike.weights_of_one_scale(model, chosen.by(DYNAMIC), form.steps))
    if config.bias_correction and on:
        model, notes["corrected"] = correct.corrected(model, names, on, form)
    return model, form, notes


def _with_ranges(model: onnx.ModelProto, chosen: NodeChoice, measured: ranges.MeasuredRanges, keep: Sequence[str]) -> Attempt:
    """The part of the attempt that ranges allow. A node without one stays float, and so does a Concat of ranges too far apart."""
    tensors_kept = sorted(pairs.layout(model, chosen.by(STATIC)).carried & {*keep})
    barred = dict.fromkeys(tensors_kept, "the recipe keeps it float (`keep_float`)")
    while True:
        layout = pairs.layout(model, chosen.by(STATIC), barred)
        lacking = pairs.unmeasured(model, layout, measured)
        apart = pairs.unlike(model, layout, measured.ranges)
        if not lacking and not apart:
            carried = tuple(node.name for node in model.graph.node if node.name in layout.carried)
            return Attempt(NodeChoice(chosen.how, chosen.kept | barred), carried, frozenset(barred))
        chosen = chosen.without({name: why for name, why in lacking.items() if name in chosen.how})
        barred |= apart | {name: why for name, why in lacking.items() if name in layout.carried}


def _quantized_graph(
    model: onnx.ModelProto, spilled: Spill, attempt: Attempt, *,
    ranges: Mapping[str, tuple[float, float]], form: pairs.QuantizationScheme, bits: int,
) -> onnx.ModelProto:  # fmt: skip
    """A copy of the graph with these nodes in integers."""
    quantized = type(model).FromString(model.SerializeToString())
    chosen = attempt.chosen
    writer = GraphWriter(quantized, spilled)
    if chosen.by(STATIC):
        pairs.insert(writer, pairs.layout(quantized, chosen.by(STATIC), attempt.barred), ranges, form)
    dynamic.insert(writer, chosen.by(DYNAMIC), form)
    stored.insert(writer, chosen.by(WEIGHTS), bits)
    writer.finish()
    return quantized


def _raised(
    model: onnx.ModelProto, model_dir: Path, calls: Path | None, version: int, spilled: Spill
) -> onnx.ModelProto | None:  # fmt: skip
    """The graph written for this operator set; None where the engine does not give the same numbers."""
    try:
        raised = versions.raised(model, version)
        choose.name_nodes(raised)
        # One session at a time: each may arrange a copy of the weights.
        trial_data = trials.of(partial(check.run, check.session(model_dir, "ORT_DISABLE_ALL")), model, model_dir, calls)
        with temporary.directory("raised", spilled.folder) as folder:
            copied = type(raised)()
            copied.CopyFrom(raised)
            files.save(copied, folder)
            gap = trial_data.gap(partial(check.run, check.session(folder, "ORT_DISABLE_ALL")))
        return raised if gap <= _SAME else None
    except (PassError, ValueError):
        return None
