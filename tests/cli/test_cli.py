from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.command_line import run, unmeasured
from tests.support.hostile import CONTROL, LOG, commands
from tests.support.workshop import Workshop, measure_quickly

from mlpack import errors
from mlpack.cli import commands as cli
from mlpack.errors import ExitCode
from mlpack.store.local import Store

HEAVY = {"torch", "onnx", "onnxruntime", "numpy", "transformers", "boto3", "pydantic", "rich", "urllib3", "sqlite3", "jinja2"}


def process(*arguments: object, store: Path, cwd: Path) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    source = Path(cli.__file__).parent.parent.parent
    return subprocess.Popen(
        [sys.executable, "-m", "mlpack.cli", *map(str, arguments)],
        env=os.environ | {"MLPACK_STORE": str(store), "PYTHONPATH": str(source)},
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def at_home(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """The test's project, with the command line pointed at its store and standing in its directory."""
    monkeypatch.setenv("MLPACK_STORE", str(workshop.store.root))
    monkeypatch.chdir(workshop.root)
    return workshop


def test_help_loads_nothing_heavy() -> None:
    program = f"""
import sys, json
sys.argv = ["mlpack", "--help"]
from mlpack.cli import commands as cli
try:
    cli.main()
except SystemExit:
    pass
print(json.dumps(sorted({HEAVY!r} & set(sys.modules))))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=unmeasured() | {"PYTHONPATH": str(Path(cli.__file__).parent.parent.parent)},
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_help_tells_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for code, meaning in errors.MEANINGS.items():
        assert f"{code.value}  {meaning}" in shown
    assert set(errors.MEANINGS) == set(ExitCode)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["build"],
        ["build", "--nonsense", "x"],
        ["image", "push", "/nowhere", "x"],
        ["run", "/nowhere"],
        ["image", "push", ".", "x"],
        ["image", "validate", "nowhere:v1"],
        ["image", "inspect", "docker://x/y"],
        ["image", "pull", "x.example/Y", "out"],
        ["build", "x", "--label", "y"],
        ["build", "x", "--created", "y"],
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == ExitCode.RECIPE
    assert capsys.readouterr().out == ""


def test_recipe_problems_are_all_told_with_their_lines(at_home: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    at_home.edit(lambda text: text.replace("metric: top1", "metrik: top1").replace("1769", "17"))
    assert run("plan", "recipe.yaml") == ExitCode.RECIPE
    said = capsys.readouterr().err
    assert "recipe.yaml:4: metrik" in said
    assert "recipe.yaml:6: targets.lambda-zip" in said


def test_a_missing_recipe_exits_with_2(at_home: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("build", "nowhere.yaml") == ExitCode.RECIPE
    assert "nowhere.yaml" in capsys.readouterr().err


def test_plan_prints_candidates_and_why(at_home: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "recipe.yaml", "--explain") == 0
    shown = capsys.readouterr().out
    assert "int8@lambda-zip-x86_64  must run: simplify, quantize, optimize" in shown
    assert "never done before" in shown
    assert run("plan", "recipe.yaml", "--json", "--only", "int8@*") == 0
    (one,) = json.loads(capsys.readouterr().out)["candidates"]
    assert [step["name"] for step in one["steps"]] == ["simplify", "quantize", "optimize"]
    assert "stages" not in shown
    at_home.edit(lambda text: text + "budgets: {stages: {infer: 60ms, decode: 2.5ms}}\n")
    assert run("plan", "recipe.yaml") == 0
    assert "stages of a request that are measured, and held at p95: decode 2.5 ms, infer 60 ms\n" in capsys.readouterr().out
    assert run("plan", "recipe.yaml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["budgets"] == {"stages_ms": {"decode": 2.5, "infer": 60.0}}


def test_a_failed_step_exits_with_3(at_home: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    model = at_home.root / "model.onnx"
    model.write_bytes(model.read_bytes()[:100])
    assert run("build", "recipe.yaml") == ExitCode.STEP_FAILED
    assert "cut off" in capsys.readouterr().err
    assert not (at_home.root / "out").exists()


@pytest.mark.slow
def test_unreachable_base_exits_with_4_and_skips_nothing(at_home: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    at_home.edit(lambda text: text.replace("lambda-zip:", "lambda-image:"))
    assert run("build", "recipe.yaml", "--base", "127.0.0.1:9/base:1") == ExitCode.SERVICE
    assert "--base" in capsys.readouterr().err
    assert not (at_home.root / "out").exists()


def test_an_unexpected_error_is_a_bug_with_a_log(
    at_home: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("one over nothing")

    monkeypatch.setattr("mlpack.pipeline.outlook.foresee", broken)
    monkeypatch.setenv("TMPDIR", str(at_home.root))
    assert run("plan", "recipe.yaml") == ExitCode.BUG
    said = capsys.readouterr().err
    log = Path(said.rpartition(": ")[2].strip())
    text = log.read_text()
    log.unlink()
    assert "ZeroDivisionError: one over nothing" in text
    assert "onnxruntime" in text


def test_a_bug_quotes_nothing_that_would_act(
    at_home: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x" * 10_000, "\n".join(LOG[:-2])) from ValueError("\x1b[31m\ud800\n::error::x")

    monkeypatch.setattr("mlpack.pipeline.outlook.foresee", broken)
    monkeypatch.setenv("TMPDIR", str(at_home.root))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert run("plan", "recipe.yaml") == ExitCode.BUG
    said = capsys.readouterr().err
    assert CONTROL.search(said) is None
    assert not commands(said)
    log = Path(said.rpartition(": ")[2].strip())
    text = log.read_text("utf-8")
    log.unlink()
    assert CONTROL.search(text) is None
    assert "\\x1b[31m\\ud800" in text


def test_a_full_disk_is_told_as_such(
    at_home: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        with Path("/dev/full").open("wb", buffering=0) as stream:
            stream.write(b"x")

    monkeypatch.setattr("mlpack.pipeline.outlook.foresee", full)
    assert run("plan", "recipe.yaml") == ExitCode.STEP_FAILED
    assert "no space left" in capsys.readouterr().err


@pytest.mark.slow
def test_published_and_pulled_bytes_are_the_built_ones(
    at_home: Workshop, built: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("publish", built.root / "out") == 0
    assert capsys.readouterr().out.strip() == "tiny@1"
    assert run("publish", built.root / "out") == 0
    assert capsys.readouterr().out.strip() == "tiny@1"
    assert run("list") == 0
    assert "tiny@1" in capsys.readouterr().out
    assert run("show", "tiny@1", "--field", "digest") == 0
    digest = capsys.readouterr().out.strip()
    record = json.loads((built.root / "out/build.json").read_text())
    assert digest == record["artifact"]["digest"]
    assert run("show", "tiny", "--json") == 0
    assert json.loads(capsys.readouterr().out)["version"] == 1
    assert run("pull", "tiny@1", "--out", "pulled") == 0
    pulled = at_home.root / capsys.readouterr().out.strip()
    for name in record["files"]:
        assert (pulled / name).read_bytes() == (built.root / "out" / name).read_bytes()


def test_run_prints_the_answer(
    at_home: Workshop, built: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert run("run", built.root / "out", "--timeout", "60") == 0
    assert json.loads(capsys.readouterr().out)["model_name"] == "tiny"


def test_diff_of_a_build_with_itself_sees_no_change(at_home: Workshop, built: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("diff", built.root / "out", built.root / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)


def test_init_writes_a_recipe_that_loads(at_home: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "model.onnx") == 0
    written = capsys.readouterr().out
    (at_home.root / "new.yaml").write_text(written)
    assert "source:" in written


@pytest.mark.slow
@pytest.mark.parametrize(("how", "after"), [(signal.SIGINT, "simplify"), (signal.SIGTERM, "measure")])
def test_interrupting_a_build_keeps_nothing_half_made(workshop: Workshop, how: signal.Signals, after: str) -> None:
    running = process("build", "recipe.yaml", store=workshop.store.root, cwd=workshop.root)
    assert running.stderr is not None
    for line in running.stderr:
        if after in line:
            break
    time.sleep(0.3)
    running.send_signal(how)
    rest = running.communicate(timeout=60)[1]
    assert running.returncode == ExitCode.INTERRUPTED, rest
    assert "interrupted" in rest
    assert sorted(path.name for path in workshop.root.iterdir()) == sorted(
        ["calib.npz", "eval.npz", "mlpack.lock", "model.onnx", "model.onnx.data", "recipe.yaml", "store"]
    )
    assert not list((workshop.store.root / "temporary").iterdir())
    record, _ = Workshop(workshop.root, Store(workshop.store.root)).build()
    assert record["chosen"]
    shutil.rmtree(workshop.root / "out")


def test_a_registry_that_is_none_is_told_before_the_work(at_home: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("build", "recipe.yaml", "--publish", "https://host/x") == ExitCode.RECIPE
    assert "registries are directories" in capsys.readouterr().err
    assert not (at_home.root / "out").exists()


@pytest.mark.slow
def test_quiet_may_stand_before_or_after_the_command(at_home: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    at_home.build(out=at_home.root / "out/tiny")  # so that the command line has nothing long to do
    for words in (["-q", "plan"], ["-q", "image", "pull", "--arch", "arm64"], ["image", "pull", "-q"], ["build", "--quiet"]):
        assert run(*words, "--help") == 0
    capsys.readouterr()
    (at_home.root / "event.json").write_text((next((at_home.root / "out/tiny/artifacts").iterdir()) / "event.json").read_text())
    for words in (["-q", "run"], ["run", "-q"]):
        assert run(*words, "out/tiny", "--event", "event.json") == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        assert json.loads(shown.out)["model_name"] == "tiny"


def test_an_emulator_that_is_not_there_is_the_callers_mistake(
    at_home: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLPACK_RIE", "/nowhere/aws-lambda-rie")
    assert run("build", "recipe.yaml") == ExitCode.RECIPE
    assert "MLPACK_RIE: /nowhere/aws-lambda-rie" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "x", "/some/file"), "permission denied (/some/file)"),
        (OSError(30, "x", "/some/file"), "read-only file system (/some/file)"),
        (MemoryError(), "does not have the memory"),
        (OSError(28, "x"), "no space left on device: free some"),
    ],
)
def test_what_the_machine_refuses_is_no_bug(
    at_home: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr("mlpack.pipeline.outlook.foresee", refused)
    assert run("plan", "recipe.yaml") == ExitCode.STEP_FAILED
    assert said in capsys.readouterr().err


def test_a_store_that_cannot_be_used_is_told(
    at_home: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLPACK_STORE", str(at_home.recipe))
    assert run("plan", "recipe.yaml") == ExitCode.RECIPE
    assert "MLPACK_STORE" in capsys.readouterr().err


def test_an_only_that_matches_nothing_is_told_even_when_empty(at_home: Workshop) -> None:
    assert run("plan", "recipe.yaml", "--only", "") == ExitCode.RECIPE
    assert run("plan", "recipe.yaml", "--only", "fp64@*") == ExitCode.RECIPE


@pytest.mark.slow
def test_json_and_publish_leave_one_document_on_stdout(
    at_home: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure_quickly(monkeypatch)
    assert run("build", "recipe.yaml", "--only", "fp32@*", "--json", "--publish", "registry", "--base", "unused") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["chosen"] == "fp32@lambda-zip-x86_64"
    assert "published tiny@1" in shown.err
    assert "--base unused replaces nothing" in shown.err
