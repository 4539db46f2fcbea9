"""Put built packages together into one: one runtime part, and each model with its settings and code.

    model/model.json          the list of models, and what is the package's own
    models/NAME/              what was `model/` in each package; model.json has the name NAME
    app/                      the hooks of all

Promises:
- Equal packages give equal bytes. Each model keeps its graph, weights and settings as they were built.
- Files that several packages have are one; two of one path with different bytes are a PackError that says whose they are.

Will not: measure, boot, or resolve anything anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.records import Target
from mlpack.errors import LimitError, PackError
from mlpack.pipeline.packing import openapi, pack, requirements
from mlpack.pipeline.packing.runtime_part import copy, file_of, reachable, sources_dir
from mlpack.targets import TARGETS
from mlpack.targets.format import bytecode, outside
from mlpack.targets.format.contents import LAYER_ROOT, TASK_ROOT

ENTRY = ("several.service",)
SERVER_ENTRY = ("several.service", "hosting.several")
_MIB = 1 << 20
_SHARE = 0.7
"""Of the memory, as in `mlpack_runtime.several`: what models have together where the recipe does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One built package: the name of its model in the new one, its directory, its package.json, and where it is unpacked."""

    name: str
    artifact: Path
    package: Mapping[str, Any]
    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The trees of the new package, its version, and the settings of its model.json."""

    runtime: Path
    model: Path
    code: Path
    version: str
    settings: Mapping[str, Any]


def check(member: Member, target: Target, python: str) -> None:
    """PackError unless a package, which is unpacked, can be part of one for this target."""
    package, name = member.package, member.name
    for key, wanted in (("target", target.kind), ("arch", target.arch), ("python", python)):
        if package.get(key) != wanted:
            what = f"was built for {key} {package.get(key)!r}, and this package is for {wanted!r}"
            raise PackError(f"models.{name}: {member.artifact} {what}: build it for the same")
    if (member.root / "models").is_dir():
        raise PackError(f"models.{name}: {member.artifact} has several models itself: name their own packages")
    if TARGETS[target.kind].device != "cpu":
        raise PackError(
            f"models.{name}: engines for a GPU are one model's: only targets that run on a processor have several models"
        )


