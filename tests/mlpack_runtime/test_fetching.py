"""URLs as inputs: which are fetched, from which addresses, and what of an answer is taken."""

from __future__ import annotations

import gzip
import json
import threading
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.functions import function
from tests.support.runtime.tiny_packages import affine, package, words
from tests.support.runtime.url_hosts import (
    PRIVATE,
    PUBLIC,
    PUBLIC_V6,
    Host,
    LocalNetwork,
    answered,
    certificate,
    raw,
    serving,
)

from mlpack_runtime import fetching, model
from mlpack_runtime.fetching.download import download
from mlpack_runtime.fetching.network import Network, is_public
from mlpack_runtime.fetching.policy import Policy
from mlpack_runtime.limits import Limits, RequestError
from mlpack_runtime.model import ModelError
from mlpack_runtime.service import open_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOST = "images.example.org"
HTTP: Any = {
    "hosts": [HOST, "*.cdn.example.org", "xn--bcher-kva.example"],
    "schemes": ["https", "http"],
    "timeout_s": 60,
}
PNG = b"\x89PNG\r\n\x1a\n picture"


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as host:
        host.pages["/a.png"] = answered(PNG, content_type="image/png")
        yield host


@pytest.fixture
def network(host: Host) -> LocalNetwork:
    return LocalNetwork(host, {HOST: [PUBLIC], "a.b.cdn.example.org": [PUBLIC_V6], "xn--bcher-kva.example": [PUBLIC]})


@pytest.fixture
def fetch(network: LocalNetwork) -> Callable[..., bytes]:
    return lambda url, kind="", **more: fetching.fetch(url, Policy({**HTTP, **more}), kind, network)


def refused(fetch: Callable[..., bytes], url: str, **how: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        fetch(url, **how)
    for inner in ("127.0.0.1", PRIVATE, PUBLIC, "refused the connection", "Errno"):
        assert inner not in str(caught.value)
    return caught.value


def test_a_picture_is_fetched(fetch: Callable[..., bytes], host: Host, network: LocalNetwork) -> None:
    assert fetch(f"http://{HOST}/a.png", "image/") == PNG
    assert host.asked[0].decode().split("\r\n") == [
        "GET /a.png HTTP/1.1", f"host: {HOST}", "accept: */*", "accept-encoding: identity", "user-agent: mlpack",
        "connection: close", "", "",
    ]  # fmt: skip
    assert (network.resolved, network.connected) == ([HOST], [PUBLIC])


@pytest.mark.parametrize(
    ("url", "target", "asked"),
    [
        (f"HTTP://{HOST.upper()}./a%20b c/ü.png?x=ü&y=%FF#part", "/a%20b%20c/%C3%BC.png?x=%C3%BC&y=%FF", HOST),
        (f"http://{HOST}?q=http://other.example/", "/?q=http://other.example/", HOST),
        ("http://bücher.example/", "/", "xn--bcher-kva.example"),
        ("http://a.b.cdn.example.org/x?X-Amz-Signature=a%2Bb/c==", "/x?X-Amz-Signature=a%2Bb/c==", "a.b.cdn.example.org"),
        (f"http://{HOST}:80/", "/", HOST),
        (f"http://{HOST}/a//b/../c", "/a//b/../c", HOST),
    ],
)
def test_urls_are_sent_as_browsers_do(
    fetch: Callable[..., bytes], host: Host, network: LocalNetwork, url: str, target: str, asked: str
) -> None:
    host.pages[target] = answered(PNG)
    assert fetch(url) == PNG
    assert f"\r\nhost: {asked}\r\n".encode() in host.asked[0]
    assert network.connected == [PUBLIC_V6 if "cdn" in asked else PUBLIC]


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("http://other.example/", 403, "serve.urls.hosts"),
        ("http://cdn.example.org/", 403, "serve.urls.hosts"),
        ("http://evilcdn.example.org/", 403, "serve.urls.hosts"),
        (f"http://{HOST}.evil.example/", 403, "serve.urls.hosts"),
        (f"http://{HOST}:8080/", 403, "serve.urls.hosts"),
        (f"http://{HOST}:0/", 403, "serve.urls.hosts"),
        ("http://127.0.0.1/", 403, "serve.urls.hosts"),
        ("http://2130706433/", 403, "serve.urls.hosts"),
        ("http://[::1]/", 403, "serve.urls.hosts"),
        (f"ftp://{HOST}/", 403, "serve.urls.schemes"),
        (f"//{HOST}/", 403, "serve.urls.schemes"),
        (f"http://{HOST}@evil.example/", 403, "user"),
        (f"http://evil.example@{HOST}/", 403, "user"),
        (f"http://:@{HOST}/", 403, "user"),
        (f"http://evil.example\\@{HOST}/", 400, "backslashes"),
        (f"http://{HOST}\r\nx: y/", 400, "control characters"),
        (f"http://{HOST}/ ", 400, "spaces around"),
        (f"http://{HOST}/\ud800.png", 400, "halves of surrogate pairs"),
        (f"http://{HOST}/a?b=\udfff", 400, "halves of surrogate pairs"),
        (f"http://\ud800.{HOST}/", 400, "halves of surrogate pairs"),
        (f"http://{HOST}/{9000 * 'a'}", 400, "characters"),
        ("http:///a", 400, "no URL"),
        (f"http://{HOST}:99999/", 400, "no URL"),
        (f"http://{HOST}:8o/", 400, "no URL"),
        (f"http://{HOST} /", 400, "no URL"),
        ("http://[::1/", 400, "no URL"),
        (f"http://{HOST}..evil/", 400, "no URL"),
        ("http://images。example\u2100/", 400, "no URL"),
    ],
)
def test_other_urls_are_refused(fetch: Callable[..., bytes], network: LocalNetwork, url: str, status: int, message: str) -> None:
    error = refused(fetch, url)
    assert (error.status, error.kind) == (status, "FetchRefused" if status == 403 else "InvalidRequest")
    assert message in str(error)
    assert network.connected == network.resolved == []


