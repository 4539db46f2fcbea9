"""Who may ask a package over HTTP, and which pages: a real package, and every way in."""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.several_packages import WIDE, several
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.token_issuer import Signer

from mlpack_runtime import events, model, protocol, routes, telemetry
from mlpack_runtime.access import Access, cors, rates
from mlpack_runtime.access.api_keys import ApiKeys
from mlpack_runtime.around import CACHE_HEADER
from mlpack_runtime.limits import RequestError
from mlpack_runtime.model import ModelError
from mlpack_runtime.service import Reply, Service, open_service
from mlpack_runtime.serving.health import Server
from mlpack_runtime.several.service import Several

KEY = "k-0123456789abcdef0123456789abcdef"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
KEYS = {"api_keys": {"digests": {"team-a": DIGEST}}}
ROW = json.dumps({"inputs": {"pixels": [[1, 1, 1, 1]], "marks": [2]}}).encode()
PAGE = {"origin": "https://app.example.com"}
CORS = {"origins": ["https://app.example.com", "https://*.dev.example.com"]}
HOOK = """
import numpy

CALLS = []
def check(method, path, headers):
    CALLS.append((method, path))
    given = headers.get("x-user")
    if given == "bug":
        return 1 / 0
    if given == "stranger":
        raise ValueError("who is that?")
    if given == "guest":
        raise PermissionError("guests may look only")
    if given == "no":
        return False
    strange = {"answer": ("unknown", 401), "numpy": numpy.False_, "list": [], "bytes": b"me", "object": object()}
    if given in strange or given == "later":
        return strange[given] if given in strange else Later()
    return {"claims": {"tenant": given}, "plain": given, "open": None, "yes": True}.get(given, {"tenant": given})

class Later:
    def __await__(self):
        return iter(())

async def later():
    return False

def one_by_one(method, path, headers):
    yield False

class Checks:
    async def __call__(self, method, path, headers):
        return False

checks = Checks()
"""
Opened = Callable[..., Service]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = package(tmp_path_factory.mktemp("access"), affine)
    (made / "app/hook_of_access.py").write_text(HOOK)
    return made


