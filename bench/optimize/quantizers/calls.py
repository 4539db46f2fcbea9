"""Recorded calls as one .npz, for environments that know nothing of mlpack: a member a tensor, "00003 name"."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Calls = list[dict[str, np.ndarray[Any, Any]]]


def write(path: Path, calls: Sequence[dict[str, np.ndarray[Any, Any]]]) -> None:
    """The calls in their order, inputs by their own names, whatever characters those hold."""
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for number, call in enumerate(calls):
            for name, array in call.items():
                with archive.open(f"{number:05d} {name.encode().hex()}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read(path: str | Path) -> Calls:
    """What `write` wrote."""
    found: dict[int, dict[str, np.ndarray[Any, Any]]] = {}
    with np.load(path) as kept:
        for key in kept.files:
            number, _, name = key.partition(" ")
            found.setdefault(int(number), {})[bytes.fromhex(name).decode()] = kept[key]
    return [found[number] for number in sorted(found)]


def arguments() -> tuple[str, Path, Calls, Path]:
    """What every peer's script is given: a preset, the float model, the calibration calls, and where model.onnx goes."""
    preset, model, calibration, out = sys.argv[1:]
    return preset, Path(model), read(calibration), Path(out) / "model.onnx"


class Reader:
    """Calibration calls one by one, as onnxruntime's quantizers and those of its kind ask for them."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.left = iter(calls)

    def get_next(self) -> Any:
        """The next call; None after the last."""
        return next(self.left, None)

    def rewind(self) -> None:
        """From the first again."""
        self.left = iter(self.calls)

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> Any:
        found = self.get_next()
        if found is None:
            raise StopIteration
        return found

    def __len__(self) -> int:
        return len(self.calls)
