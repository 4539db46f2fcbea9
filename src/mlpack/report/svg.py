"""Four small plots as SVG text: stacked bars, distributions of samples, intervals against a limit, and curves.

Promises:
- Plots are pure. A number has the same place in each row of a plot.
- Colours are classes of the page's style sheet, so that light and dark follow it. Every text is escaped.

Plots know numbers and labels, not builds, and need no script and no network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mlpack.core import stats
from mlpack.core.text import sinks, words

WIDTH = 1180.0
"""About what the page has room for, so that the words come out as large as those around them."""
_ROW, _BAR, _TOP, _AXIS = 46.0, 18.0, 26.0, 30.0
_CURVE = 190.0
"""The height of a curve."""
_EDGE = 14.0
_GUTTERS = {"bars": 90.0, "strips": 250.0, "whiskers": 210.0}
"""Room at the right for each row's numbers, which no line of a limit may cross."""
_BINS = 150
_HISTOGRAM_FROM = 40
"""Samples below which each is drawn as a dot: a histogram of nine numbers shows nothing."""

Write = Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLine:
    """A vertical line with a label."""

    value: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsBar:
    """A row of parts, drawn one after the other. `marked`: the row to look at first."""

    label: str
    parts: tuple[tuple[str, float], ...]
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A row of samples. `estimated`: a name for each of them where they were not measured; they are drawn hollow."""

    label: str
    samples: tuple[float, ...]
    marked: bool = False
    estimated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisker:
    """A row with a point and its interval."""

    label: str
    interval: stats.Interval
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Numbers to places: linear, or logarithmic where the numbers span more than a screen can show."""

    low: float
    high: float
    gutter: float
    log: bool = False

    @property
    def width(self) -> float:
        """The width of the drawing area, without edges and numbers."""
        return WIDTH - 2 * _EDGE - self.gutter

    def x(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return _EDGE + share * self.width

    def ticks(self) -> list[float]:
        """Round numbers, five to ten of them where the span allows it."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            marks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
            return [mark for mark in marks if self.low <= mark <= self.high]
        raw = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= raw)
        first = math.ceil(self.low / step)
        return [step * index for index in range(first, math.floor(self.high / step) + 1)]


def bars(title: str, rows: Sequence[PartsBar], limits: Sequence[LimitLine], write: Write) -> str:
    """Stacked horizontal bars from nought, with the sum at the end of the row."""
    totals = [sum(size for _, size in row.parts) for row in rows]
    scale = _Scale(low=0, high=max([*totals, *(limit.value for limit in limits), 1e-9]) * 1.02, gutter=_GUTTERS["bars"])
    drawn, labels = [], []
    for index, (row, total) in enumerate(zip(rows, totals, strict=True)):
        y, at = _TOP + index * _ROW + 18, 0.0
        for name, size in row.parts:
            start, right = scale.x(at), scale.x(at + size)
            drawn.append(
                f'<rect class="part part-{_text(name)}" x="{start:.1f}" y="{y:.1f}" width="{max(right - start, 0.5):.1f}" '
                f'height="{_BAR:.0f}">{_title(f"{row.label}: {name} {write(size)}")}</rect>'
            )
            at += size
        labels.append(_labels(index, row.label, write(total), marked=row.marked))
    return _svg(title, scale, limits, write, drawn, labels)


def strips(title: str, rows: Sequence[Strip], limits: Sequence[LimitLine], write: Write) -> str:
    """The distribution of each row's samples, with ticks at p50 and p95; the slowest few are drawn at the edge.

    A row of few samples has no meaningful p95: it shows its median and its range.
    """
    extremes = [value for row in rows for value in (min(row.samples), stats.percentile(row.samples, 0.995))]
    marks = [limit.value for limit in limits if limit.value > 0]
    low, high = min([*extremes, *marks]), max([*extremes, *marks])
    log = low > 0 and high > 4 * low
    scale = _Scale(low=low * 0.9, high=high * 1.08 + (high == 0), gutter=_GUTTERS["strips"], log=log)
    marks_drawn, labels = [], []
    for index, row in enumerate(rows):
        y = _TOP + index * _ROW + 18
        if row.estimated:
            marks_drawn.append(_estimates(row, y, scale, write))
            caption = " · ".join(f"{name} {write(value)}" for name, value in zip(row.estimated, row.samples, strict=True))
            labels.append(_labels(index, f"{row.label}, estimated: {caption}", "not measured", marked=row.marked))
            continue
        marks_drawn.append(_samples(row, y, scale))
        many = len(row.samples) >= _HISTOGRAM_FROM
        for share, name in ((0.5, "p50"), (0.95, "p95"))[: 1 + many]:
            value = stats.percentile(row.samples, share)
            x = scale.x(value)
            marks_drawn.append(
                f'<line class="tick {name}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 2:.1f}" y2="{y + _BAR + 2:.1f}">'
                f"{_title(f'{row.label}: {name} {write(value)}')}</line>"
            )
        spread = f"p95 {write(stats.percentile(row.samples, 0.95))}" if many else f"at most {write(max(row.samples))}"
        caption = f"p50 {write(stats.median(row.samples))} · {spread} · n={len(row.samples)}"
        labels.append(_labels(index, row.label, caption, marked=row.marked))
    return _svg(title, scale, limits, write, marks_drawn, labels)


def _estimates(row: Strip, y: float, scale: _Scale, write: Write) -> str:
    """A hollow point for each, with its name."""
    kind, middle = "estimate marked" if row.marked else "estimate", y + _BAR / 2
    return "".join(
        f'<circle class="{kind}" cx="{scale.x(value):.1f}" cy="{middle:.1f}" r="5">'
        f"{_title(f'{row.label}: {name} {write(value)}, estimated')}</circle>"
        for name, value in zip(row.estimated, row.samples, strict=True)
    )


def _samples(row: Strip, y: float, scale: _Scale) -> str:
    """A histogram as one shape, or a dot a sample."""
    kind = "dist marked" if row.marked else "dist"
    middle = y + _BAR / 2
    if len(row.samples) < _HISTOGRAM_FROM:
        return "".join(f'<circle class="{kind} dot" cx="{scale.x(v):.1f}" cy="{middle:.1f}" r="3.5"/>' for v in row.samples)
    counts: dict[int, int] = {}
    span = scale.width / _BINS
    for value in row.samples:
        slot = min(int((scale.x(value) - _EDGE) / span), _BINS - 1)
        counts[slot] = counts.get(slot, 0) + 1
    most = max(counts.values())
    steps = []
    for slot, count in sorted(counts.items()):
        start, height = _EDGE + slot * span, max(_BAR * count / most, 1.0)
        steps.append(f"M{start:.1f} {y + _BAR:.1f}v{-height:.1f}h{span:.1f}v{height:.1f}z")
    return f'<path class="{kind}" d="{"".join(steps)}"/>'


def whiskers(title: str, rows: Sequence[Whisker], limits: Sequence[LimitLine], write: Write) -> str:
    """Points with their intervals, and a line at nought."""
    marks = [limit.value for limit in limits]
    low = min([0.0, *marks, *(row.interval.low for row in rows)])
    high = max([0.0, *marks, *(row.interval.high for row in rows)])
    margin = (high - low) * 0.06 or 0.01
    scale = _Scale(low=low - margin, high=high + margin, gutter=_GUTTERS["whiskers"])
    zero, bottom = scale.x(0), _TOP + len(rows) * _ROW
    drawn = [f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="{_TOP:.0f}" y2="{bottom:.0f}"/>']
    labels = []
    for index, row in enumerate(rows):
        y, kind = _TOP + index * _ROW + 18 + _BAR / 2, "dist marked" if row.marked else "dist"
        around = row.interval
        x, far = scale.x(around.low), scale.x(around.high)
        shown = f"{write(around.value)} ({write(around.low)} to {write(around.high)})"
        drawn.append(
            f'<g>{_title(f"{row.label}: {shown}")}<line class="whisker" x1="{x:.1f}" x2="{far:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<path class="whisker" d="M{x:.1f} {y - 5:.1f}v10M{far:.1f} {y - 5:.1f}v10"/>'
            f'<circle class="{kind}" cx="{scale.x(around.value):.1f}" cy="{y:.1f}" r="5"/></g>'
        )
        labels.append(_labels(index, row.label, shown, marked=row.marked))
    return _svg(title, scale, limits, write, drawn, labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A point of a curve. `estimated`: it was not measured, and is drawn hollow."""

    x: float
    y: float
    label: str
    marked: bool = False
    estimated: bool = False


def curve(title: str, points: Sequence[CurvePoint], limits: Sequence[LimitLine], write: Write) -> str:
    """A line through points, from left to right by the logarithm of `x`, which has to be positive. Nought is at the bottom, limits
    lie across, and each point has its label below and its number above it."""
    high = max([*(point.y for point in points), *(limit.value for limit in limits), 1e-9]) * 1.15
    low_x, high_x = min(point.x for point in points), max(point.x for point in points)
    scale = _Scale(low=low_x * 0.85, high=high_x * 1.18, gutter=0.0, log=True)
    bottom = _TOP + _CURVE

    def y(value: float) -> float:
        return bottom - value / high * _CURVE

    path = " ".join(f"{'L' if index else 'M'}{scale.x(p.x):.1f} {y(p.y):.1f}" for index, p in enumerate(points))
    drawn = [f'<path class="curve" d="{path}"/>']
    for point in points:
        kind = "estimate" if point.estimated else "dist"
        x, up = scale.x(point.x), y(point.y)
        drawn.append(
            f'<circle class="{kind}{" marked" if point.marked else ""}" cx="{x:.1f}" cy="{up:.1f}" r="5">'
            f"{_title(f'{point.label}: {write(point.y)}')}</circle>"
            f'<text class="value" x="{x:.1f}" y="{up - 12:.1f}" text-anchor="middle">{_text(write(point.y))}</text>'
            f'<text class="{"label marked" if point.marked else "label"}" x="{x:.1f}" y="{bottom + 18:.0f}" text-anchor="middle">'
            f"{_text(point.label)}</text>"
        )
    lines = [
        f'<line class="limit" x1="{_EDGE:.0f}" x2="{WIDTH - _EDGE:.0f}" y1="{y(limit.value):.1f}" y2="{y(limit.value):.1f}"/>'
        f'<text class="limit" x="{WIDTH - _EDGE:.0f}" y="{y(limit.value) - 6:.1f}" text-anchor="end">{_text(limit.label)}</text>'
        for limit in limits
    ]
    floor = f'<line class="grid" x1="{_EDGE:.0f}" x2="{WIDTH - _EDGE:.0f}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>'
    return _frame(title, bottom, (floor, *drawn, *lines))


def _labels(index: int, label: str, value: str, *, marked: bool) -> str:
    """A row's name above it, its numbers in the gutter beside it."""
    y = _TOP + index * _ROW + 13
    kind = "label marked" if marked else "label"
    return (
        f'<text class="{kind}" x="{_EDGE:.0f}" y="{y:.1f}">{_text(label)}</text>'
        f'<text class="value" x="{WIDTH - _EDGE:.0f}" y="{y + 18:.1f}" text-anchor="end">{_text(value)}</text>'
    )


def _svg(title: str, scale: _Scale, limits: Sequence[LimitLine], write: Write, marks: Sequence[str], labels: Sequence[str]) -> str:
    """A plot of rows: grid at the bottom, then rows, limits and, on top, the texts; `labels` has one entry for each row."""
    bottom = _TOP + len(labels) * _ROW
    grid, last_x = [], -math.inf
    for tick in scale.ticks():
        x = scale.x(tick)
        grid.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP:.0f}" y2="{bottom:.0f}"/>')
        if x - last_x >= 62:
            anchor = "start" if x < 2 * _EDGE else "middle"
            label = "0" if tick == 0 else words.limit(write(tick))
            grid.append(f'<text x="{x:.1f}" y="{bottom + 18:.0f}" text-anchor="{anchor}">{_text(label)}</text>')
            last_x = x
    lines = []
    for limit in limits:
        x = scale.x(limit.value)
        anchor, shift = ("end", -6) if x > WIDTH / 2 else ("start", 6)
        lines.append(
            f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom:.0f}"/>'
            f'<text class="limit" x="{x + shift:.1f}" y="15" text-anchor="{anchor}">{_text(limit.label)}</text>'
        )
    return _frame(title, bottom, (*grid, *marks, *lines, *labels))


def _frame(title: str, bottom: float, content: Iterable[str]) -> str:
    """The drawing, with room for the words below `bottom`."""
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {bottom + _AXIS:.0f}" role="img" aria-label="{_text(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(content)}</svg>'
    )


_text = sinks.markup


def _title(text: str) -> str:
    return f"<title>{_text(text)}</title>"
