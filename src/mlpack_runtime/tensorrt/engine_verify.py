"""A new engine against the CPU engine's answers, which the package carries.

    tensorrt-check.json   {"schema": 1, "tolerance": {"cosine", "difference", "equal"}, "calls": [{"inputs", "outputs"}]}
    tensorrt-check.bin    the bytes; each tensor is {"datatype", "shape", "offset", "size"}

Promises: every output of every call is compared: by the least cosine of a row, by the largest difference relative to the output's
largest value in any of the calls (`FLOOR` where that is smaller), and whole numbers by the share that is equal; infinities and NaN
have to be where the CPU engine has them, of its sign. A cosine says nothing of how large values are, and of a single one only the
sign: that is for the difference, so a row of one element has no cosine of its own, and nor has one that is as good as zero.
Will not: measure accuracy, which the build does on the CPU engine with the user's data.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import json
import math
import os

from mlpack_runtime.tensor import Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

SCHEMA = 1
INDEX, BYTES = "tensorrt-check.json", "tensorrt-check.bin"
FLOOR = 1e-2
"""An output whose values are all smaller is held to its bound as if its largest were this: what is left of sums that cancel, or of
saturated probabilities, is not known to any relative precision."""
_FLOATS = ("FP16", "FP32", "FP64")


class VerifyError(RuntimeError):
    """An engine computes something else, or the package's check calls cannot be read."""


def calls(directory: str) -> "tuple[dict[str, Any], list[tuple[dict[str, Tensor], dict[str, Tensor]]]]":
    """(tolerance, [(inputs, outputs)]) of the package. Raises VerifyError."""
    try:
        with open(os.path.join(directory, INDEX), "rb") as stream:
            index = json.loads(stream.read())
        with open(os.path.join(directory, BYTES), "rb") as stream:
            data = stream.read()
        if index["schema"] != SCHEMA or not index["calls"]:
            raise VerifyError(f"{INDEX} has schema {index['schema']!r} and {len(index['calls'])} calls: rebuild the package")
        read = [(_tensors(call["inputs"], data), _tensors(call["outputs"], data)) for call in index["calls"]]
        return dict(index["tolerance"]), read
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerifyError(f"{INDEX} and {BYTES} in {directory} cannot be read ({error}): copy the package again") from None


def _tensors(stored: "Mapping[str, Any]", data: bytes) -> "dict[str, Tensor]":
    return {
        name: Tensor(row["datatype"], tuple(row["shape"]), data[row["offset"] : row["offset"] + row["size"]])
        for name, row in stored.items()
    }


def verify(directory: str, run: "Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]") -> "dict[str, Any]":
    """{"calls", "cosine", "difference", "equal"}: the worst of all. `run`: a backend's. Raises VerifyError, and what it raises."""
    tolerance, recorded = calls(directory)
    worst = {"cosine": 1.0, "difference": 0.0, "equal": 1.0}
    sizes = _sizes([expected for _, expected in recorded])
    for number, (inputs, expected) in enumerate(recorded):
        got = run(inputs)
        for name, reference in expected.items():
            where = f"call {number}, output {name!r}"
            if name not in got:
                raise VerifyError(f"{where}: the engine does not give it")
            ours = got[name]
            if (ours.datatype, ours.shape) != (reference.datatype, reference.shape):
                raise VerifyError(f"{where}: {ours!r}, and the CPU engine gives {reference!r}")
            found = compare(ours, reference, sizes.get(name), tolerance.get("difference"))
            for kind, value in found.items():
                worst[kind] = max(worst[kind], value) if kind == "difference" else min(worst[kind], value)
            _hold(where, found, tolerance)
    return {"calls": len(recorded), **worst}


def _hold(where: str, found: "Mapping[str, float]", tolerance: "Mapping[str, Any]") -> None:
    """Raises VerifyError when something is beyond its bound."""
    for kind, value in found.items():
        bound = tolerance.get(kind)
        if bound is not None and not (value <= bound if kind == "difference" else value >= bound):
            raise VerifyError(
                f"{where}: its {kind} to the CPU engine is {value:.6g}, and {bound:g} is the bound. The engine does not compute "
                "this model in the precision asked for: keep more of the graph in float (`precision: {keep_float: [...]}`)"
            )


def _sizes(answers: "list[dict[str, Tensor]]") -> "dict[str, float]":
    """The largest value of each output in any of the calls: one call of few rows may happen to lie near zero."""
    sizes: dict[str, float] = {}
    for answer in answers:
        for name, tensor in answer.items():
            if tensor.datatype in _FLOATS:
                sizes[name] = max(sizes.get(name, 0.0), _largest(tensor.flat()))
    return sizes


def _largest(values: "list[Any]") -> float:
    return max((abs(value) for value in values if math.isfinite(value)), default=0.0)


def compare(ours: Tensor, reference: Tensor, size: "float | None" = None, bound: "float | None" = None) -> "dict[str, float]":
    """Floats: {"cosine", "difference"}; whole numbers and booleans: {"equal"}. `size`: the output's largest value, the reference's
    where it is None; `bound`: of the difference, below which a row is as good as zero."""
    a, b = ours.flat(), reference.flat()
    if reference.datatype not in _FLOATS:
        return {"equal": sum(x == y for x, y in zip(a, b, strict=True)) / len(b) if b else 1.0}
    if not b:
        return {"cosine": 1.0, "difference": 0.0}
    if not all(_alike(x, y) for x, y in zip(a, b, strict=True)):
        return {"cosine": -1.0, "difference": math.inf}
    finite = [(x, y) if math.isfinite(y) else (0.0, 0.0) for x, y in zip(a, b, strict=True)]
    scale = max(FLOOR, _largest(b) if size is None else size)
    difference = max(abs(x - y) for x, y in finite) / scale
    zero = (bound or 0.0) * scale
    return {"cosine": min(_cosine(row, zero) for row in _rows(finite, reference.shape)), "difference": difference}


def _alike(x: float, y: float) -> bool:
    """Both finite, the same infinity, or both no number."""
    return math.isfinite(x) if math.isfinite(y) else x == y or (x != x and y != y)


def _rows(pairs: "list[tuple[float, float]]", shape: "tuple[int, ...]") -> "Iterator[list[tuple[float, float]]]":
    """The pairs of each row: along the first axis where rows have two elements or more, else all of them."""
    size = len(pairs) // shape[0] if len(shape) >= 2 and len(pairs) > shape[0] else len(pairs)
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


def _cosine(row: "list[tuple[float, float]]", zero: float) -> float:
    """Of a row; 1 where both sides are no longer than `zero`, and their direction is noise."""
    ours, theirs = math.sqrt(math.fsum(x * x for x, _ in row)), math.sqrt(math.fsum(y * y for _, y in row))
    if ours <= zero and theirs <= zero:
        return 1.0
    if ours * theirs == 0.0:
        return 0.0
    return math.fsum(x * y for x, y in row) / (ours * theirs)


def words(found: "Mapping[str, Any]") -> str:
    """What `verify` found, in one line."""
    return f"{found['calls']} calls, cosine at least {found['cosine']:.6f}, difference at most {found['difference']:.2g}"
