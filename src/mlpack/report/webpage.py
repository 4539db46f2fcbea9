"""The report for people: one HTML file with its style, its tables and its plots inside.

Promises: pure; a function of the record alone; no script, no network (its own content policy forbids both), light or dark as the
reader's system is; every text is escaped. It says nothing that `build.json` does not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlpack.core.stats import Interval
from mlpack.core.text import sinks, words
from mlpack.report import buildjson, explain, summary, svg
from mlpack.report.style import STYLE

_MADE_OF = 12
"""Rows of each table of what the model is made of; `mlpack explain --json` has them all."""
_PARTS = ("runtime", "model", "code")
"""The parts that ship; a base is there already where it runs, and no part of the budget."""


_NAMED = 12
"""Names that are said one by one; of more, how many there are of each kind."""


def html(record: Mapping[str, Any]) -> str:
    """The page."""
    verdict = summary.verdict(record)
    title = _text(f"{verdict.name}: {verdict.chosen or 'no candidate fits'}")
    body = "\n".join(
        part
        for part in (
            _header(record, verdict),
            _section("Candidates", _table(record)),
            _section("Why", _reasons(record)),
            _plots(record),
            _section("Between int8 and float", _searches(record)),
            _section("What the model is made of", _made_of(record)),
            _section("Steps", _steps(record)),
            _section("Budgets", _budgets(record)),
            _section("Notes", _notes(record)),
        )
        if part
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n"
        f"<footer>{_text(summary.footer(record))}</footer>\n</main>\n</body>\n</html>\n"
    )


_text = sinks.markup


def _section(heading: str, content: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{content}\n</section>" if content else ""


def _header(record: Mapping[str, Any], verdict: summary.Verdict) -> str:
    """The verdict, and what the chosen candidate is like in a few large numbers."""
    if verdict.chosen is None:
        return (
            f'<header class="bad"><p class="name">{_text(verdict.name)}</p><h1>No candidate fits the budgets</h1>'
            f"<p>{_text(verdict.facts)}</p></header>"
        )
    one = next(c for c in record["candidates"] if c["id"] == verdict.chosen)
    guess = buildjson.estimated(one)
    cards = (
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
    shown = "".join(
        f'<div class="card"><span>{_text(label)}</span><strong>{_text(value)}</strong><small>{_text(more)}</small></div>'
        for label, value, more in cards
    )
    return (
        f'<header class="good"><p class="name">{_text(verdict.name)}</p>'
        f'<h1><code>{_text(verdict.chosen)}</code> chosen</h1></header>\n<div class="cards">{shown}</div>'
    )


def _metric(one: Mapping[str, Any]) -> str:
    return str(one["accuracy"]["metric"] or "accuracy")


def _p50_card(one: Mapping[str, Any]) -> str:
    said, ratio = f"p50 {words.ms(one['latency_ms']['p50'])}", one["ratio_to_baseline"]["p50"]
    return said if ratio is None or one["is_baseline"] else f"{said}, {words.number(ratio, 2)} × float"


def _drop_card(one: Mapping[str, Any], sure: float) -> str:
    return "the float itself" if one["is_baseline"] else summary.lost(one, sure) or "drop not known"


def _table(record: Mapping[str, Any]) -> str:
    if not record["candidates"]:
        return ""
    head = "".join(f"<th>{_text(name).replace(' %', '&nbsp;%')}</th>" for name in summary.columns(record))
    rows = []
    for one in record["candidates"]:
        name, status, *numbers = summary.row(one, record["chosen"])
        kind = "chosen" if one["id"] == record["chosen"] else _status_class(one)
        cells = "".join(f'<td class="n">{_text(number)}</td>' for number in numbers)
        rows.append(
            f'<tr class="{kind}"><th scope="row"><code>{_text(name)}</code></th>'
            f'<td><span class="pill {kind}">{_text(status)}</span></td>{cells}</tr>'
        )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _status_class(one: Mapping[str, Any]) -> str:
    return one["status"] if one["status"] in ("ok", "over_budget", "failed", "skipped") else "unknown"


def _reasons(record: Mapping[str, Any]) -> str:
    """One fold a candidate; open where something decided against it, and for the chosen one."""
    blocks = []
    for one in record["candidates"]:
        kind = "chosen" if one["id"] == record["chosen"] else _status_class(one)
        lines = "".join(f"<li>{_text(reason)}</li>" for reason in one["reasons"]) or "<li>no reason was recorded</li>"
        first = one["reasons"][0] if one["reasons"] else ""
        blocks.append(
            f'<details{" open" if kind == "chosen" else ""}><summary><span class="pill {kind}">'
            f"{_text(summary.status(one, record['chosen']))}</span> <code>{_text(one['id'])}</code> "
            f'<span class="first">{_text(first)}</span></summary><ul>{lines}</ul></details>'
        )
    return "\n".join(blocks)


def _plots(record: Mapping[str, Any]) -> str:
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
    guessed = any(buildjson.estimated(c) for c in all_)
    hollow = " Hollow points are estimates, one a device: nothing was measured there." if guessed else ""
    legend = "".join(f'<span class="key part-{name}">{name}</span>' for name in _PARTS if any(_part(c, name) for c in packed))
    return "\n".join(
        (
            _section("Size of what ships", f'<p class="legend">{legend}</p>{sizes}' if packed else ""),
            _section("Latency", latencies and f"<p>Every call as measured; the ticks are p50 and p95.{hollow}</p>{latencies}"),
            _section("Cold start", cold and f"<p>Process start to first answer, each start a dot; the tick is p50.</p>{cold}"),
            _section("Accuracy drop", _drops(record)),
        )
    )


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
    budget = record["recipe"]["budgets"]["accuracy_drop"]
    rows = []
    for one in record["candidates"]:
        accuracy = one["accuracy"]
        numbers = (accuracy["ci_low"], accuracy["drop"], accuracy["ci_high"])
        if None not in numbers and not one["is_baseline"]:
            around = Interval(low=min(numbers), value=numbers[1], high=max(numbers))
            rows.append(svg.Whisker(label=one["id"], interval=around, marked=one["id"] == record["chosen"]))
    if not rows:
        return ""
    plot = svg.whiskers("Accuracy drop against the float", rows, _limits((budget, "budget", words.share)), words.share)
    sure = words.percent(summary.confidence(record))
    return f"<p>Against the float of the same build, with {sure} intervals; to the right is worse.</p>{plot}"


def _searches(record: Mapping[str, Any]) -> str:
    """The forms that were tried of each candidate: their drops against the budget, and a table."""
    budget = record["recipe"]["budgets"]["accuracy_drop"]
    parts = []
    for one in record["candidates"]:
        if (search := buildjson.searched(one)) is None:
            continue
        rows = []
        for number, tried in enumerate(search["tried"]):
            numbers = (tried["ci_low"], tried["drop"], tried["ci_high"])
            if None not in numbers:
                around = Interval(low=min(numbers), value=tried["drop"], high=max(numbers))
                label = f"{number + 1}. {tried['name']}"
                rows.append(svg.Whisker(label=label, interval=around, marked=number == search["taken"]))
        title = f"Accuracy drop of each form of {one['id']}"
        plot = svg.whiskers(title, rows, _limits((budget, "budget", words.share)), words.share) if rows else ""
        parts.append(
            f"<h3><code>{_text(one['id'])}</code></h3>\n<p>{_text(_search_told(search))}</p>{plot}\n{_search_table(search)}"
        )
    return "\n".join(parts)


def _search_told(search: Mapping[str, Any]) -> str:
    most, layers = search["most"], words.count(search["layers"], "quantized layer")
    return f"Every form as it was tried, at most {most} for {layers}; to the right is worse. It ended: {search['ended']}."


def _search_table(search: Mapping[str, Any]) -> str:
    damage = {row["node"]: row["damage"] for row in search["damage"]}
    head = "".join(f"<th>{name}</th>" for name in ("form", "float layers", "latency", "size", "time", "why"))
    rows = []
    for number, tried in enumerate(search["tried"]):
        ratio = words.UNKNOWN if tried["ratio"] is None else f"{words.number(tried['ratio'], 2)} × float"
        kept = ", ".join(f"{name} ({words.share(damage.get(name))})" for name in tried["kept_float"])
        numbers = (ratio, words.size(tried["size_bytes"]), words.seconds(tried["seconds"]))
        cells = f"<td>{_text(kept)}</td>" + "".join(f'<td class="n">{_text(each)}</td>' for each in numbers)
        name, chosen = f"{number + 1}. {tried['name']}", ' class="chosen"' if number == search["taken"] else ""
        rows.append(f'<tr{chosen}><td class="name">{_text(name)}</td>{cells}<td>{_text(tried["why"])}</td></tr>')
    table = f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _made_of(record: Mapping[str, Any]) -> str:
    """Of the chosen candidate (else the first that has one), where its bytes are and what it computes in."""
    known = [one for one in record["candidates"] if one.get("graph") is not None]
    one = next((one for one in known if one["id"] == record["chosen"]), known[0] if known else None)
    if one is None:
        return ""
    found = one["graph"]
    tables = []
    for heading, rows in explain.tables(found):
        body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows[:_MADE_OF])
        more = f"<p>... and {len(rows) - _MADE_OF:,} more</p>" if len(rows) > _MADE_OF else ""
        table = f'<div class="wide"><table class="plain"><tbody>{body}</tbody></table></div>'
        tables.append(f"<h3>{_text(heading)}</h3>\n{table}{more}")
    said = f"{words.size(found['size_bytes'])} of weights, {words.count(found['nodes'], 'node')}; {explain.work(found)}"
    return "\n".join((f"<p><code>{_text(one['id'])}</code>: {_text(said)}.</p>", *tables))


def _steps(record: Mapping[str, Any]) -> str:
    """What made each candidate, and how long that took when it ran: one table for all that were made alike."""
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for one in record["candidates"]:
        if one["steps"]:
            alike.setdefault(repr([(s["pass"], s["config"], s["notes"]) for s in one["steps"]]), []).append(one)
    head = "".join(f"<th>{name}</th>" for name in ("pass", "time", "config", "notes"))
    tables = []
    for same in alike.values():
        ids = ", ".join(f"<code>{_text(one['id'])}</code>" for one in same)
        rows = "".join(_step_row(step) for step in same[0]["steps"])
        table = f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        tables.append(f'<h3>{ids}</h3>\n<div class="wide">{table}</div>')
    return "\n".join(tables)


def _step_row(step: Mapping[str, Any]) -> str:
    took = f"{words.seconds(step['seconds'])}{', cached' if step['cached'] else ''}"
    return (
        f'<tr><td class="name">{_text(step["pass"])}</td><td class="n">{_text(took)}</td>'
        f"<td>{_text(_facts(step['config']))}</td><td>{_text(_facts(step['notes']))}</td></tr>"
    )


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


def _budgets(record: Mapping[str, Any]) -> str:
    writers = {"ms": words.ms, "bytes": words.size, "usd": words.usd, "drop": words.share}
    items = []
    for key, value in record["recipe"]["budgets"].items():
        write = writers.get(key.rsplit("_", 1)[-1])
        if value is not None and write is not None:
            label = re.sub(r"_(ms|bytes|usd)$", "", key).replace("_", " ")
            items.append(f"<dt>{_text(label)}</dt><dd>{_text(words.limit(write(value)))}</dd>")
    if (sure := record["recipe"]["budgets"].get("confidence")) is not None:
        items.append(f"<dt>confidence</dt><dd>{_text(words.percent(sure))}: the drop's interval has to end within its budget</dd>")
    if record["recipe"]["budgets"].get("accept_estimates"):
        items.append("<dt>estimates</dt><dd>may keep a budget where nothing was measured</dd>")
    return f"<dl>{''.join(items)}</dl>" if items else ""


def _notes(record: Mapping[str, Any]) -> str:
    lines = "".join(f"<li>{_text(note)}</li>" for note in summary.notes(record))
    return f"<ul>{lines}</ul>" if lines else ""
