"""Interrupts that a library swallows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlpack import interrupts

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


LOADED = """
import sys
from mlpack import interrupts
interrupts.listen()
try:
    interrupts.load("half")
except KeyboardInterrupt:
    sys.exit(7 if sys.modules["half"].whole else 8)
"""


@pytest.mark.parametrize(("signals", "code"), [(1, 7), (0, 0), (2, 9)])
def test_what_is_being_loaded_is_loaded_whole_unless_asked_twice(signals: int, code: int, tmp_path: Path) -> None:
    lines = ["import signal, sys", "try:", *["    signal.raise_signal(signal.SIGINT)"] * signals, "    whole = True"]
    lines += ["except KeyboardInterrupt:", "    sys.exit(9)"]
    (tmp_path / "half.py").write_text("\n".join(lines))
    done = subprocess.run([sys.executable, "-c", LOADED], env={"PYTHONPATH": f"{SOURCE}:{tmp_path}"}, check=False)
    assert done.returncode == code


def test_what_is_not_installed_is_left_to_others() -> None:
    interrupts.load("no_such_module_anywhere")
