"""The result of a build: the record, its directory, how the chosen package booted, and the same in words.

Promises:
- Values are frozen. Nothing here reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlpack.report import sizes, summary
from mlpack.report.record import BuildRecord
from mlpack.report.record.candidates import CandidateRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """How the chosen package booted.

    Attributes:
        how: What it ran in, in words.
        init_ms: Milliseconds from the start of its process until it is ready for an event.
        status: The answer's HTTP status; None where its device is not here, so that no request was sent.
    """

    how: str
    init_ms: float
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """One candidate of a build, in words.

    Attributes:
        candidate: Its id, such as `int8@lambda-zip-x86_64`.
        status: `chosen`, `ok`, `over budget`, `failed` or `skipped`.
        cells: A text for each column of the summary.
        reason: The first reason for its status; None where none was recorded.
    """

    candidate: str
    status: str
    cells: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A build in words, as the command line shows it.

    Attributes:
        columns: The names of the columns.
        headings: The names for display, with the confidence of the intervals, where there are any.
        rows: The candidates.
        warnings: Where the decision cannot be relied on.
        searches: A line for each candidate of which several forms were tried.
        sizes: Lines about the sizes of memory of a function; empty where none were looked at.
        chosen: The id of the chosen candidate; None when nothing fits the budgets.
        verdict: The decision in one sentence.
    """

    columns: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[SummaryRow, ...]
    warnings: tuple[str, ...]
    searches: tuple[str, ...]
    sizes: tuple[str, ...]
    chosen: str | None
    verdict: str


def summarize(record: BuildRecord) -> Summary:
    """The words for a build's record."""
    verdict = summary.verdict(record)
    return Summary(
        columns=summary.COLUMNS,
        headings=summary.columns(record),
        rows=tuple(_row(one, record.chosen) for one in record.candidates),
        warnings=tuple(summary.warnings(record)),
        searches=tuple(summary.searches(record)),
        sizes=tuple(sizes.lines(record.sizing)),
        chosen=verdict.chosen,
        verdict=verdict.text,
    )


def _row(one: CandidateRecord, chosen: str | None) -> SummaryRow:
    return SummaryRow(
        candidate=one.id,
        status=summary.status(one, chosen),
        cells=summary.row(one, chosen),
        reason=one.reasons[0] if one.reasons else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """A build that came to its end. `chosen` is None when no candidate fits the budgets: that is a result, too.

    Attributes:
        out: The output directory: build.json, the reports, and the packages that ship.
        record: The content of build.json.
        startup: How the chosen package booted; None when it was not booted: nothing was chosen, or it is for another processor.
    """

    out: Path
    record: BuildRecord
    startup: Startup | None

    @property
    def chosen(self) -> str | None:
        """The id of the chosen candidate, such as `int8@lambda-zip-x86_64`; None when nothing fits the budgets."""
        return self.record.chosen

    @property
    def artifact(self) -> Path | None:
        """The path of the chosen package: a zip file, or a directory with its files. None when nothing fits the budgets."""
        artifact = self.record.artifact
        return None if artifact is None else self.out / artifact.path

    @property
    def summary(self) -> Summary:
        """The build in words: a table, warnings, and the decision in one sentence."""
        return summarize(self.record)
