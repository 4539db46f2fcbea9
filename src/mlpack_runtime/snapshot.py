"""SnapStart: what a function does before its snapshot is taken, and after each restore of it.

Of one snapshot many instances are made. Before it everything is loaded and warm that a request may need; after it each instance has
seeds, connections and times of its own, and its first log line tells the restore in the place of a load that was days ago.

Promises: AWS's module of hooks is asked where it is there (`snapshot_restore_py`, in the managed runtimes from Python 3.12 on); our
own loop calls the same two functions by the Runtime API's `/restore/next`. Where there is neither, the model is warm and no more.
Will not: be imported by a function that has no snapshot. What keeps a connection or a time has its end in `starting.AFTER_RESTORE`.

Source: AWS Lambda developer guide, "Implement code before or after Lambda function snapshots".
"""

import gc
import os
import sys
from time import perf_counter_ns

from mlpack_runtime import telemetry
from mlpack_runtime.starting import AFTER_RESTORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mlpack_runtime.service import Service

HOOKS: "list[tuple[Callable[[], None], Callable[[], None]]]" = []
"""What was registered: before the snapshot, after a restore."""
LAZY = ("classification", "encodings", "events", "portions", "routes", "triggers.sources")
"""Modules that a first request of their kind imports."""


def prepare(service: "Service") -> None:
    """Register a service's two functions; where nobody would call the first, do its work now."""

    def before() -> None:
        warm(service)

    def after() -> None:
        service.restored(renew())

    if not register(before, after) and "mlpack_runtime.loop" not in sys.modules:
        before()


def register(before: "Callable[[], None]", after: "Callable[[], None]") -> bool:
    """Have `before` called before the snapshot and `after` after each restore. False where AWS's module is not there."""
    HOOKS.append((before, after))
    try:
        from snapshot_restore_py import register_after_restore, register_before_snapshot
    except ImportError:
        return False
    register_before_snapshot(before)
    register_after_restore(after)
    return True


def warm(service: "Service") -> None:
    """Run the model and import what requests import, so that memory and modules are in the snapshot."""
    service.model.warm()
    for name in LAZY:
        __import__(f"mlpack_runtime.{name}")
    if service.model.has_texts:
        sys.modules["mlpack_runtime.portions"].look(service.model)
    gc.collect()  # once here, and not in every instance


def renew() -> float:
    """Give this instance seeds, connections and times of its own; how many milliseconds that took."""
    began = perf_counter_ns()
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(os.urandom(32), 32.0)
    telemetry.reread()
    for forget in AFTER_RESTORE:
        forget()
    return (perf_counter_ns() - began) / 1e6


def through(connection: "Any") -> None:
    """For our own loop: be ready for the snapshot, wait for the restore, and be an instance of its own. Raises what is raised
    before the snapshot, and AfterRestoreError for what is raised after it."""
    for before, _ in reversed(HOOKS):
        before()
    status, _, told = connection.request("GET", "/restore/next")
    connection.close()  # it was the snapshot's
    if status != 200:
        raise RuntimeError(f"the Runtime API refused /restore/next with {status}: {told[:200]!r}")
    try:
        for _, after in HOOKS:
            after()
    except Exception as error:
        raise AfterRestoreError(f"{type(error).__name__}: {error}") from error


class AfterRestoreError(RuntimeError):
    """What had to be done after a restore failed: this instance must not answer."""
