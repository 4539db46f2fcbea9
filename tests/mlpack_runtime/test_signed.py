"""The signed client: against moto over real HTTP with faults, servers that misbehave, TLS, and credentials of each kind."""

from __future__ import annotations

import gc
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.url_hosts import certificate
from tests.support.services.aws_server import REGION, AwsServer, Fault, aws, aws_server

from mlpack_runtime import aws as aws_module
from mlpack_runtime import starting
from mlpack_runtime.aws import AwsError, credentials, signed, sigv4, wire
from mlpack_runtime.aws.signed import S3, Client, LateError, ServiceError

__all__ = ["aws", "aws_server"]

ODD_KEYS = ("a//b", "a b+c/ä 日本", "%41%2F", "~-_.!*'()", "a/../b", "🤖", "q?x=1&y#z", "trailing/")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with a region and keys, and nothing kept of an earlier test."""
    for name, value in (("AWS_REGION", REGION), ("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(credentials, "_KEPT", [])
    return monkeypatch


@contextmanager
def scripted(*answers: bytes, tls: ssl.SSLContext | None = None, pause_s: float = 0.0) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives these answers, one a connection (b"": it closes at once), and what it was sent."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            try:
                opened, _ = listener.accept()
            except OSError:
                return
            with opened:
                try:
                    speaking = tls.wrap_socket(opened, server_side=True) if tls else opened
                    asked.append(speaking.recv(1 << 16))
                    time.sleep(pause_s)
                    speaking.sendall(answer)
                    if tls:
                        speaking.close()
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.close()
        thread.join(timeout=5)


def _answer(status: str, body: bytes = b"{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def test_objects_come_back_under_odd_keys_and_in_ranges(aws: AwsServer) -> None:
    aws.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
    bucket = S3(region=REGION)
    for key in ODD_KEYS:
        bucket.put("models", key, key.encode(), headers={"content-type": "text/plain"})
        assert bucket.get("models", key) == key.encode()
    listed = aws.client("s3").list_objects_v2(Bucket="models")["Contents"]
    assert {row["Key"] for row in listed} == set(ODD_KEYS)
    assert bucket.get("models", "a//b", 1, 2) == b"//"
    assert bucket.get("models", "a//b", 3) == b"b"
    assert bucket.head("models", "a//b")["content-length"] == "4"
    for ask in (lambda: bucket.get("models", "none"), lambda: bucket.head("models", "none")):
        with pytest.raises(ServiceError) as error:
            ask()
        assert error.value.status == 404
    with pytest.raises(ServiceError) as error:
        bucket.get("models", "a//b", 9, 12)
    assert error.value.status == 416


def test_tables_answer_on_one_connection_and_signatures_hold(aws: AwsServer) -> None:
    aws.client("dynamodb").create_table(
        TableName="features",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    table = Client("dynamodb", region=REGION)
    item = {"id": {"S": "ä/1"}, "age": {"N": "42"}}
    table.call("PutItem", {"TableName": "features", "Item": item})
    asked = {"RequestItems": {"features": {"Keys": [{"id": {"S": "ä/1"}}, {"id": {"S": "none"}}]}}}
    assert table.call("BatchGetItem", asked)["Responses"]["features"] == [item]
    with pytest.raises(ServiceError) as error:
        table.call("GetItem", {"TableName": "none", "Key": {"id": {"S": "1"}}})
    assert error.value.code == "ResourceNotFoundException"


@pytest.mark.parametrize("action", ["error", "close", "cut"])
def test_a_passing_fault_is_tried_again(aws: AwsServer, action: str) -> None:
    aws.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
    bucket = S3(region=REGION)
    bucket.put("models", "k", b"x" * 1000)
    aws.plan(Fault(action, service="s3", operation="GetObject", code="SlowDown"))
    assert bucket.get("models", "k") == b"x" * 1000


def test_faults_that_stay_end_within_the_bounds(aws: AwsServer) -> None:
    aws.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
    bucket = S3(region=REGION)
    aws.clear_log()
    aws.plan(Fault("error", service="s3", onward=True, status=503, code="SlowDown"))
    with pytest.raises(ServiceError, match="SlowDown"):
        bucket.get("models", "k")
    assert len(aws.log("s3")) == signed.ATTEMPTS
    aws.plan(Fault("hang", service="s3", onward=True))
    before = time.monotonic()
    with pytest.raises(LateError, match=r"within 0\.2 s"):
        bucket.get("models", "k", within_s=0.2)
    assert time.monotonic() - before < 30  # the service would hang for an hour
    aws.plan(Fault("error", service="s3", onward=True, status=403, code="AccessDenied"))
    aws.clear_log()
    with pytest.raises(ServiceError, match="AccessDenied"):
        bucket.get("models", "k")
    assert len(aws.log("s3")) == 1


def test_an_idle_connection_that_was_closed_is_opened_anew(alone: pytest.MonkeyPatch) -> None:
    keeps = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"  # says nothing of closing, and closes
    with scripted(keeps, keeps) as (address, asked), closing(Client("dynamodb", endpoint=address, attempts=1)) as table:
        assert table.call("GetItem", {}) == {} == table.call("GetItem", {})
    assert len(asked) == 2


def test_what_is_closed_before_it_was_opened_stays_closed(alone: pytest.MonkeyPatch) -> None:
    """Its thread may come to it late, or be in the middle of it."""
    with scripted() as (address, asked):
        table = Client("dynamodb", endpoint=address, attempts=1)
        asked_at = table._closings
        table.close()
        table.open(5.0, asked_at)
        assert table._idle == []
        table.open(5.0)
        assert len(table._idle) == 1
        table.close()
        assert table._idle == []
    assert asked == []


def test_an_instance_of_a_snapshot_opens_its_own_connection(alone: pytest.MonkeyPatch) -> None:
    keeps = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with (
        scripted(keeps, _answer("200 OK", b'{"a":1}')) as (address, asked),
        closing(Client("dynamodb", endpoint=address, attempts=1)) as table,
    ):
        assert table.call("GetItem", {}) == {}
        assert len(table._idle) == 1
        for forget in starting.AFTER_RESTORE:
            forget()
        connection = table._take("127.0.0.1", int(address.rpartition(":")[2]), tls=False)
        assert (connection.is_open, table._idle) == (False, [])
        assert table.call("GetItem", {}) == {"a": 1}
    assert len(asked) == 2


@pytest.mark.parametrize("odd", ["a\nb", "a\r\nx-injected: b", "a\rb", "a\r\n\r\nGET / HTTP/1.1"])
def test_a_line_break_is_sent_nowhere(alone: pytest.MonkeyPatch, odd: str) -> None:
    with scripted(_answer("200 OK", b"{}")) as (address, asked):
        host, port = "127.0.0.1", int(address.rpartition(":")[2])
        for request in (wire.Asked("GET", "/", {"host": host, "x-a": odd}), wire.Asked("GET", f"/{odd}", {"host": host})):
            connection = wire.Connection(host, port, tls=False, connect_s=60)
            with pytest.raises(ConnectionError, match="line break"):
                connection.request(request, until=time.monotonic() + 60, most=100)
        assert asked == []
        with closing(wire.Connection(host, port, tls=False, connect_s=60)) as connection:
            connection.request(wire.Asked("GET", "/", {"host": host}), until=time.monotonic() + 60, most=100)


def test_a_client_that_nobody_has_is_not_kept(alone: pytest.MonkeyPatch) -> None:
    """Models come and go, and each brings clients: these go with it."""
    gc.collect()  # of those before
    before, restored = len(signed._CLIENTS), len(starting.AFTER_RESTORE)
    for _ in range(20):
        S3(endpoint="http://127.0.0.1:1")
    held = Client("dynamodb", endpoint="http://127.0.0.1:1")
    gc.collect()
    assert (len(signed._CLIENTS), len(starting.AFTER_RESTORE)) == (before + 1, restored)
    assert signed._CLIENTS[-1]() is held


def test_credentials_that_another_thread_forgets_are_used_up(alone: pytest.MonkeyPatch) -> None:
    """A thread whose credentials have ended asks for others while this one looks at them."""

    class Forgotten:
        ends = time.time() + 3600

        def is_fresh(self, seconds: float) -> bool:
            credentials._KEPT.clear()
            return seconds < 3600

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        alone.delenv(name)
    held: Any = Forgotten()
    credentials._KEPT.append(held)
    assert credentials.provide() is held
    other = sigv4.Credentials("AKID", "secret")

    def fetch() -> sigv4.Credentials:
        credentials._KEPT.clear()
        return other

    alone.setattr(credentials, "_fetch", fetch)
    assert credentials.provide() is other


def test_a_short_call_finds_a_connection_after_a_late_one(alone: pytest.MonkeyPatch) -> None:
    """A handshake takes longer than the call may: without another's help no call would be answered ever again."""
    connect = wire.Connection._connect

    def slowly(connection: wire.Connection, until: float) -> Any:
        if (left := until - time.monotonic()) < 30:
            time.sleep(max(0.0, left))
            raise TimeoutError("the time for this call is over")
        return connect(connection, until)

    alone.setattr(wire.Connection, "_connect", slowly)
    alone.setattr(signed, "CONNECT_S", 60.0)
    with (
        scripted(_answer("200 OK", b'{"a":1}')) as (address, asked),
        closing(Client("dynamodb", endpoint=address, attempts=2)) as table,
    ):
        with pytest.raises(LateError):
            table.call("GetItem", {}, within_s=0.05)
        until_s = time.monotonic() + 60
        while not table._idle and time.monotonic() < until_s:
            time.sleep(0.01)
        assert table.call("GetItem", {}, within_s=20) == {"a": 1}
    assert len(asked) == 1


