"""Weights outside their graph: locates them, and reads, maps or streams them one at a time.

Promises:
- Only ordinary files below the model's directory are read, and never beyond their end.
- A large weight of a graph from `files.outline` is not in memory. Its tensor is a reference, which `array` maps and `append`
  copies from file to file.

Will not: know what a graph computes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from mlpack.errors import PassError

if TYPE_CHECKING:
    import numpy as np
    import onnx

ToArray = Callable[..., "np.ndarray[Any, Any]"]

LARGE_BYTES = 1 << 20
"""Smaller weights are read with the graph: passes use them (shapes, axes, scales), and a thousand of them are a gigabyte."""

_COPY_BYTES = 64 << 20
_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Element types of less than a byte, which are stored packed."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range of a file's bytes."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """Read the whole range."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


def place(tensor: onnx.TensorProto, folder: Path) -> ByteRange:
    """The range of this tensor's bytes. Raises PassError unless it is whole in an ordinary file below `folder`."""
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location = fields.get("location", "")
    parts = PurePosixPath(location)
    if not location or parts.is_absolute() or ".." in location.replace("\\", "/").split("/") or "\0" in location:
        raise PassError(
            f"weights {tensor.name!r}: external data path {location!r} leaves the model's directory; "
            "it must be a relative path without '..'. Save the model again with its data file beside it"
        )
    path = folder / parts
    if path.is_symlink() or folder.resolve() not in path.resolve().parents:
        raise PassError(
            f"weights {tensor.name!r}: external data {location!r} is a link; copy the file itself into the model's directory"
        )
    if not path.is_file():
        raise PassError(
            f"weights {tensor.name!r}: external data file {location!r} is missing; "
            "a model saved with external data is only whole with every file beside it"
        )
    try:
        offset, size = int(fields.get("offset") or 0), path.stat().st_size
        length = int(fields.get("length") or size - offset)
    except ValueError as error:
        raise PassError(f"weights {tensor.name!r}: external data has an offset or length that is no number") from error
    if offset < 0 or length < 0 or offset + length > size:
        raise PassError(
            f"weights {tensor.name!r}: external data file {location!r} has {size:,} bytes, "
            f"{offset + length:,} are needed; it was probably cut off"
        )
    return ByteRange(path, offset, length)


def length_of(tensor: onnx.TensorProto, folder: Path) -> int:
    """The number of bytes that this tensor states to have outside, 0 where `place` will report a fault of it."""
    fields = {entry.key: entry.value for entry in tensor.external_data}
    try:
        return max(0, int(fields.get("length") or (folder / fields.get("location", "")).stat().st_size))
    except (OSError, ValueError):
        return 0


def take(tensor: onnx.TensorProto, folder: Path) -> None:
    """Read this tensor's bytes into it. Raises PassError as `place`."""
    # Not onnx's own reader: it refuses files with a second name, which is what a store on a file system with links has.
    tensor.raw_data = place(tensor, folder).read()
    tensor.data_location = tensor.DEFAULT
    del tensor.external_data[:]


def refer(tensor: onnx.TensorProto, folder: Path) -> None:
    """Leave this tensor's bytes in their file, under an absolute path. Raises PassError as `place`, and as `refer_to`."""
    byte_range = place(tensor, folder)
    refer_to(tensor, ByteRange(byte_range.path.absolute(), byte_range.offset, byte_range.length))


def refer_to(tensor: onnx.TensorProto, byte_range: ByteRange) -> None:
    """Make the tensor a reference to these bytes of its own. Raises PassError where their number is not what the shape needs, which
    the engine would find much later."""
    if byte_range.length != (needed := size_of(tensor)):
        raise PassError(
            f"weights {tensor.name!r}: their shape needs {needed:,} bytes, and {byte_range.length:,} are theirs in "
            f"{byte_range.path.name!r}; the model was saved wrongly or its files are of two models. Export it again"
        )
    point(tensor, byte_range)


def point(tensor: onnx.TensorProto, to: ByteRange) -> None:
    """Make the tensor a reference to these bytes."""
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", str(to.path)), ("offset", str(to.offset)), ("length", str(to.length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def referred(tensor: onnx.TensorProto) -> ByteRange | None:
    """The range that `refer` wrote into the tensor; None for one that holds its bytes."""
    if tensor.data_location != tensor.EXTERNAL:
        return None
    fields = {entry.key: entry.value for entry in tensor.external_data}
    return ByteRange(Path(fields["location"]), int(fields["offset"]), int(fields["length"]))


