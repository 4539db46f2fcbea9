"""The `run:` steps of action.yml, in the order and the shell in which GitHub's runner runs them, on a real recipe."""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.installed import Environment, build, environment
from tests.support.project import HERE, REPOSITORY, copy_of_samples

ACTION: dict[str, Any] = YAML(typ="safe", pure=True).load((REPOSITORY / "action.yml").read_text("utf-8"))
CASES = {
    "good": ("", 0),
    "over": ("s/package_size: 100MB/package_size: 1MB/", 5),
    "broken": ("s/metric: top1/metrics: top1/", 2),
}


@dataclass(kw_only=True)
class Runner:
    """What a runner keeps of one use of the action: its inputs, and what each step told. `runs` holds a step's code and log."""

    action: Path
    python: Environment
    work: Path
    temp: Path
    inputs: dict[str, str]
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    runs: dict[str, tuple[int, str]] = field(default_factory=dict)

    def use(self) -> int:
        """Run its steps until one fails; the code of the last. Other actions are left out: they are GitHub's."""
        for number, step in enumerate(ACTION["runs"]["steps"]):
            if "run" not in step:
                continue
            files = {name: self.temp / f"{number}-{name}" for name in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY")}
            for file in files.values():
                file.touch()
            script = self.temp / f"{number}.sh"
            script.write_text(step["run"])
            github = {"GITHUB_ACTIONS": "true", "CI": "true", "GITHUB_ACTION_PATH": self.action, "RUNNER_TEMP": self.temp, **files}
            given = {name: self.value(text) for name, text in step.get("env", {}).items()}
            variables = {**self.python.variables, **{name: str(value) for name, value in github.items()}, **self.told, **given}
            words = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)]
            done = subprocess.run(words, env=variables, cwd=self.work, capture_output=True, text=True, check=False)
            self.outputs[step["id"]] = read(files["GITHUB_OUTPUT"])
            self.told |= read(files["GITHUB_ENV"])
            self.runs[step["id"]] = (done.returncode, done.stdout + done.stderr)
            self.summary = files["GITHUB_STEP_SUMMARY"].read_text("utf-8")
            if done.returncode:
                break
        return done.returncode

    def value(self, text: str) -> str:
        """An expression, of the few that action.yml has."""
        found = re.fullmatch(r"\$\{\{ (inputs|steps)\.([\w-]+)(?:\.outputs\.([\w-]+))? \}\}", text)
        assert found is not None, text
        if found[1] == "inputs":
            return self.inputs.get(found[2], str(ACTION["inputs"][found[2]].get("default", "")))
        return self.outputs.get(found[2], {}).get(found[3], "")

    @property
    def result(self) -> dict[str, str]:
        """What whoever uses the action reads."""
        return {name: self.value(output["value"]) for name, output in ACTION["outputs"].items()}


def read(file: Path) -> dict[str, str]:
    """NAME<<END, the value's lines, END."""
    return {name: value for name, _, value in re.findall(r"^(\S+)<<(\S+)\n(.*?)\n?\2$", file.read_text(), re.DOTALL | re.MULTILINE)}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Environment]:
    """The action's checkout, of tracked files, and a Python that has what mlpack needs, in the locked versions, and not mlpack."""
    place = tmp_path_factory.mktemp("runner")
    built = build(place / "distribution")
    python = environment(place / "environment", place / "constraints.txt")
    python.pip("install", "--constraint", place / "constraints.txt", built.wheel)
    python.pip("uninstall", "mlpack-build")
    return built.source, python


@pytest.fixture(scope="module")
def uses(fresh: tuple[Path, Environment], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Runner]:
    """The action used on each recipe, one after the other in one checkout, as in one job."""
    action, python = fresh
    place = tmp_path_factory.mktemp("job")
    work = place / "work"
    work.mkdir()
    copy_of_samples(work, ("tabular",))
    python.extra["PIP_CONSTRAINT"] = str(python.root.parent / "constraints.txt")
    done = {}
    for name, (change, _) in CASES.items():
        recipe = work / f"recipes/{name}.yaml"
        recipe.write_text((work / "recipes/tabular.yaml").read_text())
        if change:
            _, old, new, _ = change.split("/")
            recipe.write_text(recipe.read_text().replace(old, new))
        temp = place / name
        temp.mkdir()
        inputs = {"recipe": f"recipes/{name}.yaml", "options": "--effort\nquick", "store-max": "3GB"}
        runner = Runner(action=action, python=python, work=work, temp=temp, inputs=inputs)
        # The store of the first is what a cache gives back to the others.
        runner.told = {"MLPACK_STORE": str(place / "store")}
        runner.use()
        done[name] = runner
    return done


@pytest.mark.parametrize("name", CASES)
def test_action_ends_as_the_build_does(uses: dict[str, Runner], name: str) -> None:
    used = uses[name]
    assert used.runs["prepare"][0] == 0, used.runs["prepare"][1]
    assert used.runs["build"][0] == CASES[name][1], used.runs["build"][1]
    assert used.result["exit-code"] == str(CASES[name][1])
    assert used.result["directory"] == f"out/{name}"


def test_action_installs_its_own_commit_and_keeps_the_store(uses: dict[str, Runner]) -> None:
    used = uses["good"]
    assert used.told["MLPACK_STORE"] == used.outputs["prepare"]["store"]
    assert used.told["MLPACK_STORE_MAX"] == "3GB"
    assert any(Path(used.told["MLPACK_STORE"]).iterdir())
    keys = {name: each.outputs["prepare"]["key"] for name, each in uses.items()}
    assert len(set(keys.values())) == len(keys)
    assert all(re.fullmatch(r"mlpack-Linux-\w+-3\.\d+-[0-9a-f]{12}", key) for key in keys.values())


def test_action_outputs_what_ships(uses: dict[str, Runner]) -> None:
    used = uses["good"]
    assert used.result["chosen"].endswith(f"@lambda-zip-{HERE}")
    artifact = used.work / used.result["artifact"]
    assert artifact.name == "function.zip"
    assert used.result["digest"] == f"sha256:{hashlib.sha256(artifact.read_bytes()).hexdigest()}"
    assert used.summary.rstrip() == (used.work / "out/good/report.md").read_text("utf-8").rstrip()
    assert "::error" not in used.runs["build"][1]


def test_action_over_budget_reports_and_annotates(uses: dict[str, Runner]) -> None:
    used = uses["over"]
    assert (used.result["chosen"], used.result["artifact"], used.result["digest"]) == ("", "", "")
    assert "package size" in used.summary
    assert re.search(r"^::error title=mlpack::.*budget", used.runs["build"][1], re.MULTILINE)
    assert not (used.work / "out/over/artifacts").exists()


def test_action_annotates_a_broken_recipe_at_its_line(uses: dict[str, Runner]) -> None:
    used = uses["broken"]
    (line,) = [
        number for number, text in enumerate((used.work / "recipes/broken.yaml").read_text().splitlines(), 1) if "metrics:" in text
    ]
    assert re.search(rf"^::error file=recipes/broken\.yaml,line={line}(,col=\d+)?::.*metrics", used.runs["build"][1], re.MULTILINE)
    assert "exit code 2" in used.summary
    assert not (used.work / "out/broken").exists()
