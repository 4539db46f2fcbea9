"""Images of releases in a container registry, against one in memory; Amazon's way of signing in against moto."""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from tests.support.images import fake_registry
from tests.support.images.fake_registry import FakeRegistry
from tests.support.registry.builds import build
from tests.support.services.aws_server import AwsServer, Fault

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.errors import MlpackError, PackError, RecipeError, ServiceError
from mlpack.oci import image, layout
from mlpack.oci.distribution.transport import TransportOptions
from mlpack.registry import ImageRefusedError
from mlpack.registry.images import ecr
from mlpack.registry.images import images as container_images
from mlpack.registry.images.images import Repositories, open_images, recorded_images
from mlpack.registry.local import directory
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import rows
from mlpack.registry.upkeep.care import verify

HOST = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
LAYOUT = "artifacts/int8@lambda-image-x86_64/image"


def denied(operation: str) -> Fault:
    """Permission is missing."""
    return Fault("error", service="ecr", operation=operation, status=400, code="AccessDeniedException")


def nobody(_host: str) -> None:
    """No credentials."""


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as running:
        yield running


@pytest.fixture
def images(server: FakeRegistry) -> Repositories:
    return open_images(f"{server.host}/team/models", nobody, TransportOptions(sleep=lambda _: None))


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A build of an image."""
    return build(tmp_path / "out", "image")


@pytest.fixture
def packed(built: Path) -> Path:
    """Its layout."""
    (folder,) = built.glob("artifacts/*/image")
    return folder


def wanted(packed: Path) -> dict[str, digest.Digest]:
    return {path.relative_to(packed).as_posix(): digest.of_file(path) for path in packed.glob("blobs/sha256/*")}


# --- releases ---------------------------------------------------------------------------------------------------------


def test_a_release_with_an_image_comes_back_as_it_was(built: Path, images: Repositories, tmp_path: Path) -> None:
    registry = directory.open_registry(tmp_path / "registry", images=images)
    release = registry.publish(built)
    ((candidate, reference),) = release.images.items()
    assert reference == f"{images.prefix}/minilm@{release.artifact.digest}"
    kept = {path.name for path in (tmp_path / "registry/blobs/sha256").rglob("*") if path.is_file()}
    inside = {named.hex for named in wanted(built / f"artifacts/{candidate}/image").values()}
    assert inside
    assert not kept & inside
    registry.pull(release, tmp_path / "pulled")
    assert digest.of_tree(tmp_path / "pulled") == digest.of_tree(built)
    assert verify(registry).findings == ()
    assert registry.publish(built) == release


def test_verify_sees_what_the_container_registry_has_lost(
    built: Path, server: FakeRegistry, images: Repositories, tmp_path: Path
) -> None:
    registry = directory.open_registry(tmp_path / "registry", images=images)
    release = registry.publish(built)
    (layer,) = image.manifest(layout.read(built / f"artifacts/{release.artifact.candidate}/image"))["layers"]
    del server.blobs["team/models/minilm", layer["digest"]]
    (found,) = verify(registry).findings
    assert f"its blob {layer['digest']} is missing" in str(found)
    with pytest.raises(ServiceError, match="404"):
        registry.pull(release, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    registry.publish(built)
    assert verify(registry).findings == ()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_no_answer_about_an_image_is_no_finding(
    status: int, built: Path, server: FakeRegistry, images: Repositories, tmp_path: Path
) -> None:
    registry = directory.open_registry(tmp_path / "registry", images=images)
    release = registry.publish(built)
    looked = Registry(registry.place, recorded_images(nobody, TransportOptions(sleep=lambda _: None)))
    assert verify(looked).images_unasked == ()
    server.switches.failures = [("GET", "manifests", status)] * 5
    report = verify(looked)
    assert report.findings == ()
    (unasked,) = report.images_unasked
    assert f"could not be asked for: GET http://{server.host}" in unasked.problem
    assert str(status) in unasked.problem
    assert unasked.where == f"minilm@1 ({release.images[release.artifact.candidate]})"


def test_a_host_that_is_away_is_waited_for_once(tmp_path: Path, server: FakeRegistry) -> None:
    images = open_images(f"{server.host}/team", nobody)
    registry = directory.open_registry(tmp_path / "registry", images=images)
    for name in "abc":
        registry.publish(build(tmp_path / name, "image", content=name.encode()))
    pauses: list[float] = []
    away = TransportOptions(sleep=pauses.append, proxy="http://127.0.0.1:1", plain_http=(server.host,))
    report = verify(Registry(registry.place, recorded_images(nobody, away)), parallel=1)
    assert (len(report.images_unasked), report.findings, len(pauses)) == (3, (), 4)


def test_a_record_that_names_no_image_is_wrong_whoever_is_away(tmp_path: Path) -> None:
    registry = directory.open_registry(tmp_path / "registry")
    release = registry.publish(build(tmp_path / "out", "image"))
    odd = dataclasses.replace(release, version=2, images={"x": f"X Y@{release.digest}"})
    registry.place.table.commit(rows.release_put(odd), rows.head_put(odd))
    report = verify(Registry(registry.place, recorded_images(nobody)))
    assert report.images_unasked == ()
    assert any("the record of an image is damaged" in each.problem for each in report.findings if each.what == "image")


# --- pushing ----------------------------------------------------------------------------------------------------------


def test_what_is_pushed_is_named_and_tagged_by_its_digest(packed: Path, server: FakeRegistry, images: Repositories) -> None:
    named = image.digest(layout.read(packed))
    assert images.push(packed, "minilm") == f"{server.host}/team/models/minilm@{named}"
    assert sorted(name for _, name in server.manifests) == [f"sha-{named.hex}", str(named)]
    sent = len(server.asked("PUT"))
    images.push(packed, "minilm")
    assert len(server.asked("PUT")) == sent


def test_a_layout_that_holds_more_than_its_image_is_not_pushed(packed: Path, server: FakeRegistry, images: Repositories) -> None:
    more = digest.of_bytes(b"an attestation")
    (packed / "blobs" / "sha256" / more.hex).write_bytes(b"an attestation")
    with pytest.raises(PackError, match=f"no part of its image, which would be lost: {more.hex}"):
        images.push(packed, "minilm")
    assert server.requests == []


@pytest.mark.parametrize("prefix", ["", "team", "https://x.example/y", "x.example/y:tag", "x.example/y@z", "x.example/Ü"])
def test_prefixes_that_are_none(prefix: str) -> None:
    with pytest.raises(RecipeError, match="images cannot go to"):
        open_images(prefix, nobody)


@pytest.mark.parametrize("prefix", ["x.example", "localhost:5000/models/", "docker.io/team", HOST, f"{HOST}/team/models"])
def test_prefixes(prefix: str) -> None:
    assert open_images(prefix, nobody).prefix == prefix.rstrip("/")


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_exactly_the_wanted_blobs_are_fetched(packed: Path, server: FakeRegistry, images: Repositories, tmp_path: Path) -> None:
    reference, files, target = images.push(packed, "minilm"), wanted(packed), tmp_path / "layout"
    whole, damaged = sorted(files)[:2]
    (target / "blobs/sha256").mkdir(parents=True)
    (target / whole).write_bytes((packed / whole).read_bytes())
    (target / damaged).write_bytes(bytes((packed / damaged).stat().st_size))
    (target / "blobs/sha256" / ("0" * 64)).write_bytes(b"of an earlier try")
    images.fetch(reference, target, files)
    assert wanted(target) == files
    fetched = {request.path.rpartition("/")[2] for request in server.asked("GET")}
    assert str(files[whole]) not in fetched
    assert str(files[damaged]) in fetched


def test_an_image_that_is_another_is_refused(packed: Path, server: FakeRegistry, images: Repositories, tmp_path: Path) -> None:
    reference, files = images.push(packed, "minilm"), wanted(packed)
    more = f"blobs/sha256/{digest.of_bytes(b'more').hex}"
    with pytest.raises(ServiceError, match=f"the release has {more}, and the image in the registry does not"):
        images.fetch(reference, tmp_path / "a", {**files, more: digest.of_bytes(b"more")})
    server.switches.lying_manifest = True
    with pytest.raises(ServiceError, match="other bytes"):
        images.fetch(reference, tmp_path / "b", files)
    listed = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}).encode()
    server.switches.lying_manifest = False
    named = server.add_manifest("team/models/minilm", "index", "application/vnd.oci.image.index.v1+json", listed)
    with pytest.raises(ServiceError, match="the registry has something else there"):
        images.fetch(f"{server.host}/team/models/minilm@{named}", tmp_path / "c", files)


@pytest.mark.parametrize("record", ["nowhere", "x.example/minilm:v1", "x.example/minilm@sha256:12"])
def test_a_record_that_is_no_image_by_digest_is_damaged(record: str, images: Repositories, tmp_path: Path) -> None:
    for ask in (images.check, images.delete, lambda pushed: images.fetch(pushed, tmp_path, {})):
        with pytest.raises(ServiceError, match="the record of an image is damaged"):
            ask(record)


# --- checking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "size"), [("12", 12), ("²", -1), ("abc", -1), ("1, 1", -1), ("-5", -1), ("9" * 5_000, -1), (None, -1)]
)
def test_a_length_that_is_no_number_is_an_answer_all_the_same(said: str | None, size: int) -> None:
    headers = {} if said is None else {"Content-Length": said}
    ends = {"read1": lambda *_, **__: b"", "release_conn": lambda: None, "close": lambda: None}
    answer = SimpleNamespace(status=200, headers=headers, length_remaining=None, **ends)
    session = SimpleNamespace(url=str, request=lambda *_, **__: answer)
    assert container_images._size(cast(Any, session), Digest("sha256:" + "0" * 64)) == size


def test_check_says_what_is_wrong(packed: Path, server: FakeRegistry, images: Repositories) -> None:
    reference = images.push(packed, "minilm")
    assert images.check(reference) is None
    repository, (config, *_) = "team/models/minilm", [key for key in server.blobs if key[0] == "team/models/minilm"]
    kept = server.blobs[config]
    server.blobs[config] = kept[:-1]
    assert images.check(reference) == f"its blob {config[1]} is damaged: it has {len(kept) - 1} bytes instead of {len(kept)}"
    del server.blobs[config]
    assert images.check(reference) == f"its blob {config[1]} is missing"
    server.blobs[config] = kept
    server.switches.lying_manifest = True
    assert "damaged: its bytes have the digest" in str(images.check(reference))
    server.switches.lying_manifest = False
    del server.manifests[repository, reference.rpartition("@")[2]]
    assert images.check(reference) == "missing"
    named = server.add_manifest(repository, "odd", "application/vnd.oci.image.manifest.v1+json", b'{"schemaVersion": 1}')
    assert "damaged: manifest: schemaVersion is 1" in str(images.check(f"{server.host}/{repository}@{named}"))
    server.switches.failures = [("GET", "manifests", 403)]
    with pytest.raises(ServiceError, match="403"):
        images.check(reference)


def test_an_image_is_deleted_with_its_tag(packed: Path, server: FakeRegistry, images: Repositories) -> None:
    reference = images.push(packed, "minilm")
    images.delete(reference)
    assert images.check(reference) == "missing"
    assert server.manifests == {}
    images.delete(reference)


@pytest.mark.parametrize(("status", "said"), [(400, "delete.enabled"), (405, "delete.enabled"), (403, "docker login")])
def test_a_registry_that_lets_nothing_be_deleted_refuses(
    status: int, said: str, packed: Path, server: FakeRegistry, images: Repositories
) -> None:
    reference = images.push(packed, "minilm")
    server.switches.failures = [("DELETE", "manifests", status)]
    with pytest.raises(ImageRefusedError, match=said):
        images.delete(reference)
    assert images.check(reference) is None


@pytest.mark.parametrize("status", [401, 503])
def test_who_does_not_answer_a_deletion_has_not_refused_it(
    status: int, packed: Path, server: FakeRegistry, images: Repositories
) -> None:
    reference = images.push(packed, "minilm")
    server.switches.failures = [("DELETE", "manifests", status)] * 10
    with pytest.raises(ServiceError) as caught:
        images.delete(reference)
    assert not isinstance(caught.value, ImageRefusedError)


# --- Amazon's ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "region", "partition"),
    [
        (HOST, "eu-central-1", "aws"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", "aws-us-gov"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", "aws-cn"),
    ],
)
def test_hosts_of_amazon(host: str, region: str, partition: str) -> None:
    found = ecr.of_host(host)
    assert found is not None
    assert (found.account, found.region) == ("123456789012", region)
    assert found.arn("models/minilm") == f"arn:{partition}:ecr:{region}:123456789012:repository/models/minilm"


@pytest.mark.parametrize("host", ["ghcr.io", "public.ecr.aws", f"{HOST}.evil.example", f"x{HOST}", HOST.removeprefix("1")])
def test_hosts_of_others(host: str) -> None:
    assert ecr.of_host(host) is None


@pytest.fixture
def amazon(aws: AwsServer, server: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Repositories:
    """Amazon's registry: moto gives the token, and the one in memory, reached as a proxy, asks for it."""
    monkeypatch.setattr(fake_registry, "USER", "AWS")
    monkeypatch.setattr(fake_registry, "PASSWORD", "123456789012-auth-token")
    server.switches.auth, server.switches.relative_location = "basic", True
    options = TransportOptions(proxy=f"http://{server.host}", plain_http=(HOST,), sleep=lambda _: None)
    return open_images(f"{HOST}/models", nobody, options)