def size_of(tensor: onnx.TensorProto) -> int:
    """The bytes that a tensor of this shape and element type has, packed as ONNX packs them. PassError for a type without bytes."""
    import onnx

    try:
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
        bits = _BITS.get(name) or 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (ValueError, KeyError, TypeError):
        name, bits = str(tensor.data_type), 0
    if not bits or name in ("STRING", "UNDEFINED"):
        raise PassError(f"weights {tensor.name!r}: element type {name} has no bytes of its own; export the model again")
    return int(prod(tensor.dims) * bits + 7) // 8


def array(tensor: onnx.TensorProto, plain: ToArray | None = None) -> np.ndarray[Any, Any]:
    """The tensor's values: of a reference a read-only view of the mapped file, which takes no memory of ours. `plain`: how the
    values of others are had, by default as onnx has them."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    plain = plain or numpy_helper.to_array
    byte_range = referred(tensor)
    if byte_range is None:
        return plain(tensor)
    if onnx.TensorProto.DataType.Name(tensor.data_type) in _BITS:
        whole = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=byte_range.read())
        return plain(whole)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    mapped = np.memmap(byte_range.path, dtype=np.uint8, mode="r", offset=byte_range.offset, shape=(byte_range.length,))
    values: np.ndarray[Any, Any] = mapped.view(np.ndarray).view(dtype).reshape(tuple(tensor.dims))
    return values


@contextmanager
def readable() -> Iterator[None]:
    """A context in which onnx's own `numpy_helper.to_array` reads references too, for tools that take a graph in memory."""
    from onnx import numpy_helper

    before = numpy_helper.to_array

    def either(tensor: onnx.TensorProto, base_dir: str = "") -> np.ndarray[Any, Any]:
        return array(tensor, before) if not base_dir else before(tensor, base_dir)

    numpy_helper.to_array = either
    try:
        yield
    finally:
        numpy_helper.to_array = before


def fits_on_disk(needed: int, folder: Path) -> None:
    """Raise PassError when the file system of `folder` has no room for so many bytes: weights that name one part of a file many
    times could be written for ever."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PassError(
            f"the model's weights have {needed:,} bytes and {free:,} are free on the disk of {folder.anchor or folder}; free some, "
            "or point MLPACK_STORE at a larger disk"
        )


def append(source: ByteRange | bytes, stream: BinaryIO) -> None:
    """Append these bytes to an unbuffered file; those of another file are not read into memory."""
    if isinstance(source, bytes):
        view = memoryview(source)
        while view:
            view = view[stream.write(view) :]
        return
    remaining, offset = source.length, source.offset
    with source.path.open("rb") as file:
        while remaining:
            count = os.sendfile(stream.fileno(), file.fileno(), offset, min(remaining, _COPY_BYTES))
            if not count:
                raise PassError(f"{source.path.name}: became shorter while it was read; build again, with nobody writing to it")
            remaining, offset = remaining - count, offset + count


def outside_bytes(path: Path) -> int:
    """The size of the file beside this graph into which `files.save` puts weights; 0 when there is none."""
    try:
        return path.with_name(f"{path.name}.data").stat().st_size
    except OSError:
        return 0


def is_nameable(path: Path) -> bool:
    """Whether a reference can hold this path: text in a graph is UTF-8, and a path need not be."""
    try:
        return bool(str(path.absolute()).encode())
    except UnicodeEncodeError:
        return False


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every large weight empty: for tools that look at nodes and would take all weights into one message."""
    import onnx

    bare = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _put(bare, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _put(bare.graph, field.name, value)
    for tensor in model.graph.initializer:
        if referred(tensor) is None and tensor.ByteSize() <= LARGE_BYTES:
            bare.graph.initializer.add().CopyFrom(tensor)
        else:
            bare.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=[0] * len(tensor.dims))
    return bare


def declared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A skeleton whose large weights are inputs of their type and shape, so that there is nothing to infer from and nothing to
    hold."""
    import onnx

    bare = skeleton(model)
    pairs = zip(bare.graph.initializer, model.graph.initializer, strict=True)
    large = {entry.name: full for entry, full in pairs if entry.dims != full.dims}
    for tensor in [tensor for tensor in bare.graph.initializer if tensor.name in large]:
        bare.graph.initializer.remove(tensor)
        if tensor.name not in {value.name for value in bare.graph.input}:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, large[tensor.name].dims))
    return bare


def _put(message: Any, name: str, value: Any) -> None:
    field = getattr(message, name)
    if hasattr(field, "MergeFrom"):
        field.MergeFrom(value)
    else:
        setattr(message, name, value)
