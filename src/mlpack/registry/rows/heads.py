"""The heads of releases: what lists show of each, and the fields of a row that say it.

Promises:
- A head is read as a whole, each field in its form, or there is a FieldError.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mlpack.registry.fields import FieldError, Fields, shown
from mlpack.registry.records import Provenance, Release, ReleaseHead

_PROVENANCE = {each.name for each in dataclasses.fields(Provenance)}


def head_of(release: Release) -> ReleaseHead:
    """The head of a release."""
    artifact = release.artifact
    return ReleaseHead(
        version=release.version,
        digest=release.digest,
        created=release.created,
        kind=artifact.kind,
        size_bytes=artifact.size_bytes,
        target=artifact.target,
        arch=artifact.arch,
        provenance=release.provenance,
    )


def written(head: ReleaseHead) -> dict[str, Any]:
    """The fields of its row."""
    return {
        "version": head.version,
        "digest": str(head.digest),
        "created": head.created,
        "kind": head.kind,
        "size_bytes": head.size_bytes,
        "target": head.target,
        "arch": head.arch,
        **dataclasses.asdict(head.provenance),
    }


def read_head(value: Mapping[str, Any]) -> ReleaseHead:
    """The head that these fields say. A newer mlpack may write more of them. FieldError where one is not in its form."""
    fields = Fields(value)
    return ReleaseHead(
        version=fields.version("version"),
        digest=fields.digest("digest"),
        created=fields.time("created"),
        kind=fields.label("kind"),
        size_bytes=fields.whole("size_bytes"),
        target=fields.maybe("target", fields.label),
        arch=fields.maybe("arch", fields.label),
        provenance=read_provenance({key: value[key] for key in value if key in _PROVENANCE}),
    )


def read_provenance(value: Mapping[str, Any]) -> Provenance:
    """Who published, from where. FieldError for what is none of its fields, or not in its form."""
    fields = Fields(value, "provenance")
    if unknown := sorted(value.keys() - _PROVENANCE):
        raise FieldError(f"provenance holds {shown(unknown[0], 40)}")
    texts = {key: fields.maybe(key, fields.label) for key in ("label", "commit", "who", "where")}
    return Provenance(dirty=fields.maybe("dirty", fields.flag), **texts)


def check_head(value: Mapping[str, Any], release: Release) -> None:
    """Raise FieldError unless these fields agree with the record, as far as they are there: a newer mlpack may show more."""
    expected = written(head_of(release))
    for key in expected.keys() & value.keys():
        if type(expected[key]) is not type(value[key]) or expected[key] != value[key]:
            raise FieldError(f"the head of its row is not what its record says: {key}")
