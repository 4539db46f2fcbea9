"""What a pass is, and the table of the ones we have.

A pass is a plain function `(model_dir, config, out_dir) -> None`: it reads one directory, fills another (which exists and is
empty), leaves its input untouched and raises `PassError` on failure. Adding one is a file, a row here and a line of docs.

A directory holds a model in one of these formats:

huggingface   what `from_pretrained` reads: config.json, model.safetensors, tokenizer.json, ...; mlpack.inputs.json where the recipe
              says `inputs:` (a list of name, dtype and shape)
torch         torch.json (`factory`, `inputs`), code/ (the user's own Python files), weights.safetensors, and edits.json when
              structured pruning has removed channels: the list of removals to replay before the weights are loaded
sklearn       estimator.json (`factory`), code/ (the user's own files), signature.json (`inputs`)
xgboost       model.json or model.ubj, signature.json (`inputs`)
lightgbm      model.txt, signature.json (`inputs`)
onnx          model.onnx, model.onnx.data when weights lie outside, signature.json (`inputs`, `outputs`), tokenizer.json for text;
              labels.json where the model has classes with names: {"0": "negative", ...} (config.json's id2label), carried along by
              every pass;
              cpu.onnx (and cpu.onnx.data) where the CPU engine cannot run model.onnx: its numerical twin, for measuring accuracy

Whatever the format, notes.json may hold what the last pass wants on record (which exporter won, what was kept float).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mlpack.core import plugins
from mlpack.core.plugins import Plugin
from mlpack.passes import convert, export, optimize, precision, prune, quantize, simplify, tensorrt

Run = Callable[[Path, Any, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A row of the table.

    `takes`, `gives`: formats; a pass that gives "same" keeps the format it was given. `version` is raised by hand when the output
    of the same input would change. `tools`: distributions whose versions belong in the action. `repeatable`: twice gives one
    digest. `binds`: fields of the config that the build fills with a directory (`calibration`, `evaluation`, and `examples`: a few
    evaluation calls to compare on); its digest, not its path, goes into the action. `tolerance`: largest absolute difference of any
    output from the input model's on the same data, None where the pass changes the function on purpose. `short`: the field that a
    bare value in a recipe means (`precision: int8`). `machine`: of a config, what of this machine decides the result beside `tools`
    (a GPU). `calibrates`: whether a config cannot do without calibration data on the graph of a directory. `plugin`: the
    distribution that added the row, which the table fills in; None of ours.
    """

    run: Run
    config: type
    takes: tuple[str, ...]
    gives: str
    version: int
    tools: tuple[str, ...]
    repeatable: bool = True
    binds: tuple[str, ...] = ()
    tolerance: float | None = None
    short: str | None = None
    machine: Callable[[Any], str] | None = None
    calibrates: Callable[[Any, Path], bool] | None = None
    plugin: Plugin | None = None


_OWN: dict[str, Pass] = {
    "export": Pass(
        run=export.run,
        config=export.Export,
        takes=("huggingface", "torch"),
        gives="onnx",
        version=5,
        tools=("torch", "onnx", "onnxscript", "optimum-onnx", "transformers", "torch-pruning", "onnxruntime"),
        binds=("examples",),
        tolerance=export.TOLERANCE,
    ),
    "convert": Pass(
        run=convert.run,
        config=convert.Convert,
        takes=("sklearn", "xgboost", "lightgbm"),
        gives="onnx",
        version=5,
        tools=("skl2onnx", "scikit-learn", "xgboost", "xgboost-cpu", "lightgbm", "onnx", "onnxruntime"),
        binds=("evaluation",),
        tolerance=convert.TOLERANCE,
    ),
    "simplify": Pass(
        run=simplify.run,
        config=simplify.Simplify,
        takes=("onnx",),
        gives="onnx",
        version=4,
        tools=("onnx", "onnxruntime", "sympy"),
        binds=("examples",),
        tolerance=simplify.TOLERANCE,
    ),
    "quantize": Pass(
        run=quantize.run,
        config=quantize.Quantize,
        takes=("onnx",),
        gives="onnx",
        version=11,
        tools=("onnx", "onnxruntime"),
        binds=("calibration",),
        short="method",
        calibrates=quantize.calibrates,
    ),
    "prune": Pass(
        run=prune.run,
        config=prune.Prune,
        takes=("huggingface", "torch"),
        gives="same",
        version=3,
        tools=("torch", "torch-pruning", "transformers"),
        binds=("calibration",),
    ),
    "precision": Pass(
        run=precision.run,
        config=precision.Precision,
        takes=("onnx",),
        gives="onnx",
        version=4,
        tools=("onnx", "onnxruntime", "sympy", "ml-dtypes"),
        binds=("calibration", "examples"),
        short="type",
        calibrates=precision.calibrates,
    ),
    "optimize": Pass(
        run=optimize.run,
        config=optimize.Optimize,
        takes=("onnx",),
        gives="onnx",
        version=7,
        tools=("onnx", "onnxruntime"),
        binds=("examples",),
        tolerance=optimize.TOLERANCE,
    ),
    "tensorrt": Pass(
        run=tensorrt.run,
        config=tensorrt.Tensorrt,
        takes=("onnx",),
        gives="onnx",
        version=1,
        tools=("tensorrt_rtx_cu12_libs", "tensorrt_rtx_cu12_bindings", "tensorrt", "onnx", "onnxruntime"),
        binds=("evaluation",),
        tolerance=0.0,
        short="builder",
        machine=tensorrt.machine,
    ),
}


def _adopted(row: object, plugin: Plugin) -> Pass:
    """The row of a plug-in. ValueError says what is wrong with it."""
    if not isinstance(row, Pass):
        raise ValueError(f"is {type(row).__name__}, not mlpack.passes.Pass")
    known = plugins.of_config(row.config, row.binds)
    without = {field.name for field in fields(row.config) if field.default is field.default_factory is MISSING}
    if lacking := sorted(without.intersection((*row.binds, "arch"))):
        raise ValueError(f"has a config without a default for {' and '.join(lacking)}, which the build fills in")
    if row.short is not None and row.short not in known:
        raise ValueError(f"names {row.short!r} as short, which is no field of its config")
    for name in ("takes", "tools", "binds"):
        value = getattr(row, name)
        if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
            raise ValueError(f"has {value!r} as {name}, which is a tuple of strings")
    if not row.takes or not isinstance(row.gives, str) or not isinstance(row.version, int):
        raise ValueError("does not say what it takes (formats), what it gives (a format, or same) and its version (a number)")
    return replace(
        row,
        run=plugins.guarded(row.run, plugin),
        machine=row.machine and plugins.guarded(row.machine, plugin, str),
        calibrates=row.calibrates and plugins.guarded(row.calibrates, plugin, bool),
        # So that its version is in the action of every step that it does.
        tools=tuple(dict.fromkeys((*row.tools, plugin.distribution))),
        plugin=plugin,
    )


PASSES: plugins.Table[Pass] = plugins.Table("mlpack.passes", "pass", _OWN, _adopted)
"""Ours (`PASSES.own`), and those of the installed plug-ins."""
