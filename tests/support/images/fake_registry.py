"""A registry in memory, on loopback, that misbehaves on request: each switch is something a real registry was seen to do.

It speaks the distribution specification's pull, push and mount; it checks digests as real ones do. What it was asked is kept in
`requests`, so that a test can say what must not have been sent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

USER, PASSWORD = "ada", "hunter2"
IDENTITY_TOKEN = "refresh-me"


@dataclass
class Switches:
    """How it misbehaves. A number counts down with every time it does."""

    auth: str = "none"
    """none | basic | bearer"""
    token_uses: int = 1_000_000
    """Requests a bearer token is good for: a small number expires it in the middle of an upload."""
    relative_location: bool = False
    location_query: str = ""
    """What an upload's Location has after `?`, to be kept by the client."""
    upload_origin: str = ""
    """Another origin to which uploads are sent; "" is this one."""
    blob_origin: str = ""
    """Another origin to which downloads of blobs are redirected."""
    mount: str = "granted"
    """granted | ignored (202, an upload) | 405 | 500"""
    failures: list[tuple[str, str, int]] = field(default_factory=list)
    """(method, part of the path, status): answered once each, in order, instead of the truth."""
    retry_after: str | None = None
    """Header on those failures."""
    resets: int = 0
    """Uploads broken off in the middle, without an answer."""
    early_refusals: int = 0
    """Uploads answered with 503 before they were read, the connection closed, as proxies do."""
    forgotten_uploads: int = 0
    """Uploads that end in 404, as when the session expired."""
    truncated_downloads: int = 0
    ranges: bool = True
    """Whether a download can be resumed."""
    damaged_downloads: int = 0
    endless_blobs: bool = False
    """Downloads without a length that never stop by themselves (they do after 64 MiB)."""
    digest_header: bool = True
    lying_manifest: bool = False
    """Manifests come back with other bytes than were asked for."""
    chunks: bool = False
    """ECR answers 201 to a first chunk, others refuse chunks: the client must never need them."""
    denied: int = 0
    """The status that whoever is signed in is answered with, as when they may not see a repository."""
    silent_tags: bool = False
    """Accepts a manifest under a tag and keeps the old one."""


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    host: str
    authorization: str | None


