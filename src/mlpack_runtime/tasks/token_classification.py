"""Token classification: entities of a text with their places, tokens put together as transformers' pipeline does.

Promises: `start` and `end` are places in the text that was sent, in code points; a text that is longer than the model reads is read
in windows that overlap, and of what two windows say of one place the longer entity counts, then the more certain one.
"""

from mlpack_runtime.limits import RequestError
from mlpack_runtime.tasks.requests import Asked, choice, ignored, number, several, single, together, top, whole, words
from mlpack_runtime.tasks.scores import best, name_of, rounded, rows, softmax
from mlpack_runtime.tasks.tokens import TokenTask
from mlpack_runtime.tasks.windows import Size, give, of_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tasks.windows import Window
    from mlpack_runtime.tensor import Tensor

    Piece = dict[str, Any]

AGGREGATIONS = ("none", "simple", "first", "average", "max")
STRIDE = 128
"""Tokens that two windows share, where nobody says it; a quarter of a window where that is less."""
_ONE, _SEVERAL, _INPUTS = frozenset({"text"}), frozenset({"texts"}), frozenset({"inputs"})
_FORMS = {_ONE: '{"text": "..."}', _SEVERAL: '{"texts": ["..."]}', _INPUTS: '{"inputs": "..." or ["..."]}'}
_PARAMETERS = {
    "aggregation": choice(*AGGREGATIONS),
    "threshold": number,
    "top_k": top,
    "stride": whole(0, 1 << 20),
    "ignore_labels": words,
    "truncation": ignored,
}
_SYNONYMS = {"aggregation_strategy": "aggregation"}


