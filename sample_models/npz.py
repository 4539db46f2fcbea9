"""Writes `.npz` files whose bytes depend on the arrays alone.

`numpy.savez_compressed` dates the members of its archive with the clock; here they carry the earliest date that a ZIP
file can hold. Each member is a plain `.npy`: an array that would need pickling is refused.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EARLIEST = (1980, 1, 1, 0, 0, 0)


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Writes the arrays in the order given, compressed; nothing stands at `path` until all of it does."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", EARLIEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, member.getvalue(), zipfile.ZIP_DEFLATED, 9)
    partial = path.with_suffix(".partial")
    partial.write_bytes(whole.getvalue())
    partial.replace(path)
