"""The controller as it ships: bytes of its zip, and the processor time of an interpreter that imports it and decides once."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Row, parser, report, spread

from mlpack.deploy import programs

DECIDE = """
import sys, time
begun = time.process_time()
sys.path.insert(0, sys.argv[1])
from mlpack_control import Policy, State, decide
both = {"errors": {"platform": [2, 900], "package": [2, 900]}}
observed = {"since": 60, "until": 660, "new": both, "old": both, "alarms": {}}
decide(Policy(), State(phase="baking", old="7", new="8", step=0, begun=0, since=0), observed, 700)
print(time.process_time() - begun)
"""
ROLL_BACK = """
import sys, time
begun = time.process_time()
sys.path.insert(0, sys.argv[1])
from mlpack_control import handler, brake
print(time.process_time() - begun)
"""


def main() -> int:
    options = parser(__doc__, runs=15).parse_args()
    archive = programs.archive("controller")
    programs.archive.cache_clear()
    same = programs.archive("controller") == archive
    rows = [
        Row(name="controller.zip", value=len(archive) / 1000, unit="KB", at_most=60),
        Row(name="zips of the same sources that differ", value=0 if same else 1, at_most=0),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "controller.zip"
        path.write_bytes(archive)
        for what, script, most in (
            ("import and one decision, processor time", DECIDE, 100),
            ("import of handler and brake, processor time", ROLL_BACK, 100),
        ):
            times = []
            for _ in range(options.runs):
                done = subprocess.run([sys.executable, "-I", "-c", script, str(path)], capture_output=True, text=True, check=True)
                times.append(float(done.stdout) * 1000)
            rows.append(Row(name=what, value=statistics.median(times), unit="ms", at_most=most, detail=spread(times)))
    how = f"{options.runs} new interpreters each, which compile the package out of its zip"
    return report("deploy_controller", rows, how, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
