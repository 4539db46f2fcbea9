"""The prune pass: sets weights to zero, or removes channels and heads, before export.

Promises:
- `structured` makes the tensors smaller, so that every later step is smaller and faster. The result is a directory of the same
  format.
- `magnitude` sets the smallest weights to zero: the compressed package shrinks, speed does not change, and notes.json says so.
- Pruning nothing is an error.

Will not: restore accuracy. Pruning without fine-tuning costs some, which the build measures.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlpack.core.digest import canonical_json
from mlpack.core.records import Signature
from mlpack.errors import PassError
from mlpack.evaluation.data import reader
from mlpack.graphs import check, files
from mlpack.passes.export import huggingface, torch_model
from mlpack.passes.prune import transformer

if TYPE_CHECKING:
    import torch

_BATCH = 64
"""Samples a batch when statistics are measured: the variance of a batch of one says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """What to take out, and how much of it."""

    RANGES: ClassVar[Mapping[str, tuple[Callable[[float], bool], str]]] = {
        "ratio": (lambda value: 0 < value < 1, "must lie between 0 and 1 (0.3 removes 30 %)"),
    }

    ratio: float
    """Share of the channels, heads or weights that goes: between 0 and 1, both excluded."""
    method: Literal["magnitude", "structured"] = "structured"
    """`structured` takes channels and heads out: smaller and faster. `magnitude` zeroes small weights: fewer compressed bytes,
    no more speed."""
    scope: Literal["layer", "global"] = "layer"
    """Magnitude only: the share of each layer, or of all weights together."""
    round_to: int = 8
    """Structured only: channels left are a multiple of this, because kernels work on 8 or 16 at a time."""
    keep: tuple[str, ...] = ()
    """Modules, by name, that stay as they are."""
    calibration: Path | None = None
    """Structured only; filled by the build: calls that batch normalisation is set right with afterwards."""


def run(model_dir: Path, config: Prune, out_dir: Path) -> None:
    """Prune `model_dir` into `out_dir`. Raises PassError when there is nothing to prune or the architecture is unknown."""
    if not 0 < config.ratio < 1:
        raise PassError(f"prune: ratio is {config.ratio}, it must lie between 0 and 1")
    is_torch = (model_dir / torch_model.DESCRIPTION).is_file()
    if config.method == "magnitude":
        notes = _magnitude(model_dir, config, out_dir)
    elif is_torch:
        notes = _structured(model_dir, config, out_dir)
    else:
        notes = transformer.run(model_dir, config.ratio, config.round_to, out_dir)
    (out_dir / files.NOTES).write_bytes(canonical_json({"method": config.method, "ratio": config.ratio, **notes}))


def _magnitude(model_dir: Path, config: Prune, out_dir: Path) -> dict[str, Any]:
    """Set the smallest weights of every matrix and convolution, except tables, to zero, in the safetensors files themselves."""
    from safetensors.torch import save_file

    weights = torch_model.read_weights(model_dir)
    chosen = {
        key: tensor
        for tensors in weights.values()
        for key, tensor in tensors.items()
        if tensor.ndim >= 2 and tensor.is_floating_point() and "embed" not in key and not key.startswith(config.keep or ("\0",))
    }
    if not chosen:
        raise PassError("prune: no weight matrices to prune beside embedding tables")
    total = zeroed = 0
    shared = _threshold(list(chosen.values()), config.ratio) if config.scope == "global" else None
    for tensor in chosen.values():
        limit = _threshold([tensor], config.ratio) if shared is None else shared
        small = tensor.abs() <= limit
        tensor[small] = 0
        total += tensor.numel()
        zeroed += int(small.sum())
    huggingface.copy_without_weights(model_dir, out_dir)
    for index in model_dir.glob("*.safetensors.index.json"):
        shutil.copyfile(index, out_dir / index.name)
    for name, tensors in weights.items():
        save_file(tensors, out_dir / name, metadata={"format": "pt"})
    return {"zeroed": zeroed, "weights": total, "gives": "a smaller compressed package; neither speed nor size when loaded"}


