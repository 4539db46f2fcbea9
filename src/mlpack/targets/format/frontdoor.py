"""The front door's zip: the part of a worker's package that a small Lambda function before its queue or endpoint needs.

The handler to configure is `mlpack_runtime.frontdoor.handler`, on the managed Python runtime of the version that the worker was
compiled for. That runtime has botocore, so the zip has not. docs/front-door.md has the settings and the permissions.

Promises:
- The archive is reproducible: model.json and a few modules, with their bytecode where the contents have it. It holds no engine, no
  weights and no hooks, and has at most 1 MB.
- It is read back before it is in place.

Will not: upload anything, or make a package of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.core.files import atomically
from mlpack.errors import LimitError, PackError
from mlpack.targets.format import ziparchive
from mlpack.targets.format.contents import Contents
from mlpack.targets.format.ziparchive import Member

HANDLER = "mlpack_runtime.frontdoor.handler"
LIMIT_BYTES = 1_000_000
"""Our limit, not AWS's: a larger zip holds something that a front door does not need."""
MODULES = (
    "__init__",
    "aws/__init__",
    "aws/promises",
    "classification",
    "door/__init__",
    "door/exchange",
    "door/forms",
    "door/sending",
    "door/settings",
    "door/tickets",
    "encodings",
    "events",
    "frontdoor",
    "jsontext",
    "limits",
    "media",
    "model",
    "ort",
    "protocol",
    "routes",
    "service",
    "serving/__init__",
    "serving/breaker",
    "serving/http_head",
    "serving/http_wire",
    "shapes",
    "snapshot",
    "starting",
    "telemetry",
    "tensor",
    "texts",
    "triggers/__init__",
    "triggers/sources",
    "values",
)
"""The modules of mlpack_runtime that `HANDLER` imports, as paths without their ending. `ort` only describes a port here, and loads
no library."""
ACCESS = (
    "access/__init__",
    "access/api_keys",
    "access/cors",
    "access/key_sets",
    "access/rates",
    "access/signatures",
    "access/tokens",
)
"""The same for a package that says who may ask, or which origins' pages."""
_MODEL = "model/model.json"
_SCHEMA = 1


def write_zip(contents: Contents, out_path: Path) -> tuple[Digest, int]:
    """Write the archive for this package's front door; its digest and bytes.

    PackError when the contents lack a module or a valid model.json; LimitError above `LIMIT_BYTES`. Then no file is written.
    """
    described = _described(contents.code / _MODEL)
    modules = (*MODULES, *(ACCESS if described.get("authorize") or described.get("cors") else ()))
    members = [_member(contents.runtime, path) for path in _runtime_paths(contents.runtime, modules)]
    members.append(_member(contents.code, _MODEL))
    with atomically.replacing(out_path) as fresh:
        archive_digest = ziparchive.write(members, fresh)
        size = fresh.stat().st_size
        if size > LIMIT_BYTES:
            largest = max(members, key=lambda each: each.source.stat().st_size)
            raise LimitError(
                f"the front door's zip has {size:,} bytes, {size - LIMIT_BYTES:,} more than the {LIMIT_BYTES:,} that it may have;"
                f" its largest file is {largest.name}, which should be a few kilobytes: what else was written into it?"
            )
    return archive_digest, size


def _runtime_paths(runtime: Path, modules: tuple[str, ...]) -> list[str]:
    """The modules and their bytecode: for all of them or for none."""
    folder = runtime / "mlpack_runtime"
    missing = [name for name in modules if not _is_plain(folder / f"{name}.py")]
    if missing:
        raise PackError(
            f"the runtime at {runtime} has no plain file {', '.join(f'mlpack_runtime/{name}.py' for name in missing)}:"
            " it is incomplete, or of another version of mlpack; build again"
        )
    compiled = {path: _compiled_from(path.relative_to(folder)) for path in sorted(folder.rglob("__pycache__/*.pyc"))}
    bytecode = {f"mlpack_runtime/{path.relative_to(folder)}": name for path, name in compiled.items() if name in modules}
    if bytecode and len(set(bytecode.values())) != len(modules):
        raise PackError(f"the runtime at {runtime} has bytecode of some modules and not of others: it is incomplete; build again")
    return [f"mlpack_runtime/{name}.py" for name in modules] + list(bytecode)


def _compiled_from(path: Path) -> str:
    """The module, as `MODULES` names it, of `serving/__pycache__/breaker.cpython-313.pyc`."""
    return (path.parent.parent / path.name.partition(".")[0]).as_posix()


def _described(path: Path) -> dict[str, Any]:
    if not _is_plain(path):
        raise PackError(f"there is no plain file {path}: a front door needs the model's description")
    try:
        description = json.loads(path.read_bytes())
    except ValueError as error:
        raise PackError(f"{path} is not JSON: {error}") from None
    fits = isinstance(description, dict) and description.get("schema") == _SCHEMA
    if not fits or not all(isinstance(description.get(key), list) for key in ("inputs", "outputs")):
        raise PackError(f"{path} does not describe inputs and outputs in schema {_SCHEMA}, which a front door checks requests with")
    return dict(description)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _member(root: Path, path: str) -> Member:
    return Member(name=path, source=root / path, digest=digest.of_file(root / path))