INNER = """\
0.0.0.0 10.1.2.3 100.64.0.1 100.127.255.255 127.0.0.1 127.8.8.8 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255
192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.9 224.0.0.1 239.1.1.1 240.0.0.1
255.255.255.255 :: ::1 ::ffff:93.184.215.14 ::ffff:127.0.0.1 ::93.184.215.14 64:ff9b::5db8:d70e 64:ff9b::7f00:1 64:ff9b:1::1
100::1 2001::1 2001:0:5db8::1 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:5db8:d70e::1 3fff::1 4000::1 fc00::1 fd00:ec2::254
fe80::1 fec0::1 ff02::1"""


@pytest.mark.parametrize("address", INNER.split())
def test_inner_addresses_are_not_asked(fetch: Callable[..., bytes], network: LocalNetwork, address: str) -> None:
    network.names[HOST] = [address]
    error = refused(fetch, f"http://{HOST}/a.png")
    assert (error.status, error.kind, network.connected) == (403, "FetchRefused", [])
    assert "public internet" in str(error)
    assert address not in str(error)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.255", PUBLIC_V6]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ip_address(address))


def test_what_was_checked_is_what_is_asked(fetch: Callable[..., bytes], network: LocalNetwork) -> None:
    """A name that leads elsewhere the second time it is resolved is resolved once."""
    answers = iter([[PRIVATE, "fe80::1%eth0", PUBLIC, PUBLIC], [PRIVATE]])
    network.names[HOST] = lambda: next(answers)
    assert fetch(f"http://{HOST}/a.png") == PNG
    assert (network.resolved, network.connected) == ([HOST], [PUBLIC])


