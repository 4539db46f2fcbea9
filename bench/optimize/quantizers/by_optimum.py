"""Optimum's presets by its command: `optimum-cli onnxruntime quantize --<preset>`, which are dynamic."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from calls import arguments


def main() -> None:
    """Run the command on a directory that holds the model alone."""
    preset, model, _, out = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        given, made = Path(scratch) / "given", Path(scratch) / "made"
        given.mkdir()
        for path in model.parent.glob("model.onnx*"):
            shutil.copyfile(path, given / path.name)
        command = [str(Path(sys.executable).with_name("optimum-cli")), "onnxruntime", "quantize", f"--{preset}"]
        done = subprocess.run([*command, "--onnx_model", str(given), "-o", str(made)], check=False)
        found = sorted(made.glob("*.onnx")) if made.is_dir() else []
        if done.returncode != 0 or not found:
            raise SystemExit(f"optimum-cli ended with {done.returncode} and left {[path.name for path in found]}")
        shutil.copyfile(found[0], out)
        for path in made.glob("*.onnx?data"):
            shutil.copyfile(path, out.parent / path.name)


if __name__ == "__main__":
    main()
