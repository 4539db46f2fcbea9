"""What a release asks of the repository before anything is published.

    python tools/release.py notes v1.2.3   prints what CHANGELOG.md says of that version; exit 1 where tag, version and it disagree

A release is one commit that dates the version's section and sets `mlpack.__version__`, and a tag on it; the workflow does the rest.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_HEADING = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - (?P<when>.+))?$", re.MULTILINE)


def main(words: list[str]) -> int:
    """Print the notes, or what is wrong."""
    if len(words) != 2 or words[0] != "notes":
        print(__doc__)
        return 2
    try:
        print(
            notes(
                words[1], (ROOT / "CHANGELOG.md").read_text("utf-8"), version((ROOT / "src/mlpack/__init__.py").read_text("utf-8"))
            )
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def notes(tag: str, changelog: str, version: str) -> str:
    """The section of the version, without its heading. ValueError where the tag is not the version's, or the section has no day or
    no words."""
    if tag != f"v{version}":
        raise ValueError(f"the tag {tag} is not v{version}, the version in src/mlpack/__init__.py")
    headings = list(_HEADING.finditer(changelog))
    for found, after in itertools.zip_longest(headings, headings[1:]):
        if found["version"] == version:
            if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", found["when"] or ""):
                raise ValueError(f"CHANGELOG.md does not say on which day {version} was released: ## [{version}] - 2026-12-01")
            text = changelog[found.end() : after.start() if after else None].strip()
            if not text:
                raise ValueError(f"CHANGELOG.md says nothing of {version}")
            return text
    raise ValueError(f"CHANGELOG.md has no section of {version}")


def version(source: str) -> str:
    """`__version__` of a module's source."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and ast.unparse(node.targets[0]) == "__version__":
            return str(node.value.value)
    raise ValueError("src/mlpack/__init__.py has no __version__")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
