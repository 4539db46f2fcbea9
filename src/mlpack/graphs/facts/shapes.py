"""The element type and shape of every tensor in a graph whose inputs have given shapes.

Promises:
- Inference comes first (onnxruntime's symbolic one, with numbers for every axis). Only what it leaves open is found by one run
  on the CPU engine.
- PassError where neither knows.

Will not: change what a graph computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import interrupts
from mlpack.core.records import Signature, TensorSpec
from mlpack.errors import PassError
from mlpack.evaluation.data import reader
from mlpack.graphs import check, files
from mlpack.graphs.facts.operators import TensorInfo, dtype_name

if TYPE_CHECKING:
    import onnx

_SHAPED_LIKE = {
    "DynamicQuantizeMatMul": ("MatMul", "", slice(2)), "MatMulIntegerToFloat": ("MatMul", "", slice(2)),
    "DynamicQuantizeLSTM": ("LSTM", "", slice(3)), "QAttention": ("Attention", "com.microsoft", slice(3)),
    "QEmbedLayerNormalization": ("EmbedLayerNormalization", "com.microsoft", slice(8)),
    "QLinearSigmoid": ("Identity", "", slice(1)), "QLinearLeakyRelu": ("Identity", "", slice(1)),
    "QLinearSoftmax": ("Identity", "", slice(1)), "QLinearConcat": ("Concat", "", slice(2, None, 3)),
    "QLinearAdd": ("Add", "", slice(0, 4, 3)), "QLinearMul": ("Mul", "", slice(0, 4, 3)), "QGemm": ("Gemm", "", slice(0, 4, 3)),
    "QLinearConv": ("QLinearConv", "", slice(None)), "QLinearAveragePool": ("AveragePool", "", slice(1)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", "", slice(1)),
    "FusedConv": ("Conv", "", slice(3)), "FusedGemm": ("Gemm", "", slice(3)),
}  # fmt: skip
"""The engine's own operators that inference does not know: another operator whose output has the same shape, its domain, and which
of the inputs it takes."""
_LOOKED_AT = 64
"""The number of recorded calls among which one with the shapes is searched."""


def resolved(
    model_dir: Path, shapes: Mapping[str, tuple[int, ...]], calls: Path | None = None
) -> tuple[onnx.ModelProto, dict[str, TensorInfo]]:
    """The graph of `model_dir` with its inputs' shapes written in, and every tensor by name. Raises PassError.

    `calls`: recorded ones. If a run is needed, the values of one with these shapes (except for its rows) are used.
    """
    from google.protobuf.message import EncodeError

    model = files.load(model_dir)
    _fix(model, files.signature_of(model), shapes)
    inferred = symbolic(model) or model  # a graph that inference refuses is run
    tensors = _known_tensors(inferred)
    holes = _holes(inferred, tensors)
    if holes:
        try:
            _run(inferred, holes, tensors, [] if calls is None else reader.read(calls, model_dir, files.signature_of(model)))
        except EncodeError as error:
            raise PassError(
                f"the shapes of {len(holes)} tensors ({holes[0]!r} first) cannot be inferred, and the graph is too large to be run "
                "for them as one message (2 GiB)"
            ) from error
    return inferred, tensors


def inferred(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TensorInfo] | None:
    """The tensors that inference alone finds, by name, for a graph whose inputs have these shapes, which are written into it.

    It runs nothing. None where inference cannot take the graph. PassError for a shape that does not fit.
    """
    specs = tuple(spec for spec in files.inputs_of(model).inputs if spec.name in shapes)
    _fix(model, Signature(inputs=specs, outputs=()), shapes)
    _translate(model)
    # onnx's own inference takes milliseconds, and is enough for most graphs; the symbolic one has to import sympy first.
    quick = _quick(model)
    if quick is not None and not _holes(model, quick):
        return quick
    model_with_shapes = symbolic(model)
    return quick if model_with_shapes is None else (quick or {}) | _known_tensors(model_with_shapes)


def _translate(model: onnx.ModelProto) -> None:
    """Replace the engine's own operators by ones that inference knows; those with channels last get transpositions around them."""
    from onnx import helper

    nodes = []
    for node in model.graph.node:
        if node.op_type not in _SHAPED_LIKE or not node.domain:
            nodes.append(node)
            continue
        op, domain, which = _SHAPED_LIKE[node.op_type]
        last = any(each.name == "channels_last" and each.i for each in node.attribute)
        node.op_type, node.domain = op, domain
        inputs = list(node.input)[which]
        node.input[:] = inputs
        nodes.append(node)
        if last and inputs and node.output:
            source, target = inputs[0], node.output[0]
            node.input[0], node.output[0] = f"{target}/given", f"{target}/made"
            nodes.insert(-1, helper.make_node("Transpose", [source], [f"{target}/given"], perm=[0, 3, 1, 2]))
            nodes.append(helper.make_node("Transpose", [f"{target}/made"], [target], perm=[0, 2, 3, 1]))
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _quick(model: onnx.ModelProto) -> dict[str, TensorInfo] | None:
    import onnx

    try:
        return _known_tensors(onnx.shape_inference.infer_shapes(model, data_prop=True))
    except (*check.TOOL_ERRORS, onnx.shape_inference.InferenceError):
        return None


