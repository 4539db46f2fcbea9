"""Run a candidate's steps, each at most once: sources and models are trees in the store.

Promises:
- A step with a known action (pass, version, config, inputs' digests, tools' versions) is not run again.
- A failed step leaves nothing in the store.

Passes are known only by their table.

Will not: measure, pack or choose.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlpack.core import digest, entrypoint, interrupts
from mlpack.core.digest import Digest
from mlpack.core.distribution import version_of
from mlpack.core.files import bounded, temporary
from mlpack.core.records import Candidate, Model, Recipe, Signature, Step, StepRun, TensorSpec
from mlpack.errors import PassError, RecipeError
from mlpack.evaluation.data import reader, sources
from mlpack.graphs.files import write_signature
from mlpack.passes import PASSES
from mlpack.passes.export import extras, hf_tokenizer, huggingface, tasks
from mlpack.store.local import Action, Entry, Store, flatten

Bindings = Mapping[str, tuple[Digest, Path]]
"""Directories that configs are bound to, by field name (`calibration`): the digest goes into the action, the path to the pass."""

Observe = Callable[[str], None]
"""Receives a line for people about what runs next."""

_NOT_WEIGHTS = ("onnx", "openvino", "runs")
"""Folders that model hubs keep beside the weights and that `from_pretrained` never reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """The forecast of one step: whether it is cached, and if not, which fields of its action differ from the nearest earlier
    one."""

    name: str
    cached: bool
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStep:
    """A step that raised, with its inputs: a model's tree, its bindings, and the format of the source."""

    step: Step
    tree: Digest
    bindings: Bindings
    source: str


OnFailure = Callable[[FailedStep], None]
"""Receives a failed step, before its exception is raised again."""


def take_source(recipe: Recipe, store: Store, roots: tuple[Path, ...]) -> Model:
    """Read the recipe's source into the store, in one of the formats of `passes`. Loads no framework unless the source is new."""
    source = recipe.source
    entry = _TAKE[source.format](recipe, store, roots)
    return Model(format=source.format, tree=entry.digest, size_bytes=digest.size_of_tree(entry.dir))


def run_steps(
    candidate: Candidate, source: Model, store: Store, bindings: Bindings, observe: Observe, on_failure: OnFailure | None = None
) -> Model:
    """Run a candidate's steps: its model, with a record of every step. Raises what a pass raises; earlier steps stay in the
    store."""
    tree, form = source.tree, source.format
    runs: list[StepRun] = []
    for step in candidate.steps:
        row = PASSES[step.name]
        step_bindings = bindings_of(step, bindings)
        action = action_of(step, tree, step_bindings)
        if store.find(action) is None:
            observe(f"{candidate.variant}: {step.name}")
        try:
            with store.entry(action, repeatable=row.repeatable) as entry:
                cached = entry.hit
                if not cached:
                    run_alone(
                        step, store.path(tree), {name: path for name, (_, path) in step_bindings.items()}, source.format, entry.dir
                    )
        except Exception:
            if on_failure is not None:
                on_failure(FailedStep(step=step, tree=tree, bindings=step_bindings, source=source.format))
            raise
        form = form if row.gives == "same" else row.gives
        tree = entry.digest
        notes = read_json(entry.dir / "notes.json") | ({"plugin": str(row.plugin)} if row.plugin else {})
        runs.append(StepRun(name=step.name, config=plain(step), seconds=entry.seconds, cached=cached, notes=notes))
    return Model(format=form, tree=tree, size_bytes=digest.size_of_tree(store.path(tree)), steps=tuple(runs))


def run_alone(step: Step, model_dir: Path, directories: Mapping[str, Path], source: str, out_dir: Path) -> None:
    """Run one step from `model_dir` into `out_dir`. `directories`: set in its config, by field. Raises what the pass raises."""
    row = PASSES[step.name]
    if "torch" in row.tools:
        interrupts.load("torch")
    with explain_errors(step, source):
        row.run(model_dir, dataclasses.replace(step.config, **directories), out_dir)
    bounded.give_back()
    interrupts.check()


