"""Lambda's Runtime API for tests, over HTTP: one that hands events out and keeps what is posted, and one that takes a snapshot."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from typing import Any

PREFIX = "/2018-06-01/runtime"


class RuntimeApi:
    """The Runtime API: `invoke` hands an event out and waits for what is posted for it; `posts` is everything that was posted."""

    def __init__(self) -> None:
        self.events: Queue[tuple[str, bytes, dict[str, str]]] = Queue()
        self.posts: Queue[tuple[str, bytes, dict[str, str]]] = Queue()
        self.chunked = False
        self.refuse_answers = False
        self.close_after_each = False
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                try:
                    number, body, headers = api.events.get(timeout=600)
                except Empty:
                    return
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", number)
                for name, value in headers.items():
                    self.send_header(name, value)
                if api.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    for at in range(0, len(body), 7):
                        part = body[at : at + 7]
                        self.wfile.write(f"{len(part):x};note=1\r\n".encode() + part + b"\r\n")
                    self.wfile.write(b"0\r\nTrailer: x\r\n\r\n")
                else:
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                self.close_connection = api.close_after_each  # without saying so in a header, as a proxy would

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                api.posts.put((self.path.removeprefix(PREFIX), body, {name.lower(): value for name, value in self.headers.items()}))
                refused = api.refuse_answers and self.path.endswith("/response")
                self.send_response(413 if refused else 202)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
                self.close_connection = api.close_after_each

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def invoke(self, event: object, **headers: str) -> tuple[str, Any, dict[str, str]]:
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.events.put(("r-1", body, {name.replace("_", "-"): value for name, value in headers.items()}))
        return self.posted()

    def posted(self) -> tuple[str, Any, dict[str, str]]:
        path, body, headers = self.posts.get(timeout=60)
        return path, json.loads(body), headers

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Platform:
    """The Runtime API with a snapshot: `asked` are the requests in order. There is one event for each of `instances`."""

    def __init__(self, refuse: bool = False, instances: int = 1) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.ports: list[int] = []
        self.answered = threading.Event()
        self.instances = instances
        platform = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                platform.asked.append(("GET", self.path, dict(self.headers), b""))
                platform.ports.append(self.client_address[1])
                if self.path.endswith("/invocation/next") and platform.answered.is_set():
                    self.close_connection = True
                    return
                body = b'{"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [2]}}'
                self.send_response(403 if refuse else 200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", "1")
                self.send_header("Lambda-Runtime-Deadline-Ms", "9999999999999")
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:1:function:f")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                platform.asked.append(("POST", self.path, dict(self.headers), body))
                platform.instances -= 1
                if not platform.instances:
                    platform.answered.set()
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def paths(self) -> list[str]:
        return [f"{method} {path.removeprefix(PREFIX)}" for method, path, _, _ in self.asked]
