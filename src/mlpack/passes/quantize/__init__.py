"""The quantize pass: 8-bit weights and integer kernels, by the method that suits the architecture.

Promises: `auto` is static for graphs of convolutions and dynamic for the rest; a convolution is never quantized dynamically
(6x slower than float), it stays float; element types are passed explicitly: u8 activations with 7-bit s8 weights on x86-64, whose
kernels without VNNI overflow otherwise, s8 and s8 on arm64. LayerNorm, Softmax, GELU and residual Adds stay float. A graph with
nothing to quantize is an error. Accuracy is not judged here: the change is on purpose, and the build measures it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack import temporary
from mlpack.errors import PassError
from mlpack.graphs import check, files, trials, versions
from mlpack.passes.quantize import calibrate, cuts, dynamic, kept, widen

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

_DYNAMIC = ("MatMul", "Gemm", "Attention", "LSTM")
_SAME = 1e-5
"""How far a graph of another operator set may be from what it was: sums are the same ones."""
_FEW = 0.1
"""Weights of convolutions over those of products of matrices: patches of a ViT hold 0.7 %, wav2vec's front end 5 %."""
_TABLES = ("Gather", "EmbedLayerNormalization")
_DONE = {
    "MatMulInteger": "MatMul", "QAttention": "Attention", "QEmbedLayerNormalization": "EmbedLayerNormalization",
    "DynamicQuantizeLSTM": "LSTM", "QGemm": "Gemm",
}  # fmt: skip
_KEPT_FLOAT = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Attention", "Add", "LayerNormalization", "SkipLayerNormalization",
    "BatchNormalization", "Softmax", "Gelu", "BiasGelu", "FastGelu", "Erf",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """How to quantize."""

    method: Literal["auto", "dynamic", "static"] = "auto"
    """`auto`: static when convolutions hold more than a tenth as many weights as products of matrices do, else dynamic."""
    arch: Literal["x86_64", "arm64"] | None = None
    """Where it will run; the machine that builds does not count. None is x86_64."""
    per_channel: bool = True
    """One scale for each output channel of a weight, instead of one for all of it."""
    reduce_range: bool | None = None
    """Weights in 7 bits. Left out, it is yes on x86_64, where hosts without VNNI overflow otherwise, and no on arm64."""
    embeddings: bool = True
    """Embedding tables too (dynamic only): most of a small transformer's bytes, none of its time."""
    calibration: Path | None = None
    """Directory of recorded calls (calls.json, calls.bin) for the static method; never the data that is reported on."""
    calibration_method: cuts.Method = "minmax"
    """Static only: how the range of an activation is read from the calibration data."""
    percentile: float = cuts.PERCENTILE
    """Of `calibration_method: percentile`: this share of an activation's values, from zero outwards, keeps its size."""
    samples: int = 512
    """Static only: at most this many calls are used for calibration."""
    keep_float: tuple[str, ...] = ()
    """Names of nodes that stay float, whatever the method: those of the graph that the step gets."""

    def __post_init__(self) -> None:
        cuts.check(self.samples, self.percentile)


def run(model_dir: Path, config: Quantize, out_dir: Path) -> None:
    """Quantizes the graph of `model_dir` into `out_dir`. Raises PassError when there is nothing to do or no data to do it."""
    model = files.outline(model_dir)
    widen.widen(model)
    operators = Counter(node.op_type for node in model.graph.node)
    method = config.method if config.method != "auto" else _suited(model)
    if any(operators[name] for name in ("DequantizeLinear", "MatMulInteger", "QLinearConv", "QAttention")):
        raise PassError("quantize: the graph is quantized already; give the float model")
    wanted = calibrate.WEIGHTED if method == "static" else (*_DYNAMIC, *(_TABLES if config.embeddings else ()))
    if not any(node.op_type in wanted for node in files.nodes(model.graph)):
        raise _nothing(method, operators)  # trees alone, say: the quantizers need not have seen such a graph
    reduce_range = config.arch != "arm64" if config.reduce_range is None else config.reduce_range
    remarks: tuple[str, ...] = ()
    if method == "dynamic":
        left = dict.fromkeys(kept.of_dynamic(model), "it is a stack of matrices, or takes none") | _asked(model, config)
        before = {node.name: node.op_type for node in model.graph.node if node.op_type in wanted}
        result = dynamic.quantized(model, list(wanted), list(left), config.per_channel, reduce_range)
        quantized = _integer_nodes(result)
    else:
        settings = _static(config, reduce_range)
        with temporary.directory("quantize", out_dir) as scratch:
            whole = files.load(model_dir)
            widen.widen(whole)
            before = {node.name: node.op_type for node in whole.graph.node if node.op_type in wanted}
            left = dict.fromkeys(calibrate.tiny(whole), "it is tiny") | _asked(whole, config)
            result, remarks = _statically(whole, model_dir, settings, scratch, list(_asked(whole, config)))
            quantized = calibrate.quantized_nodes(result)
    if not quantized:
        raise _nothing(method, operators, remarks)
    counted = Counter(node.op_type for node in result.graph.node)
    for name in calibrate.WEIGHTED if method == "static" else ():
        counted[name] -= quantized.get(name, 0)
    files.save(result, out_dir)
    check.session(out_dir, "ORT_DISABLE_ALL")
    left = {name: why for name, why in left.items() if name in before}
    notes: dict[str, Any] = _by_node(result, before, left, method) | {
        "method": method, "reduce_range": reduce_range, "per_channel": config.per_channel, "quantized": quantized,
        "kept_float": {name: counted[name] for name in _KEPT_FLOAT if counted[name] > 0},
    }  # fmt: skip
    files.finish(model_dir, out_dir, notes | ({"remarks": remarks} if remarks else {}))


