"""Two packages behind every entrance that a client can come by: the same requests, and so the same answers.

`ENTRANCES` is the table: a server more is a row more.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.runtime.tiny_packages import affine, package, words
from tests.support.runtime.workers import Process, add_botocore
from tests.support.serving.gateway import FORMS, Gateway

Entrance = Callable[[Path, Path], AbstractContextManager[int]]
"""Of a package (and the runtime interface emulator) the port of HTTP in front of it, for as long as it is open."""

PACKAGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "numbers": (affine, {}),
    "texts": (words, {"tokenizer": {"file": "tokenizer.json", "max_length": 6, "pairs": True}}),
}
_INVOKE = "/2015-03-31/functions/function/invocations"


def make(name: str, root: Path) -> Path:
    """One of `PACKAGES`: model `tiny`, version 3. A worker's package serves as a function's and as a container's, too."""
    graph, settings = PACKAGES[name]
    return add_botocore(package(root, graph, target="cpu-worker", worker={"max_batch": 4}, **settings))


@contextmanager
def process_of(entrance: str, root: Path, _: Path) -> Iterator[int]:
    """A process that stays: a worker's, or a container's."""
    process = Process(root, entrance=entrance).ready()
    try:
        yield process.port
    finally:
        process.end()


@contextmanager
def function(form: str, root: Path, rie: Path, more: Mapping[str, str] | None = None) -> Iterator[int]:
    """A function under the emulator, behind a gateway. `more`: of its environment."""
    port, api_port = _free_port(), _free_port()
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{api_port}"]
    environment = {"PATH": os.environ["PATH"], "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", **(more or {})}
    command = [rie, *addresses, sys.executable, "-I", "-S", str(root / "bootstrap.py")]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd="/", env=environment, **silent)
    try:
        _wait(port, process)
        gateway = Gateway(form, partial(_invoke, port))
        try:
            yield gateway.port
        finally:
            gateway.close()
    finally:
        process.terminate()
        process.wait(60)


ENTRANCES: dict[str, Entrance] = {
    "worker": partial(process_of, "worker"),
    "container": partial(process_of, "serve"),
    **{form: partial(function, form) for form in FORMS},
}


def _invoke(port: int, event: dict[str, Any]) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", _INVOKE, json.dumps(event))
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(6000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the emulator ended"
        time.sleep(0.01)
    raise AssertionError("the emulator did not open its port in 60 seconds")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
