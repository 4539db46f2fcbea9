"""Booting: the shipped bytes come up and answer through the Runtime API, or the build says why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support import small_packages
from tests.support.small_packages import ANSWER, HERE, PYTHON, packed

from mlpack.core import digest
from mlpack.errors import PackError
from mlpack.pipeline import booting
from mlpack.targets import LambdaImage, LambdaZip
from mlpack.targets.format import ziparchive
from mlpack.targets.format.ziparchive import Member
from mlpack.targets.shipped import boot, unpack


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime part. Read only."""
    return small_packages.runtime(tmp_path_factory.mktemp("runtime") / "tree", real=True)


def event_of(artifact: Path) -> bytes:
    return (artifact / "event.json").read_bytes()


RUNTIME = """
import http.client, json, os, sys
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def ask(method, path, body=None):
    connection.request(method, "/2018-06-01/runtime/" + path, body)
    answer = connection.getresponse()
    return answer.headers.get("Lambda-Runtime-Aws-Request-Id"), answer.read()
{head}
name, event = ask("GET", "invocation/next")
answer = {{"statusCode": 200, "body": "ok"}}
{body}
ask("POST", f"invocation/{{name}}/response", json.dumps(answer))
ask("GET", "invocation/next")
"""


def scripted(root: Path, body: str = "", head: str = "") -> Path:
    """A package whose bootstrap.py is a small runtime that does `head` before it is ready, and `body` at the event."""
    (root / "in").mkdir(parents=True)
    source = root / "in/bootstrap.py"
    source.write_text(RUNTIME.format(body=body, head=head))
    member = Member(name="bootstrap.py", source=source, digest=digest.of_file(source))
    ziparchive.write([member], root / "function.zip")
    row = {"path": "bootstrap.py", "part": "code", "size_bytes": source.stat().st_size, "digest": str(member.digest)}
    described = {
        "schema": 1,
        "kind": "zip",
        "target": "lambda-zip",
        "arch": HERE,
        "python": PYTHON,
        "memory_mb": 1769,
        "files": [row],
    }
    (root / "package.json").write_text(json.dumps(described))
    (root / "event.json").write_text("{}")
    return root


def outputs(answer: dict[str, Any]) -> list[float]:
    assert answer["statusCode"] == 200
    return list(json.loads(answer["body"])["outputs"][0]["data"])


@pytest.mark.slow
@pytest.mark.parametrize("layer", [False, True], ids=["function", "layer"])
def test_boot_zip_answers_the_sample(layer: bool, runtime: Path, tmp_path: Path) -> None:
    artifact, _ = packed(tmp_path, LambdaZip(arch=HERE, layer=layer), runtime)
    booted = boot(artifact, event_of(artifact), timeout_s=30)
    assert outputs(booted.answer) == ANSWER
    assert "stub of the Runtime API" in booted.how
    assert booted.init_ms > 0
    assert any('"status":200' in line for line in booted.log)


@pytest.mark.slow
def test_boot_image_without_podman_runs_its_files_and_says_so(runtime: Path, tmp_path: Path) -> None:
    base = small_packages.base(tmp_path / "rootfs", tmp_path / "cache")
    artifact, _ = packed(tmp_path, LambdaImage(arch=HERE), runtime, base=base)
    booted = boot(artifact, event_of(artifact), timeout_s=30)
    assert outputs(booted.answer) == ANSWER
    assert "without podman" in booted.how


def test_boot_sees_lambdas_environment_and_nothing_of_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    artifact = scripted(tmp_path / "package", "answer['body'] = json.dumps(dict(os.environ))")
    seen = json.loads(boot(artifact, b"{}", memory_mb=512).answer["body"])
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert "SECRET_OF_THE_CALLER" not in seen
    assert seen["HOME"] == seen["TMPDIR"]
    assert not Path(seen["HOME"]).exists()  # it was private, and is gone


def test_boot_can_write_to_tmp(tmp_path: Path) -> None:
    artifact = scripted(tmp_path / "package", "import tempfile; tempfile.TemporaryFile().write(b'x')")
    assert boot(artifact, b"{}").answer["body"] == "ok"


def test_boot_package_that_writes_beside_itself_is_refused(tmp_path: Path) -> None:
    artifact = scripted(tmp_path / "package", "open(os.path.join(os.path.dirname(__file__), 'cache'), 'w').close()")
    with pytest.raises(PackError, match=r"Read-only|Permission denied|read-only on Lambda"):
        boot(artifact, b"{}")


def test_boot_answer_other_than_200_is_told_with_the_log(tmp_path: Path) -> None:
    body = "print('what the hook said', file=sys.stderr); answer = {'statusCode': 500, 'body': 'KeyError'}"
    with pytest.raises(PackError, match=r"(?s)status 500: KeyError.*what the hook said"):
        boot(scripted(tmp_path / "package", body), b"{}")