class TokenClassification(TokenTask):
    """Texts to entities."""

    forms = _FORMS
    parameters = _PARAMETERS
    synonyms = _SYNONYMS

    def read(self, value: "dict[str, Any]", call: "Call", asked: Asked) -> None:
        """Windows of each text, as tokens."""
        limits, tokens = self.model.limits, self.tokens
        (name,) = asked.form
        given = value[name]
        asked.many = asked.form == _SEVERAL or (asked.form == _INPUTS and type(given) is list)
        texts = [
            text for text in (several(given, limits, name) if asked.many else [single(given, name, limits)]) if type(text) is str
        ]
        if not texts:
            raise RequestError(f"{name!r} holds pairs of texts, and this task reads one at a time")
        together(texts, limits)
        most = tokens.most
        size = Size(most, asked.parameters.get("stride", min(STRIDE, most // 4)), limits, texts)
        asked.rest = [(text, of_text(tokens.library, text, size)) for text in texts]
        give(call, [window for _, windows in asked.rest for window in windows])

    def answer(self, outputs: "Mapping[str, Tensor]", call: "Call") -> "Any":
        """`{"entities"}` of one text, `{"results"}` of several; for `inputs` lists as Hugging Face has them."""
        asked: Asked = call.asked
        name = self.settings["output"]
        output = outputs[name]
        scored = rows(output, name)
        results = []
        for text, windows in asked.rest:
            pieces: list[Piece] = []
            for window in windows:
                labels = output.shape[2]
                begin = output.shape[1] - len(window) if self.tokens.pad_left else 0
                own = next(scored)[begin * labels : (begin + len(window)) * labels]
                tokens = self._tokens(text, window, [own[at : at + labels] for at in range(0, len(own), labels)])
                entities, passed = self._entities(tokens, asked.parameters), asked.parameters.get("ignore_labels", ["O"])
                pieces += [each for each in entities if each.get("entity", each.get("entity_group")) not in passed]
            results.append(kept(apart(pieces) if len(windows) > 1 else pieces, asked.parameters))
        if asked.form == _INPUTS:
            return results if asked.many else results[0]
        return {"results": [{"entities": each} for each in results]} if asked.many else {"entities": results[0]}

    def _tokens(self, text: str, window: "Window", logits: "list[list[float]]") -> "list[Piece]":
        """The text's own tokens with the probabilities of their labels, and whether each goes on with the word before."""
        subwords, unknown = self.tokens.continues, self.tokens.unknown
        tokens = []
        for at, (token, (start, end)) in enumerate(zip(window.tokens, window.offsets, strict=True)):
            if window.sequence_ids[at] is None:
                continue
            # A guess where the tokenizer does not mark what goes on.
            inside = len(token) != end - start if subwords else start > 0 and " " not in text[start - 1 : start + 1]
            if token == unknown:
                token, inside = text[start:end], False
            scores = softmax(logits[at])
            tokens.append({"index": at, "word": token, "start": start, "end": end, "scores": scores, "inside": inside})
        return tokens

    def _entities(self, tokens: "list[Piece]", taken: "Mapping[str, Any]") -> "list[Piece]":
        how, decode = taken["aggregation"], self.tokens.joined
        if how in ("none", "simple"):
            labelled = [{**token, **self._best(token["scores"])} for token in tokens]
        else:
            labelled = [self._word(word, how) for word in in_words(tokens)]
        if how == "none":
            return [{key: each[key] for key in ("entity", "score", "index", "word", "start", "end")} for each in labelled]
        return [
            {
                "entity_group": group[0]["entity"].split("-", 1)[-1],
                "score": sum(each["score"] for each in group) / len(group),
                "word": decode([each["word"] for each in group]),
                "start": group[0]["start"],
                "end": group[-1]["end"],
            }
            for group in grouped(labelled)
        ]

    def _best(self, scores: "Sequence[float]") -> "Piece":
        at = max(range(len(scores)), key=scores.__getitem__)
        return {"entity": name_of(at, self.settings["labels"]), "score": scores[at]}

    def _word(self, tokens: "list[Piece]", how: str) -> "Piece":
        if how == "first":
            scores = tokens[0]["scores"]
        elif how == "max":
            scores = max(tokens, key=lambda token: max(token["scores"]))["scores"]
        else:
            scores = [sum(column) / len(tokens) for column in zip(*(token["scores"] for token in tokens), strict=True)]
        word = self.tokens.joined([token["word"] for token in tokens])
        return {**self._best(scores), "word": word, "start": tokens[0]["start"], "end": tokens[-1]["end"]}


def in_words(tokens: "list[Piece]") -> "list[list[Piece]]":
    """Tokens by the words that they are parts of."""
    groups: list[list[Piece]] = []
    for token in tokens:
        if groups and token["inside"]:
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups


def grouped(labelled: "list[Piece]") -> "list[list[Piece]]":
    """Neighbours with one label, of which none but the first begins an entity (`B-`)."""
    groups: list[list[Piece]] = []
    for each in labelled:
        begins, tag = _tag(each["entity"])
        if groups and not begins and tag == _tag(groups[-1][-1]["entity"])[1]:
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups


def _tag(entity: str) -> "tuple[bool, str]":
    """Whether it begins an entity, and of which kind. A name without B- or I- goes on with what is before."""
    return entity.startswith("B-"), entity[2:] if entity.startswith(("B-", "I-")) else entity


def apart(pieces: "list[Piece]") -> "list[Piece]":
    """Of entities that overlap, as windows do, the longer one, and of two that are as long the more certain one."""
    groups: list[Piece] = []
    for each in sorted(pieces, key=lambda piece: piece["start"]):
        if groups and groups[-1]["start"] <= each["start"] < groups[-1]["end"]:
            if (each["end"] - each["start"], each["score"]) > (groups[-1]["end"] - groups[-1]["start"], groups[-1]["score"]):
                groups[-1] = each
        else:
            groups.append(each)
    return groups


def kept(pieces: "list[Piece]", taken: "Mapping[str, Any]") -> "list[Piece]":
    """Those that are asked for, in the order of the text, with their scores rounded."""
    threshold, most = taken.get("threshold", -1.0), taken.get("top_k", len(pieces))
    pieces = [piece for piece in pieces if piece["score"] >= threshold]
    if most < len(pieces):
        pieces = [pieces[at] for at in sorted(best([piece["score"] for piece in pieces], most))]
    return [{**piece, "score": rounded(piece["score"])} for piece in pieces]


TASK = TokenClassification
