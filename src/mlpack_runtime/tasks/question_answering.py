"""Question answering: the places of a context that answer a question.

Promises: the spans and scores of transformers' pipeline: a long context is read in windows that overlap, an answer is made of whole
words, and `start` and `end` are places in the context that was sent, in code points.
"""

from mlpack_runtime.limits import RequestError, quoted, too_large
from mlpack_runtime.tasks.requests import Asked, flag, ignored, number, single, together, whole
from mlpack_runtime.tasks.scores import rounded, rows, softmax
from mlpack_runtime.tasks.tokens import TokenTask
from mlpack_runtime.tasks.windows import Size, give, of_pair

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mlpack_runtime.limits import Limits
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tasks.windows import Window
    from mlpack_runtime.tensor import Tensor

    Piece = dict[str, Any]

WINDOW, STRIDE, LONGEST = 384, 128, 15
"""transformers' own: tokens of a window at most, tokens that two share, and tokens of an answer."""
_ASKED, _PAIR, _INPUTS = frozenset({"question", "context"}), frozenset({"text", "text_pair"}), frozenset({"inputs"})
_FORMS = {
    _ASKED: '{"question": "...", "context": "..."}',
    _PAIR: '{"text": "question", "text_pair": "context"}',
    _INPUTS: '{"inputs": {"question": "...", "context": "..."}}',
}
_PARAMETERS = {
    "top_k": whole(1, 100),
    "threshold": number,
    "max_answer_len": whole(1, 512),
    "max_seq_len": whole(8, 1 << 20),
    "doc_stride": whole(0, 1 << 20),
    "handle_impossible_answer": flag,
    "align_to_words": flag,
    "truncation": ignored,
}
_SYNONYMS = {"topk": "top_k"}


