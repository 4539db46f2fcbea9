"""A failed step on its own: a folder with its inputs, and a script that runs it again and shows the same failure.

Promises:
- The same step leaves the same bytes, without a path of this machine.
- Small trees come along. Larger ones are named by their digests and read from the store.
- The script runs what the step would have run in a build, the user's own code included, and nothing else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlpack.core import digest, interrupts
from mlpack.core.digest import Digest
from mlpack.core.distribution import VERSION, version_of
from mlpack.core.files import bounded, plain_files
from mlpack.core.records import Step
from mlpack.core.text import sinks, words
from mlpack.errors import PassError, RecipeError, ServiceError
from mlpack.passes import PASSES
from mlpack.pipeline import transform
from mlpack.pipeline.transform import FailedStep
from mlpack.store import care
from mlpack.store.local import Store

STEP, SCRIPT, MODEL = "step.json", "reproduce.py", "model"
COPIED_BYTES = 16 << 20
"""Larger trees stay in the store."""
_SCHEMA = 1
_STEP_BYTES = 16 << 20


class Failures:
    """The failed steps of one build, and the places of their scripts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failures: dict[str, tuple[FailedStep, str, str]] = {}

    def script(self, candidate_id: str, failure: str, failed_steps: Sequence[FailedStep]) -> str | None:
        """The path of a candidate's script in the build's directory. Candidates with the same failure share one. None where no step
        failed."""
        if not failed_steps:
            return None
        step = failed_steps[0]
        action = transform.action_of(step.step, step.tree, step.bindings)
        for folder, (other, _, other_failure) in self._failures.items():
            if other_failure == failure and transform.action_of(other.step, other.tree, other.bindings) == action:
                return f"{folder}/{SCRIPT}"
        folder = f"repro/{candidate_id}-{step.step.name}"
        self._failures[folder] = (step, candidate_id, failure)
        return f"{folder}/{SCRIPT}"

    def scripts(self) -> dict[str, Callable[[Path], None]]:
        """By folder of the build's directory, the function that fills it."""
        return {
            folder: partial(write, failed, candidate_id, failure, self._store)
            for folder, (failed, candidate_id, failure) in self._failures.items()
        }

    def with_script(self, error: Exception, candidate_id: str, failed_steps: Sequence[FailedStep]) -> Exception:
        """The error to raise where a step ends the build: the same one, with the path of its script in the store."""
        if not failed_steps or interrupts.pending() or isinstance(error, RecipeError | ServiceError):
            return error
        script = keep(failed_steps[0], candidate_id, f"{type(error).__name__}: {error}", self._store)
        how = f"To run this step alone: python {script}"
        if isinstance(error, PassError):
            return PassError(f"{error}\n{how}")
        error.add_note(how)
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A step that did not fail when it ran again, and the differences to its first run."""

    step: str
    differs: tuple[str, ...]


def write(failed_step: FailedStep, candidate_id: str, failure: str, store: Store, folder: Path, *, copy: bool = True) -> None:
    """Create `folder` and fill it. `copy`: with the small trees, for a folder that may leave this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    row = PASSES[failed_step.step.name]
    trees = {MODEL: failed_step.tree} | {name: tree for name, (tree, _) in sorted(failed_step.bindings.items())}
    tree_rows: dict[str, Any] = {}
    for name, tree in trees.items():
        place = store.path(tree)
        size = digest.size_of_tree(place)
        copied = copy and size <= COPIED_BYTES
        if copied:
            _copy(place, folder / name)
        tree_rows[name] = {"digest": str(tree), "size_bytes": size, "copied": copied}
    step_json = {
        "schema": _SCHEMA,
        "mlpack_version": VERSION,
        "candidate": candidate_id,
        "pass": failed_step.step.name,
        "version": row.version,
        "config": transform.plain(failed_step.step),
        "source": failed_step.source,
        "trees": tree_rows,
        "tools": {name: version_of(name) for name in row.tools},
        "failure": failure,
    }
    (folder / STEP).write_text(json.dumps(step_json, indent=2, sort_keys=True) + "\n", "utf-8")
    (folder / SCRIPT).write_text(
        _script(failed_step.step.name, candidate_id, all(each["copied"] for each in tree_rows.values())), "utf-8"
    )


def keep(failed_step: FailedStep, candidate_id: str, failure: str, store: Store) -> Path:
    """Write the folder into the store, without copies, for a build that ends without a directory. Returns the script's path."""
    name = digest.of_json(transform.action_of(failed_step.step, failed_step.tree, failed_step.bindings)).hex
    folder = store.root / care.FAILED / f"{failed_step.step.name}-{name[:12]}"
    store.hold(care.FAILED)
    write(failed_step, candidate_id, failure, store, folder, copy=False)
    return folder / SCRIPT


def run(folder: Path, store: Store, out: Path) -> Rerun:
    """Run the step of `folder` into `out`, which is empty. Raises what the step raises; RecipeError for any other folder."""
    step_json = _read(folder)
    step, source = _step(step_json, folder), str(step_json["source"])
    trees = {name: _tree(folder, name, entry, store) for name, entry in step_json["trees"].items()}
    bound = {name: place for name, (place, _) in trees.items() if name != MODEL}
    transform.run_alone(step, trees[MODEL][0], bound, source, out)
    return Rerun(step=step.name, differs=(*(note for _, note in trees.values() if note), *_differences(step_json)))


