"""Hugging Face models of many architectures, small and with random weights, made when asked for.

Each row of `makers()` is a function that returns a model to save; nothing is downloaded. `models()` gives members of the zoo,
each with data that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sample_models.npz import write_npz
from sample_models.zoo import Member

WIDE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT: dict[str, Any] = {**WIDE, "vocab_size": 120, "max_position_embeddings": 40}
SPEECH: dict[str, Any] = {
    **WIDE, "vocab_size": 32, "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 16, "num_labels": 5,
}  # fmt: skip
PICTURE: dict[str, Any] = {**WIDE, "image_size": 32, "patch_size": 8, "num_labels": 5}
DECODER: dict[str, Any] = {**TEXT, "num_key_value_heads": 2}
CLIP_TEXT: dict[str, Any] = {**TEXT, "max_position_embeddings": 24, "eos_token_id": 119, "bos_token_id": 118, "pad_token_id": 1}
CLIP_VISION: dict[str, Any] = {**WIDE, "image_size": 32, "patch_size": 8}

Make = Callable[[], Any]


def _of(architecture: str, config: str, **sizes: Any) -> Make:
    """A maker of one architecture of transformers: its class, its config's class, and the config's sizes."""

    def make() -> Any:
        import torch
        import transformers

        torch.manual_seed(0)
        return getattr(transformers, architecture)(getattr(transformers, config)(**sizes)).eval()

    return make


def _clip(architecture: str) -> Make:
    def make() -> Any:
        import torch
        import transformers

        torch.manual_seed(0)
        config = transformers.CLIPConfig(text_config=CLIP_TEXT, vision_config=CLIP_VISION, projection_dim=16)
        return getattr(transformers, architecture)(config).eval()

    return make


def _table() -> Any:
    """Table Transformer with a backbone of its own: transformers would fetch the usual one's weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    config = transformers.TableTransformerConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=32,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=32,
        decoder_ffn_dim=32, num_queries=7, num_labels=3,
    )  # fmt: skip
    return transformers.TableTransformerForObjectDetection(config).eval()


