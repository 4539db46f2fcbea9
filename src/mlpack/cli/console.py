"""Progress, tables and warnings on stderr, in the form that this CI system folds.

Promises:
- Spinners and colours appear only on a terminal. Elsewhere each step has one line at its start and one at its end, without control
  codes; GitLab's section markers, which need them, appear only under GitLab.
- No name of a user or a model can start a command of the terminal or of the CI system.
- A stderr that is closed or full stops nothing.

Will not: print results, which go to stdout (`stdout`), or decide anything.
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
"""Columns without a terminal: CI logs scroll sideways, and a wrapped table cannot be read."""

_OPTIONAL_COLUMNS = ("compressed", "throughput", "load", "memory", "latency p50", "cold start p50", "accuracy drop")
"""Columns that a narrow terminal leaves out, in this order; report.md has them all."""

_ANNOTATIONS_MOST = 50
"""GitHub shows ten of a kind a step (docs.github.com/actions: limitations of annotations)."""

_PLACE = re.compile(r"(?P<file>[^:\n]+):(?P<line>\d+)(?::(?P<column>\d+))?:\s*(?P<message>.*)", re.DOTALL)


class _Ci(StrEnum):
    """The CI system that shows this log."""

    NONE = "none"
    GITHUB = "github"
    GITLAB = "gitlab"


def _ci(env: Mapping[str, str]) -> _Ci:
    if env.get("GITHUB_ACTIONS") == "true":
        return _Ci.GITHUB
    return _Ci.GITLAB if env.get("GITLAB_CI") == "true" else _Ci.NONE


class _SafeStream:
    """A stream that drops text when it is closed or full, because no other stream is left for an error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write all of the text, or nothing."""
        try:
            return self._stream.write(text)
        except OSError:
            stdout.give_up(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, with errors as of `write`."""
        try:
            self._stream.flush()
        except OSError:
            stdout.give_up(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _stderr() -> TextIO:
    """stderr, also where there is none (`2>&-`)."""
    return cast(TextIO, _SafeStream(sys.stderr or io.StringIO()))


def say(text: object, stream: TextIO | None = None) -> None:
    """Print lines on stderr that are no progress, such as click's messages."""
    out = stream or _stderr()
    out.write(sinks.lines(text).rstrip("\n") + "\n")
    out.flush()


def tell(text: object, stream: TextIO | None = None) -> None:
    """Print a message of mlpack on stderr, with names in it escaped."""
    say(sinks.told(text), stream)


def route_warnings() -> None:
    """Print Python's warnings and log records of other libraries like mlpack's own messages, escaped."""

    class _StderrHandler(logging.Handler):
        """The handler for loggers without one."""

        def emit(self, record: logging.LogRecord) -> None:
            say(sinks.line(self.format(record)))

    def show_warning(message: Warning | str, category: type[Warning], *_where: object, **_more: object) -> None:
        say(sinks.line(f"{category.__name__}: {message}"))

    logging.lastResort = _StderrHandler(logging.WARNING)
    warnings.showwarning = show_warning


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
    """The display of a build while it runs. Use it as a context manager: leaving it stops the live display.

    `quiet`: only warnings, and the verdict when nothing fits. `stream` and `env` are stderr and the process's environment.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None, env: Mapping[str, str] | None = None) -> None:
        self._env = os.environ if env is None else env
        self._stream = cast(TextIO, _SafeStream(stream)) if stream else _stderr()
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
        with self._running_step(label, None):
            yield

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Like `step`, for work of a known length: the block calls the yielded function with the number of completed units."""
        with self._running_step(label, total) as advance:
            yield advance

    def note(self, text: str) -> None:
        """Print a line, unless the console is quiet."""
        if not self._quiet:
            self._line(sinks.told(text, ""))

    def warn(self, text: str) -> None:
        """Print a warning, also on a quiet console."""
        if self._ci is _Ci.GITHUB:
            self._write(sinks.command("warning", {"title": "mlpack"}, text) + "\n")
        else:
            self._line(sinks.told(text, "warning: "), "yellow")

    def show(self, result: BuildResult) -> None:
        """Show a finished build: its candidates, the decision, and how the chosen package booted."""
        summary = result.summary
        self.table(summary)
        self.verdict(summary)
        if (startup := result.startup) is not None:
            answered = f", initialised in {startup.init_ms:.0f} ms, answered {startup.status}" if startup.status else ""
            self.note(f"booted {startup.how}{answered}")

    def table(self, build: Summary) -> None:
        """Print the candidates of a build, one a line, with fewer columns on a narrow terminal."""
        if self._quiet or not build.rows:
            return None
        rich = self._console()
        optional = list(_OPTIONAL_COLUMNS)
        hidden: set[str] = set()
        table = _table(build, hidden)
        while optional and rich.measure(table, options=rich.options.update(max_width=10_000)).maximum > rich.width:
            hidden.add(optional.pop(0))
            table = _table(build, hidden)
        if self._terminal:
            return rich.print(table)
        with rich.capture() as capture:
            rich.print(table)
        return self._line("\n".join(line.rstrip() for line in capture.get().splitlines()))

    def verdict(self, build: Summary) -> None:
        """Print warnings, searches, failures and the decision. When nothing fits: each candidate's first reason, and an
        annotation."""
        for warning in build.warnings:
            self.warn(warning)
        for line in (*build.searches, *build.sizes):
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
    def _running_step(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a step from its start to its end, in the form of the terminal or the CI system."""
        label = sinks.line(label)
        if self._quiet:
            yield lambda _units: None
            return
        began = time.monotonic()
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
            took = words.seconds(time.monotonic() - began)
            if task is not None and self._live is not None:
                self._live.remove_task(task)
                if not self._live.tasks:
                    self._live.stop()
                    self._live = None
            elif section:
                self._close(section)
            self._line(f"{'  ' * self._depth}{label}: {mark} {took}", style)

    def _open(self, label: str) -> str:
        """Start a fold, or print that the step starts: folds do not nest, so inner steps are lines. Returns the name for
        `_close`."""
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
        """Print lines, none of which can be a command of a terminal or of a CI system."""
        text = sinks.lines(text)
        if self._terminal:
            self._console().print(text, style=style or None, markup=False, highlight=False, emoji=False, soft_wrap=True)
            return
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _console(self) -> Rich:
        """rich's console, created at first use: importing rich takes longer than the whole plan of a rebuild."""
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
            if self._rich.width < 1:  # COLUMNS=0, as some CI terminals state, would hide everything
                self._rich.width = 80
        return self._rich

    def _display(self) -> Progress:
        """The live display. rich allows one, so nested steps are lines of it."""
        if self._live is None:
            from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
            from rich.text import Text

            class Bar(ProgressColumn):
                """A bar for work of a known length, empty for other work."""

                bar = BarColumn(bar_width=24)

                def render(self, task: Task) -> Any:
                    return Text("") if task.total is None else self.bar.render(task)

            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), Bar(), TimeElapsedColumn())
            self._live = Progress(*columns, console=self._console(), transient=True)
            self._live.start()
        return self._live


def _ignore(_units: int) -> None:
    """Advance a step of unknown length: nothing."""


def _advancer(live: Progress, task: Any) -> Callable[[int], None]:
    return lambda units: live.advance(task, units)


def _table(build: Summary, hidden: set[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    columns = [index for index, name in enumerate(build.columns) if name not in hidden]
    for index in columns:
        table.add_column(build.headings[index], justify="left" if index < 2 else "right", overflow="fold")
    styles = {"chosen": "bold green", "over budget": "yellow", "failed": "red", "skipped": "dim"}
    for row in build.rows:
        style = styles.get(row.status, "")
        table.add_row(*(Text(sinks.line(row.cells[index]), style=style if index < 2 else "") for index in columns))
    return table
