"""A build, a package or a model explained: where its bytes and operations are, what each operator computes in, what stayed float.

Promises: of a build by its record alone; of a package by its verified bytes; of a model by its outline. Somebody else's damaged
files are an error that says so, and their names are words (`sinks`). It runs no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpack.core.files import plain_files, temporary
from mlpack.core.text import sinks, words
from mlpack.errors import PassError, RecipeError
from mlpack.graphs import files
from mlpack.graphs.facts import anatomy
from mlpack.graphs.facts.anatomy import Shapes
from mlpack.report import buildjson, summary
from mlpack.targets import shipped
from mlpack.targets.format import unpacking

BUILD, MODEL_DIR = "build.json", "model"
_ROWS = 12
"""Of a table for people; JSON has them all."""
_NAME_MOST = 80

Row = tuple[str, ...]


def of(path: Path, candidate: str | None = None, shapes: Shapes | None = None) -> dict[str, Any]:
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
        return _of_build(buildjson.read(path), candidate, path)
    _refuse(candidate, "a model")
    if path.is_dir() and not plain_files.is_there(path, files.MODEL):
        raise RecipeError(
            f"{path}: neither a build's directory ({BUILD}), a package's ({unpacking.PACKAGE}) nor a model's ({files.MODEL})"
        )
    return _of_model("model", path.name, path / files.MODEL if path.is_dir() else path, shapes)


def _refuse(candidate: str | None, what: str) -> None:
    if candidate is not None:
        raise RecipeError(f"--candidate is for a build: {what} is one model")


def _of_build(record: Mapping[str, Any], wanted: str | None, path: Path) -> dict[str, Any]:
    """One candidate as its build saw it."""
    ids = [one["id"] for one in record["candidates"]]
    if wanted is None and record["chosen"] is None:
        raise RecipeError(f"{path}: this build chose nothing: say which one with --candidate ({', '.join(ids) or 'it has none'})")
    name = wanted if wanted is not None else record["chosen"]
    one = next((one for one in record["candidates"] if one["id"] == name), None)
    if one is None:
        raise RecipeError(f"{path}: there is no candidate {name!r} (there are {', '.join(ids) or 'none'})")
    graph = one.get("graph")
    if graph is None:
        raise RecipeError(f"{path}: {name}: {_why_none(one)}")
    return {
        "kind": "build",
        "name": record["recipe"]["name"],
        "candidate": name,
        "status": summary.status(one, record["chosen"]),
        "parts": one["package"]["parts"],
        **graph,
    }


def _why_none(one: Mapping[str, Any]) -> str:
    if one["model"]["digest"] is None:
        why = one["reasons"][0] if one["reasons"] else "no reason was recorded"
        return f"no model was made ({summary.status(one, None)}: {why})"
    if "graph" not in one:
        return "the build's record does not say what the graph is made of: an mlpack before `explain` wrote it. Give the package"
    return "what its graph is made of could not be found out when it was built"


def _of_model(kind: str, name: str, path: Path, shapes: Shapes | None) -> dict[str, Any]:
    if not path.is_file():  # a pipe or a device would be read for ever
        raise RecipeError(f"{path}: not a file: put the model's own file there")
    model = files.load_file(path, outline=True)
    try:
        inputs = files.inputs_of(model).inputs
    except PassError:  # sequences, or inputs without a rank: there are no shapes to count operations for
        inputs = ()
    given = {spec.name: tuple(axis if isinstance(axis, int) else 1 for axis in spec.shape) for spec in inputs}
    if unknown := sorted(set(shapes or {}) - set(given)):
        raise RecipeError(f"--shape: {name} has no input {unknown[0]!r} (it has {', '.join(map(repr, given)) or 'none'})")
    found = anatomy.with_reasons(anatomy.of_file(path, given | dict(shapes or {})), {})
    return {"kind": kind, "name": name, "candidate": None, "status": None, "parts": None, **found}


# --- for people ---------------------------------------------------------------------------------------------------------


def text(found: Mapping[str, Any]) -> str:
    """Rows: the largest of each table, and how many more there are."""
    return "\n".join(_lines(found))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    of_ = "" if found["candidate"] is None else f": {_name(found['candidate'])} ({found['status']})"
    yield f"{_name(found['name'])}{of_}"
    if found["parts"]:
        known = [f"{name} {words.size(size)}" for name, size in found["parts"].items() if size is not None]
        yield f"package: {', '.join(known)}" if known else "no package was made"
    yield f"weights: {words.size(found['size_bytes'])}; {words.count(found['nodes'], 'node')}; {work(found)}"
    for heading, rows in tables(found):
        yield ""
        yield heading
        yield from (f"  {line}" for line in _aligned(rows[:_ROWS]))
        if len(rows) > _ROWS:
            yield f"  ... and {len(rows) - _ROWS:,} more"


def work(found: Mapping[str, Any]) -> str:
    """How many operations a call takes, and of what shapes."""
    counted = found["operations"]
    if counted is None:
        return "operations are not known"
    shapes = ", ".join(f"{_name(name)} {axes}" for name, axes in counted["inputs"].items())
    unknown = counted["unknown_shapes"]
    partly = f", without {words.count(unknown, 'tensor')} of unknown shape" if unknown else ""
    return f"{_million(counted['total'])} operations for {shapes or 'no inputs'}{partly}"


def tables(found: Mapping[str, Any]) -> list[tuple[str, list[Row]]]:
    """Each table that has rows: its heading, and cells as they are shown."""
    total = found["size_bytes"] or 1
    layers = [
        (_name(row["layer"] or "(read by nobody)"), words.size(row["size_bytes"]), _share(row["size_bytes"], total),
         words.count(row["tensors"], "tensor"))
        for row in found["layers"] if row["size_bytes"]
    ]  # fmt: skip
    tensors = [
        (_name(row["name"]), words.size(row["size_bytes"]), _name(f"{row['dtype']} {row['shape']}"), _name(row["layer"] or "–"))
        for row in found["tensors"] if row["size_bytes"] >= total / 200
    ]  # fmt: skip
    operators = [
        (_name(row["precision"]), _name(row["operator"]), words.count(row["count"], "node"), words.size(row["size_bytes"]),
         "–" if row["operations"] is None else _million(row["operations"]))
        for row in found["operators"]
    ]  # fmt: skip
    kept = [
        (_name(row["node"]), _name(row["operator"] or "–"), words.size(row["size_bytes"]), _part(row["operations"], found),
         "" if row["damage"] is None else f"damage {words.number(row['damage'], 2)}", _name(row["why"] or "no reason was recorded"))
        for row in found["kept_float"]
    ]  # fmt: skip
    headings = ("size by layer type", "largest tensors", "operators by precision", "kept float")
    named: list[tuple[str, Sequence[Row]]] = list(zip(headings, (layers, tensors, operators, kept), strict=True))
    return [(heading, list(rows)) for heading, rows in named if rows]


def _name(text: object) -> str:
    return sinks.line(text, _NAME_MOST)


def _share(size: int, total: int) -> str:
    return f"{100 * size / total:.0f} %"


def _part(operations: int | None, found: Mapping[str, Any]) -> str:
    counted = found["operations"] or {"total": 0, "unknown_shapes": 0}
    if operations is None or not counted["total"]:
        return "–"
    # A share of what is known says nothing where much is not.
    whole = not counted["unknown_shapes"]
    return f"{_share(operations, counted['total'])} of operations" if whole else f"{_million(operations)} operations"


def _million(count: float) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return f"{words.number(count / scale)} {unit}"
    return f"{count:.0f}"


def _aligned(rows: Sequence[Row]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
