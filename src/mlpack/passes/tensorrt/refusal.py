"""Explains a refusal of TensorRT: the node, the reason, and a smaller graph that fails in the same way.

Promises:
- The smaller graph was tried and fails at the same stage and operator. It is kept in a directory of its own under the system's
  temporary directory, which the message names and nobody removes.

Will not: guess a reason where TensorRT gave none.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.tensorrt import child

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

Shapes = Mapping[str, tuple[int, ...]]

_LEVELS = 4  # how many nodes before the failing one may belong to the smaller graph
_SHOWN = 5
_PORTABLE = "the parser knows standard ONNX only: use `simplify: {operators: portable}`, and no `optimize` or CPU `quantize` before"


def words(model_dir: Path, request: Mapping[str, Any], answer: Mapping[str, Any], usual: Shapes) -> str:
    """The whole message of a refusal. `request`: the request to the child; `usual`: a shape of every input, for the smaller
    graph."""
    name = {"rtx": "TensorRT for RTX"}.get(request["flavour"], "TensorRT")
    where = f" for {request['sm']}" if answer["stage"] == "build" and request.get("sm") else ""
    head = f"tensorrt: {name} {answer['version'] or ''}".rstrip() + f" refuses the graph{where}:"
    errors = list(answer["errors"])
    if answer["stage"] == "import" or not errors:
        return f"{head} {errors[0]['reason'] if errors else 'it gave no reason'}"
    model = files.load(model_dir)
    lines = [f"  {_error(model, error)}" for error in errors[:_SHOWN]]
    if len(errors) > _SHOWN:
        lines.append(f"  and {len(errors) - _SHOWN} more")
    if any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
        lines.append(f"  {_PORTABLE}")
    cut = smallest(model, request, errors[0], usual)
    if cut is not None:
        graph, reason = cut
        lines.append(f"  a graph of {len(graph.graph.node)} of its {len(model.graph.node)} nodes fails likewise: {reason}")
    return "\n".join([head, *lines])


def reason(answer: Mapping[str, Any]) -> str:
    """The first error alone, on one line, for records."""
    return " ".join(str(answer["errors"][0]["reason"] if answer["errors"] else "no reason given").split())


def node_of(model: onnx.ModelProto, error: Mapping[str, Any]) -> int | None:
    """The index of the node that an error is about: from the parser, or the longest node name that the message quotes."""
    names = {node.name: index for index, node in enumerate(model.graph.node) if node.name}
    if error["name"] in names:
        return names[error["name"]]
    index = error["node"]
    if index is not None and 0 <= index < len(model.graph.node) and model.graph.node[index].op_type == error["operator"]:
        return int(index)
    quoted = [text for text in re.findall(r"'([^']+)'", error["reason"]) if text in names]
    return names[max(quoted, key=len)] if quoted else None


def _error(model: onnx.ModelProto, error: Mapping[str, Any]) -> str:
    index = node_of(model, error)
    text = " ".join(str(error["reason"]).split())
    if index is None:
        return text
    node = model.graph.node[index]
    inside = f", in function {' > '.join(error['functions'])}" if error["functions"] else ""
    # The parser's own checks give the condition that did not hold, which may be the bare word "false".
    message = "TensorRT does not support it" if text in ("false", "") else text
    code = f" ({error['code']} from {error['check']})" if error["code"] else ""
    return f"node {node.name or index!r} ({node.op_type}{inside}): {message}{code}{_advice(text)}"


def _advice(text: str) -> str:
    """What to do about reasons with a known way out."""
    if "FP32 GEMM is not supported" in text:
        return (
            ". On sm75 TensorRT for RTX multiplies in fp16 only, and in int8 only between fp16 values: use `precision: fp16`, "
            "`int8` or `mixed`, or leave sm75 out of `gpus`"
        )
    return ""


def smallest(
    model: onnx.ModelProto, request: Mapping[str, Any], error: Mapping[str, Any], usual: Shapes
) -> tuple[onnx.ModelProto, Path] | None:
    """(the smallest graph around the failing node that fails too, its file), or None when there is none."""
    index = node_of(model, error)
    if index is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="mlpack-refused-"))
    path = folder / "graph.onnx"
    for candidate in _candidates(model, index, usual, dynamic_first=request["op"] == "parse" or bool(error["code"])):
        path.write_bytes(candidate.SerializeToString(deterministic=True))
        if _fails(path, request, error, candidate):
            final = (
                folder
                / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', model.graph.node[index].name or 'node').strip('_.')[:60] or 'node'}.onnx"
            )
            path.rename(final)
            return candidate, final
    path.unlink(missing_ok=True)
    folder.rmdir()
    return None


def _fails(path: Path, request: Mapping[str, Any], error: Mapping[str, Any], candidate: onnx.ModelProto) -> bool:
    """Whether this graph is refused for the same operator, or with the same message about the same node."""
    request_cut = {
        **request,
        "graph": str(path),
        "profiles": [_profile(candidate)] if _varies(candidate) else [],
        "out": str(path) + ".engine",
    }
    try:
        answer = child.ask({**request_cut, "timing_cache": None}, limit_s=120)
    except PassError:
        return False
    finally:
        Path(request_cut["out"]).unlink(missing_ok=True)
    if answer["ok"]:
        return False
    return any(
        (one["operator"], one["code"]) == (error["operator"], error["code"]) and _gist(one["reason"]) == _gist(error["reason"])
        for one in answer["errors"]
    )


def _gist(text: str) -> str:
    """A reason without the numbers that change from graph to graph."""
    return re.sub(r"\d+", "#", text)


def _candidates(model: onnx.ModelProto, index: int, usual: Shapes, *, dynamic_first: bool) -> Iterator[onnx.ModelProto]:
    """Graphs around the node, smallest first: the node alone, then with one and more levels of the nodes that it reads from."""
    forms = [_inferred(model, None), _inferred(model, usual)] if dynamic_first else [_inferred(model, usual)]
    for levels in range(_LEVELS + 1):
        for form in forms:
            cut = _cut(model, _around(model, index, levels), form)
            if cut is not None:
                yield cut


def _inferred(model: onnx.ModelProto, usual: Shapes | None) -> dict[str, onnx.ValueInfoProto]:
    """Type and shape of every value; with `usual`, for inputs of those shapes."""
    from onnx import shape_inference

    copy = type(model).FromString(model.SerializeToString())
    for value in copy.graph.output:  # shapes in the file may contradict those that follow from the nodes, which fails
        value.type.tensor_type.ClearField("shape")
    if usual is not None:
        for value in copy.graph.input:
            for place, dim in enumerate(value.type.tensor_type.shape.dim):
                dim.ClearField("dim_param")
                if value.name in usual:
                    dim.dim_value = usual[value.name][place]
    try:
        copy = shape_inference.infer_shapes(copy, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError, ValueError):  # without inference there is no smaller graph
        return {}
    return {value.name: value for value in (*copy.graph.input, *copy.graph.value_info, *copy.graph.output)}


def _around(model: onnx.ModelProto, index: int, levels: int) -> list[int]:
    """The node, its constants, and `levels` of the nodes that it reads from, in the graph's order."""
    nodes = model.graph.node
    makers = {name: number for number, node in enumerate(nodes) for name in node.output}
    indices, edge = {index}, [index]
    for level in range(levels + 1):
        read = [makers[name] for number in edge for name in nodes[number].input if name in makers]
        edge = [number for number in read if number not in indices and (level < levels or nodes[number].op_type == "Constant")]
        indices.update(edge)
    return sorted(indices)


