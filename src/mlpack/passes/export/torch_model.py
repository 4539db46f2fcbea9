"""A PyTorch model as a directory: torch.json, code/, weights.safetensors, edits.json.

Promises:
- The module is in evaluation mode with exactly the weights of the directory, and nothing in the directory is written.
- Weights are safetensors, or a `.pt` file read with `weights_only`: no pickle is ever executed.
- The factory is the user's own code and runs. An exception in it is a PassError that quotes it.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.core.files import bounded, zips
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.export import extras

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from mlpack.core.records import TensorSpec

DESCRIPTION = "torch.json"
CODE = "code"
WEIGHTS = "weights.safetensors"
PICKLED = "weights.pt"
EDITS = "edits.json"

# Whatever a user's factory or a framework may raise; KeyboardInterrupt and SystemExit pass through.
FOREIGN_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError, LookupError, MemoryError, NameError,
    OSError, RuntimeError, SyntaxError, SystemError, TypeError, ValueError,
)  # fmt: skip
_UNREADABLE: tuple[type[Exception], ...] = (*FOREIGN_ERRORS, *zips.DAMAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The content of torch.json: `module:function` inside code/, and the positional inputs in order."""

    factory: str
    inputs: tuple[TensorSpec, ...]


def describe(model_dir: Path) -> Description:
    """Reads torch.json. Raises PassError when it is missing or damaged."""
    try:
        value = bounded.load_json(model_dir / DESCRIPTION)
        described = Description(factory=str(value["factory"]), inputs=files.specs_of(value["inputs"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PassError(f"{DESCRIPTION}: missing or damaged ({error})") from error
    if described.factory.count(":") != 1 or not described.inputs:
        raise PassError(f"{DESCRIPTION}: needs a factory 'module:function' and at least one input")
    return described


@contextmanager
def opened(model_dir: Path) -> Iterator[tuple[torch.nn.Module, Description]]:
    """The module in evaluation mode with its weights. Its code can be imported inside the `with` only."""
    described = describe(model_dir)
    with importable(model_dir / CODE):
        yield _loaded(model_dir, described), described


@contextmanager
def importable(code: Path) -> Iterator[None]:
    """A context with `code` first on the import path; afterwards it and all modules from it are removed. It writes no bytecode."""
    own = {path.stem if path.is_file() else path.name for path in code.iterdir()} if code.is_dir() else set()
    aside = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in own}
    wrote = sys.dont_write_bytecode
    sys.path.insert(0, str(code))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = wrote
        sys.path.remove(str(code))
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]
        sys.modules.update(aside)


def _loaded(model_dir: Path, described: Description) -> torch.nn.Module:
    import torch

    module = _built(described.factory)
    replay(module, read_edits(model_dir))
    if (model_dir / WEIGHTS).is_file():
        _load_safetensors(module, model_dir / WEIGHTS)
    elif (model_dir / PICKLED).is_file():
        _load_pickled(module, model_dir / PICKLED)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.to(torch.device("cpu")).eval()


def _built(factory: str) -> torch.nn.Module:
    """Call the factory with a fixed seed, so that a model without a weights file is the same every time."""
    import torch

    module_name, _, function = factory.partition(":")
    try:
        build = getattr(importlib.import_module(module_name), function)
    except FOREIGN_ERRORS as error:
        if missing := extras.missing(error):
            raise missing from None
        raise PassError(
            f"factory {factory!r} cannot be imported: {type(error).__name__}: {error}; "
            "is it 'module:function' beside the recipe, with every module it imports?"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            module = build()
        except FOREIGN_ERRORS as error:
            if missing := extras.missing(error):
                raise missing from None
            raise PassError(
                f"factory {factory!r} raised {type(error).__name__}: {error}; "
                "it is called without arguments and must return a module"
            ) from error
    if not isinstance(module, torch.nn.Module):
        raise PassError(f"factory {factory!r} returned {type(module).__name__}, not a torch.nn.Module")
    return module


def _load_safetensors(module: torch.nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        load_model(module, path, strict=True)
    except SafetensorError as error:
        raise PassError(f"{path.name}: not a complete safetensors file ({error}); it was probably cut off") from error
    except RuntimeError as error:
        raise PassError(_mismatch(path, error)) from error


def _load_pickled(module: torch.nn.Module, path: Path) -> None:
    try:
        module.load_state_dict(read_pickled(path), strict=True)
    except RuntimeError as error:
        raise PassError(_mismatch(path, error)) from error


def _mismatch(path: Path, error: RuntimeError) -> str:
    return (
        f"{path.name} does not fit the module that the factory returns: {error}\n"
        "The weights are probably from another version of the code, or were saved with a prefix ('module.', '_orig_mod.')"
    )


def read_weights(model_dir: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every tensor of a directory, by the name of its safetensors file. A pickled state dict comes back as safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors_by_file: dict[str, dict[str, torch.Tensor]] = {}
    for path in sorted(model_dir.glob("*.safetensors")):
        try:
            tensors_by_file[path.name] = load_file(path)
        except SafetensorError as error:
            raise PassError(f"{path.name}: not a complete safetensors file ({error}); it was probably cut off") from error
    if not tensors_by_file:
        pickled = [path for pattern in ("pytorch_model.bin", PICKLED) for path in model_dir.glob(pattern)]
        if not pickled:
            raise PassError("prune: no weights (*.safetensors) in the model's directory")
        name = WEIGHTS if pickled[0].name == PICKLED else "model.safetensors"
        tensors_by_file[name] = {key: tensor.contiguous().clone() for key, tensor in read_pickled(pickled[0]).items()}
    return tensors_by_file


def read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a `torch.save` file, without executing what it may hold. Raises PassError for anything else."""
    import pickle

    import torch

    try:
        _check_size(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of pickle protocols before it refuses what they hold
            value: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PassError(
            f"{path.name}: holds more than tensors, and loading it would run code from the file, which mlpack never does. "
            "Save the state dict as safetensors (safetensors.torch.save_file(model.state_dict(), ...))"
        ) from error
    except _UNREADABLE as error:
        raise PassError(f"{path.name}: cannot be read ({error}); it was probably cut off") from error
    if not isinstance(value, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in value.values()):
        raise PassError(f"{path.name}: is not a state dict; save model.state_dict(), best as safetensors")
    # One stored number can be a tensor of any shape (strides of 0), and copies of it have all of them.
    dense = (each for each in value.values() if each.layout is torch.strided)
    bounded.fits_in_memory(sum(each.numel() * each.element_size() for each in dense), path.name, PassError)
    return value


def _check_size(path: Path) -> None:
    """Raise PassError when the content of a checkpoint does not fit into memory, and an error of `zips.DAMAGE` for a zip that torch
    must not read: its own reader accepts a directory of any size and inflates everything."""
    import zipfile

    with path.open("rb") as file:
        needed = os.fstat(file.fileno()).st_size
        if zipfile.is_zipfile(file):
            with zips.opened(file) as archive:
                needed = sum(entry.file_size for entry in archive.infolist())
    bounded.fits_in_memory(needed, path.name, PassError)


def read_edits(model_dir: Path) -> list[dict[str, Any]]:
    """The removals that structured pruning recorded: `{"module", "kind", "indices"}` in order; none when there is no file."""
    path = model_dir / EDITS
    if not path.is_file():
        return []
    try:
        edits = bounded.load_json(path)["removals"]
        return [{"module": str(e["module"]), "kind": str(e["kind"]), "indices": [int(i) for i in e["indices"]]} for e in edits]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PassError(f"{EDITS}: damaged ({error}); build the pruned model again") from error


def replay(module: torch.nn.Module, edits: list[dict[str, Any]]) -> None:
    """Removes recorded channels from a fresh module, layer by layer, without tracing it. Raises PassError when they do not fit."""
    if not edits:
        return
    from torch_pruning import ops
    from torch_pruning.pruner import function

    kinds = {"out": "prune_out_channels", "in": "prune_in_channels"}
    for edit in edits:
        try:
            layer = module.get_submodule(edit["module"])
            pruner = function.PrunerBox[ops.module2type(layer)]
            getattr(pruner, kinds[edit["kind"]])(layer, edit["indices"])
        except FOREIGN_ERRORS as error:
            raise PassError(
                f"{EDITS}: cannot remove {edit['kind']} channels of {edit['module']!r} ({error}); "
                "the factory has changed since pruning"
            ) from error
