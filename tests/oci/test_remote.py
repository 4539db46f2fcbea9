"""Pushing and pulling, against a registry that misbehaves in every way we know of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.support.images.fake_registry import IDENTITY_TOKEN, PASSWORD, USER, FakeRegistry

from mlpack.core.digest import Digest
from mlpack.errors import PackError, ServiceError
from mlpack.oci import blobs, image, media
from mlpack.oci.distribution import auth, remote, transport
from mlpack.oci.distribution.remote import TransportOptions
from mlpack.oci.reference import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlpack.oci.image import Image


def ada(host: str) -> tuple[str, str]:
    """The right credentials."""
    return USER, PASSWORD


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry that behaves, until a test throws a switch."""
    with FakeRegistry() as running:
        yield running


class Pauses(list[float]):
    """What would have been slept, in seconds."""

    @property
    def options(self) -> TransportOptions:
        return TransportOptions(sleep=self.append)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


def pull(registry: FakeRegistry, ref: str, to: Path, options: TransportOptions | None = None) -> Image:
    """An image pulled with the right credentials."""
    return remote.pull(f"{registry.host}/{ref}", "x86_64", to, ada, options)


def test_push_then_pull_is_the_same_image(registry: FakeRegistry, made: Image, tmp_path: Path) -> None:
    digest = remote.push(made, f"{registry.host}/team/model:v1")
    assert digest == image.digest(made)
    for ref in ("team/model:v1", f"team/model@{digest}"):
        again = pull(registry, ref, tmp_path / ref)
        assert again == made
        assert image.validate(again) == []


def test_manifest_follows_its_blobs_and_the_tag_comes_last(registry: FakeRegistry, made: Image) -> None:
    digest = remote.push(made, f"{registry.host}/model:v1")
    puts = [each.path.partition("?")[0].rpartition("/v2/model/")[2] for each in registry.asked("PUT")]
    assert puts[-2:] == [f"manifests/{digest}", "manifests/v1"]
    assert all(each.startswith("blobs/uploads/") for each in puts[:-2])
    assert not registry.asked("PATCH")


def test_second_push_sends_nothing(registry: FakeRegistry, made: Image) -> None:
    remote.push(made, f"{registry.host}/model:v1")
    registry.requests.clear()
    states = []
    remote.push(made, f"{registry.host}/model:v1", options=TransportOptions(progress=lambda each: states.append(each.state)))
    assert not registry.asked("POST")
    assert not registry.asked("PUT")
    assert set(states) == {"present"}


def test_push_without_tag_is_latest_with_digest_moves_no_tag(registry: FakeRegistry, made: Image) -> None:
    digest = remote.push(made, f"{registry.host}/a")
    assert ("a", "latest") in registry.manifests
    remote.push(made, f"{registry.host}/b@{digest}")
    assert {name for repository, name in registry.manifests if repository == "b"} == {str(digest)}


def test_push_under_another_images_digest_is_refused(registry: FakeRegistry, made: Image) -> None:
    with pytest.raises(PackError, match="another image"):
        remote.push(made, f"{registry.host}/a@sha256:{'0' * 64}")
    assert not registry.requests


def test_progress_counts_to_the_end(registry: FakeRegistry, made: Image, tmp_path: Path) -> None:
    for move in (
        lambda options: remote.push(made, f"{registry.host}/a", options=options),
        lambda options: remote.pull(f"{registry.host}/a", "amd64", tmp_path / "pulled", options=options),
    ):
        told: list[transport.TransferProgress] = []
        move(TransportOptions(progress=told.append))
        sizes = {str(layer.digest): layer.size_bytes for layer in made.layers}
        for digest, size in sizes.items():
            mine = [each for each in told if each.digest == digest]
            assert [each.done_bytes for each in mine] == sorted(each.done_bytes for each in mine)
            assert (mine[-1].state, mine[-1].done_bytes, mine[-1].total_bytes) == ("done", size, size)


SURVIVED = {
    "relative location": {"relative_location": True},
    "location with a query": {"location_query": "state=a-b&more=1"},
    "ECR's answer to chunks": {"chunks": True},
    "no digest header": {"digest_header": False},
    "basic": {"auth": "basic"},
    "bearer": {"auth": "bearer"},
    "token that expires every few requests": {"auth": "bearer", "token_uses": 3},
    "token good for one request": {"auth": "bearer", "token_uses": 1},
    "connections reset during uploads": {"resets": 3},
    "refusals before the body was read": {"early_refusals": 3},
    "uploads forgotten": {"forgotten_uploads": 2},
    "429 on begin": {"failures": [("POST", "/uploads/", 429)] * 2},
    "503 on upload": {"failures": [("PUT", "/uploads/", 503)] * 2},
    "500 on manifest": {"failures": [("PUT", "/manifests/", 500)]},
    "502 on look": {"failures": [("HEAD", "/blobs/", 502)]},
    "408 on upload": {"failures": [("PUT", "/uploads/", 408)]},
    "503 on pull": {"failures": [("GET", "/manifests/", 503), ("GET", "/blobs/", 503)]},
    "truncated downloads": {"truncated_downloads": 4},
    "truncated, no ranges": {"truncated_downloads": 3, "ranges": False},
    "one damaged download": {"damaged_downloads": 1},
}


