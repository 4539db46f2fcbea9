"""The ladder: which forms of a quantized candidate are tried while it is outside its budgets, and in which order. Pure.

    bottom   the recipe's form: every layer quantized that can be
    layers   the layers that do most damage go back to float: bisection over their ranking
    options  changes that cost no speed: scales by channel, clipped ranges, smoothed channels, corrected biases; what helps stays
    top      16-bit float, then float

Promises:
- `climb` asks for at most `most(layers)` evaluations, the bottom included, whatever their results are.
- The same answers lead to the same questions.
- The form that it returns was inside every budget when it was evaluated.

Will not: make or measure a candidate. The caller does.

The ranking decides what comes first. Where few layers stand out (each does `STANDS_OUT` times the damage of the next), they are
the fault, and the first guess is to keep just these in float. Where the damage is spread over all layers, options are tried
first, and layers go back to float together with the options that helped.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

STANDS_OUT = 4.0
"""Damage is a share of energy: 4 is one bit of a layer's weights or activations."""
SPARE = 5
"""Evaluations beside those of one bisection: the bottom, a guess and options."""


class NumberFormat(StrEnum):
    """The number format in which a rung computes."""

    INT8 = "int8"
    FP16 = "fp16"
    FLOAT = "float"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A form to try: how many layers, from the head of the ranking, stay float, and which options are on."""

    float_layers: int = 0
    options: tuple[str, ...] = ()
    form: NumberFormat = NumberFormat.INT8


@dataclass(frozen=True, slots=True, kw_only=True)
class RungOutcome:
    """The result of a rung. `accurate`: its accuracy keeps its budget; `lean`: so does what more float layers cost (speed, size).

    `drop`: of the metric, lower is better; None where nothing could be measured. `pace`: its latency over the float's, if it was
    timed.
    """

    accurate: bool
    lean: bool
    drop: float | None = None
    pace: float | None = None

    @property
    def fits(self) -> bool:
        """Whether the rung is inside every budget that was evaluated."""
        return self.accurate and self.lean


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The input of a climb: the damage of each quantized layer, largest first; the options that may be on, in order; which of
    16-bit float and float are rungs. `first_fit`: a bisection ends at the first rung that is inside, wherever it is."""

    damage: tuple[float, ...]
    options: tuple[str, ...] = ()
    tops: tuple[NumberFormat, ...] = ()
    first_fit: bool = False
    reach: int | None = None
    """The most layers in float that are worth a rung; None: all of them."""
    bottom_evaluations: int = 1
    """The evaluations that the bottom took: one, or two where it needed exact sums."""


def most(layers: int) -> int:
    """The largest number of evaluations for a candidate of that many quantized layers, the first one included."""
    return SPARE + max(0, math.floor(math.log2(max(1, layers))))


Climb = Generator[Rung, RungOutcome, Rung | None]
"""A generator that yields rungs, receives their outcomes, and returns the rung to ship; None where none is inside."""


def climb(ladder: Ladder, first: RungOutcome) -> Climb:
    """Climb on from `first`, the bottom's outcome. The float is never requested, since it is measured already."""
    if first.fits:
        return Rung()
    return (yield from _Climb(ladder).run(first))