def test_an_image_goes_to_amazons_registry_and_back(
    amazon: Repositories, aws: AwsServer, built: Path, server: FakeRegistry, tmp_path: Path
) -> None:
    registry = directory.open_registry(tmp_path / "registry", images=amazon)
    release = registry.publish(built)
    ((_, reference),) = release.images.items()
    assert reference.startswith(f"{HOST}/models/minilm@sha256:")
    registry.pull(release, tmp_path / "pulled")
    assert digest.of_tree(tmp_path / "pulled") == digest.of_tree(built)
    assert amazon.check(reference) is None
    (repository,) = aws.client("ecr").describe_repositories()["repositories"]
    assert repository["repositoryName"] == "models/minilm"
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    registry.publish(build(tmp_path / "again", "image", content=b"again"))
    asked = [request.operation for request in aws.log("ecr")]
    assert (asked.count("CreateRepository"), asked.count("DescribeRepositories")) == (1, 2)  # the second is this test's


def test_a_repository_that_another_made_at_the_same_moment(amazon: Repositories, aws: AwsServer, packed: Path) -> None:
    aws.plan(Fault("error", service="ecr", operation="CreateRepository", status=400, code="RepositoryAlreadyExistsException"))
    assert amazon.push(packed, "minilm")


def test_repository_that_may_not_be_looked_at_is_taken_as_there(amazon: Repositories, aws: AwsServer, packed: Path) -> None:
    aws.plan(denied("DescribeRepositories"))
    assert amazon.push(packed, "minilm")
    assert "CreateRepository" not in [request.operation for request in aws.log("ecr")]


