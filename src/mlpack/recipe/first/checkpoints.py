"""What a file of torch.save holds, by a look at its directory and at the names in its pickle. Nothing of it is executed.

Promises: bounded; a file that cannot be read so is told as a RecipeError, with what to write instead.
"""

from __future__ import annotations

import pickletools
from pathlib import Path

from mlpack.core.files import zips
from mlpack.errors import RecipeError

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_READ_MOST = 64 << 20
_OF_TENSORS = ("torch", "collections", "numpy", "_codecs", "builtins", "__builtin__")
"""Modules that the pickle of a state dict names; of torch only what rebuilds tensors."""


def check(path: Path) -> None:
    """RecipeError unless this may be a dictionary of weights, which `weights` of a torch source takes."""
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                return  # the form before torch 1.6: read by the build, or refused there
            file.seek(0)
            with zips.opened(file) as archive:
                names = [member.filename for member in archive.infolist()]
                if any(name.partition("/")[2].startswith("code/") for name in names):
                    raise RecipeError(_script(path))
                inside = [m for m in archive.infolist() if m.filename.partition("/")[2] == "data.pkl" and m.file_size <= _READ_MOST]
                if not inside:
                    raise RecipeError(f"{path} is a zip, and none that torch.save writes: it holds no data.pkl")
                modules = _modules(archive.read(inside[0]))
    except (OSError, ValueError, MemoryError, *zips.DAMAGE) as error:
        raise RecipeError(f"{path} cannot be read as a file of torch.save: {error}") from None
    if strange := sorted(modules):
        raise RecipeError(_whole(path, strange[0]))


def _modules(pickled: bytes) -> set[str]:
    """The classes that only somebody's code can make, by what the pickle names."""
    names: set[str] = set()
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickled):
        if "UNICODE" in opcode.name:
            texts.append(str(argument))
        elif opcode.name == "GLOBAL":
            names.add(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
            names.add(".".join(texts[-2:]))
    return {name for name in names if name.partition(".")[0] not in _OF_TENSORS or name.startswith("torch.nn.modules")}


def _script(path: Path) -> str:
    return (
        f"{path} is TorchScript, which holds code beside its weights, and mlpack runs no code of a file. Write it as ONNX once:\n"
        f'  python -c \'import torch; m = torch.jit.load("{path.name}").eval(); torch.onnx.export(m, '
        '(torch.zeros(1, 3, 224, 224),), "model.onnx", input_names=["input"], '
        'dynamic_axes={"input": {0: "batch"}}, dynamo=False)\'\n'
        "with an input of your model's own shape, and give model.onnx to `mlpack init`; or name the function that makes the module"
        " (source: {torch: module:function}) with its weights as safetensors"
    )


def _whole(path: Path, name: str) -> str:
    return (
        f"{path} is a pickle of a whole module or checkpoint (it names {name}), which only running it could open. Write its weights"
        " alone, where you trust it:\n"
        f'  python -c \'import torch; m = torch.load("{path.name}", weights_only=False);'
        ' torch.save(m.state_dict(), "weights.pt")\'\n'
        "and give weights.pt to `mlpack init`, with a function that makes the module (source: {torch: module:function})"
    )
