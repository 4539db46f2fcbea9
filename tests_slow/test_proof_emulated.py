"""Proof on processors that are not here, with the real emulator: a model that is right on a processor with VNNI and wrong on one
without, and packages for arm64 judged on an x86-64 machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support import workshop
from tests.support.workshop import Workshop
from tests_slow.conftest import program
from tools import parts

from mlpack.core import machine
from mlpack.pipeline import proof
from mlpack.store.local import Store

AT = machine.this_machine()
FEATURES, CLASSES = 512, 64
RECIPE = """\
name: cut
source: {onnx: model.onnx}
data: {evaluation: eval.npz}
metric: top1
targets: {lambda-zip: {arch: ARCH, memory_mb: 1769}}
variants:
  fp32: []
  seven: [quantize]
  wide: [{quantize: {reduce_range: false}}]
budgets: {accuracy_drop: 0.01, isa: proven}
prefer: size
search: false
"""


def write_model(path: Path) -> None:
    """Class 0 adds up all of `x`, class 1 every other of it and a bias: class 0 is twice as large, unless sums of two are cut off
    in the middle, which leaves class 1 in front."""
    weights = np.zeros((FEATURES, CLASSES), "float32")
    weights[:, 0] = 1.0
    weights[::2, 1] = 1.0
    bias = np.array([0.0, FEATURES / 12] + [0.0] * (CLASSES - 2), "float32")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"], name="product"), helper.make_node("Add", ["p", "b"], ["scores"])]
    graph = helper.make_graph(
        nodes,
        "cut",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", FEATURES))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("batch", CLASSES))],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def project(root: Path, target_arch: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    write_model(root / "model.onnx")
    x = np.random.default_rng(5).uniform(0.9, 1.0, (48, FEATURES)).astype("float32")
    np.savez(root / "eval.npz", x=x, labels=np.zeros(48, "int64"))
    (root / "recipe.yaml").write_text(RECIPE.replace("ARCH", target_arch))
    return root


def found_by(names: dict[str, Path]) -> Callable[[str], Path | None]:
    return lambda name: names.get(name)


def by_variant(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["variant"]: one for one in record["candidates"]}


@pytest.mark.skipif(AT.isa not in proof.EXACT, reason="this machine has no VNNI: what is cut off is so natively")
def test_full_range_passes_here_but_seven_bits_are_the_proof(tmp_path: Path) -> None:
    qemu = {"qemu-x86_64-static": program("qemu-x86_64-static")}
    made = workshop.make(tmp_path / "made")
    built = Workshop(project(made.root, AT.arch), made.store)
    record, _ = built.build(tools=found_by(qemu))
    ones = by_variant(record)
    for variant in ("fp32", "seven"):
        assert ones[variant]["status"] == "ok"
        assert ones[variant]["accuracy"]["proof"]["how"] == "static"
    wide = ones["wide"]
    assert wide["accuracy"]["value"] == 1.0  # natively it is right every time
    assert wide["status"] == "over_budget"
    assert wide["accuracy"]["proof"]["how"] is None
    assert wide["accuracy"]["proof"]["samples"] == proof.SAMPLES
    assert wide["accuracy"]["proof"]["agreement"] < 0.5
    assert any("not proven" in reason and "reduce_range" in reason for reason in wide["reasons"])
    # Without an emulator the graph alone refuses it; and where nobody asks for a proof, it may win, and a warning says so.
    record, _ = built.build(tools=found_by({}))
    assert "qemu-user-static" in by_variant(record)["wide"]["accuracy"]["proof"]["why"]
    assert by_variant(record)["wide"]["status"] == "over_budget"
    built.edit(lambda text: text.replace(", isa: proven", ""))
    record, out = built.build(tools=found_by(qemu), only="wide@*")
    assert record["chosen"] == by_variant(record)["wide"]["id"]
    assert "may not hold on every processor" in (out / "report.md").read_text()


@pytest.mark.skipif(AT.isa not in proof.EXACT, reason="this machine has no VNNI: what is cut off is so natively")
def test_full_range_with_exact_sums_is_proven_and_searched(tmp_path: Path) -> None:
    made = workshop.make(tmp_path / "made")
    built = Workshop(project(made.root, AT.arch), made.store)
    built.edit(lambda text: text.replace("search: false\n", ""))
    record, _ = built.build(tools=found_by({"qemu-x86_64-static": program("qemu-x86_64-static")}), only="wide@*")
    wide = by_variant(record)["wide"]
    assert wide["status"] == "ok"
    assert wide["search"]["tried"][wide["search"]["taken"]]["name"] == "exact sums"
    assert wide["accuracy"]["proof"]["how"] == "run"
    assert wide["accuracy"]["proof"]["agreement"] > 0.9999


@pytest.mark.skipif(AT.isa not in proof.EXACT, reason="this machine has no VNNI: nothing to compare")
def test_seven_bits_give_the_same_on_both(tmp_path: Path) -> None:
    """What the static proof promises, seen: the packaged model run under the emulator all the same."""
    made = workshop.make(tmp_path / "made")
    built = Workshop(project(made.root, AT.arch), made.store)
    seen: dict[str, float] = {}
    real = proof.Prover._risks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof.Prover, "_risks", lambda self, package: real(self, package) or ("asked for",))
        record, _ = built.build(tools=found_by({"qemu-x86_64-static": program("qemu-x86_64-static")}))
    for variant, one in by_variant(record).items():
        seen[variant] = one["accuracy"]["proof"]["agreement"]
    assert seen["fp32"] > 0.9999
    assert seen["seven"] > proof.AGREES
    assert seen["wide"] < 0.5


@pytest.mark.skipif(AT.arch != "x86_64", reason="here arm64 is measured as it is")
@pytest.mark.skipif(AT.isa not in proof.EXACT, reason="this machine has no VNNI: what is cut off is so natively")
def test_arm64_is_judged_here_and_chosen_if_estimates_may_be(tmp_path: Path) -> None:
    try:
        root = parts.arm64_root("trixie")
    except parts.MissingError as error:
        pytest.fail(str(error))
    names = {"qemu-aarch64-static": program("qemu-aarch64-static"), "arm64-root": root}
    built = Workshop(project(tmp_path / "made", "arm64"), Store(tmp_path / "store"))
    path = f"{parts.python_of(parts.rootfs('trixie'), '3.13')}:{os.environ['PATH']}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        record, _ = built.build(tools=found_by(names))
        assert record["chosen"] is None
        for one in by_variant(record).values():
            proved = one["accuracy"]["proof"]
            assert (proved["how"], proved["processor"]) == ("run", "neoverse-n1"), proved["why"]
            assert one["accuracy"]["value"] == 1.0
            assert one["latency_ms"]["p50"] is None
            assert any("accept_estimates" in reason for reason in one["reasons"])
        built.edit(lambda text: text.replace("isa: proven", "isa: proven, accept_estimates: true"))
        record, out = built.build(tools=found_by(names))
    assert record["chosen"] is not None
    assert "by a run under emulation" in (out / "report.md").read_text()
    # Without the root file system nothing is known of it, and nothing is an error.
    record, _ = built.build(tools=found_by({"qemu-aarch64-static": names["qemu-aarch64-static"]}))
    assert all(one["accuracy"]["value"] is None for one in record["candidates"])
