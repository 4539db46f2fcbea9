"""Reranking: documents in the order in which a cross-encoder finds them relevant to a query; and scores of single pairs.

Promises: an answer in the form of Cohere's and Jina's rerank interfaces (`results` with `index` and `relevance_score`, the best
first); documents count as rows. Pairs and texts are answered as by text classification.
"""

from mlpack_runtime.limits import RequestError, quoted, too_large
from mlpack_runtime.tasks.requests import Asked, flag, ignored, single, whole
from mlpack_runtime.tasks.scores import activated, best, rounded, rows
from mlpack_runtime.tasks.text_classification import FORMS, PARAMETERS, SYNONYMS, TextClassification
from mlpack_runtime.texts import paired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.limits import Limits
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tensor import Tensor
    from mlpack_runtime.texts import Text

_DOCUMENTS, _TEXTS = frozenset({"query", "documents"}), frozenset({"query", "texts"})
_FORMS = {
    _DOCUMENTS: '{"query": "...", "documents": ["..."]}',
    _TEXTS: '{"query": "...", "texts": ["..."]}',
    **FORMS,
}
_PARAMETERS = {
    **PARAMETERS,
    "top_n": whole(1, 1 << 22),
    "return_documents": flag,
    "raw_scores": flag,
    "model": ignored,  # clients of services with several have to say one
}
_SYNONYMS = {**SYNONYMS, "return_text": "return_documents"}


class Rerank(TextClassification):
    """A query and documents to their order."""

    forms = _FORMS
    parameters = _PARAMETERS
    synonyms = _SYNONYMS

    def read(self, value: "dict[str, Any]", call: "Call", asked: Asked) -> None:
        """A pair of the query and each document; or texts."""
        if asked.form not in (_DOCUMENTS, _TEXTS):
            super().read(value, call, asked)
            return
        name = "documents" if asked.form == _DOCUMENTS else "texts"
        asked.rest = documents = _documents(value[name], name, self.model.limits)
        query, limits = single(value["query"], "query", self.model.limits), self.model.limits
        if len(query) * len(documents) > limits.text_chars:  # it was sent once
            raise too_large("text_chars", "characters of the query, once for each document:", len(query) * len(documents), limits)
        queries: list[Text] = [query] * len(documents)
        call.texts = paired(queries, documents, limits)

    def answer(self, outputs: "Mapping[str, Tensor]", call: "Call") -> "Any":
        """`{"results": [{"index", "relevance_score"}]}`; for a query and `texts` a list as text-embeddings-inference has it."""
        asked: Asked = call.asked
        if asked.form not in (_DOCUMENTS, _TEXTS):
            return super().answer(outputs, call)
        taken = asked.parameters
        how = "none" if taken.get("raw_scores") else taken["activation"]
        scores = [activated(values, how)[-1] for values in rows(*self.output(outputs), masked=how != "none")]
        places = best(scores, taken.get("top_n", taken.get("top_k", len(scores))), taken.get("threshold"))
        shown = bool(taken.get("return_documents"))
        if asked.form == _TEXTS:
            return [{"index": at, "score": rounded(scores[at]), **({"text": asked.rest[at]} if shown else {})} for at in places]
        results = [
            {
                "index": at,
                "relevance_score": rounded(scores[at]),
                **({"document": {"text": asked.rest[at]}} if shown else {}),
            }
            for at in places
        ]
        return {"results": results}


def _documents(value: object, name: str, limits: "Limits") -> "list[Text]":
    """Their texts. Raises RequestError."""
    if type(value) is not list or not value:
        raise RequestError(f"{name!r} is {quoted(value)}; a list of texts is needed, at least one")
    if len(value) > limits.rows:
        raise too_large("rows", f"{name}:", len(value), limits)
    contents: list[Any] = [each["text"] if type(each) is dict and "text" in each else each for each in value]
    odd = next((at for at, each in enumerate(contents) if type(each) is not str), None)
    if odd is not None:
        raise RequestError(f'{name!r}: document {odd} is {quoted(value[odd])}; a string is needed, or {{"text": "..."}}')
    return contents


TASK = Rerank
