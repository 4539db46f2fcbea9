"""Packages under AWS's own runtime interface emulator: the real Runtime API, with our loop and with the stock client."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.tiny_packages import affine, package, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INVOKE = "/2015-03-31/functions/function/invocations"
STOCK_CLIENT = "awslambdaric==4.2.2"
EVENT = {"inputs": {"pixels": [[1, 1, 1, 1]], "marks": [2]}}


class Booted:
    """A function under the emulator."""

    def __init__(self, process: subprocess.Popen[str], port: int, output: Path) -> None:
        self._process = process
        self._port = port
        self._output = output

    def invoke(self, event: object) -> Any:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
            connection.request("POST", INVOKE, json.dumps(event))
            return json.loads(connection.getresponse().read())

    def log(self) -> str:
        """Everything it wrote, after ending it."""
        self._process.terminate()
        self._process.wait(timeout=60)
        return self._output.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def boot(rie: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Booted]]:
    started: list[subprocess.Popen[str]] = []

    def start(*command: str, **env: str) -> Booted:
        port, api_port = free_port(), free_port()
        addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{api_port}"]
        output = tmp_path_factory.mktemp("function") / "log"  # a pipe that nobody reads would fill up, and stop it
        with output.open("w") as file:
            process = subprocess.Popen(
                [rie, *addresses, *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                cwd="/",
                env={"PATH": os.environ["PATH"], "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", **env},
            )
        started.append(process)
        for _ in range(6000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return Booted(process, port, output)
            time.sleep(0.01)
        pytest.fail("the emulator did not open its port in 60 seconds")

    yield start
    for process in started:
        process.kill()
        process.wait()


def lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith('{"timestamp"')]


def test_our_loop_serves_under_the_emulator(boot: Callable[..., Booted], tmp_path: Path) -> None:
    root = package(tmp_path / "tiny", affine)
    function = boot(sys.executable, "-I", "-S", str(root / "bootstrap.py"))
    for _ in range(3):
        assert function.invoke(EVENT)["outputs"][1]["data"] == [2]
    gateway = {
        "version": "2.0",
        "rawPath": "/v2/models/tiny/infer",
        "headers": {"x-trace-id": "edge-1"},
        "requestContext": {"http": {"method": "POST"}},
        "body": json.dumps(EVENT),
    }
    answer = function.invoke(gateway)
    assert (answer["statusCode"], answer["headers"]["x-trace-id"]) == (200, "edge-1")
    assert function.invoke({"nonsense": 1})["error_type"] == "InvalidRequest"
    first, *_, gateway_line, refused = lines(function.log())
    assert (first["cold_start"], gateway_line["cold_start"]) == (True, False)
    assert (gateway_line["trace_id"], refused["status"]) == ("edge-1", 400)
    assert len(first["request_id"]) == 36


def test_our_loop_serves_texts_of_megabytes_under_the_emulator(boot: Callable[..., Booted], tmp_path: Path) -> None:
    root = package(tmp_path / "texts", words, tokenizer={"file": "tokenizer.json", "max_length": 6})
    function = boot(sys.executable, "-I", "-S", str(root / "bootstrap.py"))
    texts = ["the cat sat on the mat " * 20] * 10_000
    assert function.invoke({"texts": texts})["outputs"][0]["shape"] == [10_000, 5]


def test_package_that_cannot_load_fails_its_init_under_emulator(boot: Callable[..., Booted], tmp_path: Path) -> None:
    root = package(tmp_path / "broken", affine)
    (root / "model/model.onnx").write_bytes(b"damaged")
    function = boot(sys.executable, "-I", "-S", str(root / "bootstrap.py"))
    answer = function.invoke(EVENT)
    assert answer["errorType"] == "OrtError"
    assert "OrtError" in function.log()


def test_stock_client_serves_the_same_package(boot: Callable[..., Booted], tmp_path: Path) -> None:
    client = tmp_path / "client"
    install = ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(client), STOCK_CLIENT]
    subprocess.run([sys.executable, "-m", *install], check=True)
    root = package(tmp_path / "tiny", affine)
    env = {"PYTHONPATH": f"{root}:{client}", "LAMBDA_TASK_ROOT": str(root)}
    function = boot(sys.executable, "-m", "awslambdaric", "mlpack_runtime.handler.handler", **env)
    assert function.invoke(EVENT)["outputs"][1]["data"] == [2]
    assert function.invoke({"warmup": True})["warm"] is True
    (line,) = lines(function.log())
    assert line["status"] == 200
