"""Results: what a reader gets, and what becomes of one who leaves, or of a place that is full."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from tests.support.outcomes import typical

from mlpack.cli import commands, stdout
from mlpack.errors import ExitCode, MlpackError, RecipeError
from mlpack.report.record import files
from mlpack.report.recording import build_record

SOURCE = Path(commands.__file__).parent.parent.parent


class Stream(io.TextIOWrapper):
    """A stdout of some encoding."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    @property
    def written(self) -> bytes:
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue()


@pytest.fixture(params=["utf-8", "ascii", "latin-1"])
def stream(request: pytest.FixtureRequest) -> Stream:
    return Stream(request.param)


def test_rows_are_written_in_the_readers_encoding(stream: Stream) -> None:
    with redirect_stdout(stream):
        stdout.row("é → \ud800\x1b\nb")
    arrow = {"utf-8": "→".encode()}.get(stream.encoding, b"\\u2192")
    accent = {"ascii": b"\\xe9"}.get(stream.encoding, "é".encode(stream.encoding, "replace"))
    assert stream.written == accent + b" " + arrow + b" \\ud800\\x1b b\n"


def test_paths_and_documents_do_not_ask_for_the_encoding(stream: Stream) -> None:
    with redirect_stdout(stream):
        stdout.path(Path(os.fsdecode(b"caf\xe9 \xc3\xa9")))
        stdout.document("name: é\n")
        stdout.json({"a": "é\ud800"})
    assert stream.written == b'caf\xe9 \xc3\xa9\nname: \xc3\xa9\n{\n  "a": "\\u00e9\\ud800"\n}\n'


def test_a_value_is_exact_or_refused(stream: Stream) -> None:
    with redirect_stdout(stream):
        stdout.value("s3://bucket/key?x=1")
        for text in ("a\nb", "\x1b[31m", "::error::x", "##vso[x]"):
            with pytest.raises(RecipeError, match="cannot be printed as one line"):
                stdout.value(text)
    assert stream.written == b"s3://bucket/key?x=1\n"


def test_a_path_that_would_be_a_command_is_the_same_path(stream: Stream) -> None:
    with redirect_stdout(stream):
        stdout.path(Path("::error::x"))
    assert stream.written == b"./::error::x\n"
    assert stdout.printable(Path("a\nb")) is None


def test_no_stdout_is_nobody_who_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    stdout.row("a")
    stdout.end(None)


def test_a_full_stdout_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(MlpackError, match="stdout cannot be written to \\(No space left on device\\)"):
            stdout.row("a")


def test_a_reader_who_leaves_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdout, "_broken_pipes", [])
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert not stdout.has_reader_gone()
        stdout.row("a")
        assert stdout.has_reader_gone()
        stdout.row("b")


# --- as a process ------------------------------------------------------------------------------------------------------


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Two builds that differ by a name that is half a surrogate pair."""
    text = files.encode(build_record(typical()))
    (tmp_path / "a.json").write_bytes(text)
    (tmp_path / "b.json").write_bytes(text.replace(b"int8@", b"\\ud800int8@"))
    return tmp_path


def _shell(line: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """A line of bash, in which `mlpack` is the command line of this checkout."""
    script = f'set -o pipefail; mlpack() {{ "{sys.executable}" -m mlpack.cli "$@"; }}; {line}'
    env = os.environ | {"PYTHONPATH": str(SOURCE), "MLPACK_STORE": str(folder / "store")} | environ
    return subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, timeout=120, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("mlpack diff a.json b.json | true", 0),
        ("mlpack diff a.json b.json --json | head -c 1", 0),
        ("mlpack --help | true", 0),
        ("mlpack diff --help | true", 0),
        ("mlpack diff a.json b.json > /dev/full", 3),
        ("mlpack --help > /dev/full", 3),
        ("mlpack diff a.json b.json >&-", 0),
        ("mlpack diff a.json b.json 2>&-", 0),
        ("mlpack plan none.yaml 2>&-", 2),
        ("mlpack plan none.yaml 2> /dev/full", 2),
        ("mlpack plan none.yaml 2>&1 | true", 2),
        ("mlpack nonsense >&- 2>&-", 2),
        ("mlpack -q list 2> /dev/full > /dev/full", 0),
    ],
)
def test_streams_that_end_early_change_no_exit_code(line: str, code: int, records: Path) -> None:
    done = _shell(line, records)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"a bug" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    if code == 3:
        assert b"o space left" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "environ",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"COLUMNS": "1"},
    ],
)
def test_no_locale_is_a_bug(environ: dict[str, str], records: Path) -> None:
    name = os.fsdecode("é→".encode() + b"\xff.json")
    (records / name).write_bytes((records / "b.json").read_bytes())
    done = _shell(
        "mlpack diff a.json b.json; a=$?; mlpack diff a.json *$'\\xff'.json; echo $a $?; mlpack plan $'\\xc3\\xa9\\xff'",
        records,
        **environ,
    )
    assert done.returncode == ExitCode.RECIPE, done.stderr
    assert done.stdout.rstrip().endswith(b"0 0")
    assert b"\\ud800int8@" in done.stdout
    assert b"there is no such file" in done.stderr
    assert b"a bug" not in done.stderr
