"""Keeps foreign exporters and optimisers off the screen without losing their errors.

Promises:
- Nothing that a wrapped library prints, logs or warns about is shown, and every global that it changes is restored.
- What such a tool logs as an *error* is raised: a failed optimisation is a failure, not a log line.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from mlpack.errors import PassError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FATAL, _WARNING = 4, 2
"""onnxruntime's severities; it begins with the second, and its setting cannot be read."""


@contextmanager
def exporters() -> Iterator[None]:
    """A context for exporters. They also log errors of attempts from which they recover; the comparison with eager decides."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with _hidden():
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def engine_tools(step: str) -> Iterator[None]:
    """A context for onnxruntime's Python tools, which log failures and continue. Raises PassError with what they log as an
    error."""
    records: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                records.append(record.getMessage())

    # They log to the root logger, or to one named after a file: only there can all of it be caught.
    handlers, logging.root.handlers = logging.root.handlers, [Collect()]
    path = list(sys.path)
    try:
        with _hidden():
            yield
    finally:
        logging.root.handlers = handlers
        sys.path[:] = path
    if records:
        raise PassError(f"{step}: onnxruntime's tool reports: {'; '.join(records)[:600]}")


@contextmanager
def _hidden() -> Iterator[None]:
    import onnxruntime

    onnxruntime.set_default_logger_severity(_FATAL)  # it writes the model's own names on stderr, raw: commands of a CI among them
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)
