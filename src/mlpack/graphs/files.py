"""Reads and writes ONNX directories. Every pass uses it.

Promises:
- `save` gives the same bytes for the same graph (no paths, doc strings, stack traces, producer versions or hash-map order). It
  stores weights over 1 KiB in one `model.onnx.data` that an engine can map into memory, and writes `signature.json`.
- `load` refuses, by name, truncated files and external data that is missing, too short or outside the model's directory.

Will not: change what a graph computes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core.digest import canonical_json
from mlpack.core.files import bounded, tokenizer_limits
from mlpack.core.records import Shape, Signature, TensorSpec
from mlpack.errors import PassError
from mlpack.graphs import weights, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

MODEL = "model.onnx"
DATA = "model.onnx.data"
TWIN = "cpu.onnx"
"""The numerically equal graph for an engine without kernels for the types of `model.onnx`, if there is one."""
SIGNATURE = "signature.json"
NOTES = "notes.json"
TOKENIZER = tokenizer_limits.TOKENIZER
STRING = "string"
"""The element type of strings in signatures. numpy's own word, object, could be anything."""
LABELS = "labels.json"
"""Names of classes by their numbers: {"0": "negative", ...}."""

_INLINE_BYTES = 1024
_PAGE_BYTES = 4096
_LARGEST_FILE_BYTES = 2**31 - 1  # protobuf's own limit for one message


def load(model_dir: Path) -> onnx.ModelProto:
    """The graph in `model_dir` with its weights in memory. Raises PassError when it is damaged or reaches outside."""
    return load_file(model_dir / MODEL)


def outline(model_dir: Path) -> onnx.ModelProto:
    """The same graph with its large weights left in their files: see `weights` for reading them. `save` takes them along."""
    return load_file(model_dir / MODEL, outline=True)


def load_file(path: Path, *, outline: bool = False) -> onnx.ModelProto:
    """The graph in this file, with external weights read from files beside it (`outline`: the small ones). PassError as `load`."""
    model, inside = _parsed(path, outline=outline)
    _settle(model, path, outline=outline)
    for number, (start, end) in inside.items():
        weights.refer_to(model.graph.initializer[number], weights.ByteRange(path.absolute(), start, end - start))
    return model


