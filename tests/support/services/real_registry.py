"""Debian's docker-registry on loopback."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tools import parts

USER, PASSWORD = "ada", "hunter2"
HTPASSWD = "ada:$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n"


class Registry:
    """Debian's docker-registry, serving what is under `root`. Can be killed and started again on the same port."""

    def __init__(self, root: Path, *, private: bool = False, deletes: bool = False) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        (root / "htpasswd").write_text(HTPASSWD)
        auth = f"auth: {{htpasswd: {{realm: test, path: {root / 'htpasswd'}}}}}\n" if private else ""
        self._config = root / "config.yml"
        allowed = "delete: {enabled: true}, " if deletes else ""
        storage = f"storage: {{{allowed}filesystem: {{rootdirectory: {root / 'data'}}}}}\n"
        self._config.write_text(f"version: 0.1\nlog: {{level: error}}\n{storage}{auth}http: {{addr: '{self.host}'}}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [parts.program("docker-registry"), "serve", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=5).close()
                return
            except urllib.error.HTTPError as answered:
                answered.close()
                return
            except OSError:
                time.sleep(0.05)
        pytest.fail("docker-registry did not come up within 60 s")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