@pytest.mark.parametrize("switches", SURVIVED.values(), ids=SURVIVED.keys())
def test_what_passes_is_survived(switches: dict[str, object], made: Image, tmp_path: Path, pauses: Pauses) -> None:
    with FakeRegistry(**switches) as registry:
        # Four threads would use up each other's short-lived tokens: real ones live for minutes, not for three requests.
        options = TransportOptions(sleep=pauses.append, parallel=1 if "token_uses" in switches else 4)
        digest = remote.push(made, f"{registry.host}/team/model:v1", ada, options)
        again = pull(registry, "team/model:v1", tmp_path / "pulled", options)
    assert again == made
    assert image.digest(again) == digest
    assert image.validate(again) == []
    assert not list((tmp_path / "pulled").rglob(".incoming*"))
    assert not registry.asked("PATCH")


@pytest.mark.parametrize(
    ("asked", "waited"), [("7", 7.0), ("0", 0.0), ("100000", transport.MAX_PAUSE_S), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)]
)
def test_retry_after_is_obeyed_within_reason(
    registry: FakeRegistry, made: Image, pauses: Pauses, asked: str, waited: float
) -> None:
    registry.switches.failures, registry.switches.retry_after = [("PUT", "/manifests/v1", 429)], asked
    remote.push(made, f"{registry.host}/model:v1", options=pauses.options)
    assert pauses == [waited]


@pytest.mark.parametrize("asked", [None, "soon", "-3", "Thu, 99 Foo 2020"])
def test_pauses_grow_without_a_readable_retry_after(registry: FakeRegistry, made: Image, pauses: Pauses, asked: str | None) -> None:
    registry.switches.failures, registry.switches.retry_after = [("PUT", "/manifests/v1", 503)] * 4, asked
    remote.push(made, f"{registry.host}/model:v1", options=pauses.options)
    assert [0.5 * 2**n <= pause <= 2**n for n, pause in enumerate(pauses)] == [True] * 4


def test_giving_up_says_what_was_answered(registry: FakeRegistry, made: Image, pauses: Pauses) -> None:
    registry.switches.failures = [("PUT", "/manifests/v1", 503)] * 5
    with pytest.raises(ServiceError, match=r"503 .*try again later") as caught:
        remote.push(made, f"{registry.host}/model:v1", options=pauses.options)
    assert caught.value.retryable
    assert len(pauses) == 4
    assert ("model", "v1") not in registry.manifests


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413])
def test_refusal_is_not_tried_again(registry: FakeRegistry, made: Image, pauses: Pauses, status: int) -> None:
    registry.switches.failures = [("PUT", "/manifests/", status)]
    with pytest.raises(ServiceError, match=str(status)) as caught:
        remote.push(made, f"{registry.host}/model:v1", options=pauses.options)
    assert not caught.value.retryable
    assert not pauses


@pytest.mark.parametrize("mount", ["granted", "ignored", "405", "500"])
def test_mount_is_used_or_done_without(registry: FakeRegistry, made: Image, tmp_path: Path, pauses: Pauses, mount: str) -> None:
    registry.switches.auth = "bearer"
    remote.push(made, f"{registry.host}/base:v1", ada)
    registry.switches.mount = mount
    registry.requests.clear()
    registry.token_scopes.clear()
    states: list[str] = []
    options = TransportOptions(sleep=pauses.append, mount_from=("base",), progress=lambda each: states.append(each.state))
    remote.push(made, f"{registry.host}/model:v1", ada, options)
    assert pull(registry, "model:v1", tmp_path / "pulled") == made
    assert ("mounted" in states) == (mount == "granted")
    assert bool(registry.asked("PUT", "/blobs/")) == (mount != "granted")
    assert registry.token_scopes[0] == ["repository:model:pull,push", "repository:base:pull"]


def test_wrong_password_is_said_without_showing_it(made: Image, tmp_path: Path, pauses: Pauses) -> None:
    for kind in ("basic", "bearer"):
        with FakeRegistry(auth=kind) as registry, pytest.raises(ServiceError, match=r"401.*docker login") as caught:
            remote.push(made, f"{registry.host}/model:v1", lambda host: (USER, "wrong-secret"), pauses.options)
        assert "wrong-secret" not in str(caught.value)
        assert not caught.value.retryable
    assert not pauses


