"""Where a service comes from: a build's directory or a release of the registry, and the section of a recipe.

Promises:
- The section is that of the given recipe (its `deploy` and `tags` alone are read), else the one that the build recorded.
- Whatever is wrong with section and tags is told with the recipe's lines, or with the keys' names where a build recorded them.
- Nothing is written. A directory needs no network; a release asks its registry alone.

Will not: trust a build's files: what cannot be read is an error that names the file.
"""

from __future__ import annotations

import json
import math
import re
import tarfile
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mlpack.core import yaml_positions
from mlpack.core.digest import Digest
from mlpack.core.files import plain_files, zips
from mlpack.core.progress import Progress, Silent
from mlpack.core.yaml_positions import PlacedError, Positions, Problem
from mlpack.deploy.service import DOOR_HANDLER, HANDLER, Door, Kind, Measured, Package, ReleaseName, Service
from mlpack.errors import PackError, RecipeError
from mlpack.recipe import deployment
from mlpack.recipe.deploy.section import Section
from mlpack.registry.library import access
from mlpack.registry.releases import forms
from mlpack.registry.rows import rows
from mlpack.report.record import BuildRecord, files
from mlpack.report.record.candidates import CandidateRecord
from mlpack.targets import TARGETS
from mlpack.targets.format import unpacking

TAGS = ("service", "team", "env")
"""What every resource carries, so that a bill can be told apart by it."""
_KINDS: Mapping[str, Kind] = {
    "lambda-zip": "lambda-zip",
    "lambda-image": "lambda-image",
    "container": "container",
    "cpu-worker": "worker",
    "gpu-worker": "worker",
}
_FILE_BYTES = 64 << 20
_MOST_TAGS = 50
_LONGEST_S, _SHORTEST_S = 28, 10
"""A function's time before a gateway's 29 s, and enough for a slow call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What was named: a directory or a reference, with the recipe that says how to deploy it."""

    name: str
    recipe: Path | None = None
    registry: str | None = None
    environ: Mapping[str, str] | None = field(default=None, repr=False)
    progress: Progress = field(default_factory=Silent, repr=False)


@contextmanager
def opened(source: Source) -> Iterator[Service]:
    """The service of a source. What is found wrong with its section within is told with the recipe's lines.

    Raises:
        RecipeError: There is no such build or release, or section and tags are missing or wrong.
        ServiceError: The registry could not be reached, or has other bytes.
    """
    written, positions = _of_recipe(source.recipe)
    try:
        yield _of_build(Path(source.name), written) if Path(source.name).exists() else _of_release(source, written)
    except PlacedError as error:
        if positions is None:
            raise
        raise positions.listed(error.found) from error


def _of_recipe(path: Path | None) -> tuple[dict[str, Any], Positions | None]:
    """`deploy` and `tags` of a recipe. Nothing else of it is read: its data and weights may be elsewhere."""
    if path is None:
        return {}, None
    document = yaml_positions.read(path)
    if not isinstance(document.value, dict):
        raise RecipeError(f"{path}: is no recipe: it has no keys such as `deploy:` and `tags:`")
    if document.problems:
        raise document.positions.listed(document.problems)
    return {key: document.value[key] for key in ("deploy", "tags") if document.value.get(key) is not None}, document.positions


def _of_build(folder: Path, written: Mapping[str, Any]) -> Service:
    record = files.read(folder)
    root = folder if folder.is_dir() else folder.parent
    chosen = _chosen(record, str(folder))
    release = ReleaseName(name=record.recipe.name, version=0, digest=chosen.package.digest or "")
    return _service(record, chosen, root / "artifacts" / chosen.id, release, written)


def _of_release(source: Source, written: Mapping[str, Any]) -> Service:
    try:
        parsed = rows.parse_reference(source.name)
    except RecipeError as error:
        raise RecipeError(f"{source.name}: there is no such directory, and {error}") from None
    entry = access.open_access(source.registry, None, source.progress, source.environ)
    release = entry.opened.show(parsed)
    blobs = entry.opened.place.blobs
    name = ReleaseName(name=release.name, version=release.version, digest=str(release.digest), alias=parsed.alias)
    places = forms.deployment(release, blobs)
    folder = f"artifacts/{release.artifact.candidate}"
    if (door := release.files.get(f"{folder}/frontdoor.zip")) is not None:
        places["door"] = blobs.uri(door)
    with tempfile.TemporaryDirectory(prefix="mlpack-deploy-") as temporary:
        root = Path(temporary) / "release"
        opened = entry.to_pull(release)
        if release.artifact.kind == "image":
            opened.pull(release, root)
        else:
            (root / folder).mkdir(parents=True)
            for path in (
                "build.json",
                *(f"{folder}/{each}" for each in ("package.json", "openapi.json", "function.zip", "layer.zip")),
            ):
                if path in release.files:
                    opened.fetch(release, path, root / path)
        record = files.read(root)
        return _service(record, _chosen(record, source.name), root / folder, name, written, places)


