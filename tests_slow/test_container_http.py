"""A container's process as every platform calls it: probes, ports, rolling updates, SageMaker's contract, and those who watch it.

The process is the one that ships, started as the platform's documents say; the image itself is booted in `test_container_images`.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as plain_families
from tests.support.runtime.tiny_packages import package, words
from tests.support.runtime.workers import PATIENCE_S, Process, until

BODY = b'{"text": "the cat sat"}'
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model's package, which has no botocore."""
    told = {"max_batch": 4, "max_wait_ms": 1, "port": 8080, "concurrency": 0, "lame_duck_s": 3.0}
    tokenizer = {"file": "tokenizer.json", "max_length": 8}
    return package(tmp_path_factory.mktemp("container") / "package", words, target="container", tokenizer=tokenizer, worker=told)


@pytest.fixture
def start(root: Path) -> Iterator[Callable[..., Process]]:
    """Starts containers, and ends those that are left."""
    started: list[Process] = []

    def begin(environment: dict[str, str] | None = None, **settings: object) -> Process:
        started.append(Process(root, environment, entrance="serve", **settings))
        return started[-1]

    yield begin
    for one in started:
        one.end(signal.SIGKILL)


def ask(port: int, method: str, path: str, body: bytes | None = None, host: str = "127.0.0.1", **headers: str) -> Any:
    """(status, headers, body) of one request on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class Caller(threading.Thread):
    """Sends requests until told to stop, over connections that it keeps as long as it may; `failures`: what was no answer."""

    def __init__(self, port: int, *, keeps: bool) -> None:
        super().__init__(daemon=True)
        self._port, self._keeps = port, keeps
        self.times: list[float] = []
        self.failures: list[str] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self.stopped.is_set():
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
                connection.request("POST", INFER, BODY)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append(f"{time.monotonic()}: {answer.status}")
                self.times.append(time.monotonic())
                if not self._keeps or answer.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection = None
            time.sleep(0.005)


def test_rolling_update_refuses_and_resets_nobody(start: Callable[..., Process]) -> None:
    """Clients go on sending while SIGTERM comes, until endpoints have moved, which is before the lame duck's time ends."""
    old = start(lame_duck_s=8).ready()
    callers = [Caller(old.port, keeps=number % 2 == 0) for number in range(6)]
    for caller in callers:
        caller.start()
    until(lambda: all(len(caller.times) > 5 for caller in callers), "every caller has answers")
    signalled = time.monotonic()
    old.process.send_signal(signal.SIGTERM)
    old.process.send_signal(signal.SIGTERM)  # some init processes send it twice
    until(lambda: ask(old.port, "GET", "/v2/health/ready")[0] == 503, "readiness says so at once")
    assert ask(old.port, "GET", "/v2/health/live")[0] == 200
    moved = time.monotonic() + 1.5
    until(lambda: all(caller.times[-1] > moved for caller in callers), "every caller is answered until endpoints have moved")
    for caller in callers:
        caller.stopped.set()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert [caller.failures for caller in callers] == [[]] * 6
    assert old.process.wait(PATIENCE_S) == 0
    assert time.monotonic() - signalled > 7.9
    assert old.end() == 0
    assert old.said("ending: SIGTERM")[0]["answers_for_s"] == 8
    assert {line["status"] for line in old.answers} == {200}


def test_callers_at_the_very_end_are_answered_or_refused(start: Callable[..., Process]) -> None:
    """New connections up to the closing of the port: none is reset in the listener's queue, and none gets half an answer."""
    old = start(lame_duck_s=0.7).ready()
    callers = [Caller(old.port, keeps=False) for _ in range(4)]
    for caller in callers:
        caller.start()
    until(lambda: all(len(caller.times) > 5 for caller in callers), "every caller has answers")
    old.process.send_signal(signal.SIGTERM)
    assert old.process.wait(PATIENCE_S) == 0
    for caller in callers:
        caller.stopped.set()
        caller.join(PATIENCE_S)
    assert {failure.partition(":")[0] for caller in callers for failure in caller.failures} <= {"ConnectionRefusedError"}
    assert old.end() == 0


