"""One HTTP server with one application, in a process of its own: `http_peers.py NAME PORT`. What `servers.py` compares.

The application is a worker's without its engine: it reads a request's JSON (or takes binary bytes as they are), blocks as a thread
that waits for a batch does not need to, and answers with an embedding of 384 numbers. Each server gets what it needs to be a
worker's: threads for requests that block, connections that are kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "src"))

ANSWER = json.dumps({"outputs": [{"name": "e", "datatype": "FP32", "shape": [1, 384], "data": [0.0123456789] * 384}]}).encode()
THREADS = 64


def work(body: bytes, kind: str) -> bytes:
    """The answer."""
    if kind == "application/json":
        json.loads(bytes(body))
        return ANSWER
    return b'{"ok": 1}'


class Stock(BaseHTTPRequestHandler):
    """The standard library's, as the worker had it, with what RFC 9112 has a server refuse."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 65

    def do_GET(self) -> None:
        """Any request."""
        lengths = self.headers.get_all("content-length", [])
        wrong = self.headers.defects or len(lengths) > 1 or any(name != name.strip() for name in self.headers)
        if wrong or "transfer-encoding" in self.headers or not all(text.isascii() and text.isdigit() for text in lengths):
            self.close_connection = True
            self._answer(400, b"{}")
            return
        body = self.rfile.read(int(lengths[0]) if lengths else 0)
        self._answer(200, work(body, self.headers.get("content-type", "")))

    do_POST = do_HEAD = do_PUT = do_OPTIONS = do_GET  # noqa: N815

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def stock(port: int) -> None:
    """http.server."""
    ThreadingHTTPServer(("127.0.0.1", port), Stock).serve_forever()


def ours(port: int) -> None:
    """The worker's."""
    import threading

    from mlpack_runtime.serving.http_listener import Bounds
    from mlpack_runtime.serving.http_server import Connections, refusal

    class App:
        closing = False
        body_bytes = 256 << 20

        def vital(self, _: Any) -> bool:
            return False

        def reads(self, _: Any) -> bool:
            return True

        def answer(self, head: Any, body: bytearray, _: float) -> Any:
            return 200, {"content-type": "application/json"}, work(body, head.headers.get("content-type", ""))

        def refuse(self, error: Any, _: Any) -> Any:
            return refusal(error, "t")

    Connections("127.0.0.1", port, Bounds({}), App()).start()
    threading.Event().wait()


def h11_threads(port: int) -> None:
    """h11 as the parser, a thread a connection."""
    import socket
    import threading

    import h11

    def serve(client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(65)
        connection = h11.Connection(h11.SERVER)
        with client:
            try:
                while exchange(client, connection):
                    connection.start_next_cycle()
            except h11.RemoteProtocolError as error:
                if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    answer(client, connection, error.error_status_hint, b"{}", [("connection", "close")])
            except OSError:
                pass

    def exchange(client: socket.socket, connection: Any) -> bool:
        body, kind = bytearray(), b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                client.settimeout(65)
                connection.receive_data(client.recv(1 << 18))
            elif type(event) is h11.Request:
                kind = dict(event.headers).get(b"content-type", b"")
            elif type(event) is h11.Data:
                body += event.data
            elif type(event) is h11.EndOfMessage:
                answer(client, connection, 200, work(body, kind.decode()), [("content-type", "application/json")])
                return connection.our_state is h11.DONE and connection.their_state is h11.DONE
            else:
                return False

    def answer(client: socket.socket, connection: Any, status: int, body: bytes, headers: list[Any]) -> None:
        told = h11.Response(status_code=status, headers=[*headers, ("content-length", str(len(body)))])
        client.sendall(connection.send(told) + connection.send(h11.Data(data=body)) + connection.send(h11.EndOfMessage()))

    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


_POOL = ThreadPoolExecutor(THREADS)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """The application for asynchronous servers: what blocks is done by a thread."""
    import asyncio

    if scope["type"] != "http":
        return
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    kind = dict(scope["headers"]).get(b"content-type", b"").decode()
    made = await asyncio.get_running_loop().run_in_executor(_POOL, work, body, kind)
    told = [(b"content-type", b"application/json"), (b"content-length", str(len(made)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": told})
    await send({"type": "http.response.body", "body": made})


def wsgi(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
    """The application for servers that bring threads."""
    made = work(environ["wsgi.input"].read(), environ.get("CONTENT_TYPE", ""))
    start("200 OK", [("content-type", "application/json"), ("content-length", str(len(made)))])
    return [made]


def uvicorn(port: int, parser: str) -> None:
    """uvicorn with one of its parsers."""
    import uvicorn as server

    told: dict[str, Any] = {"loop": "asyncio", "log_level": "critical", "access_log": False, "lifespan": "off"}
    server.run(asgi, host="127.0.0.1", port=port, http=parser, **told)


def granian(port: int) -> None:
    """granian: hyper, in Rust, and threads for WSGI."""
    from granian import Granian
    from granian.constants import Interfaces

    told: dict[str, Any] = {"interface": Interfaces.WSGI, "blocking_threads": THREADS, "log_enabled": False, "websockets": False}
    Granian("http_peers:wsgi", address="127.0.0.1", port=port, working_dir=Path(__file__).parent, **told).serve()


SERVERS = {
    "http.server, mended": stock,
    "ours": ours,
    "h11 in our threads": h11_threads,
    "uvicorn, h11": lambda port: uvicorn(port, "h11"),
    "uvicorn, httptools": lambda port: uvicorn(port, "httptools"),
    "granian, WSGI": granian,
}

if __name__ == "__main__":
    sys.path.append(sys.argv[3])
    sys.setswitchinterval(0.0005)  # as the worker has it
    SERVERS[sys.argv[1]](int(sys.argv[2]))
