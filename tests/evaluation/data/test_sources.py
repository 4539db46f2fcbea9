"""Tests of the data's sources, shaping and calls: every form of data becomes the same calls, or says why not."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpack.core.digest import of_tree
from mlpack.core.files import bounded
from mlpack.core.records import Signature, TensorSpec
from mlpack.errors import RecipeError
from mlpack.evaluation.data import calls, sources
from mlpack.evaluation.data.shaping import converted
from mlpack.evaluation.data.sources import Dataset

IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 2, 3))
IDS = TensorSpec(name="ids", dtype="int64", shape=("batch", "sequence"))
MASK = TensorSpec(name="mask", dtype="int64", shape=("batch", "sequence"))
STATE = TensorSpec(name="state", dtype="float32", shape=(2, "batch", 4))


def _signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs=inputs, outputs=())


def _out(folder: Path) -> Path:
    out = folder / f"out{sum(1 for _ in folder.glob('out*'))}"
    out.mkdir()
    return out


def _npz(folder: Path, name: str = "d.npz", **arrays: Any) -> None:
    np.savez(folder / name, **arrays)


def _read(folder: Path, signature: Signature, reference: str = "d.npz", **options: Any) -> tuple[Dataset, Path]:
    out = _out(folder)
    read = sources.read(reference, signature, (folder, folder), out, tokenised=options.pop("tokenised", False), **options)
    assert sorted(path.name for path in out.iterdir()) == ["calls.bin", "calls.json", "labels.json", "samples.json"]
    return read, out


def _calls(out: Path) -> list[dict[str, Any]]:
    """Every call's arrays, read back from the files alone."""
    names = {code: name for name, code in calls.DATATYPES.items()}
    data = (out / "calls.bin").read_bytes()
    return [
        {
            name: np.frombuffer(data[row["offset"] : row["offset"] + row["size"]], names[row["datatype"]]).reshape(row["shape"])
            for name, row in call["inputs"].items()
        }
        for call in json.loads((out / "calls.json").read_text())
    ]


def _labels(out: Path) -> Any:
    return json.loads((out / "labels.json").read_text())


def _problems(folder: Path, signature: Signature, reference: str = "d.npz", **options: Any) -> str:
    with pytest.raises(RecipeError) as raised:
        _read(folder, signature, reference, **options)
    left = [path for out in folder.glob("out*") for path in out.iterdir()]
    assert not left, "something half-written was left behind"
    return str(raised.value)