def _threshold(tensors: list[torch.Tensor], ratio: float) -> torch.Tensor:
    import torch

    flat = torch.cat([tensor.abs().flatten().float() for tensor in tensors])
    return torch.kthvalue(flat, max(1, int(ratio * flat.numel()))).values


def _structured(model_dir: Path, config: Prune, out_dir: Path) -> dict[str, Any]:
    """Remove whole channels of a torch module along its dependency graph, and record each removal for replay."""
    import torch
    from safetensors.torch import save_file

    edits = torch_model.read_edits(model_dir)
    with torch_model.opened(model_dir) as (module, described):
        before = sum(parameter.numel() for parameter in module.parameters())
        signature = Signature(inputs=described.inputs, outputs=())
        example = tuple(torch.from_numpy(array) for array in check.feeds(signature, {})[1].values())
        shapes = _shapes(module, example)
        edits += _removed(module, example, config)
        recalibrated = _recalibrate(module, config.calibration, model_dir, signature) if config.calibration else 0
        after = sum(parameter.numel() for parameter in module.parameters())
        if after == before:
            raise PassError(
                f"prune: ratio {config.ratio} takes nothing out: with channels in multiples of {config.round_to} "
                "and the output kept, no layer is wide enough; raise `ratio` or lower `round_to`"
            )
        if _shapes(module, example) != shapes:
            raise PassError("prune: an output would change its shape; name the layers that make it in `keep`")
        state = {name: tensor.contiguous().clone() for name, tensor in sorted(module.state_dict().items())}
    shutil.copytree(model_dir / torch_model.CODE, out_dir / torch_model.CODE)
    shutil.copyfile(model_dir / torch_model.DESCRIPTION, out_dir / torch_model.DESCRIPTION)
    save_file(state, out_dir / torch_model.WEIGHTS)
    (out_dir / torch_model.EDITS).write_text(json.dumps({"removals": edits}, separators=(",", ":")), "utf-8")
    return {"parameters_before": before, "parameters": after, "removals": len(edits), "recalibrated_norms": recalibrated}


