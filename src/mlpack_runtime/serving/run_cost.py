"""What a run of the engine costs beside its tokens, learned from the runs themselves.

Promises: pure; a few sums, whatever the number of runs; old runs fade, so that it follows a machine that others use too; nothing is
said before it is known. Will not: read a clock, or hold a run that took much longer than others like it for more than a slow one.

A run of n padded tokens takes about `a + b * n` seconds: `a` for what every run does (weights are read, kernels are started), `b`
for each token. A call joins a batch where the padding that it brings takes less time than a run of its own would: at most
`a / b` tokens of padding. That is 3 to 10 for a small model on two cores, where tokens are most of it; hundreds on a GPU.
"""

FADING = 0.995
"""The weight of a run after each one that follows: half after 138."""
LEAST_RUNS = 24
MOST_TOKENS = 1 << 20
_SLOWER = 3.0  # than expected: who knows what the machine did meanwhile


class RunCost:
    """Sums over runs. `of_a_run`: what a run costs beside its tokens, in tokens; None while it is not known."""

    __slots__ = ("_runs", "_sums", "of_a_run")

    def __init__(self) -> None:
        self._runs = 0
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)  # of the weights, tokens, seconds, tokens squared, tokens times seconds
        self.of_a_run: float | None = None

    def add(self, tokens: int, seconds: float) -> None:
        """One more run, of that many padded tokens."""
        expected = self._expected(tokens)
        if expected is not None:
            seconds = min(seconds, _SLOWER * expected)
        weight, xs, ys, xx, xy = (FADING * each for each in self._sums)
        self._sums = (weight + 1, xs + tokens, ys + seconds, xx + tokens * tokens, xy + tokens * seconds)
        self._runs += 1
        if self._runs >= LEAST_RUNS:
            fitted = self._line()
            self.of_a_run = None if fitted is None else min(MOST_TOKENS, max(0.0, fitted[0]) / fitted[1])

    def _expected(self, tokens: int) -> "float | None":
        line = self._line() if self._runs >= LEAST_RUNS else None
        return None if line is None else max(0.0, line[0]) + line[1] * tokens

    def _line(self) -> "tuple[float, float] | None":
        """(a, b) in seconds by least squares; None where runs are too much alike, or take no longer with more tokens."""
        weight, xs, ys, xx, xy = self._sums
        spread = weight * xx - xs * xs
        if spread <= 0.01 * xs * xs:
            return None
        b = (weight * xy - xs * ys) / spread
        return ((ys - b * xs) / weight, b) if b > 0 else None