def test_startup_liveness_and_readiness_differ(start: Callable[..., Process]) -> None:
    one = start(lame_duck_s=600).ready()
    assert ask(one.port, "GET", "/startupz")[0] == 200
    for path in ("/v2/health/live", "/v2/health/ready", "/ping"):
        assert [ask(one.port, method, path)[0] for method in ("GET", "HEAD")] == [200, 200]
    assert ask(one.port, "HEAD", "/startupz")[2] == b""
    one.process.send_signal(signal.SIGTERM)
    until(lambda: ask(one.port, "GET", "/ping")[0] == 503, "it is not ready any more")
    assert [ask(one.port, "GET", path)[0] for path in ("/startupz", "/v2/health/live", "/v2/health/ready")] == [200, 200, 503]
    one.process.send_signal(signal.SIGINT)  # somebody at a terminal waits
    assert one.process.wait(PATIENCE_S) == 0


def test_the_packages_own_lame_duck_is_used_where_none_is_set(start: Callable[..., Process]) -> None:
    one = start(lame_duck_s="").ready()
    assert one.end() == 0
    assert one.said("ending: SIGTERM")[0]["answers_for_s"] == 3


def test_both_families_are_answered(start: Callable[..., Process]) -> None:
    one = start().ready()
    assert ask(one.port, "GET", "/v2/health/live")[0] == 200
    if socket.has_ipv6 and Path("/proc/net/if_inet6").exists() and Path("/proc/net/if_inet6").read_text():
        assert ask(one.port, "POST", INFER, BODY, host="::1")[0] == 200


def test_service_links_are_passed_over(root: Path, start: Callable[..., Process]) -> None:
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    links = {"MLPACK_SERVICE_HOST": "10.0.12.7", "MLPACK_SERVICE_PORT": "80", "MLPACK_PORT_80_TCP": "tcp://10.0.12.7:80"}
    one = start({**links, "PORT": str(port)}, port="tcp://10.0.12.7:80").ready()
    assert one.port == port
    assert ask(port, "POST", INFER, BODY)[0] == 200
    assert "enableServiceLinks" in one.said("MLPACK_PORT is")[0]["message"]
    assert one.end() == 0


def test_the_platforms_port_is_listened_on(start: Callable[..., Process]) -> None:
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    for name in ("PORT", "SAGEMAKER_BIND_TO_PORT"):
        one = start({name: str(port)}, port="").ready()
        assert one.port == port
        assert one.end() == 0
    wrong = start({"PORT": "abc"}, port="")
    assert wrong.end(0) == 2
    assert "PORT is 'abc'" in wrong.lines[-1]["message"]