def test_redirects_are_checked_each(fetch: Callable[..., bytes], host: Host, network: LocalNetwork) -> None:
    host.pages |= {
        "/1": answered(status=301, location="/2?ü=1"),
        "/2?%C3%BC=1": answered(b"ignored", status=302, location="//a.b.cdn.example.org/3"),
        "/3": answered(status=307, location=f"http://{HOST}/a.png"),
        "/0": answered(status=308, location="1"),
        "/loop": answered(status=303, location="/loop"),
        "/out": answered(status=302, location="http://inner.corp.example/"),
        "/user": answered(status=302, location=f"http://a:b@{HOST}/a.png"),
        "/port": answered(status=302, location=f"http://{HOST}:22/"),
        "/file": answered(status=302, location="file:///etc/passwd"),
        "/none": answered(status=302),
        "/metadata": answered(status=302, location="http://169.254.169.254/latest/"),
        "/rebound": answered(status=302, location="http://a.b.cdn.example.org/"),
    }
    assert fetch(f"http://{HOST}/1") == PNG
    assert network.resolved == [HOST, HOST, "a.b.cdn.example.org", HOST]
    assert "more than 3 times" in str(refused(fetch, f"http://{HOST}/0"))
    assert "more than 3 times" in str(refused(fetch, f"http://{HOST}/loop"))
    for page in ("/out", "/port", "/metadata"):
        error = refused(fetch, f"http://{HOST}{page}")
        assert "leads on to" in str(error)
        assert error.status == 403
        assert "corp" not in str(error)
    assert "user or a password" in str(refused(fetch, f"http://{HOST}/user"))
    assert "schemes" in str(refused(fetch, f"http://{HOST}/file"))
    assert "no Location" in str(refused(fetch, f"http://{HOST}/none"))
    network.names["a.b.cdn.example.org"] = [PRIVATE]
    assert "public internet" in str(refused(fetch, f"http://{HOST}/rebound"))
    assert set(network.connected) == {PUBLIC, PUBLIC_V6}
    assert "more than 0 times" in str(refused(fetch, f"http://{HOST}/1", redirects=0))


