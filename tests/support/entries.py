"""Entries of a store: small and large ones, used long ago by nobody who is left."""

from __future__ import annotations

import os
from pathlib import Path

from mlpack.core import digest
from mlpack.store.local import Store

LARGE = b"0123456789abcdef" * (1 << 17)
"""2 MiB: files of this size are kept once."""


def action(name: str) -> dict[str, str]:
    return {"kind": f"step/{name[0]}", "name": name}


def put(opened: Store, name: str, data: bytes | None = None) -> Path:
    with opened.entry(action(name)) as entry:
        if not entry.hit:
            (entry.dir / "sub").mkdir()
            (entry.dir / "sub/data").write_bytes(name.encode() if data is None else data)
            (entry.dir / "name").write_text(name)
    return entry.dir


def made(root: Path, *names: str, data: bytes | None = None) -> None:
    """Entries that nobody holds, used a minute apart in this order, long ago."""
    opened = Store(root)
    for number, name in enumerate(names):
        put(opened, name, data)
        record = root / "actions" / f"{digest.of_json(action(name)).hex}.json"
        os.utime(record, (1_000_000 + 60 * number,) * 2)
    opened.release()


def there(root: Path, *names: str) -> set[str]:
    """Which of these are hits; each is looked at by itself, so nothing is made."""
    opened = Store(root)
    found = {name for name in names if opened.find(action(name)) is not None}
    opened.release()
    return found