def test_array_with_the_models_axes_is_cut_into_calls(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    _npz(tmp_path, image=images, labels=np.array([3, 1, 2, 0]))
    read, out = _read(tmp_path, _signature(IMAGE))
    assert read == Dataset(reference="d.npz", calls=4, samples=4, labelled=True, texts=False)
    assert [call["image"].shape for call in _calls(out)] == [(1, 2, 3)] * 4
    assert np.array_equal(np.concatenate([call["image"] for call in _calls(out)]), images)
    assert _labels(out) == [3, 1, 2, 0]
    assert json.loads((out / "calls.json").read_text())[1] == {
        "samples": 1,
        "inputs": {"image": {"datatype": "FP32", "shape": [1, 2, 3], "offset": 24, "size": 24}},
    }


def test_batch_leaves_a_smaller_last_call(tmp_path: Path) -> None:
    _npz(tmp_path, image=np.zeros((5, 2, 3), np.float32))
    read, out = _read(tmp_path, _signature(IMAGE), batch=2)
    assert [call["image"].shape[0] for call in _calls(out)] == [2, 2, 1]
    assert (read.calls, read.samples, read.labelled) == (3, 5, False)
    assert _labels(out) is None


def test_array_with_an_axis_more_holds_whole_calls(tmp_path: Path) -> None:
    _npz(tmp_path, image=np.arange(3 * 4 * 2 * 3, dtype=np.float32).reshape(3, 4, 2, 3), labels=np.arange(12))
    read, out = _read(tmp_path, _signature(IMAGE))
    assert (read.calls, read.samples) == (3, 12)
    assert [call["image"].shape for call in _calls(out)] == [(4, 2, 3)] * 3
    assert _labels(out) == list(range(12))


@pytest.mark.parametrize(("labels", "samples"), [(np.arange(12).reshape(3, 4), 12), (np.arange(3), 3)])
def test_labels_of_whole_calls_are_one_a_row_or_one_a_call(tmp_path: Path, labels: Any, samples: int) -> None:
    _npz(tmp_path, image=np.random.default_rng(0).random((3, 4, 2, 3), np.float32), labels=labels)
    read, out = _read(tmp_path, _signature(IMAGE))
    assert read.samples == samples == len(_labels(out)) == len(json.loads((out / "samples.json").read_text()))


def test_cut_and_whole_arrays_may_stand_in_one_file(tmp_path: Path) -> None:
    _npz(tmp_path, image=np.ones((3, 2, 3), np.float32), state=np.zeros((3, 2, 1, 4), np.float32))
    _, out = _read(tmp_path, _signature(IMAGE, STATE))
    assert [call["state"].shape for call in _calls(out)] == [(2, 1, 4)] * 3


def test_fixed_batch_decides_how_calls_are_cut(tmp_path: Path) -> None:
    fixed = TensorSpec(name="image", dtype="float32", shape=(2, 3))
    _npz(tmp_path, image=np.zeros((6, 3), np.float32))
    assert _read(tmp_path, _signature(fixed))[0].calls == 3
    _npz(tmp_path, image=np.zeros((5, 3), np.float32))
    assert "5 samples cannot be cut into calls of 2" in _problems(tmp_path / "..", _signature(fixed), f"{tmp_path.name}/d.npz")


@pytest.mark.parametrize(
    ("given_dtype", "wanted"),
    [
        ("float64", "float32"),
        ("float16", "float32"),
        ("float32", "float64"),
        ("int32", "int64"),
        ("uint8", "int32"),
        (">f4", "float32"),
        ("bool", "bool"),
    ],
)
def test_element_type_that_loses_nothing_is_converted(tmp_path: Path, given_dtype: str, wanted: str) -> None:
    _npz(tmp_path, x=np.array([[0], [1], [1]], given_dtype))
    _, out = _read(tmp_path, _signature(TensorSpec(name="x", dtype=wanted, shape=("n", 1))))
    read = np.concatenate([call["x"] for call in _calls(out)])
    assert read.dtype == np.dtype(wanted)
    assert read.tolist() == [[0], [1], [1]]


@pytest.mark.parametrize(
    ("given_dtype", "wanted", "said"),
    [
        ("int64", "int32", "x is int64 and the model takes int32: convert it where it is written"),
        ("int64", "float32", "x is int64 and the model takes float32"),
        ("uint8", "float32", "pixels are usually divided by 255"),
        ("float32", "int64", "x is float32 and the model takes int64"),
        ("int64", "uint64", "x is int64 and the model takes uint64"),
        ("<U3", "float32", "x is str96 and the model takes float32"),
        ("float32", "str", "x is of type str, which packages cannot take"),
    ],
)
def test_element_type_that_could_lose_something_is_refused(tmp_path: Path, given_dtype: str, wanted: str, said: str) -> None:
    _npz(tmp_path, x=np.zeros((3, 1), given_dtype))
    assert said in _problems(tmp_path, _signature(TensorSpec(name="x", dtype=wanted, shape=("n", 1))))


def test_numbers_too_large_for_the_models_type_are_refused(tmp_path: Path) -> None:
    _npz(tmp_path, x=np.array([[1e300]]))
    assert "too large for float32" in _problems(tmp_path, _signature(TensorSpec(name="x", dtype="float32", shape=("n", 1))))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "the model's input image is missing"),
        ({"imgae": (4, 2, 3)}, "the model's input image is missing; did you mean 'imgae'?"),
        ({"image": (4, 2, 3), "extra": (4,)}, "extra is no input: the model takes image"),
        (
            {"image": (4, 6)},
            "image has shape [4, 6]; the model's input is [batch, 2, 3]: an array needs 3 axes to be cut into calls, or 4",
        ),
        ({"image": (4, 2, 5)}, "image: axis 2 is 5 and the model takes 3"),
        ({"image": (0, 2, 3)}, "holds no samples"),
        ({"image": (4, 2, 3), "labels": (3,)}, "counts disagree: 3 labels for 4 samples"),
        ({"image": (4, 2, 3), "labels": ()}, "an array of numbers or strings is needed"),
    ],
)
def test_arrays_that_do_not_fit_say_how(tmp_path: Path, arrays: dict[str, tuple[int, ...]], said: str) -> None:
    _npz(tmp_path, **{name: np.zeros(shape, np.float32) for name, shape in arrays.items()})
    assert said in _problems(tmp_path, _signature(IMAGE))


