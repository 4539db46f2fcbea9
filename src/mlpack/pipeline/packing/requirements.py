"""What hooks, and a plug-in's target, need beside the engine: resolved, pinned in the lock, installed, slimmed, licences judged.

    requirements ─pin→ Lock ─wheels_tree→ site/, licenses/ ─check_licences→

Promises:
- Only wheels, by hashes that mlpack.lock has. What it pins for these very requirements is not resolved again.
- Of a file that several wheels bring, the bytes are those of the last wheel by name, at every build.
- A wheel that is mlpack's own part of the package as well has the version of that part, or a sentence says why it cannot.
- What cannot be had as a wheel for this processor and Python is told with what to do.

Will not: run code of a wheel.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.distribution import normalized
from mlpack.core.records import Recipe, Target
from mlpack.core.text import words
from mlpack.errors import PackError, RecipeError
from mlpack.pipeline.packing import slimming, wheels
from mlpack.pipeline.packing.runtime_part import RuntimeRequest, check_machine, copy
from mlpack.pipeline.packing.wheels import Lock, Pin
from mlpack.recipe.serve.requirements import listed, name_of, read, without_hashes
from mlpack.targets import TARGETS, wheel_licenses
from mlpack.targets.format import bytecode

VERSION = 1
"""Raised when equal pins would give other bytes."""
KEY = "serve.requirements"
SUMMARY = "licenses/requirements.json"
"""In a package: its requirements by name, version, licence and bytes, and what was left out of them."""
_KEY_MOST = 400
_SAID_MOST = 700
_MEANT = {
    "bs4": "beautifulsoup4",
    "crypto": "pycryptodome",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "jwt": "pyjwt",
    "pil": "pillow",
    "psycopg2": "psycopg2-binary",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Distributions by the names of their modules, which people write instead."""
