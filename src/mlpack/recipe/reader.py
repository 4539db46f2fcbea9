"""Reads a recipe; reports every problem at once.

Promises: `load` either returns a `Recipe` whose every reference was found and whose every step and target holds an
instance of its own config type, or raises one `RecipeError` with a line for each problem: `recipe.yaml:12:
targets.lambda-zip.memory_mb: ...`. Nothing the recipe names is imported or executed here, and no data is opened; that
it exists is checked. pydantic and ruamel.yaml are loaded by `load` and `schema`, not by importing this module.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlpack.core import digest, entrypoint, yaml_positions
from mlpack.core.calibrants import INVENTED, NOTHING, HeldOutCalibration
from mlpack.core.entrypoint import suggestion
from mlpack.core.records import Budgets, MetricSpec, Recipe, Source, Target, TensorSpec
from mlpack.core.trails import SearchBudget
from mlpack.core.yaml_positions import Place, PlacedError, Problem
from mlpack.errors import RecipeError
from mlpack.evaluation.metrics import DEFAULT, METRICS
from mlpack.recipe import several, tasks
from mlpack.recipe.deploy import reading as deploy
from mlpack.recipe.serve import checks
from mlpack.recipe.source_kinds import SOURCES
from mlpack.recipe.tables import Passes, Structurer, Targets, filled, tables
from mlpack.targets import licenses, wheel_licenses


def load(path: Path, passes: Passes | None = None, targets: Targets | None = None) -> Recipe:
    """Reads and checks a recipe. Raises RecipeError with every problem, each with file, line and path."""
    document = yaml_positions.read(path)
    if not isinstance(document.value, dict):
        what = "is empty" if document.value is None else "is not a mapping"
        raise RecipeError(
            f"{path}:{document.positions.line(())}: {what}; a recipe begins with `name:`, `source:`, `data:`, `targets:`"
        )
    if several.puts_together(document.value):
        line = document.positions.line(("models",))
        raise RecipeError(f"{path}:{line}: models: this recipe only puts built packages together: use `mlpack build`")
    reader = _Reader(document.value, path.parent, *tables(passes, targets))
    recipe = reader.recipe()
    lost_places = {problem.place for problem in document.problems if problem.lost}
    problems = {*document.problems, *(problem for problem in reader.problems if problem.place not in lost_places)}
    if recipe is None or problems:
        raise document.positions.listed(problems)
    return dataclasses.replace(recipe, positions=document.positions)


@contextmanager
def lines_of(recipe: Recipe) -> Iterator[None]:
    """Gives what only a later look finds wrong with a recipe (at its model, say) the recipe's lines, as `load` does."""
    try:
        yield
    except PlacedError as error:
        raise recipe.positions.listed(error.found) from error


def check_licenses(recipe: Recipe, targets: Iterable[Target]) -> None:
    """PlacedError, a RecipeError, for every licence that one of these targets needs and the recipe does not accept."""
    from mlpack.targets import TARGETS

    refusals = {
        (target.kind, licence.name): licenses.refusal(licence)
        for target in targets
        for licence in TARGETS[target.kind].licenses(target.config)
        if licence.name not in recipe.accept_licenses
    }
    if refusals:
        raise PlacedError(*(Problem(place=("targets", kind), message=refusals[kind, name]) for kind, name in sorted(refusals)))


def schema(passes: Passes | None = None, targets: Targets | None = None) -> dict[str, Any]:
    """The recipe's JSON Schema, for editors; every pass and target written out, which are mlpack's own where none are given."""
    from mlpack.passes import PASSES
    from mlpack.recipe.schema import json_schema, keys_of
    from mlpack.targets import TARGETS

    passes, targets = passes or PASSES.own, targets or TARGETS.own
    steps = {name: keys_of(row.config, filled(row), documented=True) for name, row in passes.items()}
    shorts = {name: row.short for name, row in passes.items() if row.short is not None}
    return json_schema(steps, {name: keys_of(row.config, (), documented=True) for name, row in targets.items()}, shorts)


