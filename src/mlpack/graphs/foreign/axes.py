"""Separates axes that a file gives one name although the recipe's data have several lengths for it.

Promises:
- Axes of a name get names of their own only where a call has two lengths for the name and the graph accepts the first call.
- Data that the graph does not accept are left to the module that reads them, which reports the mistake.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from mlpack.core.records import Signature
from mlpack.evaluation.data import reader
from mlpack.graphs import check, files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path


def loosened(signature: Signature) -> Signature:
    """The same inputs, every open axis with a name of its own."""
    inputs = []
    for spec in signature.inputs:
        shape = tuple(axis if isinstance(axis, int) else _own(spec.name, place) for place, axis in enumerate(spec.shape))
        inputs.append(dataclasses.replace(spec, shape=shape))
    return Signature(inputs=tuple(inputs), outputs=())


def contradicted(signature: Signature, calls: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of axes that have two lengths in one of the calls, as `calls.json` lists them."""
    names: set[str] = set()
    for call in calls:
        lengths: dict[str, int] = {}
        for spec in signature.inputs if "inputs" in call else ():
            for axis, length in zip(spec.shape, call["inputs"][spec.name]["shape"], strict=True):
                if isinstance(axis, str) and lengths.setdefault(axis, length) != length:
                    names.add(axis)
    return frozenset(names)


def apart(model_dir: Path, names: Collection[str], calls: Path, out_dir: Path) -> None:
    """Write the model with separate names for axes of these names. Raises PassError when it does not take the first of `calls`."""
    model = files.outline(model_dir)
    signature = loosened(files.signature_of(model))
    check.run(check.session(model_dir, "ORT_DISABLE_ALL"), next(reader.read(calls, model_dir, signature)))
    for value in (*model.graph.input, *model.graph.output):
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param in names:
                dim.dim_param = _own(value.name, place)
    files.save(model, out_dir)
    files.finish(model_dir, out_dir, {"taken_from": "onnx", "axes_told_apart": sorted(names)})


def _own(name: str, place: int) -> str:
    return f"{name}_axis{place}"