def test_counts_that_disagree_are_all_named(tmp_path: Path) -> None:
    _npz(tmp_path, ids=np.zeros((4, 7), np.int64), mask=np.zeros((3, 7), np.int64))
    assert "counts disagree: ids 4, mask 3" in _problems(tmp_path, _signature(IDS, MASK))


def test_axes_of_one_name_must_agree(tmp_path: Path) -> None:
    _npz(tmp_path, ids=np.zeros((4, 7), np.int64), mask=np.zeros((4, 8), np.int64))
    assert "mask: the axis 'sequence' is 8, but 7 in ids" in _problems(tmp_path, _signature(IDS, MASK))


def test_all_problems_of_a_file_are_said_at_once(tmp_path: Path) -> None:
    _npz(tmp_path, ids=np.zeros((4, 7)), msk=np.zeros((4, 7), np.int64), labels=np.array([np.nan]))
    said = _problems(tmp_path, _signature(IDS, MASK))
    for part in ("mask is missing", "msk is no input", "ids is float64", "labels hold NaN"):
        assert part in said


def test_pickle_is_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "sprung").touch, ())

    np.savez(tmp_path / "d.npz", image=np.array([Trap()], dtype=object), allow_pickle=True)
    assert "image: holds Python objects (a pickle), which are never opened" in _problems(tmp_path, _signature(IMAGE))
    assert not (tmp_path / "sprung").exists()


def _member(data: bytes, name: str = "image.npy") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def _whole_npz() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, image=np.random.default_rng(0).random((40, 2, 3), np.float32))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a zip",
        _whole_npz()[:-30],
        _member(b""),
        _member(b"\x80\x04garbage"),
        _member(b"\x93NUMPY\x01\x00\x04\x00{}\n\n"),
        _member(
            b"\x93NUMPY\x01\x00\x50\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 2, 3)}" + b" " * 5 + b"\n"
        ),
        _member(b"plain text", "image.txt"),
    ],
    ids=["empty", "text", "truncated", "empty member", "raw pickle", "bad header", "impossible size", "no array"],
)
def test_damaged_file_is_a_recipe_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(data)
    assert "d.npz" in _problems(tmp_path, _signature(IMAGE))


def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("image.npy", zipfile.ZipFile(io.BytesIO(_whole_npz())).read("image.npy"))
        archive.writestr("imagf.npy", b"other")
    (tmp_path / "d.npz").write_bytes((tmp_path / "d.npz").read_bytes().replace(b"imagf.npy", b"image.npy"))
    assert "'image' is there twice" in _problems(tmp_path, _signature(IMAGE))


def test_a_directory_of_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "d.npz").open("wb") as file:
        file.truncate(2 << 30)
        file.seek(2 << 30)
        file.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, 2 << 30, 0, 0))
    assert "more than the 16,777,216 bytes" in _problems(tmp_path, _signature(IMAGE))


