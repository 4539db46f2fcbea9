"""Every way in which a package can fail to start: what the platform is told, what stands in the log, how the process ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.runtime_apis import RuntimeApi
from tests.support.runtime.tiny_packages import affine, package, words

from mlpack_runtime import failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    running = RuntimeApi()
    yield running
    running.close()


def start(root: Path, api: RuntimeApi, before: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run the loop until it ends; `before`: code that runs in its process first."""
    program = root.parent / "start.py"
    lines = [f"import sys; sys.path.insert(0, {str(root)!r})", before, "from mlpack_runtime import loop", "sys.exit(loop.main([]))"]
    program.write_text("\n".join(lines))
    environment = {**os.environ, "AWS_LAMBDA_RUNTIME_API": api.address, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", **env}
    command = [sys.executable, "-I", "-S", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def lose_the_graph(root: Path) -> None:
    (root / "model/model.onnx").unlink()


def damage_the_graph(root: Path) -> None:
    path = root / "model/model.onnx"
    path.write_bytes(path.read_bytes()[:100])


def lose_the_settings(root: Path) -> None:
    (root / "model/model.json").unlink()


def damage_the_settings(root: Path) -> None:
    (root / "model/model.json").write_text('{"schema": 1, ')


def lose_the_engine(root: Path) -> None:
    (root / "lib/libonnxruntime.so").unlink()


def bring_another_engine(root: Path) -> None:
    (root / "lib/libonnxruntime.so").unlink()
    (root / "lib/libonnxruntime.so").write_bytes(b"\x7fELF of another machine")


def lose_a_module(root: Path) -> None:
    for path in (root / "mlpack_runtime").rglob("telemetry*"):
        path.unlink()


WAYS: dict[str, tuple[Any, str, str]] = {
    "missing graph": (lose_the_graph, "OrtError", "model.onnx"),
    "damaged graph": (damage_the_graph, "OrtError", "model.onnx"),
    "missing settings": (lose_the_settings, "ModelError", "was the package unpacked whole"),
    "damaged settings": (damage_the_settings, "ModelError", "is not JSON"),
    "missing engine": (lose_the_engine, "ModelError", "the engine is not in"),
    "another engine": (bring_another_engine, "OrtError", "Is it built for this machine?"),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_missing_or_damaged_is_reported(way: str, tmp_path: Path, api: RuntimeApi) -> None:
    damage, kind, sentence = WAYS[way]
    root = package(tmp_path / "p", affine)
    damage(root)
    done = start(root, api)
    path, error, headers = api.posted()
    assert (done.returncode, path, error["errorType"]) == (1, "/init/error", kind)
    assert headers["lambda-runtime-function-error-type"] == f"Runtime.{kind}"
    assert sentence in error["errorMessage"]
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (line["level"], line["error_type"]) == ("ERROR", kind)
    assert line["message"].startswith(f"the package cannot start: {kind}: ")
    assert sentence in line["error_message"]


def test_a_lost_module_is_reported_before_there_is_a_log(tmp_path: Path, api: RuntimeApi) -> None:
    root = package(tmp_path / "p", affine)
    lose_a_module(root)
    done = start(root, api)
    path, error, _ = api.posted()
    assert (done.returncode, path) == (1, "/init/error")
    assert "telemetry" in error["errorMessage"]


HOOKS = {
    "import mlpack_hook_that_is_not_there": "ModuleNotFoundError",
    "raise ValueError('no such table')": "ValueError: no such table",
    "import sys; sys.exit(3)": "SystemExit: 3",
    "def f(:": "SyntaxError",
    "g = 1": "AttributeError",
}


@pytest.mark.parametrize("code", HOOKS)
def test_a_hook_that_cannot_be_imported_is_reported(code: str, tmp_path: Path, api: RuntimeApi) -> None:
    root = package(tmp_path / "p", affine, preprocess="hook_of_start:f")
    (root / "app/hook_of_start.py").write_text(code)
    done = start(root, api)
    path, error, _ = api.posted()
    assert (done.returncode, path, error["errorType"]) == (1, "/init/error", "ModelError")
    assert "hook 'hook_of_start:f' cannot be imported" in error["errorMessage"]
    assert HOOKS[code] in error["errorMessage"]


def test_memory_that_does_not_suffice_is_named(tmp_path: Path, api: RuntimeApi) -> None:
    """Python's own memory error and the engine's words for it come to one type and one sentence."""
    fail = "import mlpack_runtime.model as m\ndef load(*_): raise MemoryError\nm.load = load"
    engine = fail.replace("MemoryError", "m.ort.OrtError('/onnxruntime/core: Failed to allocate memory for requested buffer')")
    for number, code in enumerate((fail, engine)):
        done = start(package(tmp_path / str(number) / "p", words), api, code)
        path, error, headers = api.posted()
        assert (done.returncode, path, error["errorType"]) == (1, "/init/error", "MemoryError")
        assert headers["lambda-runtime-function-error-type"] == "Runtime.MemoryError"
        assert "does not fit into 256 MB: give the function more" in error["errorMessage"]


@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGSEGV])
def test_a_crash_of_native_code_leaves_its_signal_and_place(number: signal.Signals, tmp_path: Path, api: RuntimeApi) -> None:
    root = package(tmp_path / "p", affine, preprocess="hook_of_start:f")
    (root / "app/hook_of_start.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\ndef f(body): return body\n")
    done = start(root, api)
    assert done.returncode == -number
    assert "Fatal Python error: " in done.stderr
    assert 'hook_of_start.py", line 2' in done.stderr


SLOW = """
from mlpack_runtime import failure
tell = failure.tell_slow
def told(*arguments):
    tell(*arguments)
    failure.told = True
failure.tell_slow, failure.PATIENCE_S = told, {patience}
"""
UNTIL_TOLD = """
import time
from mlpack_runtime import failure
while not hasattr(failure, "told"):
    time.sleep(0.01)
raise ValueError("at last")
"""


def test_a_start_that_takes_long_says_where_it_is(tmp_path: Path, api: RuntimeApi) -> None:
    root = package(tmp_path / "p", affine, preprocess="hook_of_start:f")
    (root / "app/hook_of_start.py").write_text(UNTIL_TOLD)
    done = start(root, api, SLOW.format(patience=0.2))
    slow, failed = [json.loads(line) for line in done.stdout.splitlines()]
    assert (slow["level"], slow["error_type"]) == ("WARNING", "SlowStart")
    assert re.match(
        r"still loading after 0\.2 s, in \S+ \(\S+\.py, line \d+\): Lambda gives an initialisation 10 s", slow["message"]
    )
    assert failed["error_type"] == "ModelError"


def test_a_start_that_has_minutes_is_not_hurried(tmp_path: Path, api: RuntimeApi) -> None:
    root = package(tmp_path / "p", affine, preprocess="hook_of_start:f")
    (root / "app/hook_of_start.py").write_text("import time\ntime.sleep(0.2)\nraise ValueError('at last')")
    done = start(root, api, SLOW.format(patience=0.01), AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    assert [json.loads(line)["error_type"] for line in done.stdout.splitlines()] == ["ModelError"]


def test_a_place_is_a_function_and_a_line() -> None:
    frame = sys._getframe()
    assert failure._place(frame) == f"in {frame.f_code.co_name} (test_failed_starts.py, line {frame.f_lineno})"
    assert failure._place(None) == "in a place that is not known"


def test_a_place_within_an_import_is_the_importers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the interpreter finds and reads a module, a start under load may well be."""
    places = []

    class Finder:
        def find_spec(self, *_: object) -> None:
            places.append(failure._place(sys._getframe(1)))

    monkeypatch.setattr(sys, "meta_path", [Finder()])
    with pytest.raises(ImportError):
        import module_that_is_nowhere  # noqa: F401
    assert re.fullmatch(r"in test_a_place_within_an_import_is_the_importers \(test_failed_starts\.py, line \d+\)", places[0])
