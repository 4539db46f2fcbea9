"""A text, or a question and its context, as windows of tokens that the engine can read, with places in the text.

Promises: every token of the text is in a window, and the tokens of a window are those that the tokenizer gives when it cuts a text
of that length with a stride itself, special tokens included. The tokenizer is not changed, so that threads can share it.
Will not: know labels, or how long a window may be.
"""

from mlpack_runtime.limits import RequestError, too_large

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from mlpack_runtime.limits import Limits
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.texts import Text

LEAST_ROOM = 4
"""Tokens of a text that a window has room for at least: with fewer, a long text would become a window for each token."""
FREE, EACH = 6000, 3
"""Tokens that windows of texts which need several may have, and so many more for each byte of a request's texts. A question that
leaves little room stands in as many windows as the context has tokens: 100 KB would become 21 million tokens, all of them kept
until the answer."""
_HALF, _MOST = 4, 7
"""Eighths of its room that a window may share with the one before, so that the number of windows follows from the text's length:
half of it, and more beside a question, which may leave little room."""
_SPACE = "Ġ"
"""A space at the beginning of a token, as byte-level tokenizers write it."""
_COLUMNS = ("ids", "type_ids", "offsets", "word_ids", "sequence_ids", "tokens")


class Size:
    """How long the windows of a request are, and how many. `most`: tokens of a window, special ones included; `stride`: how many it
    has of the one before; `texts`: what is to be read."""

    __slots__ = ("_tokens", "_tokens_most", "_windows", "limits", "most", "stride")

    def __init__(self, most: int, stride: int, limits: "Limits", texts: "Sequence[Text]" = ()) -> None:
        self.most = most
        self.stride = stride
        self.limits = limits
        parts = [part for text in texts for part in ((text,) if type(text) is str else text)]
        self._tokens_most = FREE + EACH * sum(len(part) if part.isascii() else len(part.encode()) for part in parts)
        self._windows = self._tokens = 0

    def count(self, windows: int, tokens: int) -> None:
        """So many more are about to be made; `tokens`: of those that share some. Raises RequestError for more than there may be."""
        self._windows += windows
        self._tokens += tokens
        if self._windows > self.limits.rows:
            raise too_large("rows", "windows of all texts:", self._windows, self.limits)
        if self._tokens > self._tokens_most:
            message = f"the windows of these texts have {self._tokens} tokens; {self._tokens_most} are read for texts of this size"
            raise RequestError(f"{message}: shorten the question, or let windows share fewer tokens")


class Window:
    """Tokens that are read together, a list for each of their attributes. `offsets` are places in the text, in code points;
    `word_ids` number its words; `sequence_ids` are 0 for tokens of the first text, 1 for those of the second. Special tokens have
    None in both."""

    __slots__ = ("attention_mask", "ids", "offsets", "sequence_ids", "tokens", "type_ids", "word_ids")

    def __init__(self, columns: "list[list[Any]]") -> None:
        self.ids, self.type_ids, self.offsets, self.word_ids, self.sequence_ids, self.tokens = columns
        self.attention_mask = [1] * len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def give(call: "Call", windows: "list[Window]") -> None:
    """Make windows what the engine is asked for."""
    call.texts = windows  # type: ignore[assignment]


def of_text(tokenizer: "Any", text: str, size: Size) -> "list[Window]":
    """The windows of one text. Raises RequestError for more of them than a request may have."""
    before, body, after = _parts(tokenizer.encode(text), text, 0)
    return _windows(before, body, after, size, _HALF)


def of_pair(tokenizer: "Any", first: str, second: str, size: Size, *, cut: int) -> "list[Window]":
    """The windows of two texts, of which number `cut` (0 or 1) is cut and the other stands whole in each. Raises RequestError where
    the other leaves it no room, and for more windows than a request may have."""
    # Each beside an empty one: so the special tokens around it are known, and neither is cut because of the other's length.
    before, head, behind = _parts(tokenizer.encode(first, ""), first, 0)
    ahead, tail, after = _parts(tokenizer.encode("", second), second, 1)
    if not head[0]:
        return _windows(ahead, tail, after, size, _MOST)
    if not tail[0]:
        return _windows(before, head, behind, size, _MOST)
    between = [column[len(before[0]) :] for column in ahead]
    if cut:
        return _windows(_joined(before, head, between), tail, after, size, _MOST)
    return _windows(before, head, _joined(between, tail, after), size, _MOST)


def _windows(
    before: "list[list[Any]]", body: "list[list[Any]]", after: "list[list[Any]]", size: Size, eighths: int
) -> "list[Window]":
    beside, length = len(before[0]) + len(after[0]), len(body[0])
    room = size.most - beside
    if length <= room or not length:
        size.count(1, 0)  # read once, as any other text is
        return [Window(_joined(before, body, after))]
    if room < LEAST_ROOM:
        raise RequestError(
            f"a window has {size.most} tokens, of which question and special tokens take {beside}: shorten the question"
        )
    stride = min(size.stride, room * eighths // 8)  # so that the number of windows follows from the text's length
    begins = range(0, max(1, length - stride), room - stride)
    size.count(len(begins), len(begins) * size.most)
    return [Window(_joined(before, [column[at : at + room] for column in body], after)) for at in begins]


def _joined(*parts: "list[list[Any]]") -> "list[list[Any]]":
    return [[value for column in columns for value in column] for columns in zip(*parts, strict=True)]


def _parts(encoding: "Any", text: str, sequence: int) -> "tuple[list[list[Any]], list[list[Any]], list[list[Any]]]":
    """Special tokens before a sequence, its own, and those behind it. The tokenizer cuts at the model's length and keeps
    what it cut off in further encodings, without a stride."""
    body: list[list[Any]] = [[] for _ in _COLUMNS]
    around, seams = None, []
    # A tokenizer that cuts texts on the left gives their end first.
    for piece in sorted((encoding, *encoding.overflowing), key=_begin):
        columns = [getattr(piece, name) for name in _COLUMNS]
        own = [at for at, special in enumerate(piece.special_tokens_mask) if not special]
        begin, end = (own[0], own[-1] + 1) if own else (len(columns[0]), len(columns[0]))
        if around is None:
            around = [column[:begin] for column in columns], [column[end:] for column in columns]
        seams.append(len(body[0]))
        for whole, column in zip(body, columns, strict=True):
            whole += column[begin:end]
    assert around is not None
    # What was cut off has kept the type that it had before the tokenizer's template gave it another, and may have no sequence.
    body[1], body[4] = body[1][:1] * len(body[1]), [sequence] * len(body[4])
    _trim(text, body[5], body[2], seams[1:])
    return around[0], body, around[1]


def _begin(piece: "Any") -> int:
    """Where a piece begins in its text."""
    places: list[int] = [offset[0] for offset, special in zip(piece.offsets, piece.special_tokens_mask, strict=True) if not special]
    return places[0] if places else 0


def _trim(text: str, tokens: "list[str]", offsets: "list[tuple[int, int]]", seams: "list[int]") -> None:
    """Take the space from a token where the tokenizer takes it from all but the first of what it cut off: with a prefix space that
    one's may have been added."""
    trims = any(
        token.startswith(_SPACE) and offset[0] < len(text) and not text[offset[0]].isspace()
        for at, (token, offset) in enumerate(zip(tokens, offsets, strict=True))
        if at and at not in seams
    )
    for at in seams if trims else ():
        begin, end = offsets[at] if at < len(tokens) else (0, 0)
        if begin < end and tokens[at].startswith(_SPACE) and text[begin].isspace():  # of no length: the tokenizer took it already
            offsets[at] = begin + 1, end
