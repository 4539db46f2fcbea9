"""A step that failed, by itself: a folder with what it was given, and a script that runs it again and shows the same failure.

Promises: the same step leaves the same bytes, without a path of this machine; trees that are small come along, larger ones are
named by their digests and looked for in the store. It runs what the step would have run in a build, the user's own code
included, and nothing else.
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
    """The steps of one build that failed, and where their scripts will lie."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, tuple[FailedStep, str, str]] = {}

    def script(self, candidate_id: str, failure: str, failed: Sequence[FailedStep]) -> str | None:
        """Where a candidate's script will lie in the build's directory, which may be that of another that failed in the same way.
        None where it was no step that failed."""
        if not failed:
            return None
        step = failed[0]
        action = transform.action_of(step.step, step.tree, step.bound)
        for folder, (other, _, said) in self._seen.items():
            if said == failure and transform.action_of(other.step, other.tree, other.bound) == action:
                return f"{folder}/{SCRIPT}"
        folder = f"repro/{candidate_id}-{step.step.name}"
        self._seen[folder] = (step, candidate_id, failure)
        return f"{folder}/{SCRIPT}"

    def scripts(self) -> dict[str, Callable[[Path], None]]:
        """By folder of the build's directory, who fills it."""
        return {
            folder: partial(write, failed, candidate_id, failure, self._store)
            for folder, (failed, candidate_id, failure) in self._seen.items()
        }

    def ended(self, error: Exception, candidate_id: str, failed: Sequence[FailedStep]) -> Exception:
        """What to raise where a step ends the build: the same, saying where in the store its script is."""
        if not failed or interrupts.pending() or isinstance(error, RecipeError | ServiceError):
            return error
        script = keep(failed[0], candidate_id, f"{type(error).__name__}: {error}", self._store)
        how = f"To run this step alone: python {script}"
        if isinstance(error, PassError):
            return PassError(f"{error}\n{how}")
        error.add_note(how)
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A step that was run again and did not fail, and what differs from when it did."""

    step: str
    differs: tuple[str, ...]


def write(failed: FailedStep, candidate_id: str, failure: str, store: Store, folder: Path, *, copy: bool = True) -> None:
    """Fill `folder`, which is made. `copy`: with the trees that are small, for a folder that leaves this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    row = PASSES[failed.step.name]
    trees = {MODEL: failed.tree} | {name: tree for name, (tree, _) in sorted(failed.bound.items())}
    said: dict[str, Any] = {}
    for name, tree in trees.items():
        place = store.path(tree)
        size = digest.size_of_tree(place)
        copied = copy and size <= COPIED_BYTES
        if copied:
            _copy(place, folder / name)
        said[name] = {"digest": str(tree), "size_bytes": size, "copied": copied}
    described = {
        "schema": _SCHEMA,
        "mlpack_version": VERSION,
        "candidate": candidate_id,
        "pass": failed.step.name,
        "version": row.version,
        "config": transform.plain(failed.step),
        "source": failed.source,
        "trees": said,
        "tools": {name: version_of(name) for name in row.tools},
        "failure": failure,
    }
    (folder / STEP).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", "utf-8")
    (folder / SCRIPT).write_text(_script(failed.step.name, candidate_id, all(each["copied"] for each in said.values())), "utf-8")


def keep(failed: FailedStep, candidate_id: str, failure: str, store: Store) -> Path:
    """The same in the store itself, where nothing has to be copied, for a build that ends without a directory; the script."""
    name = digest.of_json(transform.action_of(failed.step, failed.tree, failed.bound)).hex
    folder = store.root / care.FAILED / f"{failed.step.name}-{name[:12]}"
    store.hold(care.FAILED)
    write(failed, candidate_id, failure, store, folder, copy=False)
    return folder / SCRIPT


def run(folder: Path, store: Store, out: Path) -> Again:
    """Run the step of `folder` into `out`, which is empty. Raises what the step raises; RecipeError for a folder that is none."""
    said = _read(folder)
    step, source = _step(said, folder), str(said["source"])
    trees = {name: _tree(folder, name, entry, store) for name, entry in said["trees"].items()}
    bound = {name: place for name, (place, _) in trees.items() if name != MODEL}
    transform.run_alone(step, trees[MODEL][0], bound, source, out)
    return Again(step=step.name, differs=(*(note for _, note in trees.values() if note), *_differences(said)))


