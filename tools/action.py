"""What action.yml runs: mlpack installed from the action's own commit, a build, and what GitHub is told of it.

    python -I tools/action.py prepare   installs mlpack with INPUT_EXTRAS; MLPACK_STORE for later steps; outputs `store` and `key`
    python -I tools/action.py build     runs `mlpack build INPUT_RECIPE`; outputs, a summary, and its exit code

Needs nothing but Python. `-I`: a file of the checkout called json.py is not imported. What callers give comes through the
environment and goes to programs as whole words; a file of GitHub's gets each value between lines that nobody can foresee.
`mlpack` writes the annotations itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SUMMARY_BYTES = 1_000_000
"""GitHub refuses the summary of a step beyond 1 MiB, whole."""
STORE_MAX = "2GB"
"""A repository's cache has 10 GB for all that is kept there."""
OVER_BUDGET = 5
WRITTEN = (0, OVER_BUDGET)
"""With these exit codes build.json and the reports were written."""


def main(words: list[str]) -> int:
    """Do what the word says."""
    steps = {"prepare": prepare, "build": build}
    if len(words) != 1 or words[0] not in steps:
        print(__doc__)
        return 2
    return steps[words[0]]()


def prepare() -> int:
    """mlpack in this Python, and a place for its store."""
    extras = _input("EXTRAS").replace(" ", "")
    if not re.fullmatch(r"([a-z0-9-]+(,[a-z0-9-]+)*)?", extras):
        return _wrong(f"extras: names with commas between them are wanted, not {extras!r}")
    if not (recipe := _input("RECIPE")):
        return _wrong("recipe: the path of a recipe is wanted")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    if code := subprocess.run([*pip, f"{ROOT}[{extras}]" if extras else str(ROOT)], check=False).returncode:
        return code
    store = Path(os.environ.get("MLPACK_STORE") or Path(os.environ["RUNNER_TEMP"], "mlpack-store")).expanduser().absolute()
    store.mkdir(parents=True, exist_ok=True)
    _tell(
        "GITHUB_ENV",
        {"MLPACK_STORE": str(store), "MLPACK_STORE_MAX": _input("STORE_MAX") or os.environ.get("MLPACK_STORE_MAX") or STORE_MAX},
    )
    # A store that was made elsewhere is no use: the action of a step holds the machine, the Python and the tools.
    where = f"{platform.system()}-{platform.machine()}-{sys.version_info.major}.{sys.version_info.minor}"
    named = hashlib.sha256(recipe.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    _tell("GITHUB_OUTPUT", {"store": str(store), "key": f"mlpack-{where}-{named}"})
    return 0


def build() -> int:
    """The build; ends with the code that `mlpack` ended with."""
    recipe = _input("RECIPE")
    out = Path(_input("OUT") or Path("out", Path(recipe).stem))
    options = [line.strip() for line in _input("OPTIONS").splitlines() if line.strip()]
    record_file = out / "build.json"
    before = _identity(record_file)
    code = subprocess.run(["mlpack", "build", "--out", str(out), *options, "--", recipe], check=False).returncode
    outputs = {"chosen": "", "artifact": "", "digest": "", "directory": str(out), "exit-code": str(code)}
    # What a build before this one left there says nothing of this one.
    written = code in WRITTEN and _identity(record_file) not in (None, before)
    if written:
        record: dict[str, Any] = json.loads(record_file.read_bytes())
        outputs["chosen"] = record["chosen"] or ""
        if record["artifact"] is not None:
            outputs["artifact"] = str(out / record["artifact"]["path"])
            outputs["digest"] = record["artifact"]["digest"]
    _tell("GITHUB_OUTPUT", outputs)
    _summarize((out / "report.md").read_bytes() if written else _failed(code))
    return code


def _failed(code: int) -> bytes:
    return f"### mlpack: no package\n\n`mlpack build` ended with exit code {code}. Annotations say why.\n".encode()


def _summarize(text: bytes) -> None:
    if len(text) > SUMMARY_BYTES:
        text = text[:SUMMARY_BYTES].rpartition(b"\n")[0] + b"\n\n(The report goes on in report.md.)\n"
    with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("ab") as file:
        file.write(text.rstrip(b"\n") + b"\n")


def _tell(file: str, values: dict[str, str]) -> None:
    """Write to one of GitHub's files, in the form that takes any value."""
    end = f"end-{uuid.uuid4()}"
    text = "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in values.items())
    with Path(os.environ[file]).open("a", encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
        stream.write(text)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies there: a build replaces its directory."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _input(name: str) -> str:
    return os.environ.get(f"INPUT_{name}", "").strip()


def _wrong(problem: str) -> int:
    print(f"::error title=mlpack::{problem}")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
