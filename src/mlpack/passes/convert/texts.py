r"""Translates the token patterns of scikit-learn's vectorizers into the engine's regular expressions.

Python's `\w` is a letter or digit of any script, RE2's of ASCII alone; skl2onnx' own expression keeps single letters too.

Promises:
- Only patterns whose meaning is known are translated. Any other is left to skl2onnx, and to the comparison.
"""

from __future__ import annotations

from typing import Any

_WORD = r"[\p{L}\p{N}_]"
_KNOWN = {
    r"(?u)\b\w\w+\b": _WORD + "{2,}",
    r"(?u)\b\w+\b": _WORD + "+",
    r"\b\w\w+\b": _WORD + "{2,}",
    r"\b\w+\b": _WORD + "+",
    r"\w+": _WORD + "+",
    r"(?u)\w+": _WORD + "+",
    r"\w\w+": _WORD + "{2,}",
    r"\S+": r"[^\s\p{Z}\x{0B}\x{1C}-\x{1F}\x{85}]+",
    r"[^\s]+": r"[^\s\p{Z}\x{0B}\x{1C}-\x{1F}\x{85}]+",
}


def options(parts: list[Any]) -> dict[int, dict[str, Any]]:
    """The options of skl2onnx for each vectorizer among the parts of an estimator, by the part's id."""
    options_by_id = {}
    for part in parts:
        if type(part).__name__ in ("CountVectorizer", "TfidfVectorizer") and part.analyzer == "word" and part.tokenizer is None:
            expression = _KNOWN.get(part.token_pattern)
            if expression is not None:
                options_by_id[id(part)] = {"tokenexp": expression}
    return options_by_id
