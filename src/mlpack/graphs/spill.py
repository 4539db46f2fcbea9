"""Keeps weights that a pass makes on disk until their graph is saved.

Promises:
- A large weight is a file of its own, named by its name and content, and its tensor is a reference to the file like those of
  `files.outline`. So a graph is copied and serialised without its weights. Small weights are in the tensor.
- The caller owns the folder and removes it when the graph is saved. Files of failed attempts stay until then.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mlpack.core.files import atomically
from mlpack.graphs import weights

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

HELD_BYTES = 64 << 10
"""Smaller weights stay in memory. A thousand matrices of a large transformer have a megabyte each in 8 bits."""


class Spill:
    """A folder that large tensors go to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tensor(self, values: Array, name: str) -> onnx.TensorProto:
        """These values as a stored tensor. Raises PassError when the disk has no room for them."""
        import onnx
        from onnx import numpy_helper

        if values.nbytes <= HELD_BYTES or values.dtype.hasobject:
            return numpy_helper.from_array(values, name)
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor = onnx.TensorProto(name=name, data_type=kind, dims=values.shape)
        plain = _plain(values)
        # The name belongs to it: tensors of one content are stored as often as there are, as those in memory are.
        called = hashlib.sha256(f"{name} {kind} {values.shape} ".encode())
        called.update(plain)
        path = self.folder / called.hexdigest()
        if not path.exists():
            weights.fits_on_disk(plain.nbytes, self.folder)
            with atomically.replacing(path) as fresh:
                fresh.write_bytes(plain)
        weights.point(tensor, weights.ByteRange(path.absolute(), 0, plain.nbytes))
        return tensor


def content(values: Array) -> bytes:
    """A key of these values among others of their type and shape: themselves, or for large ones their SHA-256."""
    if values.nbytes <= HELD_BYTES or values.dtype.hasobject:
        return values.tobytes()
    return hashlib.sha256(_plain(values)).digest()


def _plain(values: Array) -> memoryview:
    """Their bytes, in the order of ONNX; values in that order already are not copied."""
    import numpy as np

    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
