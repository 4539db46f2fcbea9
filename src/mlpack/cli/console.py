"""Progress, tables and warnings on stderr, folded the way this CI folds.

Promises: spinners and colours only on a terminal; elsewhere one line at the start and one at the end of each step, without control
codes (GitLab's section markers, which are made of them, only under GitLab); nothing that a user or a model named can start a
command of the terminal or of the CI; a stderr that is closed or full stops nothing. Results are not its business: they go to
stdout (see there). It decides nothing.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

from mlpack.cli import stdout
from mlpack.core.text import sinks, words
from mlpack.errors import MlpackError, RecipeError

if TYPE_CHECKING:
    from rich.console import Console as Rich
    from rich.progress import Progress
    from rich.table import Table

    from mlpack import BuildResult, Summary, SummaryRow

_LOG_WIDTH = 400
"""Columns where there is no terminal: CI logs scroll sideways, and a table cut into pieces cannot be read."""

_SPARE = ("compressed", "throughput", "load", "memory", "latency p50", "cold start p50", "accuracy drop")
"""Columns that a narrow terminal goes without, first the first: report.md has them all."""

_ANNOTATIONS_MOST = 50
"""GitHub shows ten of a kind a step (docs.github.com/actions: limitations of annotations)."""

_PLACE = re.compile(r"(?P<file>[^:\n]+):(?P<line>\d+)(?::(?P<column>\d+))?:\s*(?P<message>.*)", re.DOTALL)


class _Ci(StrEnum):
    """Who reads this log and folds it."""

    NONE = "none"
    GITHUB = "github"
    GITLAB = "gitlab"


def _ci(env: Mapping[str, str]) -> _Ci:
    if env.get("GITHUB_ACTIONS") == "true":
        return _Ci.GITHUB
    return _Ci.GITLAB if env.get("GITLAB_CI") == "true" else _Ci.NONE


class _Steady:
    """A stream as it is, but one that is closed or full takes what is written as if it were there: nobody can be told."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """All of it, or nothing."""
        try:
            return self._stream.write(text)
        except OSError:
            stdout.give_up(self._stream)
            return len(text)

    def flush(self) -> None:
        """As `write`."""
        try:
            self._stream.flush()
        except OSError:
            stdout.give_up(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _stderr() -> TextIO:
    """stderr, also where there is none (`2>&-`)."""
    return cast(TextIO, _Steady(sys.stderr or io.StringIO()))


def say(text: object, stream: TextIO | None = None) -> None:
    """Lines on stderr that are no progress: what the command line's own library says."""
    out = stream or _stderr()
    out.write(sinks.lines(text).rstrip("\n") + "\n")
    out.flush()


def tell(text: object, stream: TextIO | None = None) -> None:
    """A message of this program's on stderr, whatever was named in it."""
    say(sinks.told(text), stream)


def borrow() -> None:
    """Let what Python's warnings and other people's loggers say come out as messages do, and not as they write it."""

    class Said(logging.Handler):
        """For loggers that nobody has given a handler."""

        def emit(self, record: logging.LogRecord) -> None:
            say(sinks.line(self.format(record)))

    def warned(message: Warning | str, category: type[Warning], *_where: object, **_more: object) -> None:
        say(sinks.line(f"{category.__name__}: {message}"))

    logging.lastResort = Said(logging.WARNING)
    warnings.showwarning = warned


def complain(error: MlpackError, stream: TextIO | None = None, env: Mapping[str, str] | None = None) -> None:
    """Every problem of an error on stderr, and in the CI's own view of the change."""
    problems = _problems(error)
    for problem in problems[: sinks.LINES_MOST]:
        tell(problem, stream)
    if len(problems) > sinks.LINES_MOST:
        tell(f"... ({len(problems) - sinks.LINES_MOST:,} more problems)", stream)
    annotate(error, stream, env)


def _problems(error: MlpackError) -> tuple[str, ...]:
    return error.problems if isinstance(error, RecipeError) else (str(error),)


