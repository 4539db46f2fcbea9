"""Sizes of memory in a build: looked at with injected numbers, proposed, and taken where the recipe leaves them to the build."""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from tests.support import workshop

from mlpack.core.records import Budgets, Target
from mlpack.core.sizes import SIZES_MB, Sizing
from mlpack.decide import sizing as decide
from mlpack.errors import MeasureError, PackError, RecipeError
from mlpack.pipeline import booting, ending, sizing
from mlpack.pipeline.measuring import measure, quota
from mlpack.pipeline.measuring.measure import EFFORTS, Subject, Timings
from mlpack.pipeline.outcome import Startup
from mlpack.targets import LambdaZip
from mlpack.targets.container import Container

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> workshop.Workshop:
    return workshop.make(tmp_path_factory.mktemp("sizes") / "project")


def zip_target(memory_mb: Any = 1769) -> Target:
    return Target(kind="lambda-zip", arch="x86_64", config=LambdaZip(memory_mb=memory_mb))


class Clock:
    """What a package of `work_ms` on a whole vCPU is measured at, by the share that its prefix holds; nothing is run."""

    def __init__(self, work_ms: float, peak_bytes: int = 100 * MIB) -> None:
        self.work_ms, self.peak_bytes, self.asked = work_ms, peak_bytes, 0

    def __call__(self, subjects: Sequence[Subject], *_: Any) -> dict[str, Timings]:
        self.asked += 1
        return {subject.id: self._timings(subject) for subject in subjects}

    def _timings(self, subject: Subject) -> Timings:
        share = float(subject.emulator[1]) if subject.emulator else float(subject.threads)
        return Timings(
            load_ms=(1.0,),
            first_answer_ms=(1.0,),
            cold_start_ms=(20 * self.work_ms / min(share, 1.0),),
            latency_ms=(self.work_ms / share,) * 20,
            ratio_samples=(1.0,),
            warmups=1,
            throughput_per_s=1.0,
            peak_memory_bytes=self.peak_bytes,
        )


class Held:
    """A quota that writes its share where `Clock` reads it."""

    def __init__(self, share: float) -> None:
        self.prefix = ("share", str(share))

    def __enter__(self) -> tuple[str, ...]:
        return self.prefix

    def __exit__(self, *_: object) -> None:
        return


def build(
    project: workshop.Workshop, monkeypatch: pytest.MonkeyPatch, clock: Clock, memory: str, **more: Any
) -> tuple[dict[str, Any], Path]:
    """A build whose sizes have the clock's numbers, on four cores with a quota."""
    monkeypatch.setattr(quota, "ways", lambda: (quota.Quota(name="a quota of the test", held=Held),))
    monkeypatch.setattr(quota, "trial", lambda _: None)
    monkeypatch.setattr(sizing, "_measure", _with(clock))
    monkeypatch.setattr(sizing, "_cores", lambda: 4)
    monkeypatch.setattr(sizing, "_VERSION", id(clock))  # what the store has of another clock is not read
    project.edit(lambda text: "\n".join(_line(line, memory) for line in text.splitlines()) + "\n")
    return project.build(**more)


def _with(clock: Clock) -> Any:
    real = sizing._measure

    def measured(*arguments: Any) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(measure, "time_side_by_side", clock)
            return real(*arguments)

    return measured


def _line(line: str, memory: str) -> str:
    return f"  lambda-zip: {{arch: x86_64, memory_mb: {memory}}}" if "lambda-zip" in line else line


