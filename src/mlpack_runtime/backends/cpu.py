"""onnxruntime on the processor, as a backend: the engine's own C library, through `ort`.

Promises: predictions are the engine's, bit for bit; threads as the package says. Will not: restrict sizes; every size
that the graph takes is taken.
"""

from mlpack_runtime import model, ort
from mlpack_runtime.backend import BackendError, Shapes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.tensor import Tensor


class CpuBackend:
    """An open session of the CPU provider."""

    kind = "cpu"
    device = "cpu"

    def __init__(self, session: ort.Session) -> None:
        self.session = session
        self.inputs = session.inputs
        self.outputs = session.outputs

    def shapes(self) -> Shapes:
        """Every size."""
        return Shapes()

    def run(self, feeds: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Every output. Raises BackendError."""
        try:
            return self.session.run(feeds)
        except ort.OrtError as error:
            raise BackendError(str(error), self.sort_of(str(error), error.code)) from error

    @staticmethod
    def sort_of(message: str, code: int) -> str:
        """What an error of the engine means."""
        return "input" if ort.is_refusal(message, code) else "device"

    def close(self) -> None:
        """Release the session."""
        self.session.close()


def load(directory: str, settings: "Mapping[str, Any]") -> CpuBackend:
    """Open the graph that model.json names, or the one that it names for the processor (`cpu_graph`), where the device's own has
    types that this engine lacks. Raises BackendError, ModelError for a package that is not whole."""
    settings = {**settings, "graph": settings.get("cpu_graph") or settings["graph"]}
    engine = ort.Engine(model.library("lib/libonnxruntime.so", "the engine"))
    return CpuBackend(model.open_session(engine, directory, settings))
