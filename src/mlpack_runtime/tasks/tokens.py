"""A package's tokenizer as tasks need it: what marks the inside of a word, what stands for the unknown, and tokens as text again.

Promises: nothing of the tokenizer is changed. Will not: be loaded by a task that needs texts alone.
"""

from mlpack_runtime.model import ModelError
from mlpack_runtime.tasks.requests import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.model import Described
    from mlpack_runtime.tasks.windows import Window
    from mlpack_runtime.texts import Text

LONGEST = 512
"""Tokens, where model.json does not say how many the model reads."""


class Tokens:
    """`library`: the tokenizer itself; `most`: tokens that the model reads; `continues`: whether a token
    that goes on with a word is marked; `unknown`: the token for what the vocabulary lacks."""

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        """Raises ModelError where the package has no tokenizer."""
        tokenizer: Any = getattr(model, "tokenizer", None)
        if tokenizer is None:
            raise ModelError(f"the task {settings.get('name')!r} needs a tokenizer, and the package has none: rebuild it")
        self.library: Any = tokenizer.library
        self.pad_left: bool = tokenizer.pad_left
        self.most: int = (model.settings.get("tokenizer") or {}).get("max_length") or LONGEST
        self.continues = bool(getattr(self.library.model, "continuing_subword_prefix", None))
        self.unknown: str | None = settings.get("unk_token") or getattr(self.library.model, "unk_token", None)
        self._settings = settings

    def length(self, text: "Text") -> int:
        """Tokens that the model reads of a text."""
        return len(self.library.encode(*text)) if type(text) is tuple else len(self.library.encode(text))

    def joined(self, tokens: "list[str]") -> str:
        """The text that tokens stand for."""
        decoder = self.library.decoder
        text: str = " ".join(tokens) if decoder is None else decoder.decode(tokens)
        return text

    def first_of(self, window: "Window") -> "str | None":
        """The special token that stands for the whole, such as [CLS]: the tokenizer's configuration says it, else a special one
        that a window begins with."""
        if "cls_token" in self._settings:
            return self._settings["cls_token"]  # type: ignore[no-any-return]
        return window.tokens[0] if window.ids and window.sequence_ids[0] is None else None


class TokenTask(Task):
    """A task that looks at tokens, not at texts alone. `tokens`: the package's tokenizer."""

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        """Raises ModelError where the model has no such output, or the package no tokenizer."""
        super().__init__(model, settings)
        self.tokens = Tokens(model, settings)
