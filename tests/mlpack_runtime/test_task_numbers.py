"""The pure parts of tasks: scores, spans, entities that overlap, and windows of tokens."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlpack_runtime.limits import Limits, RequestError
from mlpack_runtime.tasks.question_answering import spans
from mlpack_runtime.tasks.scores import best, rounded, rows, sigmoid, softmax
from mlpack_runtime.tasks.token_classification import apart, grouped, in_words, kept
from mlpack_runtime.tasks.windows import EACH, FREE, Size, of_pair, of_text
from mlpack_runtime.tensor import tensor

NUMBERS = st.floats(min_value=-1e4, max_value=1e4, allow_nan=False)
SHARES = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=1, max_size=12)
ENTITIES = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6), st.integers(0, 99)), max_size=12).map(
    lambda rows: [{"start": a, "end": a + size, "score": score / 100} for a, size, score in rows]
)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_probabilities_add_up_and_keep_the_order(values: list[float]) -> None:
    result = softmax(values)
    assert sum(result) == pytest.approx(1)
    assert best(result, len(result))[0] == values.index(max(values)) or result[values.index(max(values))] == max(result)


@given(NUMBERS)
def test_a_sigmoid_is_half_of_a_softmax(value: float) -> None:
    assert sigmoid(value) == pytest.approx(softmax([value, 0.0])[0])
    assert rounded(sigmoid(value)) == pytest.approx(sigmoid(value), rel=1e-6)


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.integers(1, 25), NUMBERS)
def test_the_best_are_the_largest(scores: list[float], most: int, threshold: float) -> None:
    places = best(scores, most, threshold)
    assert [scores[at] for at in places] == [each for each in sorted(scores, reverse=True)[:most] if each >= threshold]


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_scores_are_not_made_of_what_is_no_number(odd: float) -> None:
    with pytest.raises(RequestError, match="row 1 of 'logits'"):
        list(rows(tensor([1.0, 2.0, odd, 0.0], "FP32", (2, 2)), "logits"))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_answered_as_they_are_are_finite(odd: float) -> None:
    with pytest.raises(RequestError, match="row 0 of 'vectors'"):
        list(rows(tensor([odd, 0.0], "FP32", (1, 2)), "vectors", masked=False))
    assert len(list(rows(tensor([1.7e308, 1.7e308], "FP64", (1, 2)), "vectors", masked=False))) == 1  # their sum is none


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 12))
def test_the_best_entities_are_kept_in_the_texts_order(scores: list[int], most: int) -> None:
    pieces = [{"start": at, "score": float(score)} for at, score in enumerate(scores)]
    result = kept(pieces, {"top_k": most})
    assert sorted((each["score"] for each in result), reverse=True) == sorted(map(float, scores), reverse=True)[:most]
    assert [each["start"] for each in result] == sorted(each["start"] for each in result)


def test_nothing_at_all_may_be_masked_out() -> None:
    assert list(rows(tensor([-math.inf, 0.0], "FP32", (1, 2)), "logits")) == [[-math.inf, 0.0]]
    assert softmax([-math.inf, -math.inf]) == [0.5, 0.5]


@given(SHARES, SHARES, st.integers(1, 6), st.integers(1, 4))
def test_spans_are_the_most_likely_ones(begins: list[float], ends: list[float], longest: int, most: int) -> None:
    size = min(len(begins), len(ends))
    every = [(begins[a] * ends[b], a, b) for a in range(size) for b in range(a, min(a + longest, size))]
    wanted = sorted((score for score, _, _ in every if score > 0), reverse=True)[:most]
    result = spans(begins[:size], ends[:size], longest, most)
    assert [score for score, _, _ in result] == wanted
    assert set(result) <= set(every)


@given(ENTITIES)
def test_entities_of_windows_do_not_overlap(pieces: list[dict[str, Any]]) -> None:
    result = apart(pieces)
    assert all(one["end"] <= other["start"] for one, other in pairwise(result))
    assert all(piece in pieces for piece in result)
    if pieces:
        assert result


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["B-A", "I-A", "I-A"], [3]),
        (["I-A", "I-A", "B-A"], [2, 1]),
        (["B-A", "B-A"], [1, 1]),
        (["A", "A", "B"], [2, 1]),
        (["S-A", "E-A"], [1, 1]),
        (["O", "O", "I-O"], [3]),
        ([], []),
    ],
)
def test_neighbours_with_one_label_are_one_entity(labels: list[str], groups: list[int]) -> None:
    assert [len(group) for group in grouped([{"entity": label} for label in labels])] == groups


def test_a_first_token_begins_a_word_whatever_it_is() -> None:
    tokens = [{"inside": True}, {"inside": True}, {"inside": False}]
    assert [len(word) for word in in_words(tokens)] == [2, 1]


def tokenizer(kind: str) -> Any:
    """A tokenizer with special tokens around texts: of words, of bytes, or with none."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    if kind == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        result = Tokenizer(models.BPE({letter: at for at, letter in enumerate(["<s>", "</s>", *alphabet])}, []))
        result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        result.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=False)
        return result
    vocabulary = {word: at for at, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "a", "b", "##c", "d"])}
    result = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    result.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "words":
        result.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return result


