"""What a package's task takes and answers, as JSON Schemas for its OpenAPI document: a table with a row for each task.

Promises: a request that the runtime's task takes is one of its forms here, with the parameters that may stand beside it, and no
other is, as far as a schema can tell; an answer is one of its answers. A task without a row is left open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_PLACE: Schema = {"type": "integer", "minimum": 0}
_ANY: Schema = {"description": "Taken, and without a meaning here."}
_FLAG: Schema = {"type": ["boolean", "null"]}
_SCORE: Schema = {"type": ["number", "null"], "minimum": -1e300, "maximum": 1e300}
_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskForms:
    """A task's requests, each beside its answer. `paths`: of the interfaces that it speaks, with the form that they take."""

    requests: tuple[Schema, ...]
    answers: tuple[Schema, ...]
    paths: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Of one text and of a list of them, by the package's limits."""

    text: Schema
    rows: int

    def list_of(self, item: Schema) -> Schema:
        return {"type": "array", "items": item, "minItems": 1, "maxItems": self.rows}

    def texts(self) -> list[Schema]:
        """Lists of strings, of pairs, and of objects: they are not mixed."""
        pair: Schema = {"type": "array", "items": self.text, "minItems": 2, "maxItems": 2}
        return [self.list_of(item) for item in (self.text, pair, *self.objects())]

    def objects(self) -> list[Schema]:
        return [_closed({"text": self.text}), _closed({"text": self.text, "text_pair": self.text})]


