"""The engine in its own process: what ends it is an error with a reason, wherever it is asked, and the next graph is opened."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.recorded_calls import recorded

from mlpack.errors import PassError
from mlpack.graphs import apart, check, files
from mlpack.graphs.foreign import adopt
from mlpack.passes import PASSES
from mlpack.passes.optimize import Optimize
from mlpack.passes.precision import Precision
from mlpack.passes.quantize import Quantize, damage
from mlpack.passes.simplify import Simplify

CRASHES = """\
import importlib.util, json, os, signal, sys
spec = importlib.util.spec_from_file_location("apart_child", {real!r})
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)

def guarded(real):
    def asked(self, header, arrays):
        given = arrays[0].tobytes() if arrays and header["op"] == "open" else b""
        given = given or (open(header["path"], "rb").read() if header.get("path") else b"")
        given = given if header["op"] != "run" else self.graphs[header["session"]]
        when = {when!r}
        if header["op"] == when and {marker!r}.encode() in given:
            os.kill(os.getpid(), signal.{signal})
        answer = real(self, header, arrays)
        if header["op"] == "open":
            self.graphs = getattr(self, "graphs", {{}})
            self.graphs[answer[0]["session"]] = given
        return answer
    return asked

for name in ("open", "run", "save"):
    setattr(child._Sessions, name, guarded(getattr(child._Sessions, name)))
sys.path[:] = json.loads(sys.argv[1])
child.main()
"""


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A fault in the engine: asked to `when` (open, run or save) a graph that holds `marker`, it ends by this signal."""
    real = apart.apart_child.__file__

    def of(marker: str, when: str = "open", name: str = "SIGSEGV") -> None:
        path = tmp_path / "child.py"
        path.write_text(CRASHES.format(real=real, marker=marker, when=when, signal=name))
        monkeypatch.setattr(apart.apart_child, "__file__", str(path))
        apart._ENGINE.stop()

    yield of
    apart._ENGINE.stop()


def graph(nodes: list[Any], stored: dict[str, Any], shape: list[Any], rank: int = 2) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
    kept = [numpy_helper.from_array(np.asarray(each), name) for name, each in stored.items()]
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], kept), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )


def products(folder: Path) -> Path:
    """Two products, of which the second is called `bad`."""
    random = np.random.default_rng(3)
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["h"], "good"),
        helper.make_node("Tanh", ["h"], ["t"], "tanh"),
        helper.make_node("MatMul", ["t", "w"], ["y"], "bad"),
    ]
    stored = {name: random.normal(size=(64, 64)).astype("float32") for name in ("v", "w")}
    folder.mkdir(parents=True)
    files.save(graph(nodes, stored, ["batch", 64]), folder)
    files.finish(folder, folder, {})
    return folder


def identity() -> onnx.ModelProto:
    return graph([helper.make_node("Identity", ["x"], ["y"])], {}, ["n"], 1)