def test_sagemakers_contract(root: Path) -> None:
    """As `docker run IMAGE serve`: the image's own argument is `serve` already."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MLPACK_"))}
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-I", "-S", str(root / "bootstrap.py"), "serve", "serve"]
    with subprocess.Popen(command, env={**clean, "SAGEMAKER_BIND_TO_PORT": str(port)}, stdout=subprocess.DEVNULL) as process:
        try:

            def pinged() -> bool:
                try:
                    return bool(ask(port, "GET", "/ping")[0] == 200)
                except OSError:
                    return False

            until(pinged, "ping")
            headers = {"Content_Type": "application/json", "X_Amzn_SageMaker_Custom_Attributes": "c0ffee"}
            status, answered, body = ask(port, "POST", "/invocations", BODY, **headers)
            assert (status, answered["content-type"]) == (200, "application/json")
            assert json.loads(body)["model_name"] == "tiny"
            protocol = {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["cat", "the mat"]}]}
            status, _, body = ask(port, "POST", "/invocations", json.dumps(protocol).encode())
            assert (status, json.loads(body)["outputs"][0]["shape"]) == (200, [2, 5])
            status, _, body = ask(port, "POST", "/invocations", b"not JSON")
            assert status == 400
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


def test_prometheus_own_parser_reads_the_metrics(start: Callable[..., Process]) -> None:
    one = start().ready()
    for body in (BODY, BODY, b'{"text": 1}'):
        ask(one.port, "POST", "/", body)
    status, headers, document = ask(one.port, "GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    plain = {family.name: family for family in plain_families(document.decode())}
    status, headers, document = ask(one.port, "GET", "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    opened = {family.name: family for family in open_families(document.decode())}
    assert plain.keys() == opened.keys()
    for families in (plain, opened):
        counted = {sample.labels["status"]: sample.value for sample in families["mlpack_requests"].samples}
        assert counted == {"200": 2, "400": 1}
        latency = families["mlpack_latency_seconds"]
        assert latency.type == "histogram"
        assert next(sample.value for sample in latency.samples if sample.name.endswith("_count")) == 3
        assert {sample.labels["stage"] for sample in families["mlpack_stage_seconds"].samples} >= {"tokenize", "wait", "infer"}
        assert [sample.value for sample in families["mlpack_ready"].samples] == [1]
        assert families["mlpack_ready"].samples[0].labels == {
            "model": "tiny", "version": "3", "variant": "fp32", "target": "container",
        }  # fmt: skip


def test_metrics_have_a_port_of_their_own_where_it_is_said(start: Callable[..., Process]) -> None:
    with socket.create_server(("", 0)) as free:
        side = free.getsockname()[1]
    one = start(metrics_port=side).ready()
    assert ask(one.port, "GET", "/metrics")[0] == 404
    assert ask(side, "GET", "/metrics")[0] == 200
    assert ask(side, "GET", "/v2/health/ready")[0] == 200
    assert ask(side, "POST", INFER, BODY)[0] == 404
    assert one.end() == 0


def test_answers_are_compressed_for_who_reads_that(start: Callable[..., Process]) -> None:
    one = start(http_gzip_bytes=100).ready()
    body = json.dumps({"texts": ["the cat sat"] * 50}).encode()
    _, headers, plain = ask(one.port, "POST", "/", body, X_Trace_Id="t")
    assert headers["content-encoding"] is None
    _, headers, packed = ask(one.port, "POST", "/", body, X_Trace_Id="t", Accept_Encoding="gzip")
    assert (headers["content-encoding"], headers["vary"]) == ("gzip", "accept-encoding")
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 3


UNTIL_GO = "import os, time\ndef wait(path):\n    while path and not os.path.exists(path):\n        time.sleep(0.01)\n"
"""A hook that works until a file is there."""


def test_more_than_its_concurrency_is_429_and_says_when_again(tmp_path: Path) -> None:
    from tests.support.runtime.tiny_packages import affine

    made = package(tmp_path / "slow", affine, target="container", preprocess="slow_hook:read", worker={"concurrency": 2, "port": 0})
    (made / "app/slow_hook.py").write_text(UNTIL_GO + "def read(body):\n    wait(body['go'])\n    return {'x': body['x']}\n")
    go = tmp_path / "go"
    one = Process(made, entrance="serve").ready()
    try:
        answers: list[Any] = []
        body = json.dumps({"x": [[1.0, 2.0, 3.0, 4.0]], "go": str(go)}).encode()
        callers = [threading.Thread(target=lambda: answers.append(ask(one.port, "POST", "/", body))) for _ in range(6)]
        for caller in callers:
            caller.start()
        until(lambda: b"mlpack_requests_in_flight" in (text := ask(one.port, "GET", "/metrics")[2])
              and re.search(rb"mlpack_requests_in_flight\{[^}]*\} 2\n", text), "two are at work, and are counted")  # fmt: skip
        assert ask(one.port, "GET", "/v2/health/ready")[0] == 200
        until(lambda: len(answers) == 4, "the others are refused")
        go.touch()
        for caller in callers:
            caller.join()
        refused = [answer for answer in answers if answer[0] == 429]
        assert len(refused) == 4
        assert {answer[1]["retry-after"] for answer in refused} == {"1"}
        assert {json.loads(answer[2])["error_type"] for answer in refused} == {"TooManyRequests"}
        assert b'status="429"} 4\n' in ask(one.port, "GET", "/metrics")[2]
    finally:
        assert one.end() == 0


def test_a_connection_is_kept_longer_than_balancers_keep_it(start: Callable[..., Process]) -> None:
    """Google's balancers keep a connection for 600 s, ALB for 60: the setting says 620, and a shorter one is what is waited for."""
    from mlpack_runtime.serving.http_listener import Bounds

    assert Bounds({}).idle_s == 620
    one = start(http_idle_s=0.5).ready()
    with socket.create_connection(("127.0.0.1", one.port), timeout=PATIENCE_S) as kept:
        began = time.monotonic()
        kept.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        assert kept.recv(1) == b""
        assert time.monotonic() - began > 0.4


