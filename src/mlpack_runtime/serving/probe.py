"""How a graph may be asked for several calls at once: found out by asking it, before it is ready.

Promises: calls are put together only if the graph's first axes are free, and a batch of two samples gave what each gave alone:
the same shapes, and values that differ by no more than `tensor.TOLERANCE` of the largest (dynamic int8 shares scales over a batch).
Whatever does not look like that is run one call at a time, which is always right. Will not: trust the names of axes alone.
"""

from mlpack_runtime.backend import BackendError
from mlpack_runtime.limits import RequestError
from mlpack_runtime.model import PROBE_TEXTS
from mlpack_runtime.serving.batching import Layout, Unit, cut, fitted, join
from mlpack_runtime.tensor import Tensor, close, count, tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlpack_runtime.backend import Backend
    from mlpack_runtime.model import Model
    from mlpack_runtime.ort import Port


class Found:
    """`layout`, and in words `why` calls stay apart, if they do; `sample`: a call that the graph takes, None if none was found."""

    __slots__ = ("layout", "sample", "why")

    def __init__(self, layout: Layout, why: str, sample: "Mapping[str, Tensor] | None") -> None:
        self.layout = layout
        self.why = why
        self.sample = sample


def probe(model: "Model", backend: "Backend") -> Found:
    """Ask the graph. Raises BackendError only where the device is in trouble ("device", "sticky", "package")."""
    try:
        samples = _samples(model)
        alone = Layout(batched=False)
        fixed = [port.name for port in (*backend.inputs, *backend.outputs) if not port.shape or type(port.shape[0]) is int]
        if fixed:
            return Found(alone, f"{fixed[0]!r} has no free first axis", _taken(backend, alone, samples[0]))
        text = model.tokenizer
        layout = Layout(batched=True, pads=_pads(model), pad_left=text is not None and text.pad_left)
        found = _compared(backend, layout, samples)
        return Found(layout, found, samples[0]) if not found else Found(alone, found, _taken(backend, alone, samples[0]))
    except (BackendError, RequestError) as error:
        if isinstance(error, BackendError) and error.sort != "input":
            raise
        return Found(Layout(batched=False), f"an invented call was refused: {error}", None)


def _pads(model: "Model") -> "dict[str, int]":
    if model.tokenizer is None:
        return {}
    return {port.name: model.tokenizer.pads[port.name] for port in model.inputs if len(port.shape) > 1}


def _samples(model: "Model") -> "list[dict[str, Tensor]]":
    if model.tokenizer is not None:
        return [model.tokenize([text]) for text in PROBE_TEXTS]
    return [{port.name: _invented(port, number) for port in model.inputs} for number in range(2)]


def _invented(port: "Port", number: int) -> Tensor:
    """One row: 1 for every free axis, and small values, whole numbers among them 0 and 1, that no table of words lacks."""
    shape = (1, *(size if type(size) is int else 1 for size in port.shape[1:])) if port.shape else ()
    if port.datatype == "BYTES":
        return tensor([("a", "b")[(at + number) % 2] for at in range(count(shape))], port.datatype, shape)
    whole = port.datatype.startswith(("INT", "UINT", "BOOL"))
    values = [(at + number) % 2 if whole else ((at * 7 + number * 3) % 11 - 5) / 8 for at in range(count(shape))]
    return tensor([bool(value) for value in values] if port.datatype == "BOOL" else values, port.datatype, shape)


def _taken(backend: "Backend", layout: Layout, sample: "dict[str, Tensor]") -> "dict[str, Tensor] | None":
    try:
        _run(backend, layout, [Unit(layout, sample)])
    except BackendError as error:
        if error.sort != "input":
            raise
        return None
    return sample


def _run(backend: "Backend", layout: Layout, units: "list[Unit]") -> "tuple[dict[str, Tensor], int]":
    rows, length = fitted(layout, backend.shapes(), units)
    return backend.run(join(layout, units, rows, length)), length


def _compared(backend: "Backend", layout: Layout, samples: "list[dict[str, Tensor]]") -> str:
    """Fill the layout's `lengths`. Why calls cannot be put together; nothing when they can."""
    units = [Unit(layout, sample) for sample in samples]
    runs = [_run(backend, layout, [unit]) for unit in units]
    free = {port.name: port.shape for port in backend.outputs}
    for name, first in runs[0][0].items():
        second = runs[1][0][name]
        if len(first.shape) != len(second.shape) or not first.shape:
            return f"output {name!r} has no axis of its own for the batch"
        for axis in range(1, len(first.shape)):
            sizes = (first.shape[axis], second.shape[axis])
            if layout.pads and type(free[name][axis]) is not int and sizes == (runs[0][1], runs[1][1]):
                layout.lengths[name] = axis
            elif sizes[0] != sizes[1]:
                return f"output {name!r} has an axis that follows the length in a way of its own"
    singles = [cut(layout, [unit], *run)[0] for unit, run in zip(units, runs, strict=True)]
    try:
        both, length = _run(backend, layout, units)
        pairs = cut(layout, units, both, length)
    except BackendError as error:
        if error.sort == "device":
            raise
        return f"two calls at once were refused: {error}"
    if any(made.shape[0] < 2 for made in both.values()):
        return "an output lacks the batch's rows"
    for single, pair in zip(singles, pairs, strict=True):
        for name, made in single.items():
            if made.shape != pair[name].shape or not close(made, pair[name]):
                return f"output {name!r} of two calls at once is not what each gets alone"
    return ""