@settings(max_examples=settings().max_examples * 3 // 5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2000), st.integers(0, 255))
def test_flipped_byte_gives_data_or_a_recipe_error(tmp_path: Path, place: int, value: int) -> None:
    data = bytearray(_whole_npz())
    data[place % len(data)] = value
    (tmp_path / "d.npz").write_bytes(data)
    said = "d.npz"
    try:
        _read(tmp_path, _signature(IMAGE))
    except RecipeError as error:
        said = str(error)
    assert "d.npz" in said


def test_missing_file_is_a_recipe_error(tmp_path: Path) -> None:
    assert "there is no such file" in _problems(tmp_path, _signature(IMAGE), "none.npz")
    assert "cannot be read" in _problems(tmp_path, _signature(IMAGE), "none.jsonl", tokenised=True)
    with pytest.raises(RecipeError, match="cannot be read"):
        sources.fingerprint("none.npz", (tmp_path,))


def test_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((6, 2, 3), np.float32)
    _npz(tmp_path, "a.npz", image=image, labels=np.arange(6))
    np.savez_compressed(tmp_path / "b.npz", labels=np.arange(6, dtype=np.int16), image=image.astype(np.float64))
    assert of_tree(_read(tmp_path, _signature(IMAGE), "a.npz")[1]) == of_tree(_read(tmp_path, _signature(IMAGE), "b.npz")[1])


def test_pairs_give_queries_then_documents(tmp_path: Path) -> None:
    rows = [{"query": "q0", "document": "d0"}, {"query": "q1", "document": "d1 ü"}]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", "utf-8")
    read, out = _read(tmp_path, _signature(IDS), "d.jsonl", tokenised=True)
    assert read == Dataset(reference="d.jsonl", calls=4, samples=4, labelled=True, texts=True)
    assert [call["texts"] for call in json.loads((out / "calls.json").read_text())] == [["q0"], ["q1"], ["d0"], ["d1 ü"]]
    assert _labels(out) == [0, 1, 0, 1]


def test_texts_with_labels_and_without(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": 2}\n')
    assert _labels(_read(tmp_path, _signature(IDS), "d.jsonl", tokenised=True, batch=2)[1]) == ["x", 2]
    (tmp_path / "d.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert _labels(_read(tmp_path, _signature(IDS), "d.jsonl", tokenised=True)[1]) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"text": "a"}\n{"text": 3}\nnonsense\n["a"]\n',
            ["d.jsonl:2: text must be a string", "d.jsonl:3: is not JSON", "d.jsonl:4: must be {"],
        ),
        ('{"text": "a"}\n{"query": "a", "document": "b"}\n', ["line 1 has text; line 2 has document and query"]),
        ('{"text": "a", "label": NaN}\n', ["d.jsonl:1: label must be a number or a string"]),
        ('{"text": "a", "label": true}\n', ["d.jsonl:1: label must be"]),
        ('{"text": "\\ud800"}\n', ["d.jsonl:1: text must be a string of text"]),
        ("nonsense\n" * 30, ["d.jsonl:20: is not JSON", "d.jsonl: and 10 more"]),
        ("\n\n", ["holds no samples"]),
        ("[" * 100_000 + "\n", ["d.jsonl:1: is not JSON"]),
    ],
)
def test_lines_that_are_no_texts_are_all_named(tmp_path: Path, text: str, said: list[str]) -> None:
    (tmp_path / "d.jsonl").write_text(text)
    problems = _problems(tmp_path, _signature(IDS), "d.jsonl", tokenised=True)
    assert all(part in problems for part in said)


def test_texts_need_a_model_that_takes_them(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "a"}\n')
    assert "without a tokenizer" in _problems(tmp_path, _signature(IMAGE), "d.jsonl")


def _module(folder: Path, name: str, body: str) -> str:
    (folder / f"{name}.py").write_text(f"import numpy as np\n\ndef rows():\n{body}", "utf-8")
    return f"{name}:rows"


def test_function_gives_calls_as_they_are(tmp_path: Path) -> None:
    body = "    for n in (1, 3):\n        yield {'ids': np.ones((n, 5), np.int32), 'mask': [[1] * 5] * n}, list(range(n))\n"
    read, out = _read(tmp_path, _signature(IDS, MASK), _module(tmp_path, "hook_one", body))
    assert (read.calls, read.samples, read.labelled) == (2, 4, True)
    assert [call["ids"].shape for call in _calls(out)] == [(1, 5), (3, 5)]
    assert all(call["ids"].dtype == np.int64 for call in _calls(out))
    assert _labels(out) == [0, 0, 1, 2]


