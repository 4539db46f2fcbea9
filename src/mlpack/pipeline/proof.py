"""Whether an accuracy that was measured here holds on every processor that the target may give.

Lambda's x86-64 hosts may have AVX2 without VNNI, whose int8 kernels cut off sums that VNNI computes exactly. An arm64 package does
not run on x86-64 at all. There are three proofs, tried from cheap to dear:

    native   the accuracy was measured on such a processor
    static   the packed graph has no product that could be cut off (`graphs.overflow`)
    run      an emulated processor ran the package on a seeded sample of the evaluation data, with the same outputs as here

Promises:
- The shipped bytes are judged. An emulated run takes bounded time, and the store keeps it under everything that it depends on.
- A missing emulator or root file system is a reason in words, never an error.

Will not: decide. `budgets` does.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import digest, machine
from mlpack.core.digest import Digest
from mlpack.core.records import Machine, Measurement, Proof
from mlpack.core.text import words
from mlpack.errors import MeasureError, PassError
from mlpack.evaluation import metrics
from mlpack.evaluation.data import calls
from mlpack.evaluation.metrics.accuracy import read_outputs
from mlpack.graphs.facts import overflow
from mlpack.pipeline.measuring import emulation, measure
from mlpack.pipeline.measuring.emulation import Processor
from mlpack.pipeline.packing.packages import Package, Packages, subject_of
from mlpack.store.local import Store

if TYPE_CHECKING:
    from mlpack.pipeline.measuring.measure import Subject

AGREES = 0.999
"""The least fidelity for outputs of two processors to count as the same. Kernels of other widths round differently, and such a
rounding moves an activation by one step of 255; a pair that is cut off moves it by hundreds."""
NEAR, NO_WORSE, FAR = 0.9, 1.25, 0.5
"""For another architecture: its integer kernels give the same bytes (measured), its float kernels round differently, and the
difference grows from layer to layer. The yardstick is the loss of fidelity of the integers to the float here. The two processors
may differ by that loss, and the loss of the emulated one may be NO_WORSE times as large. Their fidelity has to reach NEAR, and that
of the integers here to the float FAR, below which outputs have nothing in common."""
SAMPLES, SAMPLE_BYTES = 32, 32 << 20
"""Calls of a sample, and their bytes at most."""
SECONDS = 45.0
"""Seconds for the calls of an emulated run, beside loading and the last call."""
LEAST = 4
"""The fewest calls of an emulated run that counts, if the sample has as many."""
_VERSION = 2
_MAX_RISKS = 8
EXACT = ("avx512-vnni", "avx-vnni", "amx")
"""Instruction sets of x86-64 that sum bytes in 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Calls in the store. `random_outputs` names the outputs that differ between any two runs; it is called only to compare
    runs."""

    tree: Digest
    dir: Path
    random_outputs: Callable[[], tuple[str, ...]] = tuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """Proves the accuracies of one build. `find` finds the program of an emulator; `observe` receives notes about progress."""

    store: Store
    packages: Packages
    find: Callable[[str], Path | None]
    observe: Callable[[str], None]
    seconds: float = SECONDS
    at: Machine = field(default_factory=machine.this_machine)

    def here(self, packages: Mapping[str, Package], data: Evaluation) -> dict[str, Proof]:
        """The proof of every package that was measured on this machine, or the reason why there is none."""
        if (weakest := _native(self.at)) is not None:
            return dict.fromkeys(packages, weakest)
        by_content: dict[Digest, Proof] = {}
        emulated = None
        for id_, package in packages.items():
            if package.content in by_content:
                continue
            risks = self._risks(package)
            if isinstance(risks, tuple) and not risks:
                by_content[package.content] = Proof(how="static", why=_STATIC)
                continue
            emulated = emulated or emulation.processor("x86_64", self.find)
            by_content[package.content] = self._without_vnni(id_, package, data, risks, emulated)
        return {id_: by_content[package.content] for id_, package in packages.items()}

    def elsewhere(
        self, packages: Mapping[str, Package], twins: Mapping[str, Package], base: str, data: Evaluation, processor: Processor
    ) -> dict[str, Proof]:
        """The same for packages of another architecture, whose accuracy is that of their twins here. `processor` runs each package,
        which has to give its twin's outputs, as far as roundings allow. `base`: the float among the twins."""
        proofs = {}
        for id_, package in packages.items():
            try:
                run = self._agreement(id_, package, twins[id_], data, processor, twins[base] if id_ != base else None)
            except MeasureError as error:
                why = f"its run under {processor.description} failed: {_first(error)}"
                proofs[id_] = Proof(how=None, why=why, processor=processor.model)
                continue
            holds = run.agreement >= AGREES or run.within_loss
            run_text = f"{processor.description}, asked {words.count(run.samples, 'call')} of the evaluation data,"
            why = f"{run_text} gives {_comparison(run)} that its accuracy was judged by: fidelity {run.agreement:.4f}"
            proofs[id_] = Proof(
                how="run" if holds else None, why=why, processor=processor.model, samples=run.samples, agreement=run.agreement
            )
        return proofs

    def _without_vnni(
        self, id_: str, package: Package, data: Evaluation, risks: tuple[str, ...] | str, processor: Processor | None
    ) -> Proof:
        """A proof by a run, or the reason why there is none."""
        first_risks = () if isinstance(risks, str) else risks[:_MAX_RISKS]
        risky = str(risks)
        if first_risks:
            risky = f"{words.count(len(risks), 'integer product')} may overflow without VNNI (first: {first_risks[0]})"
        if processor is None:
            why = f"{risky}, and no emulator is here to run it on: {emulation.INSTALL}, or {_ADVICE}"
            return Proof(how=None, why=why, risks=first_risks)
        try:
            run = self._agreement(id_, package, package, data, processor)
        except MeasureError as error:
            why = f"{risky}, and its run under {processor.description} failed: {_first(error)}"
            return Proof(how=None, why=why, processor=processor.model, risks=first_risks)
        samples, agreement = run.samples, run.agreement
        run_text = f"{processor.description}, asked {words.count(samples, 'call')} of the evaluation data, gives"
        if agreement >= AGREES:
            why = f"{risky}, but {run_text} the outputs of the processor here: fidelity {agreement:.4f}"
        else:
            why = (
                f"{risky}, and {run_text} other outputs than the processor here: fidelity {agreement:.4f}, "
                f"and {AGREES} is needed; {_ADVICE}, or have its sums exact (`optimize: {{exact: true}}`)"
            )
        how = "run" if agreement >= AGREES else None
        return Proof(how=how, why=why, processor=processor.model, samples=samples, agreement=agreement, risks=first_risks)

    def _risks(self, package: Package) -> tuple[str, ...] | str:
        """The products of the packed graph that may overflow, or why that is unknown. Stored, because unpacking takes long."""
        action = {"kind": "proof/static", "version": [_VERSION, overflow.VERSION], "package": str(package.content)}
        cached = self.store.find(action)
        if cached is not None:
            return tuple(json.loads((cached.dir / "risks.json").read_bytes()))
        with self.packages.trees.of({"": package}) as folders:
            try:
                risks = tuple(map(str, overflow.risks_of_package(folders[""])))
            except (OSError, KeyError, ValueError, PassError) as error:
                return f"its packed graph cannot be looked at ({_first(error)})"
        with self.store.entry(action) as entry:
            if not entry.hit:
                (entry.dir / "risks.json").write_bytes(digest.canonical_json(list(risks)))
        return risks

    def _agreement(
        self, id_: str, package: Package, like: Package, data: Evaluation, processor: Processor, base: Package | None = None
    ) -> _EmulatedRun:
        """The fidelity of the package's outputs on that processor to those of `like` here, and of both to those of `base`."""
        action = {
            "kind": "proof/run",
            "version": _VERSION,
            "package": str(package.content),
            "like": str(like.content),
            "processor": [*processor.words[1:], processor.version, str(processor.root)],
            "machine": dataclasses.asdict(self.at),
            "data": str(data.tree),
            "sample": [SAMPLES, SAMPLE_BYTES, self.seconds],
            **({"base": str(base.content)} if base is not None else {}),
        }
        cached = self.store.find(action)
        if cached is None:
            self.observe(f"proof: {id_} under {processor.description}")
            run = self._run(id_, package, like, data, processor, base)
            with self.store.entry(action, repeatable=False) as entry:
                if not entry.hit:
                    (entry.dir / "run.json").write_bytes(digest.canonical_json(dataclasses.asdict(run)))
            return run
        return _EmulatedRun(**json.loads((cached.dir / "run.json").read_bytes()))

    def _run(
        self, id_: str, package: Package, like: Package, data: Evaluation, processor: Processor, base: Package | None
    ) -> _EmulatedRun:
        both = {"emulated": package, "here": like, **({"base": base} if base is not None else {})}
        with self.packages.trees.of(both) as folders, self.store.scratch() as work:
            (sample := work / "sample").mkdir()
            numbers = calls.sample(data.dir, sample, SAMPLES, SAMPLE_BYTES, str(data.tree))
            subject = emulation.emulate(subject_of(id_, package, folders["emulated"]), processor, package.python, work)
            prefixes = emulation.predict(subject, sample, len(numbers), work, self.seconds)
            if len(prefixes) < min(LEAST, len(numbers)):
                raise MeasureError(f"it did {words.count(len(prefixes), 'call')} in {self.seconds:.0f} s, and {LEAST} are needed")
            skip = data.random_outputs()
            theirs = [call for prefix in prefixes for call in read_outputs(prefix)]

            def answers(name: str, of: Package) -> list[Any]:
                (place := work / name).mkdir()
                return list(read_outputs(_predict_one(subject_of(id_, of, folders[name]), sample, len(prefixes), place)))

            ours = answers("here", like)
            run = _EmulatedRun(samples=len(prefixes), agreement=fidelity(theirs, ours, skip))
            if base is None:
                return run
            floats = answers("base", base)
            return dataclasses.replace(run, ours=fidelity(ours, floats, skip), theirs=fidelity(theirs, floats, skip))


