"""What `make` installs, locked with hashes: four files in pip's own format, written from pyproject.toml.

    python tools/lock.py write [--upgrade]   writes requirements.lock and its neighbours (`make lock`)
    python tools/lock.py torch               installs torch: the build that pip's configuration prefers, if its hash is locked
    python tools/lock.py cuda                installs what the torch that is installed needs of CUDA: nothing for a CPU build
    python tools/lock.py backend             installs what builds wheel and sdist, and nothing else (`make dist`)
    python tools/lock.py floors              resolves the lowest versions that pyproject.toml allows, and prints them

`requirements.lock` holds every distribution for Python 3.11 and later on any platform, `requirements-cuda.lock` what only a torch
built for CUDA needs: several gigabytes that a CPU build does without. No marker tells the two builds apart, since they have the
same name, version and platform; so both are acceptable by hash, pip takes the one that its configuration prefers, and the second
file follows from what came. torch is fetched before its hash is compared: a pip that is told hashes prefers, of two builds, the one
whose index states its hash, which a folder of wheels does not, and so PyPI's to a build for the CPU that lies there. Nothing
is resolved while it is installed (`--no-deps`), and nothing is built.

`requirements-site.lock` is what builds the documentation site, `requirements-clients.lock` the clients that slow tests run, each in
an environment of its own: `make` installs nothing of them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK, CUDA_LOCK = ROOT / "requirements.lock", ROOT / "requirements-cuda.lock"
SITE_LOCK, CLIENTS_LOCK = ROOT / "requirements-site.lock", ROOT / "requirements-clients.lock"
ONLY_FOR_CUDA = re.compile(r"nvidia-|cuda-|triton==")
BUILD = ("editables",)
"""What hatchling asks for when it installs a project as an editable one, beside itself."""
BACKEND = ("hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers")
"""hatchling and what it needs; `pip check` says when that has changed."""
CPU_TORCH = {
    "2.13.0": {
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b": "cp311 x86_64",
        "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7": "cp311 aarch64",
        "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2": "cp312 x86_64",
        "6f307c2c32d764ffc6ff6893b801fad6d4752f3e67966cb8abf1843427c02604": "cp312 aarch64",
        "3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6": "cp313 x86_64",
        "0b8f7d0423027ae8b90c7977c627f3379f325363a08224dffad9b4b2d684a83d": "cp313 aarch64",
        "d20fa53ee744502fa4c69818a720b05ca0d37abd055d4f6e66cae155114bc691": "cp314 x86_64",
        "ca021f9eb2f8345c83fa03e3a04587308afb8df71bd472670b3ece00df58621c": "cp314 aarch64",
    },
}
"""sha256 of torch's builds for the CPU on Linux, by version: those of the index that pytorch.org names for them, which PyPI does
not have. As published there in October 2026; the first was held against the file."""
_HEAD = """# {what} Written by `make lock` (tools/lock.py) from pyproject.toml; do not edit.
# pip install --require-hashes --no-deps --only-binary :all: --requirement {name}
"""


def main(words: list[str]) -> int:
    """Do what the first word says."""
    verb, *options = words or ["help"]
    if verb == "write":
        return _write(upgrade="--upgrade" in options)
    if verb == "torch":
        return _torch()
    if verb == "cuda":
        return _cuda()
    if verb == "backend":
        return _backend()
    if verb == "floors":
        return _floors()
    print(__doc__)
    return 2


def _write(*, upgrade: bool) -> int:
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "build.in")
        wanted.write_text("\n".join((*_project()["build-system"]["requires"], *BUILD)) + "\n")
        known = () if upgrade else (LOCK, CUDA_LOCK)
        blocks = _resolved(known, "--universal", "--extra", "dev", str(ROOT / "pyproject.toml"), str(wanted))
    site, clients = (
        _resolved(() if upgrade else (path,), "--universal", "--group", f"{ROOT / 'pyproject.toml'}:{group}")
        for path, group in ((SITE_LOCK, "site"), (CLIENTS_LOCK, "clients"))
    )
    cuda = [each for each in blocks if ONLY_FOR_CUDA.match(each)]
    common = [_with_cpu_builds(each) for each in blocks if each not in cuda]
    for path, what, kept in (
        (LOCK, "All that `make` installs.", common),
        (CUDA_LOCK, "What torch's build for CUDA needs besides.", cuda),
        (SITE_LOCK, "What builds the documentation site.", site),
        (CLIENTS_LOCK, "Clients that slow tests run against packages.", clients),
    ):
        path.write_text(_HEAD.format(what=what, name=path.name) + "\n".join(kept) + "\n")
        print(f"{path.name}: {len(kept)} distributions")
    return 0


def _resolved(known: tuple[Path, ...], *options: str) -> list[str]:
    """The lock's block of each distribution. What the known files name stays as long as it fits: uv takes the versions of the file
    that it writes."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.txt")
        if there := [path.read_text() for path in known if path.is_file()]:
            found.write_text("".join(there))
        command = ["pip", "compile", "--quiet", "--python-version", "3.11", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--output-file", str(found)]
        _uv(*command, *options)
        return re.split(r"\n(?=\S)", found.read_text().strip())


def _with_cpu_builds(block: str) -> str:
    """torch's block, with the hashes of the builds that PyPI does not have."""
    if not (match := re.match(r"torch==(\S+)", block)):
        return block
    known = CPU_TORCH.get(match[1], {})
    if not known:
        print(f"torch {match[1]}: no build for the CPU is known; add its hashes to CPU_TORCH in tools/lock.py", file=sys.stderr)
    hashes = sorted({*known, *re.findall(r"--hash=sha256:([0-9a-f]{64})", block)})
    return " \\\n".join([block.partition(" \\\n")[0], *(f"    --hash=sha256:{digest}" for digest in hashes)])


def _torch() -> int:
    """Exit 0 when it is there, installed now where it was not; 1 for a file that is not locked."""
    (block,) = re.findall(r"^torch==(?:.*\\\n)*.*", LOCK.read_text(), re.MULTILINE)
    pin, locked = block.split()[0], set(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--progress-bar", "off", "--no-deps", "--only-binary", ":all:"]
    with tempfile.TemporaryDirectory() as folder:
        if code := subprocess.run([*pip, "download", *quiet, "--dest", folder, pin], check=False).returncode:
            return code
        (wheel,) = Path(folder).iterdir()
        with wheel.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found not in locked:
            print(f"{wheel.name} has the sha256 {found}, which {LOCK.name} does not list: no known build", file=sys.stderr)
            return 1
        return subprocess.run([*pip, "install", *quiet, str(wheel)], check=False).returncode


def _cuda() -> int:
    """Exit 0 when all that torch needs is there, installed now where it was not."""
    if not _missing_of_torch():
        return 0
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
    locked = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement", str(CUDA_LOCK)]
    return subprocess.run([*pip, *locked], check=False).returncode


def _backend() -> int:
    """Exit 0 when it is there and complete."""
    blocks = {block.partition("==")[0]: block for block in re.split(r"\n(?=\S)", LOCK.read_text().strip())}
    pip = [sys.executable, "-m", "pip"]
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "backend.txt")
        wanted.write_text("\n".join(blocks[name] for name in BACKEND) + "\n")
        install = [*pip, "install", "--quiet", "--progress-bar", "off", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        if code := subprocess.run([*install, "--requirement", str(wanted)], check=False).returncode:
            return code
    return subprocess.run([*pip, "check"], check=False).returncode


def _missing_of_torch() -> list[str]:
    """What torch needs on this machine and is not installed, in any version: pip locks the versions, not we."""
    from packaging.requirements import Requirement

    missing = []
    for text in importlib.metadata.requires("torch") or ():
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            try:
                importlib.metadata.version(needed.name)
            except importlib.metadata.PackageNotFoundError:
                missing.append(needed.name)
    return missing


def _floors() -> int:
    extras = [word for name in ("huggingface", "classical", "aws", "tensorrt-rtx") for word in ("--extra", name)]
    command = ["pip", "compile", "--quiet", "--resolution", "lowest-direct", "--python-version", "3.11", *extras]
    _uv(*command, "--no-header", "--no-annotate", str(ROOT / "pyproject.toml"))
    return 0


def _project() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _uv(*arguments: str) -> None:
    import uv

    subprocess.run([uv.find_uv_bin(), *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
