"""What is installed here, and the command that installs what is missing, ready to paste.

Promises:
- The command fits the way in which mlpack was installed here (pip, pipx or a tool of uv) and keeps what is installed.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

from mlpack import __distribution__ as NAME
from mlpack import __version__ as VERSION

__all__ = ["NAME", "VERSION", "install", "normalized", "version_of"]


def install(extra: str, prefix: Path | None = None) -> str:
    """The command that brings an extra of pyproject.toml: `pip install 'mlpack-build[aws]'`.

    `prefix` is the environment, by default this one. pipx and uv keep a program in an environment of its own, without a pip that
    the user could call, and leave a file there by which it is known.
    """
    here = Path(sys.prefix) if prefix is None else prefix
    requirement = f"'{NAME}[{extra}]'"
    if (here / "pipx_metadata.json").is_file():
        return f"pipx runpip {here.name} install {requirement}"
    if (here / "uv-receipt.toml").is_file():
        return f"uv tool install {requirement}"
    return f"pip install {requirement}"


def normalized(name: str) -> str:
    """A distribution's name as indexes compare it: `python_dateutil` is `python-dateutil`."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def version_of(distribution: str) -> str:
    """The installed version of a distribution, `absent` when it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"
