"""What a decision rests on: the data in the store, and the measurement of every package, each taken at most once per machine.

Promises: calibration and evaluation never overlap; packages of equal content are measured once; a measurement is kept under the
machine it was taken on. A package that fails while it is measured is told apart from one that could not be measured here.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite, isinf
from pathlib import Path
from typing import Any

from mlpack.core import digest, entrypoint, machine
from mlpack.core.digest import Digest
from mlpack.core.records import Accuracy, Machine, Measurement, Recipe, Signature, Spread
from mlpack.core.stats import CONFIDENCE
from mlpack.errors import MeasureError, RecipeError
from mlpack.evaluation import metrics
from mlpack.evaluation.data import calls, sources
from mlpack.evaluation.metrics.accuracy import AccuracyJudge
from mlpack.graphs import files, trials
from mlpack.pipeline.measuring import measure
from mlpack.pipeline.measuring.measure import ChildError, Effort, Subject, Timings
from mlpack.pipeline.packing.packages import Package, Packages, interpreter_of, subject_of
from mlpack.pipeline.proof import Evaluation, Prover, with_proof
from mlpack.store.local import Store

_VERSION = 1
_JUDGED = 4
"""Raised when a metric's value, or the interval of a drop, changes for the same outputs."""
_RESULT = "measurements.json"
_EXCERPT_CALLS, _EXCERPT_BYTES = 4, 64 << 20
_STRUCT_CODES = {"BOOL": "?", "FP16": "e", "FP32": "f", "FP64": "d"} | {
    f"{sign}INT{8 << power}": letter if sign == "" else letter.upper() for sign in ("", "U") for power, letter in enumerate("bhiq")
}
"""Element types of the Open Inference Protocol as `struct` spells them: importing numpy for one sample would take 0.2 s."""


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
        """One a sample, or None."""
        found = json.loads((self.dir / "labels.json").read_bytes())
        return None if found is None else tuple(found)

    def sample(self, recipe: Recipe) -> dict[str, Any]:
        """A request's JSON body: the recipe's example, or the first call: texts plainly, tensors as the protocol has them."""
        if recipe.serve.example is not None:
            return dict(json.loads((recipe.root / recipe.serve.example).read_bytes()))
        calls_ = self.calls
        if "texts" in calls_[0]:
            first = calls_[0]["texts"][0]
            return {"text": first} if isinstance(first, str) else {"text": first[0], "text_pair": first[1]}
        missing: dict[str, Any] | None = None
        for call in calls_:
            inputs = [
                {"name": name, "datatype": row["datatype"], "shape": row["shape"], "data": self._values(row)}
                for name, row in call["inputs"].items()
            ]
            floats = [value for each in inputs for value in each["data"] if isinstance(value, float)]
            if all(map(isfinite, floats)):
                return {"inputs": inputs}
            # JSON has no infinity: such a call cannot be anybody's request. A missing value is null there.
            if missing is None and not any(map(isinf, floats)):
                missing = {"inputs": [{**each, "data": [None if v != v else v for v in each["data"]]} for each in inputs]}
        if missing is not None:
            return missing
        raise RecipeError(
            f"data.evaluation: all of its {len(calls_)} calls hold infinite values, so none can be the JSON request that "
            "the package is booted with: give one as serve.example, or clean the data"
        )

    def _values(self, row: Mapping[str, Any]) -> list[Any]:
        import struct

        with (self.dir / "calls.bin").open("rb") as stream:
            stream.seek(row["offset"])
            data = stream.read(row["size"])
        if row["datatype"] == "BYTES":
            return calls.strings(data)
        code = _STRUCT_CODES[row["datatype"]]
        return list(struct.unpack(f"<{row['size'] // struct.calcsize(code)}{code}", data))


