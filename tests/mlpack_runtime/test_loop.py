"""Our Runtime API client against a small server of that API, with the package in an interpreter of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.runtime_apis import RuntimeApi
from tests.support.runtime.tiny_packages import affine, package, wide_identity

from mlpack_runtime import loop
from mlpack_runtime.loop import Connection, RuntimeApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    made = RuntimeApi()
    yield made
    made.close()


@pytest.fixture
def boot(api: RuntimeApi) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(root: Path) -> subprocess.Popen[str]:
        env = {**os.environ, "AWS_LAMBDA_RUNTIME_API": api.address, "AWS_LAMBDA_FUNCTION_NAME": "f"}
        command = [sys.executable, "-I", "-S", str(root / "bootstrap.py")]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


EVENT = {"inputs": {"pixels": [[1, 1, 1, 1]], "marks": [2]}}


def test_loop_serves_events_one_after_the_other(api: RuntimeApi, tiny: Path, boot: Callable[..., Any]) -> None:
    process = boot(tiny)
    for _ in range(3):
        path, answer, _ = api.invoke(EVENT, Lambda_Runtime_Trace_Id="Root=1-2-3;Sampled=1")
        assert path == "/invocation/r-1/response"
        assert answer["outputs"][1]["data"] == [2]
    path, answer, _ = api.invoke({"nonsense": 1})
    assert (path, answer["error_type"]) == ("/invocation/r-1/response", "InvalidRequest")
    assert answer["trace_id"] != "1-2-3"  # the trace id of one invocation must not leak into the next
    assert json.loads(process.stdout.readline())["trace_id"] == "1-2-3"


@pytest.mark.parametrize("close_after_each", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
def test_loop_survives_chunks_and_closed_connections(
    api: RuntimeApi, tiny: Path, boot: Callable[..., Any], chunked: bool, close_after_each: bool
) -> None:
    api.chunked, api.close_after_each = chunked, close_after_each
    boot(tiny)
    for _ in range(3):
        assert api.invoke(EVENT)[1]["outputs"][1]["data"] == [2]


def test_loop_event_that_is_not_json_is_that_invocations_error(api: RuntimeApi, tiny: Path, boot: Callable[..., Any]) -> None:
    boot(tiny)
    path, error, headers = api.invoke(b"{")
    assert path == "/invocation/r-1/error"
    assert error["errorType"] == "JSONDecodeError"
    assert error["stackTrace"]
    assert headers["lambda-runtime-function-error-type"] == "Runtime.JSONDecodeError"
    assert api.invoke(EVENT)[0] == "/invocation/r-1/response"


def test_loop_answer_that_the_platform_refuses_is_reported(api: RuntimeApi, tiny: Path, boot: Callable[..., Any]) -> None:
    api.refuse_answers = True
    boot(tiny)
    api.invoke(EVENT)
    path, error, _ = api.posted()
    assert path == "/invocation/r-1/error"
    assert "refused with 413" in error["errorMessage"]


@pytest.mark.slow
def test_loop_bodies_of_megabytes_pass_both_ways(api: RuntimeApi, tmp_path: Path, boot: Callable[..., Any]) -> None:
    boot(package(tmp_path / "wide", wide_identity))
    rows = 700_000  # "0.25," five characters each, both ways
    path, answer, _ = api.invoke({"inputs": {"x": [0.25] * rows}})
    assert path == "/invocation/r-1/response"
    assert answer["outputs"][0]["data"] == [0.25] * rows


def test_loop_package_that_cannot_load_reports_and_ends(api: RuntimeApi, tmp_path: Path, boot: Callable[..., Any]) -> None:
    root = package(tmp_path / "broken", affine)
    (root / "model/model.onnx").write_bytes(b"damaged")
    process = boot(root)
    path, error, headers = api.posted()
    assert (path, error["errorType"]) == ("/init/error", "OrtError")
    assert headers["lambda-runtime-function-error-type"] == "Runtime.OrtError"
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "OrtError" in stderr


def test_loop_without_a_runtime_api_says_what_this_is(tiny: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "AWS_LAMBDA_RUNTIME_API"}
    run = subprocess.run(
        [sys.executable, "-I", "-S", str(tiny / "bootstrap.py")], capture_output=True, text=True, check=False, env=env
    )
    assert run.returncode == 1
    assert "AWS_LAMBDA_RUNTIME_API is not set" in run.stderr


def test_loop_runtime_api_that_is_not_there_ends_with_a_message(tiny: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = {**os.environ, "AWS_LAMBDA_RUNTIME_API": address}
    run = subprocess.run(
        [sys.executable, "-I", "-S", str(tiny / "bootstrap.py")], capture_output=True, text=True, check=False, env=env
    )
    assert run.returncode == 1
    assert f"the Runtime API at {address} failed" in run.stderr


def answering(raw: bytes, pause: bool = False) -> tuple[Connection, threading.Thread]:
    """A connection to a peer that answers any request with these bytes, then closes."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def serve() -> None:
        with server, server.accept()[0] as peer:
            peer.recv(65536)
            for at in range(0, len(raw), 1 if pause else len(raw) or 1):
                peer.sendall(raw[at : at + (1 if pause else len(raw))])

    thread = threading.Thread(target=serve)
    thread.start()
    return Connection(f"127.0.0.1:{port}"), thread


def test_connection_short_reads_are_put_together() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-One: a:b\r\n\r\nhello"
    connection, thread = answering(raw, pause=True)
    assert connection.request("GET", "/x") == (200, {"content-length": "5", "x-one": "a:b"}, b"hello")
    connection.close()
    thread.join()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: lots\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"x" * 300_000,
    ],
)
def test_connection_peer_that_speaks_no_http_is_an_error(raw: bytes) -> None:
    connection, thread = answering(raw)
    with pytest.raises((RuntimeApiError, OSError)):
        connection.request("GET", "/x")
    connection.close()
    thread.join()


def test_connection_unused_after_a_close_is_opened_again(api: RuntimeApi) -> None:
    api.close_after_each = True
    connection = Connection(api.address)
    for number in range(3):
        assert connection.request("POST", f"/{number}", b"{}")[0] == 202
    connection.close()


def test_context_tells_what_the_stock_client_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
    headers = {
        "lambda-runtime-aws-request-id": "r",
        "lambda-runtime-deadline-ms": "99999999999999",
        "lambda-runtime-client-context": '{"a": 1}',
        "lambda-runtime-cognito-identity": "{",
    }
    context = loop.Context(headers)
    assert (context.aws_request_id, context.function_name, context.memory_limit_in_mb) == ("r", "f", "1769")
    assert (context.client_context, context.identity) == ({"a": 1}, None)
    assert context.get_remaining_time_in_millis() > 0
    assert loop.Context({}).get_remaining_time_in_millis() == 0
