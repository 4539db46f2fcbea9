"""A model in the engine, in a process of its own: JSON lines in, JSON lines out. Also run under an emulated processor.

Knows nothing of mlpack, so that every tool's model is asked by the same few lines. Outputs are written as a package's own bench
writes them (`.json` and `.bin`), which is what mlpack's judge reads.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "quantizers"))

import numpy as np
import onnxruntime
from calls import read

KINDS = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "bool": "BOOL"}


class Asked:
    """An open session and the calls that it is asked."""

    def __init__(self, calls: str) -> None:
        self.calls = read(calls)
        self.session: Any = None

    def load(self, model: str, level: int, entries: dict[str, str], **_: Any) -> dict[str, Any]:
        """Open the model on one thread."""
        self.session = onnxruntime.InferenceSession(model, _options(level, entries), providers=["CPUExecutionProvider"])
        return {}

    def latency(self, calls: list[int], **_: Any) -> dict[str, Any]:
        """Milliseconds of each of these calls."""
        taken = []
        for number in calls:
            began = time.perf_counter_ns()
            self.session.run(None, self.calls[number])
            taken.append((time.perf_counter_ns() - began) / 1e6)
        return {"ms": taken}

    def profile(self, model: str, level: int, entries: dict[str, str], runs: int, **_: Any) -> dict[str, Any]:
        """Of each kind of kernel that ran: how many nodes, and the sum of their median milliseconds, by the engine's profiler."""
        options = _options(level, entries)
        options.enable_profiling = True
        with tempfile.TemporaryDirectory() as scratch:
            options.profile_file_prefix = str(Path(scratch) / "profile")
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            for number in range(runs + 1):
                session.run(None, self.calls[number % len(self.calls)])
            events = json.loads(Path(session.end_profiling()).read_bytes())
        taken: dict[tuple[str, str], list[float]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                taken.setdefault((event["args"]["op_name"], event["name"]), []).append(event["dur"] / 1e3)
        kinds: dict[str, list[float]] = {}
        for (kind, _), each in taken.items():
            kinds.setdefault(kind, []).append(statistics.median(each))
        return {"kinds": {kind: [len(each), sum(each)] for kind, each in sorted(kinds.items(), key=lambda each: -sum(each[1]))}}

    def answers(self, out: str, most: int, seconds: float, **_: Any) -> dict[str, Any]:
        """Outputs of the first calls, written; as many as the seconds allow, one at the least."""
        names = [each.name for each in self.session.get_outputs()]
        described: list[dict[str, Any]] = []
        began = time.monotonic()
        with Path(f"{out}.bin").open("wb") as stream:
            for call in self.calls[:most]:
                row = {}
                for name, value in zip(names, self.session.run(None, call), strict=True):
                    array = np.ascontiguousarray(value)
                    kind = KINDS.get(array.dtype.name) or array.dtype.name.upper()
                    row[name] = {"datatype": kind, "shape": list(np.shape(value)), "offset": stream.tell(), "size": array.nbytes}
                    stream.write(array.tobytes())
                described.append(row)
                if time.monotonic() - began > seconds:
                    break
        Path(f"{out}.json").write_text(json.dumps(described))
        return {"calls": len(described)}


def _options(level: int, entries: dict[str, str]) -> Any:
    """One thread, and whatever else is asked for."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    levels = {0: "ORT_DISABLE_ALL", 1: "ORT_ENABLE_BASIC", 2: "ORT_ENABLE_EXTENDED", 99: "ORT_ENABLE_ALL"}
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, levels[level])
    options.log_severity_level = 4
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    return options


def main() -> None:
    """Answer until the input ends."""
    asked = Asked(sys.argv[1])
    operations = {"load": asked.load, "latency": asked.latency, "answers": asked.answers, "profile": asked.profile}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = operations[request["op"]](**{name: value for name, value in request.items() if name != "op"})
        except Exception as error:  # noqa: BLE001 - whatever a tool's model does is its result
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
