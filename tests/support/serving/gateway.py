"""A small gateway in front of a Lambda function: HTTP to events and back, in each form that AWS has for it.

Sources: AWS's developer guides: "Lambda proxy integrations in API Gateway" (payload formats 1.0 and 2.0), "Invoking Lambda function
URLs", "Lambda functions as targets" of Application Load Balancers: what is text there; everything else is base64.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Event = dict[str, Any]
Headers = list[tuple[str, str]]

_TEXT = ("text/", "application/json", "application/javascript", "application/xml")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "upgrade", "te"}


def rest_api(method: str, path: str, query: str, headers: Headers, body: bytes) -> Event:
    """A REST API (payload format 1.0) with `binaryMediaTypes: ["*/*"]`: names as they were sent, everything in base64."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": dict(headers),
        "multiValueHeaders": _lists(headers),
        "queryStringParameters": _pairs(query),
        "requestContext": {"stage": "prod", "httpMethod": method, "path": f"/prod{path}"},
        "body": base64.b64encode(body).decode() if body else None,
        "isBase64Encoded": bool(body),
    }


def http_api(method: str, path: str, query: str, headers: Headers, body: bytes) -> Event:
    """An HTTP API (payload format 2.0) whose stage is called v2: it stands before every path."""
    return {**function_url(method, f"/v2{path}", query, headers, body), "routeKey": "ANY /{proxy+}"}


def function_url(method: str, path: str, query: str, headers: Headers, body: bytes) -> Event:
    """A function URL: payload format 2.0, lower-case names, values of one name put together."""
    text = _as_text(headers, body)
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {name: ",".join(values) for name, values in _lists(headers, lower=True).items()},
        "requestContext": {"http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"}},
        **({} if not body else {"body": text if text is not None else base64.b64encode(body).decode()}),
        "isBase64Encoded": bool(body) and text is None,
    }


def balancer(method: str, path: str, query: str, headers: Headers, body: bytes) -> Event:
    """An Application Load Balancer."""
    text = _as_text(headers, body)
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:region:1:targetgroup/x/1"}},
        "httpMethod": method,
        "path": path,
        "queryStringParameters": _pairs(query),
        "headers": {name.lower(): value for name, value in headers},
        "body": text if text is not None else base64.b64encode(body).decode(),
        "isBase64Encoded": text is None,
    }


def balancer_of_lists(method: str, path: str, query: str, headers: Headers, body: bytes) -> Event:
    """The same, where the target group has multi-value headers on."""
    event = balancer(method, path, query, headers, body)
    del event["headers"]
    del event["queryStringParameters"]
    return {**event, "multiValueHeaders": _lists(headers, lower=True), "multiValueQueryStringParameters": {}}


FORMS: dict[str, Callable[[str, str, str, Headers, bytes], Event]] = {
    "rest-api": rest_api,
    "http-api": http_api,
    "function-url": function_url,
    "alb": balancer,
    "alb-multi": balancer_of_lists,
}


class Gateway:
    """HTTP on a port of loopback; `invoke` has an event answered by the function, one at a time."""

    def __init__(self, form: str, invoke: Callable[[Event], Any]) -> None:
        self._event = FORMS[form]
        self._takes_lists = form == "alb-multi"
        self._invoke = invoke
        self._alone = threading.Lock()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                status, headers, body = gateway.exchange(self)
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if self.command != "HEAD" else b"")

            def log_message(self, *_: object) -> None:
                pass

        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            setattr(Handler, f"do_{method}", Handler.answer)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def exchange(self, request: BaseHTTPRequestHandler) -> tuple[int, Headers, bytes]:
        """(status, headers, body) for a request, by way of an event and the function's answer."""
        path, _, query = request.path.partition("?")
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP]
        with self._alone:
            answer = self._invoke(self._event(request.command, path, query, headers, _body(request)))
        if not isinstance(answer, dict) or "statusCode" not in answer:
            return 502, [], json.dumps({"message": "Internal server error", "answer": answer}).encode()
        assert ("multiValueHeaders" in answer) == self._takes_lists, "headers in the form of another sender"
        lists = answer.get("multiValueHeaders") or {name: [value] for name, value in answer["headers"].items()}
        body = answer.get("body") or ""
        content = base64.b64decode(body, validate=True) if answer.get("isBase64Encoded") else body.encode()
        return answer["statusCode"], [(name, value) for name, values in lists.items() for value in values], content

    def close(self) -> None:
        """The end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in request.headers.get("Transfer-Encoding", ""):
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    pieces = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        pieces.append(request.rfile.read(size))
        request.rfile.readline()
    while request.rfile.readline().strip():
        pass
    return b"".join(pieces)


def _as_text(headers: Headers, body: bytes) -> str | None:
    """A body that is handed on as it is; None for one in base64: of another type than text, or compressed."""
    named = {name.lower(): value for name, value in headers}
    if "content-encoding" in named or not named.get("content-type", "").startswith(_TEXT):
        return None
    return body.decode()


def _lists(headers: Headers, *, lower: bool = False) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for name, value in headers:
        lists.setdefault(name.lower() if lower else name, []).append(value)
    return lists


def _pairs(query: str) -> dict[str, str] | None:
    return dict(part.partition("=")[::2] for part in query.split("&")) if query else None
