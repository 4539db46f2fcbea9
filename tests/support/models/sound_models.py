"""Small models of sounds with random weights, and what stands beside them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
SPEECH: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 16, "initializer_range": 0.3,
}  # fmt: skip
SPECTRA = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "initializer_range": 0.2}

WHISPER: dict[str, Any] = {
    "vocab_size": 60, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_source_positions": 100, "init_std": 0.3,
    "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1,
}  # fmt: skip


def saved(folder: Path, architecture: str, **config: Any) -> tuple[Any, Any, Any]:
    """A model, its feature extractor and its tokenizer (None for a classifier) in the directory, as transformers has them."""
    import torch
    import transformers

    torch.manual_seed(2)
    spectra = architecture.startswith("AST")
    family = architecture.partition("For")[0]
    sizes = WHISPER if family == "Whisper" else SPECTRA if spectra else SPEECH
    letters = {} if sizes is not SPEECH else {"vocab_size": len(LETTERS), "pad_token_id": 0}
    read = getattr(transformers, f"{family}Config")(**sizes, **letters, **config)
    model = getattr(transformers, architecture)(read).eval()
    model.save_pretrained(folder)
    if spectra:
        extractor = transformers.ASTFeatureExtractor(max_length=read.max_length, num_mel_bins=read.num_mel_bins)
    elif family == "Whisper":
        extractor = transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    else:
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    extractor.save_pretrained(folder)
    tokenizer = None
    if architecture.endswith("ForCTC"):
        words = folder / "vocab.json"
        words.write_text(json.dumps({letter: at for at, letter in enumerate(LETTERS)}))
        tokenizer = transformers.Wav2Vec2CTCTokenizer(str(words), do_lower_case=False)
        tokenizer.save_pretrained(folder)
    return model, extractor, tokenizer
