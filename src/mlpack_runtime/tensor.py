"""A tensor: a datatype of the Open Inference Protocol, a shape and little-endian bytes in row-major order.

Strings (BYTES) are one after another, each behind its length in four bytes, as the protocol's binary form has them.
Promises: what is accepted is consistent (the bytes are as many as shape and datatype say). Knows no engine and no JSON.
"""

from struct import error as PackError
from struct import pack, unpack

from mlpack_runtime.limits import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Buffer = bytes | bytearray | memoryview

# Protocol name -> (number in ONNX's TensorProto.DataType, bytes per element, struct code, name in model.json).
DATATYPES = {
    "BOOL": (9, 1, "?", "bool"),
    "UINT8": (2, 1, "B", "uint8"),
    "UINT16": (4, 2, "H", "uint16"),
    "UINT32": (12, 4, "I", "uint32"),
    "UINT64": (13, 8, "Q", "uint64"),
    "INT8": (3, 1, "b", "int8"),
    "INT16": (5, 2, "h", "int16"),
    "INT32": (6, 4, "i", "int32"),
    "INT64": (7, 8, "q", "int64"),
    "FP16": (10, 2, "e", "float16"),
    "FP32": (1, 4, "f", "float32"),
    "FP64": (11, 8, "d", "float64"),
    "BYTES": (8, 4, "", "string"),  # an empty one: zeros are empty strings
}
_PREFIX = 4


TOLERANCE = 0.2
"""Of the largest value: dynamic int8 shares its scales over a batch."""


class TensorError(ValueError):
    """The datatype is unknown, the shape is no shape, or the bytes do not fill it."""


_MANY = 1 << 62  # more than any memory holds


def count(shape: "tuple[int, ...]") -> int:
    """How many elements a shape holds; 1 for a scalar's `()`. Above 2**62 some number that is larger: products of a stranger's
    sizes are not computed to their end, which takes time that is quadratic in their digits."""
    if 0 in shape:
        return 0
    total = 1
    for size in shape:
        total *= size
        if total > _MANY:
            return total
    return total


class Tensor:
    """`datatype` is a name in DATATYPES, `shape` a tuple of sizes, `data` anything with the buffer protocol.

    Raises TensorError when they do not belong together. `data` is kept, not copied. `starts`: of strings, where each begins, and
    the end; None of numbers.
    """

    __slots__ = ("data", "datatype", "shape", "starts")

    def __init__(self, datatype: str, shape: "tuple[int, ...]", data: "Buffer") -> None:
        known = DATATYPES.get(datatype)
        if known is None:
            raise TensorError(f"datatype {quoted(datatype)} is not one of {', '.join(DATATYPES)}")
        for size in shape:  # not by `any`: its generator takes longer than all the rest
            if type(size) is not int or size < 0:
                raise TensorError(f"shape {quoted(shape)} is not a list of sizes")
        expected, given = count(shape) * known[1], memoryview(data).nbytes
        self.starts: list[int] | None = None
        if datatype == "BYTES":
            self.starts = _starts(memoryview(data).cast("B"), shape)
        elif expected != given:
            raise TensorError(f"{datatype} of shape {quoted(shape)} is {quoted(expected)} bytes, not {given}")
        self.datatype = datatype
        self.shape = shape
        self.data = data

    def flat(self) -> "list[Any]":
        """The elements as one list of numbers, booleans or strings, row-major."""
        if self.starts is not None:
            return [str(text, "utf-8", "replace") for text in self.strings()]
        code = DATATYPES[self.datatype][2]
        if code == "e":  # memoryview knows half floats only from Python 3.12 on
            return list(unpack(f"<{count(self.shape)}e", self.data))
        return memoryview(self.data).cast("B").cast(code).tolist()  # type: ignore[call-overload, no-any-return]

    def strings(self) -> "list[memoryview]":
        """The bytes of each string."""
        data, starts = memoryview(self.data).cast("B"), self.starts or [0]
        return [data[begin + _PREFIX : end] for begin, end in zip(starts, starts[1:], strict=False)]  # noqa: RUF007  (itertools is an import)

    def tolist(self) -> "Any":
        """Nested lists in the tensor's shape; a bare number for a scalar."""
        values: Any = self.flat()
        if not self.shape:
            return values[0]
        for axis in range(len(self.shape) - 1, 0, -1):
            size, outer = self.shape[axis], count(self.shape[:axis])
            values = [values[i * size : (i + 1) * size] for i in range(outer)]
        return values

    def __repr__(self) -> str:
        return f"Tensor({self.datatype}, {list(self.shape)})"


