"""The report for people: one HTML file with its style, its tables and its plots inside.

`webpage.html.jinja` is the page and `webpage.css` its style; this module says what stands in them.

Promises: pure; a function of the record alone; no script, no network (its own content policy forbids both), light or dark as the
reader's system is; every text is escaped. It says nothing that `build.json` does not.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from mlpack.core.stats import Interval
from mlpack.core.text import sinks, words
from mlpack.report import buildjson, explain, summary, svg

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_PAGE, _STYLE = "webpage.html.jinja", "webpage.css"
_MADE_OF = 12
"""Rows of each table of what the model is made of; `mlpack explain --json` has them all."""
_PARTS = ("runtime", "model", "code")
"""The parts that ship; a base is there already where it runs, and no part of the budget."""
_NAMED = 12
"""Names that are said one by one; of more, how many there are of each kind."""


def html(record: Mapping[str, Any]) -> str:
    """The page."""
    verdict = summary.verdict(record)
    return _template().render(
        record=record,
        style=_markup(_file(_STYLE)),
        verdict=verdict,
        cards=_cards(record, verdict),
        columns=[_heading(name) for name in summary.columns(record)],
        row=summary.row,
        kind=functools.partial(_kind, chosen=record["chosen"]),
        status=summary.status,
        plots=_plots(record),
        searches=[one for one in record["candidates"] if buildjson.searched(one) is not None],
        search_plot=lambda one: _markup(_search_plot(one, record["recipe"]["budgets"]["accuracy_drop"])),
        kept_float=_kept_float,
        tried_numbers=_tried_numbers,
        anatomy=_anatomy(record),
        most_rows=_MADE_OF,
        steps=_steps(record),
        facts=_facts,
        budgets=_budgets(record["recipe"]["budgets"]),
        confidence=record["recipe"]["budgets"].get("confidence"),
        accept_estimates=record["recipe"]["budgets"].get("accept_estimates"),
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


def _kind(one: Mapping[str, Any], *, chosen: str | None) -> str:
    """The class of what belongs to a candidate: one of those that the style sheet has."""
    if one["id"] == chosen:
        return "chosen"
    return one["status"] if one["status"] in ("ok", "over_budget", "failed", "skipped") else "unknown"


# --- the chosen candidate ---------------------------------------------------------------------------------------------


def _cards(record: Mapping[str, Any], verdict: summary.Verdict) -> Sequence[tuple[str, str, str]]:
    """What the chosen candidate is like in a few large numbers: each with its label, and what is said below it."""
    if verdict.chosen is None:
        return ()
    one = next(c for c in record["candidates"] if c["id"] == verdict.chosen)
    guess = buildjson.estimated(one)
    return (
        ("package", words.size(one["package"]["size_bytes"]), f"{words.size(one['package']['compressed_bytes'])} compressed"),
        ("latency p95", words.ms(one["latency_ms"]["p95"]), _p50_card(one))
        if guess is None
        else ("latency, estimated", words.ms(guess["latency_ms"]), f"{guess['device']}, not measured"),
        ("cold start", words.ms(one["cold_start_ms"]["p50"]), f"load {words.ms(one['load_ms'])}"),
        (_metric(one), words.share(one["accuracy"]["value"]), _drop_card(one, summary.confidence(record))),
        ("per million", words.usd(one["cost_per_million_usd"]), f"peak memory {words.size(one['peak_memory_bytes'])}")
        if guess is None
        else ("per million, estimated", words.usd(guess["cost_per_million_usd"]), f"{words.usd(guess['usd_per_hour'])} an hour"),
    )


def _metric(one: Mapping[str, Any]) -> str:
    return str(one["accuracy"]["metric"] or "accuracy")


def _p50_card(one: Mapping[str, Any]) -> str:
    said, ratio = f"p50 {words.ms(one['latency_ms']['p50'])}", one["ratio_to_baseline"]["p50"]
    return said if ratio is None or one["is_baseline"] else f"{said}, {words.number(ratio, 2)} × float"


def _drop_card(one: Mapping[str, Any], sure: float) -> str:
    return "the float itself" if one["is_baseline"] else summary.lost(one, sure) or "drop not known"


# --- plots ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A section with a drawing. `legend`: names of parts, each with its colour."""

    heading: str
    drawing: Markup
    caption: str = ""
    legend: tuple[str, ...] = ()