def _chosen(record: BuildRecord, name: str) -> CandidateRecord:
    if record.chosen_candidate is None:
        raise RecipeError(f"{name}: this build chose nothing, so there is nothing to deploy; see its report.md")
    return record.chosen_candidate


def _service(
    record: BuildRecord,
    chosen: CandidateRecord,
    folder: Path,
    release: ReleaseName,
    written: Mapping[str, Any],
    places: Mapping[str, str] | None = None,
) -> Service:
    section, tags = _asked(record, written)
    return Service(
        name=record.recipe.name,
        environment=tags["env"],
        tags=tags,
        release=release,
        package=_package(chosen, folder, places or {}),
        measured=_measured(chosen),
        deploy=section,
    )


def _asked(record: BuildRecord, written: Mapping[str, Any]) -> tuple[Section, dict[str, str]]:
    """Section and tags, both with everything that is wrong with them."""
    problems: list[Problem] = []
    asked = written.get("deploy", record.recipe.deploy)
    section: Section | None = None
    if asked is None:
        problems.append(Problem(place=("deploy",), message="is required here; {traffic: {peak_rps: 50}} is enough to begin"))
    else:
        try:
            section = deployment.deployment(asked)
        except PlacedError as error:
            problems += error.found
    told = written.get("tags", {})
    if not isinstance(told, dict) or not all(isinstance(each, str) for each in told.values()):
        problems.append(Problem(place=("tags",), message="must be a mapping of texts, such as {service: a, team: b, env: prod}"))
        told = {}
    tags = {**record.recipe.tags, **told}
    for name in TAGS:
        if not tags.get(name):
            problems.append(
                Problem(place=("tags",), message=f"lacks {name}: everything that is deployed carries service, team, env")
            )
    if (env := tags.get("env")) and not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,18}[A-Za-z0-9])?", env):
        problems.append(
            Problem(
                place=("tags", "env"), message=f"{env!r} is part of names: letters, digits and hyphens between them, at most 20"
            )
        )
    problems += _unfit(tags)
    if problems or section is None:
        raise PlacedError(*problems)
    return section, dict(sorted(tags.items()))


def _unfit(tags: Mapping[str, str]) -> Iterator[Problem]:
    """What AWS takes for no tag."""
    if len(tags) > _MOST_TAGS:
        yield Problem(place=("tags",), message=f"are {len(tags)}, and a resource of AWS takes {_MOST_TAGS}")
    for name, value in tags.items():
        if len(name) > 128 or len(value) > 256 or not all(_in_tag(letter) for letter in name + value):
            forms = "letters, digits, spaces and _.:/=+-@, 128 in its name and 256 in its value"
            yield Problem(place=("tags", name), message=f"is no tag that AWS takes: {forms}")
        elif name.lower().startswith("aws:"):
            yield Problem(place=("tags", name), message="begins with aws:, which AWS keeps for itself")


def _in_tag(letter: str) -> bool:
    return letter in "_.:/=+-@" or unicodedata.category(letter)[0] in "LNZ"


def _package(chosen: CandidateRecord, folder: Path, places: Mapping[str, str]) -> Package:
    """The package in this directory. PackError where its files are not what a build leaves."""
    described = unpacking.describe(folder)
    try:
        return _described(chosen, folder, described, places)
    except (*zips.DAMAGE, tarfile.TarError, FileNotFoundError) as error:
        raise PackError(f"the package in {folder} is damaged ({error}): fetch or build it again") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        name = folder / unpacking.PACKAGE
        raise PackError(f"{name} is damaged ({type(error).__name__}: {error}): fetch or build it again") from None


