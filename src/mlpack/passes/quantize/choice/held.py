"""Tests whether the engine accepts a quantized graph. If not, it finds the nodes at fault, which stay float; the others stay
quantized.

Promises:
- The graph is loaded without and with the engine's optimisations, and run on inputs that the float graph accepts.
- A refusal (or answers of another shape, or not finite) costs only the nodes that bisection finds. The engine's message is the
  reason of each.

Will not: judge whether the numbers are good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.graphs import check, files, trials
from mlpack.passes.quantize.choice.choose import NodeChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import onnx

_LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL")
_FEEDS = 2
_IN_PLACE = {"session.disable_prepacking": "1"}
"""Weights stay in their mapped file: copies arranged for kernels would be the model once more in memory."""
_MOST_SINGLY = 8
"""So many nodes are found one by one; the next one takes all nodes of its operator along."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The nodes that are put in integers, and the nodes between them that carry 8 bits, except those in `barred`."""

    chosen: NodeChoice
    carried: tuple[str, ...] = ()
    barred: frozenset[str] = frozenset()

    @property
    def parts(self) -> tuple[str, ...]:
        """All nodes that may be at fault; nodes that only carry come last, so that they are blamed first."""
        return (*self.chosen.how, *self.carried)

    def only(self, parts: Sequence[str]) -> Attempt:
        """The same attempt with these parts alone."""
        there = set(parts)
        how = {name: way for name, way in self.chosen.how.items() if name in there}
        uncarried = {name for name in self.carried if name not in there}
        carried = tuple(name for name in self.carried if name in there)
        return Attempt(NodeChoice(how, self.chosen.kept), carried, self.barred | uncarried)

    def without(self, reasons: dict[str, str]) -> Attempt:
        """The same attempt with these parts in float, which goes on record."""
        carried = tuple(name for name in self.carried if name not in reasons)
        return Attempt(self.chosen.without(reasons), carried, self.barred | (set(reasons) & set(self.carried)))


class EngineCheck:
    """Tests graphs in one directory with the engine."""

    def __init__(self, model_dir: Path, model: onnx.ModelProto, calls: Path | None) -> None:
        opened = check.session(model_dir, _LEVELS[0], _IN_PLACE)
        self._model_dir = model_dir
        trial_data = trials.of(lambda feed: check.run(opened, feed), model, model_dir, calls)
        self._trials = tuple(zip(trial_data.feeds, trial_data.references, strict=True))[:_FEEDS]
        self._float: dict[str, str] = {}

    def refusal(self, out_dir: Path) -> str:
        """The reason why the engine refuses the graph in the directory; '' where it accepts it, or refuses the float one too."""
        for level in _LEVELS:
            if why := _refused(out_dir, level, self._trials):
                if level not in self._float:
                    self._float[level] = _refused(self._model_dir, level, self._trials)
                if not self._float[level]:
                    return why
        return ""


def _refused(folder: Path, level: str, answers: Sequence[tuple[Any, Any]]) -> str:
    """The reason why the engine refuses a graph, or the fault of its answers, whatever their numbers are."""
    import numpy as np

    try:
        opened = check.session(folder, level, _IN_PLACE)
        for feed, reference in answers:
            for got, want in zip(check.run(opened, feed), reference, strict=True):
                if got.shape != want.shape:
                    return f"it gives {got.shape} where float gives {want.shape}"
                if got.dtype.kind == "f" and np.isfinite(want).all() and not np.isfinite(got).all():
                    return "it gives numbers that are not finite, and float does not"
    except PassError as error:
        return str(error)
    return ""


def settled(
    request: Attempt, make: Callable[[Attempt], onnx.ModelProto], judge: EngineCheck, out_dir: Path, kinds: dict[str, str]
) -> Attempt:
    """Write the graph into `out_dir` with as much in integers as the engine accepts. Returns that attempt.

    `make`: the graph of an attempt; `kinds`: the operator of each part. Raises PassError when nothing at all is left.
    """

    def refusal(attempt: Attempt) -> str:
        files.clear(out_dir)
        files.save(make(attempt), out_dir)
        return judge.refusal(out_dir)

    count = 0
    while why := refusal(request):
        if not request.parts:
            raise PassError(f"quantize: the engine refuses the graph even with all of it in float: {why}")
        culprit, why = _culprit(request, refusal, why)
        reason = f"the engine refuses the graph with it in integers: {why.removeprefix('the engine refuses the graph: ')[:300]}"
        count += 1
        alike = [name for name in request.parts if count > _MOST_SINGLY and kinds[name] == kinds[culprit]]
        request = request.without(dict.fromkeys([culprit, *alike], reason))
    return request


def _culprit(attempt: Attempt, refusal: Callable[[Attempt], str], why: str) -> tuple[str, str]:
    """One part without which the parts before it are accepted, and the engine's message with it."""
    cleared: list[str] = []
    suspects = list(attempt.parts)
    while len(suspects) > 1:
        half = suspects[: len(suspects) // 2]
        if reason := refusal(attempt.only([*cleared, *half])):
            suspects, why = half, reason
        else:
            cleared += half
            suspects = suspects[len(half) :]
    return suspects[0], why