def test_a_client_of_a_restored_instance_connects_ahead_again(alone: pytest.MonkeyPatch) -> None:
    with scripted(_answer("200 OK", b"{}")) as (address, _), closing(Client("dynamodb", endpoint=address)) as table:
        table.close()
        table.open(2)
        assert len(table._idle) == 1
        assert table.call("GetItem", {}) == {}


@pytest.mark.parametrize(
    "odd",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}   \r\n-5\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-amz-crc32: 1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<xml>",
        b'HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\n{"_',
        b"",
    ],
)
def test_what_is_no_answer_is_an_error_of_ours(alone: pytest.MonkeyPatch, odd: bytes) -> None:
    with (
        scripted(odd) as (address, _),
        closing(Client("dynamodb", endpoint=address, attempts=1)) as table,
        pytest.raises(ServiceError),
    ):
        table.call("GetItem", {})


_WHOLE = bytes(range(256)) * 2000
_PIECES = [_WHOLE[at : at + 99_999] for at in range(0, len(_WHOLE), 99_999)]
_CHUNKS = b"".join(b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in _PIECES)


@pytest.mark.parametrize(
    ("answer", "is_whole"),
    [
        (b"HTTP/1.1 206 P\r\nContent-Length: %d\r\n\r\n" % len(_WHOLE) + _WHOLE, True),
        (b"HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNKS + b"0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\n\r\n" + _WHOLE, True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_WHOLE) + _WHOLE, True),
        (b"HTTP/1.1 404 N\r\nContent-Length: 4\r\n\r\nnone", False),
        (b"HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Length: 4\r\n\r\nnone", False),
    ],
    ids=["length", "chunks", "end", "interim", "missing", "moved"],
)
def test_a_body_goes_where_it_is_wanted_piece_by_piece(answer: bytes, is_whole: bool) -> None:
    """What is no such body stays in the answer, so that somebody can read what is wrong."""
    pieces: list[bytes] = []
    with scripted(answer) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        connection = wire.Connection(host, int(port), tls=False, connect_s=5)
        asked = wire.Asked("GET", "/", {"host": host})
        given = connection.request(asked, until=time.monotonic() + 10, most=1 << 20, sink=lambda piece: pieces.append(bytes(piece)))
        connection.close()
    assert (b"".join(pieces), given.body) == ((_WHOLE, b"") if is_whole else (b"", b"none"))
    assert not is_whole or b"HTTP/1.0" in answer or max(map(len, pieces)) <= 1 << 18


def test_chunks_and_bodies_until_the_close_are_read(alone: pytest.MonkeyPatch) -> None:
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n{"a\r\n4\r\n":1}\r\n0\r\nT: 1\r\n\r\n'
    with (
        scripted(b"HTTP/1.1 100 Continue\r\n\r\n" + chunked, b'HTTP/1.0 200 OK\r\n\r\n{"b":2}') as (address, _),
        closing(Client("dynamodb", endpoint=address, attempts=1)) as table,
    ):
        assert table.call("GetItem", {}) == {"a": 1}
        table.close()
        assert table.call("GetItem", {}) == {"b": 2}


def test_a_wrong_clock_is_told_once_and_corrected(alone: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    late = _answer(
        "403 Forbidden",
        b'{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired"}',
        "Date: Mon, 30 Nov 2026 22:29:43 GMT",
    )
    alone.setattr(signed, "time", lambda: 1_796_077_783.0 - 7200)
    with scripted(late, _answer("200 OK"), _answer("200 OK")) as (address, asked):
        table = Client("dynamodb", endpoint=address)
        assert table.call("GetItem", {}) == {} == table.call("GetItem", {})
    assert [b"x-amz-date: 20261130T22" in request for request in asked] == [False, True, True]
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["message"] for line in lines] == ["this machine's clock is wrong by -7200 s, says dynamodb: its own is used"]


def test_a_bucket_elsewhere_is_asked_there(alone: pytest.MonkeyPatch) -> None:
    away = _answer("301 Moved Permanently", b"<Error><Code>PermanentRedirect</Code></Error>", "x-amz-bucket-region: us-west-2")
    with scripted(away, _answer("200 OK", b"abc")) as (address, asked):
        assert S3(endpoint=address).get("models", "k") == b"abc"
    assert b"/us-west-2/s3/aws4_request" in asked[1]


def _host(bucket: str, **settings: str) -> tuple[str, str]:
    return S3(region=settings.get("region", REGION))._host_and_path(f"/{bucket}/a/b")


def test_addresses_are_those_of_the_service(alone: pytest.MonkeyPatch) -> None:
    assert _host("models") == (f"models.s3.{REGION}.amazonaws.com", "/a/b")
    assert _host("my.models") == (f"s3.{REGION}.amazonaws.com", "/my.models/a/b")
    assert _host("models", region="cn-north-1") == ("models.s3.cn-north-1.amazonaws.com.cn", "/a/b")
    alone.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert _host("models", region="us-east-1")[0] == "models.s3-fips.us-east-1.amazonaws.com"
    alone.setenv("AWS_ENDPOINT_URL", "http://[::1]:9000/base/")
    alone.setenv("AWS_ENDPOINT_URL_FIREHOSE", "https://firehose.internal")
    assert _host("models") == ("::1", "/base/models/a/b")
    assert Client("firehose")._place == ("https", "firehose.internal", 443, "/")
    alone.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    alone.delenv("AWS_USE_FIPS_ENDPOINT")
    assert Client("dynamodb")._place[1] == f"dynamodb.{REGION}.amazonaws.com"
    alone.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "")
    for wrong in ("tcp://10.0.0.1:80", "http://", "http://a:b", "http://u@h", "moto"):
        alone.setenv("AWS_ENDPOINT_URL", wrong)
        with pytest.raises(AwsError, match="is no address of a service"):
            Client("dynamodb")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        alone.delenv(name, raising=False)
    with pytest.raises(AwsError, match="set AWS_REGION"):
        Client("dynamodb")


