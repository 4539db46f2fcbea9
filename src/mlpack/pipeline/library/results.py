"""Results of the library's functions that have no type of their own in the rooms below.

Promises:
- Values are frozen. `to_json` is what the command prints with `--json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mlpack.core.environment import AnyPath
from mlpack.core.text import words

if TYPE_CHECKING:
    from mlpack.pipeline.outlook import PlannedCandidate
    from mlpack.report.diff import MeasureChange
    from mlpack.store.care import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanResult:
    """The forecast of a build.

    Attributes:
        candidates: Each candidate with its steps: which are cached, and why the others must run.
    """

    candidates: tuple[PlannedCandidate, ...]

    @property
    def calibration(self) -> tuple[str, ...]:
        """The calibration data, in words, where the recipe names none."""
        return tuple(dict.fromkeys(each.calibration for each in self.candidates if each.calibration is not None))

    @property
    def plugins(self) -> tuple[str, ...]:
        """Its passes and targets that come from plug-ins, in words."""
        return tuple(dict.fromkeys(text for each in self.candidates for text in each.plugins))

    @property
    def requirements(self) -> tuple[str, ...]:
        """What the hooks need, and its pins, in words, by target."""
        return tuple(dict.fromkeys(each.requirements for each in self.candidates if each.requirements is not None))

    @property
    def stages_ms(self) -> Mapping[str, float]:
        """The budgets of a request's stages that a build holds its candidates to: the most milliseconds of the 95th percentile."""
        return next((each.stages_ms for each in self.candidates if each.stages_ms), {})

    @property
    def stages(self) -> str | None:
        """These budgets in words; None where the recipe has none."""
        limits = ", ".join(f"{name} {words.limit(words.ms(most))}" for name, most in self.stages_ms.items())
        return f"stages of a request that are measured, and held at p95: {limits}" if limits else None

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        budgets = {"budgets": {"stages_ms": dict(self.stages_ms)}} if self.stages_ms else {}
        return {"candidates": [each.as_json() for each in self.candidates], **budgets}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The answer of a package that was booted.

    Attributes:
        answer: The whole answer: an object, or what a `postprocess` hook returned; None where the package's device is not here.
        body: The answer as people read it: an HTTP answer's body, parsed; a direct call's answer as it is.
        status: The HTTP answer's status; 200 for a direct call, which has none.
        init_ms: Milliseconds from the start of its process until it is ready for an event.
        how: What it ran in, in words.
        log: The lines of its log.
    """

    answer: Any
    body: Any
    status: int
    init_ms: float
    how: str
    log: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What a manifest does not say of itself.

    Attributes:
        results: Where the results go: a directory, or s3://bucket/prefix. None is a folder beside the manifest.
        columns: Of CSV and Parquet: which column, or which columns in a row, a key of the request or an input of the model is.
            Empty: as the names of the columns say.
        format: `jsonl`, `csv` or `parquet`. None is as the manifest's name or its first bytes say.
        memory_mb: The memory that the package's environment states, in MB: more of it is more threads. None is the package's own.
        model: Of a package of several models, the name of the one that answers. None is the default one.
    """

    results: AnyPath | None = None
    columns: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    format: str | None = None
    memory_mb: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """A manifest that was answered.

    Attributes:
        manifest: Its address: an absolute path or s3://bucket/key.
        results: The folder with the results, likewise.
        items: How many requests it has.
        answered: How many of them have an answer.
        failed: How many have an error, which the files in the folder's `errors/` list.
        parts: How many parts it was answered in.
    """

    manifest: str
    results: str
    items: int
    answered: int
    failed: int
    parts: int

    def text(self) -> str:
        """The counts in one line."""
        failed = f", {self.failed:,} with an error ({self.results}/errors)" if self.failed else ""
        return f"{words.count(self.items, 'item', 'items')}: {self.answered:,} answered{failed}"

    def to_json(self) -> dict[str, Any]:
        """The attributes as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffResult:
    """Two builds compared.

    Attributes:
        rows: Each measure of each candidate of either build, before and after, with the noise of both.
    """

    rows: tuple[MeasureChange, ...]

    def text(self) -> str:
        """The changes for people: a line for each measure that changed, and a count of the others."""
        from mlpack.report import diff

        return diff.text(self.rows)

    def to_json(self) -> list[dict[str, Any]]:
        """The rows as JSON values."""
        from mlpack.report import diff

        return diff.as_json(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """The entries that were removed from a store, or would be.

    Attributes:
        removed: Each entry: its kind and name, its size in bytes, and when it was used last.
        freed_bytes: Their size.
        size_bytes: The size of what is left.
        held: How many entries stay only because running builds use them.
        refused: How many could not be removed.
        reason: Why the first of those could not.
        max_bytes: The store's limit; None for no limit.
        dry_run: Whether nothing was removed.
    """

    removed: tuple[Item, ...]
    freed_bytes: int
    size_bytes: int
    held: int
    refused: int
    reason: str
    max_bytes: int | None
    dry_run: bool

    def text(self) -> str:
        """The result in one line."""
        entries, size = words.count(len(self.removed), "entry", "entries"), words.size(self.freed_bytes)
        line = f"{entries} ({size}) {'would go' if self.dry_run else 'removed'}; {words.size(self.size_bytes)} left"
        if self.max_bytes is None or self.size_bytes <= self.max_bytes:
            return line
        more = f"; {words.count(self.held, 'entry is', 'entries are')} in use by running builds" if self.held else ""
        return f"{line}, more than {words.limit(words.size(self.max_bytes))}{more}"