def bindings_of(step: Step, bindings: Bindings) -> Bindings:
    """The bindings of one step."""
    return {name: bindings[name] for name in PASSES[step.name].binds if name in bindings}


@contextmanager
def explain_errors(step: Step, source: str) -> Iterator[None]:
    """Turn errors that are no bugs (a package that is not installed, too little memory) into a PassError that says what to do."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (missing := extras.missing(error)) is None:
            raise
        raise PassError(f"{step.name} {extras.way_out(missing, source)}") from error
    except MemoryError as error:
        raise PassError(f"{step.name} needs more memory than this machine has to give: use a larger one") from error
    except Exception as error:
        if type(error).__name__ != "EncodeError":  # protobuf's, which is not imported here
            raise
        raise PassError(f"{step.name} takes a model as one message, of 2 GiB at most; this one is larger: leave it out") from error


def forecast(candidate: Candidate, source: Model, store: Store, bindings: Bindings) -> Iterator[PlannedStep]:
    """What `run_steps` would do. After the first step that has to run, all others have to."""
    tree: Digest | None = source.tree
    form = source.format
    for step in candidate.steps:
        if tree is None:
            yield PlannedStep(name=step.name, cached=False, why=("its input must be made first",))
            continue
        action = action_of(step, tree, bindings_of(step, bindings))
        form = form if PASSES[step.name].gives == "same" else PASSES[step.name].gives
        cached = store.find(action)
        yield PlannedStep(name=step.name, cached=cached is not None, why=() if cached else changes(action, store))
        tree = cached.tree if cached else None


def changes(action: Action, store: Store) -> tuple[str, ...]:
    """The fields of `action` that differ from the nearest earlier one, old → new."""
    earlier = store.nearest(action)
    if earlier is None:
        return ("never done before",)
    old, new = dict(flatten(earlier)), dict(flatten(action))
    changed = [
        f"{key}: {old.get(key, 'absent')} → {new.get(key, 'absent')}" for key in sorted(old | new) if old.get(key) != new.get(key)
    ]
    return tuple(changed) or ("its result is missing or damaged in the store",)


def action_of(step: Step, model: Digest, bindings: Bindings) -> Action:
    """Everything that decides a step's result. `bindings`: those of the step."""
    row = PASSES[step.name]
    return {
        "kind": f"step/{step.name}",
        "version": row.version,
        "config": plain(step),
        "model": str(model),
        "bound": {name: str(content) for name, (content, _) in bindings.items()},
        "tools": {name: version_of(name) for name in row.tools},
        # Exporters and the engine's offline optimiser choose kernels by the kind of processor they run on.
        "host_arch": platform.machine(),
        **({"machine": row.machine(step.config)} if row.machine else {}),
    }


