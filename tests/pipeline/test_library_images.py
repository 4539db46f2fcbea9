"""Images by the library, against a registry in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.images import layouts
from tests.support.images.fake_registry import FakeRegistry

from mlpack.cli.console import Console
from mlpack.errors import ExitCode, NamingError, PackError, RecipeError, ServiceError
from mlpack.oci import image, layout
from mlpack.oci.layers import layer
from mlpack.pipeline.library import images
from mlpack.targets.format.contents import Facts

QUIET = Console(quiet=True, stream=io.StringIO(), env={})


def nobody(_host: str) -> None:
    """Credentials of nobody."""


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as running:
        yield running


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A layout of one small layer."""
    (tmp_path / "work/tree").mkdir(parents=True)
    (tmp_path / "work/tree/app.py").write_text("print('hi')\n")
    over = layer.layer_from_tree(tmp_path / "work/tree", "var/task", {}, tmp_path / "work/blobs")
    layout.write(image.append(image.empty("amd64"), over, "code"), tmp_path / "work/layout")
    return tmp_path / "work/layout"


def test_what_is_pushed_is_pulled_and_inspected_by_its_digest(registry: FakeRegistry, made: Path, tmp_path: Path) -> None:
    reference = images.push(str(made), f"{registry.host}/team/model:v1", credentials=nobody, progress=QUIET)
    name = image.digest(layout.read(made))
    assert reference == f"{registry.host}/team/model@{name}"
    assert images.pull(reference, tmp_path / "deep/pulled", arch="x86_64", credentials=nobody, progress=QUIET) == str(name)
    assert layout.read(tmp_path / "deep/pulled") == layout.read(made)
    assert (tmp_path / "deep/pulled").stat().st_mode & 0o777 == 0o755
    assert images.validate(str(tmp_path / "deep/pulled")) == []
    described = images.inspect(reference, arch="x86_64", credentials=nobody, store=tmp_path / "cache")
    assert described == images.inspect(str(made), arch="x86_64", credentials=nobody, store=tmp_path / "cache")


