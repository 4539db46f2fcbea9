"""`serve.authorize` and `serve.cors` in a recipe: what model.json gets, and what would let anybody in by mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlpack.core.records import Signature
from mlpack.errors import RecipeError
from mlpack.recipe import reader, runtime_settings

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
RECIPE = """\
name: small
source: {onnx: model.onnx}
data: {evaluation: eval.npz}
targets: {lambda-zip: {}}
serve:
"""


def loaded(tmp_path: Path, serve: str) -> dict[str, Any]:
    """What model.json would have of a recipe with these lines under `serve`."""
    for name in ("model.onnx", "eval.npz"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "auth.py").write_text("def check(method, path, headers):\n    return None\n")
    (tmp_path / "keys.txt").write_text(f"team-b={DIGEST}\n")
    (tmp_path / "empty.txt").write_text("# none\n")
    (tmp_path / "bad.txt").write_text("secret\n")
    (tmp_path / "deep.txt").write_text(100_000 * "[")
    (tmp_path / "windows.txt").write_text(f"team-c={DIGEST}\r\n", "utf-8-sig")
    (tmp_path / "r.yaml").write_text(RECIPE + "".join(f"  {line}\n" for line in serve.splitlines()))
    return runtime_settings.settings(reader.load(tmp_path / "r.yaml"), None, Signature(inputs=(), outputs=()))


def test_keys_become_what_the_runtime_reads(tmp_path: Path) -> None:
    serve = f"""\
authorize:
  api_keys: {{header: X-Key, digests: {{team-a: 'sha256:{DIGEST.upper()}'}}, env: KEYS, file: keys.txt}}
  jwt:
    {{jwks: 'https://i.example/keys', issuer: 'https://i.example', audience: [a, b], leeway: 30s,
    require: {{scope: predict, verified: true, tier: [1, 2]}}}}
  limits: {{per_second: 5, tenants: {{big: {{per_second: 50, burst: 100}}}}}}
  public: [metadata, health]
cors: {{origins: 'https://app.example.com', max_age: 5min, credentials: true}}
"""
    assert loaded(tmp_path, serve) == {
        "authorize": {
            "public": ["health", "metadata"],
            "api_keys": {"header": "x-key", "env": "KEYS", "digests": {"team-a": DIGEST, "team-b": DIGEST}},
            "jwt": {
                "jwks": "https://i.example/keys",
                "issuer": ["https://i.example"],
                "audience": ["a", "b"],
                "algorithms": ["RS256", "ES256"],
                "leeway_s": 30.0,
                "tenant": "sub",
                "require": {"scope": ["predict"], "verified": ["true"], "tier": ["1", "2"]},
            },
            "limits": {"per_second": 5.0, "tenants": {"big": {"per_second": 50.0, "burst": 100}}},
        },
        "cors": {"origins": ["https://app.example.com"], "max_age_s": 300, "credentials": True, "more_headers": ["x-key"]},
    }


def test_a_file_of_keys_may_be_windows_own(tmp_path: Path) -> None:
    made = loaded(tmp_path, "authorize: {api_keys: {file: windows.txt}}")
    assert made["authorize"]["api_keys"]["digests"] == {"team-c": DIGEST}


def test_a_hook_alone_is_short_and_needs_modules(tmp_path: Path) -> None:
    made = loaded(tmp_path, "authorize: auth:check\npreload: [json]\n")
    assert made == {"authorize": {"hook": "auth:check", "public": ["health"]}, "preload": ["json"]}
    assert runtime_settings.modules(None, made) == ("access",)


@pytest.mark.parametrize(
    "origin",
    ["https://*.example.com", "https://*.example.co.uk", "http://*.localhost:3000", "https://*.id.me", "https://*.shop.internal"],
)
def test_any_page_below_ones_own_domain_may_ask(tmp_path: Path, origin: str) -> None:
    assert loaded(tmp_path, f"cors: {{origins: '{origin}'}}")["cors"]["origins"] == [origin]


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        ("authorize: {}", "lets nobody in"),
        ("authorize: absent:check", "serve.authorize: "),
        ("authorize: {api_keys: {}}", "knows no key: say digests, env or file"),
        ("authorize: {api_keys: {digests: [my-secret-key]}}", "never the key itself"),
        ("authorize: {api_keys: {digests: []}}", "must be a list of digests"),
        ("authorize: {api_keys: {file: bad.txt}}", "bad.txt: a digest is the sha256 of a key"),
        ("authorize: {api_keys: {file: deep.txt}}", "deep.txt: its lists and objects are nested more than"),
        ("authorize: {api_keys: {file: absent.txt}}", "cannot be read"),
        ("authorize: {api_keys: {env: 'A B'}}", "is no name of a variable"),
        ("authorize: {api_keys: {env: A, header: 'x y'}}", "serve.authorize.api_keys.header"),
        ("authorize: {jwt: {jwks: 'http://i.example/k', issuer: i, audience: a}}", "is no https URL"),
        ("authorize: {jwt: {jwks: 'http://localhost.evil.com/k', issuer: i, audience: a}}", "is no https URL"),
        ("authorize: {jwt: {jwks: 'https://i.example/k', issuer: i}}", "made for any service: say audience, or require"),
        ("authorize: {jwt: {jwks: 'https://i.example/k', audience: a}}", "serve.authorize.jwt.issuer: is required"),
        ("authorize: {jwt: {jwks: 'https://i/k', issuer: i, audience: a, algorithms: [HS256]}}", "must be 'RS256'"),
        ("authorize: {jwt: {jwks: 'https://i/k', issuer: i, audience: a, algorithms: [none]}}", "must be 'RS256'"),
        ("authorize: {hook: 'auth:check', api_keys: {env: A}}", "decides alone"),
        ("authorize: {hook: 'auth:check', limits: {}}", "limits nothing"),
        ("authorize: {hook: 'auth:check', limits: {per_day: 5, burst: 2}}", "is of per_second, and there is none"),
        ("authorize: {hook: 'auth:check', public: [everything]}", "must be 'health'"),
        ("cors: {origins: '*', credentials: true}", "with any origin would let every page on the web ask in its visitor's name"),
        ("cors: {origins: ['*', 'https://a.example']}", "is any origin"),
        ("cors: {origins: []}", "must be a string, or a list of strings"),
        ("cors: {origins: 'https://a.example/'}", "is no origin"),
        ("cors: {origins: 'a.example'}", "is no origin"),
        ("cors: {origins: 'null'}", "is no origin"),
        ("cors: {origins: 'https://*'}", "is no origin"),
        ("cors: {origins: 'https://a.*.example'}", "is no origin"),
        ("cors: {origins: 'https://*.com'}", "'https://*.com' is every page below com: anybody may have a name below it"),
        ("cors: {origins: 'http://*.CO.uk:8443'}", "every page below co.uk"),
        ("cors: {origins: ['https://a.example', 'https://*.github.io']}", "such as https://*.example.github.io"),
        ("cors: {origins: 'https://a.example', max_age: 60}", "serve.cors.max_age"),
        ("requirements: [numpy]", "there is no hook"),
        ("requirements: [./empty.txt]\nauthorize: auth:check", "name no distribution"),
        ("slim: false", "leave it out"),
        ("preload: ['a b']\nauthorize: auth:check", "is no module"),
    ],
)
def test_what_would_let_anybody_in_is_refused(tmp_path: Path, serve: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        loaded(tmp_path, serve)
    assert said in str(caught.value)
    assert "r.yaml:" in str(caught.value)