def run_and_report(folder: Path, store: Store, out: Path | None) -> str:
    """`run`, with its result in words. `out`: the directory for the step's files; None keeps none."""
    with store.scratch() as work:
        place = out or work
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise RecipeError(f"--out {place}: is not empty: name another directory")
        rerun = run(folder.absolute(), store, place)
        size = words.size(digest.size_of_tree(place))
    lines = [f"{rerun.step} did not fail: it made {size}{'' if out is None else f' in {sinks.line(out)}'}"]
    return "\n".join([*lines, *(f"  {sinks.line(note)}" for note in rerun.differs)])


def _script(step: str, candidate_id: str, whole: bool) -> str:
    where = "All that the step was given is beside this file." if whole else "What is not beside this file is in mlpack's store."
    return (
        f'"""Runs the step {step} of {candidate_id} alone, as it failed. {where}\n\n'
        f'Needs mlpack ({VERSION} made this). step.json says what is run, and how it failed.\n"""\n\n'
        "import sys\nfrom pathlib import Path\n\nfrom mlpack.cli.commands import main\n\n"
        'sys.argv[1:] = ["step", *sys.argv[1:], str(Path(__file__).parent)]\nmain()\n'
    )


def _copy(source: Path, target: Path) -> None:
    """Copy the tree's files, writable, so that the user can change them."""
    for name, entry in digest.entries(source):
        place = target / name
        if entry.is_dir(follow_symlinks=False):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(entry.path, place, follow_symlinks=False)


def _read(folder: Path) -> dict[str, Any]:
    """Read step.json. RecipeError where this mlpack cannot."""
    try:
        step_json = bounded.load_json(plain_files.read(folder, STEP, _STEP_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        raise RecipeError(f"{folder} has no {STEP}: give a folder that a build left for a failed step, in repro/") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"{folder / STEP} is damaged ({type(error).__name__}: {str(error)[:200]}): build again") from None
    if not isinstance(step_json, dict) or step_json.get("schema") != _SCHEMA:
        raise RecipeError(f"{folder / STEP} is not of a form that this mlpack reads (schema {_SCHEMA}): build again")
    types = {"pass": str, "config": dict, "source": str, "trees": dict, "tools": dict, "mlpack_version": str}
    wrong = [key for key, kind in types.items() if not isinstance(step_json.get(key), kind)]
    trees = {} if wrong else step_json["trees"]
    wrong += [f"trees.{name}" for name, one in trees.items() if not isinstance(one, dict) or not isinstance(one.get("digest"), str)]
    if wrong or MODEL not in trees:
        raise RecipeError(f"{folder / STEP} is damaged ({', '.join(wrong) or 'trees.model'}): build again")
    return step_json


def _step(step_json: Mapping[str, Any], folder: Path) -> Step:
    """The step with its config. RecipeError where the pass does not exist, or its config has other fields now."""
    from mlpack.recipe.schema import keys_of, validated, wording

    name = step_json["pass"]
    if name not in PASSES:
        raise RecipeError(f"{folder / STEP}: this mlpack has no pass {name!r}")
    row = PASSES[name]
    model = keys_of(row.config, row.binds)
    config = validated(model, dict(step_json["config"]))
    if isinstance(config, list):
        where = f"{folder / STEP}: config"
        raise RecipeError(*(f"{where}.{'.'.join(map(str, error['loc']))}: {wording(error, model)}" for error in config))
    if strange := sorted(set(step_json["trees"]) - {MODEL, *row.binds}):
        raise RecipeError(f"{folder / STEP}: {name} is given no {strange[0]!r}")
    return Step(name=name, config=row.config(**{field: getattr(config, field) for field in model.model_fields}))


def _tree(folder: Path, name: str, entry: Mapping[str, Any], store: Store) -> tuple[Path, str | None]:
    """The path of a tree, here or in the store, and a note about it."""
    try:
        tree = Digest(entry["digest"])
    except ValueError as error:
        raise RecipeError(f"{folder / STEP}: trees.{name}: {error}") from None
    if (folder / name).is_dir():
        changed = digest.of_tree(folder / name) != tree
        return folder / name, f"{name} was changed since the step failed" if changed else None
    if (place := store.held(tree)) is None:
        raise RecipeError(
            f"{name} of the failed step is neither beside {STEP} nor in the store {store.root} (tree {tree.short}).\n"
            "It was too large to be copied: run this where the build ran, with the same MLPACK_STORE, or build again (a store "
            "that grows beyond MLPACK_STORE_MAX loses what was not used for longest)"
        )
    return place, None


def _differences(step_json: Mapping[str, Any]) -> tuple[str, ...]:
    """The tools whose versions differ from those of the failed run."""
    there = {"mlpack": step_json["mlpack_version"], **step_json["tools"]}
    here = {"mlpack": VERSION} | {name: version_of(str(name)) for name in step_json["tools"]}
    return tuple(f"{name} was {there[name]} and is {here[name]}" for name in there if there[name] != here[name])