@pytest.mark.slow
def test_boot_hook_that_raises_is_told(runtime: Path, tmp_path: Path) -> None:
    hooks = {"app.py": "def preprocess(value):\n    raise KeyError('labels.txt')\n"}
    artifact, _ = packed(tmp_path, LambdaZip(arch=HERE), runtime, hooks=hooks, sample={"x": 1})
    with pytest.raises(PackError, match=r"(?s)status 500.*KeyError.*labels\.txt"):
        boot(artifact, event_of(artifact), timeout_s=30)


@pytest.mark.parametrize(("path", "stage"), [("init/error", "initialisation"), ("invocation/{}/error", "invocation")])
def test_boot_reported_error_is_told_with_its_stage(path: str, stage: str, tmp_path: Path) -> None:
    report = "json.dumps({'errorType': 'ImportError', 'errorMessage': 'nobody packed it'})"
    body = f"ask('POST', {path!r}.format(name), {report}); sys.exit(1)"
    with pytest.raises(PackError, match=f"failed at {stage}: ImportError: nobody packed it"):
        boot(scripted(tmp_path / "package", body), b"{}")


def test_boot_process_that_dies_is_told_with_its_status(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"(?s)ended with status 7.*last words"):
        boot(scripted(tmp_path / "package", head="print('last words', flush=True); os._exit(7)"), b"{}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("returns", "given"), [("y.tolist()[0]", [60.0, 70.0, 80.0]), ("len(y.tolist())", 1), ("[]", []), ("False", False)]
)
def test_boot_hook_may_answer_a_direct_call_with_any_json(returns: str, given: Any, runtime: Path, tmp_path: Path) -> None:
    hooks = {"app.py": f"def postprocess(outputs):\n    y = outputs['y']\n    return {returns}\n"}
    artifact, _ = packed(tmp_path, LambdaZip(arch=HERE), runtime, hooks=hooks)
    booted = boot(artifact, b'{"inputs": {"x": [[1, 2, 3, 4]]}}', timeout_s=30)
    assert (booted.answer, booted.status) == (given, 200)
    assert booting.body_of(booted.answer) == given


@pytest.mark.parametrize("answer", ["{}", "None", "{'statusCode': 200}", "{'error': 'x'}", "{'errorMessage': 'x'}"])
def test_boot_answer_that_is_none_is_no_success(answer: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="was booted and"):
        boot(scripted(tmp_path / "package", f"answer = {answer}"), b"{}")


@pytest.mark.slow
def test_boot_that_does_not_answer_in_time_leaves_no_process(tmp_path: Path) -> None:
    body = "import subprocess; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', os.environ['TMPDIR']])"
    with pytest.raises(PackError, match="did not answer within 1 s"):
        boot(scripted(tmp_path / "package", body), b"{}", timeout_s=1)
    assert not _children_named(b"time.sleep(60)", Path("mlpack-held-boot-"))


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("target", ["lambda-zap", None, ["lambda-zip"]])
def test_boot_for_a_target_that_is_not_known_says_which_are(target: object, tmp_path: Path) -> None:
    artifact = scripted(tmp_path / "package")
    described = json.loads((artifact / "package.json").read_bytes())
    (artifact / "package.json").write_text(json.dumps(described | {"target": target}))
    with pytest.raises(PackError, match=r"which is not known here: it knows lambda-zip, "):
        boot(artifact, b"{}")
    assert (unpack(artifact, tmp_path / "out") / "bootstrap.py").is_file()  # its form is one of ours, whoever wrote it


def test_boot_for_another_processor_says_where_to_boot(tmp_path: Path) -> None:
    artifact = scripted(tmp_path / "package")
    described = json.loads((artifact / "package.json").read_text())
    described["arch"] = {"x86_64": "arm64", "arm64": "x86_64"}[HERE]
    (artifact / "package.json").write_text(json.dumps(described))
    with pytest.raises(PackError, match="boot it on a machine of that kind"):
        boot(artifact, b"{}")


def test_boot_damaged_package_is_not_started(tmp_path: Path) -> None:
    artifact = scripted(tmp_path / "package")
    with (artifact / "function.zip").open("r+b") as file:
        file.seek(60)
        file.write(b"\xff\x00\xff")
    with pytest.raises(PackError, match=r"damaged|is not the file"):
        boot(artifact, b"{}")


def test_boot_interrupted_leaves_no_process_and_no_directory(tmp_path: Path) -> None:
    artifact = scripted(tmp_path / "package", "import time; time.sleep(60)")
    heard = "import signal; signal.signal(2, signal.default_int_handler)"  # whoever runs the tests may ignore it
    program = f"{heard}; from pathlib import Path; from mlpack.targets.shipped import boot; boot(Path({str(artifact)!r}), b'{{}}')"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "TMPDIR": str(temporary)}
    process = subprocess.Popen([sys.executable, "-c", program], env=env, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while not _children_named(b"bootstrap.py", temporary) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _children_named(b"bootstrap.py", temporary)
        process.send_signal(2)
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert b"KeyboardInterrupt" in told
    assert not _children_named(b"bootstrap.py", temporary)
    assert list(temporary.iterdir()) == []


def _children_named(name: bytes, below: Path) -> list[bytes]:
    found = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _readable(path))
    return [command for command in found if name in command and os.fsencode(below) in command]