def test_http_1_0_pipelines_and_half_closed_ones_are_answered(start: Callable[..., Process]) -> None:
    one = start().ready()

    def sent(data: bytes, *, close: bool = False) -> bytes:
        with socket.create_connection(("127.0.0.1", one.port), timeout=PATIENCE_S) as client:
            client.sendall(data)
            if close:
                client.shutdown(socket.SHUT_WR)
            received = b""
            while part := client.recv(65536):
                received += part
            return received

    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    assert sent(b"GET /v2/health/ready HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert sent(post.replace(b"HTTP/1.1", b"HTTP/1.0")).count(b"HTTP/1.1 200") == 1
    assert sent(post * 20, close=True).count(b"HTTP/1.1 200") == 20
    last = post.replace(b"Host: x", b"Host: x\r\nConnection: close")
    assert sent(post * 3 + last + post).count(b"HTTP/1.1 200") == 4


def test_a_thousand_idle_connections_keep_nobody_out(start: Callable[..., Process]) -> None:
    one = start().ready()
    idle: list[socket.socket] = []
    try:
        idle += [socket.create_connection(("127.0.0.1", one.port), timeout=PATIENCE_S) for _ in range(1000)]
        assert ask(one.port, "POST", INFER, BODY)[0] == 200
        assert ask(one.port, "GET", "/v2/health/ready")[0] == 200
        (line,) = [line for line in ask(one.port, "GET", "/metrics")[2].splitlines() if line.startswith(b"mlpack_connections{")]
        assert float(line.split()[-1]) <= 264
    finally:
        for each in idle:
            each.close()
    assert one.end() == 0


def test_deadline_holds_while_a_request_waits_for_the_engine(tmp_path: Path) -> None:
    """It waits for company that is on its way: a request whose hook takes its time."""
    told = {"target": "container", "tokenizer": {"file": "tokenizer.json", "max_length": 8}, "worker": {"max_batch": 4, "port": 0}}
    made = package(tmp_path / "slow", words, preprocess="late_hook:read", **told)
    (made / "app/late_hook.py").write_text(UNTIL_GO + "def read(body):\n    wait(body['go'])\n    return {'text': body['text']}\n")
    one = Process(made, entrance="serve", max_wait_ms=5000).ready()
    go = tmp_path / "go"
    quick, late = (json.dumps({"go": path, "text": "the cat sat"}).encode() for path in ("", str(go)))
    answers: list[int] = []
    other = threading.Thread(target=lambda: answers.append(ask(one.port, "POST", "/", late)[0]))
    try:
        assert ask(one.port, "POST", "/", quick, X_Deadline_Ms="60000")[0] == 200  # alone, it waits for nobody
        other.start()
        until(lambda: re.search(rb"mlpack_requests_in_flight\{[^}]*\} 1\n", ask(one.port, "GET", "/metrics")[2]), "one is at work")
        status, _, body = ask(one.port, "POST", "/", quick, X_Deadline_Ms="100")
        assert (status, json.loads(body)["error_type"]) == (504, "DeadlineExceeded")
        go.touch()
        other.join()
        assert answers == [200]
    finally:
        assert one.end() == 0


def test_sigterm_while_loading_ends_at_once(tmp_path: Path, root: Path) -> None:
    """The engine is opened by one long call: here by a module that takes its time, in its place."""
    slow = tmp_path / "slow"
    shutil.copytree(root, slow, symlinks=True)
    module, begun = slow / "mlpack_runtime/model.py", tmp_path / "begun"
    load = f"def load(*_):\n    import time\n    open({str(begun)!r}, 'w').close()\n    time.sleep(600)\n"
    module.write_text(f"{module.read_text()}\n\n{load}")
    shutil.rmtree(slow / "mlpack_runtime/__pycache__")
    one = Process(slow, entrance="serve", port=0)
    until(begun.exists, "it loads")
    assert one.process.poll() is None
    assert one.end() == 0  # long before it would be loaded
    assert one.said("ended")[0]["reason"] == "SIGTERM"
