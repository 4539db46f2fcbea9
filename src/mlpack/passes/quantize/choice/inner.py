"""Puts grouped convolutions and normalisations into 8 bits where they stand between 8-bit kernels.

By itself a depthwise convolution is slower in integers than in float. Between two others in integers it would be float in a
layout that float kernels are slow in, with a conversion and a transposition on each side: all three, of 32 channels of 80 by
80, take 732 microseconds, 297 in integers and 352 in float (one thread, VNNI).

Promises:
- Such a node reads 8 bits and an 8-bit kernel reads its result; the others keep their reasons.
- A normalisation becomes a depthwise convolution of one weight a channel, which a scale for each channel holds exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlpack.graphs import kernels, weights
from mlpack.passes.quantize.choice import choose
from mlpack.passes.quantize.choice.between import between, feeds, results
from mlpack.passes.quantize.choice.choose import STATIC, NodeChoice
from mlpack.passes.quantize.view import View
from mlpack.passes.quantize.writing import attributes

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import onnx

_PICTURE = 4
"""The axes of a batch of pictures."""
_FLOAT = 1  # TensorProto.FLOAT


def convolutions(model: onnx.ModelProto, chosen: NodeChoice) -> NodeChoice:
    """The same choice, with grouped convolutions static that stand between static ones."""
    view = View(model)
    inner = _inner(view, _grouped(view, chosen), chosen.by(STATIC))
    reasons = {name: why for name, why in chosen.kept.items() if name not in inner}
    how = {node.name: STATIC if node.name in inner else chosen.how[node.name]
           for node, _ in choose.walk(model.graph) if node.name in inner or node.name in chosen.how}  # fmt: skip
    return NodeChoice(how, reasons)


def _grouped(view: View, chosen: NodeChoice) -> set[str]:
    """Grouped convolutions that are float because they are slow in integers."""
    return {
        node.name
        for node in view.graph.node
        if node.op_type == "Conv" and chosen.kept.get(node.name) in (choose.TINY, choose.GROUPED)
        and attributes(node).get("group", 1) > 1 and not choose.unfit_bias(node, view.stored)
    }  # fmt: skip


def _inner(view: View, names: Collection[str], static: Collection[str]) -> set[str]:
    """The wanted nodes that stand between 8-bit kernels if all the others in the result do."""
    remaining = set(names)
    while remaining:
        within = {*static, *remaining}
        carried = between(view, within, ())
        sources = {name for node in view.graph.node if node.name in within for name in (view.clipped(node.output[0]),)}
        sources.update(name for node in view.graph.node if node.name in carried for name in results(view, node))
        outside = {
            node.name
            for node in view.graph.node
            if node.name in remaining
            and (node.input[0] not in sources or not feeds(view, view.clipped(node.output[0]), carried, within))
        }
        if not outside:
            break
        remaining -= outside
    return remaining


def normalisations(model: onnx.ModelProto, chosen: NodeChoice, keep: Sequence[str]) -> list[str]:
    """Names of the normalisations of pictures that would stand between 8-bit kernels as convolutions, without those to keep."""
    names = {*_pictures(model)} - {*keep}
    if not names:
        return []
    trial_model = type(model).FromString(model.SerializeToString())
    as_convolutions(trial_model, names)
    view = View(trial_model)
    return sorted(_inner(view, names | _grouped(view, chosen), chosen.by(STATIC)) & names)


def _pictures(model: onnx.ModelProto) -> list[str]:
    """Names of the normalisations of four axes whose constants are known."""
    nodes = [node for node in model.graph.node if node.op_type == "BatchNormalization" and len(node.output) == 1]
    if not nodes:
        return []
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == _FLOAT}
    ranks = kernels.ranks_of(model)
    return [node.name for node in nodes if ranks.get(node.input[0]) == _PICTURE and stored.issuperset(node.input[1:])]


def as_convolutions(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Turn these normalisations into depthwise convolutions, in place."""
    import numpy as np
    from onnx import helper, numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.name not in names or node.op_type != "BatchNormalization":
            continue
        scale, bias, mean, variance = (weights.array(stored[name]).astype(np.float64) for name in node.input[1:])
        factor: Any = scale / np.sqrt(variance + np.float64(np.float32(attributes(node).get("epsilon", 1e-5))))
        tensors = [factor.reshape(-1, 1, 1, 1), bias - mean * factor]
        parts = [f"{node.name}/{part}" for part in ("factor", "offset")]
        model.graph.initializer.extend(
            numpy_helper.from_array(values.astype(np.float32), name) for values, name in zip(tensors, parts, strict=True)
        )
        source, result, name = node.input[0], node.output[0], node.name
        node.CopyFrom(helper.make_node("Conv", [source, *parts], [result], name=name, kernel_shape=[1, 1], group=len(factor)))
