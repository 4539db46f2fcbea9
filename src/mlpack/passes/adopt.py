"""Take an ONNX file that somebody else wrote into the form that passes read.

Promises: the files it names are inside its directory, whole, and the only ones read; the graph computes what it did; symbolic axes
are narrowed where the recipe says so and nowhere else. Does not optimise.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.errors import PassError, RecipeError
from mlpack.passes import graph
from mlpack.records import TensorSpec

if TYPE_CHECKING:
    import onnx


def external_files(path: Path) -> list[str]:
    """The files beside this ONNX file that hold its weights, sorted. Each is checked to lie inside and to be long enough."""
    import onnx

    graph.load_file(path)  # checks every tensor's place and length
    model = onnx.load(path, load_external_data=False)
    return sorted(
        {
            entry.value
            for tensor in graph.tensors(model.graph)
            if tensor.data_location == onnx.TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )


def adopt(path: Path, inputs: tuple[TensorSpec, ...], out_dir: Path) -> None:
    """Write the model at `path` as an ONNX directory into `out_dir`, with axes narrowed to `inputs` (empty: as they are)."""
    model = graph.load_file(path)
    _check(model, path)
    if inputs:
        _narrow(model, inputs)
    graph.save(model, out_dir)
    graph.finish(path.parent, out_dir, {"taken_from": "onnx"})


def _check(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise PassError(
            f"{path.name}: not a valid ONNX model: {str(error).strip().splitlines()[0]}\n"
            "The tool that wrote it is at fault, or the file was edited: export it again, or check it with onnx.checker"
        ) from error


def _narrow(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> None:
    """Fix axes that the model leaves open. An axis that the model fixes cannot be opened or changed."""
    actual = {spec.name: spec for spec in graph.signature_of(model).inputs}
    renamed: dict[str, str] = {}
    fixed: dict[str, int] = {}
    for wanted in inputs:
        have = actual.get(wanted.name)
        if have is None:
            raise RecipeError(f"inputs.{wanted.name}: the model has no such input; it has {', '.join(actual)}")
        if have.dtype != wanted.dtype or len(have.shape) != len(wanted.shape):
            raise RecipeError(
                f"inputs.{wanted.name}: the model takes {have.dtype} {list(have.shape)}, not {wanted.dtype} {list(wanted.shape)}"
            )
        for axis, (old, new) in enumerate(zip(have.shape, wanted.shape, strict=True)):
            if isinstance(old, int) and old != new:
                raise RecipeError(f"inputs.{wanted.name}: axis {axis} is {old} in the model and cannot become {new}")
            if isinstance(old, str) and isinstance(new, int):
                fixed[old] = new
            elif isinstance(old, str) and isinstance(new, str):
                renamed[old] = new
    graph.rename_axes(model, renamed)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in fixed:
                length = fixed[dim.dim_param]
                dim.ClearField("dim_param")
                dim.dim_value = length