ROLE = {"AccessKeyId": "ASIA1", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}


def test_a_containers_role_is_asked_once_and_renewed(alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer 1\n")
    alone.delenv("AWS_ACCESS_KEY_ID")
    alone.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    second = _answer("200 OK", json.dumps(ROLE | {"AccessKeyId": "ASIA2"}).encode())
    expired = _answer("400 Bad", b'{"__type":"x#ExpiredTokenException"}')
    with (
        scripted(_answer("200 OK", json.dumps(ROLE).encode()), second) as (role, asked),
        scripted(_answer("200 OK"), expired, _answer("200 OK")) as (service, sent),
    ):
        alone.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{role}/role")
        table = Client("dynamodb", endpoint=service)
        for _ in range(2):
            assert table.call("GetItem", {}) == {}
    assert [b"authorization: Bearer 1" in request for request in asked] == [True, True]
    assert [b"Credential=ASIA2/" in request for request in sent] == [False, False, True]
    assert all(b"x-amz-security-token: t" in request for request in sent)


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "127.example", "169.254.170.20", "localhost.example.com"])
def test_a_roles_token_goes_nowhere_else(alone: pytest.MonkeyPatch, host: str) -> None:
    alone.delenv("AWS_ACCESS_KEY_ID")
    alone.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{host}/role")
    with pytest.raises(AwsError, match="neither this machine nor the platform"):
        credentials.provide()


