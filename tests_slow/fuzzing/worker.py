"""The worker's entrance: real processes, one a package, over HTTP on loopback, several callers at once, each with a connection."""

from __future__ import annotations

import socket
import threading
from typing import Any
from urllib.parse import quote

from tests.support.runtime.workers import Process
from tests_slow.fuzzing import harness, oracle, packages, requests
from tests_slow.fuzzing.packages import SPECS, Spec

THREADS = 8
GROWTH_BYTES = 128 << 20
"""How much larger a worker may be at the end than early on: its allocator keeps up to 256 MB (`starting.tune_allocator`)."""
PEAK_BYTES = 1 << 30
"""The most that a worker may ever need beyond what it has after the first requests: eight callers send up to 5 MB each at once."""


class Watched(Process):
    """A worker each of whose lines is held against the promises as it comes, and not kept."""

    broken: str = ""
    counted = 0

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            try:
                found = oracle.line(text.rstrip("\n"), "lambda-zip")
            except (oracle.Broken, KeyError, ValueError) as error:
                self.broken = self.broken or f"a log line: {error}"
                continue
            if "batch" in found:
                self.counted += 1
            else:
                self.lines.append(found)


class Client:
    """A caller with one connection, which is opened anew when the worker has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._data = b""

    def ask(self, data: bytes, method: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body). Raises Broken for what is no HTTP, OSError where none comes."""
        for fresh in (self._socket is None, True):
            try:
                if self._socket is None:
                    self._socket, self._data = socket.create_connection(("127.0.0.1", self._port), timeout=harness.PATIENCE_S), b""
                    self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    self._socket.sendall(data)
                except ConnectionError:  # it may have refused already, and said so
                    pass
                return self._answer(method)
            except ConnectionError:
                self.close()
                if fresh:
                    raise
        raise AssertionError

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _answer(self, method: str) -> tuple[int, dict[str, str], bytes]:
        while True:
            head = self._until(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            version, status, _ = (first + " ").split(" ", 2)
            oracle.check(version == "HTTP/1.1" and status.isdigit(), "a status line", first)
            if status != "100":
                break
        pairs = [line.partition(": ")[::2] for line in lines]
        found = {name.lower(): value for name, value in pairs}
        oracle.check(len(found) == len(pairs), "a header twice", lines)
        closes = found.get("connection", "").lower() == "close"
        refused = closes and status[0] == "4"  # before anybody looked at the method: it may have a body then
        body = b"" if method == "HEAD" and not refused else self._exactly(int(found["content-length"]), cut=method == "HEAD")
        oracle.check(not self._data, "more than one answer", self._data[:500])
        if closes:
            self.close()
        return int(status), found, body

    def _until(self, end: bytes) -> bytes:
        while end not in self._data:
            self._more()
        found, _, self._data = self._data.partition(end)
        return found

    def _exactly(self, size: int, *, cut: bool) -> bytes:
        """`cut`: the connection may end before."""
        parts, left = [self._data], size - len(self._data)
        while left > 0:
            self._data = b""
            try:
                self._more()
            except ConnectionError:
                if not cut:
                    raise
                return b""
            parts.append(self._data)
            left -= len(self._data)
        whole = b"".join(parts)
        self._data = whole[size:]
        return whole[:size]

    def _more(self) -> None:
        assert self._socket is not None
        part = self._socket.recv(1 << 18)
        if not part:
            raise ConnectionError("closed without an answer")
        self._data += part


def written(request: requests.Request) -> bytes:
    """As a client writes it that knows HTTP: what no header and no path may hold is left out."""
    path = quote(request.path, safe="/?=%&:@!$'()*+,;~.-_", errors="replace")
    lines = [f"{request.method} {path if path.startswith('/') else '/' + path} HTTP/1.1", "Host: worker"]
    for name, value in request.headers.items():
        kept = "".join(letter for letter in name if letter.isascii() and (letter.isalnum() or letter in "-_"))
        clean = "".join(
            letter for letter in value if " " <= letter < "\x7f" or letter == "\t" or "\xa0" <= letter <= "\xff"
        ).strip()
        if kept and kept not in ("content-length", "transfer-encoding", "connection", "host"):
            lines.append(f"{kept}: {clean}")
    lines += [f"Content-Length: {len(request.body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + request.body


class Entrance:
    """Workers of the four packages, and a client of each for each thread."""

    def __init__(self, told: harness.Told, verb: str = "worker", **settings: object) -> None:
        self.told = told
        roots = {spec.kind: packages.make(told.work / f"worker-{spec.kind}", spec) for spec in SPECS}
        self.workers = {kind: Watched(root, entrance=verb, max_wait_ms=0, **settings) for kind, root in roots.items()}
        try:
            for one in self.workers.values():
                one.ready()
        except BaseException:
            self.end()
            raise
        self.clients = [{kind: Client(one.port) for kind, one in self.workers.items()} for _ in range(THREADS)]
        self.first: dict[tuple[str, int], Any] = {}
        self._lock = threading.Lock()
        self._asked = 0
        self.sizes: dict[str, list[int]] = {kind: [] for kind in self.workers}

    def of(self, number: int) -> tuple[Spec, requests.Request]:
        spec = SPECS[number % len(SPECS)]
        return spec, requests.draw(self.told.seed + 1, number // len(SPECS), spec)[0]

    def send(self, thread: int, number: int) -> tuple[int, str]:
        """One request, and its answer held against every promise."""
        spec, request = self.of(number)
        client, worker = self.clients[thread][spec.kind], self.workers[spec.kind]
        data = written(request)
        status, headers, body = client.ask(data, request.method)
        own = {name: value for name, value in headers.items() if name not in ("server", "date", "content-length", "connection")}
        if self._is_healths(request):
            return len(data), f"{status} health"
        value = oracle.answer(status, own, body, ALLOWED | ({500: {*packages.HOOKS_FAULTS}} if spec.hooked else {}), request.method)
        if request.correct is not None:
            oracle.check(status == 200, f"a correct request got {status}", value)
            with self._lock:
                first = self.first.setdefault((spec.kind, request.correct), oracle.plain(value))
            oracle.check(oracle.plain(value) == first, "a correct request's answer is another one than at first", value)
        broken, worker.broken = worker.broken, ""
        oracle.check(not broken, broken)
        self._measure()
        return len(data), str(status)

    @staticmethod
    def _is_healths(request: requests.Request) -> bool:
        parts = [part for part in request.path.partition("?")[0].split("/") if part]
        return parts[:2] == ["v2", "health"] and request.method in ("GET", "HEAD")

    def _measure(self) -> None:
        with self._lock:
            self._asked += 1
            if self._asked % max(1, self.told.count // 20) == 0:
                for kind, one in self.workers.items():
                    self.sizes[kind].append(harness.rss_bytes(one.process.pid))

    def describe(self, number: int) -> str:
        spec, request = self.of(number)
        return f"package {spec.kind}: {harness.shown(written(request))}"

    def bounded(self) -> str:
        """In words, what their memory did; Broken where it grew, or needed too much."""
        told = []
        for kind, one in self.workers.items():
            pid, sizes = one.process.pid, self.sizes[kind]
            peak, threads = harness.status_bytes(pid, "VmHWM"), harness.status_bytes(pid, "Threads")
            told.append(f"{kind} {[size >> 20 for size in sizes[1::6]]} MB, peak {peak >> 20} MB, {threads} threads")
            if len(sizes) > 3:
                oracle.check(sizes[-1] - sizes[2] <= GROWTH_BYTES, f"the worker {kind} grew", sizes)
                oracle.check(peak - sizes[2] <= PEAK_BYTES, f"the worker {kind} needed {peak:,} bytes at once", sizes)
            oracle.check(threads <= THREADS + 20, f"the worker {kind} has {threads} threads")
        return "; ".join(told)

    def end(self) -> None:
        """Ended as asked, with nothing on stderr."""
        for clients in getattr(self, "clients", ()):
            for client in clients.values():
                client.close()
        codes = {kind: one.end() for kind, one in self.workers.items()}
        oracle.check(set(codes.values()) == {0}, "how workers ended", codes)
        for kind, one in self.workers.items():
            oracle.check(not one.stderr, f"the worker {kind} wrote to stderr", one.stderr[:500])
            oracle.check(not one.broken, one.broken)


ALLOWED = {414: {"InvalidRequest"}, 417: {"InvalidRequest"}, 431: {"InvalidRequest"}, 503: {"Overloaded"}}
"""What the server itself refuses: long lines, many or long headers, an expectation, more than may wait at once."""


def run(told: harness.Told, name: str = "worker", verb: str = "worker") -> None:
    """As many as it is told."""
    run_, entrance = harness.Run(name, told), Entrance(told, verb)
    try:
        run_.spread(THREADS, entrance.send, entrance.describe)
        run_.tell(run_.took_s, entrance.bounded())
    finally:
        entrance.end()
