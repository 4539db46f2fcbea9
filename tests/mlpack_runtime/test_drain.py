"""Who asks for the end: Spot notices, from an instance metadata service that speaks as EC2's does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mlpack_runtime.hosting.stop import Stop, on_signals
from mlpack_runtime.queueing.drain import SpotWatch


class Metadata(ThreadingHTTPServer):
    """IMDSv2: tokens by PUT, nothing without one, 404 until there is a notice."""

    def __init__(self) -> None:
        self.notice: bytes | None = None
        self.tokens: list[str] = []
        self.asked = 0
        super().__init__(("127.0.0.1", 0), Answers)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Answers(BaseHTTPRequestHandler):
    server: Any

    def do_PUT(self) -> None:
        good = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "21600"
        self.server.tokens.append(f"token-{len(self.server.tokens)}")
        self._send(200 if good else 400, self.server.tokens[-1].encode())

    def do_GET(self) -> None:
        self.server.asked += 1
        if not self.server.tokens or self.headers["X-aws-ec2-metadata-token"] != self.server.tokens[-1]:
            self._send(401, b"")
        elif self.path != "/latest/meta-data/spot/instance-action" or self.server.notice is None:
            self._send(404, b"")
        else:
            self._send(200, self.server.notice)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_notice_asks_for_the_end(metadata: Metadata) -> None:
    stop = Stop()
    SpotWatch(stop, metadata.endpoint, pytest.fail, every_s=0.01).start()
    while metadata.asked < 3:
        assert not stop.asked
    metadata.notice = b'{"action": "terminate", "time": "2026-11-25T12:00:00Z"}'
    assert stop.wait(30)
    assert (stop.reason, stop.code) == ("Spot notice: terminate at 2026-11-25T12:00:00Z", 0)


def test_a_token_that_has_expired_is_replaced(metadata: Metadata) -> None:
    watch = SpotWatch(Stop(), metadata.endpoint, pytest.fail)
    assert watch.look() is None
    metadata.tokens.append("another")  # the first is no longer taken
    metadata.notice = b"not JSON, but a notice all the same"
    assert watch.look() == "Spot notice"
    assert metadata.tokens == ["token-0", "another", "token-2"]


def test_without_a_metadata_service_it_is_told_once() -> None:
    said: list[str] = []
    stop, twice = Stop(), threading.Event()

    class Counted(SpotWatch):
        looks = 0

        def look(self) -> str | None:
            self.looks += 1
            if self.looks > 2:
                twice.set()
            return super().look()

    Counted(stop, "http://127.0.0.1:1", said.append, every_s=0.01).start()
    assert twice.wait(30)
    stop.ask("the test is over")
    assert len(said) == 1
    assert "no Spot notices from http://127.0.0.1:1" in said[0]


def test_a_signal_within_a_signal_is_no_deadlock() -> None:
    """The handler of the second runs in the thread that is dealing with the first."""
    stop = Stop()
    on_signals(stop)
    try:
        with stop._changed:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(10)
        assert stop.reason in ("SIGTERM", "SIGINT")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_signals_ask_and_the_first_reason_stays() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop = Stop()
    on_signals(stop)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(30)
        stop.ask("the device is lost", 70)
        assert (stop.reason, stop.code) == ("SIGTERM", 70)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
