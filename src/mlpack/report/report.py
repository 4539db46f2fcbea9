"""The Markdown of a build's record, for the pull request.

Promises:
- It is pure and reads the record alone, so that old records and those of others can be shown.
- No text of a record becomes markup, a link, a reference or a mention (`sinks.markdown`).

Will not: write a file.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlpack.core.text import sinks
from mlpack.report import sizes, stages, summary
from mlpack.report.record import BuildRecord


def markdown(record: BuildRecord) -> str:
    """The summary for a pull request: the verdict first, then the table, the reasons, the notes and the machine."""
    parts = (_verdict, _table, _sizes, _stages, _reasons, _notes, _footer)
    sections = [part(record) for part in parts]
    return "\n\n".join(section for section in sections if section) + "\n"


def _verdict(record: BuildRecord) -> str:
    verdict = summary.verdict(record)
    if verdict.chosen is None:
        return f"**❌ {sinks.markdown(verdict.text)}**"
    return f"**✅ {sinks.markdown(verdict.name)}: {sinks.code(verdict.chosen)} chosen** ({sinks.markdown(verdict.facts)})"


def _table(record: BuildRecord) -> str:
    if not record.candidates:
        return ""
    head = tuple(name.replace("$", "\\$") for name in summary.columns(record))
    lines = [head, ("---", "---", *["---:"] * (len(head) - 2))]
    for one in record.candidates:
        name, status, *numbers = summary.row(one, record.chosen)
        chosen = one.id == record.chosen
        cell = f"**{sinks.code(name)}**" if chosen else sinks.code(name)
        lines.append((cell, f"**{status}**" if chosen else sinks.markdown(status), *map(sinks.markdown, numbers)))
    return _joined(lines)


def _sizes(record: BuildRecord) -> str:
    if record.sizing is None:
        return ""
    lines = [tuple(name.replace("$", "\\$") for name in sizes.HEADINGS), ("---:",) * sizes.NUMBERS + ("---", "---")]
    lines += [tuple(map(sinks.markdown, row)) for row in sizes.rows(record.sizing)]
    return f"{sinks.markdown(sizes.sentence(record.sizing))}\n\n{_joined(lines)}"


def _stages(record: BuildRecord) -> str:
    rows = stages.rows(record)
    if not rows:
        return ""
    head = stages.headings(record)
    lines = [tuple(map(sinks.markdown, head)), ("---", *["---:"] * (len(head) - 1))]
    lines += [(sinks.code(name), *map(sinks.markdown, cells)) for name, *cells in rows]
    return f"{stages.title(record)}\n\n{_joined(lines)}"


def _joined(rows: Iterable[Iterable[str]]) -> str:
    """A table of these cells."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _reasons(record: BuildRecord) -> str:
    blocks = []
    for one in record.candidates:
        lines = "\n".join(f"- {sinks.markdown(reason)}" for reason in one.reasons) or "- no reason was recorded"
        blocks.append(f"{sinks.code(one.id)}: {sinks.markdown(summary.status(one, record.chosen))}\n\n{lines}")
    if not blocks:
        return ""
    body = "\n\n".join(blocks)
    return f"<details>\n<summary>Why: every candidate's reasons</summary>\n\n{body}\n\n</details>"


def _notes(record: BuildRecord) -> str:
    return "\n".join(f"- {sinks.markdown(note)}" for note in summary.notes(record))


def _footer(record: BuildRecord) -> str:
    return f"<sub>{sinks.markdown(summary.footer(record))}</sub>"
