"""Requests a second of a container over HTTP, beside those of the same engine through the same batcher without HTTP.

Both sides are the MiniLM int8 that ships as a container of two threads, and the same texts in the same order, one a request. The
engine's own side calls `Batched` from as many threads as the other side has connections: tokenising, batching and running, no HTTP,
no JSON, no log. The other side is `bootstrap.py serve`, asked by a process of its own over connections that are kept, each with one
request at a time. The load stays off the server's two cores where the machine has more; where it has two it takes its share of
them, which the row `the load's share` shows. Processor time a request says the same on a machine that others use too. Answers
are binary tensors, or with --json text.
Figure: HTTP at least 95 % of the engine's own.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from common import ROOT, Row, minilm_texts, parser, place, ratio, report, scratch, timed, unpacked_package  # noqa: E402 - bench/ is no package

CANDIDATE = "int8@container-*"
OWN = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
sys.setswitchinterval(0.0005)
from mlpack_runtime import jsontext, model, telemetry
from mlpack_runtime.backend import open_backend
from mlpack_runtime.protocol import Call
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.probe import probe
told = jsontext.loads(sys.stdin.readline())
loaded = model.load(open_backend)
layout = probe(loaded, loaded.session).layout
batcher = Batcher(loaded.session, layout, max_batch=told["max_batch"], max_wait_s=told["max_wait_ms"] / 1e3, breaker=Breaker(3, 10))
batcher.hold_to(loaded.limits)
batcher.start()
predict = Batched(loaded, batcher)
texts = told["texts"]
print("ready", flush=True)
for line in sys.stdin:
    def ask(own):
        for text in own:
            call = Call()
            call.texts = [text]
            predict(call, telemetry.Record("t", "r", cold_start=False))
    threads = [threading.Thread(target=ask, args=(texts[at :: told["callers"]],)) for at in range(told["callers"])]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(texts) / (time.perf_counter() - began), flush=True)
"""


def main() -> int:
    """Both in turns."""
    made = parser(__doc__, runs=5)
    made.add_argument("--texts", type=int, default=4096, help="requests of a run [default: 4096]")
    made.add_argument("--callers", type=int, default=32, help="connections, and threads of the other side [default: 32]")
    made.add_argument("--package", type=Path, help="an unpacked package to measure [default: it is built]")
    made.add_argument("--json", action="store_true", help="answers as JSON [default: binary tensors]")
    options = made.parse_args()
    with scratch() as work:
        rows = measured(*package(options, work), options)
    form = "JSON" if options.json else "binary"
    how = f"MiniLM int8, 2 engine threads, {options.texts} texts, one a request, {options.callers} connections, {form} answers"
    return report("runtime_throughput", rows, how, options.out)


def package(options: Any, work: Path) -> tuple[Path, Path]:
    """The package of these options or a new one, unpacked, and its Python."""
    if options.package is not None:
        return options.package, Path(sys.executable)
    here = place(options)
    return unpacked_package(here, ROOT / "bench/runtime/minilm.yaml", CANDIDATE, work), here.python


def measured(root: Path, python: Path, options: Any) -> list[Row]:
    """The rows, of runs in turns."""
    given = list(islice(cycle(minilm_texts()), options.texts))
    described = json.loads((root / "model/model.json").read_bytes())
    cores = sorted(os.sched_getaffinity(0))
    with Own(python, root, given, options.callers, described["worker"], cores[:2]) as own, Http(python, root, cores[:2]) as http:
        name = described["outputs"][0]["name"]
        load = Load(http.port, [request(text, described["name"], name, binary=not options.json) for text in given], options.callers)
        os.sched_setaffinity(0, set(cores[2:] or cores))
        rates: dict[str, list[float]] = {"own": [], "http": [], "share": [], "cpu": [], "owned": []}
        for turn in range(options.runs + 1):
            owned = cpu_s(own.pid)
            alone, owned = own.rate(), cpu_s(own.pid) - owned
            before, used = cpu_s(http.pid), time.process_time()
            seconds = load.seconds()
            if turn:  # the first fills caches
                rates["own"].append(alone)
                rates["http"].append(len(given) / seconds)
                rates["cpu"].append(1e6 * (cpu_s(http.pid) - before) / len(given))
                rates["owned"].append(1e6 * owned / len(given))
                rates["share"].append(100 * (time.process_time() - used) / seconds / min(2, len(cores)))
    return [
        timed("the engine's own", rates["own"], "requests/s"),
        timed("over HTTP", rates["http"], "requests/s"),
        ratio("over HTTP / the engine's own", rates["http"], rates["own"], at_least=0.95),
        timed("  processor time of the engine's own", rates["owned"], "us a request"),
        timed("  processor time of the container", rates["cpu"], "us a request"),
        ratio("  the engine's own / the container, by processor time", rates["owned"], rates["cpu"]),
        timed("  the load's share of two cores", rates["share"], "%"),
    ]


