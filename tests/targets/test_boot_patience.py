"""How long is waited for what boots."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlpack.targets.boot import process


def test_a_large_package_is_waited_for_longer(tmp_path: Path) -> None:
    (tmp_path / "weights").touch()
    assert process.patience(tmp_path) == 60
    os.truncate(tmp_path / "weights", 6_000_000_000)
    assert process.patience(tmp_path) == 360


def test_what_is_done_quietly_may_not_end() -> None:
    assert process.succeeds([sys.executable, "-c", ""])
    assert not process.succeeds([sys.executable, "-c", "import time; time.sleep(9)"], timeout_s=0.2)