def _starts(data: memoryview, shape: "tuple[int, ...]") -> "list[int]":
    """Where each string begins, and the end. Raises TensorError unless the bytes are as many strings as the shape holds."""
    starts, at, wanted = [0], 0, count(shape)
    while at < len(data) and len(starts) <= wanted:
        at += _PREFIX + int.from_bytes(data[at : at + _PREFIX], "little")
        starts.append(at)
    if at != len(data) or len(starts) != wanted + 1:
        raise TensorError(f"BYTES of shape {quoted(shape)} is {quoted(wanted)} strings, each behind its length in four bytes")
    return starts


def packed(strings: "Any") -> bytes:
    """Strings' bytes as a tensor of BYTES has them."""
    return b"".join([piece for text in strings for piece in (len(text).to_bytes(_PREFIX, "little"), text)])


def tensor(values: "Any", datatype: str, shape: "tuple[int, ...]") -> Tensor:
    """A tensor from flat numbers or strings in row-major order. Raises TensorError when one does not fit the datatype."""
    if datatype == "BYTES":
        if not {*map(type, values)} <= {str}:
            raise TensorError("a value does not fit BYTES: strings are needed")
        return Tensor(datatype, shape, packed([text.encode() for text in values]))
    try:  # not the `array` module: quicker, and importing that one imports `collections`
        data = pack(f"<{len(values)}{DATATYPES[datatype][2]}", *values)
    except (PackError, OverflowError) as error:
        raise TensorError(f"a value does not fit {datatype}: {error}") from None
    return Tensor(datatype, shape, data)


def sliced(made: Tensor, begin: int, end: int) -> Tensor:
    """Rows `begin` to `end` of a tensor."""
    data, shape = memoryview(made.data).cast("B"), (end - begin, *made.shape[1:])
    if made.starts is not None:
        each = count(made.shape[1:])
        return Tensor(made.datatype, shape, data[made.starts[begin * each] : made.starts[end * each]])
    size = data.nbytes // made.shape[0] if made.shape[0] else 0
    return Tensor(made.datatype, shape, data[begin * size : end * size])


def lengthened(made: Tensor, axis: int, length: int, *, left: bool) -> Tensor:
    """As long along an axis as `length`, zeros (empty strings) behind what is there; with `left`, before it."""
    missing = length - made.shape[axis]
    if not missing:
        return made
    outer, inner = count(made.shape[:axis]), count(made.shape[axis + 1 :])
    zeros = bytes(missing * inner * DATATYPES[made.datatype][1])
    rows = blocks(made, outer, made.shape[axis] * inner)
    joined = b"".join(zeros + bytes(row) if left else bytes(row) + zeros for row in rows)
    return Tensor(made.datatype, (*made.shape[:axis], length, *made.shape[axis + 1 :]), joined)


def blocks(made: Tensor, number: int, each: int, begin: int = 0, end: "int | None" = None) -> "list[memoryview]":
    """The bytes of `number` blocks of `each` elements one after another; of each block, elements `begin` to `end`."""
    data = memoryview(made.data).cast("B")
    end = each if end is None else end
    if made.starts is not None:
        return [data[made.starts[at * each + begin] : made.starts[at * each + end]] for at in range(number)]
    size = DATATYPES[made.datatype][1]
    return [data[(at * each + begin) * size : (at * each + end) * size] for at in range(number)]


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs of one shape differ by no more than `TOLERANCE` of the largest value; whole numbers and strings not at
    all."""
    a, b = one.flat(), other.flat()
    if one.datatype == "BYTES":
        return a == b
    finite = [(x, y) for x, y in zip(a, b, strict=True) if x == x and y == y and abs(x) != float("inf")]
    size = max((abs(x) for x, _ in finite), default=0)
    small = 0 if DATATYPES[one.datatype][3].startswith(("int", "uint", "bool")) else TOLERANCE * size
    return all(abs(x - y) <= small for x, y in finite)
