"""Signing in: what registries ask, and what Docker's configuration holds."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.errors import ServiceError
from mlpack.oci.distribution import auth, keychain

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Bearer realm="https://a/t",service="b c",scope="r:x:pull,push"',
         [("bearer", {"realm": "https://a/t", "service": "b c", "scope": "r:x:pull,push"})]),
        ('Basic realm="a \\"b\\", c"', [("basic", {"realm": 'a "b", c'})]),
        ('BASIC Realm=plain', [("basic", {"realm": "plain"})]),
        ('Bearer realm="x", Basic realm="y"', [("bearer", {"realm": "x"}), ("basic", {"realm": "y"})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Negotiate", [("negotiate", {})]),
        ("", []),
        ('realm="x"', []),
        ('Bearer realm="unfinished', [("bearer", {})]),
    ],
)  # fmt: skip
def test_challenges_are_read(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(each.scheme, dict(each.parameters)) for each in auth.challenges(header)] == found


@given(st.text(max_size=200))
def test_any_header_is_read_without_error(header: str) -> None:
    for each in auth.challenges(header):
        assert each.get("nothing") == ""


def kept(data: bytes, host: str) -> tuple[str, str] | None:
    """User and password for a host in the bytes of a `config.json`."""
    found = keychain.in_config(keychain.load(data, "config.json"), host, "", "config.json", 60)
    return (found.user, found.password) if found else None


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_auths_are_found_by_host() -> None:
    data = config(
        auths={"a.example": {"auth": encoded("ada:pass:word")}, "https://b.example": {"username": "bob", "password": "x"}}
    )
    assert kept(data, "a.example") == ("ada", "pass:word")
    assert kept(data, "b.example") == ("bob", "x")
    assert kept(data, "c.example") is None
    assert kept(data, "xa.example") is None


def test_docker_hub_is_kept_under_an_old_name() -> None:
    data = config(auths={"https://index.docker.io/v1/": {"auth": encoded("ada:x")}})
    assert kept(data, "docker.io") == ("ada", "x")


def test_identity_token_is_marked() -> None:
    data = config(auths={"a.example": {"auth": encoded("00000000:"), "identitytoken": "refresh"}})
    assert kept(data, "a.example") == (auth.IDENTITY_USER, "refresh")


@pytest.mark.parametrize(
    "entry", [{}, {"auth": ""}, {"auth": "%%%"}, {"auth": encoded("no colon")}, {"auth": 7}, "x", {"auth": "/w=="}]
)
def test_entry_that_cannot_be_read_is_none(entry: object) -> None:
    assert kept(config(auths={"a.example": entry}), "a.example") is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff"])
def test_config_that_cannot_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(ServiceError, match=r"config\.json"):
        kept(data, "a.example")


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper `docker-credential-test` that answers for a.example and Docker Hub."""
    path = tmp_path / "docker-credential-test"
    path.write_text(
        "#!/bin/sh\nread host\ncase $host in\n"
        'a.example|https://index.docker.io/v1/) echo \'{"Username":"AWS","Secret":"token"}\';;\n'
        "broken.example) echo oops;;\nnone.example) echo credentials not found in native keychain; exit 1;;\n"
        "*) echo denied; exit 1;;\nesac\n"
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return path


def test_helper_is_asked(helper: Path) -> None:
    by_host = config(credHelpers={"a.example": "test"}, auths={"a.example": {"auth": encoded("old:old")}})
    assert kept(by_host, "a.example") == ("AWS", "token")
    store = config(credsStore="test")
    assert kept(store, "a.example") == ("AWS", "token")
    assert kept(store, "docker.io") == ("AWS", "token")
    assert kept(store, "none.example") is None


@pytest.mark.parametrize(
    ("name", "host", "says"),
    [
        ("test", "b.example", "denied"),
        ("test", "broken.example", "cannot be read"),
        ("missing", "a.example", "could not be run"),
        ("../x", "a.example", "not the name"),
    ],
)
def test_helper_that_fails_is_an_error(helper: Path, name: str, host: str, says: str) -> None:
    with pytest.raises(ServiceError, match=says):
        kept(config(credHelpers={host: name}), host)
