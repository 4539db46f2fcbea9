"""Who may ask, at every entrance: a browser's sequence, tokens made by PyJWT, and an issuer that shows its keys."""

from __future__ import annotations

import hashlib
import http.client
import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.url_hosts import certificate
from tests.support.runtime.workers import add_botocore
from tests.support.serving import entrances
from tests.support.serving.entrances import ENTRANCES
from tools import parts

from mlpack_runtime.access.key_sets import fetched, parsed

KEY = "a-random-key-of-128-bits-or-more"
PAGE = {"Origin": "https://app.example.com"}
INFER = "/v2/models/tiny/infer"
ROW = json.dumps(
    {
        "inputs": [
            {"name": "pixels", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]},
            {"name": "marks", "datatype": "INT64", "shape": [1], "data": [2]},
        ]
    }
).encode()


@contextmanager
def showing(told: bytes, status: int = 200, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """An issuer on loopback that answers every request so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "https://elsewhere.example/")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """PyJWT's tokens and keys."""
    program = Path(entrances.__file__).parent / "pyjwt_tokens.py"
    done = subprocess.run([parts.clients(), "-W", "ignore", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def places(made: dict[str, Any], rie: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The port of each entrance to one package."""
    with showing(json.dumps({"keys": made["keys"]}).encode()) as issuer, ExitStack() as opened:
        jwt = {"jwks": f"http://127.0.0.1:{issuer}/keys", "issuer": ["https://issuer.example"], "audience": ["mlpack"]}
        authorize = {
            "api_keys": {"digests": {"team-b": hashlib.sha256(KEY.encode()).hexdigest()}},
            "jwt": {**jwt, "algorithms": ["RS256", "ES256", "ES384"]},
        }
        cors = {"origins": [PAGE["Origin"]], "max_age_s": 60}
        worker = {"max_batch": 4}
        root = package(
            tmp_path_factory.mktemp("access") / "p", affine, target="cpu-worker", worker=worker, authorize=authorize, cors=cors
        )
        add_botocore(root)
        yield {name: opened.enter_context(entrance(root, rie)) for name, entrance in ENTRANCES.items()}


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, {"Content-Type": "application/json", **named})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("name", ENTRANCES)
def test_a_browser_asks_first_and_reads_every_answer(name: str, places: dict[str, int], made: dict[str, Any]) -> None:
    port = places[name]
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization,content-type"}
    status, headers, body = ask(port, "OPTIONS", INFER, **PAGE, **asked)
    assert (status, body, headers["access-control-allow-origin"]) == (204, b"", PAGE["Origin"])
    assert {"authorization", "content-type", "x-api-key"} <= set(headers["access-control-allow-headers"].split(", "))
    assert "POST" in headers["access-control-allow-methods"]
    for token, expected in ((made["good"][0], 200), (made["bad"][0], 401)):
        status, headers, body = ask(port, "POST", INFER, ROW, **PAGE, Authorization=f"Bearer {token}")
        assert (status, headers["access-control-allow-origin"]) == (expected, PAGE["Origin"])
        assert "x-trace-id" in headers["access-control-expose-headers"]
        assert ("outputs" if expected == 200 else "error") in json.loads(body)
    status, headers, _ = ask(port, "OPTIONS", INFER, Origin="https://evil.example", **asked)
    assert (status, "access-control-allow-origin" in headers) == (204, False)


@pytest.mark.parametrize("name", ENTRANCES)
def test_pyjwts_tokens_let_in_and_wrong_ones_do_not(name: str, places: dict[str, int], made: dict[str, Any]) -> None:
    port = places[name]
    assert [ask(port, "POST", INFER, ROW, Authorization=f"Bearer {token}")[0] for token in made["good"]] == [200] * 3
    for token in made["bad"]:
        status, headers, body = ask(port, "POST", INFER, ROW, Authorization=f"Bearer {token}")
        assert (status, json.loads(body)["error_type"]) == (401, "Unauthorized")
        assert "invalid_token" in headers["www-authenticate"]
    assert ask(port, "POST", INFER, ROW, X_API_Key=KEY)[0] == 200
    assert ask(port, "POST", INFER, ROW)[0] == 401
    assert ask(port, "GET", "/v2/health/ready")[0] == 200
    assert ask(port, "GET", "/v2/models/tiny")[0] == 401


def test_keys_come_over_tls_from_whom_they_should(made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, context = certificate(tmp_path, "127.0.0.1")
    with showing(json.dumps({"keys": made["keys"]}).encode(), context=context) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            fetched(f"https://127.0.0.1:{port}/keys", 3)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert len(parsed(fetched(f"https://127.0.0.1:{port}/keys?a=b", 3))) == 3


@pytest.mark.parametrize(
    ("told", "status", "said"), [(b"", 302, "answers 302"), (b"", 500, "answers 500"), (b"x" * (2 << 20), 200, "more than")]
)
def test_an_issuer_that_answers_otherwise_shows_no_keys(told: bytes, status: int, said: str) -> None:
    with showing(told, status) as port, pytest.raises(ValueError, match=said):
        fetched(f"http://127.0.0.1:{port}/keys", 3)


def test_keys_are_not_fetched_in_the_open() -> None:
    with pytest.raises(ValueError, match="is not https"):
        fetched("http://issuer.example/keys", 3)
