"""Embeddings: a vector of each text, in the form of OpenAI's `/v1/embeddings` and of Hugging Face's feature extraction.

Promises: a package whose graph gives vectors answers them as they are; where it gives a vector for each token, they are pooled as
sentence-transformers' files say. `usage` counts the tokens that the model reads, special ones included, after a text is cut.
Will not: answer `{"text"}` and `{"texts"}`, whose answer stays the protocol's outputs.
"""

from mlpack_runtime.limits import RequestError
from mlpack_runtime.tasks.requests import Asked, choice, flag, ignored, several, whole
from mlpack_runtime.tasks.scores import rounded, rows
from mlpack_runtime.tasks.tokens import TokenTask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tensor import Tensor

_OPENAI, _INPUTS = frozenset({"input"}), frozenset({"inputs"})
_FORMS = {_OPENAI: '{"input": "..." or ["..."]}', _INPUTS: '{"inputs": "..." or ["..."]}'}
_PARAMETERS = {
    "encoding_format": choice("float", "base64"),
    "dimensions": whole(1, 1 << 20),
    "normalize": flag,
    "truncate": ignored,  # what is too long is cut here whatever it says
    "truncation": ignored,
    "model": ignored,  # clients of services with several have to say one
    "user": ignored,
}
_INFINITE = float("inf")
_SYNONYMS: "Mapping[str, str]" = {}


class Embeddings(TokenTask):
    """Texts to vectors."""

    forms = _FORMS
    parameters = _PARAMETERS
    synonyms = _SYNONYMS

    def read(self, value: "dict[str, Any]", call: "Call", asked: Asked) -> None:
        """Texts, one by one."""
        name = "input" if asked.form == _OPENAI else "inputs"
        given = value[name]
        if _is_tokens(given):
            raise RequestError(
                f"{name!r} holds numbers of tokens, and those of another model mean nothing to this one: send texts"
                " (LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)"
            )
        call.texts = several(given if type(given) is list else [given], self.model.limits, name)

    def answer(self, outputs: "Mapping[str, Tensor]", call: "Call") -> "Any":
        """`{"object": "list", "data", "model", "usage"}`, or for `inputs` a list of vectors."""
        asked: Asked = call.asked
        vectors = self._vectors(outputs, call, asked.parameters)
        size = asked.parameters.get("dimensions")
        if size is not None and vectors and size != len(vectors[0]):
            raise RequestError(f"'dimensions' is {size}; this model's vectors have {len(vectors[0])}, which cannot be shortened")
        if asked.form == _INPUTS:
            return [[rounded(value) for value in vector] for vector in vectors]
        text = asked.parameters.get("encoding_format") == "base64"
        rows_ = [
            {"object": "embedding", "index": at, "embedding": _base64(vector) if text else [rounded(value) for value in vector]}
            for at, vector in enumerate(vectors)
        ]
        tokens = sum(map(self.tokens.length, call.texts or ()))  # one at a time: memory for one
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": rows_, "model": self.model.name, "usage": usage}

    def _vectors(self, outputs: "Mapping[str, Tensor]", call: "Call", taken: "dict[str, Any]") -> "list[list[float]]":
        name, pooling = self.settings["output"], self.settings.get("pooling")
        output = outputs[name]
        vectors = list(rows(output, name, masked=False)) if pooling is None else self._pooled(output, call, pooling)
        return [_unit(vector) for vector in vectors] if taken.get("normalize") else vectors

    def _pooled(self, output: "Tensor", call: "Call", pooling: str) -> "list[list[float]]":
        """One vector of those of a text's tokens: of its first, or their mean."""
        longest, size = output.shape[1], output.shape[2]
        vectors = []
        for text, values in zip(call.texts or (), rows(output, self.settings["output"], masked=False), strict=True):
            length = self.tokens.length(text)
            begin = longest - length if self.tokens.pad_left else 0
            if pooling == "cls":
                vectors.append(values[begin * size : (begin + 1) * size])
            else:
                own = values[begin * size : (begin + length) * size]
                vectors.append([_mean(own[at::size]) for at in range(size)])
        return vectors


def _is_tokens(value: object) -> bool:
    """Whether these are numbers, or lists of numbers."""
    first = value[0] if type(value) is list and value else None
    return type(first) is int or (type(first) is list and bool(first) and type(first[0]) is int)


def _mean(values: "list[float]") -> float:
    """Of one number or more; their sum may be more than a double holds."""
    mean = sum(values) / len(values)
    return mean if abs(mean) < _INFINITE else sum(value / len(values) for value in values)


def _unit(vector: "list[float]") -> "list[float]":
    """The same direction, of length 1."""
    length: float = max(sum(value * value for value in vector) ** 0.5, 1e-12)
    if length < _INFINITE:
        return [value / length for value in vector]
    largest = max(map(abs, vector))
    return _unit([value / largest for value in vector])


def _base64(vector: "list[float]") -> str:
    """As OpenAI encodes it: float32, little-endian."""
    from binascii import b2a_base64
    from struct import pack

    try:
        return b2a_base64(pack(f"<{len(vector)}f", *vector), newline=False).decode()
    except OverflowError:
        raise RequestError(
            "'encoding_format' is base64, which holds float32, and a number of this vector is beyond it: ask for float"
        ) from None


TASK = Embeddings
