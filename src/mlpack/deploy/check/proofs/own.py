"""Proofs that need nothing but the directory. Files are read, never run.

Promises: whatever the files hold, what is wrong is a finding. Will not: ask anybody outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.files import bounded
from mlpack.deploy.check.facts.reading import Facts, mapping, of_cloudformation, of_terraform
from mlpack.deploy.check.facts.table import of_one_language
from mlpack.deploy.check.records import Finding, Proof, proof
from mlpack.deploy.check.rules.all import findings
from mlpack.deploy.check.rules.machines import states
from mlpack.deploy.render import overrides
from mlpack.deploy.render.parameters import UNKNOWN
from mlpack.errors import MlpackError

LOCK, CFN, TF = "deploy.lock", "service.cfn.json", "service.tf.json"
_ALONE = {"version", "warmth"}


def own_proofs(root: Path) -> Iterator[Proof]:
    """All of them, in order."""
    yield proof("every file is as deploy.lock has it", tuple(_digests(root)))
    facts: list[Facts] = []
    for name, read in ((CFN, of_cloudformation), (TF, of_terraform)):
        document, problem = _document(root, name)
        if problem is not None:
            yield proof(f"rules over {name}", (problem,))
            continue
        facts.append(read(name, document))
        yield proof(f"rules over {name}", findings(facts[-1]))
    if len(facts) == 2:
        yield proof("both languages say the same", tuple(_different(root, *facts)))
    yield proof("state machines", tuple(_machines(root)))
    yield proof("parameters", tuple(_parameters(root)))


def _document(root: Path, name: str) -> tuple[dict[str, Any], Finding | None]:
    try:
        value = bounded.load_json(root / name)
    except FileNotFoundError:
        return {}, Finding(name, "", "there is no such file: run `mlpack deploy write` again")
    except (OSError, ValueError) as error:
        return {}, Finding(name, "", f"cannot be read: {error}")
    if not isinstance(value, dict):
        return {}, Finding(name, "", "is no JSON object")
    return value, None


def _digests(root: Path) -> Iterator[Finding]:
    lock, problem = _document(root, LOCK)
    if problem is not None:
        yield problem
        return
    files = lock.get("files")
    if not isinstance(files, Mapping):
        yield Finding(LOCK, "files", "there are none")
        return
    for name, expected in files.items():
        path = root / name
        if (path.is_absolute() and not path.is_relative_to(root)) or ".." in Path(name).parts:
            yield Finding(LOCK, f"files.{name}", "is no file below this directory")
        elif not path.is_file():
            yield Finding(LOCK, f"files.{name}", "there is no such file: run `mlpack deploy write` again")
        elif str(digest.of_file(path)) != expected:
            yield Finding(name, "", f"was changed after it was written: put the change into {overrides.NAME} and write again")
    mine = lock.get("overrides")
    path = root / overrides.NAME
    if isinstance(mine, str) and path.is_file() and str(digest.of_file(path)) != mine:
        yield Finding(overrides.NAME, "", "has changed since the files were written: run `mlpack deploy write` again")


def _different(root: Path, one: Facts, other: Facts) -> Iterator[Finding]:
    """Facts that differ, but for what the team overrode in one language alone."""
    try:
        own = overrides.read(root / overrides.NAME).ids
    except MlpackError as error:
        yield Finding(overrides.NAME, "", "; ".join(map(str, error.args)))
        return
    for here, there in ((one, other), (other, one)):
        for part in here.parts.values():
            if part.kind not in _ALONE and part.id not in there.parts and part.id not in own:
                yield Finding(here.file, part.key(), f"is not in {there.file}")
    for part in one.parts.values():
        twin = other.parts.get(part.id)
        if twin is None or part.kind in _ALONE or part.id in own:
            continue
        for name in sorted({*part.facts, *twin.facts} - of_one_language(part.kind)):
            if part[name] != twin[name]:
                yield Finding(one.file, part.key(name), f"{part[name]!r:.60}, and {twin[name]!r:.60} in {other.file}")


def _machines(root: Path) -> Iterator[Finding]:
    for path in sorted(root.glob("*.asl.json")):
        document, problem = _document(root, path.name)
        if problem is not None:
            yield problem
            continue
        for where, reason in states(document):
            yield Finding(path.name, where.lstrip("."), reason)


def _parameters(root: Path) -> Iterator[Finding]:
    """That each environment's file gives what the template asks for, and nothing else."""
    template, _ = _document(root, CFN)
    asked = mapping(template.get("Parameters"))
    for path in sorted(root.glob("parameters.*.json")):
        document, problem = _document(root, path.name)
        if problem is not None:
            yield problem
            continue
        given = mapping(document.get("Parameters"))
        for name in sorted(set(asked) - set(given)):
            if "Default" not in mapping(asked[name]):
                yield Finding(path.name, f"Parameters.{name}", f"is asked for by {CFN} and not given")
        for name in sorted(set(given) - set(asked)):
            yield Finding(path.name, f"Parameters.{name}", f"is given, and {CFN} does not ask for it")


def left_open(root: Path) -> tuple[str, ...]:
    """Parameters that nobody has filled in yet: no fault of the files, and nothing can be applied before they are."""
    names = set()
    for path in sorted(root.glob("parameters.*.json")):
        given = _document(root, path.name)[0].get("Parameters")
        if isinstance(given, Mapping):
            names |= {name for name, value in given.items() if str(value).startswith(UNKNOWN)}
    return tuple(sorted(names))
