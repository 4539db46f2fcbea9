"""Reads Fashion-MNIST where Debian's package `dataset-fashion-mnist` puts it.

The format is IDX (http://yann.lecun.com/exdb/mnist): big-endian, two zero bytes, a type code (8 is uint8), the number
of axes, one uint32 an axis, then the values. Reads gzipped and plain files; downloads nothing.
"""

import gzip
import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
UINT8 = 8


def read_split(split: str, directory: Path = DIRECTORY) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pictures `[n, 1, 28, 28]` in 0..1 and their class numbers `[n]`, of `train` (60,000) or `t10k` (10,000).

    Raises FileNotFoundError, which says what to install, and ValueError for a file that is not what its name says.
    """
    pixels = read_idx(directory / f"{split}-images-idx3-ubyte")
    labels = read_idx(directory / f"{split}-labels-idx1-ubyte")
    if pixels.shape[1:] != (28, 28) or labels.shape != pixels.shape[:1]:
        raise ValueError(f"{directory}: {split} has pictures {pixels.shape} and labels {labels.shape}, which do not match")
    return np.divide(pixels[:, None], 255, dtype=np.float32), labels.astype(np.int64)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file, which may stand there as `path` or as `path`.gz."""
    zipped = path.with_name(path.name + ".gz")
    if zipped.is_file():
        data = gzip.decompress(zipped.read_bytes())
    elif path.is_file():
        data = path.read_bytes()
    else:
        raise FileNotFoundError(f"{zipped} is missing: run `apt-get install dataset-fashion-mnist`")
    axes = data[3] if len(data) > 3 else 0
    start = 4 + 4 * axes
    if data[:3] != b"\0\0" + bytes([UINT8]) or len(data) < start:
        raise ValueError(f"{path}: not an IDX file of bytes")
    shape = struct.unpack(f">{axes}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise ValueError(f"{path}: announces shape {shape} and holds {len(data) - start} bytes")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
