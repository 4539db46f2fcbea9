"""The export pass: a PyTorch or Hugging Face directory becomes an ONNX directory.

Promises:
- The engine runs the graph on several random inputs, batch sizes and paddings, and every output agrees with the eager model
  within the tolerance. A difference is an error, never a warning.
- notes.json says which exporter was used and why the others were not.
- No pickle is executed, no remote code trusted, no network used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack.core.files import bounded, temporary
from mlpack.core.records import Signature
from mlpack.errors import PassError
from mlpack.graphs import check, files, quiet, trials
from mlpack.passes.export import extras, huggingface, pooling, ports, torch_model

if TYPE_CHECKING:
    import onnx
    import torch

    from mlpack.core.records import TensorSpec

TOLERANCE = 1e-4
"""Eager and engine sum in different orders: MiniLM differs by 3e-6, so a real mistake is far above this."""

OPSET = 18
"""Both exporters and the engine's fusions support it best; the older exporter stops at 20."""

_ONE_FILE_BYTES = 512 << 20
"""Of weights: the newer exporter writes more of them beside the graph, from the module's own memory. In one file with the graph
they are in memory three times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """How to export."""

    exporter: Literal["auto", "optimum", "dynamo", "torchscript"] = "auto"
    """`auto` tries the one that knows most about the source first, and the older one when its numbers differ from eager's."""
    opset: int = OPSET
    """ONNX operator set of the graph."""
    task: str | None = None
    """Hugging Face only: feature-extraction, text-classification, ...; read from the model's config when not given."""
    tolerance: float = TOLERANCE
    """Largest difference from eager: relative to the largest output value if that exceeds 1, else absolute."""
    examples: Path | None = None
    """Directory of recorded calls (calls.json, calls.bin) on which the graph is compared with eager."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """An eager model of any format: the function to call, its inputs, and the names of its outputs and axes."""

    module: torch.nn.Module
    inputs: tuple[TensorSpec, ...]
    limits: dict[str, int]
    eager: Callable[[check.Feed], dict[str, Any]]
    invention: ports.Invention | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    """The recipe's own, as far as they are known before the graph is."""


@dataclass(frozen=True, slots=True)
class _Call:
    """The task of an exporter: a source, example inputs, the names of its outputs, the opset."""

    source: _Source
    example: dict[str, Any]
    outputs: tuple[str, ...]
    opset: int


def run(model_dir: Path, config: Export, out_dir: Path) -> None:
    """Export `model_dir` (huggingface or torch) into `out_dir`. Raises PassError when no exporter gives the same numbers."""
    if (model_dir / torch_model.DESCRIPTION).is_file():
        if config.exporter == "optimum":
            raise PassError("export: optimum knows Hugging Face directories only; use 'dynamo' or 'torchscript' for a torch source")
        with quiet.exporters(), torch_model.opened(model_dir) as (module, described):
            calls = trials.recorded(config.examples, model_dir, Signature(inputs=described.inputs, outputs=()))
            source = _torch_source(module, described, calls)
            notes = _first_that_agrees(source, config, ("dynamo", "torchscript"), out_dir)
    else:
        with quiet.exporters():
            notes = _export_huggingface(model_dir, config, out_dir)
    files.finish(out_dir, out_dir, notes)


def _export_huggingface(model_dir: Path, config: Export, out_dir: Path) -> dict[str, Any]:
    def recorded(model: huggingface.LoadedModel) -> list[dict[str, Any]]:
        """The recipe's calls, their texts as the package's tokenizer reads them, which may not be the directory's own."""
        with temporary.directory("tokenizer") as scratch:
            if config.examples is not None:
                huggingface.write_tokenizer(model_dir, Path(scratch), model)
            return trials.recorded(config.examples, Path(scratch), Signature(inputs=model.inputs, outputs=()))

    model = huggingface.load(model_dir, config.task, recorded)
    calls = recorded(model)
    try:
        notes = _export_loaded(model, config, out_dir, calls)
    except PassError as error:
        if (fixed := huggingface.pinned(model_dir, model, calls)) is None:
            raise
        model, free = fixed, str(error)
        notes = {**_export_loaded(model, config, out_dir, calls), "fixed": f"height and width, since with free ones {free}"[:600]}
    huggingface.write_tokenizer(model_dir, out_dir, model)
    huggingface.write_labels(out_dir, model)
    return {**notes, "task": model.task, "pooling": model.pooling.mode if model.pooling else None,
            "normalize": bool(model.pooling and model.pooling.normalize), "max_length": model.max_length}  # fmt: skip


