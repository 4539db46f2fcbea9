"""The anatomy of a candidate's graph, computed once and kept in the store.

Promises:
- A rebuild reads the stored result and loads no framework.
- Operations are counted for the shapes that most calls of the evaluation data have.

Will not: run a model.
"""

from __future__ import annotations

from typing import Any

from mlpack.core.digest import canonical_json
from mlpack.core.records import Model
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.graphs.facts import anatomy
from mlpack.pipeline import transform
from mlpack.pipeline.evidence import Data
from mlpack.store.local import Store

_FILE = "anatomy.json"


def graph_of(model: Model, evaluation: Data, store: Store) -> dict[str, Any]:
    """The anatomy of an ONNX model's tree. PassError for a graph that cannot be read."""
    action = {"kind": "anatomy", "version": anatomy.VERSION, "model": str(model.tree), "data": str(evaluation.tree)}
    with store.entry(action) as entry:
        if not entry.hit:
            from mlpack.pipeline.estimates import estimate

            folder = store.path(model.tree)
            try:
                signature = files.inputs_of(files.outline(folder))
                usual = dict(estimate.fill_batch(estimate.usual_shapes(evaluation.dir, folder, signature), 1))
            except PassError:
                usual = None
            (entry.dir / _FILE).write_bytes(canonical_json(anatomy.of_file(folder / files.MODEL, usual)))
    return transform.read_json(entry.dir / _FILE)
