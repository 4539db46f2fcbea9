"""A text model's call that is more than the engine is asked for at a time, run in portions: for packages that have no batcher.

Promises: no portion is more than `engine_tokens`, so that memory follows the limit and not the request; texts run beside others of
their length, so that one long text does not make the short ones as long. What comes back is in the call's order; where an output
has an axis that follows the length, it is as long as the call's longest, zeros behind what a portion gave. Only where the graph,
asked for two texts alone and together, answers rows each by itself; any other call of that size is refused (413).
Will not: be imported before such a call comes, or import what a worker has for this: a function does not carry that.
"""

from mlpack_runtime.limits import RequestError, too_many_tokens
from mlpack_runtime.model import PROBE_TEXTS
from mlpack_runtime.tensor import Tensor, blocks, close, count, lengthened, sliced
from mlpack_runtime.texts import characters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlpack_runtime.model import Model
    from mlpack_runtime.texts import Text

    Feeds = Mapping[str, Tensor]


def run(model: "Model", given: "list[Text] | Feeds") -> "dict[str, Tensor]":
    """The outputs for these texts or inputs. Raises RequestError, ort.OrtError."""
    axes, most = _axes(model), model.limits.engine_tokens
    places: list[int] = []
    parts: list[dict[str, Tensor]] = []
    for indices, feeds in _by_length(model, given, most) if isinstance(given, list) else _by_rows(given, most):
        if model.tokens(feeds) > most:
            raise too_many_tokens(model.limits, f"a row alone has {model.tokens(feeds)}")
        places += indices
        parts.append(model.predict(feeds))
    return {name: _together([part[name] for part in parts], places, axes[name], left=_left(model)) for name in axes}


def look(model: "Model") -> None:
    """Ask the graph now what the first call of that size would have it asked."""
    if model.portions is None:
        model.portions = _found(model)


def _by_length(model: "Model", texts: "list[Text]", most: int) -> "Iterator[tuple[list[int], Feeds]]":
    """Which texts, and the engine's inputs for them: the shortest first, as many at a time as `most` tokens take."""
    lengths = [model.tokens(model.tokenize([text])) for text in texts]  # one at a time: memory for one
    portion: list[int] = []
    chars = 0
    for index in sorted(range(len(texts)), key=lengths.__getitem__):
        chars += characters(texts[index])
        if portion and ((len(portion) + 1) * lengths[index] > most or chars > model.limits.text_chars):
            yield portion, model.tokenize([texts[at] for at in portion])
            portion, chars = [], characters(texts[index])
        portion.append(index)
    yield portion, model.tokenize([texts[at] for at in portion])


def _by_rows(feeds: "Feeds", most: int) -> "Iterator[tuple[list[int], Feeds]]":
    shape = max((made.shape for made in feeds.values()), key=len)
    step = max(1, most // max(1, shape[1]))
    for at in range(0, shape[0], step):
        end = min(at + step, shape[0])
        yield list(range(at, end)), {name: sliced(made, at, end) for name, made in feeds.items()}


def _together(parts: "list[Tensor]", places: "list[int]", axis: int, *, left: bool) -> Tensor:
    """Rows of several outputs in their places, as long along `axis` as the longest of them; 0: no axis follows the length."""
    longest = max((part.shape[axis] for part in parts), default=0) if axis else 0
    rows: list[bytes | memoryview] = [b""] * len(places)
    done = 0
    for part in parts:
        made = lengthened(part, axis, longest, left=left) if axis else part
        for at, row in enumerate(blocks(made, made.shape[0], count(made.shape[1:]))):
            rows[places[done + at]] = row
        done += made.shape[0]
    shape = list(parts[0].shape)
    shape[0] = len(places)
    if axis:
        shape[axis] = longest
    return Tensor(parts[0].datatype, tuple(shape), b"".join(rows))


def _left(model: "Model") -> bool:
    return model.tokenizer is not None and model.tokenizer.pad_left


def _axes(model: "Model") -> "dict[str, int]":
    """Which axis of each output follows the length, 0 where none does. RequestError where rows are not answered each by itself."""
    look(model)
    if isinstance(model.portions, str):
        raise too_many_tokens(model.limits, model.portions)
    assert model.portions is not None
    return model.portions


def _found(model: "Model") -> "dict[str, int] | str":
    fixed = [port.name for port in (*model.inputs, *model.outputs) if not port.shape or type(port.shape[0]) is int]
    if fixed:
        return f"{fixed[0]!r} has no free first axis"
    try:
        short, long = [model.tokenize([text]) for text in PROBE_TEXTS]
    except RequestError:
        return "the tokenizer has no tokens for the texts that the graph is tried with"
    runs, both = [model.predict(short), model.predict(long)], model.predict(model.tokenize(list(PROBE_TEXTS)))
    axes = {}
    for name, pair in both.items():
        alone = [one[name] for one in runs]
        if pair.shape[0] != 2 or any(made.shape[0] != 1 for made in alone):
            return f"output {name!r} lacks the batch's rows"
        differing = [at for at, sizes in enumerate(zip(alone[0].shape, alone[1].shape, strict=True)) if sizes[0] != sizes[1]]
        if len(differing) > 1 or pair.shape[1:] != alone[1].shape[1:]:
            return f"output {name!r} has axes that follow the length in a way of its own"
        axes[name] = differing[0] if differing else 0
        # The longer text has no padding beside the shorter: it is the same number for number, wherever its axes are.
        own = alone[1:] if differing else alone
        if not all(close(made, sliced(pair, 2 - len(own) + at, 3 - len(own) + at)) for at, made in enumerate(own)):
            return f"output {name!r} of two texts at once is not what each gets alone"
    return axes
