"""A server on loopback that gives a booted package its weights, in ranges, as S3 would.

Will not: be as slow as a network. What a boot measures with it is everything but that.
"""

from __future__ import annotations

import http.server
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """The address that `MLPACK_WEIGHTS` should say while the block runs. `path`: a file named by its digest."""
    with path.open("rb") as file:
        descriptor, size, name = file.fileno(), path.stat().st_size, path.name

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = _RANGE.fullmatch(self.headers.get("Range", ""))
                if self.path != f"/{name}" or asked is None or int(asked[1]) >= size:
                    self._answer(404 if self.path != f"/{name}" else 416, b"")
                    return
                first, last = int(asked[1]), min(int(asked[2]), size - 1)
                self._answer(206, os.pread(descriptor, last - first + 1, first))

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's own name)
                """Nothing: the log of a boot is the package's."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Nothing: a package that is ended breaks its connections off."""

        with Server(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()