@pytest.mark.parametrize(
    ("operation", "resource"),
    [
        ("CreateRepository", "arn:aws:ecr:eu-central-1:123456789012:repository/models/minilm"),
        ("GetAuthorizationToken", r"\*"),
    ],
)
def test_what_amazon_refuses_is_said_with_line_that_allows_it(
    operation: str, resource: str, amazon: Repositories, aws: AwsServer, packed: Path
) -> None:
    said = f"User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ecr:{operation}"
    aws.plan(dataclasses.replace(denied(operation), message=said, onward=True))
    with pytest.raises(ServiceError, match=rf'"Action": "ecr:{operation}", "Resource": "{resource}"'):
        amazon.push(packed, "minilm")


def test_a_push_that_is_refused_names_what_pushing_needs(amazon: Repositories, server: FakeRegistry, packed: Path) -> None:
    server.switches.failures = [("POST", "blobs/uploads", 403)] * 5
    with pytest.raises(ServiceError, match=r'"ecr:PutImage"\], "Resource": "arn:aws:ecr:.*:repository/models/minilm"') as refused:
        amazon.push(packed, "minilm")
    assert "was answered with 403" in str(refused.value)
    assert "auth-token" not in str(refused.value)


def test_without_aws_credentials_those_of_docker_are_used(
    aws: AwsServer, server: FakeRegistry, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.client("ecr").create_repository(repositoryName="models/minilm")
    aws.plan(dataclasses.replace(denied("GetAuthorizationToken"), onward=True))
    server.switches.auth, server.switches.relative_location = "basic", True
    options = TransportOptions(proxy=f"http://{server.host}", plain_http=(HOST,), sleep=lambda _: None)
    known: Callable[[str], tuple[str, str] | None] = {HOST: (fake_registry.USER, fake_registry.PASSWORD)}.get
    assert open_images(f"{HOST}/models", known, options).push(packed, "minilm")
    with pytest.raises(ServiceError, match="GetAuthorizationToken"):
        open_images(f"{HOST}/models", nobody, options).push(packed, "minilm")


def test_a_machine_without_any_credentials_is_told_so(amazon: Repositories, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(MlpackError, match="no AWS credentials were found"):
        amazon.push(packed, "minilm")


def test_images_are_deleted_in_amazons_registry(amazon: Repositories, aws: AwsServer, packed: Path) -> None:
    client = aws.client("ecr")
    client.create_repository(repositoryName="models/minilm")
    made = layout.read(packed)
    put = {"repositoryName": "models/minilm", "imageManifest": made.manifest_bytes.decode()}
    named = client.put_image(**put, imageTag="sha-1", imageManifestMediaType=image.family(made).manifest)["image"]["imageId"]
    reference = f"{HOST}/models/minilm@{named['imageDigest']}"
    amazon.delete(reference)
    assert client.list_images(repositoryName="models/minilm")["imageIds"] == []
    amazon.delete(reference)
    amazon.delete(f"{HOST}/models/nowhere@{named['imageDigest']}")
    aws.plan(denied("BatchDeleteImage"))
    with pytest.raises(ImageRefusedError, match=r'"Action": "ecr:BatchDeleteImage"'):
        amazon.delete(reference)
    aws.plan(Fault("error", service="ecr", status=400, code="ExpiredTokenException", onward=True))
    with pytest.raises(ServiceError, match="expired") as caught:
        amazon.delete(reference)
    assert not isinstance(caught.value, ImageRefusedError)
    aws.plan()
    with pytest.raises(ClientError):
        client.describe_images(repositoryName="models/minilm", imageIds=[named])


@pytest.mark.parametrize(("minutes", "asked"), [(12 * 60, 1), (9, 2)])
def test_a_token_is_kept_until_it_ends(minutes: int, asked: int, aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not moto, whose tokens ended in 2015.
    token, count = base64.b64encode(b"AWS:secret").decode(), 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal count
            count += 1
            known = {"authorizationToken": token, "expiresAt": time.time() + minutes * 60}
            data = json.dumps({"authorizationData": [known]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{running.server_address[1]}")
        account = ecr.of_host(HOST)
        assert account is not None
        amazon = ecr.Ecr(account)
        assert [amazon.credentials(), amazon.credentials()] == [("AWS", "secret")] * 2
        running.shutdown()
    assert count == asked


def test_registries_without_images_are_asked_for_none(built: Path, images: Repositories, tmp_path: Path) -> None:
    registry = directory.open_registry(tmp_path / "registry", images=images)
    release = registry.publish(built)
    with pytest.raises(ServiceError, match="none can be asked here"):
        Registry(registry.place).pull(release, tmp_path / "pulled")
