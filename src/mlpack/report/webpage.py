"""The report for people: one HTML file with its style, its tables and its plots inside.

`webpage.html.jinja` is the page, `webpage.css` its style, and this module fills them.

Promises:
- The page is a function of the record alone, and says nothing that `build.json` does not.
- It has no script and no network, which its own content policy forbids. It is light or dark like the reader's system.
- Every text is escaped.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from mlpack.core.stats import Interval
from mlpack.core.text import sinks, words
from mlpack.report import explain, sizes, stages, summary, svg
from mlpack.report.record import BudgetsRecord, BuildRecord
from mlpack.report.record.candidates import AccuracyRecord, CandidateRecord, SearchRecord, TriedRecord

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_PAGE, _STYLE = "webpage.html.jinja", "webpage.css"
_MADE_OF = 12
"""Rows of each table about the model; `mlpack explain --json` has them all."""
_PARTS = ("runtime", "model", "code")
"""The parts that ship. A base is already where it runs, and does not count for the budget."""
_MAX_NAMES = 12
"""The most names in a list; of more names, the page counts each kind."""


def html(record: BuildRecord) -> str:
    """The page."""
    verdict = summary.verdict(record)
    return _template().render(
        record=record,
        style=_markup(_file(_STYLE)),
        verdict=verdict,
        cards=_cards(record, verdict),
        columns=[_heading(name) for name in summary.columns(record)],
        row=summary.row,
        kind=functools.partial(_kind, chosen=record.chosen),
        status=summary.status,
        plots=_plots(record),
        sizing=record.sizing,
        sizes=sizes,
        stages=stages,
        size_plots=[_markup(drawing) for drawing in sizes.plots(record) if drawing],
        searches=[one for one in record.candidates if one.searched is not None],
        search_plot=lambda one: _markup(_search_plot(one.id, one.search, record.recipe.budgets.accuracy_drop)),
        kept_float=_kept_float,
        tried_numbers=_tried_numbers,
        anatomy=_anatomy(record),
        most_rows=_MADE_OF,
        steps=_steps(record),
        facts=_facts,
        budgets=_budgets(record.recipe.budgets),
        confidence=record.recipe.budgets.confidence,
        accept_estimates=record.recipe.budgets.accept_estimates,
        notes=summary.notes(record),
        footer=summary.footer(record),
        count=words.count,
        percent=words.percent,
        seconds=words.seconds,
    )


# --- the template -----------------------------------------------------------------------------------------------------


@functools.cache
def _template() -> Template:
    """The page's template. A name that it does not know is an error, and so is a key that a record does not have."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(_file(_PAGE))


def _escaped(value: object) -> Markup:
    """What stands in the page for a value: the words of `sinks.markup`. The engine's own escaping alone would let control
    characters through, which HTML forbids and which turn other text round."""
    from markupsafe import Markup

    return value if isinstance(value, Markup) else Markup(sinks.markup(value))


def _markup(text: str) -> Markup:
    """Markup of our own, in which every name is escaped already."""
    from markupsafe import Markup

    return Markup(text)


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _heading(name: str) -> Markup:
    """A column's heading, in which no percentage is broken before its sign."""
    return _markup(sinks.markup(name).replace(" %", "&nbsp;%"))


def _kind(one: CandidateRecord, *, chosen: str | None) -> str:
    """The class of what belongs to a candidate: one of those that the style sheet has."""
    if one.id == chosen:
        return "chosen"
    return one.status if one.status in ("ok", "over_budget", "failed", "skipped") else "unknown"


# --- the chosen candidate ---------------------------------------------------------------------------------------------


def _cards(record: BuildRecord, verdict: summary.DecisionText) -> Sequence[tuple[str, str, str]]:
    """The chosen candidate in a few large numbers, each with its label and a note."""
    one = record.candidate(verdict.chosen)
    if one is None:
        return ()
    guess, size = one.estimated, record.size_taken
    package = ("package", words.size(one.package.size_bytes), f"{words.size(one.package.compressed_bytes)} compressed")
    accuracy = (_metric(one), words.share(one.accuracy.value), _drop_card(one, summary.confidence(record)))
    if size is not None:
        at, peak = summary.at_size(size), words.size(size.peak_memory_bytes)
        return (
            package,
            ("latency p95", words.ms(size.latency_p95_ms), f"p50 {words.ms(size.latency_p50_ms)}, {at}"),
            ("cold start", words.ms(size.cold_start_ms), at),
            accuracy,
            ("per million", words.usd(size.cost_per_million_usd), f"peak memory {peak}, {at}"),
        )
    return (
        package,
        ("latency p95", words.ms(one.latency_ms.p95), _p50_card(one))
        if guess is None
        else ("latency, estimated", words.ms(guess.latency_ms), f"{guess.device}, not measured"),
        ("cold start", words.ms(one.cold_start_ms.p50), f"load {words.ms(one.load_ms)}"),
        accuracy,
        ("per million", words.usd(one.cost_per_million_usd), f"peak memory {words.size(one.peak_memory_bytes)}")
        if guess is None
        else ("per million, estimated", words.usd(guess.cost_per_million_usd), f"{words.usd(guess.usd_per_hour)} an hour"),
    )