def together(members: tuple[Member, ...], target: Target, names: tuple[str, str], memory_bytes: int | None, work: Path) -> Together:
    """Lay the trees out in `work`. `names`: the package's, and the default model's. PackError as above; LimitError for a model that
    has more than all may have together."""
    runtime, model, code = (work / part for part in ("runtime", "model", "code"))
    for folder in (runtime, model, code / "model"):
        folder.mkdir(parents=True)
    _merge(members, "runtime", lambda path: None if path == requirements.SUMMARY else path, runtime)
    requirements.merge_summaries([member.root for member in members], runtime)
    _add_modules(runtime, target, members)
    _merge(members, "code", lambda path: path if path.startswith("app/") else None, code)
    budget = memory_bytes or int(_SHARE * float(target.config.memory_mb)) * _MIB
    rows = {}
    for member in members:
        size = _lay_out(member, model, code)
        if size > budget:
            raise LimitError(
                f"models.{member.name}: its files have {size:,} bytes, and models in memory may have {budget:,} together: raise "
                "`memory`, or the target's memory_mb"
            )
        rows[member.name] = {"version": str(member.package["version"]), "size_bytes": size}
    version = digest.of_json({member.name: [member.package["digest"], rows[member.name]] for member in members}).short
    first = json.loads((code / "models" / names[1] / "model.json").read_bytes())
    settings = {
        "schema": pack.MODEL_SCHEMA,
        "name": names[0],
        "version": version,
        "variant": "several",
        "target": target.kind,
        "graph": "",
        "memory_mb": target.config.memory_mb,
        "models": rows,
        "default": names[1],
        **({"models_mb": max(1, memory_bytes // _MIB)} if memory_bytes else {}),
        "inputs": first["inputs"],
        "outputs": first["outputs"],
        "tokenizer": None,
        **_access(code / "models", rows),
        **TARGETS[target.kind].settings(target.config),
    }
    (code / "model" / "model.json").write_bytes(digest.canonical_json(settings))
    if (code / "models" / names[1] / "weights.json").is_file():  # begun before anything is imported, as of one model
        (code / "model" / "weights.json").write_text(f'{{"at":"../models/{names[1]}"}}')
    return Together(runtime=runtime, model=model, code=code, version=version, settings=settings)


def _access(models: Path, names: Iterable[str]) -> dict[str, Any]:
    """Who may ask, and which pages: one answer for the package, which lists and loads models as well. PackError for several."""
    told = {name: json.loads((models / name / "model.json").read_bytes()) for name in names}
    first, *_ = told
    for key in ("authorize", "cors"):
        for name, settings in told.items():
            if settings.get(key) != told[first].get(key):
                how = "and one package asks one way: build both with the same"
                raise PackError(f"models.{name}: serve.{key} is another one than that of {first}, {how}")
    return {key: told[first][key] for key in ("authorize", "cors") if told[first].get(key)}


def _lay_out(member: Member, model: Path, code: Path) -> int:
    """Copy a model's own files; the bytes that it has in memory."""
    size = 0
    weights = member.package.get("weights")
    for row in member.package["files"]:
        path = str(row["path"])
        if row["part"] == "runtime" or not path.startswith("model/"):
            continue
        place = (code if row["part"] == "code" else model) / "models" / member.name / path.removeprefix("model/")
        place.parent.mkdir(parents=True, exist_ok=True)
        copy(member.root / path, place)
        size += int(row["size_bytes"]) if row["part"] == "model" else 0
    described = code / "models" / member.name / "model.json"
    settings = json.loads(described.read_bytes())
    described.write_bytes(digest.canonical_json({**settings, "name": member.name}))
    return size + (int(weights["size_bytes"]) if isinstance(weights, dict) else 0)


def _merge(members: tuple[Member, ...], part: str, place_of: Any, out_dir: Path) -> None:
    """Copy the files of one part of all packages."""
    owners: dict[str, tuple[str, str]] = {}
    for member in members:
        # Sources before their bytecode, so that a conflict names what somebody wrote.
        for row in sorted(member.package["files"], key=lambda row: (str(row["path"]).endswith(".pyc"), str(row["path"]))):
            place = place_of(str(row["path"])) if row["part"] == part else None
            if place is None:
                continue
            name, known = owners.setdefault(place, (member.name, str(row["digest"])))
            if known != str(row["digest"]):
                raise PackError(_conflict(part, place, name, member.name))
            if name == member.name:
                (out_dir / place).parent.mkdir(parents=True, exist_ok=True)
                copy(member.root / str(row["path"]), out_dir / place)


def _conflict(part: str, path: str, one: str, other: str) -> str:
    if part == "runtime":
        return (
            f"{path} differs between models.{one} and models.{other}: they were built by different versions of mlpack or of a "
            "library. Build both again with this one"
        )
    return f"{path} is in models.{one} and in models.{other}, with different content: rename one of the hooks' files"


def _add_modules(runtime: Path, target: Target, members: Iterable[Member]) -> None:
    """Add the modules that serve several models, from this very mlpack."""
    sources, package = sources_dir(), runtime / "mlpack_runtime"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if not (sources / name).is_file() or digest.of_file(sources / name) != digest.of_file(path):
            names = ", ".join(f"models.{member.name}" for member in members)
            raise PackError(f"the runtime of {names} is of another version of mlpack ({name} differs): build them again")
    entry = SERVER_ENTRY if "http" in (needs := TARGETS[target.kind].needs(target.config)) or "aws" in needs else ENTRY
    added = runtime.with_name("added")
    for module in sorted(reachable(sources, entry)):
        inside = file_of(sources, module)
        if inside is not None and not (package / inside).exists():
            (added / "mlpack_runtime" / inside).parent.mkdir(parents=True, exist_ok=True)
            copy(sources / inside, added / "mlpack_runtime" / inside)
    if not added.is_dir():
        return
    python = pack.interpreter_for(str(next(iter(members)).package["python"])) if any(package.rglob("*.pyc")) else None
    if python is not None:
        bytecode.compile_tree(added, python, LAYER_ROOT if getattr(target.config, "layer", False) else TASK_ROOT)
    shutil.copytree(added, runtime, copy_function=copy, dirs_exist_ok=True)
    shutil.rmtree(added)


def copy_weights(members: Iterable[Member], out_dir: Path) -> list[dict[str, Any]]:
    """Copy weights that lie beside the packages beside the new one; what package.json says of them."""
    rows = []
    for member in members:
        if isinstance(row := member.package.get("weights"), dict):
            rows.append({**row, "folder": f"models/{member.name}"})
        if (folder := outside.beside(member.artifact, member.package)) is not None:
            shutil.copytree(folder, out_dir / outside.FOLDER, copy_function=copy, dirs_exist_ok=True)
    return rows


def openapi_document(members: Iterable[Member], together: Together) -> bytes:
    """The OpenAPI document of all models: the default one's, with the paths of the others, whose schemas have their names before
    them."""
    whole: dict[str, Any] = {}
    for member in sorted(members, key=lambda each: each.name != together.settings["default"]):
        settings = json.loads((together.code / "models" / member.name / "model.json").read_bytes())
        text = openapi.document(settings, sample(member), openapi.limits_of(sources_dir(), settings))
        if not whole:
            whole = json.loads(text)
            continue
        mark = "#/components/schemas/"
        other = json.loads(text.replace(mark.encode(), f"{mark}{member.name}.".encode()))
        for path, methods in other["paths"].items():
            if path.startswith("/v2/models/"):
                named = [each for each in methods.values() if isinstance(each, dict) and "operationId" in each]
                for each in named:
                    each["operationId"] = f"{member.name}.{each['operationId']}"
                whole["paths"][path] = methods
        schemas = whole.setdefault("components", {}).setdefault("schemas", {})
        schemas |= {f"{member.name}.{name}": value for name, value in other.get("components", {}).get("schemas", {}).items()}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def sample(member: Member) -> dict[str, Any]:
    """The body of the request that came with a package; {} where none did."""
    path = member.artifact / pack.EVENT
    body = json.loads(path.read_bytes()).get("body") if path.is_file() else None
    value = json.loads(body) if isinstance(body, str) else {}
    return value if isinstance(value, dict) else {}


def event(member: Member) -> bytes:
    """Its request, to the model's path in the new package."""
    given = json.loads((member.artifact / pack.EVENT).read_bytes())
    path = f"/v2/models/{member.name}/infer"
    http = {**given["requestContext"]["http"], "path": path}
    changed = {**given, "rawPath": path, "requestContext": {**given["requestContext"], "http": http}}
    return json.dumps(changed, indent=1, ensure_ascii=False).encode() + b"\n"
