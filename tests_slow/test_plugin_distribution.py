"""The plug-in of docs/extending.md as its users have it: built, installed beside mlpack's wheel, and built with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest
from tests.support import plugin_distributions
from tests.support import workshop as workshop_
from tests.support.installed import Environment, build, environment, run
from tests.support.project import HERE, REPOSITORY

CONFTEST = """\
import onnx
import pytest
from mlpack.graphs import files


@pytest.fixture
def model_dir(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    files.save(onnx.load("../model.onnx"), folder)
    files.finish(folder, folder, {})
    return folder
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """mlpack's wheel and the plug-in's, in an environment that has what they need from this one."""
    place = tmp_path_factory.mktemp("plugin")
    source = place / "acme"
    for name, text in plugin_distributions.example().items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    run(sys.executable, "-m", "hatchling", "build", "--directory", place / "dist", "--target", "wheel", cwd=source)
    (wheel,) = (place / "dist").glob("acme_mlpack-1.2-*.whl")
    fresh = environment(place / "environment", place / "constraints.txt")
    (packages,) = fresh.root.glob("lib/python3*/site-packages")
    # No second torch: a path in a .pth file is searched last, and .pth files there (our own editable one) are not followed.
    (packages / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    fresh.pip("install", "--no-deps", build(place / "mlpack").wheel, wheel)
    return fresh


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its data and the recipe of docs/extending.md."""
    root = tmp_path_factory.mktemp("project")
    workshop_.write_model(root / "model.onnx")
    workshop_.write_data(root)
    recipe = plugin_distributions.example()["recipe.yaml"]
    (root / "recipe.yaml").write_text(recipe.replace("memory_mb: 512", f"memory_mb: 512, arch: {HERE}"))
    return root


def mlpack(fresh: Environment, project: Path, *words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """The installed command in the project's directory, which must end with `expect`."""
    variables = {**fresh.variables, "MLPACK_STORE": str(project / "store")}
    done = subprocess.run(["mlpack", *words], env=variables, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == expect, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_both_wheels_are_those_that_were_installed(installed: Environment, project: Path) -> None:
    where = run("python", "-c", "import mlpack, acme_mlpack; print(mlpack.__file__, acme_mlpack.__file__)", env=installed.variables)
    assert all(Path(path).is_relative_to(installed.root) for path in where.split())
    assert mlpack(installed, project, "plugins").stdout.splitlines() == [
        "pass round-weights  acme-mlpack 1.2  acme_mlpack.round_weights:ROW",
        "target acme-function  acme-mlpack 1.2  acme_mlpack.acme_function:ROW",
    ]


def test_recipe_builds_boots_and_runs(installed: Environment, project: Path) -> None:
    plain = mlpack(installed, project, "plan", "recipe.yaml")
    assert "round-weights" in plain.stdout
    assert "the target acme-function is that of acme-mlpack 1.2" in plain.stdout
    built = mlpack(installed, project, "build", "recipe.yaml", "--effort", "quick", "--keep", "all", "--out", "out")
    assert "as Acme does it" in built.stderr
    record = json.loads((project / "out/build.json").read_bytes())
    rounded = next(one for one in record["candidates"] if one["id"] == f"rounded@acme-function-{HERE}")
    assert rounded["status"] == "ok"
    assert [step["notes"].get("plugin") for step in rounded["steps"] if step["pass"] == "round-weights"] == ["acme-mlpack 1.2"]
    with tarfile.open(project / f"out/artifacts/{rounded['id']}/function.tar") as archive:
        paths = {"bootstrap.py", "lib/libonnxruntime.so", "model/model.json", "site/tzdata/zoneinfo/Europe/Warsaw"}
        assert paths <= set(archive.getnames())
    lock = json.loads((project / "mlpack.lock").read_bytes())
    assert [pin["name"] for pins in lock["requirements"].values() for pin in pins] == ["tzdata"]
    assert "outputs" in json.loads(mlpack(installed, project, "run", f"out/artifacts/{rounded['id']}").stdout)
    released = mlpack(installed, project, "publish", "out", "--registry", "registry")
    assert "tiny" in released.stdout
    assert f"acme-function-{HERE}" in mlpack(installed, project, "show", "tiny", "--registry", "registry").stdout


def test_the_pages_test_holds_its_pass_to_the_contract(installed: Environment, project: Path) -> None:
    tests = project / "tests"
    tests.mkdir()
    shutil.copyfile(REPOSITORY / "tests/support/pass_harness.py", tests / "pass_harness.py")
    (tests / "conftest.py").write_text(CONFTEST)
    (tests / "test_round_weights.py").write_text(plugin_distributions.example()["tests/test_round_weights.py"])
    done = run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", ".", env=installed.variables, cwd=tests)
    assert "1 passed" in done


def test_without_the_plugin_recipe_and_package_say_what_to_do(installed: Environment, project: Path) -> None:
    """The last test: it takes the plug-in away."""
    installed.pip("uninstall", "acme-mlpack")
    refused = mlpack(installed, project, "plan", "recipe.yaml", expect=2).stderr
    assert "there is no pass 'round-weights'" in refused
    assert "there is no target 'acme-function'" in refused
    told = mlpack(installed, project, "run", "out", expect=3).stderr
    assert "it was built with a plug-in, 'acme-mlpack' '1.2': install that" in told
