"""A server on loopback that gives a booted package its weights, in ranges, as S3 would.

Will not: be as slow as a network. What a boot measures with it is everything but that.
"""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address that `MLPACK_WEIGHTS` should say while the block runs. `folder`: files that are named by their digest."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            asked, size = _RANGE.fullmatch(self.headers.get("Range", "")), sizes.get(name, 0)
            if asked is None or int(asked[1]) >= size:
                self._answer(416 if size else 404, b"")
                return
            first, last = int(asked[1]), min(int(asked[2]), size - 1)
            with (folder / name).open("rb") as file:
                file.seek(first)
                self._answer(206, file.read(last - first + 1))

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