_UNIMPORTABLE = {
    "onnxruntime": "the runtime calls its library itself, and a second copy would add 64 MB and a second engine; `postprocess` "
    "gets the model's outputs",
    "onnxruntime-gpu": "the runtime calls its library itself; `postprocess` gets the model's outputs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The requirements of one package. `own`: distributions of mlpack's part, as `name==version`; `whose`: what asks for them."""

    lines: tuple[str, ...]
    python: str
    arch: str
    own: tuple[str, ...]
    slim: bool = True
    whose: str = KEY

    @property
    def key(self) -> str:
        """Where its pins are in the lock: the platform, and what was asked for."""
        asked = listed(self.lines)
        asked = asked if len(asked) <= _KEY_MOST else digest.of_bytes(asked.encode()).short
        return f"{wheels.platform_key(self.python, self.arch)} {asked}"


def asked(recipe: Recipe, target: Target) -> tuple[tuple[str, ...], str]:
    """What a target's packages need, of the recipe for its hooks and of the target's row, and whose wish that is, in words.

    Raises:
        RecipeError: The row of a plug-in asks for what is no requirement.
    """
    row, lines = TARGETS[target.kind], recipe.serve.requirements or ()
    of_target, problems = read(row.requirements(target.config), recipe.root)
    whose = f"the target {target.kind}{f' of {row.plugin}' if row.plugin is not None else ''}"
    if problems:
        raise RecipeError(f"{whose}: its requirements: {problems[0][1]}")
    return tuple(sorted({*lines, *of_target})), " and ".join([*([KEY] if lines else []), *([whose] if of_target else [])])


def pinned(lock: Lock, wanted: Wanted) -> Lock:
    """The lock with pins for these requirements and everything that they need.

    Raises:
        RecipeError: No wheels answer the requirements, or they contradict mlpack's own.
        ServiceError: The index cannot be reached.
    """
    pins = lock.requirements.get(wanted.key)
    if pins is None or not _fits(pins, wanted):
        pins = _resolved(wanted)
        lock = dataclasses.replace(lock, requirements={**lock.requirements, wanted.key: pins})
    return lock


def wheels_tree(pins: Sequence[Pin], wanted: Wanted, out_dir: Path) -> None:
    """Write site/, licenses/ and `SUMMARY` of the pinned wheels into `out_dir`, which is empty. Errors as of `wheels.install`."""
    installed = out_dir / ".installed"
    wheels.install(pins, wanted.python, wanted.arch, installed)
    _settle(pins, wanted, installed, out_dir / ".alone")
    made = slimming.slim_unknown(installed, out_dir, slim=wanted.slim)
    shutil.rmtree(installed)
    _write_summary(
        out_dir, [dataclasses.asdict(each) for each in made.distributions], [dataclasses.asdict(each) for each in made.left_out]
    )


def _settle(pins: Sequence[Pin], wanted: Wanted, installed: Path, spare: Path) -> None:
    """Give each file that several of the wheels bring the bytes of the last of them by name, as if they had been unpacked in this
    order: uv unpacks all at once, and whose bytes stay is chance. `spare`: a folder that is there meanwhile."""
    for name, paths in slimming.contested(installed).items():
        wheels.install([pin for pin in pins if pin.name == name], wanted.python, wanted.arch, spare)
        for path in paths:
            if not (spare / path).is_file() or (spare / path).is_symlink():
                raise PackError(f"the RECORD of {name} names {path!r}, which the wheel does not hold as a plain file")
            shutil.copyfile(spare / path, installed / path)
        shutil.rmtree(spare)


def tree_key(pins: Sequence[Pin], wanted: Wanted) -> dict[str, Any]:
    """Everything that decides the bytes of `wheels_tree`, as JSON for an action."""
    return {
        "kind": "requirements",
        "version": [VERSION, slimming.VERSION],
        "pins": [[pin.name, pin.version, list(pin.sha256s)] for pin in pins],
        "python": wanted.python,
        "arch": wanted.arch,
        "slim": wanted.slim,
    }


def lay_over(runtime: Path, tree: Path, request: RuntimeRequest, out_dir: Path) -> None:
    """Write a runtime part with the wheels of `wheels_tree` over it into `out_dir`, which is empty; of a file of both there is one.

    Wheels may hold templates, and code of Pythons to come: what does not compile has no bytecode. PackError where the bytes of a
    file of both differ, or a library is for another processor.
    """
    shutil.copytree(runtime, out_dir, copy_function=copy, dirs_exist_ok=True)
    for path, entry in digest.entries(tree):
        if entry.is_dir(follow_symlinks=False):
            continue
        target = out_dir / path
        if target.exists():
            if digest.of_file(target) == digest.of_file(tree / path):
                continue
            raise PackError(
                f"mlpack's own part of the package and a requirement of its hooks have a file {path} each: one can ship"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        copy(tree / path, target)
        if path.startswith("site/") and ".so" in path:
            check_machine(target, request.arch)
    if request.interpreter is not None and (out_dir / "site").is_dir():
        bytecode.compile_tree(out_dir / "site", request.interpreter, f"{request.prefix}/site", lenient=True)


def read_summary(tree: Path) -> dict[str, Any]:
    """What `wheels_tree` wrote about itself."""
    summary: dict[str, Any] = json.loads((tree / SUMMARY).read_bytes())
    return summary


def merge_summaries(trees: Sequence[Path], out_dir: Path) -> None:
    """Write one summary for the packages in `trees`, whose files are laid over one another; none where none of them has one."""
    summaries = [read_summary(tree) for tree in trees if (tree / SUMMARY).is_file()]
    if not summaries:
        return
    wheels_by_name = {each["name"]: each for summary in summaries for each in summary["wheels"]}
    left_out: dict[str, dict[str, Any]] = {}
    for each in (each for summary in summaries for each in summary["left_out"]):
        known = left_out.setdefault(each["reason"], each)
        left_out[each["reason"]] = max(known, each, key=lambda row: int(row["size_bytes"]))
    _write_summary(out_dir, [wheels_by_name[name] for name in sorted(wheels_by_name)], [left_out[why] for why in sorted(left_out)])


def _write_summary(out_dir: Path, wheels_told: list[dict[str, Any]], left_out: list[dict[str, Any]]) -> None:
    path = out_dir / SUMMARY
    path.parent.mkdir(parents=True, exist_ok=True)
    summary = {"schema": 1, "wheels": wheels_told, "left_out": left_out}
    path.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", "utf-8")


def check_licences(summary: Mapping[str, Any], accepted: Sequence[str], whose: str = KEY) -> None:
    """Raise RecipeError for every wheel whose licence has to be accepted and is not."""
    refused = []
    for each in summary["wheels"]:
        why = wheel_licenses.asks(each["license"], tuple(each["classifiers"]))
        if why is not None and f"{wheel_licenses.PREFIX}{each['name']}" not in accepted:
            refused.append(f"{whose}: {wheel_licenses.refusal(each['name'], each['version'], why)}")
    if refused:
        raise RecipeError(*refused)


def note(summary: Mapping[str, Any]) -> str:
    """What the report says of a package's requirements."""
    names = ", ".join(f"{each['name']} {each['version']}" for each in summary["wheels"])
    size = sum(each["size_bytes"] for each in summary["wheels"])
    gone = ", ".join(f"{each['reason']} {words.size(each['size_bytes'])}" for each in summary["left_out"] if each["size_bytes"])
    return f"requirements of hooks, {words.size(size)}: {names}" + (f"; left out of them: {gone}" if gone else "")


def outlook(lines: Sequence[str], lock: Lock, python: str | None, arch: str) -> str:
    """What `mlpack plan` says of a target's requirements: their pins where the lock has them, and no network is asked.

    `python` is None where it is that of the target's base.
    """
    if python is None:
        return f"requirements: {listed(lines)}, pinned for the Python of the base on {arch}"
    pins = lock.requirements.get(Wanted(lines=tuple(lines), python=python, arch=arch, own=()).key)
    if pins is None:
        return f"requirements: {listed(lines)}, not pinned for Python {python} on {arch} yet; a build resolves and pins them"
    names = ", ".join(f"{pin.name} {pin.version}" for pin in pins)
    return f"requirements: {listed(lines)}, pinned for Python {python} on {arch} as {names}"


def _fits(pins: Sequence[Pin], wanted: Wanted) -> bool:
    """Whether pins agree with mlpack's own, for another mlpack may have written them; and with the hashes that the requirements
    name, which may have come later."""
    own, named = dict(_split(each) for each in wanted.own), _named_hashes(wanted.lines)
    return all(
        own.get(pin.name, pin.version) == pin.version and named.get(pin.name, {*pin.sha256s}).issuperset(pin.sha256s)
        for pin in pins
    )


def _named_hashes(lines: Sequence[str]) -> dict[str, set[str]]:
    """The hashes that requirements name, by distribution."""
    named: dict[str, set[str]] = {}
    for line in lines:
        text, hashes = without_hashes(line)
        if hashes:
            named.setdefault(name_of(text), set()).update(hashes)
    return named


def _resolved(wanted: Wanted) -> tuple[Pin, ...]:
    texts = [without_hashes(line)[0] for line in wanted.lines]
    own = dict(_split(each) for each in wanted.own)
    pins = wheels.resolve_all(texts, wanted.python, wanted.arch, explain=lambda said: explanation(said, wanted))
    clash = [pin for pin in pins if pin.name in own and pin.version != own[pin.name]]
    if clash:
        try:
            bound = [f"{name}=={version}" for name, version in own.items()]
            pins = wheels.resolve_all(
                texts, wanted.python, wanted.arch, bound, explain=lambda said: " ".join(said.split())[:_SAID_MOST]
            )
        except RecipeError as error:
            names = " and ".join(f"{pin.name} {pin.version}" for pin in clash)
            parts = " and ".join(f"{pin.name} {own[pin.name]}" for pin in clash)
            raise RecipeError(
                f"{wanted.whose}: they ask for {names}, and the package has {parts} for the runtime's own work, of which there "
                f"can be one only. Loosen what asks for another version. uv says: {error}"
            ) from None
    if not pins:
        raise RecipeError(f"{wanted.whose}: none of them is for Python {wanted.python} on {wanted.arch}, by their markers")
    for pin in pins:
        if pin.name in own and pin.name in _UNIMPORTABLE:
            raise RecipeError(
                f"{wanted.whose}: they bring {pin.name}, which the package has already: {_UNIMPORTABLE[pin.name]}. Leave out "
                "what needs it"
            )
    return _restricted(pins, wanted.lines)


def _restricted(pins: Sequence[Pin], lines: Sequence[str]) -> tuple[Pin, ...]:
    """The pins with only those hashes that the requirements name, where they name any."""
    named, made = _named_hashes(lines), []
    for pin in pins:
        hashes = tuple(each for each in pin.sha256s if each in named.get(pin.name, {each}))
        if not hashes:
            raise RecipeError(
                f"serve.requirements: none of the hashes that they name for {pin.name} is one of version {pin.version} in the "
                "index: find out why before you use it"
            )
        made.append(dataclasses.replace(pin, sha256s=hashes))
    return tuple(made)


def _meant(name: str) -> str:
    """A question about a name that people take for another, or nothing."""
    other = _MEANT.get(normalized(name))
    return f"; is {other} meant" if other else ""


def _split(text: str) -> tuple[str, str]:
    name, _, version = text.partition("==")
    return normalized(name), version


def explanation(said: str, wanted: Wanted) -> str:
    """Why requirements have no answer, in our words, and uv's own behind them."""
    where = f"Python {wanted.python} on {wanted.arch} (Linux, glibc 2.28)"
    unknown = re.search(r"(\S+) was not found in the package registry", said)
    source = re.search(r"Wheels are required for `([^`]+)` because building from source is disabled", said) or re.search(
        r"all versions of (\S+) have no usable wheels", said
    )
    platforms = re.search(r"Wheels are available for `([^`]+)` \(v([^)]+)\) on the following platforms?: ([^\n]*)", said)
    versions = re.search(r"only found wheels for `([^`]+)` \(v([^)]+)\) with the following Python (?:ABI )?tags?: ([^\n]*)", said)
    if unknown:
        meant = _meant(unknown[1])
        why = f"there is no distribution {unknown[1]} in the index: is that its name, which need not be its module's{meant}"
    elif platforms:
        why = (
            f"{platforms[1]} {platforms[2]} has wheels for {platforms[3].replace('`', '')}, and none for {where}: choose another "
            "version or distribution, or the other processor as the target's arch"
        )
    elif versions:
        tags = versions[3].replace("`", "")
        why = f"{versions[1]} {versions[2]} has wheels for {tags}, and none for {where}: choose another version or another Python"
    elif source:
        why = (
            f"{source[1]} has no wheel for {where}, only sources or wheels for others, and mlpack builds nothing from source. "
            f"Build a wheel of it on such a machine (pip wheel {source[1]}), put it into an index or a folder, and tell uv "
            f"(UV_FIND_LINKS){_meant(source[1])}"
        )
    else:
        why = f"no versions of them go together for {where}"
    end = "?" if "; is " in why or ": is " in why else "."
    return f"{wanted.whose}: {why}{end} uv says: {' '.join(said.split())[:_SAID_MOST]}"