def test_private_registry_without_credentials_is_said(made: Image) -> None:
    with FakeRegistry(auth="basic") as registry, pytest.raises(ServiceError, match="docker login"):
        remote.push(made, f"{registry.host}/model:v1")


def test_anonymous_bearer_is_enough_for_public_images(made: Image, tmp_path: Path) -> None:
    with FakeRegistry(auth="bearer") as registry:
        remote.push(made, f"{registry.host}/model:v1", ada)
        assert remote.pull(f"{registry.host}/model:v1", "amd64", tmp_path / "pulled") == made


def test_identity_token_is_exchanged(made: Image) -> None:
    with FakeRegistry(auth="bearer") as registry:
        remote.push(made, f"{registry.host}/model:v1", lambda host: (auth.IDENTITY_USER, IDENTITY_TOKEN))
        assert registry.asked("POST", "/token")
        with pytest.raises(ServiceError, match="401"):
            remote.push(made, f"{registry.host}/model:v1", lambda host: (auth.IDENTITY_USER, "other"))


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_credentials_never_go_to_another_host(made: Image, tmp_path: Path, kind: str) -> None:
    with FakeRegistry(auth=kind) as registry:
        registry.switches.upload_origin = registry.switches.blob_origin = registry.other_origin
        remote.push(made, f"{registry.host}/model:v1", ada)
        assert pull(registry, "model:v1", tmp_path / "pulled") == made
        elsewhere = [each for each in registry.requests if each.host.startswith("localhost")]
        assert {each.method for each in elsewhere} == {"PUT", "GET"}
        assert all(each.authorization is None for each in elsewhere)
        assert any(each.authorization for each in registry.requests)


def test_credentials_are_asked_for_by_the_host_in_the_reference(made: Image) -> None:
    hosts: list[str] = []
    with FakeRegistry(auth="basic") as registry:
        remote.push(made, f"{registry.host}/model:v1", lambda host: (hosts.append(host), ada(host))[1])
        assert set(hosts) == {registry.host}


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://other.example/x", "from https to http"),
        ("https://169.254.169.254/latest", "private address"),
        ("https://10.0.0.1/x", "private address"),
        ("https://[::1]/x", "private address"),
        ("https://localhost/x", "private address"),
        ("file:///etc/passwd", "no address"),
        ("", "no address"),
        ("https://other.example/\r\nX: y", "no address"),
    ],
)
def test_address_that_must_not_be_followed(location: str, says: str) -> None:
    with (
        transport.RegistrySession(parse("registry.example/x"), "pull", None, TransportOptions()) as session,
        pytest.raises(ServiceError, match=says),
    ):
        session.follow("https://registry.example/v2/", location)


def test_plain_http_is_for_loopback_and_who_is_named() -> None:
    def origin(ref: str, *named: str) -> str:
        return transport.RegistrySession(parse(ref), "pull", None, TransportOptions(plain_http=named)).origin

    assert origin("localhost:5000/x") == "http://localhost:5000"
    assert origin("127.0.0.1/x") == "http://127.0.0.1"
    assert origin("[::1]:5000/x") == "http://[::1]:5000"
    assert origin("registry.example/x") == "https://registry.example"
    assert origin("registry.example/x", "registry.example") == "http://registry.example"
    assert origin("localhost.example/x") == "https://localhost.example"


def test_tag_that_does_not_move_is_noticed(registry: FakeRegistry, made: Image) -> None:
    remote.push(made, f"{registry.host}/model:v1")
    registry.switches.silent_tags = True
    other = image.with_config(made, env={"B": "2"})
    with pytest.raises(ServiceError, match="now has"):
        remote.push(other, f"{registry.host}/model:v1")


def test_resume_asks_for_the_rest_only(registry: FakeRegistry, made: Image, tmp_path: Path, pauses: Pauses) -> None:
    remote.push(made, f"{registry.host}/model:v1")
    registry.switches.truncated_downloads = 1
    told: list[transport.TransferProgress] = []
    options = TransportOptions(sleep=pauses.append, parallel=1, progress=told.append)
    pull(registry, "model:v1", tmp_path / "pulled", options)
    assert len(pauses) == 1
    for digest in {each.digest for each in told}:
        counts = [each.done_bytes for each in told if each.digest == digest]
        assert counts == sorted(counts)


def damaged_forever(registry: FakeRegistry) -> None:
    registry.switches.damaged_downloads = 1000


def truncated_forever(registry: FakeRegistry) -> None:
    registry.switches.truncated_downloads = 1000


def endless(registry: FakeRegistry) -> None:
    registry.switches.endless_blobs = True


def lying(registry: FakeRegistry) -> None:
    registry.switches.lying_manifest = True


