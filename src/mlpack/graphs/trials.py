"""The inputs on which a changed graph is compared with its original: the recipe's own calls first, then generated ones.

Promises:
- A recorded call that the reference refuses is an error that names it. A generated one that it refuses is left out.
- Outputs that depend on random numbers are compared by shape alone, and this is recorded.
- `check.difference` is the measure. Where nothing could be run, `Trials.feeds` is empty and nothing is proved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlpack.core.records import Signature
from mlpack.errors import PassError
from mlpack.evaluation.data import reader
from mlpack.graphs import check, files

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

Run = Callable[[check.Feed], Any]

MOST_CALLS = 4
"""The most recorded calls that are compared; the excerpt from the build holds no more."""

_DRAWN = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """Inputs, and the reference's answer to each."""

    feeds: tuple[dict[str, Any], ...]
    references: tuple[Any, ...]
    recorded: int = 0
    """How many of them, the first ones, are the recipe's own."""
    drawn: frozenset[int] = frozenset()
    """Positions of outputs that depend on random numbers."""
    refusal: str = ""
    """Why the first invented inputs were not taken, if they were not."""

    def gap(self, run: Run) -> float:
        """The largest difference of `run`'s answers to the inputs. PassError when it does not accept them, or there are none."""
        if not self.feeds:
            raise PassError("there are no inputs to compare on: the recipe's data are not known here, and no invented ones fit")
        return max(self._gap(run(feed), want) for feed, want in zip(self.feeds, self.references, strict=True))

    def _gap(self, got: check.Outputs, want: check.Outputs) -> float:
        for place in self.drawn:
            if got[place].shape != want[place].shape:
                return float("inf")
        judged = [place for place in range(len(want)) if place not in self.drawn]
        return check.difference([got[place] for place in judged], [want[place] for place in judged])

    @property
    def compared_on(self) -> dict[str, int]:
        """How many inputs are the recipe's own, and how many are generated."""
        return {"recorded": self.recorded, "invented": len(self.feeds) - self.recorded}

    def notes(self, model: onnx.ModelProto) -> dict[str, Any]:
        """The facts about the comparison that go on record."""
        drawn = [model.graph.output[place].name for place in sorted(self.drawn)]
        return {"compared_on": self.compared_on, **({"random_outputs": drawn} if drawn else {})}

    def example(self, signature: Signature) -> dict[str, Any]:
        """The most informative inputs about open axes: with lengths above 1, since exporters would treat 1 as fixed."""
        if not self.feeds:
            raise PassError(self.refusal or "there are no inputs for the model: neither of the recipe's nor invented ones")
        return max(self.feeds, key=lambda feed: _open(feed, signature))


def of(run: Run, model: onnx.ModelProto, model_dir: Path, examples: Path | None) -> Trials:
    """Trials of a graph. `run`: the reference; `examples`: a directory of recorded calls, or None."""
    signature = files.signature_of(model)
    trials = of_signature(run, signature, check.limits(model), recorded(examples, model_dir, signature))
    return replace(trials, drawn=drawn(model))


def recorded(examples: Path | None, model_dir: Path, signature: Signature) -> list[dict[str, Any]]:
    """The first of the recipe's calls, as the model takes them."""
    return [] if examples is None else list(islice(reader.read(examples, model_dir, signature), MOST_CALLS))


def of_signature(run: Run, signature: Signature, limits: Mapping[str, int], calls: Sequence[dict[str, Any]]) -> Trials:
    """The same for anything that can be run, such as a module before it is exported."""
    own = of_calls(run, signature, calls)
    invented = fitting(run, signature, limits)
    return replace(
        own,
        feeds=(*own.feeds, *invented.feeds),
        references=(*own.references, *invented.references),
        refusal=invented.refusal,
    )


def of_calls(run: Run, signature: Signature, calls: Sequence[dict[str, Any]]) -> Trials:
    """Trials of the recipe's own calls alone. PassError that names a call which the reference refuses."""
    feeds: list[dict[str, Any]] = []
    references: list[Any] = []
    for number, feed in enumerate(calls):
        try:
            references.append(run(feed))
        except PassError as error:
            raise PassError(f"the model does not take call {number} of the recipe's own data: {error}") from error
        feeds.append(feed)
    for feed in _together(calls, signature):
        _try(run, feed, feeds, references)
    return Trials(feeds=tuple(feeds), references=tuple(references), recorded=len(feeds))