@pytest.fixture
def opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Makes services of one package with these further keys in its model.json."""
    path = root / "model/model.json"
    before = path.read_text()
    monkeypatch.setattr(model, "ROOT", str(root))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(**settings: Any) -> Service:
        path.write_text(json.dumps({**json.loads(before), **settings}))
        return open_service()

    yield make
    path.write_text(before)


def told(reply: Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.body)["error_type"] if reply.status >= 400 else ""


def ask(service: Service, method: str = "POST", path: str = "/", **headers: str) -> Reply:
    return service.http(method, path, {name.replace("_", "-"): value for name, value in headers.items()}, ROW)


def test_a_key_lets_in_and_names_its_tenant(opened: Opened, capfd: pytest.CaptureFixture[str]) -> None:
    service = opened(authorize=KEYS)
    assert ask(service, x_api_key=KEY).status == 200
    line = json.loads(capfd.readouterr().out)
    assert (line["tenant"], line["status"]) == ("team-a", 200)
    assert line["stages_ms"]["authorize"] > 0
    for headers in ({}, {"x_api_key": ""}, {"authorization": f"Bearer {KEY}"}, {"x_api_key": KEY + "0"}, {"x_api_key": DIGEST}):
        reply = ask(service, **headers)
        assert told(reply) == (401, "Unauthorized")
        assert reply.headers["www-authenticate"] == 'ApiKey realm="tiny", header="x-api-key"'
        line = json.loads(capfd.readouterr().out)
        assert (line["error_stage"], line["level"], line["batch"]) == ("authorize", "WARNING", 0)
        assert KEY not in json.dumps(line)


@pytest.mark.parametrize(
    ("method", "path", "public", "status"),
    [
        ("GET", "/v2/health/ready", ["health"], 200),
        ("GET", "/prod/v2/health/live", ["health"], 200),
        ("GET", "/v2/models/tiny/ready", ["health"], 200),
        ("GET", "/v2/health/ready", [], 401),
        ("GET", "/v2/models/tiny", ["health"], 401),
        ("GET", "/v2/models/tiny", ["metadata"], 200),
        ("GET", "/v2", ["metadata"], 200),
        ("GET", "/nothing", ["health"], 401),
        ("GET", "/v2/requests/abc", ["health", "metadata", "metrics"], 401),
        ("POST", "/v2/health/ready", ["health", "metadata"], 401),
        ("POST", "/v2/models/tiny/infer", ["health", "metadata"], 401),
        ("POST", "/ping", ["health"], 401),
        ("OPTIONS", "/", ["health", "metadata"], 401),
        ("GET", "/v2/health/ready/../../models/tiny/infer", ["health"], 404),
    ],
)
def test_what_is_public_is_said(opened: Opened, method: str, path: str, public: list[str], status: int) -> None:
    service = opened(authorize={**KEYS, "public": public})
    assert ask(service, method, path).status == status


def test_other_entrances_are_as_before(opened: Opened) -> None:
    service = opened(authorize=KEYS)
    assert service.value(json.loads(ROW)).status == 200
    assert service.message({}, ROW, "1", {}).status == 200
    assert service.warmup().status == 200


def test_a_package_without_settings_has_nothing_of_it(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlpack_runtime.access")
    service = opened()
    assert service.access is None
    assert ask(service, **PAGE).headers.keys() == {"content-type", "x-trace-id"}
    assert "mlpack_runtime.access" not in sys.modules


@pytest.mark.parametrize(
    ("settings", "environ", "said"),
    [
        ({"digests": ["plain-key"]}, {}, "is no sha256 in hex"),
        ({"digests": []}, {}, "nobody could be let in"),
        ({"env": "KEYS"}, {}, "KEYS is not set"),
        ({"env": "KEYS"}, {"KEYS": "a=b"}, "is no sha256"),
        ({"env": "KEYS"}, {"KEYS": "{"}, "is not JSON"),
        ({"file": "/nowhere/keys"}, {}, "is not there"),
    ],
)
def test_wrong_digests_keep_a_package_from_starting(settings: Any, environ: dict[str, str], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        ApiKeys(settings, environ)


@pytest.mark.parametrize(
    "text", [DIGEST, f"a={DIGEST}", f"sha256:{DIGEST.upper()}, b={'0' * 64}", f'{{"a": "{DIGEST}"}}', f'["{DIGEST}"]']
)
def test_digests_come_from_a_variable_or_a_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(text + "\n")
    (tmp_path / "windows").write_text(text + "\r\n", "utf-8-sig")
    files = [ApiKeys({"file": str(tmp_path / name)}, {}) for name in ("keys", "windows")]
    for keys in (ApiKeys({"env": "KEYS"}, {"KEYS": text}), *files):
        assert keys.identify("POST", "/", {"x-api-key": KEY}) in ("a", DIGEST[:12])


@pytest.mark.parametrize("given", [f"Bearer {KEY}", f"bearer  {KEY}", f"ApiKey {KEY}"])
def test_a_key_may_come_as_authorization(given: str) -> None:
    keys = ApiKeys({"header": "Authorization", "digests": [DIGEST]}, {})
    assert keys.identify("POST", "/", {"authorization": given}) == DIGEST[:12]
    assert keys.identify("POST", "/", {"authorization": f"Basic {KEY}"}) is None


def test_the_operators_key_lets_in_beside_the_others(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPACK_ACCESS_KEY_SHA256", hashlib.sha256(b"boot").hexdigest())
    service = opened(authorize=KEYS)
    assert [ask(service, **{"x-mlpack-key": key}).status for key in ("boot", "other")] == [200, 401]
    assert ask(service, x_api_key=KEY).status == 200
    service = opened(authorize={"api_keys": {"env": "KEYS_OF_NO_BUILD"}})  # it is there where the package is deployed
    assert [ask(service, **{"x-mlpack-key": "boot"}).status, ask(service, x_api_key=KEY).status, ask(service).status] == [
        200,
        401,
        401,
    ]
    monkeypatch.setenv("MLPACK_ACCESS_KEY_SHA256", "boot")
    with pytest.raises(ModelError, match="MLPACK_ACCESS_KEY_SHA256: 'boot' is no sha256"):
        opened(authorize=KEYS)


def test_keys_and_tokens_stand_side_by_side(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer("ES256")
    monkeypatch.setattr("mlpack_runtime.access.key_sets.fetched", lambda *_: json.dumps({"keys": [signer.jwk()]}).encode())
    jwt = {"jwks": "https://i.example/keys", "issuer": ["https://issuer.example"], "audience": ["mlpack"]}
    service = opened(authorize={**KEYS, "jwt": jwt})
    assert ask(service, x_api_key=KEY).status == 200
    assert ask(service, authorization=f"Bearer {signer.token(exp=4_000_000_000, nbf=None)}").status == 200
    reply = ask(service, authorization="Bearer x.y.z")
    assert (reply.status, "invalid_token" in reply.headers["www-authenticate"]) == (401, True)
    assert ask(service).headers["www-authenticate"] == 'ApiKey realm="tiny", header="x-api-key", Bearer realm="tiny"'
    token = f"Bearer {signer.token(exp=4_000_000_000, nbf=None)}"
    assert ask(service, x_api_key="of-another-service", authorization=token).status == 200
    assert ask(service, x_api_key=KEY, authorization="Bearer x.y.z").status == 200
    assert told(ask(service, x_api_key="of-another-service")) == (401, "Unauthorized")
    monkeypatch.setenv("MLPACK_ACCESS_KEY_SHA256", hashlib.sha256(b"operator").hexdigest())
    service = opened(authorize={"api_keys": {**KEYS["api_keys"], "header": "authorization"}, "jwt": jwt})
    assert [ask(service, authorization=each).status for each in (f"Bearer {KEY}", token, "Bearer x.y.z")] == [200, 200, 401]
    assert ask(service, authorization=token, x_mlpack_key="wrong").status == 200


@pytest.mark.parametrize(
    ("user", "status", "kind", "tenant"),
    [
        ("claims", 200, "", "claims"),
        ("plain", 200, "", "plain"),
        ("open", 200, "", None),
        ("yes", 200, "", None),
        ("no", 401, "Unauthorized", None),
        ("stranger", 401, "Unauthorized", None),
        ("guest", 403, "Forbidden", None),
        ("bug", 500, "HookError", None),
    ],
)
def test_a_hook_decides_and_its_bugs_are_its_own(
    opened: Opened, capfd: pytest.CaptureFixture[str], user: str, status: int, kind: str, tenant: str | None
) -> None:
    service = opened(authorize={"hook": "hook_of_access:check"})
    reply = ask(service, x_user=user)
    assert told(reply) == (status, kind)
    line = json.loads(capfd.readouterr().out)
    assert line.get("tenant") == tenant
    assert line.get("error_stage") == (None if status == 200 else "authorize")
    assert line.get("hook_errors") == (1 if status == 500 else None)
    assert ("ZeroDivisionError: division by zero" in line.get("traceback", "")) == (status == 500)
    assert "division by zero" not in reply.body.decode()  # strangers read that


@pytest.mark.parametrize("user", ["answer", "numpy", "list", "later", "bytes", "object"])
def test_what_a_hook_may_not_return_lets_nobody_in(opened: Opened, user: str) -> None:
    reply = ask(opened(authorize={"hook": "hook_of_access:check"}), x_user=user)
    assert told(reply) == (500, "HookError")
    assert "not a tenant, claims, None, True or False" in json.loads(reply.body)["error"]


@pytest.mark.parametrize("name", ["later", "one_by_one", "checks"])
def test_a_hook_that_nobody_would_run_is_refused(opened: Opened, name: str) -> None:
    with pytest.raises(ModelError, match=rf"hook 'hook_of_access:{name}' is async or has a yield, and nobody would run it"):
        opened(authorize={"hook": f"hook_of_access:{name}"})
    with pytest.raises(ModelError, match="is async or has a yield"):
        opened(preprocess=f"hook_of_access:{name}")


def test_a_front_door_runs_no_hook(opened: Opened) -> None:
    described = opened().model
    described.settings = {**described.settings, "authorize": {"hook": "hook_of_access:check"}}
    with pytest.raises(ModelError, match="a front door runs no hooks"):
        Access(described, {}, hooks=False)
    described.settings = {**described.settings, "authorize": {"public": ["health"]}}
    with pytest.raises(ModelError, match="names no way to know a caller"):
        Access(described, {"MLPACK_ACCESS_KEY_SHA256": DIGEST})


def test_limits_are_each_tenants_own(opened: Opened) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    keys = {"api_keys": {"digests": {"team-a": DIGEST, "team-b": other}}, "limits": {"per_second": 0.01, "burst": 2}}
    service = opened(authorize=keys)
    assert [ask(service, x_api_key=KEY).status for _ in range(3)] == [200, 200, 429]
    reply = ask(service, x_api_key=KEY)
    assert told(reply) == (429, "RateLimited")
    assert 50 < int(reply.headers["retry-after"]) <= 100
    assert ask(service, x_api_key="other").status == 200
    assert ask(service, "GET", "/v2/health/ready").status == 200


def test_rates_fill_again_and_days_end() -> None:
    times = [0.0]
    counted = rates.Rates(
        {"per_second": 2, "per_day": 5, "tenants": {"big": {"per_day": 100}}}, lambda: times[0], lambda: 86_390 + times[0]
    )

    def passes(tenant: str) -> int | str:
        try:
            counted.take(tenant)
        except RequestError as error:
            return error.headers["retry-after"]
        return ""

    assert [passes("a") for _ in range(3)] == ["", "", "1"]
    times[0] = 1
    assert [passes("a") for _ in range(3)] == ["", "", "1"]
    times[0] = 2
    assert [passes("a") for _ in range(2)] == ["", "8"]
    assert passes("big") == ""
    times[0] = 11
    assert passes("a") == ""


def test_tenants_without_number_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_MOST", 10)
    counted = rates.Rates({"per_day": 1})
    for name in range(100):
        counted.take(str(name))
    assert len(counted._known) == 10
    with pytest.raises(RequestError):
        counted.take("99")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("https://APP.example.com", True),
        ("https://x.dev.example.com", True),
        ("https://a.b.dev.example.com", True),
        ("https://dev.example.com", False),
        ("https://app.example.com.evil.com", False),
        ("https://evil.com/.dev.example.com", False),
        ("https://evil.com#.dev.example.com", False),
        ("https://a\r\nx.dev.example.com", False),
        ("https://evil.com\\.dev.example.com", False),
        ("https://_a%20b.dev.example.com", False),
        ("http://app.example.com", False),
        ("https://app.example.com:444", False),
        ("null", False),
    ],
)
def test_origins_are_compared_whole(opened: Opened, origin: str, allowed: bool) -> None:
    service = opened(cors=CORS)
    asked = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    before = service.http("OPTIONS", "/v2/models/tiny/infer", asked, b"")
    assert (before.status, before.body) == (204, b"")
    assert before.headers.get("access-control-allow-origin") == (origin if allowed else None)
    assert ("access-control-allow-methods" in before.headers) == allowed
    after = ask(service, origin=origin)
    assert after.status == 200
    assert after.headers.get("access-control-allow-origin") == (origin if allowed else None)
    assert after.headers["vary"] == "origin"


def test_a_preflight_is_free_and_errors_can_be_read(opened: Opened, capfd: pytest.CaptureFixture[str]) -> None:
    service = opened(cors={**CORS, "credentials": True, "max_age_s": 60}, authorize=KEYS)
    before = service.http("OPTIONS", "/", {**PAGE, "access-control-request-method": "POST"}, b"")
    assert before.status == 204
    assert before.headers["access-control-max-age"] == "60"
    assert before.headers["access-control-allow-credentials"] == "true"
    assert "x-api-key" in before.headers["access-control-allow-headers"].split(", ")
    assert not capfd.readouterr().out  # no request to the model
    for reply in (
        ask(service, **PAGE),
        ask(service, "PUT", "/v2", **PAGE, x_api_key=KEY),
        service.refuse(RequestError("x"), "", PAGE),
    ):
        assert reply.status in (400, 401, 405)
        assert reply.headers["access-control-allow-origin"] == PAGE["origin"]
        assert "x-trace-id" in reply.headers["access-control-expose-headers"]
    assert ask(service, "OPTIONS", "/", **PAGE).status == 401  # no preflight: it names no method


def test_pages_may_send_and_read_every_header_of_ours() -> None:
    assert {routes.MODEL_HEADER, telemetry.TRACE_HEADER, protocol.HEADER_LENGTH} <= set(cors.HEADERS)
    assert {CACHE_HEADER, telemetry.TRACE_HEADER, protocol.HEADER_LENGTH} <= set(cors.EXPOSED)
    assert all(list(names) == sorted(names) for names in (cors.HEADERS, cors.EXPOSED))


def test_any_origin_is_said_as_such() -> None:
    anybody = cors.Cors({"origins": ["*"], "credentials": True, "headers": ["a"], "methods": ["POST"]})
    answered: dict[str, str] = {}
    anybody.mark(PAGE, answered)
    assert answered["access-control-allow-origin"] == "*"
    assert not {"vary", "access-control-allow-credentials"} & answered.keys()
    assert (anybody.preflight("OPTIONS", {**PAGE, "access-control-request-method": "PUT"}) or {})[
        "access-control-allow-headers"
    ] == "a"
    answered = {"vary": "accept-encoding"}
    cors.Cors(CORS).mark({}, answered)
    cors.Cors(CORS).mark(PAGE, answered)
    assert answered["vary"] == "accept-encoding, origin"


@pytest.mark.parametrize(
    "event",
    [
        {"version": "2.0", "rawPath": "/v2", "requestContext": {"http": {"method": "OPTIONS"}}},
        {"httpMethod": "OPTIONS", "path": "/prod/v2", "requestContext": {"stage": "prod"}},
        {"httpMethod": "OPTIONS", "path": "/", "requestContext": {"elb": {}}},
    ],
)
def test_lambdas_events_get_their_preflight(opened: Opened, event: dict[str, Any]) -> None:
    service = opened(cors=CORS)
    event["headers"] = {"Origin": PAGE["origin"], "Access-Control-Request-Method": "POST"}
    asked = events.Asked(event)
    answer = events.envelope(event, service.http(asked.method, asked.path, asked.headers, events.body(event), "", asked.check))
    assert (answer["statusCode"], answer["body"]) == (204, "")
    assert answer["headers"]["access-control-allow-origin"] == PAGE["origin"]
    many = {"requestContext": {"elb": {}}, "httpMethod": "OPTIONS", "path": "/", "headers": None}
    many["multiValueHeaders"] = {name: [value] for name, value in event["headers"].items()}
    asked = events.Asked(many)
    answer = events.envelope(many, service.http(asked.method, asked.path, asked.headers, b"", "", asked.check))
    assert answer["multiValueHeaders"]["access-control-allow-origin"] == [PAGE["origin"]]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(0, lambda: "" if made.service else "the model is being loaded", host="127.0.0.1")
    made.start()
    yield made
    made.stop(5)


def send(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def test_a_container_marks_every_answer(server: Server, opened: Opened) -> None:
    server.cors = cors.Cors(CORS)
    status, headers = send(server, "OPTIONS", "/", Access_Control_Request_Method="POST", **PAGE)
    assert (status, headers["access-control-allow-origin"]) == (204, PAGE["origin"])
    assert "content-length" not in headers
    assert send(server, "POST", "/", ROW, **PAGE)[0] == 503
    service = server.service = opened(cors=CORS, authorize=KEYS)
    assert service is not None
    cases = [
        ("POST", "/", {}, 401), ("POST", "/", {"x_api_key": KEY}, 200), ("GET", "/v2/health/ready", {}, 200),
        ("GET", "/nothing", {}, 401),
        ("POST", "/", {"x_api_key": KEY, "content_encoding": "br"}, 415), ("TRACE", "/", {}, 405),
        ("OPTIONS", "/", {"access_control_request_method": "POST"}, 204),
    ]  # fmt: skip
    for method, path, more, expected in cases:
        status, headers = send(server, method, path, ROW if method == "POST" else b"", **PAGE, **more)
        assert status == expected, (method, path)
        if method != "TRACE":  # a head that is not read has no origin
            assert headers["access-control-allow-origin"] == PAGE["origin"]


def test_a_containers_health_may_be_closed_and_metrics_are(server: Server, opened: Opened) -> None:
    from mlpack_runtime.serving.prometheus import Metrics

    server.metrics = Metrics()
    assert send(server, "GET", "/metrics")[0] == 200
    server.hides_metrics = True  # until it is known who may see them
    assert [send(server, "GET", path)[0] for path in ("/metrics", "/v2/health/live", "/ping")] == [503, 200, 503]
    server.service = opened(authorize=KEYS)
    assert send(server, "GET", "/metrics")[0] == 401
    assert send(server, "GET", "/metrics", x_api_key=KEY)[0] == 200
    assert send(server, "GET", "/ping")[0] == 200
    server.service = opened(authorize={**KEYS, "public": ["metrics"]})
    assert [send(server, "GET", path)[0] for path in ("/metrics", "/ping", "/v2/health/live", "/startupz")] == [200, 401, 401, 401]


def test_a_strangers_body_is_not_received(server: Server, opened: Opened) -> None:
    server.service = opened(authorize=KEYS)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", "8000000")
    connection.endheaders()
    answer = connection.getresponse()  # before a byte of the body is sent
    assert (answer.status, answer.getheader("connection")) == (401, "close")
    connection.close()


def test_hook_errors_are_a_metric() -> None:
    record = telemetry.Record("t", "r", cold_start=False)
    record.metrics["hook_errors"] = 1
    described: Any = type("Described", (), dict.fromkeys(("name", "version", "variant", "target"), "x"))
    line = json.loads(telemetry.line(record, described))
    assert {"Name": "hook_errors", "Unit": "Count"} in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]


def test_a_package_of_several_models_asks_before_it_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = several(tmp_path / "several")
    for path in (root / "models").glob("*/model.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "authorize": KEYS, "cors": CORS}))
    monkeypatch.setattr(model, "ROOT", str(root))
    service = open_service()
    closed = [
        ("POST", "/v2/repository/index"), ("GET", "/v2/repository/index"), ("POST", "/v2/repository/models/wide/load"),
        ("POST", "/v2/repository/models/wide/unload"), ("GET", "/v2"), ("GET", "/v2/models/wide"), ("GET", "/v2/models/nobody"),
        ("POST", "/v2/models/nobody/infer"), ("POST", "/v2/models/wide/infer"), ("POST", "/v2/models/affine/infer"), ("POST", "/"),
        ("POST", "/v2/models/wide/versions/9/infer"), ("GET", "/v2/models/wide/versions/infer"), ("GET", "/v2/models/ready"),
    ]  # fmt: skip
    for method, path in closed:
        reply = service.http(method, path, PAGE, b"{}")
        assert told(reply) == (401, "Unauthorized"), (method, path)
        assert reply.headers["access-control-allow-origin"] == PAGE["origin"]
        assert not any(word in reply.body.decode() for word in ("wide", "this package is"))
    assert service.refuse(RequestError("x"), "", PAGE).headers["access-control-allow-origin"] == PAGE["origin"]
    assert isinstance(service, Several)
    assert [each.service.model.name for each in service.shelf.values()] == ["affine"]  # no stranger loads one
    assert service.http("GET", "/v2/models/wide/ready", {}, b"").status == 200
    assert [ask(service, path=path, x_api_key=KEY).status for path in ("/", "/v2/repository/index")] == [200, 200]
    assert service.http("POST", "/v2/repository/index", {"x-api-key": KEY}, b"").status == 200
    preflight = {**PAGE, "access-control-request-method": "POST"}
    assert [service.http("OPTIONS", path, preflight, b"").status for path in ("/v2/models/wide/infer", "/v2/repository/index")] == [
        204,
        204,
    ]


def test_several_models_share_a_tenants_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = several(tmp_path / "several")
    limited = {**KEYS, "limits": {"per_second": 0.001, "burst": 5}}
    for path in (root / "models").glob("*/model.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "authorize": limited}))
    monkeypatch.setattr(model, "ROOT", str(root))
    service, headers = open_service(), {"x-api-key": KEY}
    asked = [
        ("/v2/models/wide/infer", WIDE), ("/v2/repository/models/wide/unload", {}), ("/v2/repository/models/wide/load", {}),
        ("/v2/models/wide/infer", WIDE), ("/v2/repository/index", {}), ("/v2/models/affine/infer", {}),
    ]  # fmt: skip
    capfd.readouterr()
    statuses = [service.http("POST", path, headers, json.dumps(body).encode()).status for path, body in asked]
    assert statuses == [200, 200, 200, 200, 200, 429]
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["model"], line.get("tenant"), "authorize" in line["stages_ms"]) for line in lines if line["status"] == 200] == [
        ("wide", "team-a", True),
        ("wide", "team-a", True),
    ]


def test_a_hook_is_asked_once_where_there_are_several_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = several(tmp_path / "several")
    (root / "app").mkdir(exist_ok=True)
    (root / "app/hook_of_several.py").write_text(HOOK)
    for path in (root / "models").glob("*/model.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "authorize": {"hook": "hook_of_several:check"}}))
    monkeypatch.setattr(model, "ROOT", str(root))
    monkeypatch.setattr(sys, "path", list(sys.path))
    service = open_service()
    for path in ("/v2/models/wide/infer", "/", "/v2/repository/index"):
        calls = sys.modules["hook_of_several"].CALLS
        calls.clear()
        assert service.http("POST", path, {"x-user": "me"}, b"{}").status in (200, 400)
        assert calls == [("POST", path)]
