"""The optimize pass: onnxruntime's own optimisation, done once at build time instead of at every cold start.

Promises: the saved graph loads with optimisation off (`engine.json` says so) and agrees with its input. Only rewrites that do
not depend on the machine that builds are kept: blocked convolution layouts are not, so a float graph with convolutions is
still optimised when it is loaded, which `engine.json` says too. Twice gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack import temporary
from mlpack.digest import canonical_json
from mlpack.errors import PassError
from mlpack.graphs import check, files

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-3
"""Float graphs agree to 1e-5; the wider bound is for the table, where int8 graphs are allowed a rounding step."""

ENGINE = "engine.json"
_QUANTIZED = ("MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "QAttention", "QuantizeLinear")
_MACHINE_DEPENDENT = ["NchwcTransformer"]
_LEVEL_OFF, _LEVEL_ALL = 0, 99
_INLINE_BYTES = 64 * 1024  # measured: 38 outside tensors instead of 143 make a MiniLM session in 36 ms of CPU instead of 45


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimize:
    """How far to optimise ahead of loading, for the target's processor."""

    arch: Literal["x86_64", "arm64"] | None = None
    """Keeps s8 activations for arm64 where x86-64 wants u8."""
    level: Literal["extended", "basic"] = "extended"
    """onnxruntime's own levels: `basic` folds and removes, `extended` also fuses."""


def run(model_dir: Path, config: Optimize, out_dir: Path) -> None:
    """Optimises the graph of `model_dir` into `out_dir`. Raises PassError when the engine refuses it or numbers change."""
    original = files.outline(model_dir)
    before = Counter(node.op_type for node in original.graph.node)
    quantized = any(before[name] for name in _QUANTIZED)
    entries = {"session.qdqisint8allowed": "1"} if config.arch == "arm64" else {}
    # A float graph with convolutions needs the blocked layout of the machine it runs on, which only loading can give it.
    level = _LEVEL_ALL if before["Conv"] and not quantized else _LEVEL_OFF
    basic = config.level == "basic" or level == _LEVEL_ALL
    with temporary.directory("optimize", out_dir) as scratch:
        model = _optimised(model_dir, entries, scratch, basic=basic)
        after = Counter(node.op_type for node in model.graph.node)
        files.save(model, out_dir, _INLINE_BYTES)
    (out_dir / ENGINE).write_bytes(canonical_json({"graph_optimization_level": level, "session": entries}))
    # An int8 graph run node by node rounds elsewhere than its fused form: compare with what the engine makes of it itself.
    reference = partial(check.run, check.session(model_dir, "ORT_ENABLE_EXTENDED" if quantized else "ORT_DISABLE_ALL", entries))
    feeds, wanted = check.fitting(reference, files.signature_of(original), check.limits(original))
    del reference  # two open sessions of a large model are its bytes twice
    opened = check.session(out_dir, "ORT_DISABLE_ALL", entries)
    gap = max(check.difference(check.run(opened, feed), want) for feed, want in zip(feeds, wanted, strict=True))
    if gap > TOLERANCE:
        raise PassError(f"optimize: the optimised graph differs from its input by {gap:.2e}, more than {TOLERANCE:g}; "
                        "use `level: basic`, and report the model")  # fmt: skip
    notes: dict[str, Any] = {"nodes_before": before.total(), "nodes": after.total(), "difference": float(f"{gap:.1e}"),
                             "graph_optimization_level": level}  # fmt: skip
    files.finish(model_dir, out_dir, notes)


def _optimised(model_dir: Path, entries: dict[str, str], scratch: Path, *, basic: bool) -> onnx.ModelProto:
    # Level "all" less blocked layouts is "extended" and channels-last for int8 convolutions, which any processor runs alike.
    level = "ORT_ENABLE_BASIC" if basic else "ORT_ENABLE_ALL"
    try:
        check.save_optimised(model_dir / files.MODEL, scratch / files.MODEL, level, entries, leave_out=_MACHINE_DEPENDENT)
    except check.engine_errors() as error:
        raise PassError(f"optimize: the engine refuses the graph: {str(error).strip()[:600]}") from error
    return files.outline(scratch)
