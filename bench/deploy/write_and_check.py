"""How long it takes to write each topology's directory and to check it, without the tools that are no part of an installation.

    python bench/deploy/write_and_check.py [TOPOLOGY ...]

Each is written and checked in a process of its own, as the two commands are. The limit is 15 seconds of a processor; on a machine
with nothing else to do the clock says the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 15.0
_ONE = """
import sys, tempfile
from pathlib import Path
from tests.support.topologies import topologies
from mlpack.deploy import planning, write
from mlpack.deploy.check import check
from mlpack.deploy.design import design

service = topologies()[sys.argv[1]]
with tempfile.TemporaryDirectory() as folder:
    graph = design(service)
    write.write(write.files(service, graph, planning.plan(service, graph)), Path(folder) / "out")
    report = check(Path(folder) / "out", tools=False)
print("ok" if report.ok else "; ".join(map(str, report.findings)))
"""


def main(names: list[str]) -> int:
    """Print a line for each topology; 1 where one is wrong or too slow."""
    sys.path.insert(0, str(ROOT))
    from tests.support.topologies import topologies

    wrong = 0
    for name in names or list(topologies()):
        start, before = time.perf_counter(), os.times()
        done = subprocess.run([sys.executable, "-c", _ONE, name], cwd=ROOT, capture_output=True, text=True, check=False)
        seconds, after = time.perf_counter() - start, os.times()
        busy = after.children_user + after.children_system - before.children_user - before.children_system
        said = done.stdout.strip() or done.stderr.strip().splitlines()[-1]
        wrong += said != "ok" or min(busy, seconds) > LIMIT_S
        print(f"{name:<26} {seconds:5.1f} s, {busy:4.1f} s of a processor  {said}")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
