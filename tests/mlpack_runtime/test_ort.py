from __future__ import annotations

import os
import threading
from array import array
from pathlib import Path
from typing import Any

import pytest
from tests.support.engine_library import engine_library
from tests.support.runtime.tiny_packages import affine, save, words

from mlpack_runtime import ort
from mlpack_runtime.ort import Engine, OrtError, Session
from mlpack_runtime.tensor import DATATYPES, Tensor, tensor


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(str(engine_library()))


def oracle(path: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    """The same call through onnxruntime's own Python API."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([port.name for port in session.get_outputs()], session.run(None, feeds), strict=True))


def identity(path: Path, element: int, axes: list[Any]) -> Path:
    from onnx import helper

    given, result = (helper.make_tensor_value_info(name, element, axes) for name in ("x", "y"))
    return save(path, [helper.make_node("Identity", ["x"], ["y"])], [given], [result])


@pytest.mark.parametrize("batch", [1, 2, 17])
def test_run_equals_the_python_api_bit_for_bit(engine: Engine, tmp_path: Path, batch: int) -> None:
    import numpy as np

    path = affine(tmp_path / "affine.onnx")
    random = np.random.default_rng(batch)
    feeds = {"pixels": random.normal(size=(batch, 4)).astype(np.float32), "marks": random.integers(-9, 9, batch)}
    session = Session(engine, str(path))
    given = {
        "pixels": Tensor("FP32", (batch, 4), feeds["pixels"].tobytes()),
        "marks": Tensor("INT64", (batch,), bytearray(feeds["marks"].tobytes())),
    }
    found, expected = session.run(given), oracle(path, feeds)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name].data == value.tobytes()


@pytest.mark.parametrize("datatype", DATATYPES)
def test_run_passes_every_datatype_through(engine: Engine, tmp_path: Path, datatype: str) -> None:
    path = identity(tmp_path / "identity.onnx", DATATYPES[datatype][0], ["n", 2])
    values: list[Any] = [True, False, False, True] if datatype == "BOOL" else [1, 0, 100, 3]
    values = ["", "Łódź", "a" * 1000, "🙂 b"] if datatype == "BYTES" else values
    given = tensor(values, datatype, (2, 2))
    found = Session(engine, str(path)).run({"x": given})["y"]
    assert (found.datatype, found.shape, found.data) == (datatype, (2, 2), bytes(given.data))


def test_ports_tell_names_datatypes_and_axes(engine: Engine, tmp_path: Path) -> None:
    session = Session(engine, str(affine(tmp_path / "affine.onnx")))
    assert [(port.name, port.datatype, port.shape) for port in session.inputs] == [
        ("pixels", "FP32", ("batch", 4)),
        ("marks", "INT64", ("batch",)),
    ]
    assert [(port.name, port.datatype, port.shape) for port in session.outputs] == [
        ("scores", "FP32", ("batch", 3)),
        ("count", "INT64", ()),
    ]


def test_ports_unnamed_axis_is_a_question_mark(engine: Engine, tmp_path: Path) -> None:
    assert Session(engine, str(identity(tmp_path / "i.onnx", 1, [None, 2]))).inputs[0].shape == ("?", 2)


def test_run_empty_and_scalar_tensors_work(engine: Engine, tmp_path: Path) -> None:
    session = Session(engine, str(identity(tmp_path / "i.onnx", 1, ["n"])))
    assert session.run({"x": Tensor("FP32", (0,), b"")})["y"].shape == (0,)
    scalar = Session(engine, str(identity(tmp_path / "s.onnx", 1, [])))
    assert scalar.run({"x": tensor([2.5], "FP32", ())})["y"].tolist() == 2.5


@pytest.mark.parametrize("form", ["bytes", "bytearray", "array", "readonly view", "writable view", "odd offset"])
def test_run_takes_any_buffer(engine: Engine, tmp_path: Path, form: str) -> None:
    session = Session(engine, str(identity(tmp_path / "i.onnx", 7, ["n"])))
    raw = tensor([1, -2, 3], "INT64", (3,)).data
    plain = bytes(raw)
    buffers: dict[str, Any] = {
        "bytes": plain,
        "bytearray": bytearray(plain),
        "array": array("q", [1, -2, 3]),
        "readonly view": memoryview(plain),
        "writable view": memoryview(bytearray(plain)),
        "odd offset": memoryview(bytearray(b"x" + plain))[1:],
    }
    assert session.run({"x": Tensor("INT64", (3,), buffers[form])})["y"].tolist() == [1, -2, 3]


def test_run_external_data_is_read_from_beside_the_model(engine: Engine, tmp_path: Path) -> None:
    import numpy as np
    import onnx

    path = affine(tmp_path / "affine.onnx")
    onnx.save_model(
        onnx.load(path), str(tmp_path / "ext.onnx"), save_as_external_data=True, location="ext.onnx.data", size_threshold=0
    )
    feeds = {"pixels": np.ones((1, 4), np.float32), "marks": np.ones(1, np.int64)}
    given = {"pixels": Tensor("FP32", (1, 4), feeds["pixels"].tobytes()), "marks": Tensor("INT64", (1,), feeds["marks"].tobytes())}
    assert Session(engine, str(tmp_path / "ext.onnx")).run(given)["scores"].data == oracle(path, feeds)["scores"].tobytes()
    (tmp_path / "ext.onnx.data").unlink()
    with pytest.raises(OrtError, match=r"ext\.onnx\.data"):
        Session(engine, str(tmp_path / "ext.onnx"))


def test_run_from_several_threads_keeps_answers_apart(engine: Engine, tmp_path: Path) -> None:
    session = Session(engine, str(identity(tmp_path / "i.onnx", 7, ["n"])))
    wrong: list[int] = []

    def ask(number: int) -> None:
        given = {"x": tensor([number] * 50, "INT64", (50,))}
        wrong.extend(number for _ in range(200) if session.run(given)["y"].flat() != [number] * 50)

    workers = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_run_repeatedly_does_not_grow(engine: Engine, tmp_path: Path) -> None:
    session = Session(engine, str(identity(tmp_path / "i.onnx", 1, ["n"])))
    given = {"x": Tensor("FP32", (250_000,), bytes(1_000_000))}

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for _ in range(20):
        session.run(given)
    before = resident_bytes()
    for _ in range(200):
        session.run(given)
    assert resident_bytes() - before < 50_000_000  # 200 leaked outputs would be 200 MB


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "'x' is missing"),
        ({"x": tensor([1], "INT64", (1,))}, "'x' is FP32, not INT64"),
        ({"x": tensor([1, 2, 3], "FP32", (3,))}, "(?i)dimension"),
        ({"x": tensor([1, 2, 3], "FP32", (1, 3, 1))}, "(?i)rank"),
    ],
)
def test_run_wrong_feeds_are_refused(engine: Engine, tmp_path: Path, feeds: dict[str, Tensor], message: str) -> None:
    session = Session(engine, str(identity(tmp_path / "i.onnx", 1, [2])))
    with pytest.raises(OrtError, match=message):
        session.run(feeds)


def test_run_index_out_of_range_is_an_invalid_argument(engine: Engine, tmp_path: Path) -> None:
    session = Session(engine, str(words(tmp_path / "w.onnx")))
    feeds = {"input_ids": tensor([99], "INT64", (1, 1)), "attention_mask": tensor([1], "INT64", (1, 1))}
    with pytest.raises(OrtError, match="out of data bounds") as caught:
        session.run(feeds)
    assert caught.value.code == 2


def test_session_closed_refuses_to_run(engine: Engine, tmp_path: Path) -> None:
    session = Session(engine, str(identity(tmp_path / "i.onnx", 1, [1])))
    session.close()
    session.close()
    with pytest.raises(OrtError, match="closed"):
        session.run({"x": tensor([1], "FP32", (1,))})


@pytest.mark.parametrize("damage", ["missing", "empty", "random", "truncated", "directory"])
def test_session_bad_file_is_a_clean_error(engine: Engine, tmp_path: Path, damage: str) -> None:
    path = affine(tmp_path / "affine.onnx")
    whole = path.read_bytes()
    contents = {"empty": b"", "random": bytes(range(256)) * 40, "truncated": whole[: len(whole) // 2]}
    if damage in contents:
        path.write_bytes(contents[damage])
    else:
        path.unlink()
    if damage == "directory":
        path.mkdir()
    with pytest.raises(OrtError) as caught:
        Session(engine, str(path))
    assert str(caught.value)


def test_strings_that_the_engine_would_cut_are_refused(engine: Engine, tmp_path: Path) -> None:
    session = Session(engine, str(identity(tmp_path / "i.onnx", 8, ["n"])))
    with pytest.raises(OrtError, match="input 'x': a string holds a NUL") as caught:
        session.run({"x": tensor(["a\0b"], "BYTES", (1,))})
    assert ort.is_refusal(str(caught.value), caught.value.code)
    empty = session.run({"x": tensor([], "BYTES", (0,))})["y"]
    assert (empty.shape, empty.flat()) == ((0,), [])


def test_strings_leave_nothing_behind(engine: Engine, tmp_path: Path) -> None:
    import resource

    session = Session(engine, str(identity(tmp_path / "i.onnx", 8, ["n"])))
    given = {"x": tensor(["x" * 10_000] * 100, "BYTES", (100,))}
    session.run(given)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(200):
        session.run(given)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # of 200 MB that went through


def test_session_of_unserved_elements_is_refused_by_name(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(OrtError, match="input 'x' has ONNX element type 16"):
        Session(engine, str(identity(tmp_path / "i.onnx", 16, [1])))


def test_session_sequence_output_is_refused_by_name(engine: Engine, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    result = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    path = save(tmp_path / "s.onnx", [helper.make_node("SequenceConstruct", ["x"], ["parts"])], [given], [result])
    with pytest.raises(OrtError, match="output 'parts' is not a tensor"):
        Session(engine, str(path))


def test_session_options_reach_the_engine(engine: Engine, tmp_path: Path) -> None:
    path = str(identity(tmp_path / "i.onnx", 1, [1]))
    assert Session(engine, path, threads=2, level=0, config={"session.set_denormal_as_zero": "1"}).threads == 2
    with pytest.raises(OrtError):
        Session(engine, path, config={"": "1"})
    with pytest.raises(OrtError):
        Session(engine, path, level=7)


@pytest.mark.parametrize("content", [None, b"", b"not a library"])
def test_engine_that_is_no_library_is_a_clean_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "libonnxruntime.so"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OrtError, match="cannot load ONNX Runtime"):
        Engine(str(path))


def test_engine_other_library_is_a_clean_error() -> None:
    with pytest.raises(OrtError, match="OrtGetApiBase"):
        Engine("libc.so.6")


def test_the_engine_writes_no_lines_of_its_own(engine: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    session = Session(engine, str(words(tmp_path / "m.onnx")))
    ids = tensor([99], "INT64", (1, 1))
    for _ in range(3):
        with pytest.raises(OrtError, match="out of data bounds"):
            session.run({"input_ids": ids, "attention_mask": ids})
    assert capfd.readouterr() == ("", "")


def test_libraries_output_while_loading_is_short_and_off_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    del ort.SAID[:]
    with ort._Overheard():
        for number in range(500):
            os.write(2, f"Error in cpuinfo: no file {number}\n\n".encode())
    os.write(2, b"later\n")
    assert [f"Error in cpuinfo: no file {number}" for number in range(5)] == ort.SAID
    assert capfd.readouterr().err == "later\n"
    del ort.SAID[:]


def test_without_a_stderr_loading_goes_on(engine: Engine) -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        with ort._Overheard():
            assert engine.version
    finally:
        os.dup2(kept, 2)
        os.close(kept)
