"""Judge packages whose processor or device is not here: accuracy by twins, times by estimates.

Promises:
- For a GPU, times are estimates.
- For another architecture only the accuracy is known. It is proven where an emulated processor that ran the shipped bytes on a
  sample gave the same outputs.
- What is not known is left out, and a warning says why.

Will not: time anything.
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

Judgements = dict[str, tuple[Measurement | MeasureError, tuple[Estimate, ...]]]
"""By candidate: a measurement without times or the error, and estimates of the times."""


def description(target: Target) -> str | None:
    """How a target that is not here is judged, in words; None for one that is here."""
    if target.arch != machine.arch():
        return "accuracy under emulation, no times"
    return "accuracy on this machine's processor, times estimated" if TARGETS[target.kind].device == "gpu" else None


def judge(
    bench: Bench,
    baseline: Candidate,
    packages: Mapping[str, Package],
    results: Mapping[str, Result],
    data: Data,
    warn: Callable[[str], None],
) -> Judgements:
    """Judge every package of such a target. `results` hold their models. Empty where an emulator is missing. MeasureError where the
    baseline of a device fails."""
    target, here = baseline.target, machine.arch()
    sample = data.sample(bench.recipe)
    models = {id_: model for id_ in packages if (model := results[id_].model) is not None}
    if target.arch == here:
        twins = {id_: bench.packages.twin(results[id_].candidate, model, sample) for id_, model in models.items()}
        judgements: Judgements = {}
        for id_, each in bench.judge(twins, baseline.id, data).items():
            if isinstance(each, MeasureError):
                judgements[id_] = each, ()
            else:
                proof = of_device(TARGETS[target.kind].device)
                judgements[id_] = with_proof(each, proof), _estimates(bench, results[id_], data, warn)
        return judgements
    try:
        assert bench.prover is not None
        # Not the target's own base: a build reads that only as data, and runs none of it.
        processor = emulation.foreign_processor(target.arch, bench.prover.find, packages[baseline.id].python)
        twins = {id_: bench.packages.twin(results[id_].candidate, model, sample, here) for id_, model in models.items()}
        return {id_: (each, ()) for id_, each in _judge_emulated(bench, baseline.id, packages, twins, data, processor).items()}
    except MeasureError as error:
        warn(
            f"{target.id}: not measured: this machine is {here}. Build on {target.arch} to measure it, or have its accuracy judged "
            f"here: {error}"
        )
        return {}


def _judge_emulated(
    bench: Bench, baseline_id: str, packages: Mapping[str, Package], twins: Mapping[str, Package], data: Data, processor: Processor
) -> dict[str, Measurement | MeasureError]:
    """The accuracy of every package's twin, with a proof if the package gives the same outputs on that processor. MeasureError
    where the baseline's twin fails."""
    assert bench.prover is not None
    measurements = bench.judge(twins, baseline_id, data)
    alive = {id_: packages[id_] for id_, each in measurements.items() if isinstance(each, Measurement)}
    for id_, proof in bench.prover.elsewhere(alive, twins, baseline_id, bench.evaluation(data), processor).items():
        bench.observe(f"{id_}: {proof.how or 'not proven'}: {proof.why}")
        if isinstance(measurement := measurements[id_], Measurement):
            measurements[id_] = with_proof(measurement, proof)
    return measurements


def _estimates(bench: Bench, result: Result, data: Data, warn: Callable[[str], None]) -> tuple[Estimate, ...]:
    from mlpack.pipeline.estimates import estimate

    assert result.model is not None
    try:
        estimates: tuple[Estimate, ...] = estimate.of_candidate(
            bench.store.path(result.model.tree), data.dir, result.candidate.target
        )
    except PassError as error:
        warn(f"{result.candidate.id}: its times cannot be estimated: {error}")
        return ()
    return estimates