def test_a_failed_pull_leaves_nothing(registry: FakeRegistry, made: Path, tmp_path: Path) -> None:
    """Not even the directory: the next attempt would be told that there is one already."""
    reference = images.push(str(made), f"{registry.host}/model", credentials=nobody, progress=QUIET)
    with pytest.raises(PackError, match="made for linux/amd64, not for linux/arm64"):
        images.pull(reference, tmp_path / "pulled", arch="arm64", credentials=nobody, progress=QUIET)
    registry.blobs.clear()
    with pytest.raises(ServiceError):
        images.pull(reference, tmp_path / "pulled", arch="x86_64", credentials=nobody, progress=QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_a_pull_never_overwrites(registry: FakeRegistry, made: Path) -> None:
    with pytest.raises(PackError, match="exists already"):
        images.pull(f"{registry.host}/model", made, arch="x86_64", credentials=nobody, progress=QUIET)
    assert images.validate(str(made)) == []


def test_every_wrong_byte_is_found(made: Path) -> None:
    (blob,) = (path for path in (made / "blobs/sha256").iterdir() if path.read_bytes()[:2] == b"\x1f\x8b")
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    assert images.validate(str(made))


def test_lambda_is_asked_only_on_request(made: Path) -> None:
    assert images.validate(str(made)) == []
    assert images.validate(str(made), for_lambda=True)  # it has no entrypoint


# --- several images ---------------------------------------------------------------------------------------------------


def test_image_is_pushed_alone_of_a_layout_with_attestations(registry: FakeRegistry, tmp_path: Path) -> None:
    said = io.StringIO()
    out = layouts.buildx(tmp_path / "buildx")
    reference = images.push(str(out), f"{registry.host}/base:1", credentials=nobody, progress=Console(stream=said, env={}))
    assert "pushing linux/amd64 alone; 1 other manifest of" in said.getvalue()
    assert sorted(name for _, name in registry.manifests) == ["1", reference.partition("@")[2]]
    assert images.validate(str(out)) == []
    assert images.inspect(str(out), credentials=nobody, store=tmp_path / "cache")["digest"] == reference.partition("@")[2]


def test_arch_chooses_wherever_a_message_asks_for_it(registry: FakeRegistry, tmp_path: Path) -> None:
    out = str(layouts.buildx(tmp_path / "both", "amd64", "arm64"))
    for verb in (
        lambda arch: images.push(out, f"{registry.host}/base:1", arch=arch, credentials=nobody, progress=QUIET),
        lambda arch: images.validate(out, arch=arch),
    ):
        with pytest.raises(NamingError, match="--arch x86_64 or --arch arm64"):
            verb(None)
        assert verb("arm64") != ""
    assert images.inspect(out, arch="arm64", credentials=nobody, store=tmp_path / "cache")["platform"] == "linux/arm64"
    assert images.inspect(out, credentials=nobody, store=tmp_path / "cache")["platform"] == "linux/amd64"
    only = f"{registry.host}/base:1"
    assert images.inspect(only, credentials=nobody, store=tmp_path / "cache")["platform"] == "linux/arm64"
    with pytest.raises(NamingError, match="base:1 is made for linux/arm64, not for linux/amd64: choose another arch"):
        images.inspect(only, arch="x86_64", credentials=nobody, store=tmp_path / "cache")


def test_an_index_in_a_registry_is_chosen_from_by_the_same_rule(registry: FakeRegistry, tmp_path: Path) -> None:
    maker = layouts.Maker(tmp_path / "x")
    one, two = maker.image(), maker.image(mark="two")
    nested = maker.index(one, maker.attestation(one))
    for path in (maker.path / "blobs/sha256").iterdir():
        registry.add_blob("base", path.read_bytes())
        if path.read_bytes().startswith(b"{"):
            kind = layouts.INDEX if b'"manifests"' in path.read_bytes() else layouts.MANIFEST
            registry.add_manifest("base", path.name, kind, path.read_bytes())

    def tagged(name: str, *lines: layouts.Line) -> str:
        data = json.dumps({"schemaVersion": 2, "mediaType": layouts.INDEX, "manifests": lines}).encode()
        registry.add_manifest("base", name, layouts.INDEX, data)
        return f"{registry.host}/base:{name}"

    def inspected(reference: str) -> str:
        return str(images.inspect(reference, arch="x86_64", credentials=nobody, store=tmp_path / "cache")["digest"])

    assert inspected(tagged("nested", nested)) == one["digest"]
    assert inspected(tagged("unmarked", layouts.unmarked(one), maker.attestation(one))) == one["digest"]
    with pytest.raises(NamingError, match=f"2 images for linux/amd64.*as in {registry.host}/base@{one['digest']}$"):
        inspected(tagged("twice", layouts.called(one, "v1"), layouts.called(two, "v2")))
    assert inspected(f"{registry.host}/base@{two['digest']}") == two["digest"]


@pytest.mark.parametrize("name", ["docker://x.example/y:1", "x.example/Y:1", "x.example/y:a b", "https://x.example/y"])
def test_names_that_are_none_end_before_anything_is_asked(name: str, made: Path, tmp_path: Path) -> None:
    for verb in (
        lambda: images.push(str(made), name, credentials=nobody, progress=QUIET),
        lambda: images.pull(name, tmp_path / "deep/out", credentials=nobody, progress=QUIET),
        lambda: images.inspect(name, credentials=nobody, store=tmp_path / "cache"),
    ):
        with pytest.raises(NamingError) as caught:
            verb()
        assert caught.value.exit_code == ExitCode.RECIPE
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("content", ["nowhere", "text", "tar", "folder"])
def test_what_is_no_layout_is_the_command_lines_fault(content: str, registry: FakeRegistry, tmp_path: Path) -> None:
    place = tmp_path / "x.tar"
    if content == "text":
        place.write_text("no tar")
    elif content != "nowhere":
        (tmp_path / "empty").mkdir()
        place = layouts.archived(tmp_path / "empty", place) if content == "tar" else tmp_path / "empty"
    with pytest.raises(NamingError) as caught:
        images.push(str(place), f"{registry.host}/y", credentials=nobody, progress=QUIET)
    assert caught.value.exit_code == ExitCode.RECIPE
    assert registry.requests == []


def test_an_image_that_is_inspected_is_no_base(tmp_path: Path) -> None:
    with FakeRegistry(auth="basic") as private, pytest.raises(ServiceError, match="401") as caught:
        images.inspect(f"{private.host}/team/model:v1", credentials=nobody, store=tmp_path / "cache")
    assert "base" not in str(caught.value)
    with pytest.raises(NamingError, match=r"there is nothing at \./nowhere"):
        images.inspect("./nowhere", credentials=nobody, store=tmp_path / "cache")


# --- what is said of images -------------------------------------------------------------------------------------------


def test_labels_and_a_time_are_read() -> None:
    labels = images.parse_labels(["io.example.b=x=y", "org.opencontainers.image.source=https://example.org/é"])
    said = images.facts(labels, "2025-11-29T01:00:00+01:00")
    assert said.labels == (("io.example.b", "x=y"), ("org.opencontainers.image.source", "https://example.org/é"))
    assert said.created_s == images.facts({}, "1764374400").created_s == images.facts({}, "2025-11-29").created_s == 1764374400
    assert images.facts({}, None) == images.facts({}, "0") == Facts()


@pytest.mark.parametrize(
    ("labels", "created", "said"),
    [
        (["nothing"], None, "write KEY=VALUE"),
        (["=x"], None, "reverse-DNS"),
        (["key=x"], None, "io.example.key"),
        (["org.opencontainers.image.unknown=x"], None, "reserved"),
        (["com.docker.x=y"], None, "reserved"),
        (["io.a.b=1", "io.a.b=2"], None, "each key once"),
        (["io.a.b=\udcff"], None, "surrogates"),
        (["org.opencontainers.image.base.name=x"], None, "mlpack says that itself"),
        (["io.mlpack.gpus=x"], None, "mlpack says that itself"),
        ([], "yesterday", "SOURCE_DATE_EPOCH"),
        ([], "", "SOURCE_DATE_EPOCH"),
        ([], "-1", "SOURCE_DATE_EPOCH"),
        ([], "1969-12-31", "between 1970 and 9999"),
        ([], "999999999999", "between 1970 and 9999"),
    ],
)
def test_what_cannot_be_said_of_image_is_command_lines_fault(labels: list[str], created: str | None, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        images.parse_labels(labels, created)
