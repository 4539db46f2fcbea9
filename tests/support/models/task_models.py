"""Small models with heads and random weights, and tokenizers of several kinds that are trained on odd texts."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORDS = ("London", "paris", "naïve", "café", "🙂👍🏽", "日本語", "e\u0301tude", "zebra!", "don't", "O'Neil", "unbelievable", "x",
         "12,345.67", "İstanbul", "ﬁne", "\u200b", "[SEP]", "</s>", "Straße", "नमस्ते", "a\u0300\u0301b", "C++",
         "www.a-b.eu", "—")  # fmt: skip
LENGTH = 64
"""Tokens that these models read."""


def sentences(number: int, most: int, seed: int = 0) -> Iterator[str]:
    """Texts of one to `most` words."""
    chosen = random.Random(seed)
    for _ in range(number):
        yield " ".join(chosen.choice(WORDS) for _ in range(chosen.randint(1, most)))


def tokenizer(kind: str) -> Any:
    """transformers' fast tokenizer: `words` (WordPiece, cased), `bytes` (byte-level BPE with a prefix space), `bytes-plain`
    (without one, as RoBERTa's own) or `pieces` (Unigram, as XLM-R's)."""
    import tokenizers
    import transformers
    from tokenizers import processors

    corpus = list(sentences(200, 30, seed=9))
    special = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    names = list(special.values())
    if kind == "words":
        special = {key: f"[{key[:-6].upper()}]" for key in special}
        trained = tokenizers.BertWordPieceTokenizer(lowercase=False, strip_accents=False)
        trained.train_from_iterator(corpus, vocab_size=300, limit_alphabet=90, show_progress=False)
        ends = [(name, trained.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
        trained._tokenizer.post_processor = processors.BertProcessing(*ends)
    elif kind.startswith("bytes"):
        prefix = kind == "bytes"
        trained = tokenizers.ByteLevelBPETokenizer(add_prefix_space=prefix)
        trained.train_from_iterator(corpus, vocab_size=360, special_tokens=names, show_progress=False)
        trained._tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=prefix)
    else:
        trained = tokenizers.SentencePieceUnigramTokenizer()
        trained.train_from_iterator(corpus, vocab_size=220, special_tokens=names, unk_token="<unk>", show_progress=False)
        templates = "<s> $A </s>", "<s> $A </s> </s> $B </s>"
        trained._tokenizer.post_processor = processors.TemplateProcessing(*templates, [("<s>", 0), ("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, model_max_length=LENGTH, **special)


def saved(folder: Path, architecture: str, kind: str, **config: Any) -> tuple[Any, Any]:
    """A model and its tokenizer in the directory; both as transformers has them."""
    import torch
    import transformers

    words = tokenizer(kind)
    if kind != "words":
        words.model_input_names = ["input_ids", "attention_mask"]
    family = architecture.partition("For")[0].removesuffix("Model")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "initializer_range": 0.6}
    padding = {"pad_token_id": words.pad_token_id}
    torch.manual_seed(0)
    read = getattr(transformers, f"{family}Config")(
        vocab_size=400, max_position_embeddings=LENGTH + 4 + words.pad_token_id, **sizes, **padding, **config
    )
    model = getattr(transformers, architecture)(read).eval()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model, words