def test_function_may_give_texts(tmp_path: Path) -> None:
    body = "    yield 'one', 'a'\n    yield ['two', 'three'], ['b', 'c']\n"
    read, out = _read(tmp_path, _signature(IDS), _module(tmp_path, "hook_two", body), tokenised=True)
    assert (read.texts, read.samples, _labels(out)) == (True, 3, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    raise KeyError('eval')\n    yield\n", "hook_x.py:4: KeyError: 'eval' (raised while reading call 0 of hook_x:rows)"),
        (
            "    yield {'image': np.zeros((1, 2, 3), 'f4')}, [1]\n    1 / 0\n",
            "hook_x.py:5: ZeroDivisionError: division by zero (raised while reading call 1",
        ),
        ("    return 5\n", "TypeError: 'int' object is not iterable"),
        ("    yield 1, 2, 3\n", "call 0: each item must be (inputs, labels), not tuple"),
        (
            "    yield {'image': np.zeros((2, 3), 'f4')}, None\n",
            "call 0: image has shape [2, 3]; the model's input is [batch, 2, 3], batch included",
        ),
        ("    yield {'image': np.zeros((1, 2, 4), 'f4'), 'b': 1}, [1, 2]\n", "call 0: image: axis 2 is 4"),
        ("    yield {'image': np.zeros((2, 2, 3), 'f4')}, [1, 2, 3]\n", "call 0: 3 labels for 2 samples"),
        ("    yield {'image': [[1], [2, 3]]}, None\n", "ValueError"),
        ("    yield [1, 2], None\n", "inputs must be a mapping of names to arrays, not list"),
        ("    yield {'image': np.zeros((1, 2, 3), 'f4')}, [None]\n", "labels must be finite numbers or strings"),
        ("    yield {'image': np.zeros((1, 2, 3), 'f4')}, 1\n    yield {'image': np.ones((1, 2, 3), 'f4')}, None\n", "all or none"),
        ("    yield from ()\n", "holds no samples"),
        ("    yield ['a'], None\n", "without a tokenizer"),
    ],
)
def test_function_that_misbehaves_is_quoted(tmp_path: Path, body: str, said: str) -> None:
    assert said in _problems(tmp_path, _signature(IMAGE), _module(tmp_path, "hook_x", body))


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    _npz(tmp_path, image=np.zeros((2, 2, 3), np.float32))
    _module(tmp_path, "hook_three", "    yield 1\n")
    before = {name: sources.fingerprint(name, (tmp_path,)) for name in ("d.npz", "hook_three:rows")}
    assert before == {name: sources.fingerprint(name, (tmp_path,)) for name in before}
    _npz(tmp_path, image=np.ones((2, 2, 3), np.float32))
    (tmp_path / "beside.py").write_text("x = 1\n")
    assert all(sources.fingerprint(name, (tmp_path,)) != digest for name, digest in before.items())


def test_overlap_is_found_by_content_whatever_the_form(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((6, 2, 3), np.float32)
    _npz(tmp_path, "eval.npz", image=images[:4], labels=np.arange(4))
    _npz(tmp_path, "calib.npz", image=images[2:][None])  # one whole call of four
    _npz(tmp_path, "other.npz", image=images[4:])
    evaluation, calibration, other = (_read(tmp_path, _signature(IMAGE), f"{name}.npz")[1] for name in ("eval", "calib", "other"))
    with pytest.raises(
        RecipeError, match=r"2 of 4 calibration samples are evaluation samples too.*0 \(evaluation 2\), 1 \(evaluation 3\)"
    ):
        calls.check_disjoint(evaluation, calibration)
    calls.check_disjoint(evaluation, other)


HEAD = Signature(inputs=_signature(IDS).inputs, outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 1)),))


def _texts(out: Path) -> list[Any]:
    return [text for call in json.loads((out / "calls.json").read_bytes()) for text in call["texts"]]


def test_pairs_of_texts_with_their_labels(tmp_path: Path) -> None:
    rows = [{"text": "q", "text_pair": "d ü", "label": 0.5}, {"text": "r", "text_pair": "", "label": 1}]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    read, out = _read(tmp_path, HEAD, "d.jsonl", tokenised=True)
    assert (read.samples, read.labelled, read.texts) == (2, True, True)
    assert (_texts(out), _labels(out)) == ([["q", "d ü"], ["r", ""]], [0.5, 1])
    assert len(set(json.loads((out / "samples.json").read_bytes()))) == 2


def test_query_and_document_are_a_pair_for_a_model_with_a_head(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"query": "q", "document": "d"}\n{"query": "r", "document": "e"}\n')
    read, out = _read(tmp_path, HEAD, "d.jsonl", tokenised=True)
    assert (read.samples, _texts(out), _labels(out)) == (2, [["q", "d"], ["r", "e"]], None)


def test_labels_of_tokens_are_lists(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "a b", "label": [-100, 1, 2, -100]}\n{"text": "c", "label": ["O", "B-PER"]}\n')
    assert _labels(_read(tmp_path, HEAD, "d.jsonl", tokenised=True)[1]) == [[-100, 1, 2, -100], ["O", "B-PER"]]


