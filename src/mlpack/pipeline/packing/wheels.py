"""Python distributions for another platform: resolved with hashes, fetched, unpacked, slimmed and pinned.

Promises:
- What the lock pins is not resolved again. Every file that ships comes from a wheel whose sha256 is in the lock.
- No code of a wheel is executed: `uv` only unpacks it.
- One table says which files ship, and why.

Will not: build from source.

Sources: `uv pip compile --generate-hashes`, `uv pip install --require-hashes`; the contents of the two wheels, as unpacked.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.core.files import atomically, bounded, temporary
from mlpack.errors import PackError, RecipeError, ServiceError, full_disk
from mlpack.pipeline.packing.wheel_rules import ENGINE, RULES, TOKENIZER, Rule

__all__ = [
    "ENGINE",
    "LOCK_NAME",
    "RULES",
    "TOKENIZER",
    "Lock",
    "Pin",
    "Rule",
    "install",
    "platform_key",
    "read_lock",
    "resolve",
    "resolve_all",
    "slim",
    "with_pins",
    "write_lock",
]

LOCK_NAME = "mlpack.lock"
LOCK_BYTES = 16 << 20
"""A lock of three wheels on six platforms has 4 KB."""
_SCHEMA = 1
_PLATFORMS = {"x86_64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
"""The engine's wheel needs glibc 2.28; Amazon Linux 2023 (Lambda's Python 3.12 and later) has 2.34, its 3.11 image 2.26."""
_TIMEOUT_S = 600
_MAX_CHARS = 300
_VERSION = r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,199}"
_KEY_LETTERS = 1000
_HASHES = 1000
"""The most hashes of one distribution: one for each wheel. Real ones have some hundred."""
_UNREACHABLE = re.compile(
    r"failed to fetch|error sending request|dns error|connection (refused|reset)|timed? ?out|network|unreachable|certificate"
    r"|status (server|client) error|offline|Network connectivity is disabled",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One distribution: its exact version, and the sha256 (hex) of every file of it that may be installed."""

    name: str
    version: str
    sha256s: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The content of `mlpack.lock`. `wheels` by `python-arch` (`3.13-arm64`), `bases` by `reference arch`: an image's digest;
    `requirements` of hooks, whole, by platform and what was asked for (`3.13-arm64 numpy>=2, pillow`)."""

    wheels: Mapping[str, tuple[Pin, ...]] = field(default_factory=dict)
    bases: Mapping[str, Digest] = field(default_factory=dict)
    requirements: Mapping[str, tuple[Pin, ...]] = field(default_factory=dict)


def resolve(requirements: Sequence[str], python: str, arch: str) -> tuple[Pin, ...]:
    """The exact versions, with hashes, of these requirements, without their dependencies: the runtime needs none of those.

    `python`: "3.13"; `arch`: x86_64 or arm64. ServiceError when the index cannot be reached; PackError when it has no such wheel.
    """
    return _resolved(requirements, ("--no-deps",), python, arch)


def resolve_all(
    requirements: Sequence[str], python: str, arch: str, bounds: Sequence[str] = (), *, explain: Callable[[str], str]
) -> tuple[Pin, ...]:
    """The exact versions, with hashes, of these requirements and of everything that they need.

    Args:
        requirements: Lines as pip takes them, without options.
        python: "3.13".
        arch: x86_64 or arm64.
        bounds: Requirements that hold for whatever is brought, and bring nothing themselves.
        explain: From what uv says to the message where there is no answer.

    Raises:
        RecipeError: There is no answer.
        ServiceError: The index cannot be reached.
    """
    with temporary.directory("bounds") as name:
        bounded_by = Path(name, "bounds.txt")
        bounded_by.write_text("\n".join(sorted(bounds)) + "\n")
        return _resolved(requirements, ("--constraint", str(bounded_by)), python, arch, explain)


def _resolved(
    requirements: Sequence[str], options: Sequence[str], python: str, arch: str, explain: Callable[[str], str] | None = None
) -> tuple[Pin, ...]:
    with temporary.directory("resolve") as name:
        source, resolved = Path(name, "wanted.in"), Path(name, "resolved.txt")
        source.write_text("\n".join(sorted(requirements)) + "\n")
        command = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes", *options]
        places = ["--output-file", str(resolved), str(source)]
        _uv([*command, *_platform(python, arch), *places], f"Python {python} on {arch}", explain)
        return _read_pins(resolved.read_text())


def install(pins: Sequence[Pin], python: str, arch: str, out_dir: Path) -> None:
    """Unpack the pinned wheels into `out_dir`, every file checked against its hash, nothing executed. Errors as of `resolve`.

    PackError, too, when the index serves other bytes than the lock names.
    """
    lines = [" ".join([f"{p.name}=={p.version}", *(f"--hash=sha256:{each}" for each in p.sha256s)]) for p in pins]
    with temporary.directory("install") as name:
        requirements_file = Path(name, "pinned.txt")
        requirements_file.write_text("\n".join(lines) + "\n")
        # Copies, not links: a package's files get modes of their own, and uv's cache must not be changed by that.
        # UV_COMPILE_BYTECODE may add bytecode, which both ways of slimming leave out: uv refuses an option that contradicts it.
        command = ["pip", "install", "--quiet", "--no-deps", "--require-hashes", "--link-mode", "copy", "--target", str(out_dir)]
        _uv([*command, *_platform(python, arch), "--requirements", str(requirements_file)], f"Python {python} on {arch}")


def slim(installed: Path, out_dir: Path, rules: tuple[Rule, ...] = RULES) -> tuple[str, ...]:
    """Move the files that ship by `rules` from `installed` to their places below `out_dir`; returns these paths, sorted.

    PackError when no rule names a file, or two files would get one place.
    """
    placed: dict[str, str] = {}
    for path, entry in list(digest.entries(installed)):
        if entry.is_dir(follow_symlinks=False) or "/__pycache__/" in path:
            continue
        rule = next((each for each in rules if fnmatchcase(path, each.pattern)), None)
        if rule is None or not entry.is_file(follow_symlinks=False):
            raise PackError(
                f"the wheel holds {path!r}, which no rule of mlpack.pipeline.packing.wheel_rules names: decide if it ships"
            )
        if rule.to is None:
            continue
        place = _place(path, rule.to)
        if place in placed:
            raise PackError(f"{path} and {placed[place]} would both become {place}")
        placed[place] = path
        (out_dir / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(entry.path, out_dir / place)
        (out_dir / place).chmod(0o644)
    return tuple(sorted(placed))


def _place(path: str, to: str) -> str:
    if to.endswith("/*"):
        return to[:-1] + path
    return to + path.rpartition("/")[2] if to.endswith("/") else to


def read_lock(path: Path) -> Lock:
    """The lock at `path`; an empty one when there is none. RecipeError when it is damaged, or of a newer mlpack."""
    try:
        data = bounded.load_json(path, LOCK_BYTES)
        if data["schema"] != _SCHEMA:
            schema = f"schema {data['schema']!r:.60}"
            raise RecipeError(f"{path}: {schema}; this mlpack reads {_SCHEMA}. Update mlpack, or delete the lock")
        return Lock(
            wheels={_text(key): tuple(_read_pin(each) for each in pins) for key, pins in data["wheels"].items()},
            bases={_text(key): Digest(text) for key, text in data["bases"].items()},
            requirements={
                _text(key): tuple(_read_pin(each) for each in pins) for key, pins in data.get("requirements", {}).items()
            },
        )
    except FileNotFoundError:
        return Lock()
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}. Restore it, or delete it to pin anew") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"[:_MAX_CHARS]
        raise RecipeError(f"{path}: not a lock that mlpack wrote ({why}). Restore it, or delete it to pin anew") from None


def write_lock(path: Path, lock: Lock) -> None:
    """Write `lock` to `path`, sorted, whole or not at all. Equal locks have equal bytes, and an equal file is left alone."""
    data: dict[str, Any] = {
        "schema": _SCHEMA,
        "bases": {key: str(value) for key, value in lock.bases.items()},
        "wheels": _written(lock.wheels),
    }
    if lock.requirements:
        data["requirements"] = _written(lock.requirements)
    text = json.dumps(data, indent=1, sort_keys=True) + "\n"
    with suppress(OSError, ValueError):
        if bounded.read(path, LOCK_BYTES) == text.encode():
            return
    # Builds of two recipes in one directory share the lock, and may write it at the same moment.
    atomically.write(path, text.encode())


def _written(pinned: Mapping[str, Sequence[Pin]]) -> dict[str, list[dict[str, Any]]]:
    return {
        key: [{"name": p.name, "version": p.version, "sha256": sorted(p.sha256s)} for p in sorted(pins, key=lambda p: p.name)]
        for key, pins in pinned.items()
    }


def with_pins(lock: Lock, python: str, arch: str, requirements: Sequence[str] = (ENGINE, TOKENIZER)) -> Lock:
    """`lock` with pins of `requirements` for this platform. Missing ones are resolved now and replace other versions; the others
    stay. Errors as of `resolve`."""
    key = platform_key(python, arch)
    pins = {f"{p.name}=={p.version}": p for p in lock.wheels.get(key, ())}
    missing = [each for each in requirements if each not in pins]
    if not missing:
        return lock
    by_name = {p.name: p for p in (*pins.values(), *resolve(missing, python, arch))}
    return replace(lock, wheels={**lock.wheels, key: tuple(by_name[name] for name in sorted(by_name))})


def platform_key(python: str, arch: str) -> str:
    """The key of a platform's pins in the lock: `3.13-arm64`."""
    return f"{python}-{arch}"