def test_a_web_identity_is_exchanged_without_a_signature(alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("jwt+/=\n")
    alone.delenv("AWS_ACCESS_KEY_ID")
    alone.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    alone.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
    body = (
        b"<R><Credentials><AccessKeyId>ASIA9</AccessKeyId><SecretAccessKey>a&amp;b</SecretAccessKey>"
        b"<SessionToken>tok</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></R>"
    )
    with scripted(_answer("200 OK", body)) as (address, asked):
        alone.setenv("AWS_ENDPOINT_URL_STS", address)
        keys = credentials.provide()
    assert (keys.key, keys.secret, keys.token) == ("ASIA9", "a&b", "tok")
    assert b"WebIdentityToken=jwt%2B%2F%3D" in asked[0]
    assert b"authorization" not in asked[0].lower()


def test_without_credentials_it_says_what_was_looked_at(alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone.delenv("AWS_ACCESS_KEY_ID")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        alone.setenv(name, str(tmp_path / "none"))
    alone.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AwsError, match="no credentials for AWS"):
        credentials.provide()
    (tmp_path / "profile").write_text("[default]\naws_access_key_id = FROMFILE\naws_secret_access_key = s\n")
    alone.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "profile"))
    assert credentials.provide().key == "FROMFILE"
    assert "s3cret" not in repr(credentials.Credentials("AKID", "s3cret"))
    alone.setenv("AWS_PROFILE", "elsewhere")
    with pytest.raises(AwsError, match=r"no credentials for AWS: .*botocore: .*profile.*elsewhere"):
        credentials.provide(anew=True)
    Client("dynamodb", endpoint="http://127.0.0.1:9").open(1.0)  # what is wrong, the first call says


