"""What a recipe means at a GPU worker: how chains end, what the target gives to steps, what makes no sense there."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlpack.core.calibrants import HeldOutCalibration
from mlpack.core.digest import of_bytes
from mlpack.core.records import Budgets, Candidate, MetricSpec, Recipe, Source, Step, Target, Variant
from mlpack.core.serving import Serve
from mlpack.errors import RecipeError
from mlpack.passes import PASSES
from mlpack.passes.optimize import Optimize
from mlpack.passes.precision import Precision
from mlpack.passes.quantize import Quantize
from mlpack.passes.simplify import Simplify
from mlpack.pipeline import plan
from mlpack.targets import CpuWorker, GpuWorker, LambdaZip


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The fields of the tensorrt step that a target has a say in."""

    builder: str = "auto"
    gpus: tuple[str, ...] = ("sm86",)
    flavour: str = "rtx"
    max_batch: int = 16


TABLE: dict[str, Any] = {
    **PASSES,
    "tensorrt": SimpleNamespace(config=Engines, takes=("onnx",), gives="onnx", binds=("evaluation",)),
}
GPU = Target(kind="gpu-worker", arch="x86_64", config=GpuWorker(gpus=("sm75", "sm89"), runtime="lean", max_batch=4))
CUDA = Target(kind="gpu-worker", arch="x86_64", config=GpuWorker(backend="cuda"))
ZIP = Target(kind="lambda-zip", arch="x86_64", config=LambdaZip())
WORKER = Target(kind="cpu-worker", arch="x86_64", config=CpuWorker())
INT8 = Step(name="precision", config=Precision(type="int8"))  # type: ignore[arg-type]


def candidates(
    *targets: Target, steps: tuple[Step, ...] | None = None, calibration: str | HeldOutCalibration | None = None
) -> list[Candidate]:
    recipe = Recipe(
        name="net",
        root=Path("/nowhere"),
        digest=of_bytes(b""),
        source=Source(format="onnx", reference="model.onnx"),
        inputs=(),
        evaluation="eval.npz",
        calibration=calibration,
        metric=MetricSpec(name="top1"),
        variants=None if steps is None else (Variant(name="v", steps=steps),),
        targets=targets,
        budgets=Budgets(),
        prefer="cost",
        serve=Serve(),
        tags={},
    )
    return list(plan.expand(recipe, passes=TABLE).candidates)


def chain(target: Target, *steps: Step) -> list[Step]:
    (found,) = candidates(target, steps=steps)
    return list(found.steps)


def test_gpu_chain_ends_with_engines_over_standard_operators() -> None:
    steps = chain(GPU)
    assert [step.name for step in steps] == ["simplify", "tensorrt"]
    assert steps[0].config == Simplify(operators="portable")
    assert steps[1].config == Engines(gpus=("sm75", "sm89"), flavour="lean", max_batch=4)


def test_gpu_chain_for_the_cuda_provider_ends_with_the_graph() -> None:
    assert [step.name for step in chain(CUDA)] == ["simplify"]


def test_cpu_worker_chain_is_lambdas() -> None:
    assert chain(WORKER) == chain(ZIP)


def test_gate_is_no_build_and_counts_for_nothing() -> None:
    gate = Step(name="tensorrt", config=Engines(builder="check"))
    assert [step.name for step in chain(GPU, gate)] == ["simplify", "tensorrt", "tensorrt"]
    (on_cpu,) = candidates(ZIP, steps=(gate,))
    assert [step.name for step in on_cpu.steps] == ["simplify", "tensorrt", "optimize"]
    assert on_cpu.skipped is None


def test_named_step_is_not_added_again_and_must_fit_the_target() -> None:
    mine = Step(name="tensorrt", config=Engines(builder="deferred"))
    assert [step.name for step in chain(GPU, mine)] == ["simplify", "tensorrt"]
    agreed = Step(name="tensorrt", config=Engines(gpus=("sm75", "sm89")))
    assert chain(GPU, agreed)[-1].config.gpus == ("sm75", "sm89")
    other = Step(name="tensorrt", config=Engines(gpus=("sm120",)))
    with pytest.raises(RecipeError, match="gpus is sm120 in the step and sm75, sm89 at the target"):
        chain(GPU, other)


@pytest.mark.parametrize(
    ("target", "step", "why"),
    [
        (GPU, Step(name="quantize", config=Quantize(method="dynamic")), "is a form for processors"),
        (GPU, Step(name="optimize", config=Optimize()), "operators of onnxruntime"),
        (ZIP, INT8, "precision .type: int8. is a form for TensorRT"),
        (WORKER, INT8, "is a form for TensorRT"),
        (WORKER, Step(name="tensorrt", config=Engines()), "only a GPU worker runs"),
        (CUDA, Step(name="quantize", config=Quantize(method="dynamic")), "no kernels"),
        (CUDA, Step(name="tensorrt", config=Engines()), "only a GPU worker runs"),
    ],
)
def test_what_makes_no_sense_is_skipped_with_the_reason(target: Target, step: Step, why: str) -> None:
    (found,) = candidates(target, steps=(step,))
    assert found.skipped is not None
    assert re.search(why, found.skipped)


def test_half_precision_is_worth_it_on_a_gpu_and_not_on_x86() -> None:
    half = Step(name="precision", config=Precision())
    on_gpu, on_cpu = candidates(GPU, ZIP, steps=(half,))
    assert on_gpu.skipped is None
    assert on_cpu.skipped is not None


def test_auto_is_each_targets_own() -> None:
    found = {each.id: each for each in candidates(ZIP, GPU, calibration="calib.npz")}
    assert list(found) == [
        "fp32@lambda-zip-x86_64",
        "int8@lambda-zip-x86_64",
        "int8-unfused@lambda-zip-x86_64",
        "int8-static@lambda-zip-x86_64",
        "fp32@gpu-worker-x86_64",
        "fp16@gpu-worker-x86_64",
        "int8@gpu-worker-x86_64",
    ]
    assert [step.name for step in found["int8@lambda-zip-x86_64"].steps] == ["simplify", "quantize", "optimize"]
    assert [step.name for step in found["int8@gpu-worker-x86_64"].steps] == ["simplify", "precision", "tensorrt"]
    assert not any(each.skipped for each in found.values())
    assert "int8@gpu-worker-x86_64" in {each.id for each in candidates(ZIP, GPU, calibration=HeldOutCalibration())}
    assert "int8@gpu-worker-x86_64" not in {each.id for each in candidates(ZIP, GPU)}


def test_fields_that_the_target_gives_are_fields_of_steps() -> None:
    given = {"arch", "gpus", "flavour", "max_batch"}
    known = {field.name for row in TABLE.values() for field in dataclasses.fields(row.config)}
    assert given <= known