MODERN: dict[str, Any] = {
    **TEXT, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 8,
    "reference_compile": False,
}  # fmt: skip
DEBERTA: dict[str, Any] = {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
GPT2: dict[str, Any] = {"vocab_size": 120, "n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 4}
WHISPER: dict[str, Any] = {
    "vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 16, "max_source_positions": 50,
    "num_labels": 5, "classifier_proj_size": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 3, "suppress_tokens": None, "begin_suppress_tokens": None,
}  # fmt: skip
T5: dict[str, Any] = {"vocab_size": 120, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
RESNET: dict[str, Any] = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "num_labels": 5}

_MODELS: dict[str, Make] = {
    "bert": _of("BertForSequenceClassification", "BertConfig", **TEXT, num_labels=3),
    "bert-qa": _of("BertForQuestionAnswering", "BertConfig", **TEXT),
    "bert-choice": _of("BertForMultipleChoice", "BertConfig", **TEXT),
    "bert-next": _of("BertForNextSentencePrediction", "BertConfig", **TEXT),
    "bert-short": _of("BertForMaskedLM", "BertConfig", **{**TEXT, "max_position_embeddings": 12}),
    "roberta": _of("RobertaForTokenClassification", "RobertaConfig", **TEXT, num_labels=5),
    "deberta-v2": _of("DebertaV2ForSequenceClassification", "DebertaV2Config", **DEBERTA),
    "mpnet": _of("MPNetForMaskedLM", "MPNetConfig", **TEXT),
    "modernbert": _of("ModernBertForSequenceClassification", "ModernBertConfig", **MODERN),
    "distilbert": _of(
        "DistilBertForQuestionAnswering", "DistilBertConfig", vocab_size=120, dim=32, n_layers=2, n_heads=4, hidden_dim=64,
        max_position_embeddings=40,
    ),
    "albert": _of("AlbertForMaskedLM", "AlbertConfig", **TEXT, embedding_size=16),
    "xlm-roberta": _of("XLMRobertaForSequenceClassification", "XLMRobertaConfig", **TEXT, num_labels=1),
    "electra": _of("ElectraForTokenClassification", "ElectraConfig", **TEXT, embedding_size=16),
    "gpt2": _of("GPT2LMHeadModel", "GPT2Config", **GPT2),
    "gpt2-class": _of("GPT2ForSequenceClassification", "GPT2Config", **GPT2, pad_token_id=0),
    "llama": _of("LlamaForCausalLM", "LlamaConfig", **DECODER),
    "qwen2": _of("Qwen2ForCausalLM", "Qwen2Config", **DECODER),
    "bart-class": _of(
        "BartForSequenceClassification", "BartConfig", vocab_size=120, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=40,
    ),
    "vit": _of("ViTForImageClassification", "ViTConfig", **PICTURE),
    "deit": _of("DeiTForImageClassificationWithTeacher", "DeiTConfig", **PICTURE),
    "swin": _of(
        "SwinForImageClassification", "SwinConfig", image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 4],
        window_size=4, num_labels=5,
    ),
    "convnext": _of("ConvNextForImageClassification", "ConvNextConfig", hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1]),
    "resnet": _of("ResNetForImageClassification", "ResNetConfig", **RESNET),
    "mobilenet-v2": _of("MobileNetV2ForImageClassification", "MobileNetV2Config", depth_multiplier=0.35, num_labels=5),
    "dinov2": _of("Dinov2Model", "Dinov2Config", **PICTURE),
    "segformer": _of(
        "SegformerForSemanticSegmentation", "SegformerConfig", hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=16, num_labels=4,
    ),
    "clip": _clip("CLIPModel"),
    "clip-text": _of("CLIPTextModelWithProjection", "CLIPTextConfig", **CLIP_TEXT, projection_dim=16),
    "clip-vision": _of("CLIPVisionModelWithProjection", "CLIPVisionConfig", **CLIP_VISION, projection_dim=16),
    "wav2vec2": _of("Wav2Vec2ForCTC", "Wav2Vec2Config", **SPEECH),
    "wav2vec2-class": _of("Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", **SPEECH),
    "wav2vec2-frames": _of("Wav2Vec2ForAudioFrameClassification", "Wav2Vec2Config", **SPEECH),
    "hubert": _of("HubertForSequenceClassification", "HubertConfig", **SPEECH),
    "whisper-class": _of("WhisperForAudioClassification", "WhisperConfig", **WHISPER),
    "ast": _of("ASTForAudioClassification", "ASTConfig", **WIDE, max_length=64, num_mel_bins=32, num_labels=5),
    "t5-encoder": _of("T5EncoderModel", "T5Config", **T5),
    "yolos": _of("YolosForObjectDetection", "YolosConfig", **{**PICTURE, "image_size": [32, 48]}, num_detection_tokens=7),
    "table-transformer": _table,
}  # fmt: skip
TASKS: Mapping[str, str] = {
    "whisper-encoder": "feature-extraction",
    "llama-past": "text-generation-with-past",
    "gpt2-past": "text-generation-with-past",
}
"""Tasks to ask for, of models whose architecture has another one."""
_MODELS["whisper-encoder"] = _of("WhisperForConditionalGeneration", "WhisperConfig", **WHISPER)
_MODELS["llama-past"], _MODELS["gpt2-past"] = _MODELS["llama"], _MODELS["gpt2"]
FEW = ("bert-short", "roberta", "gpt2", "resnet", "wav2vec2", "t5-encoder")
"""What `make slow` exports; the others under MLPACK_SOAK=1."""


def makers() -> Mapping[str, Make]:
    """Every model by its name."""
    return _MODELS


def save(name: str, folder: Path) -> Path:
    """The directory that `save_pretrained` writes of this model."""
    _MODELS[name]().save_pretrained(folder)
    return folder


def models() -> tuple[Member, ...]:
    """Those whose head is their architecture's own, so that the recipe of `mlpack init` builds as it stands."""
    return tuple(
        Member(name=f"hf-{name}", place=_placing(name), kind="huggingface", answers=_by_eager, heavy=name not in FEW)
        for name in _MODELS
        if name not in TASKS
    )


def _placing(name: str) -> Callable[[Path, Path], Path]:
    def place(folder: Path, _cache: Path) -> Path:
        import numpy as np

        from mlpack.passes.export import huggingface

        model = huggingface.load(save(name, folder / "model"), None)
        for file, batch, seed in (("eval.npz", 24, 1), ("calib.npz", 12, 2)):
            write_npz(folder / file, model.invention.feed(0, batch, 12, np.random.default_rng(seed)))
        return folder / "model"

    return place


def _by_eager(model: Path, calls: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    from mlpack.passes.export import huggingface

    loaded = huggingface.load(model, None)
    return [huggingface.eager(loaded, call) for call in calls]