@dataclass(frozen=True, slots=True, kw_only=True)
class _EmulatedRun:
    """A run under emulation: its calls, its fidelity to the outputs here, and where known the fidelity of both to the float."""

    samples: int
    agreement: float
    ours: float | None = None
    theirs: float | None = None

    @property
    def within_loss(self) -> bool:
        """Whether roundings explain the difference to the outputs here."""
        if self.ours is None or self.theirs is None or self.ours < FAR:
            return False
        loss = 1 - self.ours
        return self.agreement >= NEAR and 1 - self.agreement <= loss and 1 - self.theirs <= NO_WORSE * loss


def _comparison(run: _EmulatedRun) -> str:
    if run.agreement >= AGREES:
        return "the outputs"
    if run.ours is None or run.theirs is None:
        return f"other outputs ({AGREES} is needed) than those"
    beside = f"to the float {run.theirs:.4f}, against {run.ours:.4f} here"
    return f"outputs as near ({beside}) as those" if run.within_loss else f"other outputs ({beside}) than those"


_ADVICE = "quantize to 7 bits (leave `reduce_range: false` out)"
_STATIC = (
    "its graph has no product of integers that could overflow on any x86-64 processor with AVX2, so that VNNI makes no difference"
)


def fidelity(outputs: Sequence[Mapping[str, Any]], like: Sequence[Mapping[str, Any]], skip: Sequence[str] = ()) -> float:
    """The metric `fidelity` of two processors' outputs for the same calls: 1 where they are equal. MeasureError where every output
    is random."""
    ours, theirs = ([{name: a for name, a in call.items() if name not in skip} for call in each] for each in (outputs, like))
    if not ours or not ours[0]:
        raise MeasureError("every output is drawn at random, so that no two runs can be compared")
    return float(metrics.evaluate(metrics.find("fidelity"), ours, None, theirs, [1] * len(ours)).value)


