"""Reads the users' evaluation or calibration data into the form of `calls`.

Sources: an `.npz` file (one array a model input, optional `labels`), a `.jsonl` file of texts, or `module:function`, an
iterable of `(inputs, labels)`.

Promises:
- No pickle is ever opened.
- Element types change only where nothing is lost (float64 becomes float32; integers only widen).
- Data that does not fit the model is a `RecipeError` that says how to mend it.
- Nothing is allocated for sizes that a file merely states: they are checked against its bytes and against the free memory
  (MLPACK_MAX_DATA_MB) before anything is read.
- `fingerprint` needs no numpy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mlpack.core import digest, entrypoint
from mlpack.core.digest import Digest
from mlpack.core.entrypoint import EntryPoint
from mlpack.core.files import bounded, zips
from mlpack.core.records import Signature
from mlpack.errors import RecipeError
from mlpack.evaluation.data import labels as plain_labels
from mlpack.evaluation.data.calls import CallsWriter
from mlpack.evaluation.data.shaping import CallLayout, converted, labels_of, misfits, misnamed, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Text = str | tuple[str, str]
LABELS = "labels"
_FORMS = ({"query", "document"}, {"text"}, {"text", "text_pair"})
_PROBLEMS_SHOWN = 20
_END = object()
LINE_BYTES = 16 << 20
"""The longest line of texts: more than any model reads."""
_ROW_BYTES = 1024
"""The memory of a row beside its values: its call, its digest, Python's objects."""
_LABEL_BYTES = 64
_CHECKED_EACH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The result of reading. `texts`: whether the calls hold texts, not tensors."""

    reference: str
    calls: int
    samples: int
    labelled: bool
    texts: bool


def fingerprint(reference: str, roots: tuple[Path, ...]) -> Digest:
    """A digest for the data without reading it: of the file's bytes, or of the function's code and the user's modules beside it.

    It does not cover what a function reads from elsewhere: such data should be in a file. Raises RecipeError when it is missing.
    """
    if entrypoint.is_reference(reference):
        return digest.of_json(["function", str(entrypoint.content(entrypoint.locate(reference, roots)))])
    path = roots[0] / reference
    try:
        return digest.of_json(["file", path.suffix, str(digest.of_file(path))])
    except OSError as error:
        raise RecipeError(f"{reference}: cannot be read: {error.strerror} ({path})") from None


def read(
    reference: str, signature: Signature, roots: tuple[Path, ...], out_dir: Path, *, tokenised: bool, batch: int = 1
) -> Dataset:
    """Reads the data and writes the calls form into `out_dir` (which exists and is empty).

    `tokenised`: the package takes texts. `batch`: samples a call, where the model leaves that open. Raises RecipeError.
    """
    with CallsWriter(out_dir) as writer:
        if entrypoint.is_reference(reference):
            labels = _from_function(entrypoint.locate(reference, roots), signature, writer, tokenised)
        elif reference.endswith(".jsonl"):
            texts, labels = _from_texts(roots[0] / reference, reference, tokenised, paired=reads_pairs(signature))
            for start in range(0, len(texts), batch):
                writer.texts(texts[start : start + batch])
        elif reference.endswith(".npz"):
            labels = _from_arrays(_load_npz(roots[0] / reference, reference, signature), signature, writer, batch, reference)
        else:
            raise RecipeError(f"{reference} is neither an .npz file, a .jsonl file of texts nor `module:function`")
        if not writer.count:
            raise RecipeError(f"{reference} holds no samples")
        writer.finish(labels)
        first = json.loads((out_dir / "calls.json").read_bytes())[0]
        return Dataset(
            reference=reference,
            calls=writer.count,
            samples=writer.samples,
            labelled=labels is not None,
            texts="texts" in first,
        )


def _load_npz(path: Path, reference: str, signature: Signature) -> dict[str, Array]:
    import zipfile

    import numpy as np

    if not path.is_file():
        raise RecipeError(f"{reference}: there is no such file ({path})")
    if not zipfile.is_zipfile(path):
        raise RecipeError(f"{reference} is no .npz file (or a truncated one): write it with numpy.savez")
    arrays: dict[str, Array] = {}
    problems = []
    try:
        with path.open("rb") as file, zips.opened(file) as archive:
            members = archive.infolist()
            needed = 2 * sum(member.file_size for member in members)
            bounded.fits_in_memory(needed, f"{reference}, as its directory says,", RecipeError)
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name == member.filename:
                    problems.append(f"{reference}: {member.filename!r:.200} is not an array; an .npz file holds nothing else")
                    continue
                if name in arrays:
                    problems.append(f"{reference}: {name!r:.200} is there twice, and two readers could see two different ones")
                    continue
                try:
                    with archive.open(member) as stream:
                        needed += _bookkeeping(stream, member.file_size, name, signature)
                    bounded.fits_in_memory(needed, reference, RecipeError)
                    with archive.open(member) as stream:
                        arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
                except (ValueError, TypeError, OverflowError) as error:
                    problems.append(f"{reference}: {name:.200}: {_npy_problem(error)}")
    except (OSError, ValueError, *zips.DAMAGE) as error:
        raise RecipeError(f"{reference} is damaged: {error}") from None
    except MemoryError:
        raise RecipeError(f"{reference} says it holds more than fits into this machine's memory") from None
    if problems:
        raise RecipeError(*problems[:_PROBLEMS_SHOWN])
    return arrays


def _bookkeeping(stream: IO[bytes], size: int, name: str, signature: Signature) -> int:
    """The memory of an array in an .npz file beside its own bytes: rows become calls and labels Python's numbers.

    ValueError when its header states more than there is.
    """
    import numpy as np

    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):  # numpy writes 3.0 only for records whose fields have names beyond Latin-1
        raise ValueError(f"its form {'.'.join(map(str, version))} is for records with named fields; store plain arrays")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if any(axis < 0 for axis in shape):
        raise ValueError(f"its header says the shape {shown(shape)}")
    needed = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and needed > size - stream.tell():
        raise ValueError(f"its header says {needed:,} bytes and {size - stream.tell():,} are there")
    axes = {spec.name: len(spec.shape) for spec in signature.inputs}
    if name in axes:
        return math.prod(shape[: 2 if len(shape) > axes[name] else 1]) * _ROW_BYTES
    return max((math.prod(shape[:depth]) for depth in range(1, len(shape) + 1)), default=1) * _LABEL_BYTES


def _npy_problem(error: Exception) -> str:
    if "allow_pickle" in str(error):
        return "holds Python objects (a pickle), which are never opened: store plain numbers or strings (not dtype=object)"
    return f"cannot be read: {error}"


def _from_arrays(
    arrays: dict[str, Array], signature: Signature, writer: CallsWriter, batch: int, reference: str
) -> list[Any] | None:
    names = tuple(spec.name for spec in signature.inputs)
    labels = arrays.pop(LABELS, None) if LABELS not in names else None
    problems = misnamed(tuple(arrays), names)
    fitting = {}
    for spec in signature.inputs:
        if spec.name in arrays:
            array, problem = converted(arrays[spec.name], spec)
            problems += [problem] if problem else []
            if array is not None:
                fitting[spec.name] = array
    layout = CallLayout(fitting, signature, batch)
    problems += layout.problems
    sample_labels, per_call = labels_of(labels, layout) if labels is not None else (None, layout.samples_per_call)
    problems += layout.label_problems
    if problems:
        raise RecipeError(*(f"{reference}: {problem}" for problem in problems))
    for feed, rows in layout.feeds(per_call):
        writer.tensors(feed, rows)
    return sample_labels


def reads_pairs(signature: Signature) -> bool:
    """Whether a query and its document are one input: the model has a head (a cross-encoder) and returns no vectors to compare."""
    return any(spec.name.endswith("logits") for spec in signature.outputs)


def _from_texts(path: Path, reference: str, tokenised: bool, *, paired: bool) -> tuple[list[Text], list[Any] | None]:
    if not tokenised:
        raise RecipeError(
            f"{reference} holds texts, and this model takes tensors: without a tokenizer nothing can turn them into any"
        )
    rows = _parse_texts(path, reference)
    if rows and "query" in rows[0]:
        if paired:
            return [(row["query"], row["document"]) for row in rows], None
        return [row["query"] for row in rows] + [row["document"] for row in rows], [*range(len(rows)), *range(len(rows))]
    labels = [row["label"] for row in rows] if rows and "label" in rows[0] else None
    return [(row["text"], row["text_pair"]) if "text_pair" in row else row["text"] for row in rows], labels


def _parse_texts(path: Path, reference: str) -> list[dict[str, Any]]:
    """Every line of the file, all of one form. Queries and documents become all queries, then all documents, labelled by their
    number, or pairs where the model reads both together. Other lines are a text, or a pair, and its label."""
    rows: list[tuple[int, dict[str, Any]]] = []
    problems: list[str] = []
    more = 0
    for number, line in _lines(path, reference):
        if not line.strip():
            continue
        row, problem = _text_row(line)
        if problem and len(problems) < _PROBLEMS_SHOWN:
            problems.append(f"{reference}:{number}: {problem}")
        elif problem:
            more += 1
        if row is not None and not problems:
            rows.append((number, row))
    kinds = {tuple(sorted(row)): number for number, row in reversed(rows)}
    if len(kinds) > 1:
        summary = "; ".join(f"line {number} has {' and '.join(kind)}" for kind, number in sorted(kinds.items(), key=lambda k: k[1]))
        problems.append(f"{reference}: every line needs the same keys: {summary}")
    if problems:
        raise RecipeError(*problems, *([f"{reference}: and {more} more"] if more else []))
    return [row for _, row in rows]


def _lines(path: Path, reference: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file by number, from 1. RecipeError for a line that is invalid, or if all of them do not fit into memory."""
    needed = number = 0
    try:
        with path.open("rb") as stream:
            while line := stream.readline(LINE_BYTES + 1):
                number += 1
                if len(line) > LINE_BYTES:
                    raise RecipeError(f"{reference}:{number}: has more than {LINE_BYTES:,} bytes: cut it, no model reads so much")
                needed += 2 * len(line) + _ROW_BYTES
                if number % _CHECKED_EACH == 1:
                    bounded.fits_in_memory(needed, f"{reference} up to its line {number:,}", RecipeError)
                yield number, line
    except OSError as error:
        raise RecipeError(f"{reference}: cannot be read: {error.strerror} ({path})") from None