def _fix(model: onnx.ModelProto, signature: Signature, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write lengths in place of names. Raises PassError for a shape that is missing or does not fit."""
    specs = {spec.name: spec for spec in signature.inputs}
    for value in model.graph.input:
        if value.name not in specs:
            continue
        shape, declared = shapes.get(value.name), specs[value.name].shape
        if shape is None or not _fits(shape, declared):
            shape_text = "none" if shape is None else str(tuple(shape))
            raise PassError(f"input {value.name!r}: the shape to count for is {shape_text}, the graph takes {tuple(declared)}")
        for dim, length in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            dim.dim_value = length
    for value in model.graph.output:  # names that inputs had would contradict what is inferred
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.ClearField("dim_param")
    del model.graph.value_info[:]


def _fits(shape: Sequence[int], declared: Sequence[int | str]) -> bool:
    return len(shape) == len(declared) and all(isinstance(w, str) or w == g for g, w in zip(shape, declared, strict=True))


def symbolic(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with `value_info` from onnxruntime's symbolic inference, as far as that gets; None for a graph that it cannot
    take."""
    # Slow to import.
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    # Its own `infer_shapes` gives nothing where it does not find all, and leaves a copy of the graph in the current directory.
    tool = SymbolicShapeInference(2**31 - 1, True, False, 0)
    try:
        tool._preprocess(model)
        while tool.run_:
            tool._infer_impl()
        tool._update_output_from_vi()
    except Exception:  # noqa: BLE001  it raises bare ones; running is what remains, and says what is wrong
        interrupts.check()
        return None
    model_with_shapes: onnx.ModelProto = tool.out_mp_
    return model_with_shapes


def _known_tensors(model: onnx.ModelProto) -> dict[str, TensorInfo]:
    """Every tensor with a complete type and shape."""
    tensors = {t.name: TensorInfo(dtype_name(t.data_type), tuple(t.dims)) for t in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not kind.HasField("shape") or not kind.elem_type:
            continue
        if all(dim.HasField("dim_value") for dim in kind.shape.dim):
            tensors[value.name] = TensorInfo(dtype_name(kind.elem_type), tuple(dim.dim_value for dim in kind.shape.dim))
    return tensors


def _holes(model: onnx.ModelProto, tensors: Mapping[str, TensorInfo]) -> list[str]:
    return [name for node in model.graph.node for name in node.output if name and name not in tensors]


def _run(model: onnx.ModelProto, holes: Sequence[str], tensors: dict[str, TensorInfo], calls: Iterable[Mapping[str, Any]]) -> None:
    """Run the graph once with these tensors as outputs, on a recorded call or on plausible inputs, and record their types and
    shapes."""
    from onnx import ValueInfoProto

    probe = type(model).FromString(model.SerializeToString())
    del probe.graph.value_info[:]
    there = {value.name for value in probe.graph.output}
    for name in holes:
        if name not in there:
            value = ValueInfoProto()
            value.name = name
            probe.graph.output.append(value)
    signature = Signature(
        inputs=tuple(
            TensorSpec(name=spec.name, dtype=spec.dtype, shape=tensors[spec.name].shape)
            for spec in files.signature_of(model).inputs
        ),
        outputs=(),
    )
    recorded = (_widened(call, signature) for call in islice(calls, _LOOKED_AT))
    feed = next((each for each in recorded if each is not None), None) or check.feeds(signature, check.limits(model))[0]
    try:
        opened = check.session_of(probe.SerializeToString(), "ORT_DISABLE_ALL")
        values = dict(zip((value.name for value in probe.graph.output), check.run(opened, feed), strict=True))
    except PassError as error:
        raise PassError(
            f"the shapes of {len(holes)} tensors ({holes[0]!r} first) cannot be inferred, and the graph does not run on this "
            f"machine's engine to find them: {error}"
        ) from error
    names = {"float32": "float", "float64": "double", "object": "string", "str": "string"}
    for name in holes:
        array = values[name]
        tensors[name] = TensorInfo(names.get(array.dtype.name, array.dtype.name), tuple(array.shape))


def _widened(call: Mapping[str, Any], signature: Signature) -> dict[str, Any] | None:
    """The call with its one row repeated for the signature's batch; None where its other axes differ."""
    import numpy as np

    feed = {}
    for spec in signature.inputs:
        array = call[spec.name]
        if array.shape != spec.shape and array.shape[:1] == (1,) and array.shape[1:] == spec.shape[1:]:
            array = np.repeat(array, int(spec.shape[0]), axis=0)
        if array.shape != spec.shape:
            return None
        feed[spec.name] = array
    return feed
