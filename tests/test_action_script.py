"""What the action tells GitHub: of this build and no other, and of any words that a build can leave."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tools/action.py"
Run = Callable[..., subprocess.CompletedProcess[str]]

# A stand-in for the program `mlpack`: it notes its words, leaves what it is told to, and ends as it is told to.
PROGRAM = """#!{python}
import json, os, pathlib, sys
pathlib.Path("words.json").write_text(json.dumps(sys.argv[1:]))
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
if "LEAVES" in os.environ:
    out.mkdir(parents=True, exist_ok=True)
    (out / "build.json").unlink(missing_ok=True)
    (out / "build.json").write_text(os.environ["LEAVES"])
    (out / "report.md").write_text(os.environ.get("REPORT", "a report"))
sys.exit(int(os.environ["ENDS"]))
"""
CHOSEN = {
    "chosen": "int8@lambda-zip-x86_64",
    "artifact": {"path": "artifacts/int8@lambda-zip-x86_64/function.zip", "digest": "sha256:ab"},
}
NOTHING = {"chosen": None, "artifact": None}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The script's word `build` in an empty directory, with GitHub's variables and the stand-in on the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mlpack").write_text(PROGRAM.format(python=sys.executable))
    (programs / "mlpack").chmod(0o755)
    (tmp_path / "work").mkdir()

    def step(ends: int, leaves: object = None, **more: str) -> subprocess.CompletedProcess[str]:
        github = {f"GITHUB_{name}": str(tmp_path / name.lower()) for name in ("OUTPUT", "ENV", "STEP_SUMMARY")}
        told = {} if leaves is None else {"LEAVES": json.dumps(leaves)}
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(tmp_path),
            **github,
            **told,
            "ENDS": str(ends),
        }
        return subprocess.run(
            [sys.executable, "-I", SCRIPT, "build"],
            env={"INPUT_RECIPE": "recipes/some.yaml", **environment, **more},
            cwd=tmp_path / "work", capture_output=True, text=True, check=False,
        )  # fmt: skip

    return step


def read(file: Path) -> dict[str, str]:
    """A file of GitHub's, as its runner reads it: NAME<<END, lines, END."""
    values: dict[str, str] = {}
    lines = iter(file.read_text().splitlines()) if file.exists() else iter(())
    for line in lines:
        name, _, end = line.partition("<<")
        held: list[str] = []
        for each in lines:
            if each == end:
                break
            held.append(each)
        values[name] = "\n".join(held)
    return values


def test_a_build_that_chose_is_told(run: Run, tmp_path: Path) -> None:
    assert run(0, CHOSEN).returncode == 0
    assert read(tmp_path / "output") == {
        "chosen": "int8@lambda-zip-x86_64",
        "artifact": "out/some/artifacts/int8@lambda-zip-x86_64/function.zip",
        "digest": "sha256:ab",
        "directory": "out/some",
        "exit-code": "0",
    }
    assert (tmp_path / "step_summary").read_text() == "a report\n"


def test_a_build_over_budget_has_its_report_and_no_artifact(run: Run, tmp_path: Path) -> None:
    assert run(5, NOTHING).returncode == 5
    told = read(tmp_path / "output")
    assert (told["chosen"], told["artifact"], told["digest"], told["exit-code"]) == ("", "", "", "5")
    assert (tmp_path / "step_summary").read_text() == "a report\n"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 130])
def test_what_an_earlier_build_left_is_not_told(run: Run, tmp_path: Path, code: int) -> None:
    assert run(0, CHOSEN).returncode == 0
    (tmp_path / "output").unlink()
    (tmp_path / "step_summary").unlink()
    assert run(code).returncode == code
    assert read(tmp_path / "output") == {
        "chosen": "",
        "artifact": "",
        "digest": "",
        "directory": "out/some",
        "exit-code": str(code),
    }
    assert f"exit code {code}" in (tmp_path / "step_summary").read_text()


def test_two_builds_in_one_job_are_told_apart(run: Run, tmp_path: Path) -> None:
    run(0, CHOSEN)
    run(0, {**CHOSEN, "chosen": "fp32@lambda-zip-x86_64"}, INPUT_OUT="elsewhere")
    assert read(tmp_path / "output")["chosen"] == "fp32@lambda-zip-x86_64"
    assert (tmp_path / "step_summary").read_text() == "a report\na report\n"


def test_inputs_reach_the_program_word_by_word(run: Run, tmp_path: Path) -> None:
    run(2, INPUT_RECIPE="--help", INPUT_OUT="o u t", INPUT_OPTIONS="--only\n int8@* \n\n$(touch a)\n`id`; b & c\n")
    words = json.loads((tmp_path / "work/words.json").read_text())
    assert words == ["build", "--out", "o u t", "--only", "int8@*", "$(touch a)", "`id`; b & c", "--", "--help"]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["words.json"]


def test_files_of_the_checkout_are_not_imported(run: Run, tmp_path: Path) -> None:
    for name in ("json", "re", "hashlib", "uuid"):
        (tmp_path / f"work/{name}.py").write_text("raise SystemExit(77)\n")
    program = tmp_path / "bin/mlpack"
    program.write_text(program.read_text().replace(sys.executable, f"{sys.executable} -I"))
    assert run(0, CHOSEN).returncode == 0


def test_a_report_that_github_would_refuse_is_cut_at_a_line(run: Run, tmp_path: Path) -> None:
    assert run(0, CHOSEN, REPORT="é" * 30_000 + "\n" + "a line\n" * 9_000).returncode == 0
    whole = (tmp_path / "step_summary").read_text()
    assert not whole.endswith("(The report goes on in report.md.)\n")
    program = tmp_path / "bin/mlpack"
    program.write_text(program.read_text().replace('os.environ.get("REPORT", "a report")', '"a line\\n" * 200_000'))
    (tmp_path / "step_summary").unlink()
    assert run(0, CHOSEN).returncode == 0
    text = (tmp_path / "step_summary").read_bytes()
    assert len(text) < 2**20
    assert text.endswith(b"a line\n\n(The report goes on in report.md.)\n")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=60))
def test_no_value_becomes_another(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    """In the form with an end that nobody can foresee, whatever a value holds."""
    file = tmp_path_factory.mktemp("told") / "file"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_OUTPUT", str(file))
        runpy.run_path(str(SCRIPT))["_tell"]("GITHUB_OUTPUT", {"a": value, "b": "kept"})
    with file.open(newline="") as stream:
        lines = stream.read().split("\n")
    end = lines[0].removeprefix("a<<")
    assert "\n".join(lines[1 : lines.index(end)]) == value
    assert lines[lines.index(end) + 2] == "kept"
    assert lines.count(end) == 2  # both values of one call end alike


@pytest.mark.parametrize("extras", ["a;b", "aws]", "$(id)", "aws,", "--index-url=x", "AWS", "a\nb"])
def test_unknown_extras_are_refused_before_any_is_installed(tmp_path: Path, extras: str) -> None:
    environment = {"INPUT_EXTRAS": extras, "INPUT_RECIPE": "a.yaml", "RUNNER_TEMP": str(tmp_path)}
    words = [sys.executable, "-I", str(SCRIPT), "prepare"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith("::error title=mlpack::extras: ")
    assert done.stdout.count("\n") == 1
