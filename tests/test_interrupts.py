"""Interrupts that a library swallows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
SWALLOWED = """
import signal, sys
from mlpack import interrupts
interrupts.check()
interrupts.listen()
assert not interrupts.seen()
try:
    signal.raise_signal(getattr(signal, sys.argv[1]))
except BaseException:
    pass  # as a library does
assert interrupts.seen()
try:
    interrupts.check()
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_swallowed_interrupt_is_remembered(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED, name], env={"PYTHONPATH": str(SOURCE)}, check=False)
    assert done.returncode == 7
