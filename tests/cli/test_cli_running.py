"""`mlpack run --batch`: a package of a build answers a manifest here, with progress, results and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support import small_packages
from tests.support.command_line import run
from tests.support.services.aws_server import REGION, AwsServer
from tests.support.small_packages import HERE, packed

import mlpack
from mlpack.errors import ExitCode, PackError, RecipeError
from mlpack.targets import LambdaZip

LINE = '{"id": "i%d", "inputs": {"x": [[1, 2, 3, 4]]}}'


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip with the engine. Read only."""
    root = tmp_path_factory.mktemp("running")
    runtime = small_packages.runtime(root / "runtime", real=True)
    return packed(root / "tiny", LambdaZip(arch=HERE), runtime)[0]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(LINE % at for at in range(5)))
    return path


def lines(folder: str) -> list[dict[str, object]]:
    return [json.loads(line) for path in sorted(Path(folder).glob("results/*")) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_manifest_is_answered_beside_it(package: Path, manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", package, "--batch", manifest) == ExitCode.OK
    told = capsys.readouterr()
    folder = told.out.strip()
    assert Path(folder).parent == manifest.with_name("m.jsonl.results")
    assert "5 items: 5 answered" in told.err
    assert "already" not in told.err
    assert [row["id"] for row in lines(folder)] == [f"i{at}" for at in range(5)]
    assert run("run", package, "--batch", manifest, "--json") == ExitCode.OK
    again = capsys.readouterr()
    assert "5 of 5 items have a result already" in again.err
    assert json.loads(again.out) == {
        "manifest": str(manifest), "results": folder, "items": 5, "answered": 5, "failed": 0, "parts": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_table_with_wrong_rows_ends_with_three(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "m.csv"
    table.write_text("n,a,b,c,d,more\none,1,2,3,4,?\ntwo,1,x,3,4,?\n")
    words = ("--column", "x=a,b,c,d", "--column", "id=n", "--results", tmp_path / "out", "-q")
    assert run("run", package, "--batch", table, *words) == ExitCode.STEP_FAILED
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    assert [(row["id"], row["status"]) for row in lines(str(tmp_path / "out"))] == [("one", 200), ("two", 400)]
    (error,) = (tmp_path / "out/errors").iterdir()
    assert json.loads(error.read_text())["error"] == "'x' is no number for the input 'x'"


@pytest.mark.slow
def test_what_is_wrong_as_a_whole_ends_with_two(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array = tmp_path / "m.jsonl"
    array.write_text("[{}]")
    assert run("run", package, "--batch", array) == ExitCode.RECIPE
    assert "a JSON array" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="cannot be read: No such file"):
        mlpack.run_batch(package, tmp_path / "gone.jsonl")
    with pytest.raises(RecipeError, match="the format 'xml' is none of"):
        mlpack.run_batch(package, array, options=mlpack.BatchOptions(format="xml"))
    with pytest.raises(RecipeError, match="memory_mb"):
        mlpack.run_batch(package, array, options=mlpack.BatchOptions(memory_mb=0))


@pytest.mark.parametrize(
    "words",
    [("--results", "x"), ("--column", "a=b"), ("--batch", "m", "--timeout", "3"), ("--batch", "m", "--column", "a")],
)
def test_options_that_do_not_fit_are_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    assert run("run", tmp_path, *words) == ExitCode.RECIPE


@pytest.mark.slow
def test_package_whose_process_is_killed_is_told(package: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPACK_BATCH_CHECKPOINT_ITEMS", "0")
    with pytest.raises(RecipeError, match="MLPACK_BATCH_CHECKPOINT_ITEMS"):
        mlpack.run_batch(package, manifest)
    monkeypatch.delenv("MLPACK_BATCH_CHECKPOINT_ITEMS")
    (manifest.parent / "file").write_text("")
    with pytest.raises(mlpack.errors.MlpackError):  # its results cannot be written below a file
        mlpack.run_batch(package, manifest, options=mlpack.BatchOptions(results=manifest.parent / "file/out"))
    assert issubclass(PackError, mlpack.errors.MlpackError)


@pytest.mark.slow
def test_interrupt_keeps_what_is_answered(package: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle: the command ends with 130, no process is left, and the next one goes on."""
    many = tmp_path / "m.jsonl"
    many.write_text("\n".join(LINE % at for at in range(200_000)))
    source = Path(mlpack.__file__).parent.parent
    command = [sys.executable, "-m", "mlpack.cli", "run", str(package), "--batch", str(many), "--results", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(source), "MLPACK_BATCH_CHECKPOINT_ITEMS": "100"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(tmp_path.glob("out/results/*")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=90)
    assert process.returncode == ExitCode.INTERRUPTED, told
    done = lines(str(tmp_path / "out"))
    assert 0 < len(done) < 200_000
    assert [row["item"] for row in done] == sorted({row["item"] for row in done})
    assert not list(tmp_path.glob("out/.draft*"))
    assert json.loads((tmp_path / "out/claims/part-00000.json").read_text())["until"] == 0


@pytest.mark.parametrize(("name", "lacking", "extra"), [("s3://b/m.jsonl", "botocore", "aws"), ("m.parquet", "pyarrow", "parquet")])
def test_what_a_manifest_needs_is_named(name: str, lacking: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpack.pipeline import batches

    monkeypatch.setattr(batches, "find_spec", lambda module: None if module == lacking else object())
    with pytest.raises(RecipeError, match=f"{lacking}, which is not installed here: .*{extra}"):
        mlpack.run_batch(Path("/nowhere"), name)


@pytest.mark.slow
def test_parquet_and_s3_are_read_by_what_is_installed_here(
    package: Path, tmp_path: Path, aws: AwsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package itself has neither pyarrow nor botocore."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"id": ["a", "b"], "x": [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]]})
    parquet.write_table(table, tmp_path / "m.parquet")
    assert run("run", package, "--batch", tmp_path / "m.parquet", "--results", tmp_path / "out") == ExitCode.OK
    assert [row["id"] for row in lines(str(tmp_path / "out"))] == ["a", "b"]
    client = aws.client("s3")
    client.create_bucket(Bucket="lists", CreateBucketConfiguration={"LocationConstraint": REGION})
    client.upload_file(str(tmp_path / "m.parquet"), "lists", "in/m.parquet")
    capsys.readouterr()
    result = mlpack.run_batch(package, "s3://lists/in/m.parquet", environ=os.environ | aws.environment)
    assert (result.answered, result.failed) == (2, 0)
    assert result.results.startswith("s3://lists/in/m.parquet.results/")
    client.close()
