"""The command's start: ours beside another `mlpack`, over it, below it, or with files gone."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

import mlpack
import mlpack_build

SOURCES = Path(mlpack_build.__file__).parents[1]
OTHERS = 'raise ImportError("a library that is not here")\n'


def start(*before: Path, words: tuple[str, ...] = ("--version",)) -> subprocess.CompletedProcess[str]:
    """The console script, with these directories before our sources."""
    program = "import sys; sys.argv[0] = 'mlpack'; from mlpack_build import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*before, SOURCES)))}
    return subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, cwd="/", capture_output=True, text=True, check=False
    )


def test_the_distribution_has_one_name() -> None:
    assert mlpack.__distribution__ == mlpack_build.NAME


def test_ours_starts() -> None:
    done = start()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"mlpack, version {mlpack.__version__}\n", "")


@pytest.mark.parametrize(
    "text", [OTHERS, "", "import warnings\n", "\0\n", 'raise SystemExit("theirs")\n', "import time; time.sleep(99)\n"]
)
def test_another_projects_package_is_told_and_not_run(tmp_path: Path, text: str) -> None:
    package = tmp_path / "mlpack"
    package.mkdir()
    (package / "__init__.py").write_text(text)
    done = start(tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"mlpack: {package / '__init__.py'} belongs to another project")
    assert "pipx install mlpack-build, or uv tool install mlpack-build" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_module_and_a_compiled_package_of_that_name_are_told(tmp_path: Path) -> None:
    for name, content in (("mlpack.py", b"x = 1\n"), ("__init__.cpython-311-x86_64-linux-gnu.so", b"\x7fELF\xff\xfe")):
        (tmp_path / name).write_bytes(content)
        assert "belongs to another project" in str(mlpack_build.fault(ModuleSpec("mlpack", None, origin=str(tmp_path / name))))


def test_the_other_distribution_is_named_with_its_version(tmp_path: Path) -> None:
    for path, text in (("mlpack/__init__.py", OTHERS), ("mlpack-4.8.0.dist-info/METADATA", "Name: mlpack\nVersion: 4.8.0\n")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    assert "belongs to another project (mlpack 4.8.0). Two" in start(tmp_path).stderr


def test_a_removal_that_took_our_first_file_is_told(tmp_path: Path) -> None:
    """`pip uninstall mlpack` removes the files that it installed, by their names."""
    (tmp_path / "mlpack").mkdir()
    (tmp_path / "mlpack/cli.py").write_text("")
    (tmp_path / "mlpack_build").symlink_to(SOURCES / "mlpack_build")
    done = subprocess.run(
        [sys.executable, "-S", "-c", "from mlpack_build import main; main()"],
        env={"PYTHONPATH": str(tmp_path)}, cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "pip install --force-reinstall --no-deps mlpack-build" in done.stderr
    assert mlpack_build.fault(None) == done.stderr.removeprefix("mlpack: ").removesuffix("\n")


def test_ours_is_known_wherever_it_lies() -> None:
    assert mlpack_build.fault(util.find_spec("mlpack")) is None