class QuestionAnswering(TokenTask):
    """A question and its context to answers."""

    reads = ("start", "end")
    forms = _FORMS
    parameters = _PARAMETERS
    synonyms = _SYNONYMS

    def read(self, value: "dict[str, Any]", call: "Call", asked: Asked) -> None:
        """Windows of each context with its question, as tokens."""
        limits, tokens, taken = self.model.limits, self.tokens, asked.parameters
        if asked.form == _INPUTS:
            asked.many = type(value["inputs"]) is list
            given = value["inputs"] if asked.many else [value["inputs"]]
        else:
            first, second = ("question", "context") if asked.form == _ASKED else ("text", "text_pair")
            given = [{"question": value[first], "context": value[second]}]
        if len(given) > limits.rows:
            raise too_large("rows", "questions:", len(given), limits)
        pairs = [_pair(each, limits) for each in given]
        together(pairs, limits)
        most = min(taken.get("max_seq_len", WINDOW), tokens.most)
        size = Size(most, taken.get("doc_stride", min(most // 2, STRIDE)), limits, pairs)
        asked.rest = []
        for question, context in pairs:
            if tokens.pad_left:  # such a model reads the context first
                windows = of_pair(tokens.library, context, question, size, cut=0)
            else:
                windows = of_pair(tokens.library, question, context, size, cut=1)
            asked.rest.append((context, windows))
        give(call, [window for _, windows in asked.rest for window in windows])

    def answer(self, outputs: "Mapping[str, Tensor]", call: "Call") -> "Any":
        """`{"answer", "score", "start", "end", "answers"}`; for `inputs` as transformers' pipeline has it."""
        asked: Asked = call.asked
        taken = asked.parameters
        names = self.settings["start"], self.settings["end"]
        starts, ends = (rows(outputs[name], name) for name in names)
        length = outputs[names[0]].shape[1]
        results = []
        for context, windows in asked.rest:
            by_words: dict[str, Piece] = {}
            empty = 1.0
            for window in windows:
                begin = length - len(window) if self.tokens.pad_left else 0
                logits = next(starts)[begin : begin + len(window)], next(ends)[begin : begin + len(window)]
                empty = min(empty, self._window(context, window, logits, by_words, taken))
            answers = list(by_words.values())
            if taken.get("handle_impossible_answer"):
                answers.append({"score": empty, "start": 0, "end": 0, "answer": ""})
            answers = sorted(answers, key=lambda answer: -answer["score"])[: taken.get("top_k", 1)]
            least = taken.get("threshold", 0.0)
            results.append([{**each, "score": rounded(each["score"])} for each in answers if each["score"] >= least])
        if asked.form == _INPUTS:
            bare = [each[0] if len(each) == 1 else each for each in results]
            return bare if asked.many else bare[0]
        best = results[0][0] if results[0] else {"answer": None, "score": None, "start": None, "end": None}
        return {**best, "answers": results[0]}

    def _window(
        self,
        context: str,
        window: "Window",
        logits: "tuple[list[float], list[float]]",
        by_words: "dict[str, Piece]",
        taken: "Mapping[str, Any]",
    ) -> float:
        """Add a window's answers to those of the windows before; scores of the same words count together. Returns the probability
        that there is no answer."""
        sequence, classes = 0 if self.tokens.pad_left else 1, self.tokens.first_of(window)
        allowed = [at for at, each in enumerate(window.sequence_ids) if each == sequence or window.tokens[at] == classes]
        if not allowed:
            return 1.0
        begins, ends = (spread(values, allowed) for values in logits)
        empty = 0.0
        if window.sequence_ids[0] != sequence:  # its first token stands for no answer
            empty = begins[0] * ends[0]
            begins[0] = ends[0] = 0.0
        aligned, most = taken.get("align_to_words", True), taken.get("top_k", 1)
        for score, begin, end in spans(begins, ends, taken.get("max_answer_len", LONGEST), 2 * most + 10 if aligned else most):
            start, stop = places(window, begin, end, sequence, aligned=aligned)
            words = context[start:stop]
            same = by_words.setdefault(words.lower(), {"answer": words, "score": 0.0, "start": start, "end": stop})
            same["score"] += score
        return empty


def spread(logits: "Sequence[float]", allowed: "list[int]") -> "list[float]":
    """Probabilities over the allowed places, 0 at all others."""
    shares = [0.0] * len(logits)
    for at, value in zip(allowed, softmax([logits[at] for at in allowed]), strict=True):
        shares[at] = value
    return shares


def spans(begins: "Sequence[float]", ends: "Sequence[float]", longest: int, most: int) -> "list[tuple[float, int, int]]":
    """The most likely spans of at most `longest` tokens: (probability, first token, last token), the best first; none of those
    without any probability."""
    likely: list[tuple[float, int, int]] = []
    least = 0.0
    for begin, probability in enumerate(begins):
        if probability <= least:  # no end makes it more
            continue
        near = enumerate(ends[begin : begin + longest], begin)
        likely += [(probability * other, begin, end) for end, other in near if probability * other > least]
        if len(likely) > 4 * most:
            likely = sorted(likely, key=lambda span: -span[0])[:most]
            least = likely[-1][0]
    return sorted(likely, key=lambda span: -span[0])[:most]


def places(window: "Window", begin: int, end: int, sequence: int, *, aligned: bool) -> "tuple[int, int]":
    """Where an answer of these tokens begins and ends in the context: with the words that they are parts of, where the tokenizer
    knows words."""
    if aligned:
        first, last = (_word(window, at, sequence) for at in (begin, end))
        if first is not None and last is not None:
            return first[0], last[1]
    return window.offsets[begin][0], window.offsets[end][1]


def _word(window: "Window", at: int, sequence: int) -> "tuple[int, int] | None":
    word = window.word_ids[at]
    if word is None:
        return None
    own = [place for place, each in enumerate(window.word_ids) if each == word and window.sequence_ids[place] == sequence]
    return (window.offsets[own[0]][0], window.offsets[own[-1]][1]) if own else None


def _pair(given: "Any", limits: "Limits") -> "tuple[str, str]":
    if type(given) is not dict or given.keys() != {"question", "context"}:
        raise RequestError(f'\'inputs\' holds {quoted(given)}; {{"question": "...", "context": "..."}} is needed')
    return single(given["question"], "question", limits), single(given["context"], "context", limits)


TASK = QuestionAnswering