def _text(key: str) -> str:
    """A key of the lock. ValueError for one that is too long, or has half a surrogate pair, which cannot be written."""
    key.encode()
    if len(key) > _KEY_LETTERS:
        raise ValueError(f"a key of {len(key):,} letters")
    return key


def _read_pin(data: Mapping[str, Any]) -> Pin:
    if not isinstance(data["sha256"], list):
        raise TypeError("sha256 is no list")
    pin = Pin(name=data["name"], version=data["version"], sha256s=tuple(data["sha256"]))
    if not 0 < len(pin.sha256s) <= _HASHES:
        raise ValueError(f"{pin.name!r:.60}: {len(pin.sha256s)} hashes")
    # Both go into a requirements file: neither may be read as an option or another requirement.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", pin.name) or not re.fullmatch(_VERSION, pin.version):
        raise ValueError(f"not a name and version: {pin.name!r:.80} {pin.version!r:.80}")
    if not pin.sha256s or not all(re.fullmatch(r"[0-9a-f]{64}", each) for each in pin.sha256s):
        raise ValueError(f"{pin.name}: not sha256 hashes")
    return pin


def _read_pins(text: str) -> tuple[Pin, ...]:
    pins = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name, _, version = words[0].partition("==")
        hashes = sorted(word.removeprefix("--hash=sha256:") for word in words[1:] if word.startswith("--hash=sha256:"))
        pins.append(_read_pin({"name": name, "version": version, "sha256": hashes}))
    return tuple(sorted(pins, key=lambda p: p.name))


