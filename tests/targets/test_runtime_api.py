"""The stub of the Runtime API, spoken to over real HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading

import pytest

from mlpack.targets.boot.runtime_api import RuntimeApi, RuntimeFailure

API = "/2018-06-01/runtime"


def ask(address: str, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_event_is_given_once_and_the_answer_kept() -> None:
    with RuntimeApi(b'{"a": 1}', 5) as api:
        status, headers, body = ask(api.address, "GET", f"{API}/invocation/next")
        assert (status, json.loads(body)) == (200, {"a": 1})
        assert int(headers["lambda-runtime-deadline-ms"]) > 0
        assert api.ready_at > 0
        request_id = headers["lambda-runtime-aws-request-id"]
        assert ask(api.address, "POST", f"{API}/invocation/{request_id}/response", b'{"b": 2}')[0] == 202
        assert api.done.wait(60)
        assert api.outcome == b'{"b": 2}'


@pytest.mark.parametrize(("path", "stage"), [("/init/error", "initialisation"), ("/invocation/{}/error", "invocation")])
def test_reported_error_is_the_outcome(path: str, stage: str) -> None:
    with RuntimeApi(b"{}", 5) as api:
        request_id = ask(api.address, "GET", f"{API}/invocation/next")[1]["lambda-runtime-aws-request-id"]
        ask(api.address, "POST", API + path.format(request_id), b'{"errorType": "E", "errorMessage": "m"}')
        assert api.done.wait(60)
        assert api.outcome == RuntimeFailure(stage=stage, kind="E", message="m")


def test_runtime_ended_while_it_waits_leaves_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with RuntimeApi(b"{}", 5) as api:
        host, _, port = api.address.partition(":")
        line = socket.create_connection((host, int(port)), timeout=60)
        line.sendall(f"GET {API}/nothing HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert line.recv(1 << 16)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # as the kernel does for a killed process
        line.close()
        assert ask(api.address, "GET", f"{API}/nothing")[0] == 404
    assert capsys.readouterr().err == ""


def test_close_frees_the_port_while_a_runtime_waits_for_more() -> None:
    api = RuntimeApi(b"{}", 5)
    ask(api.address, "GET", f"{API}/invocation/next")
    host, _, port = api.address.partition(":")
    waiting = socket.create_connection((host, int(port)))
    waiting.sendall(f"GET {API}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    closer = threading.Thread(target=api.close)
    closer.start()
    closer.join(60)
    assert not closer.is_alive()
    waiting.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((host, int(port)))


def test_unknown_paths_are_not_found() -> None:
    with RuntimeApi(b"{}", 5) as api:
        assert ask(api.address, "GET", "/")[0] == 404
        assert ask(api.address, "POST", f"{API}/invocation/other/response", b"{}")[0] == 404
        assert not api.done.is_set()
