"""Hugging Face directories as people have them, through whole builds: rerankers, language models, entities, sounds.

Each build measures the least; what is asked of it is that the shipped float package answers as the source does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sample_models.npz import write_npz
from tools import tryout

from mlpack.errors import ExitCode
from mlpack.passes.export import huggingface
from mlpack.store.local import Store

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(100))]
WIDE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
BERT: dict[str, Any] = {**WIDE, "vocab_size": 110, "max_position_embeddings": 40}
SPEECH: dict[str, Any] = {**WIDE, "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
                          "classifier_proj_size": 16, "num_labels": 5}  # fmt: skip


def words(*numbers: int) -> str:
    return " ".join(f"w{number % 100}" for number in numbers)


def source(folder: Path, architecture: str, config: str, *, vocabulary: bool = True, **sizes: Any) -> Any:
    """A model with random weights, saved, and a plain vocabulary beside it: no tokenizer.json."""
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(getattr(transformers, config)(**sizes)).eval()
    model.save_pretrained(folder / "model")
    if vocabulary:
        (folder / "model" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return model


def lines(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    (folder / "eval.jsonl").write_text("\n".join(map(json.dumps, rows)))


def built(folder: Path, store: Store, data: str, *more: str) -> tryout.Tried:
    recipe = ["name: tried", "source: {huggingface: model}", f"data: {{evaluation: {data}}}", "variants: {fp32: []}", *more]
    (folder / "recipe.yaml").write_text("\n".join([*recipe, "targets: {lambda-zip: {}}"]))
    tried = tryout.try_out(folder / "recipe.yaml", store)
    assert tried.code == ExitCode.OK, tried.error
    return tried


def check(folder: Path, tried: tryout.Tried, texts: Sequence[tuple[str, ...]] = ()) -> None:
    """The float package answers the calls as eager does, which is given tokens by transformers' own tokenizer; its export was
    compared on calls of the recipe's."""
    model, calls = huggingface.load(folder / "model", None, lambda _model: [dict(tried.calls[0])]), tried.calls
    exported = next(step["notes"] for step in tried.candidate("fp32")["steps"] if step["pass"] == "export")
    assert exported["compared_on"]["recorded"] > 0
    if texts:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
        tokens = [tokenizer(*text, return_tensors="np") for text in texts]
        calls = [{spec.name: call[spec.name] for spec in model.inputs} for call in tokens]
    assert tryout.difference(tried.float_answers, [huggingface.eager(model, call) for call in calls]) < 1e-4


def value(tried: tryout.Tried) -> float:
    """The metric of the float package."""
    return float(tried.candidate("fp32")["accuracy"]["value"])


def test_a_reranker_reads_pairs(tmp_path: Path, store: Store) -> None:
    model = source(tmp_path, "BertForSequenceClassification", "BertConfig", **BERT, num_labels=1)
    tokenizer = transformers.BertTokenizerFast(str(tmp_path / "model" / "vocab.txt"))
    pairs = [(words(i, i + 1), words(i, 2 * i, 3 * i)) for i in range(20)]
    with torch.inference_mode():
        scores = [float(model(**tokenizer(*pair, return_tensors="pt")).logits) for pair in pairs]
    lines(tmp_path, [{"text": a, "text_pair": b, "label": score} for (a, b), score in zip(pairs, scores, strict=True)])
    tried = built(tmp_path, store, "eval.jsonl", "metric: mae")
    assert abs(value(tried)) < 1e-5
    check(tmp_path, tried, pairs)


def test_a_language_model_keeps_its_head_and_reads_texts(tmp_path: Path, store: Store) -> None:
    source(tmp_path, "GPT2LMHeadModel", "GPT2Config", vocab_size=110, n_positions=40, n_embd=32, n_layer=1, n_head=4)
    vocabulary = tmp_path / "model" / "vocab.txt"
    transformers.BertTokenizerFast(str(vocabulary)).save_pretrained(tmp_path / "model")
    vocabulary.unlink(missing_ok=True)
    texts = [words(*range(i, i + 1 + i % 5)) for i in range(12)]
    lines(tmp_path, [{"text": text} for text in texts])
    tried = built(tmp_path, store, "eval.jsonl")
    assert {tuple(answer) for answer in tried.float_answers} == {("logits",)}
    check(tmp_path, tried, [(text,) for text in texts])