def _recalibrate(module: torch.nn.Module, folder: Path, model_dir: Path, signature: Signature) -> int:
    """Measure the statistics of batch normalisation anew: they were those of a network with all its channels. Needs no labels.

    Returns how many layers there were. With a fifth of a small CNN's channels gone this brought top-1 from 0.11 back to 0.88.
    """
    import torch

    kind = torch.nn.modules.batchnorm._BatchNorm
    norms = [layer for layer in module.modules() if isinstance(layer, kind) and layer.track_running_stats]
    if not norms:
        return 0
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all batches
        layer.train()
    size = _BATCH if all(spec.shape and isinstance(spec.shape[0], str) for spec in signature.inputs) else 1
    rows: list[tuple[torch.Tensor, ...]] = []
    with torch.inference_mode():
        for feed in reader.read(folder, model_dir, signature):
            rows.append(tuple(torch.from_numpy(feed[spec.name].copy()) for spec in signature.inputs))
            if len(rows) == size:
                _observe(module, rows, size)
                rows = []
        # A last batch that is much smaller would count like the others; a single batch is better than none.
        if rows and (len(rows) >= size // 2 or not int(norms[0].num_batches_tracked or 0)):
            _observe(module, rows, size)
    for layer in norms:
        layer.eval()
    return len(norms)


def _observe(module: torch.nn.Module, rows: list[tuple[torch.Tensor, ...]], size: int) -> None:
    """Run `module` on these calibration calls as one batch. Raises PassError when it cannot take them."""
    import torch

    try:
        module(*(torch.cat(column) if len(rows) > 1 else column[0] for column in zip(*rows, strict=True)))
    except torch_model.FOREIGN_ERRORS as error:
        samples = sum(row[0].shape[0] if row[0].ndim else 1 for row in rows)
        if samples == 1:
            # One value has no variance: torch refuses a batch of one for a layer without spatial axes.
            axis = "" if size > 1 else " and inputs whose first axis varies (`shape: [batch, ...]`)"
            way_out = f"it saw one sample at a time: give at least 2 calibration samples{axis}"
        else:
            way_out = "are all calibration samples of one shape, and such as forward() takes?"
        raise PassError(
            "prune: batch normalisation cannot be measured anew on the calibration data "
            f"({type(error).__name__}: {error}); {way_out}"
        ) from error


def _removed(module: torch.nn.Module, example: tuple[torch.Tensor, ...], config: Prune) -> list[dict[str, Any]]:
    """Prune `module` in place; returns the removals in order, as `torch_model.replay` takes them."""
    import torch_pruning

    for parameter in module.parameters():
        parameter.requires_grad_(True)
    names = {layer: name for name, layer in module.named_modules()}
    ignored = [layer for layer, name in names.items() if name in config.keep] + _outputs(module, example)
    recorded: list[dict[str, Any]] = []
    try:
        pruner = torch_pruning.pruner.MetaPruner(
            module, example, importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=config.ratio, pruning_ratio_dict=_ratios(module, config), ignored_layers=ignored,
        )  # fmt: skip
        for group in pruner.step(interactive=True):
            for dependency, indices in group:
                layer, function = dependency.layer, dependency.pruning_fn
                kind = "out" if function.__name__ == "prune_out_channels" else "in"
                if layer in names and any(True for _ in layer.parameters(recurse=False)):
                    recorded.append({"module": names[layer], "kind": kind, "indices": [int(i) for i in indices]})
            group.prune()
    except torch_model.FOREIGN_ERRORS as error:
        raise PassError(
            f"prune: the module cannot be traced for pruning ({type(error).__name__}: {error}); "
            "name the layers to leave alone in `keep`"
        ) from error
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return recorded


def _ratios(module: torch.nn.Module, config: Prune) -> dict[torch.nn.Module, float]:
    """For each layer the ratio that leaves the nearest multiple of `round_to`: the library itself would always remove more."""
    ratios = {}
    for layer in module.modules():
        channels = getattr(layer, "out_channels", None) or getattr(layer, "out_features", None)
        if isinstance(channels, int):
            channels_kept = max(1, round(channels * (1 - config.ratio) / config.round_to)) * config.round_to
            ratios[layer] = 1 - (min(channels_kept, channels) + 0.01) / channels  # it takes the whole part of what is left
    return ratios


def _shapes(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> list[Any]:
    """The shapes of all outputs. Raises PassError when the module cannot run."""
    import torch
    from torch.utils import _pytree

    try:
        with torch.inference_mode():
            return [leaf.shape for leaf in _pytree.tree_leaves(module(*example)) if isinstance(leaf, torch.Tensor)]
    except torch_model.FOREIGN_ERRORS as error:
        raise PassError(f"prune: the module fails on its inputs ({type(error).__name__}: {error})") from error


def _outputs(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> list[torch.nn.Module]:
    """The layers whose output is the module's own: their width is the interface and stays."""
    import torch
    from torch.utils import _pytree

    makers: dict[int, torch.nn.Module] = {}
    alive: list[Any] = []  # a freed tensor's id may be given to another

    def note(layer: torch.nn.Module, _: Any, output: Any) -> None:
        makers[id(output)] = layer
        alive.append(output)

    hooks = [layer.register_forward_hook(note) for layer in module.modules() if not any(True for _ in layer.children())]
    result = module(*example)
    for hook in hooks:
        hook.remove()
    modules = [makers[id(leaf)] for leaf in _pytree.tree_leaves(result) if id(leaf) in makers]
    last = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1:]
    return modules or last