def test_seconds_are_those_of_the_calendar() -> None:
    for at in (0, 951_782_400, 951_868_800, 1_709_164_800, 1_795_991_383, 4_102_444_799):
        year, month, day, *_ = time.gmtime(at)
        assert credentials.seconds(year, month, day, time.strftime("%H:%M:%S", time.gmtime(at))) == at


def test_certificates_are_checked(alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone.setattr(wire, "_CONTEXT", [])
    bundle, context = certificate(tmp_path, "127.0.0.1")
    with scripted(_answer("200 OK"), tls=context) as (address, _), pytest.raises(ServiceError, match="CERTIFICATE_VERIFY_FAILED"):
        Client("dynamodb", endpoint=address, attempts=1).call("GetItem", {})
    alone.setenv("AWS_CA_BUNDLE", str(bundle))
    with scripted(_answer("200 OK", b'{"a":1}'), tls=context) as (address, _):
        assert Client("dynamodb", endpoint=address, attempts=1).call("GetItem", {}) == {"a": 1}


def test_without_tls_neither_ssl_nor_botocore_is_imported(aws: AwsServer) -> None:
    import subprocess

    code = (
        "import sys; from mlpack_runtime.aws.signed import Client, ServiceError\n"
        "try: Client('dynamodb').call('GetItem', {'TableName': 'none', 'Key': {'id': {'S': '1'}}})\n"
        "except ServiceError as error: assert error.code == 'ResourceNotFoundException', error\n"
        "print(*sorted({'socket', 'ssl', 'botocore', 'http', 'email', 'random', 'json'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_many_threads_share_a_client(aws: AwsServer) -> None:
    aws.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
    bucket = S3(region=REGION)
    bucket.put("models", "k", bytes(range(256)))
    parts: dict[int, bytes] = {}

    def read(at: int) -> None:
        parts[at] = bucket.get("models", "k", at * 16, at * 16 + 15)

    work: list[Callable[[], None]] = [lambda at=at: read(at) for at in range(16)]  # type: ignore[misc]
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b"".join(parts[at] for at in range(16)) == bytes(range(256))


def test_what_passes_is_told_from_what_stays() -> None:
    assert aws_module.is_passing("ProvisionedThroughputExceededException", 400)
    assert aws_module.is_passing("", 503)
    assert not aws_module.is_passing("ValidationException", 400)
