"""The licences of wheels that a recipe asks for, by what their own metadata say.

Promises:
- Permissive licences, and those that bind only changes to the files themselves, ask for nothing: their texts ship with every copy.
- Every other licence, and none at all, has to be accepted by name before a package redistributes the wheel:
  `accept_licenses: [wheel:NAME]`.

The judgement follows metadata and a table, and replaces no reading: the texts are in the package, below licenses/NAME/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

PREFIX = "wheel:"
"""Before a distribution's name in `accept_licenses`."""
_FREE = re.compile(
    r"0bsd|afl-3\.0|apache-(1\.1|2\.0)|artistic-2\.0|blessing|blueoak-1\.0\.0|bsd-[123]-clause|bsd-3-clause-clear|bsl-1\.0|"
    r"bzip2-1\.0\.6|cc-by-[34]\.0|cc0-1\.0|cnri-python|curl|ftl|hpnd|ijg|isc|libpng|libpng-2\.0|libtiff|mit|mit-0|mit-cmu|ncsa|"
    r"ofl-1\.1|openssl|postgresql|psf-2\.0|python-2\.0(\.1)?|unicode-3\.0|unicode-dfs-2016|unlicense|upl-1\.0|wtfpl|x11|zlib|zpl-2\.1"
)
_FILES = re.compile(r"(mpl-(1\.1|2\.0)(-no-copyleft-exception)?|lgpl-[0-9.]+(-only|-or-later|\+)?|epl-[12]\.0|cddl-1\.[01])")
"""They bind whoever changes the files, which a package does not."""
_EXCEPTIONS = ("gcc-exception-2.0", "gcc-exception-3.1", "classpath-exception-2.0", "llvm-exception", "bootloader-exception")
_WORDS = (
    (r"\b(a|s)gpl|affero|\bsspl|server side public|business source|commercial|proprietary|non-?commercial", ""),
    (r"\blgpl|lesser general|library general|mozilla public|\bmpl", "MPL-2.0"),
    (r"\bgpl|general public", ""),
    (r"\bbsd\b|bsd-", "BSD-3-Clause"),
    (r"\bapache\b", "Apache-2.0"),
    (r"\bmit\b|\bexpat\b", "MIT"),
    (r"\bisc\b", "ISC"),
    (r"\bpsf\b|python software foundation", "PSF-2.0"),
    (r"\bhpnd\b|historical permission", "HPND"),
    (r"\bzlib\b|libpng", "Zlib"),
    (r"public domain|\bcc0\b|unlicense", "CC0-1.0"),
    (r"\bboost software", "BSL-1.0"),
)
"""What people write instead of SPDX's names, most binding first; what counts for it, "" where somebody has to read it."""


def asks(stated: str, classifiers: tuple[str, ...]) -> str | None:
    """Why a distribution's licence has to be accepted, in a few words; None where it asks for nothing.

    Args:
        stated: `License-Expression` or `License` of its metadata.
        classifiers: Its classifiers about licences, without `License :: OSI Approved ::`.
    """
    if stated and len(stated) < 200:
        free = _evaluated(stated)
        if free is not None:
            return None if free else f"{stated}, which binds whoever distributes it"
    told = [text for text in (stated, *classifiers) if text]
    judged = [found for text in told if (found := _by_words(text)) is not None]
    if judged:
        return None if all(judged) else f"{' / '.join(told)[:120]}, which binds whoever distributes it"
    return f"{' / '.join(told)[:120]}, which is no licence that mlpack knows" if told else "no licence that its metadata name"


def refusal(name: str, version: str, why: str) -> str:
    """Why a build does not ship a wheel whose licence the recipe does not accept, and what to do."""
    return (
        f"{name} {version} comes under {why}. Its text would lie in the package below licenses/{name}/. Have it read by somebody "
        f"who may decide; if it is agreed to: accept_licenses: ['{PREFIX}{name}']. Else leave the requirement out that brings it"
    )


def _by_words(text: str) -> bool | None:
    """Whether a text that is no SPDX expression names a licence that asks for nothing; None where it names none that is known."""
    lowered = text[:200].lower()
    return next((bool(meant) for pattern, meant in _WORDS if re.search(pattern, lowered)), None)


def _evaluated(expression: str) -> bool | None:
    """Whether an SPDX expression asks for nothing; None where it is none, or names what the table has not."""
    words = iter([*re.findall(r"[()]|[^\s()]+", expression.lower()), ""])
    try:
        value, rest = _any_of(next(words, ""), words)
    except (ValueError, RecursionError):
        return None
    return value if rest == "" else None


def _any_of(word: str, words: Iterator[str]) -> tuple[bool, str]:
    value, word = _all_of(word, words)
    while word == "or":
        other, word = _all_of(next(words, ""), words)
        value = value or other
    return value, word


def _all_of(word: str, words: Iterator[str]) -> tuple[bool, str]:
    value, word = _one(word, words)
    while word == "and":
        other, word = _one(next(words, ""), words)
        value = value and other
    return value, word


def _one(word: str, words: Iterator[str]) -> tuple[bool, str]:
    if word == "(":
        value, word = _any_of(next(words, ""), words)
        if word != ")":
            raise ValueError(word)
        return value, next(words, "")
    after = next(words, "")
    excepted = False
    if after == "with":
        excepted, after = next(words, "") in _EXCEPTIONS, next(words, "")
    if _FREE.fullmatch(word) or _FILES.fullmatch(word) or (excepted and word.startswith("gpl-")):
        return True, after
    if re.fullmatch(r"(a?gpl|sspl|busl|cc-by-(nc|sa|nd)|eupl|osl)-.*", word):
        return False, after
    raise ValueError(word)