def _export_loaded(model: huggingface.LoadedModel, config: Export, out_dir: Path, calls: list[dict[str, Any]]) -> dict[str, Any]:
    source = _Source(
        module=huggingface.positional(model),
        inputs=model.inputs,
        limits=dict(model.limits),
        eager=lambda feed: huggingface.eager(model, feed),
        invention=model.invention,
        calls=calls,
    )
    order = ("optimum", "dynamo", "torchscript") if huggingface.known_to_optimum(model) else ("dynamo", "torchscript")
    return _first_that_agrees(source, config, order, out_dir, model)


def _torch_source(module: torch.nn.Module, described: torch_model.Description, calls: list[dict[str, Any]]) -> _Source:
    import torch

    def eager(feed: check.Feed) -> dict[str, Any]:
        with torch.inference_mode():
            values = [torch.from_numpy(feed[spec.name]) for spec in described.inputs]
            try:
                return _outputs_by_name(module(*values))
            except torch_model.FOREIGN_ERRORS as error:
                shapes = {name: tuple(array.shape) for name, array in feed.items()}
                raise PassError(
                    f"the module itself fails on inputs of shapes {shapes}: {type(error).__name__}: {error}; "
                    "are the recipe's inputs in the order and of the shapes that forward() takes?"
                ) from error

    return _Source(module=module, inputs=described.inputs, limits={}, eager=eager, calls=calls)


def _outputs_by_name(value: Any) -> dict[str, Any]:
    """A module's result as arrays by name: a dictionary's keys, `output`, or `output_0`, `output_1`, ..."""
    import torch
    from torch.utils import _pytree

    if isinstance(value, Mapping):
        leaves = {str(key): leaf for key, leaf in value.items() if leaf is not None}
    else:
        flat = [leaf for leaf in _pytree.tree_leaves(value) if leaf is not None]
        leaves = {"output" if len(flat) == 1 else f"output_{i}": leaf for i, leaf in enumerate(flat)}
    wrong = {type(leaf).__name__ for leaf in leaves.values() if not isinstance(leaf, torch.Tensor)}
    if wrong or not leaves:
        types = ", ".join(sorted(wrong)) or "nothing"
        raise PassError(f"the module returns {types}; it must return tensors: one, a tuple, or a dict of them")
    return {name: leaf.numpy() for name, leaf in leaves.items()}


def _first_that_agrees(
    source: _Source, config: Export, order: tuple[str, ...], out_dir: Path, model: huggingface.LoadedModel | None = None
) -> dict[str, Any]:
    """Try exporters in order, keep the first graph that agrees with eager, and record why the others were not used."""
    if config.exporter != "auto":
        if config.exporter not in order:
            raise PassError(f"export: {config.exporter!r} does not know this architecture; use one of {', '.join(order)}")
        order = (config.exporter,)
    trial_data, example = _trials(source)
    references = [list(outputs.values()) for outputs in trial_data.references]
    names = model.outputs if model is not None else tuple(trial_data.references[0])
    rejected: dict[str, str] = {}
    for exporter in order:
        try:
            with _exported(exporter, _Call(source, example, names, config.opset), model, out_dir) as graph:
                files.save(graph, out_dir)
            gap = _gap(out_dir, source.inputs, trial_data.feeds, references)
        except PassError as error:
            rejected[exporter] = str(error)
        else:
            if gap <= config.tolerance:
                return {"exporter": exporter, "opset": config.opset, "difference": float(f"{gap:.1e}"), "rejected": rejected,
                        "compared_on": trial_data.compared_on}  # fmt: skip
            rejected[exporter] = f"differs from the eager model by {gap:.2e}, more than {config.tolerance:g}"
        files.clear(out_dir)
    reasons = "\n".join(f"  {name}: {reason}" for name, reason in rejected.items())
    raise PassError(f"no exporter gives a graph that agrees with the eager model:\n{reasons}")


