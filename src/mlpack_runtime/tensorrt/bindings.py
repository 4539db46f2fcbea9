"""TensorRT's Python bindings, from a package's own `site/` and `lib/`, or from wherever this interpreter has them.

Promises: what is missing is a BindingsError that says which file or package, and why. Will not: be imported on the way to an
answer of a CPU package.
"""

import os
import sys
from ctypes import CDLL

from mlpack_runtime.tensorrt.engine_key import BINDINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BUILDERS = {**BINDINGS, "lean": "tensorrt"}
"""By flavour: the module that builds an engine. The lean runtime builds none; what it runs is the full TensorRT's work."""

LEAN = (
    "the lean runtime runs engines and builds none. Where the full TensorRT of the same version is installed beside this package, "
    "on this kind of GPU, run `python -I bootstrap.py engine build` (not with -S, which hides what is installed): it publishes to "
    'MLPACK_ENGINES, and this image finds it there (docs/tensorrt.md, "Engines for the lean runtime")'
)
"""What to do about an engine that is not there, in an image of the lean runtime."""

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_LIBRARIES = ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so", "libnvinfer.so", "libnvonnxparser.so", "libnvinfer_lean.so")


class BindingsError(RuntimeError):
    """TensorRT cannot be imported here."""


def load(flavour: str, root: str = ROOT, *, to_build: bool = False) -> "Any":
    """The module that runs this flavour's engines, or that builds them. Raises BindingsError."""
    site, libraries = os.path.join(root, "site"), os.path.join(root, "lib")
    if os.path.isdir(site) and site not in sys.path:
        sys.path.append(site)
    name = BUILDERS[flavour] if to_build else BINDINGS[flavour]
    try:
        # The bindings link to these by name: one that is loaded already is taken, wherever it lies.
        for path in _in_order(libraries):
            CDLL(path)
        __import__(name)  # as `backend` does
        return sys.modules[name]
    except (ImportError, OSError) as error:
        raise BindingsError(
            f"TensorRT ({flavour}) cannot be loaded: {error}. Its Python module {name} was looked for in {site} and this "
            f"interpreter's packages, its libraries in {libraries}"
        ) from None


def _in_order(folder: str) -> "list[str]":
    """The libraries of TensorRT in this folder, each after those it needs."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for known in _LIBRARIES for name in names if name.startswith(known)]
