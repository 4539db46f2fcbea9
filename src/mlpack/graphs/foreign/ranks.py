"""Adds types and ranks of inputs and outputs that a file does not state.

Promises:
- Inputs get what the recipe says. Outputs get what inference finds (ONNX's own, then onnxruntime's symbolic one); the rest is
  found by one run, on the recipe's first call or else on generated inputs.
- Unknown lengths get names. Nothing else of the graph changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mlpack.core.records import Signature, TensorSpec
from mlpack.errors import PassError
from mlpack.graphs import check, files, trials, weights
from mlpack.graphs.facts import shapes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx

Calls = Callable[[Signature], Iterable[Mapping[str, Any]]]
"""Reads the recipe's calls for these inputs."""


def say(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> None:
    """Write ranks of inputs that only the recipe states, and what follows from them. PassError for those that nothing states."""
    specs = {spec.name: spec for spec in inputs}
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if has_rank(value) or value.name in stored:
            continue
        if value.name not in specs:
            raise PassError(
                f"the file does not say how many axes its input {value.name!r} has: say it in the recipe, "
                f"`inputs: {{{value.name}: {{shape: [batch, ...]}}}}`"
            )
        value.type.tensor_type.shape.SetInParent()
        for axis in specs[value.name].shape:
            dim = value.type.tensor_type.shape.dim.add()
            if isinstance(axis, int):
                dim.dim_value = axis
            else:
                dim.dim_param = axis
    infer(model)


def run(model: onnx.ModelProto, path: Path, calls: Calls | None) -> None:
    """Write ranks of outputs that only a run tells. `path`: the file of the graph. PassError when it does not run."""
    import onnx

    unknown = [value.name for value in model.graph.output if not has_rank(value)]
    if not unknown:
        return
    opened = check.session_of(check.source_of(model, path), "ORT_DISABLE_ALL")
    signature = files.inputs_of(model)
    answers = None if calls is None else next((check.run(opened, call) for call in calls(signature)), None)
    if answers is None:
        answers = next(iter(trials.fitting(partial(check.run, opened), signature, check.limits(model)).references), None)
    if answers is None:
        raise PassError(f"{path.name}: does not say how many axes {unknown[0]!r} has, and no inputs are known to find out")
    for value, array in zip(model.graph.output, answers, strict=True):
        if value.name in unknown:
            kind = onnx.TensorProto.STRING if array.dtype == object else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            axes = [f"{value.name}_axis{place}" for place in range(array.ndim)]
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, axes))


def infer(model: onnx.ModelProto) -> None:
    """Write ranks and types of outputs that the file does not state, where inference finds them; others stay unknown."""
    import onnx

    unknown = [value for value in model.graph.output if not has_rank(value)]
    if not unknown:
        return
    for inferred in _inferences(model):
        values = {value.name: value for value in (*inferred.graph.output, *inferred.graph.value_info, *inferred.graph.input)}
        for value in unknown:
            if value.name in values and has_rank(values[value.name]):
                value.type.CopyFrom(values[value.name].type)
        unknown = [value for value in unknown if not has_rank(value)]
        if not unknown:
            return
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for value in unknown:
        if value.name in stored:
            tensor = stored[value.name]
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, tensor.data_type, list(tensor.dims)))


def has_rank(value: onnx.ValueInfoProto) -> bool:
    """Whether this tensor's type and rank are stated; a value that is no tensor counts as stated."""
    kind = value.type.WhichOneof("value")
    if kind is not None and kind != "tensor_type":
        return True
    return kind is not None and value.type.tensor_type.elem_type != 0 and value.type.tensor_type.HasField("shape")


def _inferences(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """The model with more types and shapes: ONNX's own inference, then onnxruntime's symbolic one."""
    import onnx

    bare = weights.declared(model)
    try:
        yield onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError):
        pass
    if (inferred := shapes.symbolic(bare)) is not None:
        yield inferred
