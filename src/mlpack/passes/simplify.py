"""The simplify pass: constants folded, dead code gone, BatchNorm inside convolutions, transformer blocks fused.

Promises: the result was run beside its input on several batch sizes, lengths and right-padded masks, and agrees within
`TOLERANCE`; a step of the optimiser that fails or logs an error is an error here. Weights are not quantized and no layout of
the machine that builds is baked in.

Order matters. Fusion must come before quantization: an int8 MiniLM whose attention was fused first has 18 + 6 int8 nodes
instead of 36 and loads in a third of the time. Masks stay two-dimensional: the shorter form (a length per row) silently
assumes right padding.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack.errors import PassError
from mlpack.passes import check, graph

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-4
"""Fusions sum in another order: 3e-6 on MiniLM, 1e-6 on small CNNs."""

_FUSED = ("Attention", "MultiHeadAttention", "SkipLayerNormalization", "EmbedLayerNormalization", "BiasGelu", "Gelu", "FastGelu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Simplify:
    """What may come out: `engine` uses onnxruntime's own fused operators where they apply, `portable` standard ONNX only."""

    operators: Literal["engine", "portable"] = "engine"


def run(model_dir: Path, config: Simplify, out_dir: Path) -> None:
    """Simplifies the graph of `model_dir` into `out_dir`. Raises PassError when a step fails or numbers change."""
    original = graph.load(model_dir)
    before = Counter(node.op_type for node in original.graph.node)
    feeds = check.feeds(graph.signature_of(original), check.limits(original))
    reference = check.session(model_dir, "ORT_DISABLE_ALL")
    references = [check.run(reference, feed) for feed in feeds]
    notes: dict[str, Any] = {}
    for fuse in ("all", "without attention", "none") if config.operators == "engine" and _is_transformer(before) else ("none",):
        with tempfile.TemporaryDirectory(prefix="mlpack-simplify-") as scratch:
            model = _folded(graph.load(model_dir) if fuse == "none" else _fuse(graph.load(model_dir), attention=fuse == "all"), Path(scratch))
        graph.save(model, out_dir)
        opened = check.session(out_dir, "ORT_DISABLE_ALL")
        gap = max(check.difference(check.run(opened, feed), want) for feed, want in zip(feeds, references, strict=True))
        if gap <= TOLERANCE:
            break
        notes.setdefault("rejected", {})[fuse] = f"differs by {gap:.2e}"
    else:
        raise PassError(
            f"simplify: the simplified graph differs from its input by {gap:.2e}, more than {TOLERANCE:g}; the optimiser is wrong about "
            "this graph. Leave the step out and report the model"
        )
    after = Counter(node.op_type for node in model.graph.node)
    notes |= {"nodes_before": before.total(), "nodes": after.total(), "difference": float(f"{gap:.1e}"),
              "fused": {name: after[name] for name in _FUSED if after[name]}}  # fmt: skip
    graph.finish(model_dir, out_dir, notes)


def _is_transformer(operators: Counter[str]) -> bool:
    return operators["Softmax"] > 0 and operators["MatMul"] > 0 and operators["LayerNormalization"] + operators["ReduceMean"] > 0


def _fuse(model: onnx.ModelProto, *, attention: bool) -> onnx.ModelProto:
    """onnxruntime's transformer fusions. Head count and width are read from the graph."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    options.enable_attention = attention
    options.enable_gelu_approximation = False
    options.use_raw_attention_mask(True)
    with _errors_raised("onnxruntime.transformers"):
        try:
            fused = optimize_model(model, "bert", num_heads=0, hidden_size=0, optimization_options=options, opt_level=0)
        except (RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError) as error:
            raise PassError(f"simplify: transformer fusion failed ({type(error).__name__}: {error}); "
                            "use `operators: portable`, which leaves it out") from error  # fmt: skip
    result: onnx.ModelProto = fused.model
    return result


def _folded(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """The engine's own basic level: hardware-independent, and standard operators stay standard."""
    import onnxruntime

    (scratch / "in").mkdir()
    graph.save(model, scratch / "in")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(scratch / graph.MODEL)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", graph.DATA)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    try:
        onnxruntime.InferenceSession(str(scratch / "in" / graph.MODEL), options, providers=["CPUExecutionProvider"])
    except check.engine_errors() as error:
        raise PassError(f"simplify: the engine cannot optimise the graph: {str(error).strip()[:600]}") from error
    return graph.load(scratch)


@contextmanager
def _errors_raised(name: str) -> Iterator[None]:
    """Turns what a library only logs as an error into a PassError, and keeps its warnings off the screen."""
    records: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    logger = logging.getLogger(name)
    handler, propagate = Collect(level=logging.ERROR), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    if records:
        raise PassError(f"simplify: the optimiser reports: {'; '.join(records)[:600]}")
