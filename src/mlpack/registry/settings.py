"""The settings rows of a registry (its format, and where its images go), and the creation of a registry in a directory.

The bucket and the table of a registry on AWS are made by `infrastructure.setup`.

Promises:
- A second run changes nothing. Each change is reported before it is made.
- A registry of a newer mlpack is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlpack.registry import SCHEMA, Put
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import marks, rows

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A change that is to be made. `description` is an infinitive phrase."""

    description: str
    make: Callable[[], object]


def create(root: Path, images: str | None = None, dry_run: bool = False, say: Say = lambda _: None) -> list[str]:
    """Make what the registry in this directory lacks. Returns each change in words, none when it is complete.

    `images`: where images go, `host/repository`; None: as before. `dry_run`: only report the changes. RecipeError when the
    directory cannot be a registry, or `images` is invalid.
    """
    from mlpack.registry.images.images import open_images
    from mlpack.registry.local import directory

    registry = directory.open_registry(root)
    if images is not None:
        open_images(images, lambda _: None)
    done = []
    for step in missing(registry, images):
        done.append(step.description)
        say(step.description)
        if not dry_run:
            step.make()
    return done


def missing(registry: Registry, images: str | None, *, blind: bool = False) -> Iterator[SettingChange]:
    """The changes that the settings rows need. `blind`: there is no table to read. ServiceError when a newer mlpack has written
    them."""
    table = registry.place.table
    if not blind:
        registry.check_schema()
    if blind or table.get(rows.SCHEMA_KEY) is None:
        yield SettingChange(f"write the registry's format ({SCHEMA})", partial(registry.check_schema, write=True))
    row = None if blind else table.get(rows.IMAGES_KEY)
    if images is not None and (row is None or row.head.get("prefix") != images):
        put = Put(key=rows.IMAGES_KEY, head={"prefix": images}, expect=row.revision if row else 0)
        yield SettingChange(f"send images to {images}", partial(table.commit, put))


def images_of(registry: Registry) -> str | None:
    """The container registry in the settings; None when there is none."""
    row = registry.place.table.get(rows.IMAGES_KEY)
    return marks.images(row, registry.place.where) if row else None
