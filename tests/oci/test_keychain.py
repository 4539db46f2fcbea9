"""Credentials as Docker, podman and skopeo leave them: where they are looked for, and what is said when they do not help."""

from __future__ import annotations

import base64
import json
import os
import select
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.images.fake_registry import IDENTITY_TOKEN, PASSWORD, USER, FakeRegistry

from mlpack.errors import RecipeError, ServiceError
from mlpack.oci.distribution import auth, keychain, remote
from mlpack.oci.distribution.keychain import Identity, Keychain
from mlpack.oci.distribution.transport import TransportOptions

WHERE = {
    "REGISTRY_AUTH_FILE": "named.json",
    "DOCKER_CONFIG": "docker/config.json",
    "XDG_RUNTIME_DIR": "run/containers/auth.json",
    "XDG_CONFIG_HOME": "config/containers/auth.json",
}
QUICK = TransportOptions(sleep=lambda _: None)


def encoded(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def keep(path: Path, **config: Any) -> Path:
    """A file of credentials; `auths` by host with (user, password) or a whole entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    auths = {
        key: {"auth": encoded(*entry)} if isinstance(entry, tuple) else entry for key, entry in config.pop("auths", {}).items()
    }
    path.write_text(json.dumps({"auths": auths, **config}))
    return path


def environment(root: Path) -> dict[str, str]:
    folders = {"REGISTRY_AUTH_FILE": "named.json", "DOCKER_CONFIG": "docker", "XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config"}
    return {key: str(root / folder) for key, folder in folders.items()}


def one(path: Path, host: str = "a.example", repository: str = "team/model") -> Identity | None:
    return Keychain([path]).find(host, repository)


# --- where ------------------------------------------------------------------------------------------------------------


def test_files_are_read_in_their_order(tmp_path: Path) -> None:
    environ = environment(tmp_path)
    order = [*WHERE.values(), "home/.dockercfg"]
    for name in order[:-1]:
        keep(tmp_path / name, auths={"a.example": (name, "x")})
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.dockercfg").write_text(json.dumps({"a.example": {"auth": encoded("home/.dockercfg", "x"), "email": "a@b"}}))
    for name in order:
        found = keychain.of_environment(environ, tmp_path / "home").find("a.example", "team/model")
        assert found is not None
        assert (found.user, found.source) == (name, str(tmp_path / name))
        (tmp_path / name).unlink()
    assert keychain.of_environment(environ, tmp_path / "home").find("a.example", "team/model") is None


def test_usual_places_are_looked_at_without_any_variable(tmp_path: Path) -> None:
    found = keychain.of_environment({}, tmp_path).files
    assert found == (
        Path(f"/run/containers/{os.getuid()}/auth.json"),
        tmp_path / ".config/containers/auth.json",
        tmp_path / ".docker/config.json",
        tmp_path / ".dockercfg",
    )
    assert keychain.of_environment({"REGISTRY_AUTH_FILE": "~/x.json"}, tmp_path).files[0] == tmp_path / "x.json"
    assert tmp_path / ".docker/config.json" not in keychain.of_environment({"DOCKER_CONFIG": "/x"}, tmp_path).files


def test_entry_in_a_later_file_counts_when_the_first_has_none(tmp_path: Path) -> None:
    first = keep(tmp_path / "first.json", auths={"b.example": ("bob", "x"), "a.example": {}})
    second = keep(tmp_path / "second.json", auths={"a.example": ("ada", "x")})
    (tmp_path / "empty.json").touch()
    (tmp_path / "folder.json").mkdir()
    files = [tmp_path / "empty.json", tmp_path / "folder.json", tmp_path / "none.json", first, second]
    assert Keychain(files)("a.example") == ("ada", "x")
    said = Keychain(files).looked("c.example")
    assert f"{files[0]} (empty), {files[1]} (not a file), {files[2]} (not there), {first} (nothing for c.example)" in said


@pytest.mark.parametrize("data", ["{", "[]", '"x"', '{"auths": []}', '{"credHelpers": "x"}', "[" * 100_000, "\x00"])
def test_a_file_that_cannot_be_read_is_named(data: str, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text(data)
    with pytest.raises(ServiceError, match=r"auth\.json.*(repair|remove)"):
        one(tmp_path / "auth.json")
    assert keychain.load(b'{"auths": null}', "x") == {"auths": None}


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    keep(tmp_path / "auth.json").chmod(0)
    us = os.geteuid()
    if us == 0:  # who may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(ServiceError, match=r"auth\.json cannot be read: Permission denied"):
            one(tmp_path / "auth.json")
    finally:
        os.seteuid(us)


def test_a_name_that_leads_in_a_circle_is_named(tmp_path: Path) -> None:
    (tmp_path / "auth.json").symlink_to("auth.json")
    with pytest.raises(ServiceError, match=r"auth\.json cannot be read"):
        one(tmp_path / "auth.json")


# --- under which key --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "a.example",
        "A.Example",
        "a.example/",
        "https://a.example",
        "http://a.example",
        "https://a.example/",
        "https://a.example/v1/",
        "https://a.example/v2/",
        "https://a.example/v2",
        "a.example/v1/",
        "https://a.example/any/path",
        "a.example/team",
        "a.example/team/",
        "a.example/team/model",
    ],
)
def test_every_way_of_writing_a_host_or_a_part_of_it(key: str, tmp_path: Path) -> None:
    assert one(keep(tmp_path / "x", auths={key: ("ada", "x")})) is not None


@pytest.mark.parametrize(
    "key",
    ["b.example", "a.example:443", "xa.example", "a.example.evil", "a.example/other", "a.example/tea", "a.example/team/model/x"],
)
def test_what_is_kept_for_others_is_not_used(key: str, tmp_path: Path) -> None:
    assert one(keep(tmp_path / "x", auths={key: ("ada", "x")})) is None


def test_the_most_specific_key_wins(tmp_path: Path) -> None:
    keys = ["a.example", "a.example/team", "a.example/team/model", "https://a.example/v1/"]
    path = keep(tmp_path / "x", auths={key: (key, "x") for key in keys})
    expected = {"team/model": keys[2], "team/other": keys[1], "team": keys[1], "x/team": keys[0], "": keys[0]}
    for repository, key in expected.items():
        found = one(path, repository=repository)
        assert found is not None
        assert found.user == key


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io", "docker.io/team"]
)
def test_docker_hub_has_many_names(key: str, tmp_path: Path) -> None:
    assert one(keep(tmp_path / "x", auths={key: ("ada", "x")}), "docker.io") is not None


def test_what_docker_desktop_leaves_beside_login_is_no_login(tmp_path: Path) -> None:
    login, beside = "https://index.docker.io/v1/", "https://index.docker.io/v1/access-token"
    for keys in ((beside, login), (login, beside)):
        found = one(keep(tmp_path / "x", auths={key: (key.rpartition("/")[2] or "login", "x") for key in keys}), "docker.io")
        assert found is not None
        assert found.user == "login"


# --- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "user", "password"),
    [
        ({"auth": encoded("ada", "pass:wörd ☃")}, "ada", "pass:wörd ☃"),
        ({"auth": encoded("ada", "x").rstrip("=")}, "ada", "x"),
        ({"auth": f" {encoded('ada', 'y' * 100)[:20]}\n{encoded('ada', 'y' * 100)[20:]}\n"}, "ada", "y" * 100),
        ({"auth": encoded("ada", "x\0\0")}, "ada", "x"),
        ({"auth": encoded("ada", "")}, "ada", ""),
        ({"username": "ada", "password": "x"}, "ada", "x"),
        ({"auth": encoded("00000000", ""), "identitytoken": "again"}, auth.IDENTITY_USER, "again"),
        ({"registrytoken": "bearer"}, auth.REGISTRY_USER, "bearer"),
        ({"identitytoken": "", "auth": encoded("ada", "x")}, "ada", "x"),
    ],
)
def test_entries(entry: dict[str, str], user: str, password: str, tmp_path: Path) -> None:
    found = one(keep(tmp_path / "x", auths={"a.example": entry}))
    assert found is not None
    assert (found.user, found.password) == (user, password)
    assert repr(found) == f"Known({found.who})"


@pytest.mark.parametrize(
    "entry",
    [
        *({"registrytoken": token} for token in ("t\u00e9", "a\u6f22", "a b", "a\r\nX: y", "\ud800", "a\u2028")),
        *({"identitytoken": token} for token in ("\ud800", "a\udcff")),
        *({"username": user, "password": secret} for user, secret in (("u", "\ud800"), ("\udcff", "p"), ("u\n", "p"))),
    ],
)
def test_what_no_request_can_hold_is_no_login_and_no_bug(entry: dict[str, str], tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        registry.switches.auth = "basic"
        keys = Keychain([keep(tmp_path / "auth.json", auths={registry.host: entry})])
        with pytest.raises(ServiceError, match=f"its entry for {registry.host} cannot be read"):
            remote.pull(f"{registry.host}/a/b:c", "amd64", tmp_path / "blobs", keys, QUICK)


@pytest.mark.parametrize("secret", ["pässwörd", "漢字", "👩\u200d💻", "a b", "x" * 5_000])
def test_passwords_of_the_world_are_taken(secret: str, tmp_path: Path) -> None:
    found = one(keep(tmp_path / "auth.json", auths={"a.example": ("é", secret)}))
    assert found is not None
    assert (found.user, found.password) == ("é", secret)


@pytest.mark.parametrize("entry", [{"auth": "%%%"}, {"auth": "bm8gY29sb24="}, {"auth": 7}, {"auth": encoded("a\nb", "y")}])
def test_an_entry_that_cannot_be_read_is_said(entry: Any, tmp_path: Path) -> None:
    path = keep(tmp_path / "x", auths={"a.example": entry})
    assert one(path) is None
    assert "its entry for a.example cannot be read" in Keychain([path]).looked("a.example")


# --- helpers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes `docker-credential-test` out of lines of a shell script."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def made(script: str) -> None:
        path = tmp_path / "bin/docker-credential-test"
        path.write_text(f"#!/bin/sh\nread key\n{script}\n")
        path.chmod(0o755)

    return made


def test_a_helper_is_asked_for_what_it_was_named_for(helper: Any, tmp_path: Path) -> None:
    helper('echo "{\\"Username\\":\\"$key\\",\\"Secret\\":\\"s\\"}"')
    for config, host, key in (
        ({"credHelpers": {"a.example": "test"}, "auths": {"a.example": ("old", "old")}}, "a.example", "a.example"),
        ({"credHelpers": {"https://index.docker.io/v1/": "test"}}, "docker.io", "https://index.docker.io/v1/"),
        ({"credsStore": "test"}, "docker.io", "https://index.docker.io/v1/"),
        ({"credsStore": "test"}, "b.example", "b.example"),
        ({"credHelpers": {"a.example": ""}, "auths": {"a.example": ("old", "old")}}, "a.example", "old"),
    ):
        found = one(keep(tmp_path / "x", **config), host)
        assert found is not None
        assert found.user == key


def test_an_identity_token_of_a_helper_is_one(helper: Any, tmp_path: Path) -> None:
    helper('echo \'{"ServerURL":"x","Username":"<token>","Secret":"again"}\'')
    found = one(keep(tmp_path / "x", credsStore="test"))
    assert found == Identity(user=auth.IDENTITY_USER, password="again", source="docker-credential-test")
    helper('echo \'{"Username":"","Secret":""}\'')
    assert one(tmp_path / "x") is None


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo oops; exit 0", "cannot be read"),
        ("exit 0", "cannot be read"),
        ("echo '[]'", "cannot be read"),
        ('echo \'{"Username":7,"Secret":"x"}\'', "cannot be read"),
        ("printf '\\377\\376'", "cannot be read"),
        ("head -c 3000000 /dev/zero; sleep 60", "more than 1048576 bytes"),
        ("sleep 60", "did not end within 0.3 s"),
        ("exec >&- 2>&-; sleep 60", "did not end within 0.3 s"),
        ("echo 'no keyring' >&2; exit 3", "failed: no keyring"),
        ("printf '\\033[31mred'; exit 1", r"failed: \\x1b\[31mred"),
        ("exit 9", "ended with 9"),
    ],
)
def test_a_helper_that_fails_or_hangs_is_named(script: str, said: str, helper: Any, tmp_path: Path) -> None:
    helper(script)
    path = keep(tmp_path / "auth.json", credsStore="test")
    with pytest.raises(ServiceError, match=f"docker-credential-test.*{said}|{said}.*docker-credential-test") as caught:
        Keychain([path], 0.3).find("a.example", "x")
    assert "\x1b" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_helper_that_leaves_something_running_is_not_waited_for(helper: Any, tmp_path: Path) -> None:
    helper('sleep 60 & echo $! >$0.pid; echo \'{"Username":"ada","Secret":"s"}\'')
    assert Keychain([keep(tmp_path / "x", credsStore="test")], 30).find("a.example", "") is not None
    left = int((tmp_path / "bin/docker-credential-test.pid").read_text())
    with suppress(ProcessLookupError):  # gone already
        assert select.select([os.pidfd_open(left)], [], [], 10)[0], "what the helper started goes on"


def test_a_helper_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"docker-credential-nowhere, which .*there is no such program; install it"):
        one(keep(tmp_path / "x", credsStore="nowhere"))
    with pytest.raises(ServiceError, match="not the name of a program"):
        one(keep(tmp_path / "x", credsStore="../x"))


@pytest.mark.parametrize("said", ["soon", "0", "-1", "nan", "inf"])
def test_the_time_for_helpers_is_a_setting(said: str, tmp_path: Path) -> None:
    assert keychain.of_environment({keychain.TIMEOUT_VARIABLE: "5"}, tmp_path)
    with pytest.raises(RecipeError, match=keychain.TIMEOUT_VARIABLE):
        keychain.of_environment({keychain.TIMEOUT_VARIABLE: said}, tmp_path)


# --- what a registry makes of it --------------------------------------------------------------------------------------


def refusal(registry: FakeRegistry, keys: Keychain, tmp_path: Path) -> str:
    with pytest.raises(ServiceError) as caught:
        remote.pull(f"{registry.host}/team/model:v1", "amd64", tmp_path / "blobs", keys, QUICK)
    assert not caught.value.retryable
    return str(caught.value)


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_a_refused_password_is_told_from_a_missing_one(kind: str, tmp_path: Path) -> None:
    with FakeRegistry(auth=kind) as registry:
        path = keep(tmp_path / "auth.json", auths={f"{registry.host}/team": (USER, "wrong-secret")})
        said = refusal(registry, Keychain([path]), tmp_path)
        assert f"the registry refused user '{USER}' from {path}" in said
        assert "wrong-secret" not in said
        keep(path, auths={f"{registry.host}/other": (USER, PASSWORD)})
        registry.switches.denied = 401  # what Docker Hub does with an anonymous token
        said = refusal(registry, Keychain([path, tmp_path / "none"]), tmp_path)
        assert f"no credentials for {registry.host}: mlpack looked in {path} (nothing for {registry.host})" in said
        assert "(not there)" in said


def test_signed_in_and_not_allowed_is_something_else(tmp_path: Path) -> None:
    for kind, status in (("bearer", 401), ("bearer", 403), ("basic", 403)):
        with FakeRegistry(auth=kind) as registry:
            path = keep(tmp_path / "auth.json", auths={registry.host: (USER, PASSWORD)})
            keys = Keychain([path])
            remote_404 = refusal(registry, keys, tmp_path)
            assert "404" in remote_404
            # Before signing in it answers 401, afterwards this.
            registry.switches.denied = status
            said = refusal(registry, keys, tmp_path)
            assert f"user '{USER}' from {path} is signed in and may not do this" in said
            assert "refused" not in said.partition("user")[0]


def test_a_token_for_the_registry_is_sent_as_it_is(tmp_path: Path) -> None:
    with FakeRegistry(auth="bearer") as registry:
        registry.tokens["ours"] = 10
        keys = Keychain([keep(tmp_path / "auth.json", auths={registry.host: {"registrytoken": "ours"}})])
        assert "404" in refusal(registry, keys, tmp_path)
        assert registry.asked("GET", "/token") == []
        keep(tmp_path / "auth.json", auths={registry.host: {"registrytoken": "another"}})
        assert "the registry refused the registry token from" in refusal(registry, keys, tmp_path)


def test_an_identity_token_is_exchanged(tmp_path: Path) -> None:
    with FakeRegistry(auth="bearer") as registry:
        keys = Keychain([keep(tmp_path / "auth.json", auths={registry.host: {"identitytoken": IDENTITY_TOKEN}})])
        assert "404" in refusal(registry, keys, tmp_path)
        keep(tmp_path / "auth.json", auths={registry.host: {"identitytoken": "expired"}})
        said = refusal(registry, keys, tmp_path)
        assert "the registry refused the identity token from" in said
        assert "expired" not in said


def test_no_file_is_opened_for_registry_that_lets_everybody_in(tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text("{ broken")
    with FakeRegistry() as registry:
        assert "404" in refusal(registry, Keychain([tmp_path / "auth.json"]), tmp_path)
