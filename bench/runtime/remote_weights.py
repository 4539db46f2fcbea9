"""What a start waits for when a package's weights lie outside it: parallel ranges beside one stream, begun early beside late.

One package, made of the sample `tabular` with a graph of 96 MB of weights in its place, is started behind a stub of Lambda's
Runtime API and asked once; each start is timed from its process's first moment to its answer. The weights come from a server of its
own process on loopback that gives each connection 60 MB a second after 20 ms: about what one stream of S3 gives, while many have
more. In turns:

    parallel    eight connections, begun before anything else is imported
    late        eight connections, begun when the session opens
    stream      one connection, begun early
    cache       out of a cache directory: every part verified
    inside      the weights in the package

Figures: parallel at most half of one stream; early no slower than late. What a start out of the cache takes beyond one with the
weights in the package is their SHA-256. Beside them: the peak of memory until the first answer, with the weights in and outside the
package.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from common import ROOT, Row, in_turns, parser, ratio, report, run, scratch, timed  # noqa: E402 - bench/ is no package

BYTES_S, FIRST_BYTE_S = 60e6, 0.02
_CHUNK_BYTES = 1 << 18
LAYERS, WIDTH = 24, 1000
PEAKS_MB: dict[str, float] = {}
"""The largest resident set of any start until its answer, by where the weights were."""
EVENT = {"inputs": {"x": [[1.0] * WIDTH]}}
RECIPE = """
name: outside
source: {{onnx: {model}}}
data: {{evaluation: {data}/eval.npz, calibration: none}}
variants: {{plain: []}}
targets: {{lambda-zip: {{arch: {arch}}}}}
search: off
serve: {{weights: {{from: "s3://bucket/prefix"}}}}
"""


def main() -> int:
    """Time every way in turns."""
    from mlpack.targets.shipped import unpack

    options = parser(__doc__, runs=7).parse_args()
    with scratch() as work:
        artifact = build(work, options.store)
        root = unpack(artifact, work / "inside")
        graph(root)
        outside = work / "outside"
        shutil.copytree(root, outside)
        data = take_out(outside)
        late = (outside / "bootstrap.py").read_text().partition("if exists(")
        rest = late[2].partition("begin(root)\n")[2]
        (outside / "late.py").write_text(late[0] + rest)
        with serving(data) as address:
            start = functools.partial(started, address=address, work=work)
            sides = {
                "parallel": lambda: start(outside, "bootstrap.py", 8),
                "late": lambda: start(outside, "late.py", 8),
                "stream": lambda: start(outside, "bootstrap.py", 1),
                "cache": lambda: start(outside, "bootstrap.py", 8, keep=True),
                "inside": lambda: start(root, "bootstrap.py", 8),
            }
            samples = in_turns(sides, options.runs)
    rows = [timed(f"start, {name}", samples[name], "ms") for name in sides]
    rows += [
        ratio("parallel over one stream", samples["parallel"], samples["stream"], at_most=0.5),
        ratio("early over late", samples["parallel"], samples["late"], at_most=1.0),
        ratio("out of the cache over inside", samples["cache"], samples["inside"]),
        Row(name="weights", value=len(data) / 1e6, unit="MB"),
        *(Row(name=f"peak memory, weights {place}", value=peak_mb, unit="MB") for place, peak_mb in sorted(PEAKS_MB.items())),
    ]
    how = f"a server on loopback with {BYTES_S / 1e6:.0f} MB/s a connection after {1e3 * FIRST_BYTE_S:.0f} ms"
    return report("runtime_remote_weights", rows, how, options.out)


def build(work: Path, store: Path | None) -> Path:
    """The package of a small graph, whose runtime is that of every package with its weights outside."""
    from mlpack.core.machine import arch

    sample = ROOT / "sample_models/tabular"
    recipe = work / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=sample / "model.onnx", data=sample, arch=arch()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **({"MLPACK_STORE": str(store)} if store else {})}
    command = [sys.executable, "-m", "mlpack.cli", "--quiet", "build", str(recipe), "--out", str(work / "out"), "--effort", "quick"]
    run(command, env=environment, accepted=(0, 5))
    (artifact,) = (work / "out/artifacts").iterdir()
    return artifact


def graph(root: Path) -> None:
    """Put products of 96 MB of weights into the place of the package's graph."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    place = root / "model"
    settings = json.loads((place / "model.json").read_bytes())
    for path in (place, place / "model.json", *place.glob("model.onnx*")):
        path.chmod(0o755)
    for path in place.glob("model.onnx*"):
        path.unlink()
    random = np.random.default_rng(1)
    names = ["x", *(f"h{layer}" for layer in range(1, LAYERS)), "y"]
    weights = [
        numpy_helper.from_array((random.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32), f"w{layer}")
        for layer in range(LAYERS)
    ]
    nodes = [helper.make_node("MatMul", [names[layer], f"w{layer}"], [names[layer + 1]]) for layer in range(LAYERS)]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x", "y")]
    made = helper.make_model(
        helper.make_graph(nodes, "bench", ports[:1], ports[1:], weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    target = place / settings["graph"]
    onnx.save(made, target, save_as_external_data=True, location=f"{target.name}.data", size_threshold=1024)
    described = {
        key: [{"name": name, "dtype": "float32", "shape": ["batch", WIDTH]}] for key, name in (("inputs", "x"), ("outputs", "y"))
    }
    (place / "model.json").write_text(json.dumps({**settings, **described, "graph_optimization_level": 1}))


def take_out(root: Path) -> bytes:
    """Take the weights out of the package at `root`, as a build does; the weights."""
    from mlpack.targets.format.outside import PART_BYTES

    place = root / "model"
    settings = json.loads((place / "model.json").read_bytes())
    path = place / f"{settings['graph']}.data"
    data = path.read_bytes()
    path.unlink()
    row = json.loads((place / "weights.json").read_bytes())
    parts = [hashlib.sha256(data[at : at + PART_BYTES]).hexdigest() for at in range(0, len(data), PART_BYTES)]
    whole = hashlib.sha256(data).hexdigest()
    (place / "weights.json").chmod(0o644)
    (place / "weights.json").write_text(
        json.dumps({**row, "name": path.name, "digest": whole, "size_bytes": len(data), "part_bytes": PART_BYTES, "parts": parts})
    )
    return data


def started(root: Path, script: str, connections: int, *, address: str, work: Path, keep: bool = False) -> float:
    """Milliseconds from a process's start to its answer. `keep`: with the cache of the start before."""
    from mlpack.targets.boot.runtime_api import RuntimeApi

    cache = work / ("kept" if keep else "cache")
    if not keep:
        shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(exist_ok=True)
    with RuntimeApi(json.dumps(EVENT).encode(), 120) as api:
        told = {
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "MLPACK_WEIGHTS": address,
            "MLPACK_WEIGHTS_CACHE": str(cache),
            "MLPACK_WEIGHTS_CONNECTIONS": str(connections),
        }
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-I", "-S", str(root / script)], env=told, stdout=subprocess.DEVNULL)
        try:
            if not api.done.wait(120):
                raise SystemExit(f"{script} did not answer")
            spent = (time.perf_counter() - began) * 1e3
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak_mb = int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) * 1024 / 1e6
            PEAKS_MB[root.name] = max(peak_mb, PEAKS_MB.get(root.name, 0.0))
        finally:
            process.kill()
            process.wait()
        if not isinstance(api.outcome, bytes) or b"outputs" not in api.outcome:
            raise SystemExit(f"{script} failed: {api.outcome!r:.500}")
    return spent


class serving:  # noqa: N801  (a context manager)
    """A server of these bytes in a process of its own, as slow as a network; its address while the block runs."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __enter__(self) -> str:
        command = [sys.executable, __file__, "--serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(len(self._data).to_bytes(8, "little") + self._data)
        self._process.stdin.flush()
        return self._process.stdout.readline().decode().strip()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def serve() -> None:
    """Give out what came on stdin, whatever the path."""
    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    data = memoryview(sys.stdin.buffer.read(size))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
            assert asked is not None
            body = data[int(asked[1]) : int(asked[2]) + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            time.sleep(FIRST_BYTE_S)
            began = time.monotonic()
            for at in range(0, len(body), _CHUNK_BYTES):
                self.wfile.write(body[at : at + _CHUNK_BYTES])
                ahead = (at + _CHUNK_BYTES) / BYTES_S - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        raise SystemExit(main())