def task_forms(task: Mapping[str, Any] | None, limits: Mapping[str, int]) -> TaskForms | None:
    """The forms of a package's task.

    Args:
        task: model.json's `task`.
        limits: The package's, by their names.

    Returns:
        None where there is no task, or none with a row here.
    """
    row = TABLE.get(task["name"]) if task else None
    if row is None or task is None:
        return None
    sizes = _Sizes({**_TEXT, "maxLength": limits["text_chars"]}, limits["rows"])
    beside = {
        name: {**schema, **({"default": task[name]} if task.get(name) is not None else {})}
        for name, schema in row.parameters.items()
    }
    beside |= {name: beside[own] for name, own in row.synonyms.items()}
    extra = {"parameters": {"anyOf": [_closed(beside, ()), {"type": "null"}]}, "options": _ANY}
    pairs = row.forms(sizes)
    return TaskForms(
        requests=tuple(_closed({**keys, **beside, **extra}, tuple(keys)) for keys, _ in pairs),
        answers=tuple(answer for _, answer in pairs),
        paths=row.paths,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """`forms`: the keys of each request with its answer. `parameters` and `synonyms`: as the runtime's task names them."""

    forms: Callable[[_Sizes], Sequence[tuple[Schema, Schema]]]
    parameters: Mapping[str, Schema]
    synonyms: Mapping[str, str]
    paths: Mapping[str, int]


def _whole(least: int, most: int = _MOST) -> Schema:
    return {"type": ["integer", "null"], "minimum": least, "maximum": most}


def _choice(*names: str) -> Schema:
    return {"enum": [*names, None]}


def _top() -> Schema:
    return {"anyOf": [_whole(1), {"const": "all"}]}


def open_object(properties: Schema, required: Sequence[str] | None = None) -> Schema:
    """An object with these properties, and perhaps others. `required`: their names; None: all."""
    return {"type": "object", "properties": properties, "required": list(properties if required is None else required)}


def _closed(properties: Schema, required: Sequence[str] | None = None) -> Schema:
    return {**open_object(properties, required), "additionalProperties": False}


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _classified(sizes: _Sizes) -> list[tuple[Schema, Schema]]:
    text = sizes.text
    return [
        ({"text": text}, _BEST),
        ({"text": text, "text_pair": text}, _BEST),
        ({"premise": text, "hypothesis": text}, _BEST),
        ({"texts": {"anyOf": sizes.texts()}}, open_object({"results": _list(_BEST)})),
        ({"inputs": {"anyOf": [text, *sizes.objects(), *sizes.texts()]}}, _list(_list(_LABEL))),
    ]


def _reranked(sizes: _Sizes) -> list[tuple[Schema, Schema]]:
    documents = sizes.list_of({"anyOf": [sizes.text, open_object({"text": sizes.text})]})
    own, place = open_object({"text": _TEXT}), {"index": _PLACE}
    result = open_object({**place, "relevance_score": _NUMBER, "document": own}, ("index", "relevance_score"))
    plain = open_object({**place, "score": _NUMBER, "text": _TEXT}, ("index", "score"))
    return [
        ({"query": sizes.text, "documents": documents}, open_object({"results": _list(result)})),
        ({"query": sizes.text, "texts": documents}, _list(plain)),
        *_classified(sizes),
    ]


def _entities(sizes: _Sizes) -> list[tuple[Schema, Schema]]:
    place = {"score": _NUMBER, "word": _TEXT, "start": _PLACE, "end": _PLACE}
    token = open_object({"entity": _TEXT, "index": _PLACE, **place})
    entities = _list({"anyOf": [open_object({"entity_group": _TEXT, **place}), token]})
    answer, texts = open_object({"entities": entities}), sizes.list_of(sizes.text)
    texts = {"anyOf": [texts, sizes.list_of(_closed({"text": sizes.text}))]}
    return [
        ({"text": sizes.text}, answer),
        ({"texts": texts}, open_object({"results": _list(answer)})),
        ({"inputs": {"anyOf": [sizes.text, *texts["anyOf"]]}}, {"anyOf": [entities, _list(entities)]}),
    ]


def _answers(sizes: _Sizes) -> list[tuple[Schema, Schema]]:
    span = open_object({"answer": _TEXT, "score": _NUMBER, "start": _PLACE, "end": _PLACE})
    spans = _list(span)
    none = {key: {"type": [schema["type"], "null"]} for key, schema in span["properties"].items()}
    best = open_object({**none, "answers": spans})
    asked = _closed({"question": sizes.text, "context": sizes.text})
    bare = {"anyOf": [span, spans]}
    return [
        ({"question": sizes.text, "context": sizes.text}, best),
        ({"text": sizes.text, "text_pair": sizes.text}, best),
        ({"inputs": {"anyOf": [asked, sizes.list_of(asked)]}}, {"anyOf": [bare, _list(bare)]}),
    ]


def _vectors(sizes: _Sizes) -> list[tuple[Schema, Schema]]:
    vector = _list(_NUMBER)
    row = open_object({"object": {"const": "embedding"}, "index": _PLACE, "embedding": {"anyOf": [vector, _TEXT]}})
    usage = open_object({"prompt_tokens": _PLACE, "total_tokens": _PLACE})
    texts = {"anyOf": [sizes.text, *sizes.objects(), *sizes.texts()]}
    return [
        ({"input": texts}, open_object({"object": {"const": "list"}, "data": _list(row), "model": _TEXT, "usage": usage})),
        ({"inputs": texts}, _list(vector)),
    ]


def _of_files(key: str, file: Schema, answer: Schema, inputs: Schema) -> Callable[[_Sizes], list[tuple[Schema, Schema]]]:
    """Forms of a task that reads files. `key`: of one file; `answer`: to it; `inputs`: the answer as Hugging Face has it."""

    def forms(sizes: _Sizes) -> list[tuple[Schema, Schema]]:
        several = sizes.list_of(file)
        return [
            ({key: file}, answer),
            ({f"{key}s": several}, open_object({"results": _list(answer)})),
            ({"inputs": {"anyOf": [file, several]}}, {"anyOf": [inputs, _list(inputs)]}),
        ]

    return forms


_FILES = (_TEXT, _closed({"url": _TEXT}), _closed({"b64": _TEXT}))
_PICTURE = {"anyOf": [*_FILES], "description": "A JPEG, PNG, WebP or GIF file: base64, or a URL."}
_RATE = {"type": "integer", "minimum": 1000}
_SAMPLES = [
    open_object({key: {"type": "array", "items": _NUMBER, "minItems": 1}, "sampling_rate": _RATE}) for key in ("array", "raw")
]
_SOUND = {"anyOf": [*_FILES, *_SAMPLES], "description": "A WAV file (base64, or a URL), or samples of one channel."}
_LABEL = open_object({"label": _TEXT, "score": _NUMBER})
_BEST = open_object({"label": {"type": ["string", "null"]}, "score": {"type": ["number", "null"]}, "labels": _list(_LABEL)})
_CHUNK = open_object({"text": _TEXT, "timestamp": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}})
_WORD = open_object({"word": _TEXT, "start": _NUMBER, "end": _NUMBER})
_TRANSCRIPT = open_object({"text": _TEXT, "chunks": _list(_CHUNK), "duration": _NUMBER, "words": _list(_WORD)}, ("text",))
_OBJECT = open_object(
    {"label": _TEXT, "score": _NUMBER, "box": open_object({key: {"type": "integer"} for key in ("xmin", "ymin", "xmax", "ymax")})}
)
_SECONDS: Schema = {"type": ["number", "null"], "minimum": 0}
_SCORES = {"top_k": _top(), "threshold": _SCORE, "activation": _choice("softmax", "sigmoid", "none"), "truncation": _ANY}
_SCORED = {"function_to_apply": "activation"}
TABLE: Mapping[str, _Row] = {
    "text-classification": _Row(forms=_classified, parameters=_SCORES, synonyms=_SCORED, paths={}),
    "rerank": _Row(
        forms=_reranked,
        parameters={**_SCORES, "top_n": _whole(1, 1 << 22), "return_documents": _FLAG, "raw_scores": _FLAG, "model": _ANY},
        synonyms={**_SCORED, "return_text": "return_documents"},
        paths={"/v1/rerank": 0, "/v2/rerank": 0},
    ),
    "token-classification": _Row(
        forms=_entities,
        parameters={
            "aggregation": _choice("none", "simple", "first", "average", "max"),
            "threshold": _SCORE,
            "top_k": _top(),
            "stride": _whole(0, 1 << 20),
            "ignore_labels": {"type": ["array", "null"], "items": _TEXT, "maxItems": _MOST},
            "truncation": _ANY,
        },
        synonyms={"aggregation_strategy": "aggregation"},
        paths={},
    ),
    "question-answering": _Row(
        forms=_answers,
        parameters={
            "top_k": _whole(1, 100),
            "threshold": _SCORE,
            "max_answer_len": _whole(1, 512),
            "max_seq_len": _whole(8, 1 << 20),
            "doc_stride": _whole(0, 1 << 20),
            "handle_impossible_answer": _FLAG,
            "align_to_words": _FLAG,
            "truncation": _ANY,
        },
        synonyms={"topk": "top_k"},
        paths={},
    ),
    "embeddings": _Row(
        forms=_vectors,
        parameters={
            "encoding_format": _choice("float", "base64"),
            "dimensions": _whole(1, 1 << 20),
            "normalize": _FLAG,
            "truncate": _ANY,
            "truncation": _ANY,
            "model": _ANY,
            "user": _ANY,
        },
        synonyms={},
        paths={"/v1/embeddings": 0},
    ),
    "image-classification": _Row(
        forms=_of_files("image", _PICTURE, _BEST, _list(_LABEL)),
        parameters={key: _SCORES[key] for key in ("top_k", "threshold", "activation")},
        synonyms=_SCORED,
        paths={},
    ),
    "object-detection": _Row(
        forms=_of_files("image", _PICTURE, open_object({"objects": _list(_OBJECT)}), _list(_OBJECT)),
        parameters={"threshold": _SCORE, "top_k": _top(), "iou": _SCORE},
        synonyms={"iou_threshold": "iou"},
        paths={},
    ),
    "audio-classification": _Row(
        forms=_of_files("audio", _SOUND, _BEST, _list(_LABEL)),
        parameters={key: _SCORES[key] for key in ("top_k", "threshold", "activation")},
        synonyms=_SCORED,
        paths={},
    ),
    "automatic-speech-recognition": _Row(
        forms=_of_files("audio", _SOUND, _TRANSCRIPT, _TRANSCRIPT),
        parameters={
            "return_timestamps": {"enum": [True, False, "word", "char", None]},
            "chunk_length_s": _SECONDS,
            "stride_length_s": {"anyOf": [_SECONDS, {"type": "array", "items": _SECONDS, "minItems": 2, "maxItems": 2}]},
            "response_format": _choice("json", "verbose_json"),
            **dict.fromkeys(("timestamp_granularities", "model", "language", "prompt", "temperature"), _ANY),
        },
        synonyms={"timestamp_granularities[]": "timestamp_granularities"},
        paths={},
    ),
}
"""A row for each task whose forms are told; its parameters are those of the runtime's task, which a test holds it to."""