def _trials(source: _Source) -> tuple[trials.Trials, dict[str, Any]]:
    """The inputs for the comparison, and the example inputs for an exporter."""
    signature = Signature(inputs=source.inputs, outputs=())
    if source.invention is None:
        trial_data = trials.of_signature(source.eager, signature, source.limits, source.calls)
        return trial_data, trial_data.example(signature)
    own = trials.of_calls(source.eager, signature, [*source.calls])
    try:
        feeds, eager = ports.fitting(source.eager, source.invention)
    except PassError:
        if not own.feeds:
            raise
        # No generated input fits, which is no reason to refuse a model that accepts the recipe's own.
        feeds, eager = trials.accepted(source.eager, ports.doubled(source.calls, source.inputs))
        trial_data = replace(own, feeds=(*own.feeds, *feeds), references=(*own.references, *eager))
        return trial_data, trial_data.example(signature)
    return replace(own, feeds=(*own.feeds, *feeds), references=(*own.references, *eager)), feeds[1]


def _gap(out_dir: Path, inputs: tuple[TensorSpec, ...], feeds: Sequence[dict[str, Any]], references: list[list[Any]]) -> float:
    """The largest difference of the written graph from eager. Raises PassError when its inputs are not the expected ones."""
    signature = files.read_signature(out_dir)
    got = {spec.name: spec for spec in signature.inputs}
    for spec in inputs:
        if spec.name not in got:
            raise PassError(f"input {spec.name!r} is missing from the graph: the module does not use it, or it was made a constant")
        if got[spec.name].shape != spec.shape:
            raise PassError(f"input {spec.name!r} came out as {got[spec.name].shape}, not {spec.shape}: an axis was fixed")
    opened = check.session(out_dir)
    return max(check.difference(check.run(opened, feed), want) for feed, want in zip(feeds, references, strict=True))


@contextmanager
def _exported(exporter: str, call: _Call, model: huggingface.LoadedModel | None, place: Path) -> Iterator[onnx.ModelProto]:
    """A context with one exporter's graph, its weights in a file below `place`: the framework has its own in memory. An exception
    of the exporter becomes a PassError with its name."""
    with temporary.directory("export", place) as scratch:
        path = scratch / files.MODEL
        try:
            if exporter == "optimum" and model is not None:
                huggingface.export_with_optimum(model, path, call.opset)
            else:
                _export_torch(call, path, dynamo=exporter == "dynamo")
        except torch_model.FOREIGN_ERRORS as error:
            if missing := extras.missing(error):
                raise missing from None  # another exporter's graph would hide that the installation is not whole
            reason = str(error).strip().splitlines() or [""]
            raise PassError(f"the exporter raised {type(error).__name__}: {reason[0][:400]}") from error
        bounded.give_back()
        exported = files.load_file(path, outline=True)
        _name_axes(exported, call.source.inputs)
        if model is not None and model.pooling is not None:
            pooling.append_pooling(exported, model.pooling)
        yield exported


def _export_torch(call: _Call, path: Path, *, dynamo: bool) -> None:
    import torch

    source = call.source
    arguments = tuple(torch.from_numpy(call.example[spec.name]) for spec in source.inputs)
    axes = {spec.name: {i: axis for i, axis in enumerate(spec.shape) if isinstance(axis, str)} for spec in source.inputs}
    common: dict[str, Any] = {
        "input_names": [spec.name for spec in source.inputs],
        "output_names": list(call.outputs),
        "opset_version": call.opset,
    }
    if dynamo:
        shapes = tuple(axes[spec.name] or None for spec in source.inputs)
        parameters = list(inspect.signature(source.module.forward).parameters.values())
        variadic = len(parameters) == 1 and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
        common |= {
            "dynamic_shapes": (shapes,) if variadic else shapes,
            "verbose": False,
            "external_data": _bytes_of(source.module) > _ONE_FILE_BYTES,
        }
    else:
        batch = {spec.shape[0] for spec in source.inputs if spec.shape and isinstance(spec.shape[0], str)}
        dynamic = {name: axis_names for name, axis_names in axes.items() if axis_names}
        if len(batch) == 1:
            dynamic |= {name: {0: str(next(iter(batch)))} for name in call.outputs}
        common |= {"dynamic_axes": dynamic}
    torch.onnx.export(source.module, arguments, str(path), dynamo=dynamo, **common)


def _bytes_of(module: torch.nn.Module) -> int:
    """The bytes of a module's weights, each counted once."""
    return sum(each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers()))


def _name_axes(exported: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> None:
    """Give symbolic axes the source's names, in inputs and in outputs that share them."""
    specs = {spec.name: spec for spec in inputs}
    renamed: dict[str, str] = {}
    for value in exported.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            axis_name = specs[value.name].shape[axis] if value.name in specs else None
            if dim.dim_param and isinstance(axis_name, str):
                renamed[dim.dim_param] = axis_name
    files.rename_axes(exported, renamed)