def take_data(reference: str, signature: Signature, store: Store, roots: tuple[Path, ...], *, tokenised: bool) -> Data:
    """The data in calls form. What a function yields is read anew each time: nothing says whether it would yield the same."""
    action = _data_action(reference, signature, roots, tokenised=tokenised)
    if entrypoint.is_reference(reference):
        with store.scratch() as work:
            sources.read(reference, signature, roots, work, tokenised=tokenised)
            action["content"] = str(digest.of_tree(work))
            return _kept(store, action, lambda out: shutil.copytree(work, out, dirs_exist_ok=True))
    return _kept(store, action, lambda out: sources.read(reference, signature, roots, out, tokenised=tokenised))


def known_data(reference: str, signature: Signature, store: Store, roots: tuple[Path, ...], *, tokenised: bool) -> Data | None:
    """The same for a look ahead: None where a file was never read, or a function never called."""
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
    """A few of its calls, as a tree of their own: what passes compare on. Samples that are not among them change nothing."""
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
    """Where and how the packages of one build are measured."""

    recipe: Recipe
    store: Store
    packages: Packages
    roots: tuple[Path, ...]
    effort: Effort
    observe: Callable[[str], None]
    model_dir: Path | None = None
    """The float's own, for what it says of itself: what its columns are called, which outputs are drawn at random."""
    judged: dict[tuple[Digest, Digest], Accuracy] = field(default_factory=dict)
    """What this build knows already, by content of a package and of its baseline."""
    prover: Prover | None = None
    """Who says of every accuracy whether it holds on the target's other processors; None: nobody is asked."""

    def measure(self, packages: Mapping[str, Package], baseline_id: str, data: Data) -> dict[str, Measurement | MeasureError]:
        """A measurement of every package, taken in turns with the baseline's; packages of equal content share one.

        MeasureError is raised when the baseline itself fails, and returned for any other.
        """
        action = self._action("measurement", packages, baseline_id, data) | {"effort": dataclasses.asdict(self.effort)}
        taken = self._once(action, packages, baseline_id, lambda distinct: self._take(distinct, baseline_id, data))
        return self.proven(taken, packages, data)

    def judge(
        self, twins: Mapping[str, Package], baseline_id: str, data: Data, outputs: Path | None = None
    ) -> dict[str, Measurement | MeasureError]:
        """Accuracy alone: of packages that are not to be timed yet, and of twins of those whose device is not here. Nothing else of
        the measurements is set. `outputs`: a directory that keeps the baseline's outputs for the next call with the same baseline
        and data. Errors as of `measure`."""

        def take(distinct: Mapping[str, Package]) -> dict[str, Measurement | MeasureError]:
            with self.packages.unpacked(distinct) as folders, self.store.scratch() as work:
                subjects = [subject_of(id_, package, folders[id_]) for id_, package in distinct.items()]
                found = self._accuracies(subjects, baseline_id, data, work, outputs)
            here = machine.this_machine()
            return {id_: _accurate(here, each) if isinstance(each, Accuracy) else each for id_, each in found.items()}

        taken = self._once(self._action("accuracy", twins, baseline_id, data), twins, baseline_id, take)
        for id_, each in taken.items():
            if isinstance(each, Measurement) and each.accuracy is not None:
                self.judged[twins[id_].content, twins[baseline_id].content] = each.accuracy
        return taken

    def _action(self, kind: str, packages: Mapping[str, Package], baseline_id: str, data: Data) -> dict[str, Any]:
        """What decides the measurements of packages."""
        return {
            "kind": kind,
            "version": _VERSION,
            "machine": dataclasses.asdict(machine.this_machine()),
            "packages": {str(package.content): interpreter_of(package)[1] for package in packages.values()},
            "baseline": str(packages[baseline_id].content),
            "data": str(data.tree),
            "metric": self._metric(),
            "judged": _JUDGED,
        }

    def _once(self, action: Mapping[str, Any], packages: Mapping[str, Package], baseline_id: str, take: Measurer) -> Measurements:
        """What `take` gives for these packages, equal contents once. It is kept where all of them came through, and read where it
        was kept."""
        known = self.store.find(action)
        if known is not None:
            kept = self._read(known.dir / _RESULT)
            return {id_: kept[str(package.content)] for id_, package in packages.items()}
        first: dict[Digest, str] = {}
        for id_ in (baseline_id, *packages):
            first.setdefault(packages[id_].content, id_)
        taken = take({id_: packages[id_] for id_ in first.values()})
        good = {str(packages[id_].content): each for id_, each in taken.items() if isinstance(each, Measurement)}
        if len(good) == len(taken):
            with self.store.entry(action, repeatable=False) as entry:
                if not entry.hit:
                    _write(good, entry.dir / _RESULT)
        return {id_: taken[first[package.content]] for id_, package in packages.items()}

    def proven(
        self, taken: Mapping[str, Measurement | MeasureError], packages: Mapping[str, Package], data: Data
    ) -> dict[str, Measurement | MeasureError]:
        """The same measurements, each accuracy with its proof. Not kept with them: another day an emulator is there."""
        if self.prover is None:
            return dict(taken)
        good = {id_: packages[id_] for id_, each in taken.items() if isinstance(each, Measurement)}
        proofs = self.prover.here(good, self.evaluation(data))
        return {id_: with_proof(each, proofs[id_]) if isinstance(each, Measurement) else each for id_, each in taken.items()}

    def evaluation(self, data: Data) -> Evaluation:
        """The data as proofs are given it."""
        return Evaluation(tree=data.tree, dir=data.dir, drawn=lambda: _drawn(self.model_dir))

    def _accuracies(
        self, subjects: list[Subject], baseline_id: str, data: Data, work: Path, outputs: Path | None = None
    ) -> dict[str, Accuracy | MeasureError]:
        """An accuracy or a failure of every subject. Raises the baseline's failure."""
        isa = machine.this_machine().isa
        calls_ = data.calls
        judge = AccuracyJudge(
            metric=self.recipe.metric,
            labels=data.labels,
            samples=tuple(call["samples"] for call in calls_),
            isa=isa,
            load_hook=self._load_hook,
            names=names_of(self.model_dir),
            drawn=_drawn(self.model_dir),
            confidence=self._confidence,
        )
        n_calls = len(calls_)
        self.observe(f"measure: accuracy on {n_calls} calls, {len(subjects)} packages")
        predictions: dict[str, Path | MeasureError] = {}
        if outputs is not None:
            predictions = self._kept_outputs(subjects, baseline_id, data, outputs)
            subjects = [subject for subject in subjects if subject.id not in predictions]
        predictions |= measure.predict(subjects, data.dir, n_calls, work)
        failed = {id_: found for id_, found in predictions.items() if isinstance(found, MeasureError)}
        if baseline_id in failed:
            raise failed[baseline_id]
        accuracies = judge.accuracies({id_: p for id_, p in predictions.items() if isinstance(p, Path)}, baseline_id)
        return {**accuracies, **failed}

    def _kept_outputs(self, subjects: list[Subject], baseline_id: str, data: Data, outputs: Path) -> dict[str, Path | MeasureError]:
        """The baseline's outputs, made when they are asked for first. A failure is not kept."""
        known = outputs / "outputs-0"
        if known.with_suffix(".json").is_file():
            return {baseline_id: known}
        return measure.predict([s for s in subjects if s.id == baseline_id], data.dir, len(data.calls), outputs)

    def _take(self, packages: Mapping[str, Package], baseline_id: str, data: Data) -> dict[str, Measurement | MeasureError]:
        here = machine.this_machine()
        # Outputs of large evaluations are large: they lie on the store's disk, /tmp may be memory.
        with self.packages.unpacked(packages) as folders, self.store.scratch() as work:
            subjects = [subject_of(id_, package, folders[id_]) for id_, package in packages.items()]
            base = packages[baseline_id].content
            known = {id_: self.judged.get((package.content, base)) for id_, package in packages.items()}
            accuracies: dict[str, Accuracy | MeasureError] = {id_: each for id_, each in known.items() if each is not None}
            asked = [subject for subject in subjects if subject.id not in accuracies]
            if asked:
                asked += [subject for subject in subjects if subject.id == baseline_id and subject.id in accuracies]
                accuracies = {**self._accuracies(asked, baseline_id, data, work), **accuracies}
            failed = {id_: found for id_, found in accuracies.items() if isinstance(found, MeasureError)}
            alive = [subject for subject in subjects if subject.id not in failed]
            timings = self._timings(alive, baseline_id, data, failed)
        results: dict[str, Measurement | MeasureError] = dict(failed)
        for id_, timing in timings.items():
            accuracy = accuracies[id_]
            assert isinstance(accuracy, Accuracy)
            fields = {field.name: getattr(timing, field.name) for field in dataclasses.fields(timing)}
            results[id_] = Measurement(machine=here, batch=1, accuracy=accuracy, **fields)
        return results

    def _timings(self, alive: list[Subject], baseline_id: str, data: Data, failed: dict[str, MeasureError]) -> dict[str, Timings]:
        """Timings of those that last; whoever dies goes into `failed`, and the others are timed anew: they took turns with it."""
        while True:
            try:
                return measure.time_side_by_side(alive, baseline_id, data.dir, len(data.calls), self.effort, self.observe)
            except ChildError as error:
                if error.subject_id == baseline_id:
                    raise
                failed[error.subject_id] = error
                alive = [subject for subject in alive if subject.id != error.subject_id]
                self.observe(f"measure: once more without {error.subject_id}, which failed")

    @property
    def _confidence(self) -> float:
        return self.recipe.budgets.confidence or CONFIDENCE

    def _read(self, path: Path) -> dict[str, Measurement]:
        """Kept measurements, each drop with the interval that this recipe asks for: how sure is decided, and not measured."""
        sure = self._confidence
        return {
            content: dataclasses.replace(m, accuracy=m.accuracy and metrics.at(m.accuracy, sure))
            for content, m in _read(path).items()
        }

    def _metric(self) -> dict[str, Any]:
        """The metric with all that it is told, and for the user's own functions the digests of their code."""
        spec = self.recipe.metric
        hooks = [name for name in (spec.name, spec.decode) if name is not None and entrypoint.is_reference(name)]
        code = {name: str(entrypoint.content(entrypoint.locate(name, self.roots))) for name in hooks}
        return {"spec": dataclasses.asdict(spec), "code": code, "names": names_of(self.model_dir)}

    def _load_hook(self, reference: str) -> Callable[..., Any]:
        return entrypoint.load(entrypoint.locate(reference, self.roots))


