"""How long `mlpack --help` and a rebuild with nothing changed take, as whole processes, and that neither imports a framework.

The rebuild is that of MiniLM with all its candidates, both targets, from a store that has everything. An empty Python program takes
turns with them: what is below it nobody can have. Figures: 0.25 s, 1.5 s, no torch, onnx or numpy.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from common import MINILM, MLPACK, ROOT, Row, in_turns, parser, place, report, run, scratch, seconds, timed

FRAMEWORKS = frozenset({"torch", "transformers", "optimum", "onnx", "onnxruntime", "numpy"})


def main() -> int:
    """Time and count."""
    options = parser(__doc__).parse_args()
    here = place(options)
    environment = here.environment()
    with scratch() as work:
        rebuild = [*MLPACK, "--quiet", "build", str(MINILM), "--base", str(here.base), "--out", str(work / "out")]
        run(rebuild, env=environment)  # fills the store
        commands = {"python": [sys.executable, "-c", "pass"], "help": [*MLPACK, "--help"], "rebuild": rebuild}
        samples = in_turns(
            {name: lambda command=command: seconds(lambda: run(command, env=environment)) for name, command in commands.items()},
            options.runs,
        )
        heavy = {name: imported(commands[name], environment) for name in ("help", "rebuild")}
    rows = [
        timed("python -c pass", samples["python"], "s"),
        timed("mlpack --help", samples["help"], "s", at_most=0.25),
        timed("mlpack build, nothing changed", samples["rebuild"], "s", at_most=1.5),
        frameworks("frameworks that --help imports", heavy["help"]),
        frameworks("frameworks that the rebuild imports", heavy["rebuild"]),
    ]
    return report("startup", rows, "whole processes, wall clock, in turns", options.out)


def imported(command: Sequence[str], environment: Mapping[str, str]) -> set[str]:
    """Which frameworks a command of ours imports, as the interpreter itself reports it."""
    program, *rest = command
    done = subprocess.run(
        [program, "-X", "importtime", *rest], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = re.findall(r"^import time:[^|]*\|[^|]*\|\s*([\w.]+)$", done.stderr, re.MULTILINE)
    if "click" not in names:
        raise SystemExit("the interpreter did not report its imports")
    return {name.partition(".")[0] for name in names} & FRAMEWORKS


def frameworks(name: str, found: set[str]) -> Row:
    """How many frameworks, which must be none."""
    return Row(name=name, value=len(found), detail=", ".join(sorted(found)) or "none", at_most=0)


if __name__ == "__main__":
    sys.exit(main())