def test_values_of_every_type_come_back_as_they_are() -> None:
    for kind in ("float32", "float16", "float64", "int8", "uint8", "int64", "uint16", "bool"):
        for shape in ((), (0,), (3,), (2, 0, 4), (2, 3, 4)):
            given = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(kind)
            element = helper.np_dtype_to_tensor_dtype(given.dtype)
            node = helper.make_node("Identity", ["x"], ["y"])
            ends = [helper.make_tensor_value_info(name, element, shape) for name in ("x", "y")]
            model = helper.make_model(
                helper.make_graph([node], "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
            )
            (got,) = check.run(check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL"), {"x": given})
            assert got.dtype == given.dtype
            assert got.shape == given.shape
            assert np.array_equal(got, given)


def test_ports_are_the_graphs_and_some_outputs_may_be_asked_for(tmp_path: Path) -> None:
    opened = check.session(products(tmp_path / "m"))
    assert [(port.name, port.type, port.shape) for port in opened.get_inputs()] == [("x", "tensor(float)", ["batch", 64])]
    assert [port.name for port in opened.get_outputs()] == ["y"]
    assert len(opened.run(["y"], {"x": np.ones((1, 64), "float32")})) == 1


def test_what_nobody_asks_any_more_is_closed_with_next_question(tmp_path: Path) -> None:
    """Of sessions that were opened before others, too: each holds the weights of its graph."""
    folder = products(tmp_path / "m")
    sessions = [check.session(folder) for _ in range(4)]
    feed = {"x": np.ones((1, 64), "float32")}
    for left in range(3, 0, -1):
        del sessions[0]
        assert len(apart._ENGINE.closed) == 1
        check.run(sessions[0], feed)
        assert len(sessions) == left
        assert apart._ENGINE.closed == []


def test_sequences_and_maps_come_back(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], axis=1),
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING),
        helper.make_node("ZipMap", ["x"], ["m"], domain="ai.onnx.ml", classlabels_strings=["é", "b", "c"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    ends = [onnx.ValueInfoProto(name=name) for name in ("s", "y", "m")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], ends), opset_imports=opsets, ir_version=9)
    given = np.arange(6, dtype="float32").reshape(2, 3)
    parts, texts, maps = check.run(check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL"), {"x": given})
    assert [part.tolist() for part in parts] == [[[0.0], [3.0]], [[1.0], [4.0]], [[2.0], [5.0]]]
    assert texts.tolist() == [["0", "1", "2"], ["3", "4", "5"]]
    assert maps == [{"é": 0.0, "b": 1.0, "c": 2.0}, {"é": 3.0, "b": 4.0, "c": 5.0}]


def test_arrays_that_are_no_block_of_memory_are_taken() -> None:
    opened = check.session_of(identity().SerializeToString(), "ORT_DISABLE_ALL")
    given = np.arange(10, dtype="float32")[::-2]
    assert np.array_equal(check.run(opened, {"x": given})[0], given)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS", "SIGILL", "SIGFPE"])
def test_graph_that_ends_the_engine_is_an_error_with_the_signal(name: str, crashing: Any, tmp_path: Path) -> None:
    crashing("bad", name=name)
    with pytest.raises(PassError, match=f"ended with signal {getattr(signal, name).value} \\({name}") as caught:
        check.session(products(tmp_path / "m"))
    assert ("memory" in str(caught.value)) == (name == "SIGKILL")
    opened = check.session_of(identity().SerializeToString(), "ORT_DISABLE_ALL")  # by a new process
    assert check.run(opened, {"x": np.ones(1, "float32")})[0] == 1


def test_run_that_ends_the_engine_spares_sessions_of_files(crashing: Any, tmp_path: Path) -> None:
    crashing("bad", when="run")
    (tmp_path / "plain").mkdir()
    files.save(identity(), tmp_path / "plain")
    kept, lost = check.session(tmp_path / "plain"), check.session_of(identity().SerializeToString(), "ORT_DISABLE_ALL")
    bad = check.session(products(tmp_path / "m"))
    with pytest.raises(PassError, match=r"does not survive the graph on inputs of shapes \{'x': \(2, 64\)\}"):
        check.run(bad, {"x": np.ones((2, 64), "float32")})
    assert check.run(kept, {"x": np.ones(1, "float32")})[0] == 1
    with pytest.raises(PassError, match="in memory alone"):
        check.run(lost, {"x": np.ones(1, "float32")})


def test_the_process_may_be_killed_while_it_computes() -> None:
    """As the kernel does where memory is short."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("w", TensorProto.FLOAT, [None])],
    )  # fmt: skip
    model = graph([helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)], {"yes": np.array(True)}, ["n"], 1)
    opened = check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL")
    pid = apart.pid()
    assert pid is not None
    threading.Thread(target=lambda: (time.sleep(0.3), os.kill(pid, signal.SIGKILL)), daemon=True).start()
    with pytest.raises(PassError, match="SIGKILL"):
        check.run(opened, {"x": np.ones(1, "float32")})
    assert not Path(f"/proc/{pid}").exists()


def test_interrupt_ends_process_and_the_next_answer_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = check.session_of(identity().SerializeToString(), "ORT_DISABLE_ALL")
    pid = apart.pid()

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(apart.apart_child, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            check.run(opened, {"x": np.ones(1, "float32")})
    assert not Path(f"/proc/{pid}").exists()
    again = check.session_of(identity().SerializeToString(), "ORT_DISABLE_ALL")
    assert check.run(again, {"x": np.full(1, 7, "float32")})[0] == 7


def quantized(folder: Path, **options: Any) -> Path:
    folder.mkdir()
    PASSES["quantize"].run(folder.parent / "m", Quantize(**options), folder)
    return folder


@pytest.mark.parametrize("when", ["open", "run"])
def test_a_node_that_ends_the_engine_in_integers_stays_float(when: str, crashing: Any, tmp_path: Path) -> None:
    """It alone, with the signal as its reason."""
    products(tmp_path / "m")
    crashing("bad_integer", when=when)
    out = quantized(tmp_path / "out")
    notes = json.loads((out / "notes.json").read_bytes())
    assert list(notes["nodes"]) == ["good"]
    assert "signal 11 (SIGSEGV)" in notes["kept"]["bad"]


def _adopted(folder: Path) -> None:
    model = graph([helper.make_node("Squeeze", ["x"], ["y"], "bad")], {}, ["batch", 64])
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, folder / "given.onnx")
    (folder / "adopted").mkdir()
    adopt.adopt(folder / "given.onnx", (), folder / "adopted")


def _passed(name: str, config: Any) -> Any:
    def run(folder: Path) -> None:
        (folder / name).mkdir()
        PASSES[name].run(folder / "m", config, folder / name)

    return run


def _ranked(folder: Path) -> None:
    calls = recorded(folder / "calls", [{"x": np.ones((2, 64), "float32")}])
    damage.rank(folder / "m", folder / "q", ["good", "bad"], calls, folder)


PLACES = {
    "simplify": (_passed("simplify", Simplify()), "bad", "open"),
    "simplify, folding": (_passed("simplify", Simplify()), "bad", "save"),
    "optimize": (_passed("optimize", Optimize()), "bad", "open"),
    "optimize, every way": (_passed("optimize", Optimize()), "bad", "run"),
    "precision": (_passed("precision", Precision()), "bad", "open"),
    "quantize, the float itself": (_passed("quantize", Quantize()), "bad", "run"),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_wherever_it_is_asked_its_end_is_error_or_done_without(place: str, crashing: Any, tmp_path: Path) -> None:
    """A step fails with a reason, as it does where the engine refuses, or does less; nothing else is raised, and nothing ends."""
    run, marker, when = PLACES[place]
    products(tmp_path / "m")
    crashing(marker, when)
    try:
        run(tmp_path)
    except PassError as error:
        assert "signal 11" in str(error)  # noqa: PT017 - it may do without


def test_ranks_and_damage_end_with_a_reason(crashing: Any, tmp_path: Path) -> None:
    products(tmp_path / "m")
    quantized(tmp_path / "q")
    crashing("bad")
    with pytest.raises(PassError, match="SIGSEGV"):
        _adopted(tmp_path)
    with pytest.raises(PassError, match="SIGSEGV"):
        _ranked(tmp_path)
