"""Adopts a foreign ONNX file: copies it into a directory in the form that passes read.

Promises:
- The files that it names are inside its directory and whole, and no others are read.
- The graph computes the same. Symbolic axes are narrowed only where the recipe says so.

Will not: optimise.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core.entrypoint import suggestion
from mlpack.core.records import TensorSpec
from mlpack.core.yaml_positions import Place, PlacedError, Problem
from mlpack.graphs import files
from mlpack.graphs.foreign import locales, ranks, sequences, standard, zipmap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx


def external_files(path: Path) -> list[str]:
    """The files beside this ONNX file that hold its weights, sorted. Each is checked to lie inside and to be long enough."""
    return files.beside(path)


def says_all(path: Path) -> bool:
    """Whether the file states the type and rank of every output: then no data are needed to adopt it."""
    model = files.load_file(path, outline=True)
    sequences.rewritten(model)
    return all(ranks.has_rank(value) for value in model.graph.output)


def adopt(path: Path, inputs: tuple[TensorSpec, ...], out_dir: Path, calls: ranks.Calls | None = None) -> None:
    """Write the model at `path` as an ONNX directory into `out_dir`, with axes narrowed to `inputs` (empty: unchanged).

    `calls`: the recipe's, for facts that only a run of the model tells.
    """
    model = files.load_file(path, outline=True)
    zipmap.rewritten(model)
    locales.portable(model)
    model = standard.standard(model, path)
    sequences.rewritten(model)
    ranks.say(model, inputs)
    ranks.run(model, path, calls)
    if inputs:
        _narrow(model, inputs)
    files.save(model, out_dir)
    files.finish(path.parent, out_dir, {"taken_from": "onnx"})


def _narrow(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> None:
    """Fix or rename axes that the model leaves open. Raises PlacedError with all of `inputs` that the model cannot have."""
    actual = {spec.name: spec for spec in files.signature_of(model).inputs}
    becomes: dict[str, tuple[int | str, str]] = {}
    problems = [problem for target in inputs for problem in _misfits(target, actual, becomes)]
    if problems:
        raise PlacedError(*problems)
    # Lengths first: an axis may get the name that another one had.
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            length, _ = becomes.get(dim.dim_param, ("", ""))
            if isinstance(length, int):
                dim.ClearField("dim_param")
                dim.dim_value = length
    files.rename_axes(model, {old: new for old, (new, _) in becomes.items() if isinstance(new, str)})


def _misfits(spec: TensorSpec, actual: Mapping[str, TensorSpec], becomes: dict[str, tuple[int | str, str]]) -> Iterator[Problem]:
    """The problems of one input. `becomes` collects the new name or length of each open axis, and the input that states it."""
    place: Place = ("inputs", spec.name)
    have = actual.get(spec.name)
    if have is None:
        near = suggestion(spec.name, tuple(actual))
        yield Problem(place=place, message=f"the model has no such input{near} (it has {', '.join(actual) or 'none'})")
        return
    if have.dtype != spec.dtype:
        yield Problem(place=(*place, "dtype"), message=f"the model takes {have.dtype}, not {spec.dtype}")
    if len(have.shape) != len(spec.shape):
        message = f"the model takes {len(have.shape)} axes {list(have.shape)}, not {len(spec.shape)} {list(spec.shape)}"
        yield Problem(place=(*place, "shape"), message=message)
        return
    for axis, (old, new) in enumerate(zip(have.shape, spec.shape, strict=True)):
        if old == new:
            continue
        if isinstance(old, int):
            yield Problem(place=(*place, "shape", axis), message=f"is {old} in the model and cannot become {new}")
            continue
        first, rename = becomes.setdefault(old, (new, spec.name))
        if first != new:
            message = f"the model's axis {old!r} has one length: it cannot become {new} here and {first} in inputs.{rename}"
            yield Problem(place=(*place, "shape", axis), message=message)
