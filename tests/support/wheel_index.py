"""A package index on loopback with wheels made for a test, which uv is told to use."""

from __future__ import annotations

import base64
import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

LICENSE = "License-Expression: MIT\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class Index:
    """The folder of an index. `add` makes a wheel and lists it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        name: str,
        version: str,
        files: Mapping[str, str] | None = None,
        *,
        needs: tuple[str, ...] = (),
        said: str = LICENSE,
        tag: str = "py3-none-any",
    ) -> str:
        """Publish a wheel; returns its sha256. `said`: further lines of its metadata."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        info = f"{name.replace('-', '_')}-{version}.dist-info"
        told = "".join(f"Requires-Dist: {each}\n" for each in needs)
        written = {
            f"{name.replace('-', '_')}.py": f"VERSION = {version!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{told}{said}",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
            **(files or {}),
        }
        rows = [f"{path},sha256={_hash(text)},{len(text)}" for path, text in written.items()]
        wheel = folder / f"{name.replace('-', '_')}-{version}-{tag}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in {**written, f"{info}/RECORD": "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"}.items():
                archive.writestr(zipfile.ZipInfo(path), text)
        self._list(folder)
        return hashlib.sha256(wheel.read_bytes()).hexdigest()

    def add_source(self, name: str, version: str) -> None:
        """Publish something that has sources only."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}-{version}.tar.gz").write_bytes(b"not looked at")
        self._list(folder)

    def _list(self, folder: Path) -> None:
        paths = sorted(path for path in folder.iterdir() if path.suffix in (".whl", ".gz"))
        links = (f'<a href="{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>' for path in paths)
        (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An empty index, until the block ends."""
    (folder / "index").mkdir(parents=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder / "index")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    settings = {"UV_DEFAULT_INDEX": f"http://127.0.0.1:{server.server_address[1]}", "UV_CACHE_DIR": str(folder / "uv")}
    for key, value in {**settings, "UV_HTTP_RETRIES": "0", "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("UV_OFFLINE", raising=False)
    yield Index(folder / "index")
    server.shutdown()
    server.server_close()
    thread.join()