def feeds_of(model_dir: Path, model: onnx.ModelProto, examples: Path | None = None) -> list[dict[str, Any]]:
    """Inputs that this directory's graph accepts, as far as this machine's engine can tell: it may lack kernels for it."""
    signature, bounds = files.signature_of(model), check.limits(model)
    calls = recorded(examples, model_dir, signature)
    try:
        opened = check.session(model_dir, "ORT_DISABLE_ALL")
        trials = of_signature(lambda feed: check.run(opened, feed), signature, bounds, calls).feeds
    except PassError:
        trials = ()
    return list(trials) or calls or check.feeds(signature, bounds)


def fitting(run: Run, signature: Signature, limits: Mapping[str, int]) -> Trials:
    """Generated inputs that a reference accepts: of the lengths at which it accepts most inputs, the longest.

    No signature states the number of a model's positions, and its config counts them in a way of its own (from an offset, or not
    at all).
    """
    best = Trials(feeds=(), references=())
    refusal = ""
    for longest in check.LENGTHS_TRIED:
        feeds: list[dict[str, Any]] = []
        references: list[Any] = []
        trials = check.feeds(signature, limits, longest=longest)
        for feed in trials:
            why = _try(run, feed, feeds, references)
            refusal = refusal or why
        if len(feeds) > len(best.feeds):
            best = Trials(feeds=tuple(feeds), references=tuple(references))
        if len(feeds) == len(trials):
            break
    return replace(best, refusal=refusal)


def made_up(model_dir: Path, turns: int = 20) -> Iterator[dict[str, Any]]:
    """Generated inputs that this directory's graph accepts, as many times over as there are `turns`, each with other numbers."""
    model = files.outline(model_dir)
    signature, bounds = files.signature_of(model), check.limits(model)
    run = partial(check.run, check.session(model_dir, "ORT_DISABLE_ALL"))
    for longest in check.LENGTHS_TRIED:
        if accepted(run, check.feeds(signature, bounds, longest=longest))[0]:
            for seed in range(turns):
                yield from accepted(run, check.feeds(signature, bounds, seed, longest))[0]
            return


def accepted(run: Run, feeds: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Any]]:
    """The inputs that a reference accepts, and its answer to each."""
    fitting_feeds: list[dict[str, Any]] = []
    references: list[Any] = []
    for feed in feeds:
        _try(run, feed, fitting_feeds, references)
    return fitting_feeds, references


def _try(run: Run, feed: dict[str, Any], feeds: list[dict[str, Any]], references: list[Any]) -> str:
    """Add the inputs and their answer, or return the reason why there is none."""
    try:
        answer = run(feed)
    except PassError as error:
        return str(error)
    feeds.append(feed)
    references.append(answer)
    return ""


def _together(calls: Sequence[dict[str, Any]], signature: Signature) -> list[dict[str, Any]]:
    """Two recorded calls of one shape joined as a batch. Open axes that come first are batches, or none is."""
    import numpy as np

    open_ = [spec.name for spec in signature.inputs if spec.shape and isinstance(spec.shape[0], str)]
    if len(calls) < 2 or not open_ or len({calls[0][name].shape[:1] for name in open_}) != 1:
        return []
    first = calls[0]
    for other in calls[1:]:
        if all(
            first[name].shape == other[name].shape and (name in open_ or np.array_equal(first[name], other[name])) for name in first
        ):
            return [{name: np.concatenate([first[name], other[name]]) if name in open_ else first[name] for name in first}]
    return []


def _open(feed: Mapping[str, Any], signature: Signature) -> int:
    lengths = [
        length for spec in signature.inputs for axis, length in zip(spec.shape, feed[spec.name].shape, strict=True)
        if isinstance(axis, str)
    ]  # fmt: skip
    return sum(length > 1 for length in lengths)


def drawn(model: onnx.ModelProto) -> frozenset[int]:
    """Positions of outputs that depend on random numbers drawn in the graph."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    names: set[str] = set()
    for node in model.graph.node:
        inside = list(_inside(node))
        if any(_draws(each, stored) for each in inside) or any(name in names for each in inside for name in each.input):
            names.update(name for name in node.output if name)
    return frozenset(place for place, value in enumerate(model.graph.output) if value.name in names)


def _inside(node: onnx.NodeProto) -> Any:
    yield node
    for graph in files.subgraphs(node):
        yield from files.nodes(graph)


def _draws(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    from onnx import numpy_helper

    if node.op_type in _DRAWN:
        return True
    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return False
    training = stored.get(node.input[2])
    return training is None or bool(numpy_helper.to_array(training).any())