def test_entities_have_a_label_a_token(tmp_path: Path, store: Store) -> None:
    model = source(tmp_path, "BertForTokenClassification", "BertConfig", **BERT, num_labels=4)
    tokenizer = transformers.BertTokenizerFast(str(tmp_path / "model" / "vocab.txt"))
    texts = [words(*range(i, i + 2 + i % 4)) for i in range(20)]
    with torch.inference_mode():
        tags = [model(**tokenizer(text, return_tensors="pt")).logits.argmax(-1)[0].tolist() for text in texts]
    lines(tmp_path, [{"text": text, "label": [-100, *tag[1:-1], -100]} for text, tag in zip(texts, tags, strict=True)])
    tried = built(tmp_path, store, "eval.jsonl", "metric: top1")
    assert value(tried) == 1.0
    check(tmp_path, tried, [(text,) for text in texts])


def test_string_labels_are_the_models_own_names(tmp_path: Path, store: Store) -> None:
    names = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    model = source(tmp_path, "BertForSequenceClassification", "BertConfig", **BERT, **names)
    tokenizer = transformers.BertTokenizerFast(str(tmp_path / "model" / "vocab.txt"))
    texts = [words(i, i * i, 7 * i) for i in range(20)]
    with torch.inference_mode():
        classes = [int(model(**tokenizer(text, return_tensors="pt")).logits.argmax()) for text in texts]
    lines(tmp_path, [{"text": t, "label": names["id2label"][c]} for t, c in zip(texts, classes, strict=True)])
    assert value(built(tmp_path, store, "eval.jsonl", "metric: top1")) == 1.0


def sounds_of_its_own_classes(model: Any, path: Path, length: int) -> None:
    """Eight sounds, each labelled with the class that the model itself says."""
    sounds = np.random.default_rng(0).normal(size=(8, length)).astype(np.float32)
    with torch.inference_mode():
        classes = model(torch.from_numpy(sounds)).logits.argmax(-1).numpy()
    write_npz(path, {"input_values": sounds, "labels": classes})


def test_sounds_are_classified_by_their_models_own_class(tmp_path: Path, store: Store) -> None:
    model = source(tmp_path, "Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", vocabulary=False, **SPEECH)
    sounds_of_its_own_classes(model, tmp_path / "eval.npz", 4000)
    tried = built(tmp_path, store, "eval.npz", "metric: top1")
    assert value(tried) == 1.0
    check(tmp_path, tried)


def test_voice_that_nothing_invented_fits_uses_its_own_sounds(tmp_path: Path, store: Store) -> None:
    """Time-delay layers of 15 frames take 5,000 samples at the least."""
    sizes = {**SPEECH, "tdnn_dim": (8,) * 5, "xvector_output_dim": 8, "initializer_range": 0.5}
    model = source(tmp_path, "Wav2Vec2ForXVector", "Wav2Vec2Config", vocabulary=False, **sizes)
    sounds_of_its_own_classes(model, tmp_path / "eval.npz", 8000)
    tried = built(tmp_path, store, "eval.npz", "metric: {name: top1, output: logits}")
    assert value(tried) == 1.0
    check(tmp_path, tried)


def test_encoder_decoder_is_refused_before_anything_is_exported(tmp_path: Path, store: Store) -> None:
    source(
        tmp_path, "T5ForConditionalGeneration", "T5Config", vocab_size=110, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    lines(tmp_path, [{"text": "w1"}])
    recipe = "name: t5\nsource: {huggingface: model}\ndata: {evaluation: eval.jsonl}\ntargets: {lambda-zip: {}}\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    tried = tryout.try_out(tmp_path / "recipe.yaml", store)
    assert tried.code == ExitCode.RECIPE
    assert "task: feature-extraction" in tried.error
