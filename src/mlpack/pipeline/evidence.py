"""The evidence for a decision: the data in the store, and the measurement of every package, once per machine.

Promises:
- Calibration and evaluation data never overlap.
- Packages of equal content are measured once. A measurement is kept under its machine.
- The failure of a package while it is measured is told apart from a measurement that this machine cannot make.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpack.core import digest, entrypoint, machine
from mlpack.core.digest import Digest
from mlpack.core.records import Accuracy, Machine, Measurement, Recipe, Signature, Spread
from mlpack.core.stats import CONFIDENCE
from mlpack.errors import MeasureError
from mlpack.evaluation import metrics
from mlpack.evaluation.data import calls, sources
from mlpack.evaluation.metrics.accuracy import AccuracyJudge
from mlpack.graphs import files, trials
from mlpack.pipeline import bodies
from mlpack.pipeline.measuring import measure
from mlpack.pipeline.measuring.measure import ChildError, Effort, Subject, Timings
from mlpack.pipeline.packing.packages import Package, Packages, interpreter_of, subject_of
from mlpack.pipeline.proof import Evaluation, Prover, with_proof
from mlpack.store.local import Store

_VERSION = 1
_ACCURACY_VERSION = 4
"""Raised when the same outputs would give another metric's value, or another interval of a drop."""
_RESULT = "measurements.json"
_EXCERPT_CALLS, _EXCERPT_BYTES = 4, 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Evaluation or calibration data as calls in the store."""

    tree: Digest
    dir: Path

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Every call, without its bytes."""
        return list(json.loads((self.dir / "calls.json").read_bytes()))

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """One label for each sample, or None."""
        labels = json.loads((self.dir / "labels.json").read_bytes())
        return None if labels is None else tuple(labels)

    def sample(self, recipe: Recipe) -> dict[str, Any]:
        """A request's JSON body: the recipe's example, else a call. RecipeError where no call is one."""
        return bodies.sample(recipe, [] if recipe.serve.example is not None else self.calls, self.dir)


def take_data(reference: str, signature: Signature, store: Store, roots: tuple[Path, ...], *, tokenised: bool) -> Data:
    """Read data into calls. A function is called anew each time, because it may yield other samples."""
    action = _data_action(reference, signature, roots, tokenised=tokenised)
    if entrypoint.is_reference(reference):
        with store.scratch() as work:
            sources.read(reference, signature, roots, work, tokenised=tokenised)
            action["content"] = str(digest.of_tree(work))
            return _store_data(store, action, lambda out: shutil.copytree(work, out, dirs_exist_ok=True))
    return _store_data(store, action, lambda out: sources.read(reference, signature, roots, out, tokenised=tokenised))


def cached_data(reference: str, signature: Signature, store: Store, roots: tuple[Path, ...], *, tokenised: bool) -> Data | None:
    """The data for `plan`; None where the file was never read, or the function never called."""
    action = _data_action(reference, signature, roots, tokenised=tokenised)
    called = entrypoint.is_reference(reference) and (store.nearest(action) or {}).get("data") == action["data"]
    if not called and store.find(action) is None:
        return None
    return take_data(reference, signature, store, roots, tokenised=tokenised)


def _data_action(reference: str, signature: Signature, roots: tuple[Path, ...], *, tokenised: bool) -> dict[str, Any]:
    return {
        "kind": "data",
        "version": _VERSION,
        "data": str(sources.fingerprint(reference, roots)),
        "inputs": [dataclasses.asdict(spec) for spec in signature.inputs],
        "tokenised": tokenised,
        "pairs": tokenised and sources.reads_pairs(signature),
    }


def excerpt(data: Data, store: Store) -> tuple[Digest, Path]:
    """A few calls of the data in a tree of their own, on which passes compare. Other samples do not change a pass's action."""
    action = {"kind": "excerpt", "version": 1, "data": str(data.tree), "calls": _EXCERPT_CALLS, "bytes": _EXCERPT_BYTES}
    with store.entry(action) as entry:
        if not entry.hit:
            calls.excerpt(data.dir, entry.dir, _EXCERPT_CALLS, _EXCERPT_BYTES)
    return entry.digest, entry.dir


