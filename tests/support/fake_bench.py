"""A package that is nothing but a bench server: it answers as `mlpack_runtime.bench` does, and misbehaves when asked to.

`write(root, ...)` makes one. `die_at`: the operation at which it ends with status 9. `noise`: bytes it logs before each answer.
`sleep_at`: the operation that takes a minute. `bias` is added to every output.
"""

from __future__ import annotations

from pathlib import Path

_PROGRAM = """
import json, os, struct, sys, time
die_at, noise, sleep_at, bias = {settings!r}
calls = json.load(open(sys.argv[2] + "/calls.json"))
def predict(first, last, out):
    rows, data = [], b""
    for call in calls[first:last]:
        given = call["inputs"]["x"]
        with open(sys.argv[2] + "/calls.bin", "rb") as stream:
            stream.seek(given["offset"])
            values = struct.unpack("<" + "f" * (given["size"] // 4), stream.read(given["size"]))
        made = struct.pack("<" + "f" * len(values), *(value + bias for value in values))
        rows.append({{"y": {{"datatype": "FP32", "shape": given["shape"], "offset": len(data), "size": len(made)}}}})
        data += made
    open(out + ".bin", "wb").write(data)
    json.dump(rows, open(out + ".json", "w"))
for line in sys.stdin:
    asked = json.loads(line)
    op = asked["op"]
    sys.stderr.write("n" * noise)
    if op == die_at:
        sys.stderr.write("my last words\\n")
        sys.stderr.flush()
        os._exit(9)
    if op == sleep_at:
        time.sleep(60)
    if op == "predict":
        predict(*asked["calls"], asked["out"])
    print(json.dumps({{
        "load": {{"load_ms": 1.0, "cpus": sorted(os.sched_getaffinity(0)), "pid": os.getpid()}},
        "first": {{"ns": 2e6}},
        "latency": {{"samples_ns": [1e6 for _ in asked.get("calls", ())]}},
        "throughput": {{"calls": 1, "rows": 10, "seconds": 0.5}},
        "predict": {{"calls": 1}},
        "memory": {{"peak_rss_bytes": 12345678}},
    }}[op]), flush=True)
"""


def write(root: Path, *, die_at: str = "", noise: int = 0, sleep_at: str = "", bias: float = 0.0) -> Path:
    """The package, in `root`, which is made."""
    root.mkdir(parents=True)
    (root / "bootstrap.py").write_text(_PROGRAM.format(settings=(die_at, noise, sleep_at, bias)))
    return root


def write_calls(folder: Path, samples: int = 4) -> Path:
    """Calls of three float32 in `x`, without labels."""
    import numpy as np

    from mlpack.evaluation.data.calls import CallsWriter

    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    with CallsWriter(folder) as writer:
        for _ in range(samples):
            writer.tensors({"x": random.normal(size=(1, 3)).astype("float32")}, 1)
        writer.finish(None)
    return folder