def _metric(one: CandidateRecord) -> str:
    return one.accuracy.metric or "accuracy"


def _p50_card(one: CandidateRecord) -> str:
    caption, ratio = f"p50 {words.ms(one.latency_ms.p50)}", one.ratio_to_baseline.p50
    return caption if ratio is None or one.is_baseline else f"{caption}, {words.number(ratio, 2)} × float"


def _drop_card(one: CandidateRecord, sure: float) -> str:
    return "the float itself" if one.is_baseline else summary.drop_phrase(one, sure) or "drop not known"


# --- plots ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A section with a drawing. `legend`: names of parts, each with its colour."""

    heading: str
    drawing: Markup
    caption: str = ""
    legend: tuple[str, ...] = ()


def _plots(record: BuildRecord) -> list[Plot]:
    """Size, latency, cold start and accuracy; a plot without a row is left out."""
    budgets, all_, chosen = record.recipe.budgets, record.candidates, record.chosen
    with_size = [c for c in all_ if c.package.size_bytes]
    sizes = svg.bars(
        "Package size by part",
        [svg.PartsBar(label=c.id, parts=_size_parts(c), marked=c.id == chosen) for c in with_size],
        _limits((budgets.package_size_bytes, "budget", words.size)),
        words.size,
    )
    latencies = _strips(
        "Latency of each call",
        [(c, c.latency_ms.samples or {e.device: e.latency_ms for e in c.estimates}) for c in all_],
        chosen,
        _limits(
            (budgets.latency_p50_ms, "p50 budget", words.ms),
            (budgets.latency_p95_ms, "p95 budget", words.ms),
            (budgets.latency_p99_ms, "p99 budget", words.ms),
        ),
    )
    cold = _strips(
        "Process start to first answer",
        [(c, c.cold_start_ms.samples) for c in all_],
        chosen,
        _limits((budgets.cold_start_ms, "budget", words.ms)),
    )
    hollow = any(c.estimated for c in all_)
    sure = words.percent(summary.confidence(record))
    plots = (
        Plot(
            heading="Size of what ships",
            legend=tuple(name for name in _PARTS if any(_part(c, name) for c in with_size)),
            drawing=_markup(sizes if with_size else ""),
        ),
        Plot(
            heading="Latency",
            caption="Every call as measured; the ticks are p50 and p95."
            + (" Hollow points are estimates, one a device: nothing was measured there." if hollow else ""),
            drawing=_markup(latencies),
        ),
        Plot(
            heading="Cold start",
            caption="Process start to first answer, each start a dot; the tick is p50.",
            drawing=_markup(cold),
        ),
        Plot(
            heading="Accuracy drop",
            caption=f"Against the float of the same build, with {sure} intervals; to the right is worse.",
            drawing=_markup(_drops(record)),
        ),
    )
    return [plot for plot in plots if plot.drawing]


def _part(one: CandidateRecord, name: str) -> int:
    parts = one.package.parts
    sizes: dict[str, int | None] = {"runtime": parts.runtime, "model": parts.model, "code": parts.code}
    return sizes[name] or 0


def _size_parts(one: CandidateRecord) -> tuple[tuple[str, float], ...]:
    parts = tuple((name, float(_part(one, name))) for name in _PARTS if _part(one, name) > 0)
    return parts or (("other", float(one.package.size_bytes or 0)),)


def _strips(
    title: str,
    rows: Iterable[tuple[CandidateRecord, Sequence[float] | Mapping[str, float]]],
    chosen: str | None,
    limits: Sequence[svg.LimitLine],
) -> str:
    """A row for each candidate that has samples; estimates come by device."""
    strips = [
        svg.Strip(label=c.id, samples=tuple(samples.values()), marked=c.id == chosen, estimated=tuple(samples))
        if isinstance(samples, Mapping)
        else svg.Strip(label=c.id, samples=tuple(samples), marked=c.id == chosen)
        for c, samples in rows
        if samples
    ]
    return svg.strips(title, strips, limits, words.ms) if strips else ""


def _limits(*budgets: tuple[float | None, str, Any]) -> list[svg.LimitLine]:
    return [
        svg.LimitLine(value=value, label=f"{label} {words.limit(write(value))}")
        for value, label, write in budgets
        if value is not None
    ]


