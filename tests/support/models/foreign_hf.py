"""Hugging Face directories that strangers brought, made anew with random weights: each function writes one and its data into a
folder, and `answers.npz` with what eager torch says where a case asks for numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tests.support.models.foreign_torch import BERT, lines, seeded, sentence, tokenizer

_GPT = {"vocab_size": 256, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}
_WAVE = {
    "vocab_size": 32, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 128,
    "conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 32,
}  # fmt: skip

JUDGE = '''import json
import pathlib

import numpy as np

ROWS = json.loads((pathlib.Path(__file__).parent / "rows.json").read_text())


def data():
    """One sentence a call, of its own length; a row of labels a sentence."""
    for row in ROWS:
        yield {name: np.array([row[name]]) for name in ("input_ids", "attention_mask", "token_type_ids")}, np.array([row["tags"]])
'''


def _kept(model: Any, folder: Path) -> Any:
    model.eval().save_pretrained(folder)
    return model


def ctc(folder: Path) -> None:
    """A speech recogniser over raw sound."""
    random = seeded()
    model = _kept(transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**_WAVE)), folder / "model")
    x = random.normal(size=(12, 4000)).astype("f4")
    np.savez(folder / "eval.npz", input_values=x)
    np.savez(folder / "answers.npz", logits=model(torch.tensor(x)).logits.detach().numpy())


def audio(folder: Path) -> None:
    """Sound into one of five classes."""
    random = seeded()
    model = _kept(
        transformers.Wav2Vec2ForSequenceClassification(transformers.Wav2Vec2Config(**_WAVE, num_labels=5)), folder / "model"
    )
    x = random.normal(size=(12, 4000)).astype("f4")
    logits = model(torch.tensor(x)).logits.detach().numpy()
    np.savez(folder / "eval.npz", input_values=x, labels=logits.argmax(1))
    np.savez(folder / "answers.npz", logits=logits)


def vision(folder: Path) -> None:
    """A ViT and a ResNet that classify; labels are the models' own."""
    random = seeded()
    said = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "image_size": 32}
    vit = _kept(transformers.ViTForImageClassification(transformers.ViTConfig(**said, patch_size=8, num_labels=5)), folder / "vit")
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[32, 64], depths=[1, 1], num_labels=5)
    resnet = _kept(transformers.ResNetForImageClassification(config), folder / "resnet")
    x = random.normal(size=(60, 3, 32, 32)).astype("f4")
    for name, model in (("vit", vit), ("resnet", resnet)):
        logits = model(torch.tensor(x)).logits.detach().numpy()
        np.savez(folder / f"{name}.npz", pixel_values=x, labels=logits.argmax(1))
    np.savez(folder / "calib.npz", pixel_values=x[:20] + 0.1)


def tagger(folder: Path) -> None:
    """Names in sentences: as a function that yields one a call, padded, as texts, as texts with lists of tags."""
    seeded()
    model = _kept(transformers.BertForTokenClassification(transformers.BertConfig(**BERT, num_labels=5)), folder / "model")
    tokenizer(folder / "model")
    words = transformers.AutoTokenizer.from_pretrained(folder / "model")
    rows: list[dict[str, Any]] = []
    for number in range(40):
        text = sentence(number, 2 + number % 9, 3)
        encoded = words(text, return_tensors="pt")
        tags = model(**encoded).logits.argmax(-1)[0].tolist()
        tags[0] = tags[-1] = -100
        rows.append({"text": text, "tags": tags, **{name: value[0].tolist() for name, value in encoded.items()}})
    width = max(len(row["tags"]) for row in rows)
    ids, mask, labels = (
        np.array([row[name] + [fill] * (width - len(row[name])) for row in rows])
        for name, fill in (("input_ids", 0), ("attention_mask", 0), ("tags", -100))
    )
    np.savez(folder / "eval.npz", input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(ids), labels=labels)
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "judge.py").write_text(JUDGE)
    lines(folder / "eval.jsonl", [{"text": row["text"], "label": row["tags"]} for row in rows])
    lines(folder / "texts.jsonl", [{"text": row["text"]} for row in rows])


def generator(folder: Path) -> None:
    """A GPT-2 language model without tokenizer files (`raw`) and with (`text`)."""
    random = seeded()
    model = _kept(transformers.GPT2LMHeadModel(transformers.GPT2Config(**_GPT)), folder / "raw")
    model.save_pretrained(folder / "text")
    tokenizer(folder / "text")
    ids = random.integers(5, 200, (20, 10))
    np.savez(folder / "eval.npz", input_ids=ids, attention_mask=np.ones_like(ids), position_ids=np.tile(np.arange(10), (20, 1)))
    np.savez(folder / "answers.npz", logits=model(torch.tensor(ids)).logits.detach().numpy())
    lines(folder / "eval.jsonl", [{"text": sentence(number, 3 + number % 9)} for number in range(30)])


def translator(folder: Path) -> None:
    """A T5: an encoder and a decoder."""
    seeded()
    said = {"vocab_size": 256, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    _kept(transformers.T5ForConditionalGeneration(transformers.T5Config(**said)), folder / "model")
    tokenizer(folder / "model")
    lines(folder / "eval.jsonl", [{"text": sentence(number, 3 + number % 9)} for number in range(30)])


def reranker(folder: Path) -> None:
    """A cross-encoder, which scores a pair of texts; labels are its own scores."""
    seeded()
    model = _kept(transformers.BertForSequenceClassification(transformers.BertConfig(**BERT, num_labels=1)), folder / "model")
    tokenizer(folder / "model")
    words = transformers.AutoTokenizer.from_pretrained(folder / "model")
    rows = []
    for number in range(40):
        query, document = sentence(number, 3), sentence(number * 2, 9, 2)
        score = float(model(**words(query, document, return_tensors="pt")).logits.detach())
        rows.append({"text": query, "text_pair": document, "label": round(score, 5)})
    lines(folder / "eval.jsonl", rows)
    lines(folder / "pairs.jsonl", [{"query": row["text"], "document": row["text_pair"]} for row in rows])
    encoded = [words(row["text"], row["text_pair"], return_tensors="np") for row in rows]
    arrays = {name: np.concatenate([row[name] for row in encoded]) for name in encoded[0]}
    np.savez(folder / "eval.npz", labels=np.array([row["label"] for row in rows]), **arrays)


def slow_tokenizer(folder: Path) -> None:
    """A classifier with `vocab.txt` and no tokenizer.json; classes by their names in the config."""
    seeded()
    config = transformers.BertConfig(**BERT, num_labels=2, id2label={0: "negative", 1: "positive"})
    model = _kept(transformers.BertForSequenceClassification(config), folder / "model")
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(200))]
    (folder / "model/vocab.txt").write_text("\n".join(known))
    words = transformers.BertTokenizer(str(folder / "model/vocab.txt"))
    rows = []
    for number in range(30):
        text = sentence(number, 3 + number % 5)
        logits = model(**words(text, return_tensors="pt")).logits
        rows.append({"text": text, "label": config.id2label[int(logits.argmax())]})
    lines(folder / "eval.jsonl", rows)
