"""A step of a retraining, where mlpack is installed: `python -m mlpack_jobs.building`, in a CodeBuild project or a Fargate task.

    MLPACK_STEP=build      recipe and code from `MLPACK_SOURCE`, model from PLACE/model: `mlpack build`, output to PLACE/build
    MLPACK_STEP=register   PLACE/build: `mlpack publish`; its code to `MLPACK_FUNCTION`; `mlpack rollout start --prepare`

Promises: PLACE/STEP.json says what became of it, with mlpack's exit code; only a service's failure (4) ends this process with an
error, so that the state machine tries again. Will not: decide; the recipe's budgets did, and the registry's gates do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlpack_jobs.places import Clients, Place, clients, objects, place_of, read_json, write_json
from mlpack_jobs.validation import LAST

SERVICE = 4
_TAIL = 4000
Told = tuple[int, str, str]
Command = Callable[[list[str], Path], Told]
"""Runs mlpack with these arguments in a folder: exit code, stdout, stderr."""


def mlpack(arguments: list[str], folder: Path) -> Told:
    """The command of this Python's mlpack."""
    program = [sys.executable, "-c", "from mlpack_build import main; main()", *arguments]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def run(environment: Mapping[str, str], work: Path, clients: Clients, command: Command = mlpack) -> int:
    """The exit status of the step."""
    s3, place, step = clients("s3"), place_of(environment["MLPACK_PLACE"]), environment["MLPACK_STEP"]
    code, outcome = {"build": _build, "register": _register}[step](environment, work, clients, place, command)
    if code != SERVICE:
        write_json(s3, place.below(f"{step}.json"), {"exit": code, **outcome})
        return 0
    sys.stderr.write(str(outcome.get("said", "")))
    return SERVICE


def _build(
    environment: Mapping[str, str], work: Path, clients: Clients, place: Place, command: Command
) -> tuple[int, dict[str, Any]]:
    s3 = clients("s3")
    _fetch(s3, place_of(environment["MLPACK_SOURCE"]), work)
    _fetch(s3, place.below("model"), work / environment.get("MLPACK_MODEL_FOLDER", "model"))
    code, _, said = command(["build", environment.get("MLPACK_RECIPE", "recipe.yaml"), "-o", "out"], work)
    if code == 0:
        _send(s3, work / "out", place.below("build"))
    return code, {"said": said[-_TAIL:]}


def _register(
    environment: Mapping[str, str], work: Path, clients: Clients, place: Place, command: Command
) -> tuple[int, dict[str, Any]]:
    s3 = clients("s3")
    _fetch(s3, place_of(environment["MLPACK_SOURCE"]), work)
    _fetch(s3, place.below("build"), work / "out")
    code, release, said = command(["publish", "out"], work)
    if code:
        return code, {"said": said[-_TAIL:]}
    release = release.strip()
    if function := environment.get("MLPACK_FUNCTION"):
        _bring(function, release, work, clients, command)
    start = ["rollout", "start", release, "--to", environment["MLPACK_ALIAS"], "--deployment", "deployment", "--prepare"]
    code, told, said = command(start, work)
    if code:
        return code, {"release": release, "said": said[-_TAIL:]}
    if (data := read_json(s3, place.below("data.json"))) is not None:
        write_json(s3, place_of(environment["MLPACK_ARTIFACTS"]).below(LAST), data)
    return 0, {"release": release, "rollout": json.loads(told)}


def _bring(function: str, release: str, work: Path, clients: Clients, command: Command) -> None:
    """The release's code to the function, without a version and so without traffic: what the stack does for other releases."""
    code, place, _ = command(["show", release, "--field", "zip"], work)
    if code == 0:
        at = place_of(place.strip())
        told = {"S3Bucket": at.bucket, "S3Key": at.key}
    else:
        told = {"ImageUri": command(["show", release, "--field", "image"], work)[1].strip()}
    clients("lambda").update_function_code(FunctionName=function, **told)


def _fetch(s3: Any, place: Place, to: Path) -> None:
    """All objects below a place, as files."""
    prefix = f"{place.key.rstrip('/')}/"
    for one in objects(s3, Place(place.bucket, prefix)):
        path = to / one["Key"][len(prefix) :]
        if not path.resolve().is_relative_to(to.resolve()):
            raise ValueError(f"the key {one['Key']!r} leads out of its folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(place.bucket, one["Key"], str(path))


def _send(s3: Any, folder: Path, place: Place) -> None:
    """All files of a folder, as objects."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            target = place.below(path.relative_to(folder).as_posix())
            s3.upload_file(str(path), target.bucket, target.key)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(os.environ, Path(folder), clients))
