"""The names that no alias may have, because a person would take them for a version, a digest or the newest release. Pure.

An alias moves; these names speak of something that does not. `tabular:1` beside `tabular@1` could be another release, and
`tabular:latest` need not be the newest one. MLflow reserves `latest` and `v1` for the same reason. Aliases with such names that
an older mlpack made can still be shown, listed and rolled back, but not promoted.
"""

from __future__ import annotations

import re

from mlpack.errors import RecipeError

_NEWEST = ("latest", "newest")
_STAGE = "-?(?:a|b|c|rc|alpha|beta|pre|preview|dev|post|final|snapshot|build)(?:-?[0-9]+)?"
_NUMBER = re.compile(r"v?[0-9]+e[0-9]+|0x[0-9a-f]+|0b[01]+|0o[0-7]+")
"""Text that a program which reads `1e3` or `0x10` without quotes, such as a YAML reader, takes for a number."""
_VERSION = re.compile(rf"(?:v|ver|version|rel|release)?-?[0-9]+(?:-[0-9]+)*(?:{_STAGE}){{0,3}}")
_ALGORITHM = re.compile(r"(?:sha|sha1|sha224|sha256|sha384|sha512|md5|digest)(?:-.*)?")
_HEX = re.compile(r"[0-9a-f]{7,64}")
_LONGEST = 64
"""Nobody writes a version longer than this; longer names are not examined."""
_FEWEST_DIGITS = 2
"""Words such as `facade` and `decade1` have only these letters too. One in eighty short digests has fewer digits."""


def why_reserved(alias: str) -> str | None:
    """The reason why no alias may have this name; None when one may."""
    if alias in _NEWEST:
        return "it says the newest release, which NAME alone means, and an alias stays where it was put"
    if _ALGORITHM.fullmatch(alias) or (_HEX.fullmatch(alias) and _FEWEST_DIGITS <= sum(map(str.isdigit, alias)) < len(alias)):
        return "it looks like a digest, which never changes, and an alias moves"
    if len(alias) <= _LONGEST and (_VERSION.fullmatch(alias) or _NUMBER.fullmatch(alias)):
        return "it looks like a version, which NAME@VERSION means, and an alias moves"
    return None


def check(alias: str) -> None:
    """Raise RecipeError when no alias may have this name."""
    if why := why_reserved(alias):
        raise RecipeError(f"{alias!r} cannot be an alias: {why}. Take a word for its purpose, as in prod, canary or prod-eu")
