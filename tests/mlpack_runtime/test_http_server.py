"""Connections within numbers, times and bytes, and every form of request that is good, the last or none."""

from __future__ import annotations

import json
import mmap
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.runtime import http_forms
from tests.support.runtime.http_forms import AFTER, FORMS, GET, Form, answers, post, talk
from tests.support.runtime.workers import until

from mlpack_runtime.door.sending import Worker
from mlpack_runtime.limits import SettingsError
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.serving import http_server
from mlpack_runtime.serving.http_head import Request
from mlpack_runtime.serving.http_listener import Bounds
from mlpack_runtime.serving.http_server import RESERVE, Connections, refusal
from mlpack_runtime.serving.http_wire import Body

LIVE = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


class Echo:
    """Says what it was asked; keeps what it was asked."""

    def __init__(self) -> None:
        self.closing = False
        self.body_bytes = 1 << 20
        self.asked: list[tuple[str, str, bytes]] = []
        self.answered_with = b""
        self.before: Callable[[], object] = lambda: None

    def vital(self, head: Request) -> bool:
        return head.path == "/live"

    def reads(self, head: Request) -> bool:
        return head.path != "/unknown"

    def answer(self, head: Request, body: Any, spent_s: float) -> Any:
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
            assert json.loads(body)["error"]
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


def joined(forms: list[Form]) -> tuple[bytes, list[Any], bool]:
    """What is sent, what is promised for it, and whether the connection is closed behind it."""
    data, promised = b"", []
    for form in forms:
        data += form.data
        promised += form.promised if form.last or form.refused else form.promised[:-1]
        if form.last or form.refused:
            return data, promised, True
    return data, promised, False


SHORT = [form for form in FORMS if len(form.data) < 10_000]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(SHORT), max_size=8))
def test_forms_in_any_row_are_answered_in_order_to_a_refusal(shared: tuple[Connections, Echo], forms: list[Form]) -> None:
    server, echo = shared
    echo.asked.clear()
    data, promised, _ = joined(forms)
    statuses = [status for status, _ in answers(talk(server.port, data))]
    assert len(statuses) == len(promised)
    assert all(
        status in wanted if isinstance(wanted, tuple) else status == wanted
        for status, wanted in zip(statuses, promised, strict=True)
    )
    assert len(echo.asked) == statuses.count(200)


EDITS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.binary(max_size=4)), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(SHORT), max_size=3), EDITS, st.binary(max_size=40))
def test_any_bytes_have_whole_answers_and_none_behind_a_refusal(
    shared: tuple[Connections, Echo], forms: list[Form], edits: list[tuple[int, int, bytes]], more: bytes
) -> None:
    server, echo = shared
    echo.asked.clear()
    data = bytearray(b"".join(form.data for form in forms) + more)
    for at, size, new in edits:
        data[at : at + size] = new
    statuses = [status for status, _ in answers(talk(server.port, bytes(data)))]
    assert all(status == 200 for status in statuses[:-1])
    assert len(echo.asked) == statuses.count(200)
    assert server.held == 0


