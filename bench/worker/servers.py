"""HTTP servers that a worker could have: what each adds to a request, and which forms of requests each reads as we promise.

Each runs the same application (`http_peers.py`) in a process of its own; they take turns. Small: a JSON text in, an embedding of
384 numbers out, one connection, one request after the other; eight connections at once; and a body of 1 MB of binary tensors. The
forms are those of `tests/support/runtime/http_forms.py`: each is followed by a good request, answered only if the form was.
Peers: h11, uvicorn, httptools, granian at the versions below, installed into the benchmarks' own cache.
Figure: ours at most 1.05 times the standard library's for a small request, 1.25 times for 1 MB; every form as promised.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

from common import Row, install_wheels, number, parser, parts, ratio, report, scratch, spread  # noqa: E402 - bench/ is no package
from http_peers import SERVERS  # noqa: E402
from tests.support.runtime.http_forms import AFTER, FORMS, GOOD, Form, answers, kept, talk  # noqa: E402

PEERS = ("h11==0.16.0", "uvicorn==0.54.0", "httptools==0.9.0", "granian==2.8.9", "click==8.5.1")
TEXT = b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["The quick brown fox jumps over the lazy dog"]}]}'
HEADERS = (
    b"POST /v2/models/minilm/infer HTTP/1.1\r\nHost: worker.internal:8080\r\nUser-Agent: python-requests/2.32.5\r\n"
    b"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nX-Trace-Id: 5759e988bd862e3fe1be46a994272793\r\n"
)


def request(kind: str, body: bytes) -> bytes:
    """As a client sends it."""
    return HEADERS + f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


SMALL = request("application/json", TEXT)
LARGE = request("application/octet-stream", bytes(1 << 20))


class Server:
    """One of them, in a process of its own."""

    def __init__(self, name: str, site: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, str(Path(__file__).with_name("http_peers.py")), name, str(self.port), str(site)]
        environment = {**os.environ, "PYTHONPATH": str(site)}
        began = time.perf_counter()
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                self.client = self.connect()
                self.ask(SMALL)
                break
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - began > 60:
                    raise SystemExit(f"{name} did not start ({self.process.poll()})") from None
                time.sleep(0.005)
        self.started_ms = 1e3 * (time.perf_counter() - began)

    def connect(self) -> socket.socket:
        """A connection."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def ask(self, data: bytes) -> None:
        """One request, its answer read."""
        self.client.sendall(data)
        read(self.client)

    def median_ms(self, data: bytes, times: int) -> float:
        """One after the other, on a new connection: some servers close one that is idle for some seconds."""
        self.client.close()
        self.client = self.connect()
        self.ask(data)
        spent = []
        for _ in range(times):
            began = time.perf_counter()
            self.ask(data)
            spent.append(time.perf_counter() - began)
        return 1e3 * statistics.median(spent)

    def rate(self, connections: int, rounds: int) -> float:
        """Requests a second with that many at once."""
        clients = [self.connect() for _ in range(connections)]
        began = time.perf_counter()
        for _ in range(rounds):
            for client in clients:
                client.sendall(SMALL)
            for client in clients:
                read(client)
        spent = time.perf_counter() - began
        for client in clients:
            client.close()
        return connections * rounds / spent

    def held(self) -> dict[str, list[str]]:
        """Forms by how they were read."""
        found: dict[str, list[str]] = {"as promised": [], "lenient": [], "refused": [], "two readings": []}
        for form in FORMS:
            found[self.verdict(form)].append(form.name)
        return found

    def verdict(self, form: Form) -> str:
        """What became of one."""
        try:
            statuses = [status for status, _ in answers(talk(self.port, form.data + AFTER, 0.3))]
        except AssertionError:  # no HTTP/1 in the answer: HTTP/0.9's, or HTTP/2's
            return "lenient"
        if kept(form, statuses):
            return "as promised"
        if form in GOOD:
            return "refused"
        most = form.good + bool(form.refused) + 1  # as though it had been good, and the one behind it
        return "two readings" if len(statuses) > most or any(status >= 400 for status in statuses[:-1]) else "lenient"

    def memory_mb(self) -> float:
        """Resident, its children's too."""
        pids = [self.process.pid, *map(int, Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())]
        lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
        return sum(int(line.split()[1]) for line in lines) / 1024

    def end(self) -> None:
        """End it."""
        self.client.close()
        self.process.terminate()
        self.process.wait(20)


