"""The library as its users have it: `import mlpack`."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.workshop import QUICK, Workshop

import mlpack
from mlpack.errors import MlpackError, RecipeError
from mlpack.pipeline import verbs
from mlpack.store.local import Store

SOURCE = Path(mlpack.__file__)
ROOT = Path(__file__).resolve().parents[2]


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(f"note {text}")

    def warn(self, text: str) -> None:
        self.lines.append(f"warn {text}")

    @contextlib.contextmanager
    def step(self, label: str) -> Iterator[None]:
        self.lines.append(f"step {label}")
        yield

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        self.lines.append(f"progress {label} {total}")
        yield lambda units: self.lines.append(f"moved {units}")


@pytest.fixture
def environ(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables of the workshop's store, with the process's own pointing elsewhere; little is timed."""
    monkeypatch.setenv("MLPACK_STORE", str(workshop.root / "not-this-one"))
    monkeypatch.setenv("MLPACK_STORE_MAX", "not a size")
    monkeypatch.setattr(verbs, "EFFORTS", {"full": QUICK, "quick": QUICK})
    return {"MLPACK_STORE": str(workshop.store.root), "PATH": os.environ["PATH"]}


def _loaded_by(program: str) -> list[str]:
    """The modules that a fresh process has loaded after the program."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(SOURCE.parent.parent)},
    )  # fmt: skip
    return [str(name) for name in json.loads(done.stdout.splitlines()[-1])]


def test_importing_it_loads_nothing_else() -> None:
    assert [name for name in _loaded_by("import mlpack") if name.startswith("mlpack")] == ["mlpack"]


@pytest.mark.slow
def test_planning_loads_no_framework(workshop: Workshop) -> None:
    program = f"import mlpack\nmlpack.plan({str(workshop.recipe)!r}, store={str(workshop.store.root)!r})"
    _loaded_by(program)  # a new ONNX file is opened once, to see which files hold its weights
    loaded = set(_loaded_by(program))
    assert not {"torch", "onnx", "onnxruntime", "numpy", "click", "rich"} & loaded
    assert not {"mlpack.pipeline.verbs", "mlpack.report.record"} & loaded  # what only a build needs


def test_every_name_is_there_and_no_other() -> None:
    assert set(mlpack.__all__) <= set(dir(mlpack))
    for name in mlpack.__all__:
        assert getattr(mlpack, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'bulid'"):
        mlpack.bulid  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_see_what_is_loaded() -> None:
    """The names for checkers and the names for `__getattr__` are two lists, of the same modules."""
    block = next(node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    shown = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            shown[alias.name] = node.module
    for name, module in shown.items():
        assert getattr(mlpack, name) is getattr(sys.modules[str(module)], name)
    assert set(shown) == set(mlpack.__all__) - {"__version__"}


@pytest.mark.parametrize("name", sorted(set(mlpack.__all__) - {"RELEASE_FIELDS", "__version__", "errors", "images"}))
def test_every_public_name_is_described_whole(name: str) -> None:
    """Google's sections: every argument, what comes back, what is raised; every field of a result."""
    public = getattr(mlpack, name)
    members = [public] if inspect.isfunction(public) else [each for each in vars(public).values() if inspect.isfunction(each)]
    for each in members:
        if each.__name__.startswith("_") and each.__name__ != "__init__":
            continue
        if ".library." in each.__module__ and each.__qualname__.startswith(name):  # records of rooms below are values
            _check_described(each)


def _check_described(function: Callable[..., object]) -> None:
    if "__create_fn__" in function.__qualname__ or (function.__name__ == "__init__" and not function.__doc__):
        return  # dataclasses' own
    text = inspect.getdoc(function) or ""
    assert text, f"{function.__qualname__} says nothing"
    parameters = [each for each in inspect.signature(function).parameters if each != "self"]
    if ": see `mlpack." in text or len(parameters) == 0 or function.__qualname__.startswith("Progress"):
        return
    assert "\nArgs:\n" in text, f"{function.__qualname__} has no Args"
    for each in parameters:
        assert f"\n    {each}: " in text, f"{function.__qualname__} does not describe {each}"
    if inspect.signature(function).return_annotation not in ("None", None):
        assert "\nReturns:\n" in text, f"{function.__qualname__} has no Returns"


