from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.tensor import DATATYPES, Tensor, TensorError, close, lengthened, sliced, tensor

NUMBERS = [name for name in DATATYPES if name != "BYTES"]


@pytest.mark.parametrize("datatype", NUMBERS)
def test_tensor_values_come_back_for_every_datatype(datatype: str) -> None:
    values = [False, True, True, False, True, False] if datatype == "BOOL" else [0, 1, 2, 3, 4, 5]
    made = tensor(values, datatype, (2, 3))
    assert made.flat() == values
    assert made.tolist() == [values[:3], values[3:]]
    assert bytes(Tensor(datatype, (2, 3), bytes(made.data)).data) == bytes(made.data)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_tensor_bytes_equal_numpy_for_every_datatype(datatype: str) -> None:
    import numpy as np

    values = [True, False, True] if datatype == "BOOL" else [1, 0, 100]
    assert bytes(tensor(values, datatype, (3,)).data) == np.array(values, DATATYPES[datatype][3]).tobytes()


def test_tolist_scalar_and_empty_have_their_shape() -> None:
    assert tensor([7], "INT64", ()).tolist() == 7
    assert tensor([], "FP32", (2, 0)).tolist() == [[], []]
    assert tensor([], "FP32", (0, 2)).tolist() == []
    assert tensor([1, 2], "FP32", (1, 2, 1)).tolist() == [[[1.0], [2.0]]]


@pytest.mark.parametrize(
    ("datatype", "shape", "size", "message"),
    [
        ("FP31", (1,), 4, "not one of"),
        ("FP32", (2,), 4, "8 bytes, not 4"),
        ("FP32", (-1, -1), 4, "list of sizes"),
        ("FP32", (True,), 4, "list of sizes"),
        ("INT64", (), 4, "8 bytes"),
        ("BYTES", (2,), 4, "is 2 strings"),
        ("BYTES", (1,), 8, "is 1 strings"),
        ("BYTES", (1,), 3, "is 1 strings"),
        ("BYTES", (0,), 4, "is 0 strings"),
    ],
)
def test_tensor_inconsistent_is_refused(datatype: str, shape: tuple[int, ...], size: int, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        Tensor(datatype, shape, bytes(size))


@pytest.mark.parametrize(
    ("values", "datatype"), [([300], "UINT8"), (["a"], "FP32"), ([7], "BYTES"), ([1.5], "INT64"), ([1e9], "FP16"), ([None], "FP64")]
)
def test_tensor_value_that_does_not_fit_is_refused(values: list[object], datatype: str) -> None:
    with pytest.raises(TensorError):
        tensor(values, datatype, (1,))


@given(st.lists(st.integers(0, 4), min_size=0, max_size=4))
def test_tolist_equals_numpy_for_any_shape(shape: list[int]) -> None:
    import numpy as np

    array = np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)
    assert Tensor("INT32", tuple(shape), array.tobytes()).tolist() == array.tolist()


TEXTS = ["", "a", "Łódź", "naïve 🙂", "x" * 300, ""]


def test_strings_come_back_and_are_cut_by_rows() -> None:
    made = tensor(TEXTS, "BYTES", (3, 2))
    assert made.flat() == TEXTS
    assert made.tolist() == [TEXTS[:2], TEXTS[2:4], TEXTS[4:]]
    assert bytes(made.data)[:9] == b"\0\0\0\0\1\0\0\0a"
    for begin in range(4):
        for end in range(begin, 4):
            part = sliced(made, begin, end)
            assert part.shape == (end - begin, 2)
            assert part.flat() == TEXTS[2 * begin : 2 * end]
    assert sliced(sliced(made, 1, 3), 1, 2).flat() == TEXTS[4:]


def test_string_said_to_be_longer_than_all_bytes_is_refused() -> None:
    with pytest.raises(TensorError, match="is 1 strings"):
        Tensor("BYTES", (1,), b"\xff\xff\xff\xffabc")


def test_strings_are_padded_by_empty_ones_and_compared_exactly() -> None:
    made = tensor(["a", "b"], "BYTES", (2, 1))
    assert lengthened(made, 1, 2, left=False).flat() == ["a", "", "b", ""]
    assert lengthened(made, 1, 3, left=True).flat() == ["", "", "a", "", "", "b"]
    assert close(made, tensor(["a", "b"], "BYTES", (2, 1)))
    assert not close(made, tensor(["a", "B"], "BYTES", (2, 1)))