def _asked(model: onnx.ModelProto, config: Quantize) -> dict[str, str]:
    """Nodes that the config keeps float. Raises PassError for a name that no node has."""
    names = {node.name for node in files.nodes(model.graph)}
    if unknown := [name for name in config.keep_float if name not in names]:
        raise PassError(f"quantize: `keep_float` names {unknown[0]!r}, and the graph has no node of that name")
    return dict.fromkeys(config.keep_float, "the recipe keeps it float (`keep_float`)")


def _by_node(result: onnx.ModelProto, before: dict[str, str], left: dict[str, str], method: str) -> dict[str, Any]:
    """What became of each node: how it computes in integers, or why not."""
    dequantized = {name for node in result.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    floats = {node.name for node in result.graph.node if not (node.op_type in calibrate.WEIGHTED and node.input[1] in dequantized)}
    tables = {name for node in result.graph.node if node.op_type == "Gather" for name in node.output}
    read = {node.input[0] for node in result.graph.node if node.op_type == "DequantizeLinear"} & tables
    floats -= {node.name for node in result.graph.node if read.intersection(node.output)}
    kept_float = {name: left.get(name, "its weights are not constant") for name in before if name in floats}
    done = {name: "weights" if kind in _TABLES else method for name, kind in before.items() if name not in kept_float}
    return {"nodes": done, "kept": kept_float}


def _suited(model: onnx.ModelProto) -> str:
    """`static` where convolutions hold a share of the weights that is worth the calibration, else `dynamic`: products of a vision
    transformer or a speech encoder, which begin with a few convolutions, lose accuracy and time by fixed ranges."""
    size = {tensor.name: prod(tensor.dims) for tensor in model.graph.initializer}
    held = {"Conv": 0, "MatMul": 0}
    for node in model.graph.node:
        kind = "Conv" if node.op_type in ("Conv", "ConvTranspose") else "MatMul" if node.op_type in _DYNAMIC else ""
        if kind:
            held[kind] += sum(size.get(name, 0) for name in node.input[1:])
    return "static" if held["Conv"] > _FEW * held["MatMul"] else "dynamic"


def _nothing(method: str, operators: Counter[str], remarks: Sequence[str] = ()) -> PassError:
    wanted = ", ".join(_DYNAMIC if method == "dynamic" else calibrate.WEIGHTED)
    found = ", ".join(f"{count} {name}" for name, count in operators.most_common(5))
    hint = ""
    if method == "dynamic" and (operators["Conv"] or operators["ConvTranspose"]):
        hint = "; dynamic int8 convolutions are several times slower than float: use `method: static` with calibration data"
    hint += "".join(f"; {remark}" for remark in remarks)
    return PassError(f"quantize: nothing to quantize: no {wanted} with large enough constant weights among {found}{hint}")


def _integer_nodes(result: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each kind compute in integers, by what they were before; `Gather` reads an 8-bit table."""
    counted = Counter(_DONE.get(node.op_type, "") for node in result.graph.node)
    gathered = {name for node in result.graph.node if node.op_type == "Gather" for name in node.output}
    counted["Gather"] = sum(node.op_type == "DequantizeLinear" and node.input[0] in gathered for node in result.graph.node)
    return {name: count for name, count in sorted(counted.items()) if name and count}


def _static(config: Quantize, reduce_range: bool) -> calibrate.Settings:
    if config.calibration is None:
        raise PassError(
            "quantize: the static method needs calibration data, and the recipe gives none; add it (data.calibration: "
            "100 to 500 samples that are not used for evaluation)"
        )
    return calibrate.Settings(
        calls=config.calibration, samples=config.samples, method=config.calibration_method, percentile=config.percentile,
        per_channel=config.per_channel,
        reduce_range=reduce_range, signed_activations=config.arch == "arm64",
    )  # fmt: skip


def _statically(
    model: onnx.ModelProto, model_dir: Path, settings: calibrate.Settings, scratch: Path, asked: list[str]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph with pairs, and remarks on the calls. One scale for each channel is known to operator sets from 13 on: an older
    graph is raised to it where the engine gives the same numbers, and has one scale a weight where not."""
    left = [*kept.of_static(model, model_dir, replace(settings.ranges, method="minmax")), *asked]
    if versions.of(model) < calibrate.OPSET:
        raised = _raised(model, model_dir, settings)
        settings = replace(settings, per_channel=settings.per_channel and raised is not None)
        model = model if raised is None else raised
    return calibrate.quantized(model, model_dir, settings, scratch, left)


def _raised(model: onnx.ModelProto, model_dir: Path, settings: calibrate.Settings) -> onnx.ModelProto | None:
    try:
        made = versions.raised(model, calibrate.OPSET)
        reference = check.session(model_dir, "ORT_DISABLE_ALL")
        tried = trials.of(partial(check.run, reference), model, model_dir, settings.calls)
        opened = check.session_of(made.SerializeToString(), "ORT_DISABLE_ALL")
        return made if tried.gap(partial(check.run, opened)) <= _SAME else None
    except (PassError, ValueError):
        return None