def test_auto_packs_what_was_chosen_for_the_cheapest_size(project: workshop.Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    record, out = build(project, monkeypatch, Clock(work_ms=0.2), "auto")
    sizes = record["sizing"]
    assert [(row["memory_mb"], row["measured"], row["threads"]) for row in sizes["sizes"]] == [
        (512, True, 1),
        (1024, True, 1),
        (1769, True, 1),
        (3538, True, 2),
    ]
    # Every size answers within the millisecond that is billed at least, so the smallest costs least.
    assert (sizes["proposed_mb"], sizes["taken"], sizes["quota"]) == (512, True, "by a quota of the test")
    slowest, *_, fastest = [row["latency_p50_ms"] for row in sizes["sizes"]]
    assert slowest / fastest == pytest.approx(2 * 1769 / 512, rel=1e-3)
    folder = out / "artifacts" / record["chosen"]
    assert json.loads((folder / "package.json").read_bytes())["memory_mb"] == 512
    with zipfile.ZipFile(folder / "function.zip") as archive:
        assert json.loads(archive.read("model/model.json"))["memory_mb"] == 512


def test_a_number_keeps_its_memory_and_has_a_proposal(project: workshop.Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(work_ms=0.25)
    record, out = build(project, monkeypatch, clock, "2048")
    assert record["sizing"] is None  # little effort, and nothing left to the build
    monkeypatch.setitem(EFFORTS, "full", workshop.QUICK)
    record, out = build(project, monkeypatch, clock, "2048")
    assert [row["memory_mb"] for row in record["sizing"]["sizes"]] == [512, 1024, 1769, 2048, 3538]
    assert [row["measured"] for row in record["sizing"]["sizes"]] == [True, True, True, False, True]
    assert record["sizing"]["taken"] is False
    package = json.loads((out / "artifacts" / record["chosen"] / "package.json").read_bytes())
    assert package["memory_mb"] == 2048


@pytest.mark.parametrize("measured", [True, False])
def test_memory_that_is_taken_by_an_estimate_is_a_warning(measured: bool) -> None:
    """A build says so where it happens: its budgets were held against a number that nobody has measured."""
    whole = {"latency_ms": [0.2] * 20, "cold_start_ms": [100.0], "peak_memory_bytes": 1}
    timings = {str(size): whole for size in SIZES_MB} if measured else {"1769": whole}
    verdicts = decide.judge(sizing.points_of(zip_target("auto"), SIZES_MB, timings, "no quota here"), Budgets())
    sized = Sizing(candidate_id="a", sizes=verdicts, proposed_mb=512, taken=False, quota="no quota here")
    words = ending.guessed(sized)
    assert (words is None) == measured
    assert measured or words == (
        "a: built for 512 MB by an estimate, not a measurement (estimated from 1,769 MB: 28.9 % of a vCPU; no quota here)."
        " Measure the function at this size, or write its memory_mb into the recipe"
    )


def test_no_size_that_fits_leaves_the_memory_of_the_comparison(project: workshop.Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    record, out = build(project, monkeypatch, Clock(work_ms=0.3, peak_bytes=5000 * MIB), "auto")
    assert record["sizing"]["proposed_mb"] is None
    assert all("its peak of" in row["problems"][0] for row in record["sizing"]["sizes"])
    package = json.loads((out / "artifacts" / record["chosen"] / "package.json").read_bytes())
    assert package["memory_mb"] == 1769


def test_sizes_that_cannot_be_measured_are_a_warning(project: workshop.Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Clock):
        def __call__(self, subjects: Sequence[Subject], *_: Any) -> dict[str, Timings]:
            raise MeasureError("it died")

    record, _ = build(project, monkeypatch, Broken(work_ms=0.4), "auto", only="fp32@*")
    assert record["sizing"] is None
    assert record["chosen"] is not None


def test_without_a_quota_parts_of_a_vcpu_are_estimated() -> None:
    whole = {"latency_ms": [10.0] * 20, "cold_start_ms": [100.0], "peak_memory_bytes": 1}
    points = sizing.points_of(zip_target(), SIZES_MB, {"1769": whole}, "")
    assert [(point.memory_mb, point.measured) for point in points] == [(512, False), (1024, False), (1769, True), (3538, False)]
    assert points[0].latency_ms[0] == pytest.approx(10 * 1769 / 512, rel=1e-4)
    assert all("estimated from 1,769 MB" in point.basis for point in points if not point.measured)


@pytest.mark.parametrize(
    ("size", "cores", "has_quota", "can"),
    [
        (512, 1, True, True),
        (512, 8, False, False),
        (1769, 1, False, True),
        (2048, 8, True, False),
        (3538, 1, True, False),
        (3538, 2, False, True),
        (10_240, 8, True, False),
    ],
)
def test_what_a_machine_can_measure(size: int, cores: int, has_quota: bool, can: bool) -> None:
    assert sizing._can_measure(size, cores, has_quota=has_quota) is can


def test_only_functions_of_this_processor_have_sizes() -> None:
    here = Target(kind="lambda-zip", arch=sizing.machine.arch(), config=LambdaZip())
    elsewhere = Target(kind="lambda-zip", arch="riscv64", config=LambdaZip())
    container = Target(kind="container", arch=sizing.machine.arch(), config=Container())
    assert [sizing.has_sizes(target) for target in (here, elsewhere, container)] == [True, False, False]


@pytest.mark.parametrize("word", ["Auto", "any", ""])
def test_another_word_than_auto_is_no_memory(word: str, project: workshop.Workshop) -> None:
    project.edit(lambda text: "\n".join(_line(line, json.dumps(word)) for line in text.splitlines()) + "\n")
    with pytest.raises(RecipeError, match="memory_mb"):
        project.build()


def test_a_start_longer_than_lambda_allows_cannot_win() -> None:
    started = Startup(how="by a test", init_ms=10_001, status=200)
    with pytest.raises(PackError, match=r"took 10\.0 s here \(by a test\), and Lambda ends one after 10 s"):
        booting.check_init(started, zip_target())
    slow = Startup(how="by a test", init_ms=3000, status=200)
    assert booting.check_init(slow, zip_target()) is None
    warning = booting.check_init(slow, zip_target(512))
    assert warning is not None
    assert "its start takes 10.4 s at 512 MB" in warning
    container = Target(kind="container", arch="x86_64", config=Container())
    assert booting.check_init(started, container) is None


def test_the_cores_are_those_that_this_process_may_use() -> None:
    assert sizing._cores() == len(os.sched_getaffinity(0))