def standing_out(damage: Sequence[float]) -> int:
    """The number of layers at the head of a ranking that stand out from the rest; 0 where none do. Never more than half of them."""
    best, widest = STANDS_OUT, 0
    for count in range(1, len(damage) // 2 + 1):
        above, below = damage[count - 1], damage[count]
        factor = math.inf if below <= 0 < above or math.isinf(above) > math.isinf(below) else above / below if below > 0 else 1.0
        if factor >= best and factor > (best if widest else 0):
            best, widest = factor, count
    return widest


class _Climb:
    """One climb: the evaluations that are left, and the best outcome so far."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self._layers = len(ladder.damage)
        self._left = most(self._layers) - ladder.bottom_evaluations - sum(form is not NumberFormat.FLOAT for form in ladder.tops)
        self._outcomes: dict[Rung, RungOutcome] = {}

    def run(self, first: RungOutcome) -> Climb:
        """Try the rungs in order. The first that fits ends the climb."""
        self._outcomes[Rung()] = first
        best: Rung | None = None
        guess = standing_out(self._ladder.damage)
        if first.accurate or guess:
            # Too slow or too large: only fewer conversions help, which is fewer quantized layers.
            best = yield from self._layers_back(Rung(), guess)
            if not first.accurate and not self._fits(best):
                # It is inside with so many float layers that nothing is gained: with options, fewer may do.
                best = yield from self._options_on(Rung(float_layers=best.float_layers // 2 if best else 0))
        else:
            best = yield from self._options_on(Rung(), reserve=math.ceil(math.log2(max(1, self._layers))))
            if not self._fits(best):
                best = yield from self._layers_back(replace(best or Rung(), float_layers=0), 0)
        return best if self._fits(best) else (yield from self._tops())

    def _fits(self, rung: Rung | None) -> bool:
        return rung is not None and rung in self._outcomes and self._outcomes[rung].fits

    def _layers_back(self, bottom: Rung, guess: int) -> Climb:
        """The fewest float layers that are inside the budgets, by bisection: up to `low` are too few, from `high` on are enough.
        (All layers are float there, which needs no evaluation.) The guess is tried first, its neighbour next, so a good guess
        costs two evaluations."""
        low, high = 0, self._layers if self._ladder.reach is None else min(self._layers, self._ladder.reach + 1)
        best: Rung | None = None
        queue = [guess, guess - 1] if guess else []
        while high - low > 1:
            count = queue.pop(0) if queue else 0
            if not low < count < high:
                if queue:
                    continue
                count = (low + high) // 2
            rung = replace(bottom, float_layers=count)
            outcome = yield from self._ask(rung)
            if outcome is None:
                break
            if outcome.fits or (outcome.accurate and not self._speed_helps(bottom)):
                high = count
                best = rung if outcome.fits or not self._fits(best) else best
                if (outcome.fits and self._ladder.first_fit) or self._hopeless(low, count, outcome):
                    break
            else:
                low = count
                queue = []
        return best

    def _hopeless(self, low: int, count: int, outcome: RungOutcome) -> bool:
        """Whether every form that is quick enough loses too much. An accurate form is slower than the float. On a line from the
        first form to it, the float's latency is reached at `low` float layers or fewer, which lose too much."""
        first = self._outcomes[Rung()]  # options cost no speed
        if outcome.lean or outcome.pace is None or first.pace is None or outcome.pace <= 1:
            return False
        return first.pace >= 1 or count * (1 - first.pace) / (outcome.pace - first.pace) <= low

    def _speed_helps(self, bottom: Rung) -> bool:
        """Whether the bottom was accurate: more float layers then have to improve speed or size."""
        outcome = self._outcomes.get(bottom)
        return outcome is not None and outcome.accurate

    def _options_on(self, bottom: Rung, reserve: int = 0) -> Climb:
        """Try one option after the other; each that lessens the drop stays on. `reserve`: evaluations left for a bisection."""
        best, least = bottom, self._drop(bottom)
        for option in self._ladder.options:
            if self._left <= reserve:
                break
            rung = replace(best, options=(*best.options, option))
            outcome = yield from self._ask(rung)
            if outcome is None:
                break
            if outcome.fits:
                return rung
            if self._drop(rung) < least:
                best, least = rung, self._drop(rung)
        return best

    def _drop(self, rung: Rung) -> float:
        outcome = self._outcomes.get(rung)
        return math.inf if outcome is None or outcome.drop is None or math.isnan(outcome.drop) else outcome.drop

    def _tops(self) -> Climb:
        for form in self._ladder.tops:
            rung = Rung(form=form)
            if form is NumberFormat.FLOAT:
                return rung
            outcome = yield from self._ask(rung, reserved=True)
            if outcome is not None and outcome.fits:
                return rung
        return None

    def _ask(self, rung: Rung, *, reserved: bool = False) -> Generator[Rung, RungOutcome, RungOutcome | None]:
        """The rung's outcome; None where no evaluation is left. A rung that was evaluated before costs nothing."""
        if rung in self._outcomes:
            return self._outcomes[rung]
        if not reserved:
            if self._left < 1:
                return None
            self._left -= 1
        self._outcomes[rung] = yield rung
        return self._outcomes[rung]