@pytest.mark.parametrize("line", ['{"text": "a", "label": [true]}',
                                  '{"text": "a", "text_pair": 1}', '{"text_pair": "a"}',
                                  '{"query": "a", "document": "b", "label": 1}',
                                  '{"text": "a", "label": [NaN]}'])  # fmt: skip
def test_pairs_and_labels_malformed_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "d.jsonl").write_text(line)
    assert "d.jsonl:1:" in _problems(tmp_path, HEAD, "d.jsonl", tokenised=True)


def test_a_function_may_give_pairs(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text('def data():\n    yield [("a", "b"), ["c", "d"]], [1, 0]\n    yield ("e", "f"), [1, 1]\n')
    read, out = _read(tmp_path, HEAD, "mine:data", tokenised=True)
    assert (read.samples, _texts(out)) == (4, [["a", "b"], ["c", "d"], "e", "f"])


def test_overlap_of_texts_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"query": "q", "document": "d"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "new"}\n{"text": "d"}\n')
    evaluation, calibration = (_read(tmp_path, _signature(IDS), name, tokenised=True)[1] for name in ("a.jsonl", "b.jsonl"))
    with pytest.raises(RecipeError, match=r"1 of 2 calibration samples .* 1 \(evaluation 1\)"):
        calls.check_disjoint(evaluation, calibration)


