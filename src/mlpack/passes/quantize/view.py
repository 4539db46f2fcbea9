"""A graph's tensors as quantizers see them: makers and readers (`graphs.readers`), and the results of the engine's 8-bit kernels.

Promises:
- It changes nothing.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from mlpack.graphs.readers import Readers

if TYPE_CHECKING:
    import onnx

_LIMITS = ("Clip", "Max", "Min")
"""With constants, they cut off what a range does not hold. So does Relu, which the engine removes itself."""
JOINS = ("Concat", "Add", "Mul")
"""Operators whose inputs are all data."""


class View(Readers):
    """A graph's tensors, with the data inputs and results of the engine's 8-bit kernels."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model.graph)

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node that carries 8 bits which are data."""
        names = list(node.input) if node.op_type in JOINS else list(node.input[:1])
        return [name for name in names if name]

    def clipped(self, tensor: str) -> str:
        """The result of an 8-bit kernel: behind the limits that rounding into a range replaces, or the tensor itself."""
        reader = self.only_reader(tensor)
        return tensor if reader is None or self._limits(reader, tensor) is None else str(reader.output[0])

    def is_clipped(self, tensor: str) -> bool:
        """Whether only a Relu or Clip reads it. Before one the engine makes no integer product with a float result (onnxruntime
        1.31.1): it keeps the float product, and dequantizes its weights at each call."""
        nodes = self.readers[tensor]
        return len(nodes) == 1 and nodes[0].op_type in ("Relu", "Clip") and nodes[0].input[0] == tensor

    def is_limit(self, node: onnx.NodeProto) -> bool:
        """Whether a node limits its one tensor by constants."""
        return any(self._limits(node, name) is not None for name in node.input if name not in self.stored)

    def is_rounded_away(self, node: onnx.NodeProto) -> bool:
        """Whether these are limits that the engine does not remove itself, as it does a Relu."""
        names = [name for name in node.input if name and name not in self.stored]
        limits = self._limits(node, names[0]) if len(names) == 1 and node.op_type in _LIMITS else None
        return limits is not None and not (node.op_type == "Clip" and limits[0] == 0)

    def _limits(self, node: onnx.NodeProto, tensor: str) -> tuple[float, float] | None:
        """The constants, with zero between them, that limit a tensor; None where the node is something else."""
        if node.domain:
            return None
        if node.op_type == "Relu":
            return 0.0, inf
        if node.op_type == "Clip" and node.input[0] == tensor:
            names = [*node.input[1:], "", ""][:2]
            bounds = [self.scalar(name) if name else nothing for name, nothing in zip(names, (-inf, inf), strict=True)]
        elif node.op_type in ("Max", "Min") and len(node.input) == 2:
            other = self.scalar(next((name for name in node.input if name != tensor), ""))
            bounds = [other, inf] if node.op_type == "Max" else [-inf, other]
        else:
            return None
        low, high = bounds
        return (low, high) if low is not None and high is not None and low <= 0 <= high else None