def _plots(record: Mapping[str, Any]) -> list[Plot]:
    """Size, latency, cold start and accuracy; a plot without a row is left out."""
    budgets, all_, chosen = record["recipe"]["budgets"], record["candidates"], record["chosen"]
    packed = [c for c in all_ if c["package"]["size_bytes"]]
    sizes = svg.bars(
        "Package size by part",
        [svg.Bar(label=c["id"], parts=_size_parts(c), marked=c["id"] == chosen) for c in packed],
        _limits((budgets["package_size_bytes"], "budget", words.size)),
        words.size,
    )
    latencies = _strips(
        "Latency of each call",
        [(c, c["latency_ms"]["samples"] or {e["device"]: e["latency_ms"] for e in buildjson.estimates(c)}) for c in all_],
        chosen,
        _limits(*((budgets[f"latency_{p}_ms"], f"{p} budget", words.ms) for p in ("p50", "p95", "p99"))),
    )
    cold = _strips(
        "Process start to first answer",
        [(c, c["cold_start_ms"]["samples"]) for c in all_],
        chosen,
        _limits((budgets["cold_start_ms"], "budget", words.ms)),
    )
    hollow = any(buildjson.estimated(c) for c in all_)
    sure = words.percent(summary.confidence(record))
    drawn = (
        Plot(
            heading="Size of what ships",
            legend=tuple(name for name in _PARTS if any(_part(c, name) for c in packed)),
            drawing=_markup(sizes if packed else ""),
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
    return [plot for plot in drawn if plot.drawing]


def _part(one: Mapping[str, Any], name: str) -> int:
    return one["package"]["parts"][name] or 0


def _size_parts(one: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    parts = tuple((name, float(_part(one, name))) for name in _PARTS if _part(one, name) > 0)
    return parts or (("other", float(one["package"]["size_bytes"])),)


def _strips(
    title: str,
    rows: Iterable[tuple[Mapping[str, Any], Sequence[float] | Mapping[str, float]]],
    chosen: str | None,
    limits: Sequence[svg.Limit],
) -> str:
    """A row for each candidate that has samples; estimates come by device."""
    shown = [
        svg.Strip(label=c["id"], samples=tuple(samples.values()), marked=c["id"] == chosen, estimated=tuple(samples))
        if isinstance(samples, Mapping)
        else svg.Strip(label=c["id"], samples=tuple(samples), marked=c["id"] == chosen)
        for c, samples in rows
        if samples
    ]
    return svg.strips(title, shown, limits, words.ms) if shown else ""


def _limits(*budgets: tuple[float | None, str, Any]) -> list[svg.Limit]:
    return [
        svg.Limit(value=value, label=f"{label} {words.limit(write(value))}") for value, label, write in budgets if value is not None
    ]


def _drops(record: Mapping[str, Any]) -> str:
    rows = []
    for one in record["candidates"]:
        accuracy = one["accuracy"]
        numbers = (accuracy["ci_low"], accuracy["drop"], accuracy["ci_high"])
        if None not in numbers and not one["is_baseline"]:
            around = Interval(low=min(numbers), value=numbers[1], high=max(numbers))
            rows.append(svg.Whisker(label=one["id"], interval=around, marked=one["id"] == record["chosen"]))
    return _whiskers("Accuracy drop against the float", rows, record["recipe"]["budgets"]["accuracy_drop"])


def _whiskers(title: str, rows: Sequence[svg.Whisker], budget: float | None) -> str:
    return svg.whiskers(title, rows, _limits((budget, "budget", words.share)), words.share) if rows else ""


# --- searches ---------------------------------------------------------------------------------------------------------


def _search_plot(one: Mapping[str, Any], budget: float | None) -> str:
    """The forms that were tried of a candidate: their drops against the budget."""
    rows = []
    for number, tried in enumerate(one["search"]["tried"]):
        numbers = (tried["ci_low"], tried["drop"], tried["ci_high"])
        if None not in numbers:
            around = Interval(low=min(numbers), value=tried["drop"], high=max(numbers))
            label = f"{number + 1}. {tried['name']}"
            rows.append(svg.Whisker(label=label, interval=around, marked=number == one["search"]["taken"]))
    return _whiskers(f"Accuracy drop of each form of {one['id']}", rows, budget)


def _kept_float(search: Mapping[str, Any], tried: Mapping[str, Any]) -> str:
    """The layers that a form keeps float, each with the damage that its int8 form does."""
    damage = {row["node"]: row["damage"] for row in search["damage"]}
    return ", ".join(f"{name} ({words.share(damage.get(name))})" for name in tried["kept_float"])


def _tried_numbers(tried: Mapping[str, Any]) -> tuple[str, str, str]:
    ratio = words.UNKNOWN if tried["ratio"] is None else f"{words.number(tried['ratio'], 2)} × float"
    return ratio, words.size(tried["size_bytes"]), words.seconds(tried["seconds"])


# --- what the model is made of, and by what ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Of one candidate, where its bytes are and what it computes in: tables of rows, each with its heading."""

    id: str
    summary: str
    tables: Sequence[tuple[str, Sequence[tuple[str, ...]]]]


def _anatomy(record: Mapping[str, Any]) -> Anatomy | None:
    """Of the chosen candidate, else of the first whose graph is known."""
    known = [one for one in record["candidates"] if one.get("graph") is not None]
    one = next((one for one in known if one["id"] == record["chosen"]), known[0] if known else None)
    if one is None:
        return None
    graph = one["graph"]
    facts = f"{words.size(graph['size_bytes'])} of weights, {words.count(graph['nodes'], 'node')}; {explain.work(graph)}"
    return Anatomy(id=one["id"], summary=facts, tables=explain.tables(graph))


def _steps(record: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """The candidates that have steps, those together that were made alike."""
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for one in record["candidates"]:
        if one["steps"]:
            alike.setdefault(repr([(s["pass"], s["config"], s["notes"]) for s in one["steps"]]), []).append(one)
    return list(alike.values())


def _facts(told: Mapping[str, Any]) -> str:
    """`opset 18, fused (Attention 6, BiasGelu 6)`; what is not set, or of what there was none, is left out."""
    shown = []
    for key, value in told.items():
        if value is None or (isinstance(value, (Mapping, list, str)) and not value):
            continue
        if isinstance(value, Mapping):
            many = len(value) > _NAMED and all(isinstance(each, str) for each in value.values())
            said = f"({_facts(Counter(value.values()) if many else value)})"
        elif isinstance(value, list):
            said = f"({', '.join(map(str, value))})"
        else:
            said = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        shown.append(f"{key.replace('_', ' ')} {said}")
    return ", ".join(shown)


def _budgets(budgets: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each budget that is set: its name and its limit, in words."""
    writers = {"ms": words.ms, "bytes": words.size, "usd": words.usd, "drop": words.share}
    items = []
    for key, value in budgets.items():
        write = writers.get(key.rsplit("_", 1)[-1])
        if value is not None and write is not None:
            items.append((re.sub(r"_(ms|bytes|usd)$", "", key).replace("_", " "), words.limit(write(value))))
    return items
