"""Items a second of a manifest, beside the same requests one after the other.

Both sides are the MiniLM int8 that ships as a container of two threads, in one process each, with the same texts in the same order.
One side asks the package's service text by text, as a function answers messages. The other is a batch of a manifest on disk: read,
planned, put together for the engine, and its results written in pieces. Neither has a line of the log for each request.
Held to nothing: what a batch gains is the processor's matter. Where rows side by side cost as much as one after the other, it is
only the waiting between requests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import Row, minilm_texts, parser, ratio, report, scratch, timed  # noqa: E402 - bench/ is no package
from throughput import package  # noqa: E402

SIDE = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
sys.setswitchinterval(0.0005)
from mlpack_runtime import jsontext, model, service
from mlpack_runtime.backend import open_backend
from mlpack_runtime.batch.engines import Engine, quiet
from mlpack_runtime.batch.jobs import Job, Settings
from mlpack_runtime.batch.orders import Order
own = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the log's lines
if sys.argv[2] == "batch":
    engine = Engine(model.load(open_backend))
else:
    asked = quiet(service.Service(model.load()))
os.write(own, b"ready\\n")
for line in sys.stdin:
    told = jsontext.loads(line)
    began, cpu = time.perf_counter(), time.process_time()
    if sys.argv[2] == "batch":
        job = Job(Order(told["manifest"], told["results"]), engine.service, Settings({}), threads=engine.threads, files=True)
        assert job.run()["answered"] == told["items"]
    else:
        with open(told["manifest"], "rb") as stream:
            for row in stream:
                assert asked.message({}, row, "", {}).status == 200
    spent = [told["items"] / (time.perf_counter() - began), 1e6 * (time.process_time() - cpu) / told["items"]]
    os.write(own, jsontext.dumps(spent).encode() + b"\\n")
"""


def main() -> int:
    """Both in turns."""
    made = parser(__doc__, runs=5)
    made.add_argument("--texts", type=int, default=4096, help="items of a run [default: 4096]")
    made.add_argument("--package", type=Path, help="an unpacked package to measure [default: it is built]")
    options = made.parse_args()
    with scratch() as work:
        rows = measured(*package(options, work), options, work)
    return report("runtime_batch", rows, f"MiniLM int8, 2 engine threads, {options.texts} texts, one an item", options.out)


def measured(root: Path, python: Path, options: Any, work: Path) -> list[Row]:
    """The rows, of runs in turns."""
    manifest = work / "items.jsonl"
    texts = list(islice(cycle(minilm_texts()), options.texts))
    manifest.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    sides = {name: Side(python, root, name) for name in ("single", "batch")}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    try:
        for turn in range(options.runs + 1):
            for name, side in sides.items():
                rate, cpu_us = side.ask(manifest=str(manifest), results=str(work / f"out-{turn}"), items=options.texts)
                if turn:  # the first fills caches
                    rates[name].append(rate)
                    spent[name].append(cpu_us)
    finally:
        for side in sides.values():
            side.end()
    return [
        timed("one by one", rates["single"], "items/s"),
        timed("in a batch", rates["batch"], "items/s"),
        ratio("in a batch / one by one", rates["batch"], rates["single"]),
        timed("  processor time one by one", spent["single"], "us an item"),
        timed("  processor time in a batch", spent["batch"], "us an item"),
        ratio("  one by one / in a batch, by processor time", spent["single"], spent["batch"]),
    ]


class Side:
    """A process with the model."""

    def __init__(self, python: Path, root: Path, name: str) -> None:
        command = [str(python), "-I", "-S", "-c", SIDE, str(root), name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def ask(self, **told: Any) -> tuple[float, float]:
        """(items a second, microseconds of the processor an item) of one run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        rate, cpu_us = json.loads(self._process.stdout.readline())
        return rate, cpu_us

    def end(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


if __name__ == "__main__":
    sys.exit(main())