def beside(path: Path) -> list[str]:
    """The files beside this one that hold its weights, sorted. PassError as `load`."""
    load_file(path, outline=True)  # checks every tensor's place and length
    model, _ = _parsed(path, outline=True)
    outside = [tensor for tensor in tensors(model.graph) if tensor.data_location == tensor.EXTERNAL]
    return sorted({entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"})


def _parsed(path: Path, *, outline: bool) -> tuple[onnx.ModelProto, dict[int, wire.Part]]:
    """The message, and where in the file the weights are that were left out of it."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if (size := path.stat().st_size) > _LARGEST_FILE_BYTES:
            raise PassError(
                f"{path.name}: {size:,} bytes, and one ONNX file holds 2 GiB at most (protobuf); save the model with its weights "
                "as external data"
            )
        data, inside = _message(path, size, outline=outline)
    except OSError as error:
        raise PassError(f"{path.name}: cannot be read ({error.strerror}); the model's directory is incomplete") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise PassError(
            f"{path.name}: not a complete ONNX file ({size:,} bytes); it was probably cut off while it was copied or "
            "is a Git LFS pointer. Fetch or export it again"
        ) from error
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise PassError(f"{path.name}: holds no graph ({size:,} bytes); export the model again")
    return model, inside


def _message(path: Path, size: int, *, outline: bool) -> tuple[bytes, dict[int, wire.Part]]:
    """The bytes of a file's message; for an outline without those of large weights, and where in the file these are."""
    if outline and size > weights.LARGE_BYTES and weights.is_nameable(path):
        with wire.mapped(path) as view:
            if (parts := wire.without_weights(view, weights.LARGE_BYTES)) is not None:
                return parts
    bounded.fits_in_memory(2 * size, path.name, PassError)
    return path.read_bytes(), {}


def _settle(model: onnx.ModelProto, path: Path, *, outline: bool) -> None:
    """Read the weights outside the message, or leave the large ones there. Raises PassError."""
    total, stay = 0, []
    own = len(model.graph.initializer) if outline and weights.is_nameable(path) else 0
    for number, tensor in enumerate(tensors(model.graph)):  # the graph's own initializers come first
        if tensor.data_location != tensor.EXTERNAL:
            continue
        length = weights.length_of(tensor, path.parent)
        if number < own and length > weights.LARGE_BYTES:
            stay.append(tensor)
            continue
        # Many tensors may name one part of a file: their sum is what counts, not the file's size.
        total += length
        bounded.fits_in_memory(total, f"the weights that {path.name} names", PassError)
        weights.take(tensor, path.parent)
    for tensor in stay:
        weights.refer(tensor, path.parent)


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor of a graph: initializers and attributes, those of nested graphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for nested in subgraphs(node):
            yield from tensors(nested)


def save(model: onnx.ModelProto, out_dir: Path, inline_bytes: int = _INLINE_BYTES, *, name: str = MODEL) -> Signature:
    """Write `model.onnx` (or another `name`), `model.onnx.data` if there are weights for it, and `signature.json`.

    Tensors up to `inline_bytes` stay in the graph. The same graph gives the same bytes. `model` is normalised in place and has
    external data afterwards: do not use it again.
    """

    _normalise(model)
    signature = signature_of(model)
    place_weights(model, out_dir, f"{name}.data", inline_bytes)
    if model.ByteSize() > _LARGEST_FILE_BYTES:
        raise PassError("the graph without its weights is over 2 GiB; constants inside nodes are probably not initializers")
    (out_dir / name).write_bytes(model.SerializeToString(deterministic=True))
    write_signature(signature, out_dir)
    return signature


def place_weights(model: onnx.ModelProto, out_dir: Path, name: str = DATA, inline_bytes: int = _INLINE_BYTES) -> None:
    """Put initializers of more than `inline_bytes` into one file, one after the other, each on pages of its own."""
    written: dict[weights.ByteRange, int] = {}
    end = 0
    outside = [(tensor, weights.referred(tensor)) for tensor in model.graph.initializer]
    weights.fits_on_disk(sum(place.length for place in {place for _, place in outside if place}), out_dir)
    with (out_dir / name).open("wb", buffering=0) as stream:
        for tensor, place in outside:
            data = b"" if place else _raw(tensor)
            length = place.length if place else len(data)
            if length <= inline_bytes and place is None:
                continue
            position = written.get(place) if place else None
            if position is None:
                position = end + -end % _PAGE_BYTES
                stream.write(bytes(position - end))
                weights.append(place or data, stream)
                end = position + length
            if place:
                written[place] = position
            weights.point(tensor, weights.ByteRange(Path(name), position, length))
    if not end:
        (out_dir / name).unlink()


def _raw(tensor: onnx.TensorProto) -> bytes:
    """The tensor's bytes, moved into `raw_data` if they were elsewhere; nothing for strings."""
    import onnx
    from onnx import numpy_helper

    if tensor.data_type == onnx.TensorProto.STRING:
        return b""
    if not tensor.HasField("raw_data"):
        plain = numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)
        tensor.CopyFrom(plain)
    return bytes(tensor.raw_data)


def _normalise(model: onnx.ModelProto) -> None:
    """Remove everything that does not compute: producer and origin, intermediate shapes, unused domains, random order."""
    for field in ("doc_string", "producer_version", "domain", "model_version", "metadata_props"):
        model.ClearField(field)
    model.producer_name = "mlpack"
    for function in model.functions:
        function.ClearField("doc_string")
        function.ClearField("metadata_props")
    used = {node.domain for node in nodes(model.graph)} | {n.domain for f in model.functions for n in f.node}
    imports = sorted((o.domain, o.version) for o in model.opset_import if o.domain in ("", "ai.onnx") or o.domain in used)
    del model.opset_import[:]
    for domain, version in imports:
        entry = model.opset_import.add()
        entry.domain, entry.version = domain, version
    _strip(model.graph)
    model.graph.name = "main"
    read = names_read(model.graph)
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in read]:
        model.graph.initializer.remove(tensor)
    # Engines keep initializers in hash maps whose order changes from process to process.
    model.graph.initializer.sort(key=lambda tensor: tensor.name)
    # From IR version 4 weights need not be inputs; listed there they would look like something the caller must give.
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in stored]:
        model.graph.input.remove(value)
        model.ir_version = max(model.ir_version, 4)


def _strip(graph: onnx.GraphProto) -> None:
    """Remove doc strings, metadata and intermediate shapes of a graph and those nested in it."""
    for field in ("doc_string", "metadata_props", "value_info"):
        graph.ClearField(field)
    for item in (*graph.input, *graph.output, *graph.initializer, *graph.node):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    for node in graph.node:
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
        for nested in subgraphs(node):
            _strip(nested)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those nested in it."""
    yield graph
    for node in graph.node:
        for nested in subgraphs(node):
            yield from graphs(nested)


def nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Every node of a graph and of those nested in it."""
    for node in graph.node:
        yield node
        for nested in subgraphs(node):
            yield from nodes(nested)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that an If, a Loop or a Scan holds, not those inside them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def names_read(graph: onnx.GraphProto) -> set[str]:
    """Every tensor that a node of a graph or of those nested in it reads, and the outputs of these graphs."""
    names = {name for node in nodes(graph) for name in node.input}
    return names | {value.name for each in graphs(graph) for value in each.output}