def _member(shape: tuple[int, ...], descr: str, data: bytes, version: int = 1) -> bytes:
    """An .npy file whose header says whatever it likes."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2 if version == 1 else 4, "little") + header + data


def _zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


@pytest.mark.parametrize(
    ("name", "shape", "descr", "size", "says"),
    [
        ("image", (1 << 40, 2, 3), "<f4", 24, "its header says 26,388,279,066,624 bytes and 24 are there"),
        ("image", (-1, 2, 3), "<f4", 24, "header says the shape"),
        ("image", (1 << 62, 1 << 62, 1 << 62), "<f4", 24, "are there"),
        ("image", (5 << 20, 0), "<f4", 0, "MB of memory"),
        ("image", (1 << 40, 0, 3), "<f4", 0, "MB of memory"),
        ("labels", (1 << 40,), "<U0", 0, "MB of memory"),
        ("labels", (1 << 20, 1 << 20, 0), "<i8", 0, "MB of memory"),
        ("labels", (1 << 20,), "|i1", 1 << 20, "MB of memory"),
        ("image", (64 << 20,), "|i1", 64 << 20, "MB of memory"),
        ("labels", (2,), "|O", 16, "pickle"),
    ],
)
def test_an_array_that_says_more_than_it_has_is_not_allocated(
    name: str, shape: tuple[int, ...], descr: str, size: int, says: str, tmp_path: Path
) -> None:
    _zipped(tmp_path / "d.npz", **{name: _member(shape, descr, bytes(size))})
    bounded.configure({"MLPACK_MAX_DATA_MB": "40"})
    tracemalloc.start()
    try:
        with pytest.raises(RecipeError, match=says):
            _read(tmp_path, _signature(IMAGE))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
        bounded.configure({})


def test_small_zip_of_gigabytes_is_refused_by_its_directory(tmp_path: Path) -> None:
    """The directory is believed only when it says too much: here it says the truth, without the bytes."""
    path = _zipped(tmp_path / "d.npz", image=_member((2,), "<f4", bytes(8)))
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(data)
    bounded.configure({"MLPACK_MAX_DATA_MB": "4000"})
    try:
        with pytest.raises(RecipeError, match=r"d.npz, as its directory says, would take 6,44\d MB .*MLPACK_MAX_DATA_MB"):
            _read(tmp_path, _signature(IMAGE))
    finally:
        bounded.configure({})


def test_zip_directory_that_says_too_little_gives_no_more(tmp_path: Path) -> None:
    path = _zipped(tmp_path / "d.npz", image=_member((1 << 20, 2, 3), "<f4", bytes(24 << 20)))
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(RecipeError, match=r"damaged|are there"):
        _read(tmp_path, _signature(IMAGE))


@pytest.mark.parametrize("version", [1, 2])
def test_both_forms_of_numpys_header_are_read(version: int, tmp_path: Path) -> None:
    _zipped(tmp_path / "d.npz", image=_member((2, 2, 3), "<f4", bytes(48), version))
    assert _read(tmp_path, _signature(IMAGE))[0].samples == 2


def test_records_with_named_fields_are_refused(tmp_path: Path) -> None:
    _zipped(tmp_path / "d.npz", image=_member((2, 2, 3), "<f4", bytes(48), 3))
    with pytest.raises(RecipeError, match="named fields"):
        _read(tmp_path, _signature(IMAGE))


def test_a_line_without_an_end_is_read_to_the_limit_only(tmp_path: Path) -> None:
    with (tmp_path / "d.jsonl").open("wb") as file:
        file.write(b'{"text": "a"}\n')
        file.truncate(1 << 40)
    with pytest.raises(RecipeError, match=r"d.jsonl:2: has more than 16,777,216 bytes"):
        _read(tmp_path, _signature(IDS), "d.jsonl", tokenised=True)


def test_lines_without_number_are_counted_against_memory(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": ""}\n' * 5000)
    bounded.configure({"MLPACK_MAX_DATA_MB": "4"})
    try:
        with pytest.raises(RecipeError, match=r"d\.jsonl up to its line [45],001 would take"):
            _read(tmp_path, _signature(IDS), "d.jsonl", tokenised=True)
    finally:
        bounded.configure({})


def test_wrong_lines_are_counted_not_kept(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("[" * 100_000 + "\n" + "x\n" * 30_000)
    with pytest.raises(RecipeError) as caught:
        _read(tmp_path, _signature(IDS), "d.jsonl", tokenised=True)
    assert len(caught.value.problems) == 21
    assert caught.value.problems[0].startswith("d.jsonl:1: is not JSON: its lists")
    assert caught.value.problems[-1] == "d.jsonl: and 29981 more"


CITIES = Signature(
    inputs=(
        TensorSpec(name="age", dtype="float32", shape=("batch", 1)),
        TensorSpec(name="city", dtype="string", shape=("batch", 1)),
    ),
    outputs=(),
)


def test_columns_of_strings_come_back_as_they_were(tmp_path: Path) -> None:
    from mlpack.evaluation.data import reader

    cities = np.array([["Riga"], [""], ["Łódź"]])
    np.savez(tmp_path / "eval.npz", age=np.ones((3, 1)), city=cities, labels=np.array(["a", "b", "c"]))
    (tmp_path / "out").mkdir()
    found = sources.read("eval.npz", CITIES, (tmp_path,), tmp_path / "out", tokenised=False)
    assert (found.calls, found.samples, found.labelled) == (3, 3, True)
    back = [call["city"] for call in reader.read(tmp_path / "out", tmp_path, CITIES)]
    assert [array.tolist() for array in back] == [[["Riga"]], [[""]], [["Łódź"]]]
    assert len(set(json.loads((tmp_path / "out/samples.json").read_bytes()))) == 3


def test_columns_of_strings_come_as_lists_and_objects(tmp_path: Path) -> None:
    (tmp_path / "feed.py").write_text(
        "import numpy as np\ndef calls():\n"
        "    yield {'age': [[1.0]], 'city': [['Riga']]}, None\n"
        "    yield {'age': [[2.0]], 'city': np.array([['Oslo']], dtype=object)}, None\n"
    )
    (tmp_path / "out").mkdir()
    sources.read("feed:calls", CITIES, (tmp_path,), tmp_path / "out", tokenised=False)
    call = json.loads((tmp_path / "out/calls.json").read_bytes())[1]["inputs"]["city"]
    assert (call["datatype"], call["shape"], call["size"]) == ("BYTES", [1, 1], 8)


@pytest.mark.parametrize(
    ("city", "said"),
    [
        (np.ones((1, 1)), "city is float64 and the model takes strings"),
        (np.array([[None]], dtype=object), "city holds NoneType 'None' at 0, which is no string"),
        (np.array([["a\0b"]], dtype=object), "a NUL or half of a surrogate pair at 0"),
        (np.array([["\ud800"]], dtype=object), "a NUL or half of a surrogate pair at 0"),
    ],
)
def test_what_is_no_string_is_refused_by_its_place(city: Any, said: str) -> None:
    array, problem = converted(city, CITIES.inputs[1])
    assert array is None
    assert said in str(problem)