def check_disjoint(evaluation: Data, calibration: Data) -> None:
    """RecipeError when a calibration sample is also an evaluation sample, by content."""
    calls.check_disjoint(evaluation.dir, calibration.dir)


Measurements = dict[str, Measurement | MeasureError]
Measurer = Callable[[Mapping[str, Package]], Measurements]
"""Measures packages of different contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Measures the packages of one build."""

    recipe: Recipe
    store: Store
    packages: Packages
    roots: tuple[Path, ...]
    effort: Effort
    observe: Callable[[str], None]
    model_dir: Path | None = None
    """The float model, which knows the names of its columns and its random outputs."""
    accuracies: dict[tuple[Digest, Digest], Accuracy] = field(default_factory=dict)
    """The accuracies that this build has measured, by content of a package and of its baseline."""
    prover: Prover | None = None
    """Proves for every accuracy whether it holds on the target's other processors; None: no proofs."""

    def measure(self, packages: Mapping[str, Package], baseline_id: str, data: Data) -> dict[str, Measurement | MeasureError]:
        """A measurement of every package, taken in turns with the baseline's; packages of equal content share one.

        MeasureError is raised when the baseline itself fails, and returned for any other.
        """
        action = self._action("measurement", packages, baseline_id, data) | {"effort": dataclasses.asdict(self.effort)}
        measurements = self._once(action, packages, baseline_id, lambda distinct: self._take(distinct, baseline_id, data))
        return self.with_proofs(measurements, packages, data)

    def judge(
        self, twins: Mapping[str, Package], baseline_id: str, data: Data, outputs: Path | None = None
    ) -> dict[str, Measurement | MeasureError]:
        """Measure accuracy alone: of packages that are timed later or not at all, and of twins. `outputs`: a directory that keeps
        the baseline's outputs for the next call with the same baseline and data. Errors as of `measure`."""

        def take(distinct: Mapping[str, Package]) -> dict[str, Measurement | MeasureError]:
            with self.packages.trees.of(distinct) as folders, self.store.scratch() as work:
                subjects = [subject_of(id_, package, folders[id_]) for id_, package in distinct.items()]
                accuracies = self._accuracies(subjects, baseline_id, data, work, outputs)
            here = machine.this_machine()
            return {id_: _accurate(here, each) if isinstance(each, Accuracy) else each for id_, each in accuracies.items()}

        measurements = self._once(self._action("accuracy", twins, baseline_id, data), twins, baseline_id, take)
        for id_, each in measurements.items():
            if isinstance(each, Measurement) and each.accuracy is not None:
                self.accuracies[twins[id_].content, twins[baseline_id].content] = each.accuracy
        return measurements

    def _action(self, kind: str, packages: Mapping[str, Package], baseline_id: str, data: Data) -> dict[str, Any]:
        """Everything that decides the measurements of packages."""
        return {
            "kind": kind,
            "version": _VERSION,
            "machine": dataclasses.asdict(machine.this_machine()),
            "packages": {str(package.content): interpreter_of(package)[1] for package in packages.values()},
            "baseline": str(packages[baseline_id].content),
            "data": str(data.tree),
            "metric": self._metric(),
            "judged": _ACCURACY_VERSION,
        }

    def _once(self, action: Mapping[str, Any], packages: Mapping[str, Package], baseline_id: str, take: Measurer) -> Measurements:
        """Measure packages by `take`, equal contents once. The store keeps the result if no package failed, and is asked first."""
        cached = self.store.find(action)
        if cached is not None:
            measurements = self._read(cached.dir / _RESULT)
            return {id_: measurements[str(package.content)] for id_, package in packages.items()}
        first: dict[Digest, str] = {}
        for id_ in (baseline_id, *packages):
            first.setdefault(packages[id_].content, id_)
        fresh = take({id_: packages[id_] for id_ in first.values()})
        good = {str(packages[id_].content): each for id_, each in fresh.items() if isinstance(each, Measurement)}
        if len(good) == len(fresh):
            with self.store.entry(action, repeatable=False) as entry:
                if not entry.hit:
                    _write(good, entry.dir / _RESULT)
        return {id_: fresh[first[package.content]] for id_, package in packages.items()}

    def with_proofs(
        self, measurements: Mapping[str, Measurement | MeasureError], packages: Mapping[str, Package], data: Data
    ) -> dict[str, Measurement | MeasureError]:
        """The same measurements, each accuracy with its proof. The store does not keep it with them: an emulator may be installed
        later."""
        if self.prover is None:
            return dict(measurements)
        good = {id_: packages[id_] for id_, each in measurements.items() if isinstance(each, Measurement)}
        proofs = self.prover.here(good, self.evaluation(data))
        return {id_: with_proof(each, proofs[id_]) if isinstance(each, Measurement) else each for id_, each in measurements.items()}

    def evaluation(self, data: Data) -> Evaluation:
        """The data in the form that `Prover` takes."""
        return Evaluation(tree=data.tree, dir=data.dir, random_outputs=lambda: _random_outputs(self.model_dir))

    def _accuracies(
        self, subjects: list[Subject], baseline_id: str, data: Data, work: Path, outputs: Path | None = None
    ) -> dict[str, Accuracy | MeasureError]:
        """The accuracy or the failure of every subject. Raises the baseline's failure."""
        isa = machine.this_machine().isa
        all_calls = data.calls
        judge = AccuracyJudge(
            metric=self.recipe.metric,
            labels=data.labels,
            samples=tuple(call["samples"] for call in all_calls),
            isa=isa,
            load_hook=self._load_hook,
            names=names_of(self.model_dir),
            drawn=_random_outputs(self.model_dir),
            confidence=self._confidence,
        )
        n_calls = len(all_calls)
        self.observe(f"measure: accuracy on {n_calls} calls, {len(subjects)} packages")
        predictions: dict[str, Path | MeasureError] = {}
        if outputs is not None:
            predictions = self._float_outputs(subjects, baseline_id, data, outputs)
            subjects = [subject for subject in subjects if subject.id not in predictions]
        predictions |= measure.predict(subjects, data.dir, n_calls, work)
        failures = {id_: found for id_, found in predictions.items() if isinstance(found, MeasureError)}
        if baseline_id in failures:
            raise failures[baseline_id]
        accuracies = judge.accuracies({id_: p for id_, p in predictions.items() if isinstance(p, Path)}, baseline_id)
        return {**accuracies, **failures}

    def _float_outputs(self, subjects: list[Subject], baseline_id: str, data: Data, out: Path) -> dict[str, Path | MeasureError]:
        """The baseline's outputs, computed at the first call. A failure is not kept."""
        prefix = out / "outputs-0"
        if prefix.with_suffix(".json").is_file():
            return {baseline_id: prefix}
        return measure.predict([s for s in subjects if s.id == baseline_id], data.dir, len(data.calls), out)

    def _take(self, packages: Mapping[str, Package], baseline_id: str, data: Data) -> dict[str, Measurement | MeasureError]:
        here = machine.this_machine()
        # Outputs of large evaluations are large: they lie on the store's disk, /tmp may be memory.
        with self.packages.trees.of(packages) as folders, self.store.scratch() as work:
            subjects = [subject_of(id_, package, folders[id_]) for id_, package in packages.items()]
            base = packages[baseline_id].content
            cached = {id_: self.accuracies.get((package.content, base)) for id_, package in packages.items()}
            accuracies: dict[str, Accuracy | MeasureError] = {id_: each for id_, each in cached.items() if each is not None}
            pending = [subject for subject in subjects if subject.id not in accuracies]
            if pending:
                pending += [subject for subject in subjects if subject.id == baseline_id and subject.id in accuracies]
                accuracies = {**self._accuracies(pending, baseline_id, data, work), **accuracies}
            failures = {id_: found for id_, found in accuracies.items() if isinstance(found, MeasureError)}
            alive = [subject for subject in subjects if subject.id not in failures]
            timings = self._timings(alive, baseline_id, data, failures)
        results: dict[str, Measurement | MeasureError] = dict(failures)
        for id_, timing in timings.items():
            accuracy = accuracies[id_]
            assert isinstance(accuracy, Accuracy)
            fields = {field.name: getattr(timing, field.name) for field in dataclasses.fields(timing)}
            results[id_] = Measurement(machine=here, batch=1, accuracy=accuracy, **fields)
        return results

    def _timings(self, alive: list[Subject], baseline_id: str, data: Data, failures: dict[str, MeasureError]) -> dict[str, Timings]:
        """Timings of the subjects that do not fail. Each failure goes into `failures`, and the others, which took turns with it,
        are timed anew."""
        while True:
            try:
                return measure.time_side_by_side(alive, baseline_id, data.dir, len(data.calls), self.effort, self.observe)
            except ChildError as error:
                if error.subject_id == baseline_id:
                    raise
                failures[error.subject_id] = error
                alive = [subject for subject in alive if subject.id != error.subject_id]
                self.observe(f"measure: once more without {error.subject_id}, which failed")

    @property
    def _confidence(self) -> float:
        return self.recipe.budgets.confidence or CONFIDENCE

    def _read(self, path: Path) -> dict[str, Measurement]:
        """Read stored measurements, each drop with the interval at this recipe's confidence, which needs no new measurement."""
        sure = self._confidence
        return {
            content: dataclasses.replace(m, accuracy=m.accuracy and metrics.at(m.accuracy, sure))
            for content, m in _read(path).items()
        }

    def _metric(self) -> dict[str, Any]:
        """The metric with its settings, and the digests of the code of the user's own functions."""
        spec = self.recipe.metric
        hooks = [name for name in (spec.name, spec.decode) if name is not None and entrypoint.is_reference(name)]
        code = {name: str(entrypoint.content(entrypoint.locate(name, self.roots))) for name in hooks}
        return {"spec": dataclasses.asdict(spec), "code": code, "names": names_of(self.model_dir)}

    def _load_hook(self, reference: str) -> Callable[..., Any]:
        return entrypoint.load(entrypoint.locate(reference, self.roots))


