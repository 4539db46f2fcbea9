"""Tokens of frames to a text, as transformers' Wav2Vec2CTCTokenizer decodes them. Pure.

Promises: what is said longer than a frame counts once, the padding token stands for nothing said, the delimiter for a space. Places
are in frames.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Part = tuple[str, int, int]

_SPACED = (" .", " ?", " !", " ,")
_JOINED = (" n't", " 'm", " 's", " 've", " 're")


class Vocabulary:
    """What stands for each token. `settings`: model.json's `vocabulary`: `tokens` (null for one that has none), `unknown`, `blank`,
    `delimiter`, `space`, `lower` and `clean`."""

    def __init__(self, settings: "Mapping[str, Any]") -> None:
        self._settings = settings
        self._tokens: Sequence[str | None] = settings["tokens"]

    def parts(self, tokens: "list[int]") -> "list[Part]":
        """What is said, each with its first frame and the one behind its last."""
        unknown, blank = self._settings["unknown"], self._settings["blank"]
        delimiter, space = self._settings["delimiter"], self._settings["space"]
        parts: list[Part] = []
        names = [self._name(token, unknown) for token in tokens]
        begin = 0
        for at in range(1, len(names) + 1):
            if at == len(names) or names[at] != names[begin]:
                if names[begin] != blank:
                    parts.append((space if names[begin] == delimiter else names[begin], begin, at))
                begin = at
        return parts

    def text(self, parts: "list[Part]") -> str:
        """All of it."""
        text = "".join(part[0] for part in parts).strip()
        if self._settings["lower"]:
            text = text.lower()
        return _clean(text) if self._settings["clean"] else text

    def words(self, parts: "list[Part]") -> "list[Part]":
        """Words with their places: what stands between spaces."""
        words: list[Part] = []
        word, space = "", self._settings["space"]
        begin = end = 0
        for text, first, behind in parts:
            if text == space:
                if word:
                    words.append((word, begin, end))
                word = ""
                continue
            begin, end, word = first if not word else begin, behind, word + text
        return [*words, (word, begin, end)] if word else words

    def _name(self, token: int, unknown: str) -> str:
        name = self._tokens[token] if token < len(self._tokens) else None
        return unknown if name is None else name


def _clean(text: str) -> str:
    for mark in _SPACED:
        text = text.replace(mark, mark[1:])
    text = text.replace(" ' ", "'")
    for ending in _JOINED:
        text = text.replace(ending, ending[1:])
    return text