def annotate(error: MlpackError, stream: TextIO | None = None, env: Mapping[str, str] | None = None) -> None:
    """Mark an error in the CI's own view of the change: one GitHub annotation a problem, at its file and line where it has one."""
    if _ci(os.environ if env is None else env) is not _Ci.GITHUB:
        return
    out = stream or _stderr()
    for problem in _problems(error)[:_ANNOTATIONS_MOST]:
        place = _PLACE.fullmatch(problem)
        if place is None:
            out.write(sinks.command("error", {"title": "mlpack"}, problem) + "\n")
        else:
            where = {key: value for key, value in place.groupdict().items() if value and key != "message"}
            names = {"column": "col"}
            out.write(sinks.command("error", {names.get(key, key): value for key, value in where.items()}, place["message"]) + "\n")
    out.flush()


class Console:
    """What a build shows while it runs. Use it as a context manager: leaving it ends whatever still moves.

    `quiet`: only warnings, and the verdict when nothing fits. `stream` and `env` are stderr and the process's environment.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None, env: Mapping[str, str] | None = None) -> None:
        self._env = os.environ if env is None else env
        self._stream = cast(TextIO, _Steady(stream)) if stream else _stderr()
        self._quiet = quiet
        self._ci = _ci(self._env)
        self._terminal = self._stream.isatty() and self._env.get("TERM") != "dumb" and self._ci is _Ci.NONE
        self._rich: Rich | None = None
        self._live: Progress | None = None
        self._depth = 0
        self._sections = 0

    def __enter__(self) -> Console:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @contextmanager
    def step(self, label: str) -> Iterator[None]:
        """Show that `label` is under way and, when the block ends, how long it took. Steps may be nested."""
        with self._moving(label, None):
            yield

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Like `step`, for work of a known length: the block calls what it is given with the number of units just done."""
        with self._moving(label, total) as advance:
            yield advance

    def note(self, text: str) -> None:
        """A line that a quiet console does not show."""
        if not self._quiet:
            self._line(sinks.told(text, ""))

    def warn(self, text: str) -> None:
        """Something that did not stop the build and must be read; shown by a quiet console too."""
        if self._ci is _Ci.GITHUB:
            self._write(sinks.command("warning", {"title": "mlpack"}, text) + "\n")
        else:
            self._line(sinks.told(text, "warning: "), "yellow")

    def show(self, result: BuildResult) -> None:
        """A build that came to its end: its candidates, what was decided, and how the chosen package came up."""
        found = result.summary
        self.table(found)
        self.verdict(found)
        if (startup := result.startup) is not None:
            answered = f", initialised in {startup.init_ms:.0f} ms, answered {startup.status}" if startup.status else ""
            self.note(f"booted {startup.how}{answered}")

    def table(self, build: Summary) -> None:
        """The candidates of a build, one a line; a narrow terminal sees fewer columns."""
        if self._quiet or not build.rows:
            return None
        rich = self._console()
        spare = list(_SPARE)
        hidden: set[str] = set()
        made = _table(build, hidden)
        while spare and rich.measure(made, options=rich.options.update(max_width=10_000)).maximum > rich.width:
            hidden.add(spare.pop(0))
            made = _table(build, hidden)
        if self._terminal:
            return rich.print(made)
        with rich.capture() as drawn:
            rich.print(made)
        return self._line("\n".join(line.rstrip() for line in drawn.get().splitlines()))

    def verdict(self, build: Summary) -> None:
        """The decision, after what speaks against it and why candidates failed; when nothing fits, each one's first reason, and an
        annotation."""
        for warning in build.warnings:
            self.warn(warning)
        for line in build.searches:
            self.note(line)
        if build.chosen is not None:
            if not self._quiet:
                for row in build.rows:
                    if row.status == "failed":
                        self._reason(row)
                self._line(sinks.line(build.verdict), "bold green")
            return
        if self._ci is _Ci.GITHUB:
            self._write(sinks.command("error", {"title": "mlpack"}, build.verdict) + "\n")
        else:
            self._line(sinks.line(build.verdict), "bold red")
        for row in build.rows:
            self._reason(row)

    def _reason(self, row: SummaryRow) -> None:
        self._line("  " + sinks.line(f"{row.candidate}: {row.status}: {row.reason or 'no reason was recorded'}"))

    @contextmanager
    def _moving(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A step from its start to its end, in the manner of wherever this is shown."""
        label = sinks.line(label)
        if self._quiet:
            yield lambda _units: None
            return
        started = time.monotonic()
        advance: Callable[[int], None] = _ignore
        task, section = None, ""
        if self._terminal:
            live = self._display()
            task = live.add_task(label, total=total)
            advance = _advancer(live, task)
        else:
            section = self._open(label)
        self._depth += 1
        mark, style = "failed after", "red"
        try:
            yield advance
            mark, style = "done in", ""
        finally:
            self._depth -= 1
            took = words.seconds(time.monotonic() - started)
            if task is not None and self._live is not None:
                self._live.remove_task(task)
                if not self._live.tasks:
                    self._live.stop()
                    self._live = None
            elif section:
                self._close(section)
            self._line(f"{'  ' * self._depth}{label}: {mark} {took}", style)

    def _open(self, label: str) -> str:
        """Begin a fold, or say that the step begins: folds do not nest, so inner steps are lines. Gives what `_close` needs."""
        if self._depth or self._ci is _Ci.NONE:
            self._line(f"{'  ' * self._depth}{label} ...")
            return ""
        self._sections += 1
        name = f"mlpack_{self._sections}"
        if self._ci is _Ci.GITHUB:
            self._write(f"::group::{label}\n")
        else:
            self._write(f"\x1b[0Ksection_start:{int(time.time())}:{name}[collapsed=true]\r\x1b[0K{label}\n")
        return name

    def _close(self, section: str) -> None:
        if self._ci is _Ci.GITHUB:
            self._write("::endgroup::\n")
        else:
            self._write(f"\x1b[0Ksection_end:{int(time.time())}:{section}\r\x1b[0K\n")

    def _line(self, text: str, style: str = "") -> None:
        """A line or several, none of which is a command of a terminal or of a CI system."""
        text = sinks.lines(text)
        if self._terminal:
            self._console().print(text, style=style or None, markup=False, highlight=False, emoji=False, soft_wrap=True)
            return
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _console(self) -> Rich:
        """rich, made when it is first needed: its import is slower than a rebuild's whole plan."""
        if self._rich is None:
            from rich.console import Console as Rich

            colour = self._terminal and not self._env.get("NO_COLOR")
            self._rich = Rich(
                file=self._stream,
                force_terminal=self._terminal,
                force_interactive=self._terminal,
                color_system="auto" if colour else None,
                no_color=not colour,
                width=None if self._terminal else _LOG_WIDTH,
                _environ=self._env,
            )
            if self._rich.width < 1:  # COLUMNS=0, as some terminals of CI systems say: it would show nothing
                self._rich.width = 80
        return self._rich

    def _display(self) -> Progress:
        """The one moving display: rich allows one, so that nested steps are lines of it."""
        if self._live is None:
            from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
            from rich.text import Text

            class Bar(ProgressColumn):
                """A bar for work of a known length, nothing for the rest."""

                bar = BarColumn(bar_width=24)

                def render(self, task: Task) -> Any:
                    return Text("") if task.total is None else self.bar.render(task)

            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), Bar(), TimeElapsedColumn())
            self._live = Progress(*columns, console=self._console(), transient=True)
            self._live.start()
        return self._live


def _ignore(_units: int) -> None:
    """What a step of unknown length advances."""


def _advancer(live: Progress, task: Any) -> Callable[[int], None]:
    return lambda units: live.advance(task, units)


def _table(build: Summary, hidden: set[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown = [index for index, name in enumerate(build.columns) if name not in hidden]
    for index in shown:
        table.add_column(build.headings[index], justify="left" if index < 2 else "right", overflow="fold")
    styles = {"chosen": "bold green", "over budget": "yellow", "failed": "red", "skipped": "dim"}
    for row in build.rows:
        style = styles.get(row.status, "")
        table.add_row(*(Text(sinks.line(row.cells[index]), style=style if index < 2 else "") for index in shown))
    return table