def with_proof(measurement: Measurement, proof: Proof) -> Measurement:
    """The measurement with this proof for its accuracy."""
    if measurement.accuracy is None:
        return measurement
    return dataclasses.replace(measurement, accuracy=dataclasses.replace(measurement.accuracy, proof=proof))


def of_device(device: str) -> Proof:
    """The entry for an accuracy that a twin on this machine's processor gave, because the device is not here."""
    why = f"no {device.upper()} ran it; its accuracy is that of its twin on this machine's processor"
    return Proof(how=None, why=why)


def _native(at: Machine) -> Proof | None:
    """The proof for every measurement here, if no processor of the target sums less exactly."""
    if at.arch == "x86_64" and (at.isa in EXACT or not at.isa.startswith("avx")):
        return None
    weakest = "an arm64 processor" if at.arch == "arm64" else "a processor without VNNI, the weakest that the target may give"
    return Proof(how="native", why=f"measured on {weakest} ({at.cpu}, {at.isa})")


def _predict_one(subject: Subject, calls_dir: Path, n_calls: int, work: Path) -> Path:
    outcome = measure.predict([subject], calls_dir, n_calls, work)[subject.id]
    if isinstance(outcome, MeasureError):
        raise outcome
    return outcome


def _first(error: Exception) -> str:
    """The first line of an error, and the last line that its process printed, if any."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    place = lines.index("It said:") if "It said:" in lines else None
    return lines[0] if place is None else f"{lines[0]} It said: {lines[-2]}"