def told(folder: Path, store: Store, out: Path | None) -> str:
    """What became of `run`, for people. `out`: where the step's files go; None: nowhere."""
    with store.scratch() as work:
        place = out or work
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise RecipeError(f"--out {place}: is not empty: name another directory")
        again = run(folder.absolute(), store, place)
        size = words.size(digest.size_of_tree(place))
    lines = [f"{again.step} did not fail: it made {size}{'' if out is None else f' in {sinks.line(out)}'}"]
    return "\n".join([*lines, *(f"  {sinks.line(note)}" for note in again.differs)])


def _script(step: str, candidate_id: str, whole: bool) -> str:
    where = "All that the step was given is beside this file." if whole else "What is not beside this file is in mlpack's store."
    return (
        f'"""Runs the step {step} of {candidate_id} alone, as it failed. {where}\n\n'
        f'Needs mlpack ({VERSION} made this). step.json says what is run, and how it failed.\n"""\n\n'
        "import sys\nfrom pathlib import Path\n\nfrom mlpack.cli.commands import main\n\n"
        'sys.argv[1:] = ["step", *sys.argv[1:], str(Path(__file__).parent)]\nmain()\n'
    )


def _copy(source: Path, target: Path) -> None:
    """The tree's files, which may be written to: somebody will want to change them."""
    for name, entry in digest.entries(source):
        place = target / name
        if entry.is_dir(follow_symlinks=False):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(entry.path, place, follow_symlinks=False)


def _read(folder: Path) -> dict[str, Any]:
    """step.json. RecipeError for one that this mlpack cannot read."""
    try:
        said = bounded.load_json(plain_files.read(folder, STEP, _STEP_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        raise RecipeError(f"{folder} has no {STEP}: give a folder that a build left for a failed step, in repro/") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"{folder / STEP} is damaged ({type(error).__name__}: {str(error)[:200]}): build again") from None
    if not isinstance(said, dict) or said.get("schema") != _SCHEMA:
        raise RecipeError(f"{folder / STEP} is not of a form that this mlpack reads (schema {_SCHEMA}): build again")
    named = {"pass": str, "config": dict, "source": str, "trees": dict, "tools": dict, "mlpack_version": str}
    wrong = [key for key, kind in named.items() if not isinstance(said.get(key), kind)]
    trees = {} if wrong else said["trees"]
    wrong += [f"trees.{name}" for name, one in trees.items() if not isinstance(one, dict) or not isinstance(one.get("digest"), str)]
    if wrong or MODEL not in trees:
        raise RecipeError(f"{folder / STEP} is damaged ({', '.join(wrong) or 'trees.model'}): build again")
    return said


def _step(said: Mapping[str, Any], folder: Path) -> Step:
    """The step with its config. RecipeError where there is no such pass, or its config has other fields now."""
    from mlpack.recipe.schema import keys_of, validated, wording

    name = said["pass"]
    if name not in PASSES:
        raise RecipeError(f"{folder / STEP}: this mlpack has no pass {name!r}")
    row = PASSES[name]
    model = keys_of(row.config, row.binds)
    read = validated(model, dict(said["config"]))
    if isinstance(read, list):
        where = f"{folder / STEP}: config"
        raise RecipeError(*(f"{where}.{'.'.join(map(str, error['loc']))}: {wording(error, model)}" for error in read))
    if strange := sorted(set(said["trees"]) - {MODEL, *row.binds}):
        raise RecipeError(f"{folder / STEP}: {name} is given no {strange[0]!r}")
    return Step(name=name, config=row.config(**{field: getattr(read, field) for field in model.model_fields}))


def _tree(folder: Path, name: str, entry: Mapping[str, Any], store: Store) -> tuple[Path, str | None]:
    """Where a tree lies, here or in the store, and what to say of it."""
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


def _differences(said: Mapping[str, Any]) -> tuple[str, ...]:
    """What is of another version than when the step failed."""
    there = {"mlpack": said["mlpack_version"], **said["tools"]}
    here = {"mlpack": VERSION} | {name: version_of(str(name)) for name in said["tools"]}
    return tuple(f"{name} was {there[name]} and is {here[name]}" for name in there if there[name] != here[name])