def names_of(model_dir: Path | None) -> tuple[str, ...] | None:
    """The names of a model's columns (labels.json), in their order; None where they are missing, incomplete or not distinct."""
    path = None if model_dir is None else model_dir / files.LABELS
    if path is None or not path.is_file():
        return None
    columns = json.loads(path.read_bytes())
    names = tuple(columns.get(str(index)) for index in range(len(columns))) if isinstance(columns, dict) else ()
    return tuple(map(str, names)) if names and None not in names and len(set(names)) == len(names) else None


def _random_outputs(model_dir: Path | None) -> tuple[str, ...]:
    """The outputs that depend on random numbers of the graph."""
    if model_dir is None or not (model_dir / files.MODEL).is_file():
        return ()
    model = files.outline(model_dir)
    places = trials.drawn(model)
    return tuple(value.name for place, value in enumerate(model.graph.output) if place in places)


def _accurate(here: Machine, accuracy: Accuracy) -> Measurement:
    """A measurement of accuracy alone."""
    return Measurement(
        machine=here,
        load_ms=(),
        first_answer_ms=(),
        cold_start_ms=(),
        latency_ms=(),
        batch=1,
        warmups=0,
        ratio_samples=(),
        throughput_per_s=0.0,
        peak_memory_bytes=0,
        accuracy=accuracy,
    )


def _store_data(store: Store, action: dict[str, Any], fill: Callable[[Path], object]) -> Data:
    with store.entry(action) as entry:
        if not entry.hit:
            fill(entry.dir)
    return Data(tree=entry.digest, dir=entry.dir)


def _write(measurements: Mapping[str, Measurement], path: Path) -> None:
    path.write_bytes(digest.canonical_json({content: dataclasses.asdict(each) for content, each in measurements.items()}))


def _read(path: Path) -> dict[str, Measurement]:
    measurements: dict[str, Measurement] = {}
    for content, value in json.loads(path.read_bytes()).items():
        here = Machine(**(value["machine"] | {"flags": tuple(value["machine"]["flags"])}))
        accuracy = _accuracy(value["accuracy"]) if value["accuracy"] else None
        samples = {name: tuple(item) for name, item in value.items() if isinstance(item, list)}
        measurements[content] = Measurement(**(value | samples | {"machine": here, "accuracy": accuracy}))
    return measurements


def _accuracy(value: Mapping[str, Any]) -> Accuracy:
    spread = (value["spread"] or {}).items()
    fields: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in spread}
    return Accuracy(**{**value, "spread": Spread(**fields) if fields else None})
