"""Explain a build, a package or a model: where its bytes and operations are, what its operators compute in, which layers stayed
float.

Promises:
- A build is explained by its record alone, a package by its verified bytes, a model by its outline.
- A damaged file is an error that says so, and its names are escaped (`sinks`).

Will not: run a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpack.core.files import plain_files, temporary
from mlpack.core.text import sinks, words
from mlpack.errors import PassError, RecipeError
from mlpack.graphs import files
from mlpack.graphs.facts import anatomy
from mlpack.graphs.facts.anatomy import Shapes
from mlpack.report import summary
from mlpack.report.record import BuildRecord, reading
from mlpack.report.record import files as record_files
from mlpack.report.record.candidates import CandidateRecord, PartSizesRecord, StageRecord
from mlpack.report.record.graphs import GraphRecord
from mlpack.targets import shipped
from mlpack.targets.format import unpacking

BUILD, MODEL_DIR = "build.json", "model"
_ROWS = 12
"""Rows of a table for people; JSON has all rows."""
_NAME_MOST = 80

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where the bytes and the operations of a model are, what its operators compute in, and what stayed float and why.

    Attributes:
        kind: `build`, `package` or `model`.
        name: Of the recipe, or of the directory or file.
        candidate: Of a build: its id.
        status: Of a build: the candidate's, in words.
        parts: Of a build: the package's bytes by what they are for.
        stages_ms: Of a build whose recipe has budgets of stages: the stages of a request.
        notes: Of a build: what hooks need, and what was left out of it.
        graph: Where the bytes and operations are, what each operator computes in, and what stayed float.
    """

    kind: str
    name: str
    candidate: str | None = None
    status: str | None = None
    parts: PartSizesRecord | None = None
    stages_ms: Mapping[str, StageRecord] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    graph: GraphRecord

    def text(self) -> str:
        """The explanation for people: the largest rows of each table, and how many more there are."""
        return "\n".join(_lines(self))

    def to_json(self) -> dict[str, Any]:
        """What `mlpack explain --json` prints: the keys of `candidates[].graph` in `build.json`, and these before them."""
        about = {"kind": self.kind, "name": self.name, "candidate": self.candidate, "status": self.status}
        stages = {"stages_ms": {name: stage.to_json() for name, stage in self.stages_ms.items()}} if self.stages_ms else {}
        return about | {"parts": None if self.parts is None else self.parts.to_json()} | stages | self.graph.to_json()


def of(path: Path, candidate: str | None = None, shapes: Shapes | None = None) -> Explanation:
    """What is at `path`: a build's directory or build.json, a package's directory, a model's directory or ONNX file.

    `candidate`: which of a build (None: the chosen). `shapes`: of inputs, for a package or model; axes that are open count as one
    where it says nothing. RecipeError where there is nothing to explain, PackError and PassError for what is damaged.
    """
    if path.is_dir() and plain_files.is_there(path, unpacking.PACKAGE):
        _refuse(candidate, "a package")
        with temporary.directory("explain") as work:
            folder = shipped.unpack(path, work / "task") / MODEL_DIR
            return _of_model("package", path.name, folder / files.MODEL, shapes)
    if path.suffix == ".json" or (path.is_dir() and plain_files.is_there(path, BUILD)):
        if shapes:
            raise RecipeError("--shape is for a package or a model: a build's operations are counted for its evaluation data")
        return _of_build(record_files.read(path), candidate, path)
    _refuse(candidate, "a model")
    if path.is_dir() and not plain_files.is_there(path, files.MODEL):
        raise RecipeError(
            f"{path}: neither a build's directory ({BUILD}), a package's ({unpacking.PACKAGE}) nor a model's ({files.MODEL})"
        )
    return _of_model("model", path.name, path / files.MODEL if path.is_dir() else path, shapes)


def _refuse(candidate: str | None, what: str) -> None:
    if candidate is not None:
        raise RecipeError(f"--candidate is for a build: {what} is one model")


def _of_build(record: BuildRecord, candidate_id: str | None, path: Path) -> Explanation:
    """One candidate as its build saw it."""
    ids = [one.id for one in record.candidates]
    if candidate_id is None and record.chosen is None:
        raise RecipeError(f"{path}: this build chose nothing: say which one with --candidate ({', '.join(ids) or 'it has none'})")
    name = candidate_id if candidate_id is not None else record.chosen
    one = record.candidate(name)
    if one is None:
        raise RecipeError(f"{path}: there is no candidate {name!r} (there are {', '.join(ids) or 'none'})")
    if one.graph is None:
        raise RecipeError(f"{path}: {name}: {_why_none(one)}")
    return Explanation(
        kind="build",
        name=record.recipe.name,
        candidate=name,
        status=summary.status(one, record.chosen),
        parts=one.package.parts,
        stages_ms=one.stages_ms,
        notes=tuple(note for note in one.package.notes if note.startswith("requirements of hooks")),
        graph=one.graph,
    )


def _why_none(one: CandidateRecord) -> str:
    if one.model.digest is None:
        why = one.reasons[0] if one.reasons else "no reason was recorded"
        return f"no model was made ({summary.status(one, None)}: {why})"
    return (
        "the build's record does not say what the graph is made of: it could not be read when it was built, or an mlpack before "
        "`explain` wrote it. Give the package"
    )