def _cut(model: onnx.ModelProto, indices: list[int], forms: Mapping[str, Any]) -> onnx.ModelProto | None:
    """A model of these nodes alone; None when the type of an input from outside is not known."""
    from onnx import helper

    nodes = [model.graph.node[number] for number in indices]
    names = {name for node in nodes for name in node.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    read = list(dict.fromkeys(name for node in nodes for name in node.input if name and name not in names))
    outside = [name for name in read if name not in weights]
    inner = {name for node in nodes for name in node.input}
    results = [name for node in nodes for name in node.output if name and name not in inner]
    if any(name not in forms for name in outside):
        return None
    values = [forms.get(name) or helper.make_empty_tensor_value_info(name) for name in results]
    cut = helper.make_graph(nodes, "refused", [forms[name] for name in outside], values, [weights[n] for n in read if n in weights])
    return helper.make_model(
        cut, opset_imports=list(model.opset_import), functions=list(model.functions), ir_version=model.ir_version
    )


def _varies(model: onnx.ModelProto) -> bool:
    return any(not dim.HasField("dim_value") for value in model.graph.input for dim in value.type.tensor_type.shape.dim)


def _profile(model: onnx.ModelProto) -> dict[str, Any]:
    """One length, 8, for every axis that may vary."""
    rows = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if any(not dim.HasField("dim_value") for dim in dims):
            shape = [dim.dim_value if dim.HasField("dim_value") else 8 for dim in dims]
            rows[value.name] = {"min": shape, "opt": shape, "max": shape}
    return rows
