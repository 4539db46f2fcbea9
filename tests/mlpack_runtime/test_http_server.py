"""Connections within numbers, times and bytes, and every form of request that is good, the last or none."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import http_forms
import pytest
from http_forms import AFTER, FORMS, Form, answers, talk

from mlpack_runtime.http_head import Request
from mlpack_runtime.http_server import Bounds, Connections, refusal
from mlpack_runtime.protocol import RequestError


class Echo:
    """Says what it was asked; keeps what it was asked."""

    def __init__(self) -> None:
        self.closing = False
        self.body_bytes = 1 << 20
        self.asked: list[tuple[str, str, bytes]] = []
        self.answered_with = b""
        self.before = lambda: None

    def vital(self, head: Request) -> bool:
        return head.path == "/live"

    def reads(self, head: Request) -> bool:
        return head.path != "/unknown"

    def answer(self, head: Request, body: bytearray, spent_s: float) -> Any:
        self.asked.append((head.method, head.path, bytes(body)))
        self.before()
        return 200, {"content-type": "application/json", "x": head.headers.get("x", "")}, self.answered_with or b'{"ok":1}'

    def refuse(self, error: RequestError, head: Request | None) -> Any:
        return refusal(error, "t")


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def open_(echo: Echo) -> Iterator[Callable[..., Connections]]:
    """Makes servers of `echo` with these bounds."""
    made: list[Connections] = []

    def start(**bounds: object) -> Connections:
        environment = {f"MLPACK_HTTP_{name.upper()}": str(value) for name, value in bounds.items()}
        made.append(Connections("127.0.0.1", 0, Bounds(environment), echo))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.stop(5)


@pytest.fixture
def server(open_: Callable[..., Connections]) -> Connections:
    return open_()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Connections, Echo]]:
    echo = Echo()
    made = Connections("127.0.0.1", 0, Bounds({}), echo)
    made.start()
    yield made, echo
    made.stop(5)


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_forms(shared: tuple[Connections, Echo], form: Form) -> None:
    server, echo = shared
    echo.asked.clear()
    found = answers(talk(server.port, form.data + AFTER))
    assert http_forms.kept(form, [status for status, _ in found]), found
    assert not [path for _, path, _ in echo.asked if path == "/inner"]
    for status, body in found:
        if status != 200:
            assert json.loads(body)["error"]["message"]
            assert len(body) < 500


def test_a_request_in_pieces_is_the_same_request(server: Connections, echo: Echo) -> None:
    for form in http_forms.GOOD:
        if len(form.data) > 400:
            continue
        asked = len(echo.asked)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(form.data)):
                client.sendall(form.data[at : at + 1])
            client.sendall(AFTER)
            client.shutdown(socket.SHUT_WR)
            got = b""
            while part := client.recv(65536):
                got += part
        assert [status for status, _ in answers(got)] == form.promised
        whole = echo.asked[asked:]
        del echo.asked[asked:]
        talk(server.port, form.data + AFTER)
        assert echo.asked[asked:] == whole
