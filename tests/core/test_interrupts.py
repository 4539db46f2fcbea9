"""Interrupts that a library swallows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlpack.core import interrupts

SOURCE = Path(__file__).parent.parent.parent / "src"
SWALLOWED = """
import signal, sys
from mlpack.core import interrupts
interrupts.check()
interrupts.listen()
assert not interrupts.pending()
try:
    signal.raise_signal(getattr(signal, sys.argv[1]))
except BaseException:
    pass  # as a library does
assert interrupts.pending()
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
from mlpack.core import interrupts
interrupts.listen()
try:
    interrupts.load("half")
except KeyboardInterrupt:
    sys.exit(7 if sys.modules["half"].whole else 8)
"""


@pytest.mark.parametrize(("signals", "code"), [(1, 7), (0, 0), (2, 9)])
def test_what_is_being_loaded_is_loaded_unless_asked_twice(signals: int, code: int, tmp_path: Path) -> None:
    lines = ["import signal, sys", "try:", *["    signal.raise_signal(signal.SIGINT)"] * signals, "    whole = True"]
    lines += ["except KeyboardInterrupt:", "    sys.exit(9)"]
    (tmp_path / "half.py").write_text("\n".join(lines))
    done = subprocess.run([sys.executable, "-c", LOADED], env={"PYTHONPATH": f"{SOURCE}:{tmp_path}"}, check=False)
    assert done.returncode == code


def test_what_is_not_installed_is_left_to_others() -> None:
    interrupts.load("no_such_module_anywhere")


AT_EACH_LINE = """
import os, signal, subprocess, sys
from pathlib import Path
from mlpack.targets.boot import process as boot_parts; from mlpack.core import interrupts
from mlpack.targets.boot.process import Call, running

files = {boot_parts.__file__, interrupts.__file__, subprocess.__file__}
call = Call(command=(), env=None, event=b"", timeout_s=1, log=Path(sys.argv[1], "log"))
sent = [0]

def lines(left):
    def line(frame, event, argument):
        if event == "line" and frame.f_code.co_filename in files:
            left[0] -= 1
            if left[0] in (0, -7):
                sent[0] += left[0] == 0
                signal.raise_signal(signal.SIGINT)
        return line
    return line

def once(number):
    heard = False
    sys.settrace(lines([number]))
    try:
        with running((["sleep", "60"], None), call) as process:
            for _ in range(2):
                process.poll()
    except KeyboardInterrupt:
        heard = True
    finally:
        sys.settrace(None)
    try:
        raise AssertionError(f"line {number} left {os.waitpid(-1, os.WNOHANG)}")
    except ChildProcessError:
        return heard

signal.signal(signal.SIGINT, signal.default_int_handler)
number = 1
while True:
    before = sent[0]
    try:
        heard = once(number)
    except KeyboardInterrupt:  # the second one, after all was done
        heard = True
    if sent[0] == before:
        break
    assert heard, f"the interrupt at line {number} was swallowed"
    number += 1
print(number)
"""


@pytest.mark.slow
def test_process_is_ended_at_whatever_line_an_interrupt_comes(tmp_path: Path) -> None:
    """A second one comes seven lines later. One while `Popen` began left the process; one in `poll` let `wait` wait for ever."""
    done = subprocess.run(
        [sys.executable, "-c", AT_EACH_LINE, tmp_path],
        env={"PYTHONPATH": str(SOURCE), "PATH": os.defpath},
        check=True,
        capture_output=True,
        timeout=240,
    )
    assert int(done.stdout) > 100


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupt_waits_until_it_is_let_in(name: str) -> None:
    number = getattr(signal, name)
    program = f"""
import signal
from mlpack.core import interrupts
interrupts.listen()
steps = []
try:
    with interrupts.guarded() as guard:
        signal.raise_signal({number:d})
        steps.append("begun")
        assert not interrupts.pending()
        guard.let_in()
        steps.append("never")
except KeyboardInterrupt:
    assert interrupts.pending()
    steps.append("heard")
try:
    with interrupts.guarded():
        signal.raise_signal({number:d})
        steps.append("ended")
except KeyboardInterrupt:
    steps.append("heard")
print(*steps)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(SOURCE)}, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["begun", "heard", "ended", "heard"]


def test_child_that_was_reaped_elsewhere_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitpid(process.pid, 0)
    assert interrupts.reap(process)
    assert process.returncode is not None


def test_child_that_goes_on_has_not_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert not interrupts.reap(process, 0.05)
    process.kill()
    assert interrupts.reap(process)
    assert process.returncode == -signal.SIGKILL
