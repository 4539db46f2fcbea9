"""The simplify pass: constants folded, dead code gone, BatchNorm inside convolutions, transformer blocks fused.

Promises: the result was run beside its input on several batch sizes, lengths and right-padded masks, and agrees within
`TOLERANCE`; a step of the optimiser that fails or logs an error is an error here. Weights are not quantized and no layout of
the machine that builds is baked in.

Order matters. Fusion must come before quantization: an int8 MiniLM whose attention was fused first has 18 + 6 int8 nodes
instead of 36 and loads in a third of the time. Masks stay two-dimensional: the shorter form (a length per row) silently
assumes right padding.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack import temporary
from mlpack.errors import PassError
from mlpack.graphs import check, files, quiet, weights

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-4
"""Fusions sum in another order: 3e-6 on MiniLM, 1e-6 on small CNNs."""

_FUSED = ("Attention", "MultiHeadAttention", "SkipLayerNormalization", "EmbedLayerNormalization", "BiasGelu", "Gelu", "FastGelu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Simplify:
    """How to clean up and fuse."""

    operators: Literal["engine", "portable"] = "engine"
    """What may come out: `engine` uses onnxruntime's own fused operators where they apply, `portable` standard ONNX only."""


def run(model_dir: Path, config: Simplify, out_dir: Path) -> None:
    """Simplifies the graph of `model_dir` into `out_dir`. Raises PassError when a step fails or numbers change."""
    original = files.outline(model_dir)
    before = Counter(node.op_type for node in original.graph.node)
    # The reference is gone when its answers are there: two open sessions of a large model are its bytes twice.
    reference = partial(check.run, check.session(model_dir, "ORT_DISABLE_ALL"))
    feeds, references = check.fitting(reference, files.signature_of(original), check.limits(original))
    del reference
    notes: dict[str, Any] = {}
    for fuse in ("all", "without attention", "none") if config.operators == "engine" and _is_transformer(before) else ("none",):
        with temporary.directory("simplify", out_dir) as scratch:
            model = files.outline(model_dir)
            if fuse != "none":
                model = _fuse(model, attention=fuse == "all")
            model = _pooled(_folded(model, scratch))
            files.save(model, out_dir)
        opened = check.session(out_dir, "ORT_DISABLE_ALL")
        gap = max(check.difference(check.run(opened, feed), want) for feed, want in zip(feeds, references, strict=True))
        if gap <= TOLERANCE:
            break
        notes.setdefault("rejected", {})[fuse] = f"differs by {gap:.2e}"
    else:
        raise PassError(
            f"simplify: the simplified graph differs from its input by {gap:.2e}, more than {TOLERANCE:g}; the optimiser is "
            "wrong about this graph. Leave the step out and report the model"
        )
    after = Counter(node.op_type for node in model.graph.node)
    notes |= {"nodes_before": before.total(), "nodes": after.total(), "difference": float(f"{gap:.1e}"),
              "fused": {name: after[name] for name in _FUSED if after[name]}}  # fmt: skip
    files.finish(model_dir, out_dir, notes)


def _is_transformer(operators: Counter[str]) -> bool:
    return operators["Softmax"] > 0 and operators["MatMul"] > 0 and operators["LayerNormalization"] + operators["ReduceMean"] > 0


def _fuse(model: onnx.ModelProto, *, attention: bool) -> onnx.ModelProto:
    """onnxruntime's transformer fusions. Head count and width are read from the graph."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    options.enable_attention = attention
    options.enable_gelu_approximation = False
    options.use_raw_attention_mask(True)
    with quiet.engine_tools("simplify"), weights.readable():
        try:
            fused = optimize_model(model, "bert", num_heads=0, hidden_size=0, optimization_options=options, opt_level=0)
        except check.TOOL_ERRORS as error:
            raise PassError(f"simplify: transformer fusion failed ({type(error).__name__}: {error}); "
                            "use `operators: portable`, which leaves it out") from error  # fmt: skip
    result: onnx.ModelProto = fused.model
    return result


def _pooled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A mean over the pixels of pictures becomes the pooling operator that has an 8-bit kernel; other means stay."""
    from onnx import helper, numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    ranks = _ranks_of_convolutions(model)
    for number, node in enumerate(list(model.graph.node)):
        if node.op_type != "ReduceMean" or node.input[0] not in ranks:
            continue
        options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        axes = options.get("axes")
        if axes is None and len(node.input) > 1 and node.input[1] in stored:
            axes = numpy_helper.to_array(stored[node.input[1]]).tolist()
        if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
            continue
        source, result, keep = node.input[0], node.output[0], options.get("keepdims", 1)
        middle = result if keep else f"{result}_pooled"
        node.CopyFrom(helper.make_node("GlobalAveragePool", [source], [middle], name=f"{node.name or number}_pool"))
        if not keep:
            flatten = helper.make_node("Flatten", [middle], [result], name=f"{node.name}_flatten", axis=1)
            model.graph.node.insert(list(model.graph.node).index(node) + 1, flatten)
    return model


def _ranks_of_convolutions(model: onnx.ModelProto) -> set[str]:
    """Tensors that are certainly `[batch, channels, height, width]`: what follows a 2-d convolution elementwise."""
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    pictures: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Conv" and ranks.get(node.input[1]) == 4:
            pictures.update(node.output)
        elif node.op_type in ("Relu", "Clip", "LeakyRelu", "Sigmoid", "BatchNormalization", "MaxPool", "AveragePool", "HardSwish"):
            pictures.update(node.output if node.input[0] in pictures else ())
        elif node.op_type in ("Add", "Mul") and any(name in pictures for name in node.input):
            pictures.update(node.output)
    return pictures


def _folded(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """The engine's own basic level: hardware-independent, and standard operators stay standard."""
    (scratch / "in").mkdir()
    files.save(model, scratch / "in")
    try:
        check.save_optimised(scratch / "in" / files.MODEL, scratch / files.MODEL, "ORT_ENABLE_BASIC")
    except check.engine_errors() as error:
        raise PassError(f"simplify: the engine cannot optimise the graph: {str(error).strip()[:600]}") from error
    return files.outline(scratch)