def test_plan_goes_by_the_given_variables_and_prints_nothing(
    workshop: Workshop, environ: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    foreseen = mlpack.plan(workshop.recipe, environ=environ)
    assert {"fp32@lambda-zip-x86_64", "int8@lambda-zip-x86_64"} <= {each.id for each in foreseen.candidates}
    assert [each.id for each in mlpack.plan(str(workshop.recipe), only="int8@*", environ=environ).candidates] == [
        "int8@lambda-zip-x86_64"
    ]
    assert foreseen.to_json()["candidates"][0]["id"] == "fp32@lambda-zip-x86_64"
    assert capfd.readouterr() == ("", "")
    assert not (workshop.root / "not-this-one").exists()


def test_a_store_that_is_named_goes_before_the_variables(workshop: Workshop, environ: dict[str, str], tmp_path: Path) -> None:
    mlpack.plan(workshop.recipe, store=tmp_path / "mine", environ=environ)
    assert (tmp_path / "mine/trees").is_dir()


def test_every_problem_of_a_recipe_comes_with_its_line(workshop: Workshop, environ: dict[str, str]) -> None:
    workshop.edit(lambda text: text.replace("metric: top1", "metrik: top1").replace("1769", "17"))
    with pytest.raises(mlpack.errors.RecipeError) as caught:
        mlpack.build(workshop.recipe, environ=environ)
    assert [problem.partition("recipe.yaml:")[2].partition(":")[0] for problem in caught.value.problems] == ["4", "6"]
    assert isinstance(caught.value, MlpackError)


def test_a_wrong_size_of_the_store_is_told_before_the_work(workshop: Workshop, environ: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="MLPACK_STORE_MAX"):
        mlpack.build(workshop.recipe, environ=environ | {"MLPACK_STORE_MAX": "much"})


@pytest.mark.parametrize("label", [{"key": "x"}, {"io.mlpack.x": "y"}])
def test_labels_are_checked_before_the_work(workshop: Workshop, environ: dict[str, str], label: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=next(iter(label))):
        mlpack.build(workshop.recipe, options=mlpack.BuildOptions(labels=label), environ=environ)


@pytest.mark.parametrize(
    "call",
    [
        lambda _: mlpack.BuildOptions(effort="slow"),  # type: ignore[arg-type]
        lambda _: mlpack.BuildOptions(keep="none"),  # type: ignore[arg-type]
        lambda root: mlpack.run(root, timeout_s=float("nan")),
        lambda root: mlpack.run(root, timeout_s=0),
        lambda root: mlpack.run(root, memory_mb=0),
        lambda root: mlpack.run(root),
        lambda root: mlpack.explain(root / "model.onnx", shapes={"x": (0, 64)}),
        lambda root: mlpack.diff(root, root),
        lambda root: mlpack.Workspace(root / "none").prune(-1),
        lambda root: mlpack.rerun_step(root, store=root / "store"),
        lambda root: mlpack.plan(root),
        lambda root: mlpack.images.inspect(str(root / "nothing.tar")),
    ],
)
def test_what_makes_no_sense_is_the_callers_fault(workshop: Workshop, call: Callable[[Path], object]) -> None:
    with pytest.raises(MlpackError) as caught:
        call(workshop.root)
    assert caught.value.exit_code == mlpack.errors.ExitCode.RECIPE


@pytest.mark.slow
def test_build_run_explain_and_diff(workshop: Workshop, environ: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    told = Told()
    result = mlpack.build(workshop.recipe, out=workshop.root / "out", progress=told, environ=environ)
    assert result.chosen == result.record.chosen == result.summary.chosen
    assert result.artifact is not None
    assert result.artifact.is_file()
    assert result.startup is not None
    assert result.startup.status == 200
    assert [row.candidate for row in result.summary.rows] == ["fp32@lambda-zip-x86_64", "int8@lambda-zip-x86_64"]
    assert result.chosen in result.summary.verdict
    assert "step lambda-zip-x86_64: measure" in told.lines
    assert json.loads((result.out / "build.json").read_bytes())["chosen"] == result.chosen

    answer = mlpack.run(result.out, environ=environ)
    assert answer.status == 200
    assert {each["name"] for each in answer.body["outputs"]} == {"scores"}
    assert mlpack.explain(result.out).candidate == result.chosen
    assert result.chosen in mlpack.explain(str(result.out)).text()
    compared = mlpack.diff(result.out, result.out / "build.json")
    assert {str(row.change) for row in compared.rows} <= {"same", "unknown"}
    assert compared.to_json()[0]["measure"] == "chosen"
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_nothing_that_fits_is_a_result(workshop: Workshop, environ: dict[str, str]) -> None:
    workshop.edit(lambda text: text + "budgets: {package_size: 1kB}\n")
    result = mlpack.build(workshop.recipe, out=workshop.root / "out", environ=environ)
    assert (result.chosen, result.artifact, result.startup) == (None, None, None)
    assert "no candidate fits the budgets" in result.summary.verdict


@pytest.mark.slow
def test_a_workspace_keeps_its_store_small_when_it_is_left(workshop: Workshop, environ: dict[str, str]) -> None:
    told = Told()
    only = mlpack.BuildOptions(only="fp32@*")
    workshop.store.release()
    with mlpack.Workspace(progress=told, environ=environ | {"MLPACK_STORE_MAX": "0"}) as workspace:
        first = workspace.build(workshop.recipe, out=workshop.root / "out", options=only)
        again = workspace.build(workshop.recipe, out=workshop.root / "out", options=only)
        assert workspace.status().size_bytes > 0
    assert first.record.artifact == again.record.artifact
    assert any(line.startswith("note store: ") for line in told.lines)
    assert not list((Store(workshop.store.root).root / "trees").iterdir())


@pytest.mark.slow
def test_the_readmes_example_runs(
    workshop: Workshop, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(workshop.root)
    for name in ("MLPACK_STORE", "MLPACK_STORE_MAX"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLPACK_STORE", environ["MLPACK_STORE"])
    exec(compile(example, "README.md", "exec"), {"__name__": "example"})  # noqa: S102 - it is the test
    verdict, answer = capsys.readouterr().out.splitlines()
    assert verdict.startswith("tiny: ")
    assert "'scores'" in answer
    assert (workshop.root / "deployed/build.json").is_file()
