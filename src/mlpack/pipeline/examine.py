"""What a candidate's graph is made of, found out once and kept in the store.

Promises: a rebuild reads what is there and loads no framework; operations are counted for the shapes that the evaluation data have
most often. It runs no model.
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
                usual = dict(estimate.filled(estimate.usual_shapes(evaluation.dir, folder, signature), 1))
            except PassError:
                usual = None
            (entry.dir / _FILE).write_bytes(canonical_json(anatomy.of_file(folder / files.MODEL, usual)))
    return transform.read_json(entry.dir / _FILE)