def read(client: socket.socket) -> None:
    """One answer with a Content-Length."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = client.recv(65536)
        if not part:
            raise ConnectionError
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    size = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < size:
        body += client.recv(65536)


def main() -> int:
    """All in turns."""
    made = parser(__doc__, runs=9)
    made.add_argument("--forms", action="store_true", help="say which forms each reads otherwise")
    options = made.parse_args()
    site = parts.cache() / f"bench-http-{'-'.join(PEERS)}"
    if not site.exists():
        with scratch(parts.cache()) as work:
            install_wheels(work / "site", PEERS, f"{sys.version_info.major}.{sys.version_info.minor}")
            (work / "site").rename(site)
    servers = {name: Server(name, site) for name in SERVERS}
    kinds = ("small", "eight", "large")
    samples: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in servers for kind in kinds}
    try:
        memory = {name: server.memory_mb() for name, server in servers.items()}
        for round_ in range(options.runs + 1):
            for name, server in servers.items():
                taken = {"small": server.median_ms(SMALL, 200), "eight": server.rate(8, 50), "large": server.median_ms(LARGE, 100)}
                if round_:  # the first fills caches
                    for kind, value in taken.items():
                        samples[name, kind].append(value)
        forms = {name: server.held() for name, server in servers.items()}
    finally:
        for server in servers.values():
            server.end()
    rows = [*rows_of(servers, samples, memory, forms)]
    if options.forms:
        print_forms(forms)
    how = f"an application without an engine, {len(FORMS)} forms; the client on the same cores"
    return report("worker_servers", rows, how, options.out)


def rows_of(servers: dict[str, Server], samples: Any, memory: dict[str, float], forms: dict[str, dict[str, list[str]]]) -> Any:
    """A row for each number of each server."""
    for name in servers:
        yield row(f"{name}: a small request", samples[name, "small"], "ms")
        yield row(f"{name}: small ones, eight at once", samples[name, "eight"], "requests/s")
        yield row(f"{name}: 1 MB", samples[name, "large"], "ms")
        yield Row(name=f"{name}: memory at the start", value=memory[name], unit="MB")
        yield Row(name=f"{name}: process to first answer", value=servers[name].started_ms, unit="ms")
        found = forms[name]
        told = ", ".join(f"{len(names)} {how}" for how, names in found.items() if names and how != "as promised")
        held = {"at_least": float(len(FORMS))} if name == "ours" else {}
        yield Row(name=f"{name}: forms as promised", value=float(len(found["as promised"])), detail=told, **held)
    stock = "http.server, mended"
    yield ratio("ours / http.server, a small request", samples["ours", "small"], samples[stock, "small"], at_most=1.05)
    yield ratio("ours / http.server, 1 MB", samples["ours", "large"], samples[stock, "large"], at_most=1.25)


def row(name: str, taken: list[float], unit: str) -> Row:
    """A median that is held to nothing."""
    return Row(name=name, value=statistics.median(taken), unit=unit, detail=spread(taken))


def print_forms(forms: dict[str, dict[str, list[str]]]) -> None:
    """Names, by server and verdict."""
    for name, found in forms.items():
        for how, names in found.items():
            if how != "as promised" and names:
                print(f"{name}: {number(len(names))} {how}: {'; '.join(names)}")


if __name__ == "__main__":
    sys.exit(main())