@pytest.mark.parametrize("kind", ["words", "bytes", "bare"])
@given(text=st.text("abcd é🙂e\u0301\n", max_size=60), question=st.text("abd ", max_size=5), most=st.integers(16, 24))
@example(text="aaaaaaaaaaa éééé  ", question="", most=16)
@example(text="aaaaéé🙂🙂🙂  a", question="", most=16)
def test_windows_are_the_tokenizers_own(kind: str, text: str, question: str, most: int) -> None:
    own, shared, stride = tokenizer(kind), tokenizer(kind), 2
    shared.enable_truncation(24)
    size = Size(most, stride, Limits({}, {}))
    own.enable_truncation(most, stride=stride)
    _same(of_text(shared, text, size), own.encode(text))
    own.enable_truncation(most, stride=stride, strategy="only_second")
    _same(of_pair(shared, question, text, size, cut=1), own.encode(question, text))
    own.enable_truncation(most, stride=stride, strategy="only_first")
    _same(of_pair(shared, text, question, size, cut=0), own.encode(text, question))


@given(st.integers(1, 60), st.integers(1, 3000), st.integers(16, 64))
def test_windows_are_no_more_than_their_texts_are_worth(asked: int, length: int, most: int) -> None:
    """A question that leaves little room stands in a window for each token of the context."""
    question, context = "a " * asked, "d " * length
    size = Size(most, most // 4, Limits({"MLPACK_LIMIT_ROWS": "100000"}, {}), [(question, context)])
    try:
        windows = of_pair(tokenizer("words"), question, context, size, cut=1)
    except RequestError:
        windows = []
    assert windows or asked > most // 4  # a question that leaves room is answered
    assert len(windows) < 2 or sum(map(len, windows)) <= FREE + EACH * len(question + context)


def test_windows_of_several_texts_count_together() -> None:
    size = Size(24, 16, Limits({"MLPACK_LIMIT_ROWS": "30"}, {}))
    of_text(tokenizer("words"), "a " * 100, size)
    with pytest.raises(RequestError, match="MLPACK_LIMIT_ROWS"):
        of_text(tokenizer("words"), "a " * 300, size)


def _same(result: list[Any], wanted: Any) -> None:
    every = [wanted, *wanted.overflowing]
    for name in ("ids", "offsets", "word_ids", "tokens", "attention_mask"):
        assert [getattr(window, name) for window in result] == [getattr(each, name) for each in every], name
    assert result[0].type_ids == wanted.type_ids
    assert result[0].sequence_ids == wanted.sequence_ids
