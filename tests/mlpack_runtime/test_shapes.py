"""Shapes without values: what models with empty inputs need passes, what would cost and was not sent does not."""

from __future__ import annotations

from typing import Any

import pytest

from mlpack_runtime import protocol
from mlpack_runtime.ort import Port
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.tensor import Tensor, count

IDS = Port("input_ids", "INT64", ("batch", "sequence"))
MASK = Port("attention_mask", "INT64", ("batch", "past_sequence + 1"))
CACHE = Port("past.0.key", "FP32", ("batch", 4, "past_sequence", 32))
LOOSE = Port("past.0.key", "FP32", ("?", "?", "?", "?"))
ROWS = Port("x", "FP32", ("batch", 5))
FREE = Port("x", "FP32", ("n", "m"))
LINE = Port("x", "FP32", ("n",))
SCALAR = Port("x", "FP32", ())
NONE = Port("none", "FP32", ("batch", 0))
RAGGED = Port("values", "FP32", ("batch", "width"))


def tried(*given: tuple[Port, list[int]], binary: bool = False) -> int:
    """The status of a request with inputs of these shapes, zeros wherever there are values."""
    rows: list[dict[str, Any]] = []
    raw = b""
    for port, shape in given:
        row: dict[str, Any] = {"name": port.name, "shape": shape, "datatype": port.datatype}
        if binary:
            part = bytes(count(tuple(shape)) * (8 if port.datatype == "INT64" else 4))
            row["parameters"], raw = {"binary_data_size": len(part)}, raw + part
        else:
            row["data"] = [0] * count(tuple(shape))
        rows.append(row)
    ports = tuple(port for port, _ in given)
    try:
        protocol.decode({"inputs": rows}, memoryview(raw), ports, (), has_texts=False)
    except RequestError as error:
        return error.status
    return 200


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("status", "given"),
    [
        (200, [(LINE, [0])]),
        (200, [(ROWS, [0, 5])]),
        (200, [(FREE, [0, 0])]),
        (200, [(FREE, [1, 0])]),
        (200, [(FREE, [0, 5])]),
        (200, [(SCALAR, [])]),
        (200, [(NONE, [0, 0])]),
        (200, [(NONE, [1, 0])]),
        (200, [(ROWS, [3, 5]), (NONE, [3, 0])]),
        (200, [(IDS, [2, 1]), (CACHE, [2, 4, 0, 32])]),
        (200, [(IDS, [2, 1]), (MASK, [2, 1]), (CACHE, [2, 4, 0, 32])]),
        (200, [(IDS, [2, 7]), (LOOSE, [2, 12, 0, 64])]),
        (200, [(IDS, [3, 2]), (RAGGED, [3, 0])]),
        (400, [(FREE, [2, 0])]),
        (400, [(FREE, [200_000, 0])]),
        (400, [(FREE, [600_000, 0])]),
        (400, [(FREE, [0, 600_000])]),
        (400, [(FREE, [1, 0, 1])]),
        (400, [(NONE, [200_000, 0])]),
        (400, [(IDS, [2, 0]), (CACHE, [2, 4, 0, 32])]),
        (400, [(IDS, [200_000, 0]), (CACHE, [200_000, 4, 0, 32])]),
        (400, [(IDS, [2, 1]), (LOOSE, [3, 12, 0, 64])]),
        (400, [(IDS, [2, 1]), (LOOSE, [2, 600_000, 0, 64])]),
        (400, [(IDS, [2, 1]), (LOOSE, [2, 4096, 0, 4096])]),
        (400, [(IDS, [2, 1]), (RAGGED, [2**70, 0])]),
        (400, [(FREE, [0, 2**70])]),
    ],
)
def test_shapes_without_values(status: int, given: list[tuple[Port, list[int]]], binary: bool) -> None:
    assert tried(*given, binary=binary) == status


def test_lists_without_values_are_held_to_the_same() -> None:
    with pytest.raises(RequestError, match="holds no values"):
        protocol.tensors({"x": [[]] * 3}, (FREE,))
    assert protocol.tensors({"x": [[]]}, (FREE,))["x"].shape == (1, 0)


def test_tensors_of_a_hook_are_held_to_the_same() -> None:
    with pytest.raises(RequestError, match="holds no values"):
        protocol.tensors({"x": Tensor("FP32", (200_000, 0), b"")}, (FREE,))


def test_the_product_of_long_sizes_is_not_computed() -> None:
    assert count((10**99,) * 10_000).bit_length() < 400
    assert count((0, *[10**99] * 10_000)) == 0
    assert count((2, 3)) == 6
