"""Proof: how an accuracy is known to hold on processors that are not here. The emulator is a script that runs what it is given, or
does what emulators do that fail."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support import fake_bench
from tests.support.workshop import Workshop

from mlpack.core import digest
from mlpack.core.records import Artifact, Machine
from mlpack.errors import MeasureError
from mlpack.pipeline import proof
from mlpack.pipeline.measuring import emulation
from mlpack.pipeline.measuring.measure import Subject
from mlpack.pipeline.packing.packages import TASK, Package, Packages
from mlpack.pipeline.proof import Evaluation, Prover
from mlpack.recipe import reader

VNNI = Machine(cpu="EPYC", arch="x86_64", isa="avx512-vnni", flags=(), cores=2, memory_bytes=10**9, os="Linux")
Find = Callable[[str], Path | None]


def package(root: Path, most: int, **behaviour: object) -> Package:
    """A package that answers as a bench does, whose graph has a product of integers with weights up to `most`."""
    fake_bench.write(root / TASK, **behaviour)  # type: ignore[arg-type]
    (model := root / TASK / "model").mkdir()
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"], name="product")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (1, 3))],
        [numpy_helper.from_array(np.full((3, 3), most, "int8"), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), model / "model.onnx")
    (model / "model.json").write_text(json.dumps({"graph": "model.onnx", "graph_optimization_level": 0}))
    name = digest.of_tree(root)
    artifact = Artifact(kind="directory", digest=name, tree=name, files=(), size_bytes=1, compressed_bytes=1, parts=())
    return Package(artifact=artifact, dir=root, content=name, python="3.13", memory_mb=1769)


def emulator(folder: Path, then: str = 'exec "$@"') -> Find:
    """A program by the emulator's name, that drops the processor's name and goes on."""
    folder.mkdir(exist_ok=True)
    program = folder / emulation.QEMU["x86_64"]
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "qemu-x86_64 version 7"; exit; }}\nshift 2\n{then}\n')
    program.chmod(0o755)
    return lambda name: program if name == program.name else None


@pytest.fixture
def data(tmp_path: Path) -> Evaluation:
    folder = fake_bench.write_calls(tmp_path / "data", samples=6)
    return Evaluation(tree=digest.of_tree(folder), dir=folder)


@pytest.fixture
def prover(workshop: Workshop, tmp_path: Path) -> Prover:
    packages = Packages(reader.load(workshop.recipe), workshop.store, (workshop.root,))
    find = emulator(tmp_path / "bin")
    return Prover(store=workshop.store, packages=packages, find=find, observe=lambda _text: None, seconds=30.0, at=VNNI)


@pytest.fixture
def wide(tmp_path: Path) -> Package:
    return package(tmp_path / "wide", 127)


def test_weights_of_seven_bits_are_proof_and_nothing_is_run(prover: Prover, data: Evaluation, tmp_path: Path) -> None:
    still = dataclasses.replace(prover, find=lambda name: pytest.fail(f"looked for {name}"))
    found = still.here({"int8": package(tmp_path / "p", 64, die_at="load")}, data)["int8"]
    assert (found.how, found.risks) == ("static", ())


def test_full_range_without_an_emulator_is_not_proven(prover: Prover, data: Evaluation, wide: Package) -> None:
    found = dataclasses.replace(prover, find=lambda _name: None).here({"wide": wide}, data)["wide"]
    assert found.how is None
    assert "1 integer product may overflow" in found.why
    assert "qemu-user-static" in found.why
    assert found.risks == ("MatMulInteger product: bytes up to 255 times bytes of 127 to 127",)


def test_a_run_that_gives_the_same_is_proof_and_is_kept(prover: Prover, data: Evaluation, wide: Package) -> None:
    first = prover.here({"a": wide, "again": wide}, data)
    assert first["a"] == first["again"]
    assert (first["a"].how, first["a"].samples, first["a"].agreement) == ("run", 6, 1.0)
    emulator(Path(str(prover.find(emulation.QEMU["x86_64"]))).parent, "exit 7")
    assert prover.here({"a": wide}, data) == {"a": first["a"]}


def test_a_run_that_gives_something_else_is_none(prover: Prover, data: Evaluation, wide: Package, tmp_path: Path) -> None:
    other = fake_bench.write(tmp_path / "other", bias=0.5)
    find = emulator(tmp_path / "bin2", f'exec "$1" "$2" "$3" {other}/bootstrap.py "$5" "$6"')
    found = dataclasses.replace(prover, find=find).here({"wide": wide}, data)["wide"]
    assert found.how is None
    assert found.agreement is not None
    assert found.agreement < proof.AGREES
    assert "other outputs" in found.why
    assert "reduce_range" in found.why


@pytest.mark.parametrize(
    ("float_", "here", "there", "proven"),
    [
        (0.0, 0.2, 0.2, True),
        (0.0, 0.2, 0.22, True),  # apart by less than integers lose, and hardly further from the float
        (0.0, 0.2, 0.18, True),
        (0.0, 0.2, 0.28, False),  # further from the float
        (0.0, 0.2, -0.2, False),  # as near to the float, and somewhere else
        (0.0, 0.01, 0.2, False),  # integers lose nothing, and it gives something else
        (0.0, 9.0, 9.1, False),  # so far from the float that nothing is like anything
    ],
)
def test_another_architecture_may_round_as_integers_lose(
    prover: Prover, data: Evaluation, tmp_path: Path, float_: float, here: float, there: float, proven: bool
) -> None:
    """The package there, its twin here, and the float: what each adds to its outputs."""
    on = emulation.processor("x86_64", prover.find)
    assert on is not None
    twins = {"fp32": package(tmp_path / "float", 3, bias=float_), "int8": package(tmp_path / "here", 3, bias=here)}
    packages = {"fp32": twins["fp32"], "int8": package(tmp_path / "there", 3, bias=there)}
    found = prover.elsewhere(packages, twins, "fp32", data, on)
    assert found["fp32"].how == "run"
    assert (found["int8"].how == "run") == proven, found["int8"].why
    assert "fidelity" in found["int8"].why
    assert prover.elsewhere(packages, twins, "fp32", data, on) == found
    # The float itself has nothing to lose: it must give what it gives here.
    other = {"fp32": package(tmp_path / "other", 3, bias=0.5)}
    assert prover.elsewhere(other, twins, "fp32", data, on)["fp32"].how is None


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("echo 'qemu: uncaught target signal 4 (Illegal instruction)' >&2; exit 132", "Illegal instruction"),
        ("kill -SEGV $$", "exit status -11"),
        ("echo no json; cat >/dev/null", "broke off at 'load'"),
    ],
)
def test_an_emulator_that_fails_is_a_reason_and_is_tried_again(
    prover: Prover, data: Evaluation, wide: Package, tmp_path: Path, then: str, said: str
) -> None:
    found = dataclasses.replace(prover, find=emulator(tmp_path / "bin2", then)).here({"wide": wide}, data)["wide"]
    assert found.how is None
    assert said in found.why
    assert "\n" not in found.why
    assert prover.here({"wide": wide}, data)["wide"].how == "run"


def test_an_emulator_that_cannot_tell_its_version_is_none(prover: Prover, data: Evaluation, wide: Package, tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    found = dataclasses.replace(prover, find=lambda _name: program).here({"wide": wide}, data)["wide"]
    assert "no emulator" in found.why


def test_a_machine_without_vnni_has_measured_it_natively(prover: Prover, data: Evaluation, wide: Package) -> None:
    for isa in ("avx2", "avx512"):
        there = dataclasses.replace(prover, at=dataclasses.replace(VNNI, isa=isa), find=lambda _name: None)
        assert there.here({"wide": wide}, data)["wide"].how == "native"
    arm = dataclasses.replace(prover, at=dataclasses.replace(VNNI, arch="arm64", isa="neon-dotprod"))
    assert arm.here({"wide": wide}, data)["wide"].how == "native"


def test_a_graph_that_cannot_be_read_is_run(prover: Prover, data: Evaluation, tmp_path: Path) -> None:
    odd = package(tmp_path / "odd", 127)
    (odd.dir / TASK / "model/model.onnx").write_bytes(b"no graph")
    assert prover.here({"odd": odd}, data)["odd"].how == "run"
    found = dataclasses.replace(prover, find=lambda _name: None).here({"odd": odd}, data)["odd"]
    assert "cannot be looked at" in found.why


def test_too_few_calls_in_time_are_none(prover: Prover, data: Evaluation, wide: Package) -> None:
    hurried = dataclasses.replace(prover, seconds=0.0)
    found = hurried.here({"wide": wide}, data)["wide"]
    assert found.how is None


def test_outputs_drawn_at_random_are_left_out(prover: Prover, data: Evaluation, wide: Package) -> None:
    found = prover.here({"wide": wide}, dataclasses.replace(data, random_outputs=lambda: ("y",)))["wide"]
    assert "drawn at random" in found.why


def test_fidelity_of_two_runs() -> None:
    same = [{"y": np.array([[1.0, 2.0]], "float32")}, {"y": np.array([[3.0, 5.0]], "float32")}]
    assert proof.fidelity(same, same) == 1.0
    far = [{"y": call["y"] + 1} for call in same]
    assert proof.fidelity(far, same) < 0.9
    longer = [{"y": np.concatenate([call["y"], call["y"]])} for call in same]
    assert proof.fidelity(longer, same) == 0.0
    with pytest.raises(MeasureError, match="random"):
        proof.fidelity(same, same, skip=("y",))


def test_sample_is_same_for_same_data_and_another_for_others(data: Evaluation, tmp_path: Path) -> None:
    from mlpack.evaluation.data import calls

    def drawn(seed: str, most: int = 3, most_bytes: int = 1 << 20) -> list[int]:
        (out := tmp_path / f"s{len(list(tmp_path.iterdir()))}").mkdir()
        numbers = calls.sample(data.dir, out, most, most_bytes, seed)
        assert len(json.loads((out / "calls.json").read_bytes())) == len(numbers)
        assert (out / "calls.bin").stat().st_size == 12 * len(numbers)
        return numbers

    assert drawn("a") == drawn("a")
    assert len({tuple(drawn(seed)) for seed in "abcdef"}) > 1
    assert len(drawn("a", most=100)) == 6
    assert len(drawn("a", most_bytes=1)) == 1


def test_a_root_file_system_is_seen_with_a_processor_of_its_own(tmp_path: Path) -> None:
    (root := tmp_path / "arm64" / "usr/bin").mkdir(parents=True)
    (root / "python3.13").write_bytes(b"\x7fELF")
    (root / "python3").symlink_to("/usr/bin/python3.13")
    (tmp_path / "arm64/proc").mkdir()
    program = emulator(tmp_path / "bin")(emulation.QEMU["x86_64"])

    def find(name: str) -> Path | None:
        return {emulation.QEMU["arm64"]: program, "arm64-root": tmp_path / "arm64"}.get(name)

    on = emulation.foreign_processor("arm64", find, "3.13")
    subject = Subject(id="a", root=tmp_path, memory_mb=128, interpreter=Path("/usr/bin/python3"))
    made = emulation.emulate(subject, on, "3.13", tmp_path)
    assert made.interpreter == root / "python3.13"
    assert made.emulator[-2] == "-L"
    view = Path(made.emulator[-1])
    assert (view / "usr/bin/python3.13").read_bytes() == b"\x7fELF"
    assert "0xd0c" in (view / "proc/cpuinfo").read_text()
    assert (view / "sys/devices/system/cpu/present").read_text() == "0\n"
    with pytest.raises(MeasureError, match=r"no Python 3\.12"):
        emulation.foreign_processor("arm64", find, "3.12")
    with pytest.raises(MeasureError, match="MLPACK_ARM64_ROOT"):
        emulation.foreign_processor("arm64", lambda name: None if name == "arm64-root" else find(name), "3.13")
    with pytest.raises(MeasureError, match="qemu-user-static"):
        emulation.foreign_processor("arm64", lambda _name: None, "3.13")


def test_interpreter_that_is_script_is_not_given_to_emulator(tmp_path: Path) -> None:
    script = tmp_path / "python3.13"
    script.write_text("#!/bin/sh\n")
    on = emulation.processor("x86_64", emulator(tmp_path / "bin"))
    assert on is not None
    subject = Subject(id="a", root=tmp_path, memory_mb=128, interpreter=script)
    assert emulation.emulate(subject, on, "3.13", tmp_path).interpreter == Path(sys.executable)
    own = dataclasses.replace(subject, interpreter=Path(sys.executable))
    assert emulation.emulate(own, on, "3.13", tmp_path).interpreter == Path(sys.executable)