def names_of(model_dir: Path | None) -> tuple[str, ...] | None:
    """What a model's directory says that its columns are called (labels.json), in their order; None where that is of no use."""
    path = None if model_dir is None else model_dir / files.LABELS
    if path is None or not path.is_file():
        return None
    said = json.loads(path.read_bytes())
    names = tuple(said.get(str(index)) for index in range(len(said))) if isinstance(said, dict) else ()
    return tuple(map(str, names)) if names and None not in names and len(set(names)) == len(names) else None


def _drawn(model_dir: Path | None) -> tuple[str, ...]:
    """The outputs that depend on random numbers which the graph draws."""
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


def _kept(store: Store, action: dict[str, Any], fill: Callable[[Path], object]) -> Data:
    with store.entry(action) as entry:
        if not entry.hit:
            fill(entry.dir)
    return Data(tree=entry.digest, dir=entry.dir)


def _write(taken: Mapping[str, Measurement], path: Path) -> None:
    path.write_bytes(digest.canonical_json({content: dataclasses.asdict(each) for content, each in taken.items()}))


def _read(path: Path) -> dict[str, Measurement]:
    found: dict[str, Measurement] = {}
    for content, value in json.loads(path.read_bytes()).items():
        here = Machine(**(value["machine"] | {"flags": tuple(value["machine"]["flags"])}))
        accuracy = _accuracy(value["accuracy"]) if value["accuracy"] else None
        samples = {name: tuple(item) for name, item in value.items() if isinstance(item, list)}
        found[content] = Measurement(**(value | samples | {"machine": here, "accuracy": accuracy}))
    return found


def _accuracy(value: Mapping[str, Any]) -> Accuracy:
    said = (value["spread"] or {}).items()
    known: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in said}
    return Accuracy(**{**value, "spread": Spread(**known) if known else None})
