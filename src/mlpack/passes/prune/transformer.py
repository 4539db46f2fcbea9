"""Structured pruning of BERT-like Hugging Face directories: attention heads and feed-forward channels.

Promises:
- The result is an ordinary Hugging Face directory that `from_pretrained` loads: heads are in the config's `pruned_heads`,
  channels in its `intermediate_size`.
- Every layer keeps the same number, so that fused attention still applies.
- Architectures whose layers are not named as BERT's are refused by name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.passes.export import huggingface, torch_model

if TYPE_CHECKING:
    from pathlib import Path

    import torch

_KNOWN = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


def run(model_dir: Path, ratio: float, round_to: int, out_dir: Path) -> dict[str, Any]:
    """Prune `model_dir` into `out_dir`; returns the notes. Raises PassError for unknown architectures or nothing to do."""
    config = huggingface.read_json(model_dir / "config.json")
    if config.get("model_type") not in _KNOWN:
        raise PassError(
            f"prune: structured pruning of Hugging Face models knows {', '.join(_KNOWN)}, not {config.get('model_type')!r}; "
            "use `method: magnitude`, or a torch source"
        )
    if config.get("pruned_heads"):
        raise PassError("prune: the heads of this model were pruned before; prune the original by more instead")
    heads, width = int(config["num_attention_heads"]), int(config["intermediate_size"])
    dropped_heads = int(heads * ratio)
    kept_width = max(round_to, round(width * (1 - ratio) / round_to) * round_to)
    if dropped_heads == 0 and kept_width >= width:
        raise PassError(f"prune: ratio {ratio} takes out no head of {heads} and no channel of {width}; raise it")
    return _pruned(model_dir, out_dir, config, (dropped_heads, min(kept_width, width)))


def _pruned(model_dir: Path, out_dir: Path, config: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    import torch
    from safetensors.torch import save_file

    dropped_heads, kept_width = size
    tensors = {key: tensor for part in torch_model.read_weights(model_dir).values() for key, tensor in part.items()}
    before = sum(tensor.numel() for tensor in tensors.values())
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    pruned: dict[str, list[int]] = {}
    for layer in range(int(config["num_hidden_layers"])):
        prefix = _prefix(tensors, layer)
        attention = f"{prefix}.attention"
        importance = _head_importance(tensors, attention, heads)
        dropped = sorted(torch.argsort(importance, stable=True)[:dropped_heads].tolist())
        pruned[str(layer)] = dropped
        rows = torch.tensor([i for i in range(hidden) if i // (hidden // heads) not in dropped])
        for part in ("query", "key", "value"):
            _select(tensors, f"{attention}.self.{part}", rows, 0)
        _select(tensors, f"{attention}.output.dense", rows, 1)
        inner, outer = tensors[f"{prefix}.intermediate.dense.weight"], tensors[f"{prefix}.output.dense.weight"]
        strength = inner.float().norm(dim=1) * outer.float().norm(dim=0)
        rows = torch.argsort(strength, descending=True, stable=True)[:kept_width].sort().values
        _select(tensors, f"{prefix}.intermediate.dense", rows, 0)
        _select(tensors, f"{prefix}.output.dense", rows, 1)
    huggingface.copy_without_weights(model_dir, out_dir)
    save_file({key: tensors[key].contiguous() for key in sorted(tensors)}, out_dir / "model.safetensors", metadata={"format": "pt"})
    changed = {**config, "intermediate_size": kept_width, **({"pruned_heads": pruned} if dropped_heads else {})}
    (out_dir / "config.json").write_text(json.dumps(changed, indent=2, sort_keys=True) + "\n", "utf-8")
    return {
        "parameters_before": before, "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "heads_per_layer": heads - dropped_heads, "intermediate_size": kept_width,
    }  # fmt: skip


def _prefix(tensors: dict[str, torch.Tensor], layer: int) -> str:
    ending = f"encoder.layer.{layer}.attention.self.query.weight"
    keys = [key for key in tensors if key == ending or key.endswith("." + ending)]
    if len(keys) != 1:
        raise PassError(f"prune: the weights hold no {ending!r}; the architecture is not laid out like BERT's")
    return keys[0].removesuffix(".attention.self.query.weight")


def _head_importance(tensors: dict[str, torch.Tensor], attention: str, heads: int) -> torch.Tensor:
    """The importance of a head: the norm of its values times the norm of the output layer's weights for them."""
    value = tensors[f"{attention}.self.value.weight"].float()
    output = tensors[f"{attention}.output.dense.weight"].float()
    each = value.shape[0] // heads
    return value.reshape(heads, each, -1).flatten(1).norm(dim=1) * output.reshape(output.shape[0], heads, each).norm(dim=(0, 2))


def _select(tensors: dict[str, torch.Tensor], layer: str, rows: torch.Tensor, axis: int) -> None:
    """Keep these rows (axis 0, bias too) or columns (axis 1) of a linear layer."""
    tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"].index_select(axis, rows)
    if axis == 0 and f"{layer}.bias" in tensors:
        tensors[f"{layer}.bias"] = tensors[f"{layer}.bias"].index_select(0, rows)
