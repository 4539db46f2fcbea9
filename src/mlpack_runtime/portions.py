"""A call that is more than the engine is asked for at a time, run in portions: for packages that have no batcher.

Promises: no portion is more than `engine_tokens`, so that memory follows the limit and not the request; texts run beside others of
their length, so that one long text does not make the short ones as long. What comes back is in the call's order, each text's
outputs as a worker gives them. Only where the graph, asked for two calls alone and together, answers rows each by itself (`probe`);
any other call of that size is refused (413). Will not: be imported before such a call comes.
"""

from mlpack_runtime.backend_cpu import CpuBackend
from mlpack_runtime.batching import Layout, Unit, cut, join, parts, together
from mlpack_runtime.limits import too_many_tokens
from mlpack_runtime.probe import Found, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlpack_runtime.model import Model
    from mlpack_runtime.ort import Session
    from mlpack_runtime.tensor import Tensor

    Feeds = Mapping[str, Tensor]

_FOUND: "dict[int, Found]" = {}
"""By the session's identity: a process has one model."""


def run(model: "Model", given: "list[str] | Feeds") -> "dict[str, Tensor]":
    """The outputs for these texts or inputs. Raises RequestError, ort.OrtError, BackendError where the engine is in trouble."""
    layout, most = _layout(model), model.limits.engine_tokens
    if isinstance(given, list):
        units = [Unit(layout, feeds, None, place) for place, feeds in enumerate(_tokenized(model, given))]
    else:
        pieces = parts(layout, given, max(1, most // max(1, layout.length(given))))
        units = [Unit(layout, feeds, None, place) for place, feeds in enumerate(pieces)]
    outputs: list[dict[str, Tensor]] = [{} for _ in units]
    for portion in _portions(units, most):
        longest = portion[-1].length
        if portion[0].rows * longest > most:
            raise too_many_tokens(model.limits, f"a row alone has {longest}")
        feeds = join(layout, portion, sum(unit.rows for unit in portion), longest)
        for unit, own in zip(portion, cut(layout, portion, model.session.run(feeds), longest), strict=True):
            outputs[unit.place] = own
    return together(outputs, layout)


def _layout(model: "Model") -> Layout:
    found = _FOUND.get(id(model.session))
    if found is None:
        session: Session = model.session  # type: ignore[assignment]  # a package without a batcher has no other
        found = _FOUND[id(model.session)] = probe(model, CpuBackend(session))
    if not found.layout.batched:
        raise too_many_tokens(model.limits, found.why)
    return found.layout


def _tokenized(model: "Model", texts: "list[str]") -> "Iterator[Feeds]":
    names = tuple(port.name for port in model.inputs)
    assert model.tokenizer is not None  # the service has looked
    for text in texts:
        yield from model.tokenizer.rows([text], names)


def _portions(units: "list[Unit]", most: int) -> "Iterator[list[Unit]]":
    """By length, as many at a time as `most` tokens take, one at least."""
    portion: list[Unit] = []
    rows = 0
    for unit in sorted(units, key=lambda unit: unit.length):
        if portion and (rows + unit.rows) * unit.length > most:
            yield portion
            portion, rows = [], 0
        portion.append(unit)
        rows += unit.rows
    if portion:
        yield portion
