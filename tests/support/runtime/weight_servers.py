"""A server of weights that takes ranges, and can be told to break; and packages whose weights lie outside."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[int, int], tuple[int, bytes] | None]
    """First byte and size of a range, to a status and a body in the place of the right one; None: the right one."""


class WeightServer:
    """Objects by their paths, on a loopback port. `asked`: the ranges so far. `instead`: answers in the place of the right ones."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        self.asked: list[tuple[int, int]] = []
        self.instead: Answer = lambda _first, _size: None
        self.ignores_ranges = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                data = outer.objects.get(self.path.partition("?")[0])
                given = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if data is None or given is None or outer.ignores_ranges:
                    self._send(404 if data is None else 200, data or b"nothing")
                    return
                first, last = int(given[1]), int(given[2])
                outer.asked.append((first, last - first + 1))
                other = outer.instead(first, last - first + 1)
                if other is not None and other[0] == 0:  # the connection breaks in the middle
                    self.send_response(206)
                    self.send_header("Content-Length", str(last - first + 1))
                    self.end_headers()
                    self.wfile.write(other[1])
                    self.close_connection = True
                    return
                self._send(*(other or (206, data[first : last + 1])))

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Who breaks off is a test's way to ask."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def rows_of(data: bytes, part_bytes: int, name: str = "model.onnx.data", **more: Any) -> dict[str, Any]:
    """weights.json of these bytes."""
    parts = [hashlib.sha256(data[at : at + part_bytes]).hexdigest() for at in range(0, len(data), part_bytes)]
    whole = hashlib.sha256(data).hexdigest()
    row = {"schema": 1, "name": name, "digest": whole, "size_bytes": len(data), "part_bytes": part_bytes, "parts": parts}
    return {**row, "from": "http://127.0.0.1:9", "cache": [], **more}


def outside(root: Path, part_bytes: int = 16, **more: Any) -> bytes:
    """Take the weights of a package out of it, and return them."""
    import onnx

    place = root / "model"
    settings = json.loads((place / "model.json").read_bytes())
    model = onnx.load(place / settings["graph"])
    onnx.save(model, place / settings["graph"], save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    data = (place / "model.onnx.data").read_bytes()
    (place / "model.onnx.data").unlink()
    (place / "weights.json").write_text(json.dumps(rows_of(data, part_bytes, **more)))
    (place / "model.json").write_text(json.dumps({**settings, "weights": "model.onnx.data"}))
    return data
