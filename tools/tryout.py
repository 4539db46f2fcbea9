"""Somebody else's model through a whole build, with little measuring, and its shipped float package held against what answers the
source: what the zoo and the tests of foreign models share.

Promises: whatever the build ends with is a result, never an exception; answers come from the packed bytes, run as `measure` runs
them. The runtime's wheels come from the package index, pinned in a lock that is kept between runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import parts

from mlpack.core.progress import Silent
from mlpack.core.records import Signature, TensorSpec
from mlpack.errors import ExitCode, MeasureError, MlpackError
from mlpack.evaluation.data import reader
from mlpack.evaluation.metrics.accuracy import read_outputs
from mlpack.pipeline import plan, verbs
from mlpack.pipeline.evidence import take_data
from mlpack.pipeline.measuring import measure
from mlpack.pipeline.measuring.measure import Effort, Subject
from mlpack.pipeline.packing import wheels
from mlpack.recipe import first
from mlpack.recipe import reader as recipe
from mlpack.store.local import Store
from mlpack.targets.format.tokenizer_files import TOKENIZER, WORDS
from mlpack.targets.format.unpacking import describe
from mlpack.targets.shipped import unpack

if TYPE_CHECKING:
    import numpy as np

    Call = Mapping[str, np.ndarray[Any, Any]]
    Answers = Sequence[Call]

LEAST = Effort(cold_starts=1, blocks=1, samples=1, seconds_per_subject=0.05, warmup_seconds=0.0, throughput_seconds=0.01)
"""Enough for every number to be there; none of them says anything of speed."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a build. `answers`: what the package of each candidate said to the evaluation calls."""

    code: int
    error: str
    recipe: str
    seconds: float
    record: dict[str, Any] = field(default_factory=dict)
    calls: Answers = ()
    answers: Mapping[str, Answers] = field(default_factory=dict)
    baseline: str = ""

    @property
    def float_answers(self) -> Answers:
        """What the float package said."""
        return self.answers[self.baseline]

    @property
    def chosen_answers(self) -> Answers:
        """What the chosen package said."""
        return self.answers[self.record["chosen"]]

    def candidate(self, variant: str) -> dict[str, Any]:
        """One variant's row in the record, whatever its target."""
        (found,) = (each for each in self.record["candidates"] if each["id"].partition("@")[0] == variant)
        return dict(found)


def write_recipe(model: Path, changed: Callable[[str], str] = lambda text: text) -> Path:
    """The recipe that `mlpack init` writes on this model, beside it; a recipe as it is, where the owner brought one."""
    if model.suffix == ".yaml":
        return model
    with _inside(model.parent):
        text = first.suggest(Path(model.name))
    path = model.parent / "recipe.yaml"
    path.write_text(changed(text), "utf-8")
    return path


def try_out(path: Path, store: Store, *, effort: Effort = LEAST, only: str | None = None) -> Tried:
    """Build the recipe at `path`, keep every package, and ask them all the evaluation calls."""
    began, text = time.monotonic(), path.read_text("utf-8")
    try:
        with _inside(path.parent), _pinned(path.parent):
            options = verbs.Options(out=path.parent / f"out-{path.stem}", effort=effort, keep_all=True, only=only)
            result = verbs.build(path, store, (path.parent,), options, Silent())
            code = ExitCode.OK if result.chosen is not None else ExitCode.OVER_BUDGET
    except MlpackError as error:
        return Tried(code=error.exit_code, error=str(error), recipe=text, seconds=time.monotonic() - began)
    except Exception:  # noqa: BLE001 - what the command line calls a bug
        return Tried(code=ExitCode.BUG, error=traceback.format_exc(), recipe=text, seconds=time.monotonic() - began)
    seconds = time.monotonic() - began
    baseline = plan.expand(recipe.load(path)).baselines[0].id
    with _inside(path.parent):
        calls, answers = _asked(path, result.out, baseline, store)
    record = result.record.to_json()
    return Tried(code=code, error="", recipe=text, seconds=seconds, record=record, calls=calls, answers=answers, baseline=baseline)


