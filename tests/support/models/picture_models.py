"""Small models of pictures with random weights, with their processors, as transformers saves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {at: f"thing {at}" for at in range(7)}
_CLASSIFIERS: dict[str, dict[str, Any]] = {
    "ViT": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
            "patch_size": 8},
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
}  # fmt: skip
_DETECTORS: dict[str, dict[str, Any]] = {
    "Yolos": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": [64, 48],
              "patch_size": 16, "num_detection_tokens": 9},
    "Detr": {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
             "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_queries": 9, "use_timm_backbone": False,
             "use_pretrained_backbone": False, "backbone": None},
}  # fmt: skip


def saved(folder: Path, family: str, processor: Any) -> Any:
    """The model, in the directory with its processor. Its weights are large enough that pictures differ in their answers."""
    import torch
    import transformers

    torch.manual_seed(1)
    more: dict[str, Any] = dict(_CLASSIFIERS.get(family) or _DETECTORS[family])
    if family == "Detr":
        backbone = transformers.ResNetConfig(**_CLASSIFIERS["ResNet"], out_features=["stage2"])
        more["backbone_config"] = backbone
    if family in ("ViT", "Yolos"):
        more["initializer_range"] = 0.5
    config = getattr(transformers, f"{family}Config")(**more, id2label=LABELS, label2id={name: at for at, name in LABELS.items()})
    head = "ImageClassification" if family in _CLASSIFIERS else "ObjectDetection"
    model = getattr(transformers, f"{family}For{head}")(config).eval()
    if family == "Detr":  # else all queries are alike
        torch.nn.init.normal_(model.model.query_position_embeddings.weight, std=3)
        torch.nn.init.normal_(model.class_labels_classifier.weight, std=2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model
