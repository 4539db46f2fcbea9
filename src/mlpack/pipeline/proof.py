"""Whether an accuracy that was measured here holds on every processor that the target may give.

Lambda's x86-64 hosts may have AVX2 without VNNI, whose int8 kernels cut off what VNNI sums exactly; and an arm64 package runs on no
x86-64 machine at all. Three ways to know: `native`, measured on such a processor; `static`, the packed graph has no product that
could be cut off (`graphs.overflow`); `run`, the package itself, executed by an emulated processor on a seeded sample of the
evaluation data, gave the outputs that it gives here. In this order: what is cheap goes first, and nothing is emulated without need.

Promises: the shipped bytes are judged; an emulated run takes bounded time and is kept under all that it depends on; what is missing
(an emulator, a root file system) is a reason in words and never an error. Decides nothing: see `budgets`.
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
"""Fidelity from which outputs of two processors are the same. Kernels of other widths round otherwise, and a rounding that tips
over moves an activation by one step of 255; one pair that is cut off moves it by hundreds."""
NEAR, NO_WORSE, FAR = 0.9, 1.25, 0.5
"""Of another architecture, whose integer kernels give the same bytes (measured) and whose float ones round otherwise: a rounding
that tips over grows from layer to layer. What integers lose against the float is then the measure: the two processors may be
no further apart than that, the emulated one no further from the float than this many times that; and never below this fidelity,
nor where the one here is so far from the float that nothing is like anything."""
SAMPLES, SAMPLE_BYTES = 32, 32 << 20
"""Calls of a sample, and what they may hold."""
SECONDS = 45.0
"""How long an emulated processor is asked, beside loading and the last call."""
LEAST = 4
"""Calls that an emulated run must have done to count, where there are as many."""
_VERSION = 2
_SHOWN = 8
EXACT = ("avx512-vnni", "avx-vnni", "amx")
"""Instruction sets of x86-64 that sum bytes in 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Calls in the store, and how to know the outputs that no two runs have alike, because the graph draws them: asked only when a
    run has to be compared."""

    tree: Digest
    dir: Path
    drawn: Callable[[], tuple[str, ...]] = tuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """Where packages of one build lie, and how to find an emulator: `find` looks for a program, `observe` tells of progress."""

    store: Store
    packages: Packages
    find: Callable[[str], Path | None]
    observe: Callable[[str], None]
    seconds: float = SECONDS
    at: Machine = field(default_factory=machine.this_machine)

    def here(self, packages: Mapping[str, Package], data: Evaluation) -> dict[str, Proof]:
        """A proof, or what is missing for one, of every package that was measured on this machine."""
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
        """The same of packages for another architecture, whose accuracy is that of their twins here: each is run by `processor`,
        and must give its twin's outputs, as far as roundings allow. `base`: the float among the twins."""
        found = {}
        for id_, package in packages.items():
            try:
                ran = self._agreement(id_, package, twins[id_], data, processor, twins[base] if id_ != base else None)
            except MeasureError as error:
                why = f"its run under {processor.said} failed: {_first(error)}"
                found[id_] = Proof(how=None, why=why, processor=processor.model)
                continue
            proven = ran.agreement >= AGREES or ran.within_loss
            asked = f"{processor.said}, asked {words.count(ran.samples, 'call')} of the evaluation data,"
            why = f"{asked} gives {_given(ran)} that its accuracy was judged by: fidelity {ran.agreement:.4f}"
            found[id_] = Proof(
                how="run" if proven else None, why=why, processor=processor.model, samples=ran.samples, agreement=ran.agreement
            )
        return found

    def _without_vnni(
        self, id_: str, package: Package, data: Evaluation, risks: tuple[str, ...] | str, on: Processor | None
    ) -> Proof:
        """A run, or why there is none."""
        listed = () if isinstance(risks, str) else risks[:_SHOWN]
        risky = str(risks)
        if listed:
            risky = f"{words.count(len(risks), 'integer product')} may overflow without VNNI (first: {listed[0]})"
        if on is None:
            why = f"{risky}, and no emulator is here to run it on: {emulation.INSTALL}, or {_SEVEN}"
            return Proof(how=None, why=why, risks=listed)
        try:
            ran = self._agreement(id_, package, package, data, on)
        except MeasureError as error:
            why = f"{risky}, and its run under {on.said} failed: {_first(error)}"
            return Proof(how=None, why=why, processor=on.model, risks=listed)
        samples, agreement = ran.samples, ran.agreement
        said = f"{on.said}, asked {words.count(samples, 'call')} of the evaluation data, gives"
        if agreement >= AGREES:
            why = f"{risky}, but {said} the outputs of the processor here: fidelity {agreement:.4f}"
        else:
            why = (
                f"{risky}, and {said} other outputs than the processor here: fidelity {agreement:.4f}, "
                f"and {AGREES} is needed; {_SEVEN}, or have its sums exact (`optimize: {{exact: true}}`)"
            )
        how = "run" if agreement >= AGREES else None
        return Proof(how=how, why=why, processor=on.model, samples=samples, agreement=agreement, risks=listed)

    def _risks(self, package: Package) -> tuple[str, ...] | str:
        """What may overflow in the packed graph, or why that cannot be told. Kept: unpacking takes longer than looking."""
        action = {"kind": "proof/static", "version": [_VERSION, overflow.VERSION], "package": str(package.content)}
        known = self.store.find(action)
        if known is not None:
            return tuple(json.loads((known.dir / "risks.json").read_bytes()))
        with self.packages.unpacked({"": package}) as folders:
            try:
                found = tuple(map(str, overflow.risks_of_package(folders[""])))
            except (OSError, KeyError, ValueError, PassError) as error:
                return f"its packed graph cannot be looked at ({_first(error)})"
        with self.store.entry(action) as entry:
            if not entry.hit:
                (entry.dir / "risks.json").write_bytes(digest.canonical_json(list(found)))
        return found

    def _agreement(
        self, id_: str, package: Package, like: Package, data: Evaluation, on: Processor, base: Package | None = None
    ) -> _Ran:
        """How the package's outputs on that processor are to those of `like` here, and both to those of `base`."""
        action = {
            "kind": "proof/run",
            "version": _VERSION,
            "package": str(package.content),
            "like": str(like.content),
            "processor": [*on.words[1:], on.version, str(on.root)],
            "machine": dataclasses.asdict(self.at),
            "data": str(data.tree),
            "sample": [SAMPLES, SAMPLE_BYTES, self.seconds],
            **({"base": str(base.content)} if base is not None else {}),
        }
        known = self.store.find(action)
        if known is None:
            self.observe(f"proof: {id_} under {on.said}")
            ran = self._run(id_, package, like, data, on, base)
            with self.store.entry(action, repeatable=False) as entry:
                if not entry.hit:
                    (entry.dir / "run.json").write_bytes(digest.canonical_json(dataclasses.asdict(ran)))
            return ran
        return _Ran(**json.loads((known.dir / "run.json").read_bytes()))

    def _run(self, id_: str, package: Package, like: Package, data: Evaluation, on: Processor, base: Package | None) -> _Ran:
        both = {"emulated": package, "here": like, **({"base": base} if base is not None else {})}
        with self.packages.unpacked(both) as folders, self.store.scratch() as work:
            (sample := work / "sample").mkdir()
            numbers = calls.sample(data.dir, sample, SAMPLES, SAMPLE_BYTES, str(data.tree))
            subject = emulation.emulated(subject_of(id_, package, folders["emulated"]), on, package.python, work)
            done = emulation.predict(subject, sample, len(numbers), work, self.seconds)
            if len(done) < min(LEAST, len(numbers)):
                raise MeasureError(f"it did {words.count(len(done), 'call')} in {self.seconds:.0f} s, and {LEAST} are needed")
            drawn = data.drawn()
            theirs = [call for prefix in done for call in read_outputs(prefix)]

            def answers(name: str, of: Package) -> list[Any]:
                (place := work / name).mkdir()
                return list(read_outputs(_predicted(subject_of(id_, of, folders[name]), sample, len(done), place)))

            ours = answers("here", like)
            ran = _Ran(samples=len(done), agreement=fidelity(theirs, ours, drawn))
            if base is None:
                return ran
            floats = answers("base", base)
            return dataclasses.replace(ran, ours=fidelity(ours, floats, drawn), theirs=fidelity(theirs, floats, drawn))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """A run under emulation: calls, the fidelity to the outputs here, and where they are known those of both to the float."""

    samples: int
    agreement: float
    ours: float | None = None
    theirs: float | None = None

    @property
    def within_loss(self) -> bool:
        """Whether the outputs are no further from those here than roundings may bring them."""
        if self.ours is None or self.theirs is None or self.ours < FAR:
            return False
        lost = 1 - self.ours
        return self.agreement >= NEAR and 1 - self.agreement <= lost and 1 - self.theirs <= NO_WORSE * lost


