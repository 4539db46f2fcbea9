"""Where the fast tests put their temporary files: in memory, if there is room, or where everybody does.

They write some hundred thousand small files and wait for the disk after each one that mlpack keeps, 20,000 times: that is time in
which nothing is tested.

    TMPDIR=$(python -m tools.scratch) python -m pytest tests -m "not slow"
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
NEEDED = 4 << 30
"""Bytes that have to be free there: some times what the fast tests have at once."""


def directory(memory: Path = MEMORY) -> str:
    """`memory`, or what Python takes for temporary files where that lacks room, or forbids to run a program that lies in it."""
    if os.environ.get("TMPDIR"):  # somebody knows better
        return tempfile.gettempdir()
    try:
        if shutil.disk_usage(memory).free >= NEEDED and _available() >= 2 * NEEDED and _executes(memory):
            return str(memory)
    except OSError:
        pass
    return tempfile.gettempdir()


def _available() -> int:
    """Bytes of memory that programs may still take."""
    for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def _executes(folder: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=folder) as work:
        program = Path(work) / "program"
        program.write_text("#!/bin/sh\nexit 0\n")
        program.chmod(0o700)
        return subprocess.run([program], check=False).returncode == 0


if __name__ == "__main__":
    print(directory())