def opened(server: Connections, data: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    client.sendall(data)
    return client


def rest(client: socket.socket) -> bytes:
    """Everything until the server closes."""
    got = b""
    with client:
        try:
            while part := client.recv(65536):
                got += part
        except ConnectionError:
            pass
    return got


def one(client: socket.socket) -> int:
    """The status of one small answer."""
    got = client.recv(65536)
    while b"\r\n\r\n" not in got:
        got += client.recv(65536)
    return int(got.split()[1])


@pytest.mark.parametrize(
    ("data", "bounds", "named"),
    [
        (b"P", {"head_s": 0.05}, "MLPACK_HTTP_HEAD_S"),
        (GET + b"X: ", {"head_s": 0.05}, "MLPACK_HTTP_HEAD_S"),
        (post(b"Content-Length: 9", b"a"), {"body_s": 0.05}, "MLPACK_HTTP_BODY_S"),
        (post(b"Content-Length: 1000", b"a" * 900), {"body_s": 0.05, "rate": 1e6}, "MLPACK_HTTP_RATE"),
        (post(b"Transfer-Encoding: chunked", b"5\r\nhel"), {"body_s": 0.05}, "MLPACK_HTTP_BODY_S"),
        (post(b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n"), {"body_s": 0.05}, "MLPACK_HTTP_BODY_S"),
    ],
)
def test_what_does_not_come_in_its_time_is_408(open_: Callable[..., Connections], data: bytes, bounds: Any, named: str) -> None:
    server = open_(**bounds)
    ((status, body),) = answers(rest(opened(server, data)))
    assert (status, json.loads(body)["error_type"]) == (408, "RequestTimeout")
    assert named in body.decode()


def test_what_is_idle_is_closed_without_a_word(open_: Callable[..., Connections]) -> None:
    server = open_(idle_s=0.05)
    assert rest(opened(server)) == b""
    assert [status for status, _ in answers(rest(opened(server, GET + b"\r\n")))] == [200]


def test_an_answer_that_nobody_reads_ends_its_connection(open_: Callable[..., Connections], echo: Echo) -> None:
    echo.answered_with = bytes(32 << 20)
    echo.body_bytes = 64 << 20
    server = open_(body_s=0.1, rate=1e12)
    with opened(server, GET + b"\r\n"):
        until(lambda: echo.asked, "the request is here")
        until(lambda: server.count == 0, "it is closed", 10)
    assert server.held == 0


def test_the_one_that_waited_longest_makes_room(open_: Callable[..., Connections]) -> None:
    server = open_(connections=3)
    first, second, third = opened(server), opened(server, b"POST"), opened(server)
    until(lambda: server.count == 3, "three connections")
    second.sendall(b" /echo HTTP/1.1\r\nHost: x\r\n\r\n")
    assert one(second) == 200
    fourth = opened(server, GET + b"\r\n")
    assert one(fourth) == 200
    assert rest(first) == b""
    third.sendall(GET + b"\r\n")
    assert one(third) == 200
    assert server.count == 3
    for client in (second, third, fourth):
        client.close()


def test_a_slow_body_makes_room_when_nobody_waits_for_a_head(
    open_: Callable[..., Connections], echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = open_(connections=2)
    slow: list[socket.socket] = []
    for _ in range(2):  # in turn: the first to make room is the one whose thread began to wait first
        slow.append(opened(server, post(b"Content-Length: 9", b"a")))
        until(lambda: sum(bool(one.waits and one.waits[0]) for one in list(server._open)) == len(slow), "its body is waited for")
    assert answers(rest(opened(server, GET + b"\r\n")))[0][0] == 503  # not at once
    monkeypatch.setattr(http_server, "_BODY_S", 0.0)
    client = opened(server, GET + b"\r\n")
    assert one(client) == 200
    assert rest(slow[0]) == b""
    slow[1].sendall(b"12345678")
    assert one(slow[1]) == 200
    assert [body for _, _, body in echo.asked] == [b"", b"a12345678"]
    for left in (client, slow[1]):
        left.close()


def test_health_is_answered_while_all_are_at_work(open_: Callable[..., Connections], echo: Echo) -> None:
    go, begun = threading.Event(), threading.Semaphore(0)
    echo.before = lambda: (begun.release(), go.wait(30)) if echo.asked[-1][1] != "/live" else None
    server = open_(connections=2)
    busy = [opened(server, GET + b"Connection: close\r\n\r\n") for _ in range(2)]
    for _ in busy:
        assert begun.acquire(timeout=30)
    slow = [opened(server, b"GET /live HTTP/1.1\r\n") for _ in range(3 * RESERVE)]
    got = rest(opened(server, LIVE))
    assert (answers(got)[0][0], b"Connection: close" in got) == (200, True)
    ((status, body),) = answers(rest(opened(server, post(b"Content-Length: 1000000", b""))))
    assert (status, json.loads(body)["error_type"]) == (503, "Overloaded")
    assert b"MLPACK_HTTP_CONNECTIONS" in body
    assert server.count <= 2 + RESERVE
    go.set()
    assert [answers(rest(client))[0][0] for client in busy] == [200, 200]
    for client in slow:
        client.close()


def test_no_more_is_held_than_may_be_and_small_bodies_fit(open_: Callable[..., Connections], echo: Echo) -> None:
    server = open_(held_bytes=300_000)
    first = opened(server, post(b"Content-Length: 250000", bytes(240_000)))
    until(lambda: server.held == 250_000, "what came is held, and the little room that is left")
    ((status, body),) = answers(rest(opened(server, post(b"Content-Length: 100000", bytes(100_000)))))
    assert (status, json.loads(body)["error_type"], b"MLPACK_HTTP_HELD_BYTES" in body) == (503, "Overloaded", True)
    small = opened(server, post(b"Content-Length: 60000\r\nConnection: close", bytes(60_000)))
    assert answers(rest(small))[0][0] == 200
    first.sendall(bytes(10_000))
    assert one(first) == 200
    first.close()
    assert server.held == 0
    promised = opened(server, post(b"Content-Length: 1000000", b"a"))  # a promise holds nothing
    assert [len(body) for _, _, body in echo.asked] == [60_000, 250_000]
    promised.close()


def test_what_is_refused_is_refused_before_its_body(server: Connections, echo: Echo) -> None:
    for data, statuses in (
        (post(b"Content-Length: 1048577", b""), [413]),
        (post(b"Expect: 100-continue\r\nContent-Length: 1048577", b""), [413]),
        (post(b"Transfer-Encoding: chunked", b"100001\r\n"), [413]),
        (post(b"Transfer-Encoding: chunked", b"ffffffff\r\n"), [413]),
        (b"POST /unknown HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 999\r\n\r\n", [200]),
        (b"POST /unknown HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", [200]),
        (b"GET /live HTTP/1.1\r\nHost: x\r\nContent-Length: 31\r\n\r\n" + http_forms.INNER, [200]),
    ):
        got = rest(opened(server, data))
        assert [status for status, _ in answers(got)] == statuses
        assert b"100 Continue" not in got
        if statuses == [413]:
            assert b"MLPACK_LIMIT_BODY_BYTES" in got
    assert [body for _, _, body in echo.asked] == [b"", b"", b""]


def test_who_asks_whether_to_send_is_told(server: Connections, echo: Echo) -> None:
    client = opened(server, post(b"Expect: 100-Continue\r\nContent-Length: 5", b""))
    assert one(client) == 100
    client.sendall(b"hello")
    assert one(client) == 200
    client.close()
    assert echo.asked[-1][2] == b"hello"


def test_heads_have_the_body_without_it(server: Connections) -> None:
    got = talk(server.port, b"HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    assert got.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert got.endswith(b"\r\n\r\n")
    assert b"Content-Length: 8\r\n" in got


def test_a_large_body_comes_whole_in_any_pieces(server: Connections, echo: Echo) -> None:
    body = bytes(range(256)) * 3000
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:10], body[10:70_000], body[70_000:])) + b"0\r\n\r\n"
    for data in (post(b"Content-Length: %d" % len(body), body), post(b"Transfer-Encoding: chunked", chunks)):
        assert answers(talk(server.port, data))[0][0] == 200
        assert echo.asked[-1][2] == body


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1 << 20, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9_000_000])
def test_bodies_of_any_size_come_whole(server: Connections, echo: Echo, size: int) -> None:
    echo.body_bytes = 16 << 20
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    third = size // 3 + 1
    chunks = [body[at : at + third] for at in range(0, size, third)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in chunks) + b"0\r\n\r\n"
    for data in (post(b"Content-Length: %d" % size, body), post(b"Transfer-Encoding: chunked", chunked)):
        assert [status for status, _ in answers(talk(server.port, data + AFTER))] == [200, 200]
        assert echo.asked[-2][2] == body
    assert server.held == 0