def request(text: str, model: str, output: str, *, binary: bool) -> bytes:
    """A request as a client sends it."""
    asked: dict[str, Any] = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    if binary:
        asked["outputs"] = [{"name": output, "parameters": {"binary_data": True}}]
    body = json.dumps(asked).encode()
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def cpu_s(pid: int) -> float:
    """Processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Own:
    """The engine through the batcher, in a process of its own."""

    def __init__(self, python: Path, root: Path, given: list[str], callers: int, worker: dict[str, Any], cores: list[int]) -> None:
        self._process = subprocess.Popen(
            [str(python), "-I", "-S", "-c", OWN, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LAMBDA_TASK_ROOT": str(root)},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        told = {"texts": given, "callers": callers, "max_batch": worker["max_batch"], "max_wait_ms": worker["max_wait_ms"]}
        self.pid = self._process.pid
        self._say(json.dumps(told))
        assert self._read() == "ready"

    def __enter__(self) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def rate(self) -> float:
        """Requests a second of one run."""
        self._say("go")
        return float(self._read())

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Http:
    """The container's process. Its log goes to a file, as a container's goes to whoever collects it."""

    def __init__(self, python: Path, root: Path, cores: list[int]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MLPACK_"))}
        self._process = subprocess.Popen(
            [str(python), "-I", "-S", str(root / "bootstrap.py"), "serve"],
            stdout=subprocess.DEVNULL,
            env={**clean, "PORT": str(self.port), "MLPACK_LAME_DUCK_S": "0"},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self.pid = self._process.pid
        self._wait_ready()

    def _wait_ready(self) -> None:
        import http.client

        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                connection.request("GET", "/v2/health/ready")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"the container was not ready within a minute; it ended with {self._process.poll()}")

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


class Load:
    """Connections that are kept, each with one request at a time, in one thread."""

    def __init__(self, port: int, requests: list[bytes], callers: int) -> None:
        self._requests = requests
        self._selector = selectors.DefaultSelector()
        for _ in range(callers):
            connected = socket.create_connection(("127.0.0.1", port))
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connected, selectors.EVENT_READ, bytearray())

    def seconds(self) -> float:
        """Send all requests, and take all answers. SystemExit for one that is not 200."""
        waiting, owed = iter(self._requests), 0
        began = time.perf_counter()
        for key in list(self._selector.get_map().values()):
            if (first := next(waiting, None)) is not None:
                key.fileobj.sendall(first)  # type: ignore[union-attr]
                owed += 1
        while owed:
            for key, _ in self._selector.select():
                received, connected = key.data, key.fileobj
                received += connected.recv(1 << 20)  # type: ignore[union-attr]
                end = received.find(b"\r\n\r\n")
                if end < 0:
                    continue
                at = received.index(b"Content-Length: ") + 16
                if len(received) < end + 4 + int(received[at : received.index(b"\r\n", at)]):
                    continue
                if not received.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"an answer was wrong: {bytes(received[:500])!r}")
                received.clear()
                owed -= 1
                if (following := next(waiting, None)) is not None:
                    connected.sendall(following)  # type: ignore[union-attr]
                    owed += 1
        return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
