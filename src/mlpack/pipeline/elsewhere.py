"""Packages whose processor or device is not here, judged on this machine: accuracy by twins, and what else can be known.

Of a GPU: times by estimates. Of another architecture: nothing but the accuracy, which is proven as far as the shipped bytes, run
by an emulated processor, have shown it on a sample. Promises: what is not known is left out, and a warning says why. Times nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlpack.core import machine
from mlpack.core.records import Candidate, Estimate, Measurement, Result, Target
from mlpack.errors import MeasureError, PassError
from mlpack.pipeline.evidence import Bench, Data
from mlpack.pipeline.measuring import emulation
from mlpack.pipeline.measuring.emulation import Processor
from mlpack.pipeline.packing.packages import Package
from mlpack.pipeline.proof import of_device, with_proof
from mlpack.targets import TARGETS

Judged = dict[str, tuple[Measurement | MeasureError, tuple[Estimate, ...]]]
"""By candidate: a measurement without times, or what went wrong, and estimates of the times."""


def said(target: Target) -> str | None:
    """What is done for a target that is not here, in words; None for one that is."""
    if target.arch != machine.arch():
        return "accuracy under emulation, no times"
    return "accuracy on this machine's processor, times estimated" if TARGETS[target.kind].device == "gpu" else None


def judged(
    bench: Bench,
    baseline: Candidate,
    packed: Mapping[str, Package],
    results: Mapping[str, Result],
    data: Data,
    warn: Callable[[str], None],
) -> Judged:
    """What can be known of every package of such a target; `results`: with the models that they were packed of. Nothing where no
    emulator is here. MeasureError where the baseline of a device fails."""
    target, here = baseline.target, machine.arch()
    sample = data.sample(bench.recipe)
    models = {id_: model for id_ in packed if (model := results[id_].model) is not None}
    if target.arch == here:
        twins = {id_: bench.packages.twin(results[id_].candidate, model, sample) for id_, model in models.items()}
        found: Judged = {}
        for id_, each in bench.judge(twins, baseline.id, data).items():
            if isinstance(each, MeasureError):
                found[id_] = each, ()
            else:
                proof = of_device(TARGETS[target.kind].device)
                found[id_] = with_proof(each, proof), _estimates(bench, results[id_], data, warn)
        return found
    try:
        assert bench.prover is not None
        # Not the target's own base: a build reads that as data, and runs nothing of it.
        on = emulation.foreign(target.arch, bench.prover.find, packed[baseline.id].python)
        twins = {id_: bench.packages.twin(results[id_].candidate, model, sample, here) for id_, model in models.items()}
        return {id_: (each, ()) for id_, each in _emulated(bench, baseline.id, packed, twins, data, on).items()}
    except MeasureError as error:
        warn(
            f"{target.id}: not measured: this machine is {here}. Build on {target.arch} to measure it, or have its accuracy judged "
            f"here: {error}"
        )
        return {}


def _emulated(
    bench: Bench, baseline_id: str, packed: Mapping[str, Package], twins: Mapping[str, Package], data: Data, on: Processor
) -> dict[str, Measurement | MeasureError]:
    """A measurement of every package with its twin's accuracy, and as its proof whether it gives its twin's outputs on that
    processor. MeasureError where the baseline's twin fails."""
    assert bench.prover is not None
    found = bench.judge(twins, baseline_id, data)
    alive = {id_: packed[id_] for id_, each in found.items() if isinstance(each, Measurement)}
    for id_, proof in bench.prover.elsewhere(alive, twins, baseline_id, bench.evaluation(data), on).items():
        bench.observe(f"{id_}: {proof.how or 'not proven'}: {proof.why}")
        if isinstance(taken := found[id_], Measurement):
            found[id_] = with_proof(taken, proof)
    return found


def _estimates(bench: Bench, result: Result, data: Data, warn: Callable[[str], None]) -> tuple[Estimate, ...]:
    from mlpack.pipeline.estimates import estimate

    assert result.model is not None
    try:
        found: tuple[Estimate, ...] = estimate.of_candidate(bench.store.path(result.model.tree), data.dir, result.candidate.target)
    except PassError as error:
        warn(f"{result.candidate.id}: its times cannot be estimated: {error}")
        return ()
    return found