def _described(chosen: CandidateRecord, folder: Path, described: Mapping[str, Any], places: Mapping[str, str]) -> Package:
    kind = _KINDS.get(chosen.target)
    if kind is None:
        raise RecipeError(f"{chosen.id}: mlpack writes deployments of {', '.join(_KINDS)}, not of {chosen.target}")
    model = _model_json(chosen, folder, described)
    around = model.get("around") or {}
    worker, weights = described.get("worker") or {}, described.get("weights")
    digest = Digest(str(described["digest"]))
    layer = folder / "layer.zip"
    if kind == "lambda-zip":  # with a layer the package's digest is of both
        digest = plain_files.digest_of(folder, "function.zip")
    return Package(
        candidate=chosen.id,
        target=chosen.target,
        kind=kind,
        sha256=digest.hex,
        size_bytes=int(described["size_bytes"]),
        compressed_bytes=int(described["compressed_bytes"]),
        runtime=f"python{described['python']}",
        architecture="arm64" if described["arch"] == "arm64" else "x86_64",
        memory_mb=int(described["memory_mb"]),
        timeout_s=_timeout_s(chosen),
        handler=DOOR_HANDLER if kind == "worker" else HANDLER,
        layer_sha256=plain_files.digest_of(folder, "layer.zip").hex if layer.is_file() else None,
        gpu=chosen.target == "gpu-worker",
        port=int(worker.get("port", 8080)),
        max_batch=int(worker.get("max_batch", 1)),
        door=_door(folder, f"python{described['python']}") if kind == "worker" else None,
        features=around.get("features"),
        cache=around.get("cache"),
        log=around.get("log"),
        weights=_weights(folder, chosen, described) if weights else None,
        weight_bytes=int(weights["size_bytes"]) if isinstance(weights, dict) and "size_bytes" in weights else 0,
        authorize=model.get("authorize"),
        cors=model.get("cors"),
        document=_document(folder),
        places=dict(sorted(places.items())),
    )


def _timeout_s(chosen: CandidateRecord) -> int:
    slow_ms = chosen.latency_ms.p99 or chosen.latency_ms.p95 or chosen.latency_ms.p50 or 1000.0
    return min(_LONGEST_S, max(_SHORTEST_S, math.ceil(((chosen.cold_start_ms.p50 or 0.0) + 10 * slow_ms) / 1000)))


def _door(folder: Path, runtime: str) -> Door | None:
    if not plain_files.is_there(folder, "frontdoor.zip"):
        return None
    return Door(
        sha256=plain_files.digest_of(folder, "frontdoor.zip").hex,
        size_bytes=(folder / "frontdoor.zip").stat().st_size,
        runtime=runtime,
    )


def _document(folder: Path) -> dict[str, Any]:
    if not plain_files.is_there(folder, "openapi.json"):
        return {}
    return _object(plain_files.read(folder, "openapi.json", _FILE_BYTES), f"{folder / 'openapi.json'}")


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{name}: not JSON ({error}): build again") from None
    if not isinstance(value, dict):
        raise RecipeError(f"{name}: holds no object: build again")
    return value


def _model_json(chosen: CandidateRecord, folder: Path, described: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the package's model, of the first one of several."""
    found = _read(chosen, folder, described, lambda path: path == "model/model.json" or _of_several(path))
    return _object(found, f"{folder}: model.json") if found is not None else {}


def _weights(folder: Path, chosen: CandidateRecord, described: Mapping[str, Any]) -> dict[str, Any]:
    found = _read(chosen, folder, described, lambda path: path.endswith("/weights.json"))
    return _object(found, f"{folder}: weights.json") if found is not None else {}


def _of_several(path: str) -> bool:
    parts = path.split("/")
    return len(parts) == 3 and parts[0] == "models" and parts[2] == "model.json"


def _read(chosen: CandidateRecord, folder: Path, described: Mapping[str, Any], fits: Any) -> bytes | None:
    """The first fitting file of a package, read out of the form in which it ships."""
    stream: IO[bytes]
    for path, stream in TARGETS[chosen.target].unpack(folder, described):
        if fits(path):
            return stream.read(_FILE_BYTES)
    return None


def _measured(chosen: CandidateRecord) -> Measured:
    latency, estimate = chosen.latency_ms, chosen.estimated
    peak_mb = None if chosen.peak_memory_bytes is None else round(chosen.peak_memory_bytes / 1e6, 1)
    if estimate is not None:
        return Measured(
            p50_ms=estimate.latency_ms,
            p95_ms=round(1.5 * estimate.latency_ms, 3),
            throughput_per_s=estimate.throughput_per_s,
            batch_ms=None,
            estimated=estimate.device,
        )
    batch = latency.batch or 1
    return Measured(
        p50_ms=latency.p50,
        p95_ms=latency.p95,
        p99_ms=latency.p99,
        cold_start_ms=chosen.cold_start_ms.p50,
        load_ms=chosen.load_ms,
        peak_mb=peak_mb,
        throughput_per_s=chosen.throughput_per_s,
        batch=batch,
        batch_ms=latency.p95,
    )