def _interval(has_accuracy: AccuracyRecord | TriedRecord) -> Interval | None:
    """A drop with both ends of its interval; None where one of the three is not known."""
    low, drop, high = has_accuracy.ci_low, has_accuracy.drop, has_accuracy.ci_high
    if low is None or drop is None or high is None:
        return None
    return Interval(low=min(low, drop, high), value=drop, high=max(low, drop, high))


def _drops(record: BuildRecord) -> str:
    rows = []
    for one in record.candidates:
        around = _interval(one.accuracy)
        if around is not None and not one.is_baseline:
            rows.append(svg.Whisker(label=one.id, interval=around, marked=one.id == record.chosen))
    return _whiskers("Accuracy drop against the float", rows, record.recipe.budgets.accuracy_drop)


def _whiskers(title: str, rows: Sequence[svg.Whisker], budget: float | None) -> str:
    return svg.whiskers(title, rows, _limits((budget, "budget", words.share)), words.share) if rows else ""


# --- searches ---------------------------------------------------------------------------------------------------------


def _search_plot(id_: str, search: SearchRecord, budget: float | None) -> str:
    """The drops of a candidate's forms against the budget."""
    rows = []
    for number, form in enumerate(search.tried):
        if (around := _interval(form)) is not None:
            label = f"{number + 1}. {form.name}"
            rows.append(svg.Whisker(label=label, interval=around, marked=number == search.taken))
    return _whiskers(f"Accuracy drop of each form of {id_}", rows, budget)


def _kept_float(search: SearchRecord, form: TriedRecord) -> str:
    """The layers that a form keeps float, each with the damage that its int8 form does."""
    damage = {row.node: row.damage for row in search.damage}
    return ", ".join(f"{name} ({words.share(damage.get(name))})" for name in form.kept_float)


def _tried_numbers(form: TriedRecord) -> tuple[str, str, str]:
    ratio = words.UNKNOWN if form.ratio is None else f"{words.number(form.ratio, 2)} × float"
    return ratio, words.size(form.size_bytes), words.seconds(form.seconds)


# --- what the model is made of, and by what ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """One candidate's bytes and precisions: tables of rows, each with its heading."""

    id: str
    summary: str
    tables: Sequence[tuple[str, Sequence[tuple[str, ...]]]]


def _anatomy(record: BuildRecord) -> Anatomy | None:
    """The anatomy of the chosen candidate, else of the first whose graph is known."""
    graphs = [(one.id, one.graph) for one in record.candidates if one.graph is not None]
    if not graphs:
        return None
    id_, graph = next((each for each in graphs if each[0] == record.chosen), graphs[0])
    facts = f"{words.size(graph.size_bytes)} of weights, {words.count(graph.nodes, 'node')}; {explain.work(graph)}"
    return Anatomy(id=id_, summary=facts, tables=explain.tables(graph))


def _steps(record: BuildRecord) -> list[list[CandidateRecord]]:
    """The candidates that have steps, those together that were made alike."""
    alike: dict[str, list[CandidateRecord]] = {}
    for one in record.candidates:
        if one.steps:
            alike.setdefault(repr([(step.name, step.config, step.notes) for step in one.steps]), []).append(one)
    return list(alike.values())


def _facts(notes: Mapping[str, Any]) -> str:
    """`opset 18, fused (Attention 6, BiasGelu 6)`; what is not set, or of what there was none, is left out."""
    shown = []
    for key, value in notes.items():
        if value is None or (isinstance(value, (Mapping, list, str)) and not value):
            continue
        if isinstance(value, Mapping):
            many = len(value) > _MAX_NAMES and all(isinstance(each, str) for each in value.values())
            text = f"({_facts(Counter(value.values()) if many else value)})"
        elif isinstance(value, list):
            text = f"({', '.join(map(str, value))})"
        else:
            text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        shown.append(f"{key.replace('_', ' ')} {text}")
    return ", ".join(shown)


def _budgets(budgets: BudgetsRecord) -> list[tuple[str, str]]:
    """Each budget that is set: its name and its limit, in words."""
    limits: tuple[tuple[str, float | None, Callable[..., str]], ...] = (
        ("accuracy drop", budgets.accuracy_drop, words.share),
        ("latency p50", budgets.latency_p50_ms, words.ms),
        ("latency p95", budgets.latency_p95_ms, words.ms),
        ("latency p99", budgets.latency_p99_ms, words.ms),
        ("cold start", budgets.cold_start_ms, words.ms),
        ("package size", budgets.package_size_bytes, words.size),
        ("peak memory", budgets.peak_memory_bytes, words.size),
        ("cost per million", budgets.cost_per_million_usd, words.usd),
    )
    held = [(name, words.limit(write(value))) for name, value, write in limits if value is not None]
    return [*held, *((f"stage {name} p95", words.limit(words.ms(value))) for name, value in budgets.stages_ms.items())]