def budgets(written: Mapping[str, Any]) -> Budgets:
    """Budgets alone, in the words of a recipe (`latency_p95: 20ms`). RecipeError with every problem."""
    from mlpack.recipe.budget_keys import BudgetKeys
    from mlpack.recipe.schema import validated, wording

    read = validated(BudgetKeys, dict(written))
    if isinstance(read, list):
        raise RecipeError(*(f"{yaml_positions.dotted(error['loc']) or 'budgets'}: {wording(error, BudgetKeys)}" for error in read))
    if (problem := _unsure(read)) is not None:
        raise RecipeError(f"confidence: {problem}")
    return _budgets(read)


def _unsure(keys: Any) -> str | None:
    """What is wrong with a confidence that is said of nothing."""
    if keys.confidence is None or keys.accuracy_drop is not None:
        return None
    return "says how sure accuracy_drop has to be, and there is none: add accuracy_drop"


def _budgets(keys: Any) -> Budgets:
    return Budgets(
        accuracy_drop=keys.accuracy_drop,
        confidence=keys.confidence,
        latency_p50_ms=keys.latency_p50,
        latency_p95_ms=keys.latency_p95,
        latency_p99_ms=keys.latency_p99,
        stages_ms=keys.stages,
        cold_start_ms=keys.cold_start,
        package_size_bytes=keys.package_size,
        peak_memory_bytes=keys.peak_memory,
        cost_per_million_usd=keys.cost_per_million,
        accept_estimates=keys.accept_estimates,
        isa=keys.isa,
    )


def _calibration(value: Any) -> str | HeldOutCalibration | None:
    """What `data.calibration` means."""
    if value is None:
        return HeldOutCalibration()
    if isinstance(value, str):
        return None if value == NOTHING else value
    return HeldOutCalibration(share=value.held_out)