def _platform(python: str, arch: str) -> list[str]:
    return ["--python-version", python, "--python-platform", _PLATFORMS[arch], "--only-binary", ":all:"]


def _uv(arguments: Sequence[str], what: str, explain: Callable[[str], str] | None = None) -> None:
    """Run uv, which takes the index from the user's own configuration and environment. `explain`: as of `resolve_all`."""
    import sys

    import uv

    command = [uv.find_uv_bin(), *arguments, "--python", sys.executable, "--no-python-downloads"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ServiceError(f"the package index did not answer within {_TIMEOUT_S} s: try again later", retryable=True) from None
    if result.returncode == 0:
        return
    if full := full_disk(result.stderr):
        raise full
    text = _shorten(result.stderr)
    if re.search(r"hash mismatch", result.stderr, re.IGNORECASE):
        raise PackError(
            f"the package index serves other bytes than {LOCK_NAME} pins: find out why before you use them. uv says: {text}"
        )
    if _UNREACHABLE.search(result.stderr):
        raise ServiceError(
            f"the package index could not be reached: check the network, or point uv at yours (UV_DEFAULT_INDEX). uv says: {text}",
            retryable=True,
        )
    if explain is not None:
        raise RecipeError(explain(result.stderr))
    raise PackError(f"the package index has no suitable wheels for {what}: choose another Python version. uv says: {text}")


def _shorten(text: str, limit: int = 600) -> str:
    words = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
    return words if len(words) <= limit else words[:limit] + " …"