def test_room_follows_what_is_here_not_what_is_announced() -> None:
    sender, receiver = socket.socketpair()
    with sender, receiver:
        receiver.settimeout(30)
        body = Body()
        body.append(b"a", 1 << 40)
        assert body.held <= 1 << 17
        for sent in range(1, 121):
            sender.sendall(bytes(50_000))
            while body.size < 1 + 50_000 * sent:
                assert body.receive(receiver, 1 << 40)
                assert body.held <= body.size + max(body.size, 1 << 20)
        assert len(body.content()) == body.size == body.held == 6_000_001


def test_a_machine_without_memory_says_so(server: Connections, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    echo.body_bytes = 16 << 20
    monkeypatch.setattr(mmap, "mmap", none)
    ((status, body),) = answers(rest(opened(server, post(b"Content-Length: 9000000", bytes(5 << 20)))))
    assert (status, json.loads(body)["error_type"]) == (503, "Overloaded")
    assert server.held == 0


def test_a_refusal_is_read_by_who_sends_all_the_same(server: Connections) -> None:
    for data in (post(b"Content-Length: 3000000", bytes(3_000_000)), post(b"Content-Length: +1", bytes(3_000_000))):
        client = opened(server, data)
        assert answers(rest(client))[0][0] in (400, 413)


def test_many_small_chunks_are_refused_and_some_are_not(server: Connections) -> None:
    few, many = (b"1\r\na\r\n" * count + b"0\r\n\r\n" for count in (10_000, 60_000))
    assert answers(talk(server.port, post(b"Transfer-Encoding: chunked", few)))[0][0] == 200
    assert answers(talk(server.port, post(b"Transfer-Encoding: chunked", many)))[0][0] == 400


def test_ending_closes_kept_connections_with_their_next_answer(server: Connections, echo: Echo) -> None:
    client = opened(server, GET + b"\r\n")
    assert one(client) == 200
    echo.closing = True
    assert server.stop(5)
    client.sendall(GET + b"\r\n" + AFTER)
    got = rest(client)
    assert (len(answers(got)), b"Connection: close" in got) == (1, True)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_every_address_is_both_families_where_there_are_two() -> None:
    made = Connections("", 0, Bounds({}), Echo())
    made.start()
    try:
        with socket.create_connection(("127.0.0.1", made.port), timeout=30) as client:
            client.sendall(GET + b"\r\n")
            assert one(client) == 200
        if socket.has_dualstack_ipv6():
            try:
                client = socket.create_connection(("::1", made.port), timeout=30)
            except OSError:
                return  # this machine has no such address
            with client:
                client.sendall(GET + b"\r\n")
                assert one(client) == 200
    finally:
        made.stop(5)


@pytest.mark.parametrize("host", ["203.0.113.1", "2001:db8::1"])
def test_a_host_that_is_not_here_is_named(host: str) -> None:
    with pytest.raises(SettingsError, match=f"MLPACK_HOST is '{host}'"):
        Connections(host, 0, Bounds({}), Echo())


@pytest.mark.parametrize("name", ["CONNECTIONS", "HEAD_BYTES", "HEADERS", "HEAD_S", "BODY_S", "RATE", "IDLE_S", "HELD_BYTES"])
def test_bounds_are_numbers_or_named(name: str) -> None:
    for text in ("-1", "many", "nan", "1e99"):
        with pytest.raises(SettingsError, match=f"MLPACK_HTTP_{name}"):
            Bounds({f"MLPACK_HTTP_{name}": text})
    assert Bounds({f"MLPACK_HTTP_{name}": "1000"})
    assert Bounds({}, max_batch=4096).connections == 8192


def test_a_front_door_understands_it(server: Connections, echo: Echo) -> None:
    worker = Worker(f"http://127.0.0.1:{server.port}/stage")
    for body in (b"{}", b"x" * 3_000_000, b""):
        echo.body_bytes, echo.answered_with = 1 << 22, body
        reply = worker.ask("/v2/models/a/infer", body, {"x": "a\r\nb: c"}, 30)
        assert (reply.status, reply.body) == (200, body or b'{"ok":1}')
        assert echo.asked[-1] == ("POST", "/stage/v2/models/a/infer", body)
    assert server.count == 1
    echo.closing = True
    assert [worker.ask("/", b"", {}, 30).status for _ in range(2)] == [200, 200]
    assert worker.ask("/", b"x" * ((1 << 22) + 1), {}, 30).status == 413
    worker.close()
