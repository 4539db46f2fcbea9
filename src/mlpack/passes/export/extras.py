"""Names the extra of mlpack-build that brings a package which only some sources need.

Promises:
- It reports a package that is not installed, never one that is installed but damaged or too old.
"""

from __future__ import annotations

import importlib.util

from mlpack.core.distribution import install

EXTRAS = {
    **dict.fromkeys(("torch", "onnxscript", "safetensors", "torch_pruning"), "torch"),
    **dict.fromkeys(("transformers", "optimum"), "huggingface"),
    "tensorrt_rtx_bindings": "tensorrt-rtx",
    **dict.fromkeys(("sklearn", "skl2onnx", "xgboost", "lightgbm"), "classical"),
}
"""The extra of pyproject.toml, by the name of the import."""


def missing(error: BaseException | None) -> ModuleNotFoundError | None:
    """The missing package of an extra, if its absence is the root cause of `error`; else None."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name is not None and _is_absent(error.name):
            return error
        error = error.__cause__ or error.__context__
    return None


def way_out(error: ModuleNotFoundError, source: str) -> str:
    """The extra to install. `source`: the recipe's kind of source, since huggingface needs everything of torch and more."""
    package = str(error.name).partition(".")[0]
    extra = "huggingface" if source == "huggingface" and EXTRAS[package] == "torch" else EXTRAS[package]
    return f"needs the Python package {package}, which is not installed here: {install(extra)}"


def _is_absent(name: str) -> bool:
    package = name.partition(".")[0]
    # Several distributions bring a part of `optimum`: that one of them is here says nothing of its exporter.
    return package in EXTRAS and (package == "optimum" or importlib.util.find_spec(package) is None)
