"""Evaluation and calibration data in its one form on disk: calls, as the serving process will receive them.

    calls.json    a list of {"samples": n, "inputs": {name: {"datatype", "shape", "offset", "size"}}}
                  or of {"samples": n, "texts": []}, each a string, or a pair as a list of two
    calls.bin     the tensors' bytes, little-endian, one after another; offsets and sizes in bytes. Strings (BYTES) each behind its
                  length in four bytes
    labels.json   one label a sample, in order (numbers, strings or lists of numbers), or null
    samples.json  the SHA-256 of each sample's content: calibration and evaluation may share none of them

Promises:
- The same data gives the same bytes.
- `calls.json` is written last: a directory that has it is whole.

Datatypes are those of the Open Inference Protocol.

Will not: read users' files. `sources` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from mlpack.core import digest
from mlpack.core.files import atomically
from mlpack.errors import RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

DATATYPES: Mapping[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
"""numpy's names (`string` for arrays of strings) and the protocol's, for the element types that a model's input may have."""

DTYPES: Mapping[str, str] = {datatype: name for name, datatype in DATATYPES.items()}
"""The inverse of `DATATYPES`."""

_SHOWN = 5


def dtype_name(array: Array) -> str:
    """A name of `DATATYPES`: arrays of objects hold strings here."""
    return "string" if array.dtype.kind in "OU" else str(array.dtype.name)


def to_bytes(array: Array) -> bytes:
    """An array as the bytes in `calls.bin`."""
    if array.dtype.kind in "OU":
        texts = [str(text).encode() for text in array.ravel().tolist()]
        return b"".join(piece for text in texts for piece in (len(text).to_bytes(4, "little"), text))
    return bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def from_bytes(data: Any, datatype: str, shape: Sequence[int]) -> Array:
    """An array from its bytes; strings as an array of objects. Raises ValueError where they do not belong together."""
    import numpy as np

    if datatype != "BYTES":
        return np.frombuffer(data, dtype=np.dtype(DTYPES[datatype]).newbyteorder("<")).reshape(shape)
    texts = strings(data)
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array.reshape(shape)


def strings(data: Any) -> list[str]:
    """The strings of a tensor of BYTES."""
    texts, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        texts.append(bytes(data[at + 4 : end]).decode("utf-8", "replace"))
        at = end
    return texts


class CallsWriter:
    """Writes calls into an existing directory: add every call, then `finish`. Without `finish` nothing of use remains."""

    def __init__(self, out_dir: Path) -> None:
        self._dir = out_dir
        self._binary: BinaryIO = (out_dir / "calls.bin.partial").open("wb")
        self._offset = 0
        self._calls: list[dict[str, Any]] = []
        self._samples: list[str] = []

    def __enter__(self) -> CallsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._binary.close()
        (self._dir / "calls.bin.partial").unlink(missing_ok=True)

    def tensors(self, inputs: Mapping[str, Array], samples: int) -> None:
        """Adds a call of arrays that already have the model's element types. Rows are samples where the first axis says
        so.
        """
        described = {}
        for name, array in inputs.items():
            data = to_bytes(array)
            described[name] = {
                "datatype": DATATYPES[dtype_name(array)],
                "shape": list(array.shape),
                "offset": self._offset,
                "size": len(data),
            }
            self._binary.write(data)
            self._offset += len(data)
        self._calls.append({"samples": samples, "inputs": described})
        self._samples += [_tensor_sample(inputs, row, samples) for row in range(samples)]

    def texts(self, texts: Sequence[str | tuple[str, str]]) -> None:
        """Adds a call of texts, or of pairs of them, to be tokenised inside the package."""
        self._calls.append({"samples": len(texts), "texts": [text if isinstance(text, str) else list(text) for text in texts]})
        self._samples += [_text_sample(text) for text in texts]

    def finish(self, labels: Sequence[Any] | None) -> None:
        """Writes the rest and gives everything its final name."""
        self._binary.close()
        atomically.put(self._dir / "calls.bin.partial", self._dir / "calls.bin")
        self._write("labels.json", None if labels is None else list(labels))
        self._write("samples.json", self._samples)
        self._write("calls.json", self._calls)

    def _write(self, name: str, value: Any) -> None:
        atomically.write(self._dir / name, digest.canonical_json(value))

    @property
    def count(self) -> int:
        """Calls added so far."""
        return len(self._calls)

    @property
    def samples(self) -> int:
        """Samples added so far."""
        return len(self._samples)