class _Reader:
    """One reading: what was written, and the problems found so far."""

    def __init__(self, written: dict[str, Any], root: Path, passes: Passes, targets: Targets) -> None:
        self.problems: list[Problem] = []
        self._written = {key: value for key, value in written.items() if value is not None}
        self._root = root
        self._roots = (root, Path.cwd())
        self._targets = targets
        self._tables = Structurer(passes, targets, self._say)

    def recipe(self) -> Recipe | None:
        """The recipe, or None with problems."""
        keys = self._sections()
        source = self._source(keys["source"]) if "source" in keys else None
        variants = self._tables.variants(self._written.get("variants", "auto"), source, keys.get("data"))
        targets = self._tables.targets(self._written["targets"]) if "targets" in self._written else ()
        self._check_inputs(keys, source)
        self._check_data(keys, source)
        self._check_metric(keys)
        self._check_serve(keys)
        self._check_accepted(keys, targets)
        self._check_deploy(keys)
        if "budgets" in keys and (problem := _unsure(keys["budgets"])) is not None:
            self._say(("budgets", "confidence"), problem)
        if self.problems or source is None:
            return None
        serve, data = keys["serve"], keys["data"]
        recipe = Recipe(
            name=keys["name"],
            root=self._root.resolve(),
            digest=digest.of_bytes(b""),
            source=source,
            inputs=tuple(TensorSpec(name=name, dtype=one.dtype, shape=one.shape) for name, one in keys["inputs"].items()),
            evaluation=data.evaluation,
            calibration=_calibration(data.calibration),
            metric=MetricSpec(name=DEFAULT) if keys["metric"] is None else MetricSpec(**keys["metric"].model_dump()),
            variants=variants,
            targets=targets,
            budgets=_budgets(keys["budgets"]),
            prefer=keys["prefer"],
            serve=checks.record(serve, self._root),
            tags=keys["tags"],
            accept_licenses=keys["accept_licenses"],
            deploy=self._written.get("deploy"),
            search=SearchBudget()
            if (minutes := keys["search"].minutes) is None
            else SearchBudget(minutes=minutes or None, said=True),
        )
        return dataclasses.replace(recipe, digest=_meaning(recipe))

    def _say(self, place: Place, message: str) -> None:
        self.problems.append(Problem(place=place, message=message))

    def _sections(self) -> dict[str, Any]:
        """The top keys that hold valid values, read; the others are left out and their problems noted."""
        from pydantic import TypeAdapter, ValidationError

        from mlpack.recipe.schema import RecipeKeys, validated, without_unknown, wording

        bad: set[str | int] = set()
        written = {**self._written}
        read = validated(RecipeKeys, written)
        if isinstance(read, list):
            for error in read:
                self._say(error["loc"], wording(error, RecipeKeys))
                bad.add(error["loc"][0] if error["loc"] else "")
            written = without_unknown(written, read)
        sections: dict[str, Any] = {}
        for name, field in RecipeKeys.model_fields.items():
            if name in ("variants", "targets"):
                continue
            if name not in written:
                if not field.is_required():
                    sections[name] = field.get_default(call_default_factory=True)
                continue
            adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
            try:
                sections[name] = adapter.validate_json(json.dumps(written[name]), strict=True)
            except ValidationError:
                if name not in bad:  # the two ways of reading differ: ours to mend, never silent
                    raise
        return sections

    def _source(self, keys: Any) -> Source | None:
        kinds = [name for name in SOURCES if getattr(keys, name) is not None]
        if len(kinds) != 1:
            listed = f"{' and '.join(kinds)} are given" if kinds else "none is given"
            self._say(("source",), f"exactly one of {', '.join(SOURCES)} says where the model is; {listed}")
            return None
        kind = kinds[0]
        reference = str(getattr(keys, kind))
        place: Place = ("source", kind)
        if SOURCES[kind].function:
            self._hook(place, reference)
        elif (endings := SOURCES[kind].endings) is not None:
            if self._file(place, reference) and endings and not reference.endswith(endings):
                self._say(place, f"{reference} is no {' or '.join(endings)} file, by which {kind}'s own formats are told apart")
        elif not (self._root / reference).is_dir():
            self._say(place, f"there is no directory {self._root / reference}; mlpack downloads nothing: fetch the model first")
        elif not (self._root / reference / "config.json").is_file():
            self._say(place, f"{self._root / reference} has no config.json, so it is no Hugging Face model directory")
        if keys.weights is not None and not SOURCES[kind].function:
            self._say(("source", "weights"), f"only a torch or sklearn source names its weights apart; {kind} brings its own")
        elif keys.weights is not None:
            self._file(("source", "weights"), keys.weights)
        if keys.task is not None and kind != "huggingface":
            self._say(("source", "task"), "only a huggingface source has a task")
        return Source(format=kind, reference=reference, weights=keys.weights, task=keys.task)

    def _check_inputs(self, keys: dict[str, Any], source: Source | None) -> None:
        if source is not None and SOURCES[source.format].function and keys.get("inputs") == {}:
            order = "of forward()'s arguments" if source.format == "torch" else "of the columns that it was fitted on"
            self._say(("inputs",), f"a {source.format} source needs them: each input's name, dtype and shape, in the order {order}")

    def _check_data(self, keys: dict[str, Any], source: Source | None) -> None:
        data = keys.get("data")
        if data is None:
            return
        for name in ("evaluation", "calibration"):
            reference = getattr(data, name)
            place: Place = ("data", name)
            if not isinstance(reference, str) or (name == "calibration" and reference in (NOTHING, INVENTED)):
                continue
            if entrypoint.is_reference(reference):
                self._hook(place, reference)
            elif not reference.endswith((".npz", ".jsonl")):
                self._say(place, f"{reference} is neither an .npz file, a .jsonl file of texts nor `module:function`")
            elif self._file(place, reference) and reference.endswith(".jsonl"):
                self._check_texts(keys, source, place)
        if data.calibration == INVENTED and getattr(keys.get("budgets"), "accuracy_drop", None) is not None:
            problem = (
                "proves no accuracy: take budgets.accuracy_drop out, or give calibration data (`{held_out: 0.2}`: of evaluation)"
            )
            self._say(("data", "calibration"), f"{INVENTED} {problem}")
        if isinstance(data.calibration, str) and self._same(data.evaluation, data.calibration):
            self._say(("data", "calibration"), "is the evaluation data: accuracy on data that was calibrated with proves nothing")

    def _check_texts(self, keys: dict[str, Any], source: Source | None, place: Place) -> None:
        serve = keys.get("serve")
        if serve is not None and serve.tokenizer is None and source is not None and source.format != "huggingface":
            self._say(place, "texts need a tokenizer: say serve.tokenizer (a huggingface source brings its own)")

    def _same(self, one: str, other: str) -> bool:
        # Not `resolve`: before Python 3.13 it raises where links lead in a circle. That is said as a file that is not there.
        return one == other or os.path.realpath(self._root / one) == os.path.realpath(self._root / other)

    def _check_metric(self, keys: dict[str, Any]) -> None:
        metric = keys.get("metric")
        if metric is None:
            return
        place: Place = ("metric",) if isinstance(self._written["metric"], str) else ("metric", "name")
        stated = tuple(name for name in type(metric).model_fields if name != "name" and getattr(metric, name) is not None)
        if ":" in metric.name:
            self._hook(place, metric.name)
            takes: tuple[str, ...] = ()
        elif metric.name in METRICS:
            takes = METRICS[metric.name].takes
            missing = [name for name in METRICS[metric.name].needs if name not in stated]
            for name in missing:
                self._say(("metric",), f"{metric.name} needs {name}: metric: {{name: {metric.name}, {name}: ...}}")
        else:
            names = tuple(METRICS)
            near = suggestion(metric.name, names)
            self._say(place, f"there is no metric {metric.name!r}{near} (known: {', '.join(names)}, module:function)")
            return
        for name in stated:
            if name not in takes:
                self._say(("metric", name), f"{metric.name} takes no {name} (it takes {', '.join(takes) or 'none of these keys'})")
        if metric.decode is not None:
            self._hook(("metric", "decode"), metric.decode)
        if metric.threshold is not None and not math.isfinite(metric.threshold):
            self._say(("metric", "threshold"), "must be a finite number")
        if metric.classes is not None and len(set(metric.classes)) != len(metric.classes):
            self._say(("metric", "classes"), "names a class twice")

    def _check_accepted(self, keys: dict[str, Any], targets: tuple[Target, ...]) -> None:
        own = (licence.name for target in targets for licence in self._targets[target.kind].licenses(target.config))
        names = tuple(dict.fromkeys((*licenses.LICENSES, *own)))
        for index, name in enumerate(keys.get("accept_licenses", ())):
            if name not in names and not name.startswith(wheel_licenses.PREFIX):
                problem = f"there is no licence {name!r} to accept{suggestion(name, names)} (known: {', '.join(names)})"
                self._say(("accept_licenses", index), problem)

    def _check_deploy(self, keys: dict[str, Any]) -> None:
        if keys.get("deploy") is not None:
            for place, problem in deploy.problems(keys["deploy"]):
                self._say(("deploy", *place), problem)

    def _check_serve(self, keys: dict[str, Any]) -> None:
        serve = keys.get("serve")
        if serve is None:
            return
        for key, problem in tasks.problems(serve):
            self._say(("serve", key), problem)
        for place, problem in checks.problems(serve, self._root, keys.get("budgets")):
            self._say(("serve", *place), problem)
        for name, reference in checks.hooks(serve).items():
            self._hook(("serve", name), reference)
        if serve.log is not None and serve.log.redact is not None:
            self._hook(("serve", "log", "redact"), serve.log.redact)
        if serve.tokenizer is not None:
            self._file(("serve", "tokenizer"), serve.tokenizer)
        if serve.example is not None:
            self._example(serve.example)
        elif serve.preprocess is not None:
            # Measuring calls the model; only a request goes through the hook, and only its author knows what one looks like.
            self._say(
                ("serve",), "preprocess needs `example: request.json`, a request's body, so that the package can be booted with it"
            )

    def _example(self, reference: str) -> None:
        place = ("serve", "example")
        if not self._file(place, reference):
            return
        try:
            body = json.loads((self._root / reference).read_bytes())
        except (ValueError, RecursionError) as error:
            self._say(place, f"{reference} is not JSON: {error}")
            return
        if not isinstance(body, dict):
            self._say(place, f"{reference} holds a JSON {type(body).__name__}: a request's body is an object")

    def _hook(self, place: Place, reference: str) -> None:
        try:
            entrypoint.locate(reference, self._roots)
        except RecipeError as error:
            self._say(place, str(error))

    def _file(self, place: Place, reference: str) -> bool:
        path = self._root / reference
        if not path.is_file():
            what = "is a directory, not a file" if path.is_dir() else "does not exist"
            near = tuple(sorted(p.name for p in path.parent.iterdir())) if path.parent.is_dir() else ()
            self._say(place, f"{path} {what}{suggestion(path.name, near)}")
            return False
        return True


def _meaning(recipe: Recipe) -> digest.Digest:
    """A name for what the recipe means: two ways of writing one size, and two places for the file, are one."""
    fields = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe) if f.compare and f.name not in ("root", "digest")}
    return digest.of_json({name: _plain(value) for name, value in fields.items()})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
