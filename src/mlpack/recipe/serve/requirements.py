"""The distributions that hooks need: `serve.requirements`, entry by entry, and the lines of the files that it names.

Promises: every line is a name with versions, extras and markers, as PEP 508 has them, in one form; whatever else such files can
hold is refused with what to do instead. Nothing is resolved here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlpack.core.distribution import normalized
from mlpack.core.files import bounded

FILE_BYTES = 1 << 20
_MOST = 500
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_EXTRAS = rf"(?:\[\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\])"
_CLAUSE = r"(?:~=|===?|!=|<=?|>=?)\s*[A-Za-z0-9.*+!_-]+"
_CLAUSES = rf"{_CLAUSE}(?:\s*,\s*{_CLAUSE})*"
_LINE = re.compile(rf"({_NAME})\s*({_EXTRAS}?)\s*({_CLAUSES}|\(\s*{_CLAUSES}\s*\)|)\s*(;.*)?")
_HASH = re.compile(r"\s--hash[= ](\S+)")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_OPTIONS = "an index, and how it is asked, are settings of uv (UV_DEFAULT_INDEX, UV_FIND_LINKS, uv.toml), and not of a recipe"


def read(entries: Sequence[str], root: Path) -> tuple[tuple[str, ...], tuple[tuple[int, str], ...]]:
    """The requirements, each once and sorted, and what is wrong with which entry.

    Args:
        entries: Requirements (`numpy>=2`), or paths of files of them (`./requirements.txt`).
        root: The recipe's directory.

    Returns:
        Requirements as `name[extras]>=version; marker`, with ` --hash=sha256:...` for each hash that a file names; and pairs of an
        entry's index and a sentence.
    """
    lines: set[str] = set()
    problems: list[tuple[int, str]] = []
    for index, entry in enumerate(entries):
        try:
            lines |= {_canonical(line) for line in (_lines(root / entry, entry) if _is_file(entry) else [entry])}
        except ValueError as error:
            problems.append((index, str(error)))
    if len(lines) > _MOST:
        problems.append((0, f"{len(lines)} requirements; {_MOST} are taken"))
    return tuple(sorted(lines)), tuple(problems)


def name_of(line: str) -> str:
    """The normalized name of one of `read`'s requirements."""
    return re.split(r"[^a-z0-9-]", line, maxsplit=1)[0]


def without_hashes(line: str) -> tuple[str, tuple[str, ...]]:
    """One of `read`'s requirements, and the sha256 that it names."""
    text, *hashes = line.split(" --hash=sha256:")
    return text, tuple(hashes)


def _is_file(entry: str) -> bool:
    if "://" in entry or " @ " in entry:
        return False
    return entry.startswith(("./", "../", "/")) or entry.endswith((".txt", ".in", ".whl"))


def _lines(path: Path, entry: str) -> Iterator[str]:
    """The requirements of a file, each in one line, without comments."""
    if entry.endswith(".whl"):
        raise ValueError(
            f"{entry} is a wheel: name the distribution instead, and tell uv where the wheel lies (UV_FIND_LINKS={path.parent}), "
            "so that mlpack.lock pins it by its hash"
        )
    try:
        text = bounded.read(path, FILE_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(re.sub(r"\\\r?\n", " ", text).splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not line:
            continue
        if line.startswith("-"):
            raise ValueError(f"{entry}: line {number} is {line[:80]!r}: {_of_option(line)}")
        yield line


def _of_option(line: str) -> str:
    word = re.split(r"[\s=]", line, maxsplit=1)[0]
    if word in ("-r", "--requirement", "-c", "--constraint"):
        return "name that file in serve.requirements, too"
    if word in ("-e", "--editable"):
        return "code of your own ships beside the hook: put it next to the recipe and import it"
    return _OPTIONS


def _canonical(line: str) -> str:
    """A requirement in the one form. ValueError for what is none."""
    if line.startswith("-"):
        raise ValueError(f"{line[:80]!r}: {_of_option(line)}")
    hashes = _HASH.findall(line)
    text = _HASH.sub("", line).strip()
    if "://" in text or " @ " in text or text.startswith("git+"):
        raise ValueError(
            f"{text[:80]!r} names where it is: requirements come from uv's index by name, and mlpack.lock pins them by hash. Put a "
            "wheel of it into an index, or into a folder that uv is told of (UV_FIND_LINKS)"
        )
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:80]!r} is no requirement: a name with versions, such as numpy>=2 or pillow==12.0.0")
    if wrong := [each for each in hashes if not _SHA256.fullmatch(each)]:
        raise ValueError(f"{text[:80]!r}: {wrong[0][:80]!r} is no sha256, and wheels are pinned by nothing else")
    name, extras, clauses, marker = match.groups()
    name = normalized(name)
    extras = ",".join(sorted(re.findall(_NAME, extras.lower())))
    ordered = ",".join(sorted(re.sub(r"\s", "", each) for each in clauses.strip("() ").split(",")))
    made = f"{name}{f'[{extras}]' if extras else ''}{ordered}{f' {marker.strip()}' if marker else ''}"
    return made + "".join(f" --hash={each}" for each in sorted(set(hashes)))


def listed(lines: Iterable[str]) -> str:
    """Requirements for people."""
    return ", ".join(without_hashes(line)[0] for line in lines)