def _text_row(line: bytes) -> tuple[dict[str, Any] | None, str | None]:
    try:
        row = bounded.load_json(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None, "is not UTF-8"
    except (ValueError, RecursionError) as error:
        return None, f"is not JSON: {str(error)[:200]}"
    if not isinstance(row, dict) or set(row) - {"label"} not in _FORMS or set(row) == {"query", "document", "label"}:
        return None, 'must be {"query", "document"}, {"text", "label"} or {"text"}, of pairs {"text", "text_pair", "label"}'
    for key in row.keys() - {"label"}:
        if not isinstance(row[key], str) or not _encodable(row[key]):
            return None, f"{key} must be a string of text"
    problem = plain_labels.problem(row.get("label", 0))
    return (None, problem) if problem else (row, None)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _from_function(entry: EntryPoint, signature: Signature, writer: CallsWriter, tokenised: bool) -> list[Any] | None:
    """Run the user's function once, call by call. The first call that does not fit ends it, with all of its problems."""
    function = entrypoint.load(entry)
    labels: list[Any] = []
    unlabelled = 0
    with entrypoint.importing(entry):
        with entrypoint.quoting(entry, f"calling {entry.reference}"):
            items = iter(function())
        while True:
            with entrypoint.quoting(entry, f"reading call {writer.count} of {entry.reference}"):
                item = next(items, _END)
                if item is _END:
                    break
                item = _as_arrays(item)
            labels_taken, problems = _take(item, signature, writer, tokenised)
            if problems:
                raise RecipeError(*(f"{entry.reference}: call {writer.count}: {problem}" for problem in problems))
            labels += labels_taken or []
            unlabelled += labels_taken is None
    if unlabelled and labels:
        raise RecipeError(f"{entry.reference}: {unlabelled} calls have no labels and the others have: all or none")
    return labels or None


def _as_arrays(item: Any) -> Any:
    """`(inputs, labels)` with arrays for whatever can become one (a tensor, a list); texts stay texts."""
    import numpy as np

    if not isinstance(item, tuple | list) or len(item) != 2:
        return item
    inputs, labels = item
    if isinstance(inputs, Mapping):
        inputs = {str(name): np.asarray(value) for name, value in inputs.items()}
    return inputs, plain_labels.arrays(labels)


def _take(item: Any, signature: Signature, writer: CallsWriter, tokenised: bool) -> tuple[list[Any] | None, list[str]]:
    """Add one call. Returns its labels, and its problems."""
    if not isinstance(item, tuple | list) or len(item) != 2:
        return None, [f"each item must be (inputs, labels), not {type(item).__name__}"]
    inputs, labels = item
    try:
        call_labels = plain_labels.plain(labels)
    except ValueError as error:
        return None, [str(error)]
    if isinstance(inputs, str):
        inputs = [inputs]
    if isinstance(inputs, tuple | list) and all(isinstance(text, str) for text in inputs):
        call_labels = None if call_labels is None else plain_labels.a_sample(call_labels, len(inputs))
        return call_labels, _take_texts(inputs, call_labels, writer, tokenised)
    if isinstance(inputs, tuple | list) and all(_is_pair(text) for text in inputs):
        call_labels = None if call_labels is None else plain_labels.a_sample(call_labels, len(inputs))
        return call_labels, _take_texts([(first, second) for first, second in inputs], call_labels, writer, tokenised)
    if not isinstance(inputs, Mapping):
        return None, [f"inputs must be a mapping of names to arrays, not {type(inputs).__name__}"]
    problems = misnamed(tuple(inputs), tuple(spec.name for spec in signature.inputs))
    feed: dict[str, Array] = {}
    bound: dict[str, tuple[str, int]] = {}
    for spec in signature.inputs:
        array, problem = converted(inputs[spec.name], spec) if spec.name in inputs else (None, None)
        if array is not None and array.ndim != len(spec.shape):
            problem = f"{spec.name} has shape {shown(array.shape)}; the model's input is {shown(spec.shape)}, batch included"
        elif array is not None:
            problems += misfits(spec.name, spec, array.shape, bound)
            feed[spec.name] = array
        problems += [problem] if problem else []
    first = {array.shape[0] if array.ndim else 1 for array in feed.values()}
    rows = first.pop() if len(first) == 1 else 1
    call_labels = None if call_labels is None else plain_labels.a_sample(call_labels, rows)
    if call_labels is not None and len(call_labels) not in (rows, 1):
        problems.append(f"{len(call_labels)} labels for {rows} samples")
    if not problems:
        writer.tensors(feed, int(rows) if call_labels is None else len(call_labels))
    return call_labels, problems


def _is_pair(text: Any) -> bool:
    return isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(part, str) for part in text)


def _take_texts(texts: Sequence[Text], labels: list[Any] | None, writer: CallsWriter, tokenised: bool) -> list[str]:
    """Add one call of texts. Returns its problems."""
    if not tokenised:
        return ["holds texts, and this model takes tensors: without a tokenizer nothing can turn them into any"]
    if not texts or not all(_encodable(text if isinstance(text, str) else "".join(text)) for text in texts):
        return ["needs at least one text, without halves of surrogate pairs"]
    if labels is not None and len(labels) != len(texts):
        return [f"{len(labels)} labels for {len(texts)} texts"]
    writer.texts(texts)
    return []
