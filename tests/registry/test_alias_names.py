"""Names that look like a version, a digest or the newest release are no names of aliases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.errors import ExitCode, RecipeError
from mlpack.registry.aliases.alias_names import check, why_reserved

VERSIONS = (
    "0 1 001 42 v1 v01 v1-2 1-2-3 1-2-3-rc1 "
    "v2-0-0-beta-1 1-0b2 version-3 version3 rel-1 release-12 ver1 2026-11-29 20261129 v1-post1 "
    "1e3 12e0 v1e3 0x1 0x10 0b1 0o17"
)
DIGESTS = "sha256 sha256-abc sha1 sha512-0 digest md5-1 1a2b3c4 deadbee12 " + "0123456789abcdef" * 4
WORDS = (
    "prod canary blue green eu-1 prod-2 stage-v2 v v-next beta rc-next a b "
    "24h 3d-model facade decade1 accede head1 vip1 canary-2026 team7 x1 e3 1e 3e-eu 0x x0"
)


@pytest.mark.parametrize(("names", "said"), [("latest newest", "newest"), (VERSIONS, "version"), (DIGESTS, "digest")])
def test_what_a_person_would_take_for_something_else_is_refused(names: str, said: str) -> None:
    for name in names.split():
        with pytest.raises(RecipeError, match=f"'{name}' cannot be an alias: it .*{said}.*prod") as caught:
            check(name)
        assert caught.value.exit_code == ExitCode.RECIPE


def test_words_for_a_purpose_are_taken() -> None:
    assert [name for name in WORDS.split() if why_reserved(name)] == []


@given(st.integers(min_value=0, max_value=10**30), st.sampled_from(["", "v", "version-"]))
def test_no_number_is_an_alias(number: int, before: str) -> None:
    assert why_reserved(f"{before}{number}")


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,60}", fullmatch=True))
def test_every_name_has_an_answer_soon(name: str) -> None:
    assert why_reserved(name) is None or "it " in str(why_reserved(name))


def test_version_is_looked_for_in_64_characters_and_no_more() -> None:
    assert "version" in str(why_reserved("1" * 64))
    assert why_reserved("1" * 65) is None


def test_a_long_name_costs_no_time() -> None:
    """Each of these forms could be read in many ways by a careless pattern."""
    for name in ("1-" * 30_000 + "x", "1rc" * 20_000 + "x", "a" * 64 + "g", "1" + "a" * 60_000 + "!", "1" + "-b" * 30_000 + "!"):
        why_reserved(name)