def _given(ran: _Ran) -> str:
    if ran.agreement >= AGREES:
        return "the outputs"
    if ran.ours is None or ran.theirs is None:
        return f"other outputs ({AGREES} is needed) than those"
    beside = f"to the float {ran.theirs:.4f}, against {ran.ours:.4f} here"
    return f"outputs as near ({beside}) as those" if ran.within_loss else f"other outputs ({beside}) than those"


_SEVEN = "quantize to 7 bits (leave `reduce_range: false` out)"
_STATIC = (
    "its graph has no product of integers that could overflow on any x86-64 processor with AVX2, so that VNNI makes no difference"
)


def fidelity(outputs: Sequence[Mapping[str, Any]], like: Sequence[Mapping[str, Any]], left_out: Sequence[str] = ()) -> float:
    """How far two processors' outputs of the same calls are alike: the metric of that name, 1 where they are the same. MeasureError
    where nothing can be compared."""
    ours, theirs = ([{name: a for name, a in call.items() if name not in left_out} for call in each] for each in (outputs, like))
    if not ours or not ours[0]:
        raise MeasureError("every output is drawn at random, so that no two runs can be compared")
    return float(metrics.evaluate(metrics.find("fidelity"), ours, None, theirs, [1] * len(ours)).value)


def with_proof(measured: Measurement, proof: Proof) -> Measurement:
    """A measurement whose accuracy has this proof."""
    if measured.accuracy is None:
        return measured
    return dataclasses.replace(measured, accuracy=dataclasses.replace(measured.accuracy, proof=proof))


def of_device(device: str) -> Proof:
    """What is said of an accuracy that was judged by a twin on this machine's processor, where the device itself is not here."""
    why = f"no {device.upper()} ran it; its accuracy is that of its twin on this machine's processor"
    return Proof(how=None, why=why)


def _native(at: Machine) -> Proof | None:
    """The proof of everything that was measured here, where no processor of the target sums less exactly."""
    if at.arch == "x86_64" and (at.isa in EXACT or not at.isa.startswith("avx")):
        return None
    weakest = "an arm64 processor" if at.arch == "arm64" else "a processor without VNNI, the weakest that the target may give"
    return Proof(how="native", why=f"measured on {weakest} ({at.cpu}, {at.isa})")


def _predicted(subject: Subject, calls_dir: Path, n_calls: int, work: Path) -> Path:
    found = measure.predict([subject], calls_dir, n_calls, work)[subject.id]
    if isinstance(found, MeasureError):
        raise found
    return found


def _first(error: Exception) -> str:
    """The first line of what went wrong, and the last words of a process that had some."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = lines.index("It said:") if "It said:" in lines else None
    return lines[0] if said is None else f"{lines[0]} It said: {lines[-2]}"
