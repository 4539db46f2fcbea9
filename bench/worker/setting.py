"""What both benchmarks of the worker share: MiniLM int8 as it ships, texts of mixed lengths, a worker, and the engine alone.

The engine alone is the same package's session in a process of its own, asked in a plain loop: tokenised before the clock starts, no
queue, no JSON, nobody else on the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from common import ROOT, Place, unpacked_package  # noqa: E402 - bench/ is no package

CANDIDATE = "int8@cpu-worker-*"

ENGINE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from mlpack_runtime import jsontext, model
loaded = model.load()
for line in sys.stdin:
    asked = jsontext.loads(line)
    batches = [loaded.tokenize(texts) for texts in asked["batches"]]
    spent = []
    for batch in batches:
        began = time.perf_counter()
        loaded.session.run(batch)
        spent.append(time.perf_counter() - began)
    print(jsontext.dumps(spent), flush=True)
"""


def package(here: Place, work: Path) -> Path:
    """The image that `mlpack build` makes of MiniLM int8 for workers, unpacked."""
    return unpacked_package(here, ROOT / "bench/worker/minilm.yaml", CANDIDATE, work)


class EngineAlone:
    """The package's session in a process of its own."""

    def __init__(self, python: Path, root: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), "-I", "-S", "-c", ENGINE, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, batches: list[list[str]]) -> list[float]:
        """How long each batch takes, one after the other."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"batches": batches}), file=self._process.stdin, flush=True)
        return list(json.loads(self._process.stdout.readline()))

    def end(self) -> None:
        """End it."""
        self._process.communicate()


def cut(given: list[Any], size: int) -> list[list[Any]]:
    """Consecutive pieces."""
    return [given[at : at + size] for at in range(0, len(given), size)]


def keep_to_last_core() -> None:
    """From here on this process and its children stay on the last core: the other is the engine's."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[-1:])
