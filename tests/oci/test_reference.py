"""Names of images in registries."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.core.digest import Digest
from mlpack.errors import ExitCode, NamingError, PackError
from mlpack.oci import reference
from mlpack.oci.reference import ImageReference

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
    lambda host, path, tag, digest: ImageReference(host=host, repository="/".join(path), tag=tag, digest=digest),
    HOST,
    st.lists(COMPONENT, min_size=1, max_size=4),
    TAG,
    DIGEST,
)


@given(REFERENCE)
def test_reference_round_trip(named: ImageReference) -> None:
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


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("docker://a.b/x:t", "without 'docker://': 'a.b/x:t'"),
        ("https://a.b/x", "without 'https://': 'a.b/x'"),
        ("containers-storage:x", "write 'host/team/model:tag'"),
        ("oci:/tmp/x", "'oci:/': 'tmp/x'"),
        ("a.b/Team/Model", "write 'a.b/team/model'"),
        ("Model", "write 'model'"),
        ("a.b/Team/Model:V1", "write 'a.b/team/model:V1'"),
        ("Team/x:1", "write 'team/x:1'"),
        ("index.docker.io/Team/x", "write 'index.docker.io/team/x'"),
        (f"A.b/X@sha256:{HEX}", f"write 'A.b/x@sha256:{HEX}'"),
        ("127.0.0.1:5000", "write '127.0.0.1:5000/team/model:tag'"),
        ("localhost:5000", "write 'localhost:5000/team/model:tag'"),
        ("a.b/x:v1.0+cpu", "write 'v1.0_cpu'"),
        ("a.b/x:feature/y", "write 'feature_y'"),
        ("a.b/x:-v1", "write 'v1'"),
        ("a.b/x:" + "t" * 129, "write '" + "t" * 128 + "'"),
        ("a.b/" + "x" * 300, "longer than the 255"),
    ],
)
def test_a_malformed_name_is_said_with_what_to_write(text: str, instead: str) -> None:
    with pytest.raises(NamingError, match=re.escape(instead)) as caught:
        reference.parse(text)
    assert caught.value.exit_code == ExitCode.RECIPE


@pytest.mark.parametrize(
    "index", [{}, {"manifests": {}}, {"manifests": [1]}, {"manifests": [{"mediaType": "x", "size": 1, "digest": "x"}]}]
)
def test_malformed_index_is_refused(index: dict[str, object]) -> None:
    with pytest.raises(PackError):
        reference.manifests(index)
