"""The decision records by number and title, as their heads have them: `# 0007 Title`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def index(root: Path) -> Iterator[str]:
    """A list of all records."""
    for path, number, title in _records(root):
        yield f"- [{number}]({path.name}) {title}"


def navigation(root: Path) -> Iterator[str]:
    """The records in the navigation of the site."""
    for path, number, title in _records(root):
        yield f'      - "{number} {_plain(title)}": decisions/{path.name}'


def _records(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Path, number and title of each.

    Raises:
        ValueError: A record whose first line is not its number and title, or whose number is not its file's.
    """
    for path in sorted((root / "docs" / "decisions").glob("[0-9]*.md")):
        head = path.read_text("utf-8").partition("\n")[0]
        match = re.fullmatch(r"# (\d{4}) (\S.*)", head)
        if match is None or match[1] != path.name[:4]:
            raise ValueError(f"{path.name} begins with {head!r}: write `# {path.name[:4]} Title`")
        yield path, match[1], match[2]


def _plain(title: str) -> str:
    """A title without Markdown, inside double quotes of YAML."""
    return title.replace("`", "").replace("\\", "\\\\").replace('"', '\\"')
