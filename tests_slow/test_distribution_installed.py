"""The wheel and the sdist: complete, equal however they are made, and enough to build a model where there is no checkout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import uv
from ruamel.yaml import YAML
from tests.support.installed import LOCK, Built, Environment, build, environment, run
from tests.support.project import HERE, REPOSITORY, copy_of_samples

import mlpack

CI = YAML(typ="safe", pure=True).load((REPOSITORY / ".github/workflows/ci.yml").read_text("utf-8"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both files, made once."""
    return build(tmp_path_factory.mktemp("distribution"))


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel with what it needs, and no extra."""
    place = tmp_path_factory.mktemp("installed")
    fresh = environment(place / "environment", place / "constraints.txt")
    fresh.pip("install", "--constraint", place / "constraints.txt", built.wheel)
    fresh.pip("check")
    return fresh


def test_wheel_has_every_source_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith(f"mlpack_build-{mlpack.__version__}.dist-info/")}
    sources = built.source / "src"
    tracked = {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    assert names == tracked | {"mlpack/recipe.schema.json"}
    assert "mlpack/py.typed" in names


def test_wheel_of_the_checkout_equals_that_of_the_sdist(built: Built, tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "--directory", tmp_path, "--target", "wheel", cwd=built.source)
    (again,) = tmp_path.iterdir()
    assert again.name == built.wheel.name == f"mlpack_build-{mlpack.__version__}-py3-none-any.whl"
    assert again.read_bytes() == built.wheel.read_bytes()


def test_metadata_say_what_the_project_says(built: Built) -> None:
    records = f"mlpack_build-{mlpack.__version__}.dist-info"
    with zipfile.ZipFile(built.wheel) as archive:
        said = Parser().parsestr(archive.read(f"{records}/METADATA").decode())
        assert f"{records}/licenses/LICENSE" in archive.namelist()
        assert archive.read(f"{records}/entry_points.txt").decode().split() == [
            "[console_scripts]",
            "mlpack",
            "=",
            "mlpack_build:main",
        ]
    assert (said["Name"], said["Version"]) == ("mlpack-build", mlpack.__version__)
    assert said["License-Expression"] == "Apache-2.0"
    assert built.source.joinpath("README.md").read_text().startswith(said.get_payload()[:2000])  # type: ignore[index]
    assert not [each for each in said.get_all("Requires-Dist", ()) if re.match(r"mlpack\b(?!-build)", each)]


def test_wheel_alone_builds_a_model(installed: Environment, tmp_path: Path) -> None:
    copy_of_samples(tmp_path, ("tabular",))
    variables = {**installed.variables, "MLPACK_STORE": str(tmp_path / "store")}
    where = run(
        "python",
        "-c",
        "import mlpack, mlpack_runtime; print(mlpack.__file__, mlpack_runtime.__file__)",
        env=variables,
        cwd=tmp_path,
    )
    assert all(Path(path).is_relative_to(installed.root) for path in where.split())
    left = run("mlpack", "build", "recipes/tabular.yaml", "--effort", "quick", "--out", "out/tabular", env=variables, cwd=tmp_path)
    package = tmp_path / left.strip()
    record = json.loads((tmp_path / "out/tabular/build.json").read_bytes())
    assert record["chosen"].endswith(f"@lambda-zip-{HERE}")
    assert record["mlpack_version"] == mlpack.__version__
    with zipfile.ZipFile(package) as archive:
        assert {"bootstrap.py", "mlpack_runtime/loop.py", "lib/libonnxruntime.so", "model/model.json"} <= set(archive.namelist())
    assert "outputs" in json.loads(run("mlpack", "run", "out/tabular", env=variables, cwd=tmp_path))


@pytest.mark.parametrize("python", CI["jobs"]["check"]["strategy"]["matrix"]["python"])
def test_every_locked_distribution_has_a_wheel_for_every_python(tmp_path: Path, python: str) -> None:
    """What `make` installs, `--only-binary`: asked of the index, and not installed. Other Pythons need not be here for that."""
    where = ("--target", tmp_path / "nothing", "--python-platform", "x86_64-manylinux_2_28", "--python-version", python)
    how = ("--dry-run", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:")
    run(uv.find_uv_bin(), "pip", "install", *how, *where, "--requirement", LOCK)


def test_another_mlpack_over_ours_is_told_until_it_is_repaired(built: Built, installed: Environment, tmp_path: Path) -> None:
    """In the order in which it happens to people: theirs over ours, theirs removed, ours repaired as the message says."""
    other = tmp_path / "mlpack-4.8.0-py3-none-any.whl"
    files = {
        "mlpack/__init__.py": "from .missing import theirs\n",
        "mlpack-4.8.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: mlpack\nVersion: 4.8.0\n",
        "mlpack-4.8.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(other, "w") as archive:
        for name, text in {**files, "mlpack-4.8.0.dist-info/RECORD": ",,\n".join([*files, ""])}.items():
            archive.writestr(name, text)
    installed.pip("install", "--no-deps", other)
    assert "belongs to another project (mlpack 4.8.0)" in refused(installed)
    installed.pip("uninstall", "mlpack")
    assert "pip install --force-reinstall --no-deps mlpack-build" in refused(installed)
    installed.pip("install", "--force-reinstall", "--no-deps", built.wheel)
    assert run("mlpack", "--version", env=installed.variables) == f"mlpack, version {mlpack.__version__}\n"


def refused(installed: Environment) -> str:
    """What the command says that must end with 3, in one line and without a traceback."""
    done = subprocess.run(["mlpack", "--version"], env=installed.variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), done.stderr
    return done.stderr
