"""Texts of a request, one by one or in pairs: what a cross-encoder reads together, as its tokenizer puts them.

Promises: a list of texts comes out with each of them a string or a pair of strings, held against the limits, or `RequestError`.
Will not: know a tokenizer or a protocol.
"""

from mlpack_runtime.limits import Limits, RequestError, quoted, too_large
from mlpack_runtime.tensor import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Text = str | tuple[str, str]

TEXT_INPUT, PAIR_INPUT = "text", "text_pair"
FORMS = ('{"text": "..."}', '{"texts": ["..."]}', '{"text": "...", "text_pair": "..."}')
"""Plain requests of a text model, for people."""
DEFAULTS = Limits({}, {})


def texts(
    values: object, shape: "tuple[int, ...] | None" = None, limits: Limits = DEFAULTS, name: str = TEXT_INPUT
) -> "list[Text]":
    """A list of texts, at least one; without a shape each may be a pair, `[first, second]`. Raises RequestError."""
    if type(values) is list and len(values) > limits.rows:
        raise too_large("rows", "texts:", len(values), limits)
    if type(values) is not list or not {*map(type, values)} <= {str}:
        if type(values) is list and shape is None and all(_is_pair(text) for text in values):
            values = of_call(values)
        else:
            pairs = "" if shape is not None else ", nor one of pairs of strings"
            raise RequestError(f"input {name!r}: data is not a list of strings{pairs}")
    if not values:
        raise RequestError(f"input {name!r}: at least one text is needed")
    if shape is not None and count(shape) != len(values):
        raise RequestError(f"input {name!r}: shape {quoted(shape)} holds {quoted(count(shape))} texts, data has {len(values)}")
    made: list[Text] = values
    for text in made:
        # What nearly every text is passes without a call of our own: thousands of them are one small request.
        if type(text) is not str or len(text) > limits.text_chars or not text.isascii():
            _check(text, name, limits)
    return made


def paired(first: "list[Text]", second: "list[Text]", limits: Limits = DEFAULTS) -> "list[Text]":
    """Two lists of strings as one of pairs. Raises RequestError where they differ in length, or a pair is too long."""
    if len(first) != len(second):
        raise RequestError(f"{len(first)} texts in {TEXT_INPUT!r} and {len(second)} in {PAIR_INPUT!r}: each needs its other one")
    made: list[Text] = [(str(one), str(other)) for one, other in zip(first, second, strict=True)]
    for pair in made:
        _check(pair, TEXT_INPUT, limits)
    return made


def of_call(values: "list[Any]") -> "list[Text]":
    """The texts of a recorded call, where a pair is a list of two."""
    return [text if type(text) is str else tuple(text) for text in values]


def plain(made: "dict[str, Any]", limits: Limits) -> "list[Text]":
    """The texts of a plain request: `{"text"}`, `{"text", "text_pair"}` or `{"texts"}`. Raises RequestError."""
    if PAIR_INPUT in made:
        return paired(texts([made[TEXT_INPUT]], (1,), limits), texts([made[PAIR_INPUT]], (1,), limits, PAIR_INPUT), limits)
    return texts([made[TEXT_INPUT]], (1,), limits) if TEXT_INPUT in made else texts(made["texts"], None, limits)


def characters(text: "Text") -> int:
    """How many there are, of both together where it is a pair; of tokens their number."""
    return len(text[0]) + len(text[1]) if type(text) is tuple else len(text)


def _is_pair(text: object) -> bool:
    return type(text) is list and len(text) == 2 and type(text[0]) is str and type(text[1]) is str


def _check(text: "Text", name: str, limits: Limits) -> None:
    if characters(text) > limits.text_chars:
        raise too_large("text_chars", "characters of a text:", characters(text), limits)
    for part in (text,) if type(text) is str else text:
        if not part.isascii():
            try:
                part.encode()
            except UnicodeEncodeError:
                raise RequestError(f"input {name!r}: a text has half of a surrogate pair, which is no character") from None
