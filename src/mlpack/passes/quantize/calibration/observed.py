"""Small numbers about a graph's large tensors, call by call: nodes that are added to the graph compute them.

Promises:
- The graph is written once and its weights stay in their files. A call costs the memory of the numbers that are asked for.

Will not: know anything of quantization.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlpack.core.files import temporary
from mlpack.evaluation.data import reader
from mlpack.graphs import check, files
from mlpack.graphs.foreign import versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import onnx

    from mlpack.graphs.spill import Spill

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCalls:
    """The calls for an observation: recorded calls of the model in `model_dir`, at most so many, and a place for new weights and a
    copy of the graph."""

    model_dir: Path
    calls: Path
    samples: int
    spilled: Spill


class ObservedGraph:
    """A graph with more nodes, whose results are observed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = type(model).FromString(model.SerializeToString())
        self._version = versions.of(model)
        self._results: dict[str, int] = {}

    def add(self, node: onnx.NodeProto, *stored: onnx.TensorProto) -> None:
        """Add a node, and tensors for it."""
        self._model.graph.node.append(node)
        self._model.graph.initializer.extend(stored)

    def table(self, tensor: str, columns: int) -> str:
        """The tensor as rows of so many columns."""
        import numpy as np
        from onnx import helper, numpy_helper

        names, shape = f"{tensor}/rows", f"{tensor}/shape/{columns}"
        self.add(
            helper.make_node("Reshape", [tensor, shape], [names], name=names),
            numpy_helper.from_array(np.array([-1, columns]), shape),
        )
        return names

    def reduce(self, kind: str, tensor: str, axes: Sequence[int]) -> None:
        """Observe a tensor's largest absolute values (`ReduceMax`) or its means (`ReduceMean`) along these axes: a vector."""
        import numpy as np
        from onnx import helper, numpy_helper

        result = f"{tensor}/{kind}"
        if kind == "ReduceMax":
            self.add(helper.make_node("Abs", [tensor], [f"{tensor}/abs"], name=f"{tensor}/abs"))
            tensor = f"{tensor}/abs"
        if self._version >= 18:
            places = numpy_helper.from_array(np.array(axes), f"{result}/axes")
            self.add(helper.make_node(kind, [tensor, places.name], [result], name=result, keepdims=0), places)
        else:
            self.add(helper.make_node(kind, [tensor], [result], name=result, axes=list(axes), keepdims=0))
        self._results[result] = 1

    def rows(self, table: str, count: int) -> None:
        """Observe the first so many rows of a table."""
        import numpy as np
        from onnx import helper, numpy_helper

        ends = [numpy_helper.from_array(np.array([end]), f"{table}/{end}") for end in (0, count)]
        result = f"{table}/first"
        self.add(helper.make_node("Slice", [table, *(end.name for end in ends), ends[0].name], [result], name=result), *ends)
        self._results[result] = 2

    def seen(self, on: RecordedCalls) -> Iterator[list[Array]]:
        """The observed values, in their order, call by call. PassError when the calls do not fit."""
        import onnx

        signature = files.signature_of(self._model)
        del self._model.graph.output[:]
        kind = onnx.TensorProto.FLOAT
        ends = (onnx.helper.make_tensor_value_info(name, kind, [None] * rank) for name, rank in self._results.items())
        self._model.graph.output.extend(ends)
        with temporary.directory("observed", on.spilled.folder) as folder:
            files.save(self._model, folder)
            opened = check.session(folder, "ORT_DISABLE_ALL")
            for feed in islice(reader.read(on.calls, on.model_dir, signature), on.samples):
                yield check.run(opened, feed)