def signature_of(model: onnx.ModelProto) -> Signature:
    """Inputs and outputs of the graph. An axis without length or name is called `<tensor>_axis<i>`.

    Raises PassError for an output of unknown rank or one that is no tensor (a converter's list of dictionaries).
    """
    return Signature(inputs=inputs_of(model).inputs, outputs=tuple(_spec(value) for value in model.graph.output))


def inputs_of(model: onnx.ModelProto) -> Signature:
    """A signature with the inputs alone, where outputs are not known yet."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return Signature(inputs=tuple(_spec(value) for value in model.graph.input if value.name not in stored), outputs=())


def _no_tensor(kind: onnx.TypeProto) -> str:
    """The type of an output that is no tensor, and what to do."""
    if kind.HasField("sequence_type") and kind.sequence_type.elem_type.HasField("map_type"):
        return "a list of dictionaries: convert the model again without them (for scikit-learn: options={'zipmap': False})"
    if kind.HasField("sequence_type"):
        return (
            "a sequence of tensors, and how many it holds does not stand in the graph; an answer holds tensors by name: join them"
            " before the output (ConcatFromSequence; torch.cat or torch.stack before the export), padded to one length where they"
            " differ, or give each an output of its own"
        )
    if kind.HasField("optional_type"):
        return "an optional value, which may be absent; an answer holds tensors by name: export the model without it"
    type_name = kind.WhichOneof("value") or "of unknown type"
    return f"{type_name.replace('_type', '').replace('_', ' ')}; an answer holds tensors by name: give the graph tensors there"


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    if not value.type.HasField("tensor_type"):
        raise PassError(f"{value.name!r} is not a tensor but {_no_tensor(value.type)}")
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        raise PassError(f"{value.name!r} has no known rank; run ONNX shape inference on the model, or export it again")
    shape: list[int | str] = []
    for axis, dim in enumerate(kind.shape.dim):
        if not dim.HasField("dim_value") and not dim.dim_param:
            dim.dim_param = f"{value.name}_axis{axis}"
        shape.append(dim.dim_value if dim.HasField("dim_value") else dim.dim_param)
    if kind.elem_type == onnx.TensorProto.STRING:
        return TensorSpec(name=value.name, dtype=STRING, shape=tuple(shape))
    return TensorSpec(name=value.name, dtype=onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape=tuple(shape))


def write_signature(signature: Signature, out_dir: Path) -> None:
    """`signature.json`: `{"inputs": [{"name", "dtype", "shape"}], "outputs": [...]}`, dtypes by numpy's names."""

    def plain(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
        return [{"name": s.name, "dtype": s.dtype, "shape": list(s.shape)} for s in specs]

    value = {"inputs": plain(signature.inputs), "outputs": plain(signature.outputs)}
    (out_dir / SIGNATURE).write_bytes(canonical_json(value))


def read_signature(model_dir: Path) -> Signature:
    """The signature that `write_signature` wrote. Raises PassError when it is missing or damaged."""
    try:
        value = json.loads((model_dir / SIGNATURE).read_text("utf-8"))
        return Signature(inputs=specs_of(value["inputs"]), outputs=specs_of(value["outputs"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PassError(f"{SIGNATURE}: missing or damaged ({error})") from error


def specs_of(entries: Any) -> tuple[TensorSpec, ...]:
    """Tensor specs from their JSON form. Raises KeyError, TypeError or ValueError on any other form."""
    result = []
    for entry in entries:
        shape: Shape = tuple(axis if isinstance(axis, str) else int(axis) for axis in entry["shape"])
        result.append(TensorSpec(name=str(entry["name"]), dtype=str(entry["dtype"]), shape=shape))
    return tuple(result)


def rename_axes(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give symbolic axes of inputs and outputs other names."""
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def clear(out_dir: Path) -> None:
    """Remove the files that were written there, for another attempt."""
    for written in out_dir.iterdir():
        if not written.is_dir():
            written.unlink()


def finish(model_dir: Path, out_dir: Path, notes: dict[str, Any]) -> None:
    """Copy the tokenizer and the names of classes, and write `notes.json`."""
    for name in (TOKENIZER, LABELS):
        if (model_dir / name).is_file() and not (out_dir / name).exists():
            shutil.copyfile(model_dir / name, out_dir / name)
    (out_dir / NOTES).write_bytes(canonical_json(notes))
