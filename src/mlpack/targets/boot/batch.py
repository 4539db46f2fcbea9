"""Answer a manifest of requests here with a package's own files, in a process of its own.

Promises:
- The process ends, however the block ends; asked to stop, it first writes what it has answered.
- What it says is handed on line by line, as it comes.

Will not: know what a manifest is, or answer anything itself. The package does (`mlpack_runtime.batch`).
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlpack.core import interrupts
from mlpack.core.files import temporary
from mlpack.targets.boot.process import AROUND_VARIABLE, Means, check_arch, python_for, signal_group, start
from mlpack.targets.format.unpacking import Members, describe, extract

_GRACE_S = 60.0
"""How long the process may take to write what it has answered: requests that are under way end first."""
_LENT = ("botocore", "pyarrow")
"""What a package may lack and this installation may have: for S3, and for Parquet."""
_TAIL = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a batch is asked for: `words` of its command line, and the caller's `variables`. `memory_mb` as of `Means`."""

    words: Sequence[str]
    variables: Mapping[str, str]
    memory_mb: int | None = None


class Conversation:
    """What the process says, and how it ended. `status`: its exit status, once `lines` has ended."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Listen to a process."""
        self._process = process
        self._log = log
        self.status = 0

    def lines(self) -> Iterator[dict[str, Any]]:
        """Each line of its log, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                value = json.loads(line)
            except ValueError:
                continue  # a hook's own print
            if isinstance(value, dict):
                yield value
        interrupts.reap(self._process)
        self.status = self._process.returncode

    @property
    def complaint(self) -> str:
        """The end of what it wrote to stderr."""
        return self._log.read_text("utf-8", "replace")[-_TAIL:].strip()


@contextmanager
def answering(package: Path, order: Order, members: Members, means: Means) -> Iterator[Conversation]:
    """Start the package's batch while the block runs.

    Args:
        package: The directory of the package.
        order: The manifest, and how it is to be answered.
        members: Reads the package's files.
        means: Where its weights are, if they are not in it.

    Raises:
        PackError: The package cannot be started here.
    """
    package_json = describe(package)
    check_arch(package_json)
    with temporary.directory("batch") as work:
        root = extract(package, package_json, members, work / "task")
        python, _ = python_for(package_json)
        lent = {str(Path(spec.origin).parent.parent) for name in _LENT if (spec := find_spec(name)) and spec.origin}
        paths = [word for place in sorted(lent) for word in ("--path", place)]
        command = [str(python), "-I", "-S", str(root / "bootstrap.py"), "batch", *order.words, *paths]
        env = environment(order, means, work)
        with interrupts.guarded() as guard:
            with (work / "log").open("wb") as log:
                process = start(command, env, subprocess.PIPE, log)
            try:
                try:
                    guard.let_in()
                    yield Conversation(process, work / "log")
                finally:
                    guard.keep_out()
            finally:
                _end(process)


def environment(order: Order, means: Means, work: Path) -> dict[str, str]:
    """The variables of a batch's process. Its features, unlike those of a boot that only tries a package, are the tables' own."""
    real = {AROUND_VARIABLE: order.variables.get(AROUND_VARIABLE, "")}
    memory = {} if order.memory_mb is None else {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(order.memory_mb)}
    return {**order.variables, **means.variables(str(work)), **real, **memory}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, and read on until it does: a full pipe would keep it from ending."""
    assert process.stdout is not None
    if process.returncode is None:
        signal_group(process, signal.SIGTERM)
        reader = threading.Thread(target=process.stdout.read, daemon=True)
        reader.start()
        interrupts.reap(process, _GRACE_S)
        signal_group(process, signal.SIGKILL)
        interrupts.reap(process)
        reader.join()
    process.stdout.close()