class FakeRegistry:
    """Start with `with FakeRegistry() as registry:`; `registry.host` goes into references."""

    def __init__(self, **switches: Any) -> None:
        self.switches = Switches(**switches)
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.requests: list[Request] = []
        self.tokens: dict[str, int] = {}
        self.token_scopes: list[list[str]] = []
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.registry = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def other_origin(self) -> str:
        """The same registry under another host name: another origin to every client."""
        return f"http://localhost:{self.port}"

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, method: str, part: str = "") -> list[Request]:
        """What it was asked by `method`, with `part` in the path."""
        return [each for each in self.requests if each.method == method and part in each.path]

    def take(self, name: str) -> bool:
        """Count a switch down; whether it was above zero."""
        with self.lock:
            left = getattr(self.switches, name)
            setattr(self.switches, name, max(0, left - 1))
            return bool(left)

    def add_manifest(self, repository: str, name: str, kind: str, data: bytes) -> str:
        """Put a manifest there by hand, under `name` and its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        for each in (name, digest):
            self.manifests[repository, each] = (kind, data)
        return digest

    def add_blob(self, repository: str, data: bytes) -> str:
        """Put a blob there by hand."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[repository, digest] = data
        return digest


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: without this, 40 ms each

    @property
    def registry(self) -> FakeRegistry:
        found: FakeRegistry = self.server.registry  # type: ignore[attr-defined]
        return found

    def log_message(self, *_: Any) -> None:
        """Silent: tests look at `requests`."""

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ValueError):  # the client went away, or a reset was played
            self.close_connection = True

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names http.server calls

    def _serve(self) -> None:
        registry, path = self.registry, urllib.parse.urlsplit(self.path)
        with registry.lock:
            registry.requests.append(Request(self.command, self.path, self.headers["Host"], self.headers["Authorization"]))
        body = self._body(path.path)
        if body is None:
            return
        if path.path == "/token":
            self._token(path.query, body)
            return
        if self._failed() or not self._authorized():
            return
        if self.registry.switches.denied:
            self._answer(self.registry.switches.denied)
            return
        query = dict(urllib.parse.parse_qsl(path.query))
        for pattern, serve in (
            (r"/v2/(.+)/blobs/uploads/(.*)", self._upload),
            (r"/v2/(.+)/blobs/(sha256:.+)", self._blob),
            (r"/v2/(.+)/manifests/(.+)", self._manifest),
        ):
            if match := re.fullmatch(pattern, path.path):
                serve(match[1], match[2], query, body)
                return
        self._answer(404)

    def _body(self, path: str) -> bytes | None:
        """The request's body; None when the connection is played broken."""
        length = int(self.headers["Content-Length"] or 0)
        if self.command == "PUT" and "/uploads/" in path and self.registry.take("resets"):
            self.rfile.read(length // 2)
            self.connection.close()
            self.close_connection = True
            return None
        if self.command == "PUT" and "/uploads/" in path and self.registry.take("early_refusals"):
            self._answer(503)
            self.close_connection = True
            return None
        return self.rfile.read(length)

    def _failed(self) -> bool:
        switches = self.registry.switches
        with self.registry.lock:
            due = next((each for each in switches.failures if each[0] == self.command and each[1] in self.path), None)
            if due is None:
                return False
            switches.failures.remove(due)
        self._answer(due[2], b'{"errors":[{"code":"X"}]}', {"Retry-After": switches.retry_after} if switches.retry_after else {})
        return True

    def _authorized(self) -> bool:
        registry, sent = self.registry, self.headers["Authorization"] or ""
        wanted = registry.switches.auth
        if wanted == "none" or (registry.switches.upload_origin or registry.switches.blob_origin).endswith(self.headers["Host"]):
            return True
        if wanted == "basic":
            if sent == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
                return True
            self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="private, \\"here\\""'})
            return False
        with registry.lock:
            token = sent.removeprefix("Bearer ")
            if registry.tokens.get(token, 0) > 0:
                registry.tokens[token] -= 1
                return True
        challenge = f'Bearer realm="http://{registry.host}/token",service="fake registry",scope="repository:x:pull"'
        self._answer(401, b"", {"WWW-Authenticate": challenge})
        return False

    def _token(self, query: str, body: bytes) -> None:
        registry = self.registry
        fields = urllib.parse.parse_qs(body.decode() if self.command == "POST" else query)
        if self.command == "POST":
            known = fields.get("refresh_token") == [IDENTITY_TOKEN]
        else:
            sent = self.headers["Authorization"]
            known = sent in (None, "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        if not known or fields.get("service") != ["fake registry"]:
            self._answer(401)
            return
        with registry.lock:
            token = f"token-{len(registry.tokens)}"
            registry.tokens[token] = registry.switches.token_uses
            registry.token_scopes.append(fields["scope"])
        self._answer(200, json.dumps({"access_token" if self.command == "POST" else "token": token}).encode())

    def _upload(self, repository: str, session: str, query: dict[str, str], body: bytes) -> None:
        registry, switches = self.registry, self.registry.switches
        if self.command == "POST" and "mount" in query:
            there = registry.blobs.get((query["from"], query["mount"]))
            if switches.mount == "granted" and there is not None:
                registry.blobs[repository, query["mount"]] = there
                self._answer(201, b"", {"Location": f"/v2/{repository}/blobs/{query['mount']}"})
                return
            if switches.mount.isdigit():
                self._answer(int(switches.mount))
                return
        if self.command == "POST":
            place = f"/v2/{repository}/blobs/uploads/1234"
            origin = "" if switches.relative_location else switches.upload_origin or f"http://{registry.host}"
            tail = f"?{switches.location_query}" if switches.location_query else ""
            self._answer(202, b"", {"Location": f"{origin}{place}{tail}"})
        elif self.command == "PATCH":
            self._answer(201 if switches.chunks else 405)
        elif registry.take("forgotten_uploads"):
            self._answer(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
        elif not set(urllib.parse.parse_qsl(switches.location_query)) <= set(query.items()):
            self._answer(400)
        elif query.get("digest") != "sha256:" + hashlib.sha256(body).hexdigest():
            self._answer(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        else:
            registry.add_blob(repository, body)
            self._answer(201, b"", {"Location": f"/v2/{repository}/blobs/{query['digest']}"})

    def _blob(self, repository: str, digest: str, query: dict[str, str], body: bytes) -> None:
        registry, switches = self.registry, self.registry.switches
        data = registry.blobs.get((repository, digest))
        if data is None:
            self._answer(404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}')
            return
        if self.command == "GET" and switches.blob_origin and not switches.blob_origin.endswith(self.headers["Host"]):
            self._answer(307, b"", {"Location": f"{switches.blob_origin}{self.path}?signature=secret"})
            return
        if self.command == "GET" and switches.endless_blobs:
            self._endless()
            return
        if self.command == "GET" and registry.take("damaged_downloads"):
            data = bytes([data[0] ^ 1]) + data[1:]
        start = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if start and switches.ranges:
            self._send(206, data[int(start[1]) :], {"Content-Range": f"bytes {start[1]}-{len(data) - 1}/{len(data)}"})
        else:
            self._send(200, data, {})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        if self.command == "GET" and len(data) > 1 and self.registry.take("truncated_downloads"):
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self._answer(status, data, headers)

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(64):
            self.wfile.write(bytes(1 << 20))
        self.close_connection = True

    def _manifest(self, repository: str, name: str, query: dict[str, str], body: bytes) -> None:
        if self.command == "DELETE":
            self._delete(repository, name)
            return
        registry, switches = self.registry, self.registry.switches
        if self.command == "PUT":
            named = json.loads(body)
            blobs = [named["config"]["digest"], *(layer["digest"] for layer in named["layers"])]
            if any((repository, each) not in registry.blobs for each in blobs):
                self._answer(400, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}')
                return
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            old = registry.manifests.get((repository, name))
            registry.add_manifest(repository, name, self.headers["Content-Type"], body)
            if switches.silent_tags and old and not name.startswith("sha256:"):
                registry.manifests[repository, name] = old
            self._answer(201, b"", {"Docker-Content-Digest": digest})
            return
        found = registry.manifests.get((repository, name))
        if found is None:
            self._answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
            return
        kind, data = found
        if switches.lying_manifest:
            data += b" "
        headers = {"Content-Type": kind}
        if switches.digest_header:
            headers["Docker-Content-Digest"] = "sha256:" + hashlib.sha256(data).hexdigest()
        self._answer(200, data, headers)

    def _delete(self, repository: str, name: str) -> None:
        """A manifest by its digest, with its tags."""
        kept = self.registry.manifests
        gone = [key for key, value in kept.items() if key[0] == repository and value == kept.get((repository, name))]
        for key in gone:
            del kept[key]
        self._answer(202 if gone else 404)

    def _answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