def excerpt(folder: Path, out_dir: Path, most: int, most_bytes: int) -> None:
    """Write a few of the calls in `folder` as calls into `out_dir`: the first, then those with new shapes, then others spread
    evenly; `most` at most, and within `most_bytes` except for the smallest call. Labels are not copied. It needs no numpy."""
    listed = json.loads((folder / "calls.json").read_bytes())
    chosen: list[int] = []
    remaining = most_bytes
    for number in _in_order(listed):
        size = _size(listed[number])
        if len(chosen) < most and size <= remaining:
            chosen.append(number)
            remaining -= size
    chosen = sorted(chosen) or [min(range(len(listed)), key=lambda number: (_size(listed[number]), number))]
    _copy(folder, listed, chosen, out_dir)


def sample(folder: Path, out_dir: Path, most: int, most_bytes: int, seed: str) -> list[int]:
    """Write calls drawn by `seed` into `out_dir`, in the order drawn, `most` at most, and within `most_bytes` except for the first;
    returns their numbers. Labels are not copied. It needs no numpy."""
    listed = json.loads((folder / "calls.json").read_bytes())

    def lot(number: int) -> str:
        return hashlib.sha256(f"{seed}\0{number}".encode()).hexdigest()

    drawn: list[int] = []
    remaining = most_bytes
    for number in sorted(range(len(listed)), key=lot)[:most]:
        size = _size(listed[number])
        if not drawn or size <= remaining:
            drawn.append(number)
            remaining -= size
    _copy(folder, listed, drawn, out_dir)
    return drawn


def _copy(folder: Path, listed: list[dict[str, Any]], chosen: Sequence[int], out_dir: Path) -> None:
    """Write the chosen calls."""
    records, offset = [], 0
    with (folder / "calls.bin").open("rb") as stream, (out_dir / "calls.bin").open("wb") as out:
        for call in (listed[number] for number in chosen):
            for row in call.get("inputs", {}).values():
                stream.seek(row["offset"])
                out.write(stream.read(row["size"]))
                row["offset"], offset = offset, offset + row["size"]
            records.append(call)
    (out_dir / "calls.json").write_bytes(digest.canonical_json(records))


def _in_order(listed: Sequence[Mapping[str, Any]]) -> list[int]:
    """The numbers of the calls, the most informative first."""
    names: set[str] = set()
    new = []
    for number, call in enumerate(listed):
        shape = json.dumps([row["shape"] for row in call["inputs"].values()] if "inputs" in call else len(call["texts"]))
        if shape not in names:
            names.add(shape)
            new.append(number)
    spread = [len(listed) * part // 4 for part in (1, 2, 3)]
    return list(dict.fromkeys([0, *([] if len(new) == 1 else _ends(new)), *spread, *range(len(listed))]))


def _ends(new: list[int]) -> list[int]:
    """Of many shapes the first, the last and those between."""
    return [new[0], new[-1], new[len(new) // 2], *new]


def _size(call: Mapping[str, Any]) -> int:
    if "inputs" in call:
        return sum(int(row["size"]) for row in call["inputs"].values())
    return sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in call["texts"])


def _text_sample(text: str | tuple[str, str]) -> str:
    if isinstance(text, str):
        return hashlib.sha256(b"text\0" + text.encode()).hexdigest()
    return hashlib.sha256(b"pair\0" + digest.canonical_json(list(text))).hexdigest()


def _tensor_sample(inputs: Mapping[str, Array], row: int, samples: int) -> str:
    """A sample's content: its row of every input that has a row for each sample, and the whole of every other input."""
    import numpy as np

    state = hashlib.sha256()
    for name in sorted(inputs):
        array = inputs[name]
        part = array[row] if array.ndim and array.shape[0] == samples else array
        part = np.asarray(part)  # a row of an array of one axis is a scalar, not an array
        state.update(f"{name}\0{dtype_name(part)}\0{part.shape}\0".encode())
        state.update(to_bytes(part))
    return state.hexdigest()


def check_disjoint(evaluation_dir: Path, calibration_dir: Path) -> None:
    """Raise RecipeError when the content of any calibration sample equals that of an evaluation sample."""
    evaluation = json.loads((evaluation_dir / "samples.json").read_bytes())
    calibration = json.loads((calibration_dir / "samples.json").read_bytes())
    first: dict[str, int] = {}
    for index, name in enumerate(evaluation):
        first.setdefault(name, index)
    shared = [(index, first[name]) for index, name in enumerate(calibration) if name in first]
    if shared:
        shown = ", ".join(f"{mine} (evaluation {theirs})" for mine, theirs in shared[:_SHOWN])
        raise RecipeError(
            f"{len(shared)} of {len(calibration)} calibration samples are evaluation samples too, by content; the first: {shown}."
            " Accuracy on data that was calibrated with proves nothing: take calibration from the training data"
        )
