"""The simplify pass: folds constants, removes dead code, folds BatchNorm into convolutions, fuses transformer blocks, and leaves
out states of zeros.

Promises:
- The result is run beside its input on the recipe's own calls, and on several batch sizes, lengths and right-padded masks as
  far as the model takes generated ones, and agrees within `TOLERANCE`.
- A rewrite that fails, logs an error or differs is left out, with its reason in the notes: first some fusion, then all of it,
  and at last everything.
- Weights are not quantized, and no layout of the build machine is stored.

Order matters. Fusion must come before quantization: an int8 MiniLM whose attention was fused first has 18 + 6 int8 nodes
instead of 36 and loads in a third of the time. Masks stay two-dimensional: the shorter form (a length per row) silently assumes
right padding.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack.core.files import temporary
from mlpack.errors import PassError
from mlpack.graphs import check, files, kernels, quiet, trials, weights

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
    examples: Path | None = None
    """Directory of recorded calls (calls.json, calls.bin) on which the result is compared with its input."""


def run(model_dir: Path, config: Simplify, out_dir: Path) -> None:
    """Simplify the graph of `model_dir` into `out_dir`, as far as the numbers stay: in the worst case it stays unchanged.

    Raises PassError when the engine does not accept the graph, or not the recipe's own data.
    """
    original = files.outline(model_dir)
    before = Counter(node.op_type for node in original.graph.node)
    # The reference is closed once its answers are there: two open sessions of a large model take its bytes twice.
    trial_data = trials.of(partial(check.run, check.session(model_dir, "ORT_DISABLE_ALL")), original, model_dir, config.examples)
    rejected: dict[str, str] = {}
    for name in _ways(before, config):
        try:
            after = _simplified(model_dir, name, out_dir)
            gap = trial_data.gap(partial(check.run, check.session(out_dir, "ORT_DISABLE_ALL")))
        except (PassError, *check.TOOL_ERRORS) as error:
            rejected[name] = str(error) or type(error).__name__
        else:
            if gap <= TOLERANCE:
                break
            rejected[name] = f"differs by {gap:.2e}"
        files.clear(out_dir)
    else:
        after, gap = before, 0.0
        files.save(files.outline(model_dir), out_dir)
    fused = after - before
    notes: dict[str, Any] = {"nodes_before": before.total(), "nodes": after.total(), "difference": float(f"{gap:.1e}"),
             "fused": {name: fused[name] for name in _FUSED if fused[name]}, **trial_data.notes(original),
             **({"rejected": rejected} if rejected else {})}  # fmt: skip
    files.finish(model_dir, out_dir, notes)


def _ways(operators: Counter[str], config: Simplify) -> tuple[str, ...]:
    """The amounts of fusion in the order in which they are tried; if all fail, the graph stays unchanged."""
    if config.operators == "engine" and _is_transformer(operators):
        return ("all", "without attention", "none")
    return ("none",)


def _simplified(model_dir: Path, fuse: str, out_dir: Path) -> Counter[str]:
    """Write the graph with that much fusion, and count its operators."""
    with temporary.directory("simplify", out_dir) as scratch:
        model = files.outline(model_dir)
        if fuse != "none":
            model = _fuse(model, attention=fuse == "all")
        _start_from_nothing(model)
        model = _pooled(_folded(model, scratch))
        kernels.restate(model)
        files.save(model, out_dir)
    return Counter(node.op_type for node in model.graph.node)


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
    """Replace a mean over the pixels of pictures by the pooling operator, which has an 8-bit kernel; other means stay."""
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
    """Tensors that are certainly `[batch, channels, height, width]`: the elementwise results behind a 2-d convolution."""
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


_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""The inputs with the initial states of recurrent operators."""
_FLOATS = (1, 10, 11)  # TensorProto.FLOAT, FLOAT16, DOUBLE
_ZEROS_STAY = (
    "Expand", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Tile", "Slice", "Gather", "Split", "Cast", "Identity",
)  # fmt: skip


def _start_from_nothing(model: onnx.ModelProto) -> None:
    """Remove initial states of zeros: operators begin with zeros without them. Exporters make them of the batch's size at each
    call: half of the kernels of a wake word with two LSTMs, a tenth of its time."""
    small = (tensor for tensor in model.graph.initializer if weights.referred(tensor) is None)
    zeros = {tensor.name for tensor in small if tensor.data_type in _FLOATS and not weights.array(tensor).any()}
    _without_zeros(model.graph, zeros)
    _without_unread(model.graph)


def _without_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes whose results nothing reads, in nested graphs too: the engine runs them. The nodes may be in any order."""
    for node in graph.node:
        for nested in files.subgraphs(node):
            _without_unread(nested)
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    read, names = [value.name for value in graph.output], set()
    while read:
        place = makers.get(read.pop())
        if place is None or place in names:
            continue
        names.add(place)
        node = graph.node[place]
        read += [*node.input, *(name for nested in files.subgraphs(node) for name in files.names_read(nested))]
    staying = [type(node).FromString(node.SerializeToString()) for place, node in enumerate(graph.node) if place in names]
    del graph.node[:]
    graph.node.extend(staying)


def _without_zeros(graph: onnx.GraphProto, zeros: set[str]) -> None:
    """The same for a graph inside one in which these tensors are zeros."""
    from onnx import numpy_helper

    zeros = zeros - {value.name for value in graph.input}
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type in ("Constant", "ConstantOfShape"):
            value = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
            is_zeros = value is not None and value.data_type in _FLOATS and not numpy_helper.to_array(value).any()
            nothing = is_zeros or (value is None and node.op_type == "ConstantOfShape")
        else:
            nothing = zeros.issuperset(inputs) if node.op_type == "Concat" else node.op_type in _ZEROS_STAY and inputs[0] in zeros
        zeros.update(node.output if nothing and not node.domain else ())
        if not node.domain:
            for place in _STATES.get(node.op_type, ()):
                if len(node.input) > place and node.input[place] in zeros:
                    node.input[place] = ""
        for nested in files.subgraphs(node):
            _without_zeros(nested, zeros)


def _folded(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """The engine's own basic level: hardware-independent, and standard operators stay standard."""
    (scratch / "in").mkdir()
    files.save(model, scratch / "in")
    try:
        check.save_optimised(scratch / "in" / files.MODEL, scratch / files.MODEL, "ORT_ENABLE_BASIC")
    except check.engine_errors() as error:
        raise PassError(f"simplify: the engine cannot optimise the graph: {check.engine_message(error, scratch)}") from error
    return files.outline(scratch)