def plain(step: Step) -> dict[str, Any]:
    """A step's config as JSON, without its bindings."""
    row = PASSES[step.name]
    return {name: value for name, value in dataclasses.asdict(step.config).items() if name not in row.binds}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a pass; an empty one where there is no file."""
    if not path.exists():
        return {}
    value: dict[str, Any] = json.loads(path.read_bytes())
    return value


def _take_huggingface(recipe: Recipe, store: Store, _roots: tuple[Path, ...]) -> Entry:
    """RecipeError for a model that no export can turn into one graph. `plan` reports it, before any export."""
    folder = recipe.root / recipe.source.reference
    files = _huggingface_files(folder)
    _check_task(folder, recipe)
    action: dict[str, Any] = {
        "kind": "source/huggingface",
        "files": {name: str(digest.of_file(path)) for name, path in files.items()},
    }
    if recipe.inputs:
        action["inputs"] = [dataclasses.asdict(spec) for spec in recipe.inputs]
    with store.entry(action) as entry:
        if not entry.hit:
            _copy(files, entry.dir)
            if recipe.inputs:
                (entry.dir / huggingface.INPUTS).write_bytes(digest.canonical_json(action["inputs"]))
    return entry


def _check_task(folder: Path, recipe: Recipe) -> None:
    """RecipeError for a task of the recipe that the model cannot do. The export reports a damaged config.json, with more
    details."""
    try:
        config = bounded.load_json(folder / "config.json")
    except (OSError, ValueError):
        return
    if not isinstance(config, dict):
        return
    steps = [step for variant in recipe.variants or () for step in variant.steps]
    names = {step.config.task or recipe.source.task for step in steps if step.name == "export"} or {recipe.source.task}
    pooled = (folder / "modules.json").is_file()
    for task in sorted(names, key=str):
        if refusal := tasks.refusal(config, task, pooled=pooled):
            raise RecipeError(f"source.huggingface: {refusal}")


def _huggingface_files(folder: Path) -> dict[str, Path]:
    files = {}
    for name, entry in digest.entries(folder):
        hidden = any(part.startswith(".") or part in _NOT_WEIGHTS for part in name.split("/"))
        if not hidden and entry.is_symlink() and not Path(entry.path).exists():
            raise RecipeError(
                f"source.huggingface: {folder / name} is a link to {os.readlink(entry.path)}, which is not there.\n"
                "The model was copied without its files, or its download was cut off: fetch it again, or copy what links lead to."
            )
        if not hidden and entry.is_file():
            files[name] = Path(entry.path)
    if "config.json" not in files:
        raise RecipeError(
            f"source.huggingface: {folder} holds no config.json, so it is not a Hugging Face model directory.\n"
            "Give the directory that `save_pretrained` wrote (config.json, model.safetensors, ...)."
        )
    return files


def _take_torch(recipe: Recipe, store: Store, roots: tuple[Path, ...]) -> Entry:
    source = recipe.source
    entry_point = entrypoint.locate(source.reference, roots)
    files = {f"code/{name}": entry_point.root / name for name in entry_point.files}
    weights = recipe.root / source.weights if source.weights else None
    description = {"factory": source.reference, "inputs": [dataclasses.asdict(spec) for spec in recipe.inputs]}
    action: dict[str, Any] = {
        "kind": "source/torch",
        "description": description,
        "files": {name: str(digest.of_file(path)) for name, path in files.items()},
        "weights": [str(digest.of_file(weights)), weights.suffix] if weights else None,  # the suffix decides how they are read
    }
    with store.entry(action) as entry:
        if not entry.hit:
            _copy(files, entry.dir)
            (entry.dir / "torch.json").write_bytes(digest.canonical_json(description))
            if weights is not None:
                name = "weights.safetensors" if weights.suffix == ".safetensors" else "weights.pt"
                shutil.copyfile(weights, entry.dir / name)
    return entry


def _take_onnx(recipe: Recipe, store: Store, roots: tuple[Path, ...]) -> Entry:
    """Two actions. The graph alone decides which external files it has. The graph and those files decide the model, together with
    the evaluation data where only running the graph tells its outputs."""
    path = recipe.root / recipe.source.reference
    tokenizer = recipe.root / recipe.serve.tokenizer if recipe.serve.tokenizer else None
    graph = digest.of_file(path)
    listing: dict[str, Any] = {"kind": "source/onnx-files", "graph": str(graph), "version": 2}
    with store.entry(listing) as entry:
        if not entry.hit:
            from mlpack.graphs.foreign import adopt

            facts = {"files": adopt.external_files(path), "says_all": adopt.says_all(path)}
            (entry.dir / "files.json").write_bytes(digest.canonical_json(facts))
    external_files = read_json(entry.dir / "files.json")
    outside: list[str] = external_files["files"]
    inputs = [dataclasses.asdict(spec) for spec in recipe.inputs]
    action: dict[str, Any] = {
        "kind": "source/onnx",
        "version": 2,
        "tools": {name: version_of(name) for name in ("onnx", "onnx-ir", "onnxruntime")},
        "graph": str(graph),
        "outside": {name: str(digest.of_file(_external_file(path, name))) for name in outside},
        "inputs": inputs,
        **({} if external_files["says_all"] else {"data": str(sources.fingerprint(recipe.evaluation, roots))}),
        **({"tokenizer": [str(digest.of_file(tokenizer)), recipe.serve.max_length]} if tokenizer else {}),
    }
    with store.entry(action) as model_entry:
        if not model_entry.hit:
            from mlpack.graphs.foreign import adopt

            adopt.adopt(path, recipe.inputs, model_entry.dir, partial(_calls, recipe, roots, path.parent))
            if tokenizer is not None:
                hf_tokenizer.write_padded(tokenizer, model_entry.dir, recipe.serve.max_length)
    return model_entry


def _calls(recipe: Recipe, roots: tuple[Path, ...], folder: Path, signature: Signature) -> list[Mapping[str, Any]]:
    """The first evaluation call, for a model that is not in the store yet; its tokenizer would lie in `folder`."""
    with temporary.directory("calls") as work:
        sources.read(recipe.evaluation, signature, roots, work, tokenised=(folder / "tokenizer.json").is_file())
        return [next(reader.read(work, folder, signature))]


def _take_sklearn(recipe: Recipe, store: Store, roots: tuple[Path, ...]) -> Entry:
    """The user's code and the file that it reads, in the same layout as beside the recipe."""
    source = recipe.source
    entry_point = entrypoint.locate(source.reference, roots)
    files = {f"code/{name}": entry_point.root / name for name in entry_point.files}
    if source.weights:
        path = (recipe.root / source.weights).resolve()
        inside = path.is_relative_to(entry_point.root)
        files[f"code/{path.relative_to(entry_point.root).as_posix() if inside else path.name}"] = path
    description = {"factory": source.reference}
    inputs = [dataclasses.asdict(spec) for spec in recipe.inputs]
    action: dict[str, Any] = {
        "kind": "source/sklearn",
        "version": 1,
        "description": description,
        "inputs": inputs,
        "files": {name: str(digest.of_file(path)) for name, path in files.items()},
    }
    with store.entry(action) as entry:
        if not entry.hit:
            _copy(files, entry.dir)
            (entry.dir / "estimator.json").write_bytes(digest.canonical_json(description))
            write_signature(Signature(inputs=recipe.inputs, outputs=()), entry.dir)
    return entry