def blob_gone(registry: FakeRegistry) -> None:
    registry.blobs.clear()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (damaged_forever, "have the digest"),
        (truncated_forever, "broke off"),
        (endless, "more"),
        (lying, "other bytes"),
        (blob_gone, "404"),
    ],
)
def test_bad_pull_keeps_nothing_under_a_digest_it_has_not(
    registry: FakeRegistry, made: Image, tmp_path: Path, pauses: Pauses, spoil: Callable[[FakeRegistry], None], says: str
) -> None:
    digest = remote.push(made, f"{registry.host}/model:v1")
    spoil(registry)
    with pytest.raises(ServiceError, match=says):
        pull(registry, f"model@{digest}", tmp_path / "pulled", pauses.options)
    for kept in (tmp_path / "pulled/sha256").iterdir() if (tmp_path / "pulled").exists() else ():
        assert blobs.path_of(tmp_path / "pulled", Digest(f"sha256:{kept.name}")) == kept
        with kept.open("rb") as stream:
            blobs.copy(stream, tmp_path / "check", Digest(f"sha256:{kept.name}"), kept.stat().st_size)


def indexed(registry: FakeRegistry, made: Image, *platforms: tuple[str, str, str]) -> str:
    """An index under `model:multi` whose every platform is `made`; its digest."""
    digest = remote.push(made, f"{registry.host}/model:v1")
    listed = [
        {
            "mediaType": media.OCI_MANIFEST,
            "digest": str(digest),
            "size": len(made.manifest_bytes),
            "platform": {"os": os_name, "architecture": arch, "variant": variant},
        }
        for os_name, arch, variant in platforms
    ]
    data = json.dumps({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": listed}).encode()
    return registry.add_manifest("model", "multi", media.OCI_INDEX, data)


def test_index_is_resolved_and_both_digests_are_known(registry: FakeRegistry, made: Image, tmp_path: Path) -> None:
    index = indexed(registry, made, ("linux", "arm64", "v8"), ("linux", "amd64", ""), ("unknown", "unknown", ""))
    pulled = remote.fetch(parse(f"{registry.host}/model:multi"), "amd64", tmp_path / "pulled", None, TransportOptions())
    assert (str(pulled.digest), pulled.image) == (index, made)
    registry.requests.clear()
    again = remote.fetch(
        parse(f"{registry.host}/model:multi"), "amd64", tmp_path / "pulled", None, TransportOptions(), pulled.digest
    )
    assert again == pulled
    assert not registry.requests


def test_platform_that_is_not_there_lists_what_is(registry: FakeRegistry, made: Image, tmp_path: Path) -> None:
    indexed(registry, made, ("linux", "arm64", "v8"), ("linux", "s390x", ""))
    with pytest.raises(PackError, match="linux/arm64/v8, linux/s390x"):
        pull(registry, "model:multi", tmp_path / "pulled")


def with_config(kind: str, size: int) -> bytes:
    """A manifest without layers whose config is of this type and size."""
    named = {"mediaType": kind, "digest": f"sha256:{'0' * 64}", "size": size}
    return json.dumps({"schemaVersion": 2, "config": named, "layers": []}).encode()


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        (media.OCI_MANIFEST, b'{"schemaVersion":2,"schemaVersion":1}', "given twice"),
        (media.OCI_MANIFEST, b" " * (media.MAX_JSON_BYTES + 1), "longer than"),
        (media.OCI_MANIFEST, json.dumps({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": []}).encode(), "refused"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", b'{"schemaVersion":1}', "schemaVersion"),
        (media.OCI_MANIFEST, with_config("application/vnd.oci.empty.v1+json", 2), "artifact"),
        (media.OCI_MANIFEST, with_config(media.OCI.config, 99_999_999_999), "refused"),
    ],
)
def test_hostile_manifest_is_refused(registry: FakeRegistry, tmp_path: Path, kind: str, data: bytes, says: str) -> None:
    registry.add_manifest("model", "v1", kind, data)
    with pytest.raises((PackError, ServiceError), match=says):
        pull(registry, "model:v1", tmp_path / "pulled")


def test_first_failure_stops_the_rest(registry: FakeRegistry, made: Image) -> None:
    registry.switches.failures = [("HEAD", "/blobs/", 403)] * 10
    with pytest.raises(ServiceError, match="403"):
        remote.push(made, f"{registry.host}/model:v1", options=TransportOptions(parallel=1))
    assert len(registry.asked("HEAD", "/blobs/")) == 1
    assert not registry.manifests


def test_damaged_cached_manifest_is_fetched_again(registry: FakeRegistry, made: Image, tmp_path: Path) -> None:
    digest = remote.push(made, f"{registry.host}/model:v1")
    pull(registry, f"model@{digest}", tmp_path / "pulled")
    blobs.path_of(tmp_path / "pulled", digest).write_bytes(b"{}")
    assert pull(registry, f"model@{digest}", tmp_path / "pulled") == made
