"""A release in the forms that people, scripts, Terraform and CloudFormation read. Pure."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

from mlpack.core.text import sinks, words
from mlpack.errors import RecipeError
from mlpack.registry import Blobs
from mlpack.registry.records import Release
from mlpack.registry.releases import releases
from mlpack.registry.releases.releases import Registry, function_zip

FIELDS = (
    *releases.FIELDS,
    *("kind", "architecture", "candidate", "zip_base64sha256", "s3_bucket", "s3_key", "image_uri"),
    *("layer", "layer_base64sha256", "layer_s3_bucket", "layer_s3_key", "weights"),
)
"""The fields of `show --field`: what people ask for, and everything of `deployment`."""


def as_json(release: Release) -> dict[str, Any]:
    """A release for other programs: plain JSON values, stable keys."""
    return {
        "name": release.name,
        "version": release.version,
        "reference": f"{release.name}@{release.version}",
        "digest": str(release.digest),
        "created": release.created,
        "artifact": dict(release.artifact.manifest),
        "packages": {id_: dict(one.manifest) for id_, one in sorted(release.packages.items())},
        "images": dict(sorted(release.images.items())),
        "files": {path: str(blob) for path, blob in sorted(release.files.items())},
        "tags": dict(sorted(release.tags.items())),
        "recipe": release.recipe,
        "models": release.models,
        **dataclasses.asdict(release.provenance),
    }


def deployment(release: Release, blobs: Blobs) -> dict[str, str]:
    """The facts that a deployment needs, flat and all text, because Terraform's `external` data source takes nothing else.

    `zip_base64sha256` is what Terraform's `source_code_hash` compares; `s3_bucket` and `s3_key` are Lambda's own names.
    """
    artifact = release.artifact
    values = {
        "name": release.name,
        "version": str(release.version),
        "digest": str(artifact.digest),
        "kind": artifact.kind,
        "architecture": artifact.arch or "",
        "candidate": artifact.candidate,
    }
    for what, prefix, inside in (("zip", "", function_zip(release)), ("layer", "layer_", layer_zip(release))):
        if inside is None:
            continue
        blob = release.files[inside]
        uri = blobs.uri(blob)
        values |= {what: uri, f"{what}_base64sha256": base64.b64encode(bytes.fromhex(blob.hex)).decode()}
        if uri.startswith("s3://"):
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            values |= {f"{prefix}s3_bucket": bucket, f"{prefix}s3_key": key}
    beside = f"artifacts/{artifact.candidate}/weights/"
    outside = sorted({blob.hex: blobs.uri(blob) for path, blob in release.files.items() if path.startswith(beside)}.items())
    if outside:  # of several models each has its own
        name, uri = outside[0]
        several = uri.replace(f"{name[:2]}/{name}", "{digest:2}/{digest}").replace(name, "{digest}")
        values["weights"] = uri if len(outside) == 1 else several
    if image := release.images.get(artifact.candidate):
        values["image_uri"] = image
    return values


def field(registry: Registry, release: Release, name: str) -> str:
    """One value, for `$(...)`: one of `FIELDS`. RecipeError when this release does not have it."""
    if name in releases.FIELDS:
        return registry.field(release, name)
    if (value := deployment(release, registry.place.blobs).get(name)) is not None:
        return value
    if name in FIELDS:
        why = f"its package is a {release.artifact.kind} in {registry.place.where}"
        raise RecipeError(f"{release.name}@{release.version} has no {name}: {why}")
    raise RecipeError(f"there is no field {name!r}; there are {', '.join(FIELDS)}")


def presigned(registry: Registry, release: Release, seconds: int) -> str:
    """A URL of the function's zip that anybody can read for so many seconds. RecipeError when there is no zip, or no URLs."""
    inside = function_zip(release)
    if inside is None:
        raise RecipeError(f"{release.name}@{release.version} is an {release.artifact.kind}: only zips have URLs to sign")
    return registry.place.blobs.presign(release.files[inside], seconds)


def layer_zip(release: Release) -> str | None:
    """The path of the chosen package's layer zip among the release's files; None when it has none."""
    path = f"artifacts/{release.artifact.candidate}/layer.zip"
    return path if path in release.files else None


def parameters(release: Release, blobs: Blobs) -> list[dict[str, str]]:
    """The same facts as CloudFormation's list of parameters, with names in capitals as templates write them."""
    return [
        {"ParameterKey": "".join(part.capitalize() for part in key.split("_")), "ParameterValue": value}
        for key, value in sorted(deployment(release, blobs).items())
    ]


def text(release: Release) -> str:
    """A release for people."""
    artifact, source = release.artifact, release.provenance
    commit = f"{source.commit}{', with changes that were not committed' if source.dirty else ''}" if source.commit else None
    lines = [
        ("release", f"{release.name}@{release.version}{f', {source.label}' if source.label else ''}"),
        ("candidate", artifact.candidate),
        ("artifact", f"{artifact.kind}, {words.size(artifact.size_bytes)}, {artifact.digest}"),
        *(("image", reference) for _, reference in sorted(release.images.items())),
        ("digest", release.digest),
        ("created", release.created),
        ("commit", commit),
        ("by", source.who),
        ("at", source.where),
        ("tags", ", ".join(f"{key}={value}" for key, value in sorted(release.tags.items())) or words.UNKNOWN),
        ("files", words.count(len(release.files), "file")),
    ]
    return "\n".join(f"{label:<10}{sinks.line(value)}" for label, value in lines if value is not None)