def difference(got: Answers, wanted: Answers) -> float:
    """The largest difference of two numbers, over the largest number that their output holds in any call; infinite where shapes,
    names, text or NaN differ."""
    if len(got) != len(wanted) or not wanted:
        return float("inf")
    return max(_apart([call.get(name) for call in got], [call[name] for call in wanted]) for name in wanted[0])


def _apart(got: Sequence[Any], wanted: Sequence[Any]) -> float:
    """The same of one output."""
    import numpy as np

    worst = largest = 0.0
    for mine, its in zip(got, wanted, strict=True):
        a, b = np.asarray(mine), np.asarray(its)
        if mine is None or a.shape != b.shape:
            return float("inf")
        if b.dtype.kind not in "fiub":
            if a.tolist() != b.tolist():
                return float("inf")
            continue
        a, b = a.astype("f8"), b.astype("f8")
        if not np.array_equal(np.isnan(a), np.isnan(b)) or not np.array_equal(a[np.isinf(b)], b[np.isinf(b)]):
            return float("inf")
        finite = np.isfinite(b)
        worst = max(worst, float(np.abs(a - b)[finite].max(initial=0.0)))
        largest = max(largest, float(np.abs(b)[finite].max(initial=0.0)))
    return float(worst / max(largest, 1e-30)) if worst else 0.0


def _asked(path: Path, out: Path, baseline: str, store: Store) -> tuple[Answers, dict[str, Answers]]:
    """The evaluation calls, and each package's answers to them."""
    wanted = recipe.load(path)
    found: dict[str, Answers] = {}
    with tempfile.TemporaryDirectory(prefix="tryout-") as scratch:
        work = Path(scratch)
        packages = {folder.name: folder for folder in sorted((out / "artifacts").iterdir())}
        roots = {id_: unpack(folder, work / id_) for id_, folder in packages.items()}
        model = roots[baseline if baseline in roots else next(iter(roots))] / "model"
        signature = _signature(model)
        tokenised = (model / TOKENIZER).is_file()
        data = take_data(wanted.evaluation, signature, store, (path.parent,), tokenised=tokenised)
        calls = [dict(call) for call in reader.read(data.dir, _readable(model, work / "tokenizer"), signature)]
        subjects = [_subject(id_, packages[id_], root) for id_, root in roots.items()]
        for id_, prefix in measure.predict(subjects, data.dir, len(calls), work).items():
            if not isinstance(prefix, MeasureError):
                found[id_] = [{name: value.copy() for name, value in call.items()} for call in read_outputs(prefix)]
    return calls, found


def _readable(model: Path, whole: Path) -> Path:
    """A folder whose tokenizer.json is whole: a package may keep the words in a list of their own."""
    if not (words := model / WORDS).is_file():
        return model
    described = json.loads((model / TOKENIZER).read_bytes())
    described["model"]["vocab"] = {word: number for number, word in enumerate(words.read_text("utf-8").split("\n")[:-1])}
    whole.mkdir()
    (whole / TOKENIZER).write_text(json.dumps(described), "utf-8")
    return whole


def _signature(model: Path) -> Signature:
    """What a packaged model takes and gives, from what its runtime reads."""
    kept = json.loads((model / "model.json").read_bytes())

    def specs(side: str) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name=each["name"], dtype=each["dtype"], shape=tuple(each["shape"])) for each in kept[side])

    return Signature(inputs=specs("inputs"), outputs=specs("outputs"))


def _subject(id_: str, package: Path, root: Path) -> Subject:
    return Subject(id=id_, root=root, memory_mb=int(describe(package)["memory_mb"]), interpreter=Path(sys.executable))


@contextlib.contextmanager
def _pinned(folder: Path) -> Iterator[None]:
    """A project whose wheels are pinned as those of the last one were."""
    kept, lock = parts.cache() / "slow.lock", folder / wheels.LOCK_NAME
    if kept.is_file():
        shutil.copyfile(kept, lock)
    yield
    if not kept.is_file() and lock.is_file():
        shutil.copyfile(lock, kept)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
