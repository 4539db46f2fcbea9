"""Which image of several: layouts of other tools, and what must not be guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.images.layouts import CONTAINERD, INDEX, MANIFEST, Line, Maker, archived, buildx, called, unmarked

from mlpack.core.digest import Digest, of_bytes
from mlpack.errors import ExitCode, NamingError, PackError
from mlpack.oci import image, layout, media, selection

HEX = "0123456789abcdef" * 4


def digest_of(path: Path | str, arch: str | None = None) -> str:
    made, _ = layout.read_named(str(path), arch)
    return str(image.digest(made))


def refused(path: Path | str, arch: str | None = None) -> str:
    with pytest.raises(NamingError) as caught:
        layout.read_named(str(path), arch)
    assert caught.value.exit_code == ExitCode.RECIPE
    return str(caught.value)


# --- one line of an index ---------------------------------------------------------------------------------------------


def entry(os_name: str, arch: str, variant: str = "", kind: str = media.OCI_MANIFEST) -> Line:
    """One line of an index."""
    platform = {"os": os_name, "architecture": arch} | ({"variant": variant} if variant else {})
    digits = of_bytes(json.dumps([os_name, arch, variant, kind]).encode())
    return {"mediaType": kind, "digest": str(digits), "size": 7, "platform": platform}


def unread(_wanted: media.Descriptor) -> bytes:
    pytest.fail("a document was read that the choice does not need")


def chosen(arch: str | None, *entries: Line) -> tuple[str, str, str] | None:
    """The platform that is selected."""
    return selection.choose("x", {"manifests": list(entries)}, unread, arch).descriptor.platform


def test_the_platform_is_taken_and_attestations_are_passed_over() -> None:
    attestation = {**entry("unknown", "unknown"), "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    many = (attestation, entry("windows", "amd64"), entry("linux", "arm64", "v8"), entry("linux", "amd64"))
    assert chosen("amd64", *many) == ("linux", "amd64", "")
    assert chosen("arm64", *many) == ("linux", "arm64", "v8")


def test_no_variant_is_taken_that_some_processors_lack() -> None:
    assert chosen("amd64", entry("linux", "amd64", "v3"), entry("linux", "amd64")) == ("linux", "amd64", "")
    for variant in ("v2", "v3", "v4"):
        with pytest.raises(PackError, match=f"linux/amd64/{variant}"):
            chosen("amd64", entry("linux", "amd64", variant))
    with pytest.raises(PackError, match="linux/arm64/v9"):
        chosen("arm64", entry("linux", "arm64", "v9"))


@pytest.mark.parametrize(
    ("arch", "line"),
    [
        ("amd64", entry("linux", "amd64", "v1")),
        ("amd64", entry("linux", "x86_64")),
        ("amd64", entry("Linux", "AMD64")),
        ("arm64", entry("linux", "arm64", "v8")),
        ("arm64", entry("linux", "arm64", "8")),
        ("arm64", entry("linux", "aarch64")),
    ],
)
def test_every_spelling_of_a_platform_is_that_platform(arch: str, line: Line) -> None:
    assert chosen(arch, line, entry("linux", "s390x")) == chosen(arch, line)


def test_two_spellings_of_one_platform_are_two_images_for_it(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    out = maker.done(maker.image("arm64"), maker.image("arm64", "v8"))
    assert "2 images for linux/arm64" in refused(out, "arm64")


# --- layouts of other tools -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [lambda folder, _: folder, archived])
def test_buildx_with_provenance(pack: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    place = pack(buildx(tmp_path / "made"), tmp_path / "made.tar")
    for text in (str(place), f"{place}:1", f"{place}:docker.io/team/base:1", f"oci:{place}:1"):
        made, others = layout.read_named(text)
        assert (image.platform(made), others) == (("linux", "amd64", ""), 1)
        assert image.validate(made) == []
    assert digest_of(place, "amd64") == digest_of(place)
    assert "made for linux/amd64, not for linux/arm64" in refused(place, "arm64")


def test_buildx_for_two_processors_asks_for_arch(tmp_path: Path) -> None:
    out = buildx(tmp_path / "made", "amd64", "arm64")
    said = refused(out)
    assert "--arch x86_64 or --arch arm64" in said
    assert "attestation" not in said
    assert digest_of(out, "amd64") != digest_of(out, "arm64")
    assert digest_of(out, selection.ANY) == digest_of(out, "amd64")
    (inner,) = json.loads((out / "index.json").read_bytes())["manifests"]
    assert digest_of(f"{out}@{inner['digest']}", "arm64") == digest_of(out, "arm64")


def test_indexes_within_indexes(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    line = maker.image()
    nested: Line = line
    for _ in range(4):
        nested = maker.index(nested, maker.attestation(line))
    assert digest_of(maker.done(nested)) == line["digest"]
    for _ in range(8):
        nested = maker.index(nested)
    with pytest.raises(PackError, match="indexes within each other"):
        layout.read(maker.done(nested))


def test_an_index_that_names_one_thing_for_ever_is_refused(tmp_path: Path) -> None:
    """Sixty thousand manifests out of ten small files: 4 levels of 16 lines each."""
    maker = Maker(tmp_path / "x")
    nested = maker.image()
    for _ in range(4):
        nested = maker.index(*[nested] * 16)
    with pytest.raises(PackError, match="more than 10000 manifests"):
        layout.read(maker.done(nested))


def test_a_missing_platform_is_read_from_the_config(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    lines = [unmarked(maker.image(arch)) for arch in ("arm64", "amd64")]
    out = maker.done(*lines)
    assert [digest_of(out, arch) for arch in ("arm64", "amd64")] == [line["digest"] for line in lines]
    assert "2 images" in refused(out)
    empty = maker.done(*({**line, "platform": {}} for line in lines))
    assert digest_of(empty, "amd64") == lines[1]["digest"]


def test_images_without_any_platform_are_not_guessed(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    lone = unmarked(maker.image("", os=""))
    assert digest_of(maker.done(lone)) == lone["digest"]
    out = maker.done(lone, unmarked(maker.image("", os="", mark="other")))
    assert "unnamed platforms" in refused(out, "amd64")


def test_windows_is_another_platform(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    linux, windows = maker.image(), maker.image(os="windows")
    servers = [{**windows, "platform": {**windows["platform"], "os.version": version}} for version in ("10.0.17763", "10.0.20348")]
    assert digest_of(maker.done(*servers, linux), "amd64") == linux["digest"]
    assert "made for windows/amd64, not for linux/amd64" in refused(maker.done(servers[0]), "amd64")


def test_docker_save_of_today(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    line = called(unmarked(maker.image()), "1", **{CONTAINERD: "docker.io/team/base:1"})
    out = maker.done(line)
    (out / "manifest.json").write_text("[]")
    assert digest_of(archived(out, tmp_path / "x.tar")) == line["digest"]


@pytest.mark.parametrize(
    "artifact",
    [
        {"layer": "application/vnd.dev.cosign.simplesigning.v1+json"},
        {"layer": "application/vnd.dev.sigstore.bundle.v0.3+json", "config": "application/vnd.oci.empty.v1+json"},
        {"config": "application/vnd.cncf.notary.signature", "layer": "application/jose+json"},
        {"config": "application/vnd.oci.empty.v1+json", "layer": "text/spdx", "artifactType": "application/spdx+json"},
        {"config": "application/vnd.amazon.soci.index.v1+json", "layer": "application/octet-stream"},
        {"config": "application/vnd.cncf.helm.config.v1+json", "layer": "application/vnd.cncf.helm.chart.content.v1.tar+gzip"},
    ],
)
@pytest.mark.parametrize("name", ["sha256-" + HEX + ".sig", "signature", None])
def test_what_is_no_image_is_no_candidate(artifact: dict[str, str], name: str | None, tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    line = maker.image()
    other = maker.artifact(**artifact, subject={key: line[key] for key in ("mediaType", "digest", "size")})
    other = called(other, name) if name else other
    assert digest_of(maker.done(other, called(unmarked(line), "v1")), "amd64") == line["digest"]
    assert "holds no image" in refused(maker.done(other))
    assert "holds no image" in refused(f"{maker.path}@{other['digest']}")


def test_what_speaks_of_an_image_that_is_here_is_no_candidate(tmp_path: Path) -> None:
    """Even when it has the form of an image and claims a platform."""
    maker = Maker(tmp_path / "x")
    line = maker.image()
    about = maker.image(mark="about", subject={key: line[key] for key in ("mediaType", "digest", "size")})
    assert digest_of(maker.done(about, line)) == line["digest"]
    assert digest_of(f"{maker.path}@{about['digest']}") == about["digest"]


def test_of_an_image_with_gzip_and_with_zstd_the_one_with_gzip(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    plain, copy = maker.image(), maker.image(mark="as if compressed otherwise")
    marked = {**copy, "annotations": {"io.github.containers.compression.zstd": "true"}}
    assert digest_of(maker.done(marked, plain), "amd64") == plain["digest"]
    assert digest_of(maker.done(marked)) == copy["digest"]


def test_a_zstd_layer_is_valid_and_its_bytes_are_checked(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    read = json.loads((tmp_path / "x/blobs/sha256" / maker.image()["digest"].removeprefix("sha256:")).read_bytes())
    layer = {"mediaType": media.ZSTD_LAYER, **maker.blob(b"\x28\xb5\x2f\xfd of any content")}
    out = maker.done(maker.image(**{**read, "layers": [layer]}))
    assert image.validate(layout.read(out)) == []
    (tmp_path / "x/blobs/sha256" / layer["digest"].removeprefix("sha256:")).write_bytes(b"damaged")
    assert image.validate(layout.read(out))


def test_referrers_under_the_tag_that_speaks_of_an_image(tmp_path: Path) -> None:
    """The tag schema of distribution-spec: an index of what speaks of an image; and an image that is called by a digest is one."""
    maker = Maker(tmp_path / "x")
    line = maker.image()
    about = [maker.artifact(layer="text/plain", of=name, artifactType="text/plain") for name in "ab"]
    referrers = called(maker.index(*({**each, "artifactType": "text/plain"} for each in about)), f"sha256-{HEX}")
    assert digest_of(maker.done(referrers, called(line, "v1"))) == line["digest"]
    assert digest_of(maker.done(called(line, f"sha256-{HEX}"))) == line["digest"]


def test_cosign_save(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    lines = [unmarked(maker.image()), maker.artifact(layer="application/vnd.dev.cosign.simplesigning.v1+json")]
    for line, kind in zip(lines, ("image", "sigs"), strict=True):
        line["annotations"] = {"kind": f"dev.cosignproject.cosign/{kind}"}
    assert digest_of(maker.done(*lines)) == lines[0]["digest"]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def twotags(tmp_path: Path) -> tuple[Path, Line, Line]:
    """Two images for one platform, as v1 and v2."""
    maker = Maker(tmp_path / "two")
    lines = called(maker.image(), "v1"), called(maker.image(mark="other"), "v2")
    return maker.done(*lines), *lines


@pytest.mark.parametrize("arch", ["amd64", None, selection.ANY])
def test_two_images_for_one_platform_name_the_way_to_choose(arch: str | None, twotags: tuple[Path, Line, Line]) -> None:
    out, one, _ = twotags
    said = refused(out, arch)
    assert "2 images for linux/amd64 (v1 linux/amd64" in said
    assert f"{out}:v1 or {out}@{one['digest']}" in said


def test_a_tag_or_a_digest_chooses(twotags: tuple[Path, Line, Line]) -> None:
    out, *lines = twotags
    for tag, line in zip(("v1", "v2"), lines, strict=True):
        for text in (f"{out}:{tag}", f"{out}@{line['digest']}", f"oci:{out}:{tag}", f"{out}:{tag}@{line['digest']}"):
            assert digest_of(text, "amd64") == digest_of(text) == line["digest"]
    assert "has nothing called v3: it has v1 linux/amd64" in refused(f"{out}:v3")
    assert "has nothing called" in refused(f"{out}@sha256:{HEX}")
    assert "has nothing called v1" in refused(f"{out}:v1@{lines[1]['digest']}")


def test_of_two_names_with_one_tag_the_whole_name_chooses(tmp_path: Path) -> None:
    """As `docker save team/a:1 team/b:1` writes them."""
    maker = Maker(tmp_path / "x")
    lines = [called(unmarked(maker.image(mark=name)), "1", **{CONTAINERD: f"docker.io/team/{name}:1"}) for name in "ab"]
    out = maker.done(*lines)
    assert f"as in {out}:docker.io/team/a:1 or {out}@" in refused(f"{out}:1")
    assert digest_of(f"{out}:docker.io/team/b:1") == lines[1]["digest"]


def test_one_image_under_two_tags_is_one(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    line = maker.image()
    assert digest_of(maker.done(called(line, "v1"), called(unmarked(line), "latest")), "amd64") == line["digest"]


def test_the_longest_path_counts(twotags: tuple[Path, Line, Line], tmp_path: Path) -> None:
    out, _, two = twotags
    odd = out.rename(tmp_path / "a:b")
    assert "2 images" in refused(odd)
    assert digest_of(f"{odd}:v2") == two["digest"]
    plain = Maker(tmp_path / "a")
    line = called(plain.image(mark="plain"), "b:v2")
    plain.done(line)
    assert digest_of(f"{odd}:v2") == two["digest"]
    assert "nothing of that name" in refused(tmp_path / "nowhere:v1")


def test_an_image_in_a_registry_is_none_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python").mkdir()
    (tmp_path / "alpine").write_text("not an archive")
    for text in ("python:3.13", "alpine:3", f"python@sha256:{HEX}", "x:y", ":", "@", "", "a\0b:c", "x" * 5000 + ":y"):
        assert layout.locate(text) is None
    buildx(tmp_path / "base")
    assert layout.locate("base:1") == (Path("base"), selection.Selector(tag="1"))
    assert layout.locate(f"base@sha256:{HEX}") == (Path("base"), selection.Selector(digest=Digest(f"sha256:{HEX}")))
    assert layout.locate("./python:3.13") == (Path("./python"), selection.Selector(tag="3.13"))
    assert layout.beside("base:1", tmp_path) == f"{tmp_path}/base:1"
    assert layout.beside("oci:base:1", tmp_path) == f"{tmp_path}/base:1"
    assert layout.beside("python:3.13", tmp_path) == "python:3.13"


def test_names_of_strangers_do_not_reach_the_terminal(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    lines = [called(maker.image(mark=name), name) for name in ("\x1b]0;pwned\x07v1", "v2" * 100_000)]
    said = refused(maker.done(*lines))
    assert "\x1b" not in said
    assert len(said) < 1000


@pytest.mark.parametrize("kind", [INDEX, MANIFEST])
def test_a_layout_that_lacks_what_it_lists_is_damaged(kind: str, tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    out = maker.done({"mediaType": kind, "digest": f"sha256:{HEX}", "size": 7})
    with pytest.raises(PackError, match="lacks") as caught:
        layout.read(out)
    assert caught.value.exit_code == ExitCode.STEP_FAILED


@pytest.mark.parametrize("odd", [[], {}, 7, None, "x", True])
def test_documents_of_odd_forms_are_no_bugs(odd: object, tmp_path: Path) -> None:
    maker = Maker(tmp_path / "x")
    line = maker.image()
    for key in ("mediaType", "config", "layers", "subject", "artifactType", "annotations"):
        other = maker.image(mark="odd", **{key: odd})
        config = maker.image(mark="odd", config={"mediaType": odd, "digest": odd, "size": odd})
        subject = maker.image(mark="odd", subject={"digest": odd})
        for each in (other, config, subject, {**line, key: odd}, {**line, "platform": {"os": odd, "architecture": odd}}):
            for lines in ([each], [line, each], [unmarked(each), line]):
                for arch in ("amd64", None):
                    with suppress(PackError):
                        layout.read(maker.done(*lines), arch)


def test_an_empty_index_holds_no_image(tmp_path: Path) -> None:
    assert re.search("holds no image.*: nothing$", refused(Maker(tmp_path / "x").done()))