def _take_booster(recipe: Recipe, store: Store, _roots: tuple[Path, ...]) -> Entry:
    """A model's file with its inputs: the recipe's, or one table with the file's number of columns."""
    kind, path = recipe.source.format, recipe.root / recipe.source.reference
    inputs = recipe.inputs
    action: dict[str, Any] = {
        "kind": f"source/{kind}",
        "version": 1,
        "file": str(digest.of_file(path)),
        "inputs": [dataclasses.asdict(spec) for spec in inputs],
    }
    with store.entry(action) as entry:
        if not entry.hit:
            if not inputs:
                from mlpack.passes.convert.boosting import boosters

                try:
                    columns = boosters.features(path)
                except ModuleNotFoundError as error:
                    if (missing := extras.missing(error)) is None:
                        raise
                    raise RecipeError(f"source.{kind} {extras.way_out(missing, kind)}") from None
                except PassError as error:
                    raise RecipeError(f"source.{kind}: {error}") from None
                inputs = (TensorSpec(name="X", dtype="float32", shape=("batch", columns)),)
            shutil.copyfile(path, entry.dir / f"model{path.suffix}")
            write_signature(Signature(inputs=inputs, outputs=()), entry.dir)
    return entry


def _external_file(graph: Path, name: str) -> Path:
    path = graph.parent / name
    if not path.is_file():
        raise RecipeError(
            f"source.onnx: {graph.name} keeps weights in {name!r}, which is not beside it.\n"
            "An ONNX model with external data is two files or more: commit or copy them together."
        )
    return path


def _copy(files: Mapping[str, Path], folder: Path) -> None:
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


_TAKE: Mapping[str, Callable[[Recipe, Store, tuple[Path, ...]], Entry]] = {
    "huggingface": _take_huggingface,
    "torch": _take_torch,
    "onnx": _take_onnx,
    "sklearn": _take_sklearn,
    "xgboost": _take_booster,
    "lightgbm": _take_booster,
}