def test_https_does_not_lead_to_http(fetch: Callable[..., bytes]) -> None:
    policy = Policy({**HTTP, "schemes": None})
    start = policy.locate(f"https://{HOST}/")
    with pytest.raises(RequestError, match=r"serve.urls.schemes"):
        policy.locate(f"http://{HOST}/", start)
    assert "serve.urls.schemes" in str(refused(fetch, f"http://{HOST}/", schemes=["https"]))


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (answered(status=404), 424), (answered(status=401), 424), (answered(status=204), 424), (answered(status=304), 424),
        (answered(status=206), 424), (answered(status=429), 502), (answered(status=500), 502), (answered(status=503), 502),
        (raw(b""), 502), (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), 502), (raw(b"HTTP/1.1 200 OK\r\n" + 200 * b"a: b\r\n"), 502),
        (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"), 502),
        (raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort"), 502),
        (raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n"), 502),
        (raw(b"HTTP/1.1 200 OK\r\nx: " + 70_000 * b"y"), 502),
        (answered(b"no gzip", content_encoding="gzip"), 422), (answered(b"br", content_encoding="br"), 422),
    ],
)  # fmt: skip
def test_answers_that_are_none(fetch: Callable[..., bytes], host: Host, behaviour: Any, status: int) -> None:
    host.pages["/x"] = behaviour
    error = refused(fetch, f"http://{HOST}/x")
    assert error.status == status, str(error)
    assert error.headers == ({"retry-after": "1"} if status == 502 else {})


def test_lengths_and_encodings_are_understood(fetch: Callable[..., bytes], host: Host) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    host.pages |= {
        "/chunked": raw(head + b"transfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nx: y\r\n\r\n"),
        "/closed": raw(head + b"\r\nabc", b"de", pause_s=0.01),
        "/old": raw(b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nabcde and more"),
        "/gzip": answered(gzip.compress(b"abcde"), content_encoding="gzip"),
        "/early": raw(b"HTTP/1.1 100 Continue\r\n\r\n" + head + b"content-length: 5\r\n\r\nabcde"),
    }
    assert {fetch(f"http://{HOST}{page}") for page in ("/chunked", "/closed", "/old", "/gzip", "/early")} == {b"abcde"}
    host.pages["/empty"] = answered()
    assert fetch(f"http://{HOST}/empty") == b""


def endless(head: bytes, piece: bytes) -> Any:
    def behave(connection: Any, _: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return behave


@pytest.mark.parametrize(
    "behaviour",
    [
        answered(2000 * b"x"),
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999\r\n\r\n"),
        endless(b"HTTP/1.1 200 OK\r\n\r\n", 4096 * b"x"),
        endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"10\r\n" + 16 * b"x" + b"\r\n"),
        endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n", 4096 * b"x"),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        answered(gzip.compress(1_000_000 * b"x"), content_encoding="gzip"),
    ],
)
def test_bodies_without_end_are_cut_off(fetch: Callable[..., bytes], host: Host, behaviour: Any) -> None:
    host.pages["/x"] = behaviour
    error = refused(fetch, f"http://{HOST}/x", max_bytes=1000)
    assert (error.status, error.kind) == (413, "PayloadTooLarge")
    assert "serve.urls.max_bytes" in str(error)


def drops(connection: Any, _: bytes) -> None:
    while True:  # until the caller hangs up
        connection.sendall(b"x")
        time.sleep(0.02)


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda connection, _: connection.recv(1),
        drops,
        lambda connection, _: (connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n"), drops(connection, b"")),
        lambda connection, _: (connection.sendall(b"HTTP/1.1 200 OK\r\nx: "), drops(connection, b"")),
    ],
)
def test_slow_answers_end_in_time(fetch: Callable[..., bytes], host: Host, behaviour: Any) -> None:
    host.pages["/x"] = behaviour
    start_s = time.monotonic()
    error = refused(fetch, f"http://{HOST}/x", timeout_s=0.3)
    assert time.monotonic() - start_s < 30  # it would take for ever
    assert (error.status, error.kind) == (502, "FetchFailed")
    assert "within 0.3 s" in str(error)


def test_redirects_share_the_time(fetch: Callable[..., bytes], host: Host) -> None:
    head = f"HTTP/1.1 302 x\r\ncontent-length: 0\r\nlocation: http://{HOST}/x\r\n\r\n".encode()
    host.pages["/x"] = raw(b"HTTP/1.1 100 x\r\n\r\n", head, pause_s=0.2)
    assert "within 0.5 s" in str(refused(fetch, f"http://{HOST}/x", timeout_s=0.5, redirects=10))
    assert len(host.asked) <= 3  # of eleven: each that has a time of its own would be followed


def test_resolving_counts_in_the_time(fetch: Callable[..., bytes], network: LocalNetwork) -> None:
    free = threading.Event()
    network.names[HOST] = lambda: [PUBLIC] if free.wait(60) else None
    assert "within 0.2 s" in str(refused(fetch, f"http://{HOST}/a.png", timeout_s=0.2))
    free.set()
    network.names[HOST] = None
    error = refused(fetch, f"http://{HOST}/a.png")
    assert (error.status, "could not be reached" in str(error)) == (502, True)


def test_without_a_thread_it_may_pass_by_itself(
    fetch: Callable[..., bytes], network: LocalNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr("mlpack_runtime.fetching.network.threading.Thread.start", start)
        for _ in range(20):
            with pytest.raises(RequestError) as caught:
                fetch(f"http://{HOST}/a.png")
            assert (caught.value.status, caught.value.kind) == (502, "FetchFailed")
    assert fetch(f"http://{HOST}/a.png") == PNG  # and none of them keeps its place


def test_another_address_is_tried(fetch: Callable[..., bytes], network: LocalNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = network.connect

    def picky(address: str, port: int, timeout_s: float) -> Any:
        if address == PUBLIC_V6:
            raise OSError("Network is unreachable")
        return connect(address, port, timeout_s)

    monkeypatch.setattr(network, "connect", picky)
    network.names[HOST] = [PUBLIC_V6, PUBLIC]
    assert fetch(f"http://{HOST}/a.png") == PNG
    network.names[HOST] = [PUBLIC_V6]
    assert "could not be reached" in str(refused(fetch, f"http://{HOST}/a.png"))


def test_types_of_content_are_the_tasks(fetch: Callable[..., bytes], host: Host) -> None:
    host.pages["/page"] = answered(b"<html>", content_type="text/html; charset=utf-8")
    host.pages["/s3"] = answered(PNG, content_type="binary/octet-stream")
    error = refused(fetch, f"http://{HOST}/page", kind="image/")
    assert (error.status, "'text/html'" in str(error)) == (422, True)
    assert fetch(f"http://{HOST}/page") == b"<html>"
    assert fetch(f"http://{HOST}/s3", "image/") == PNG
    assert fetch(f"http://{HOST}/a.png", "image/") == PNG


def test_tls_proves_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = certificate(tmp_path, HOST, "a.b.cdn.example.org")
    servers: list[Any] = []
    context.sni_callback = lambda _socket, name, _context: servers.append(name)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    names = {HOST: [PUBLIC], "xn--bcher-kva.example": [PUBLIC]}
    with serving(context) as host:
        host.pages["/a.png"] = answered(PNG)
        host.pages["/closed"] = raw(b"HTTP/1.1 200 OK\r\n\r\nabcde")
        network, policy = LocalNetwork(host, names, authority), Policy(HTTP)
        assert fetching.fetch(f"https://{HOST}/a.png", policy, network=network) == PNG
        assert fetching.fetch(f"https://{HOST}/closed", policy, network=network) == b"abcde"
        assert servers == [HOST, HOST]
        for url, how in ((f"https://{HOST}/a.png", LocalNetwork(host, names)), ("https://bücher.example/", network)):
            with pytest.raises(RequestError, match="no certificate for its name") as caught:
                fetching.fetch(url, policy, network=how)
            assert caught.value.status == 502
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
        with pytest.raises(RequestError, match="no certificate authorities"):
            fetching.fetch(f"https://{HOST}/a.png", policy, network=LocalNetwork(host, names))
    with serving() as plain, pytest.raises(RequestError, match=r"within 0.2 s"):
        fetching.fetch(f"https://{HOST}/a.png", Policy({**HTTP, "timeout_s": 0.2}), network=LocalNetwork(plain, names, authority))


def test_the_real_resolver_and_connection(host: Host) -> None:
    """The network as it is: this machine is not asked by it, and its socket is an ordinary one."""
    real = Network()
    assert real.addresses("localhost", host.port, time.monotonic() + 60) == []
    with pytest.raises(OSError):
        real.addresses("no-such-host.invalid", 443, time.monotonic() + 60)
    policy = Policy({**HTTP, "hosts": ["localhost"]})
    with pytest.raises(RequestError, match="no address in the public internet"):
        download("http://localhost/a.png", policy, 1000, time.monotonic() + 60)
    with real.connect("127.0.0.1", host.port, 60) as connection:
        assert connection.getpeername()[1] == host.port
    assert real.context().verify_mode.name == "CERT_REQUIRED"
    assert real.context().check_hostname


@pytest.mark.parametrize(
    "settings",
    [{}, {"hosts": []}, {"hosts": "x"}, {"hosts": [""]}, {"hosts": ["a"], "schemes": ["file"]}, {"hosts": ["a"], "timeout_s": -1},
     {"hosts": ["a"], "max_bytes": "x"}, {"hosts": [7]}],
)  # fmt: skip
def test_settings_that_are_none(settings: dict[str, Any]) -> None:
    if settings.get("hosts") == "x":
        assert Policy(settings).locate("https://x/").host == "x"
        return
    with pytest.raises(ModelError, match="rebuild the package"):
        Policy(settings)


def test_ports_that_the_recipe_names() -> None:
    policy = Policy({"hosts": ["a.example:8443", "*.b.example:444"]})
    assert policy.locate("https://a.example:8443/x").authority == "a.example:8443"
    assert policy.locate("https://x.b.example:444").url() == "https://x.b.example:444/"
    for url in ("https://a.example/", "https://x.b.example/", "https://b.example:444/"):
        with pytest.raises(RequestError, match=r"serve.urls.hosts"):
            policy.locate(url)


def urls(kind: str | None, network: LocalNetwork, **more: Any) -> fetching.Urls:
    opened = fetching.Urls({**HTTP, **more}, kind, Limits({}, {}))
    opened.network = network
    return opened


def test_which_values_are_urls(network: LocalNetwork) -> None:
    url = f"http://{HOST}/a.png"
    images = urls("image", network)
    assert images.fetched({"image": url, "top_k": 3}) == {"image": PNG, "top_k": 3}
    assert images.fetched({"image": {"url": url}}) == {"image": PNG}
    assert images.fetched({"images": [url, {"url": url}, "aGk="]}) == {"images": [PNG, PNG, "aGk="]}
    assert images.fetched({"inputs": [url]}) == {"inputs": [PNG]}
    for left in ({"audio": url}, {"image": {"url": "data:;base64,aGk="}}, {"image": {"url": 7}}, {"image": b"x"}, {"text": url},
                 {"parameters": {"image": url}}, {"inputs": {"pixel_values": [url]}}, {"image": {"url": url, "x": 1}}):  # fmt: skip
        assert images.fetched(left) is left
    assert urls(None, network).fetched({"image": url}) == {"image": url}
    hook = urls("", network).fetched({"image": url, "inputs": url})
    assert hook == {"image": PNG, "inputs": url}
    with pytest.raises(RequestError, match="audio/"):
        urls("", network).fetched({"audio": url})
    with pytest.raises(RequestError, match="at most 16") as caught:
        images.fetched({"images": 17 * [url]})
    assert caught.value.status == 413
    with pytest.raises(RequestError, match="more than 4 bytes"):  # what is left of all
        urls("image", network, max_bytes=3 * len(PNG) + 4).fetched({"images": 4 * [url]})


HOOK = """
def decode(value):
    image = value["image"]
    return {"pixels": [[len(image), image[0], 0, 0]], "marks": [len(image)]}

def answer(outputs):
    return {"bytes": outputs["count"].flat()[0]}
"""


def test_urls_come_from_every_entrance(
    tmp_path: Path, network: LocalNetwork, host: Host, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = package(tmp_path / "package", affine, preprocess="url_hook:decode", postprocess="url_hook:answer", urls=HTTP)
    (root / "app/url_hook.py").write_text(HOOK)
    monkeypatch.syspath_prepend(str(root / "app"))
    monkeypatch.setattr(fetching.Urls, "network", network, raising=False)
    monkeypatch.setattr("mlpack_runtime.fetching.download._INTERNET", network)
    body = {"image": f"http://{HOST}/a.png"}
    handler = function(root, monkeypatch)
    direct = handler(body)
    assert direct.pop("trace_id")
    assert direct == {"bytes": len(PNG)}
    over_http = handler({"requestContext": {"http": {"method": "POST"}}, "rawPath": "/", "body": json.dumps(body)})
    assert json.loads(over_http["body"]) == direct
    record = {"eventSource": "aws:sqs", "messageId": "1", "body": json.dumps(body), "eventSourceARN": "arn:aws:sqs:x:1:q"}
    assert handler({"Records": [record]}) == {"batchItemFailures": []}
    monkeypatch.setattr(model, "ROOT", str(root))
    service = open_service()
    reply = service.message({}, json.dumps(body).encode(), "1", {})
    assert json.loads(reply.body) == direct
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["stages_ms"]["fetch"] > 0 for line in lines if "stages_ms" in line] == [True] * 4
    assert len(host.asked) == 4
    refusal = service.http("POST", "/", {}, json.dumps({"image": "http://other.example/"}).encode())
    assert (refusal.status, json.loads(refusal.body)["error_type"]) == (403, "FetchRefused")


def test_a_package_of_texts_fetches_nothing(tmp_path: Path, network: LocalNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    root = package(tmp_path / "package", words, tokenizer={"file": "tokenizer.json", "max_length": 6}, urls=HTTP)
    monkeypatch.setattr(model, "ROOT", str(root))
    reply = open_service().http("POST", "/", {}, json.dumps({"text": f"http://{HOST}/a.png"}).encode())
    assert (reply.status, network.resolved) == (200, [])