def _of_model(kind: str, name: str, path: Path, shapes: Shapes | None) -> Explanation:
    if not path.is_file():  # a pipe or a device would be read for ever
        raise RecipeError(f"{path}: not a file: put the model's own file there")
    model = files.load_file(path, outline=True)
    try:
        inputs = files.inputs_of(model).inputs
    except PassError:  # sequences, or inputs without a rank: there are no shapes to count operations for
        inputs = ()
    input_shapes = {spec.name: tuple(axis if isinstance(axis, int) else 1 for axis in spec.shape) for spec in inputs}
    if unknown := sorted(set(shapes or {}) - set(input_shapes)):
        raise RecipeError(f"--shape: {name} has no input {unknown[0]!r} (it has {', '.join(map(repr, input_shapes)) or 'none'})")
    facts = anatomy.with_reasons(anatomy.of_file(path, input_shapes | dict(shapes or {})), {})
    problems: list[str] = []
    graph = reading.value_of(GraphRecord, reading.as_json(facts), problems)
    if problems:  # dimensions of a damaged tensor whose product is no number that could be shown
        raise PassError(f"{path}: what its graph is made of cannot be told ({problems[0]}): the file is damaged")
    return Explanation(kind=kind, name=name, graph=graph)


# --- for people ---------------------------------------------------------------------------------------------------------


def _lines(explained: Explanation) -> Iterator[str]:
    graph = explained.graph
    of_ = "" if explained.candidate is None else f": {_name(explained.candidate)} ({explained.status})"
    yield f"{_name(explained.name)}{of_}"
    if explained.parts is not None:
        sizes = [f"{name} {words.size(size)}" for name, size in explained.parts.to_json().items() if size is not None]
        yield f"package: {', '.join(sizes)}" if sizes else "no package was made"
    if explained.stages_ms:
        stages = [f"{name} {words.ms(stage.p95)}" for name, stage in explained.stages_ms.items()]
        yield f"stages of a request, p95: {', '.join(stages)}"
    yield from (sinks.line(note) for note in explained.notes)
    yield f"weights: {words.size(graph.size_bytes)}; {words.count(graph.nodes, 'node')}; {work(graph)}"
    for heading, rows in tables(graph):
        yield ""
        yield heading
        yield from (f"  {line}" for line in _aligned(rows[:_ROWS]))
        if len(rows) > _ROWS:
            yield f"  ... and {len(rows) - _ROWS:,} more"


def work(graph: GraphRecord) -> str:
    """The number of operations for a call, and its shapes."""
    counts = graph.operations
    if counts is None:
        return "operations are not known"
    shapes = ", ".join(f"{_name(name)} {list(axes)}" for name, axes in counts.inputs.items())
    unknown = counts.unknown_shapes
    partly = f", without {words.count(unknown, 'tensor')} of unknown shape" if unknown else ""
    return f"{_million(counts.total)} operations for {shapes or 'no inputs'}{partly}"


def tables(graph: GraphRecord) -> list[tuple[str, list[Row]]]:
    """Each table that has rows: its heading, and cells as they are shown."""
    total = graph.size_bytes or 1
    layers = [
        (_name(row.layer or "(read by nobody)"), words.size(row.size_bytes), _share(row.size_bytes, total),
         words.count(row.tensors, "tensor"))
        for row in graph.layers if row.size_bytes
    ]  # fmt: skip
    tensors = [
        (_name(row.name), words.size(row.size_bytes), _name(f"{row.dtype} {list(row.shape)}"), _name(row.layer or "–"))
        for row in graph.tensors if row.size_bytes >= total / 200
    ]  # fmt: skip
    operators = [
        (_name(row.precision), _name(row.operator), words.count(row.count, "node"), words.size(row.size_bytes),
         "–" if row.operations is None else _million(row.operations))
        for row in graph.operators
    ]  # fmt: skip
    float_rows = [
        (_name(row.node), _name(row.operator or "–"), words.size(row.size_bytes), _part(row.operations, graph),
         "" if row.damage is None else f"damage {words.number(row.damage, 2)}", _name(row.why or "no reason was recorded"))
        for row in graph.kept_float
    ]  # fmt: skip
    headings = ("size by layer type", "largest tensors", "operators by precision", "kept float")
    titled: list[tuple[str, Sequence[Row]]] = list(zip(headings, (layers, tensors, operators, float_rows), strict=True))
    return [(heading, list(rows)) for heading, rows in titled if rows]


def _name(text: object) -> str:
    return sinks.line(text, _NAME_MOST)


def _share(size: int, total: int) -> str:
    return f"{100 * size / total:.0f} %"


def _part(operations: int | None, graph: GraphRecord) -> str:
    graph_work = graph.operations
    if operations is None or graph_work is None or not graph_work.total:
        return "–"
    # A share of the known operations means little where many are unknown.
    whole = not graph_work.unknown_shapes
    return f"{_share(operations, graph_work.total)} of operations" if whole else f"{_million(operations)} operations"


def _million(count: float) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return f"{words.number(count / scale)} {unit}"
    return f"{count:.0f}"


def _aligned(rows: Sequence[Row]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
