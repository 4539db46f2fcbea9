"""Names of images, and one platform out of many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.digest import Digest
from mlpack.errors import PackError
from mlpack.oci import media, reference
from mlpack.oci.reference import Reference

HEX = "0123456789abcdef" * 4
ALNUM = "abcdefghijklmnopqrstuvwxyz0123456789"
WORD = st.text(ALNUM, min_size=1, max_size=8)
COMPONENT = st.builds(
    lambda parts, glue: glue.join(parts), st.lists(WORD, min_size=1, max_size=3), st.sampled_from([".", "_", "__", "-", "---"])
)
HOST = st.builds(
    lambda name, port: name + port,
    st.one_of(st.just("localhost"), st.builds(lambda a, b: f"{a}.{b}", WORD, WORD), st.just("[::1]"), st.just("127.0.0.1")),
    st.sampled_from(["", ":5000", ":443"]),
)
TAG = st.none() | st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,20}\Z")
DIGEST = st.none() | st.text("0123456789abcdef", min_size=64, max_size=64).map(lambda digits: Digest(f"sha256:{digits}"))
REFERENCE = st.builds(
    lambda host, path, tag, digest: Reference(host=host, repository="/".join(path), tag=tag, digest=digest),
    HOST,
    st.lists(COMPONENT, min_size=1, max_size=4),
    TAG,
    DIGEST,
)


@given(REFERENCE)
def test_reference_round_trip(named: Reference) -> None:
    assert reference.parse(str(named)) == named


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        named = reference.parse(text)
    except PackError:
        return
    assert reference.parse(str(named)) == named


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("python", "docker.io/library/python"),
        ("python:3.13-slim", "docker.io/library/python:3.13-slim"),
        ("team/model", "docker.io/team/model"),
        ("index.docker.io/python", "docker.io/library/python"),
        ("docker.io/python", "docker.io/library/python"),
        ("localhost/x", "localhost/x"),
        ("registry:5000/x", "registry:5000/x"),
        ("public.ecr.aws/lambda/python:3.13", "public.ecr.aws/lambda/python:3.13"),
        (f"a.b/c/d:t@sha256:{HEX}", f"a.b/c/d:t@sha256:{HEX}"),
        ("[::1]:5000/x", "[::1]:5000/x"),
    ],
)
def test_short_names_are_expanded(text: str, full: str) -> None:
    assert str(reference.parse(text)) == full


def test_docker_hub_is_asked_where_it_answers() -> None:
    assert reference.parse("python").api_host == "registry-1.docker.io"
    assert reference.parse("a.b/x").api_host == "a.b"


def test_version_is_digest_then_tag_then_latest() -> None:
    assert reference.parse(f"x:t@sha256:{HEX}").version == f"sha256:{HEX}"
    assert reference.parse("x:t").version == "t"
    assert reference.parse("x").version == "latest"


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "UPPER/x", "a.b/", "a.b//x", "x:", "x:-tag", "x:" + "t" * 129, "x@", "x@sha256:12", "x@md5:" + HEX, "a b",
        "x\n", "-x", "x/../y", "a.b/x?y", "user@a.b/x", "https://a.b/x", "a.b:99999999/x", "a_b.c/x", "x/" + "y" * 300, "a..b/x",
        "x:t:u", "x@@y",
    ],
)  # fmt: skip
def test_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(PackError):
        reference.parse(text)


def entry(os_name: str, arch: str, variant: str = "", kind: str = media.OCI_MANIFEST) -> dict[str, object]:
    """One line of an index."""
    platform = {"os": os_name, "architecture": arch} | ({"variant": variant} if variant else {})
    digits = media.as_digest("sha256:" + f"{abs(hash((os_name, arch, variant, kind))):064x}"[:64], "x")
    return {"mediaType": kind, "digest": str(digits), "size": 7, "platform": platform}


def chosen(arch: str, *entries: dict[str, object]) -> tuple[str, str, str] | None:
    """The platform that is selected."""
    return reference.select(reference.manifests({"manifests": list(entries)}), arch).platform


def test_select_takes_the_platform_and_passes_over_attestations() -> None:
    many = (entry("unknown", "unknown"), entry("windows", "amd64"), entry("linux", "arm64", "v8"), entry("linux", "amd64"))
    assert chosen("amd64", *many) == ("linux", "amd64", "")
    assert chosen("arm64", *many) == ("linux", "arm64", "v8")


def test_select_takes_no_variant_that_some_processors_lack() -> None:
    assert chosen("amd64", entry("linux", "amd64", "v3"), entry("linux", "amd64")) == ("linux", "amd64", "")
    with pytest.raises(PackError, match="linux/amd64/v3"):
        chosen("amd64", entry("linux", "amd64", "v3"))
    with pytest.raises(PackError, match="linux/arm64/v9"):
        chosen("arm64", entry("linux", "arm64", "v9"))


def test_select_without_platform_takes_the_only_manifest() -> None:
    lone = {"mediaType": media.OCI_MANIFEST, "digest": f"sha256:{HEX}", "size": 7}
    assert chosen("amd64", lone) is None
    with pytest.raises(PackError, match="unnamed"):
        chosen("amd64", lone, {**lone, "digest": "sha256:" + "0" * 64})


@pytest.mark.parametrize(
    "index", [{}, {"manifests": {}}, {"manifests": [1]}, {"manifests": [{"mediaType": "x", "size": 1, "digest": "x"}]}]
)
def test_malformed_index_is_refused(index: dict[str, object]) -> None:
    with pytest.raises(PackError):
        reference.manifests(index)
