"""What a request costs beside the engine's own run: MiniLM int8 and a text of 16 tokens, on Lambda and over HTTP.

In turns, in one process: the function's handler with an event of an HTTP API, and the engine's session with the tensors that the
same text becomes. The difference of each pair is the overhead: event, JSON, tokens, answer and log line. Over HTTP the other side
is a container that is asked over one connection that is kept, by a process of its own; there the whole round trip counts, sockets
and all. Each in three forms: the protocol's with a binary answer, the same as JSON, and a plain `{"text": ...}`, whose answer the
task makes.
Figures: at most 0.25 ms on Lambda and 0.6 ms over HTTP, p50, for the protocol's form with a binary answer.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import MINILM, ROOT, Row, parser, place, report, scratch, spread, timed, unpacked_package  # noqa: E402 - bench/ is no package
from throughput import Http  # noqa: E402

TEXT = "how do i cancel a booking that i made twice by mistake last week"
FORMS = ("binary", "JSON", "plain")
FUNCTION = """
import json, os, sys, time
told = json.loads(sys.stdin.readline())
out = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
sys.path.insert(0, told["root"])
from mlpack_runtime.handler import SERVICE, handler
class Context:
    aws_request_id = "0" * 36
    def get_remaining_time_in_millis(self):
        return 30000
feeds = SERVICE.model.tokenize([told["text"]])
tokens = next(iter(feeds.values())).shape[1]
gone = {}
for form, body in told["bodies"].items():
    event = {
        "version": "2.0", "routeKey": "$default", "rawPath": told["path"], "rawQueryString": "", "isBase64Encoded": False,
        "headers": {"content-type": "application/json", "host": "x.execute-api.eu-west-1.amazonaws.com", "user-agent": "bench",
                    "x-amzn-trace-id": "Root=1-65a0b0c0-0123456789abcdef01234567", "x-forwarded-for": "192.0.2.1"},
        "requestContext": {
            "http": {"method": "POST", "path": told["path"], "protocol": "HTTP/1.1"}, "requestId": "r", "stage": "$default"
        },
        "body": body,
    }
    pairs = []
    for at in range(told["requests"]):
        a = time.perf_counter()
        answer = handler(event, Context())
        b = time.perf_counter()
        SERVICE.model.session.run(feeds)
        c = time.perf_counter()
        assert answer["statusCode"] == 200, answer
        pairs.append((1e3 * (b - a), 1e3 * (c - b)))
    gone[form] = pairs[len(pairs) // 5:]
json.dump([tokens, gone], out)
"""
ENGINE = """
import json, sys, time
told = json.loads(sys.stdin.readline())
sys.path.insert(0, told["root"])
from mlpack_runtime import model
from mlpack_runtime.backend import open_backend
loaded = model.load(open_backend)
feeds = loaded.tokenize([told["text"]])
print(next(iter(feeds.values())).shape[1], flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    loaded.session.run(feeds)
    print(1e3 * (time.perf_counter() - began), flush=True)
"""


def main() -> int:
    """Both entrances."""
    made = parser(__doc__)
    made.add_argument("--requests", type=int, default=2000, help="requests of each form [default: 2000]")
    options = made.parse_args()
    with scratch() as work:
        here = place(options)
        for name in ("function", "container"):
            (work / name).mkdir()
        function = unpacked_package(here, MINILM, "int8@lambda-zip-*", work / "function")
        container = unpacked_package(here, ROOT / "bench/runtime/minilm.yaml", "int8@container-*", work / "container")
        tokens, on_lambda = of_the_function(here.python, function, options.requests)
        over_http = of_the_container(here.python, container, options.requests)
    rows = [
        *rows_of("Lambda", on_lambda, at_most=0.25),
        *rows_of("HTTP", over_http, at_most=0.6),
    ]
    return report(
        "runtime_overhead", rows, f"MiniLM int8, a text of {tokens} tokens, {options.requests} requests a form", options.out
    )


def rows_of(place_: str, pairs: dict[str, list[tuple[float, float]]], *, at_most: float) -> list[Row]:
    """The overhead in each form; the first is held to the figure."""
    rows = []
    for form, both in pairs.items():
        over = [whole - engine for whole, engine in both]
        value, limit = statistics.median(over), at_most if form == "binary" else None
        rows.append(Row(name=f"{place_}, {form}", value=value, unit="ms", detail=f"p50; {spread(over)}", at_most=limit))
    engine = [engine for both in pairs.values() for _, engine in both]
    rows.append(timed(f"  the engine's own run beside {place_}", engine, "ms"))
    return rows


def bodies(described: dict[str, Any]) -> dict[str, str]:
    """The request in each form."""
    text = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    binary = [{"name": described["outputs"][0]["name"], "parameters": {"binary_data": True}}]
    forms = ({"inputs": [text], "outputs": binary}, {"inputs": [text]}, {"text": TEXT})
    return dict(zip(FORMS, map(json.dumps, forms), strict=True))


def of_the_function(python: Path, root: Path, requests: int) -> tuple[int, dict[str, list[tuple[float, float]]]]:
    """The tokens, and (whole, engine) in ms for each request of each form."""
    described = json.loads((root / "model/model.json").read_bytes())
    told = {"root": str(root), "text": TEXT, "requests": requests, "bodies": bodies(described)}
    told["path"] = f"/v2/models/{described['name']}/infer"
    environment = {**os.environ, "LAMBDA_TASK_ROOT": str(root), "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}
    command = [str(python), "-I", "-S", "-c", FUNCTION]
    done = subprocess.run(command, input=json.dumps(told) + "\n", env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    tokens, pairs = json.loads(done.stdout)
    return tokens, pairs


def of_the_container(python: Path, root: Path, requests: int) -> dict[str, list[tuple[float, float]]]:
    """(round trip, engine) in ms for each request of each form, in turns; the engine in a process of its own, on the same cores."""
    described = json.loads((root / "model/model.json").read_bytes())
    cores = sorted(os.sched_getaffinity(0))[:2]
    engine = subprocess.Popen(
        [str(python), "-I", "-S", "-c", ENGINE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LAMBDA_TASK_ROOT": str(root)},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    assert engine.stdin is not None
    assert engine.stdout is not None
    print(json.dumps({"root": str(root), "text": TEXT}), file=engine.stdin, flush=True)
    engine.stdout.readline()
    pairs: dict[str, list[tuple[float, float]]] = {}
    with Http(python, root, cores) as http, socket.create_connection(("127.0.0.1", http.port)) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for form, body in bodies(described).items():
            head = f"POST /v2/models/{described['name']}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            request, both = (head + body).encode(), []
            for _ in range(requests):
                began = time.perf_counter()
                connected.sendall(request)
                answer(connected)
                whole = 1e3 * (time.perf_counter() - began)
                print("run", file=engine.stdin, flush=True)
                both.append((whole, float(engine.stdout.readline())))
            pairs[form] = both[len(both) // 5 :]
    engine.communicate()
    return pairs


def answer(connected: socket.socket) -> None:
    """Take one whole answer. SystemExit for one that is not 200."""
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += connected.recv(1 << 16)
    at = received.index(b"Content-Length: ") + 16
    length = int(received[at : received.index(b"\r\n", at)])
    while len(received) < end + 4 + length:
        received += connected.recv(1 << 16)
    if not received.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"an answer was wrong: {bytes(received[:500])!r}")


if __name__ == "__main__":
    sys.exit(main())
