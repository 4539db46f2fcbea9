"""A function's snapshot and the instances that are made of it, imitated by processes that fork where the platform would restore."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.front_doors import described
from tests.support.runtime.runtime_apis import Platform
from tests.support.runtime.tiny_packages import affine, package

from mlpack_runtime import snapshot, starting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# AWS's module in the form that it has in its managed runtimes: two lists, which its client empties and reads.
PLATFORM = """
_before, _after = [], []
def register_before_snapshot(function, *arguments, **words):
    _before.append((function, arguments, words))
    return function
def register_after_restore(function, *arguments, **words):
    _after.append((function, arguments, words))
    return function
"""
# What AWS's client does, with a fork where the platform takes the snapshot and restores it twice.
RESTORES = """
import os, sys
sys.path[:0] = sys.argv[1:3]
import random
from mlpack_runtime import handler, starting
import snapshot_restore_py as hooks
closed = []
starting.AFTER_RESTORE.append(lambda: closed.append(1))
while hooks._before:
    function, arguments, words = hooks._before.pop()
    function(*arguments, **words)
handler._DISPATCH.append("a client of the snapshot")
modules = set(sys.modules)
for number in (1, 2):
    if os.fork() == 0:
        for function, arguments, words in hooks._after:
            function(*arguments, **words)
        body = '{"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [2]}}'
        event = {"requestContext": {"http": {"method": "POST", "path": "/"}}, "headers": {}, "body": body}
        answer = handler.handler(event, None)
        added = sorted(name for name in set(sys.modules) - modules if name.startswith("mlpack_runtime"))
        told = [answer["statusCode"], answer["headers"]["x-trace-id"], random.random(), closed, handler._DISPATCH, added]
        sys.stderr.write(handler.jsontext.dumps(told) + "\\n")
        sys.stderr.flush()
        os._exit(0)
    os.wait()
"""


def restored(root: Path, tmp_path: Path) -> tuple[list[Any], list[Any]]:
    """What each of two instances tells, and the log."""
    (tmp_path / "platform").mkdir()
    (tmp_path / "platform/snapshot_restore_py.py").write_text(PLATFORM)
    program = tmp_path / "program.py"
    program.write_text(RESTORES)
    run = subprocess.run(
        [sys.executable, "-I", "-S", str(program), str(root), str(tmp_path / "platform")],
        capture_output=True,
        text=True,
        check=False,
        env={"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"},
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stderr.splitlines()], [json.loads(line) for line in run.stdout.splitlines()]


def test_two_instances_of_a_snapshot_share_nothing_of_its_own(tmp_path: Path) -> None:
    (one, other), log = restored(package(tmp_path / "p", affine), tmp_path)
    assert one[0] == other[0] == 200
    assert one[1] != other[1]  # trace ids
    assert one[2] != other[2]  # what a seed decides
    assert [one[3:5], other[3:5]] == [[[1], []]] * 2  # told to forget, and clients forgotten
    assert one[5] == other[5] == []  # everything that the request needs was imported before
    for line in log:
        loads = [stage for stage in line["stages_ms"] if stage.startswith("load_")]
        assert (line["cold_start"], loads) == (True, ["load_restore"])


def test_what_is_kept_is_forgotten_in_each_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(starting, "AFTER_RESTORE", [lambda: forgotten.append("socket"), lambda: forgotten.append("credentials")])
    monkeypatch.setattr(snapshot, "AFTER_RESTORE", starting.AFTER_RESTORE)
    assert snapshot.renew() >= 0
    assert forgotten == ["socket", "credentials"]


def test_clients_and_credentials_of_a_snapshot_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpack_runtime.aws import credentials, signed
    from mlpack_runtime.aws.sigv4 import Credentials

    class Connection:
        closed = False

        def close(self) -> None:
            self.closed = True

    client, connection = signed.Client("dynamodb", region="eu-west-1"), Connection()
    client._idle.append((("host", 443), 0.0, connection))  # type: ignore[arg-type]
    monkeypatch.setattr(credentials, "_fetch", lambda: Credentials("another", "secret", ""))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    credentials._KEPT[:] = [Credentials("the snapshot's", "secret", "")]
    snapshot.renew()
    assert connection.closed
    assert credentials.provide().key == "another"
    credentials._KEPT.clear()


def test_a_front_door_begins_anew_in_each_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clients, connections and circuit breaker were the snapshot's."""
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(described(tmp_path / "model")))
    monkeypatch.setenv("MLPACK_WORKER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    monkeypatch.setattr(snapshot, "HOOKS", [])
    monkeypatch.delitem(sys.modules, "mlpack_runtime.frontdoor", raising=False)
    frontdoor = importlib.import_module("mlpack_runtime.frontdoor")
    monkeypatch.delitem(sys.modules, "mlpack_runtime.frontdoor")  # other tests want one of their own
    ((before, after),) = snapshot.HOOKS
    first = frontdoor.DOOR
    before()
    assert frontdoor.DOOR is first
    after()
    assert frontdoor.DOOR is not first
    assert frontdoor.handler({"warmup": True}, None)["warm"] is True


@pytest.fixture
def platforms() -> Iterator[list[Platform]]:
    made: list[Platform] = []
    yield made
    for each in made:
        each.server.shutdown()
        each.server.server_close()


def run_loop(root: Path, platform: Platform, code: str = "") -> subprocess.CompletedProcess[str]:
    program = root.parent / "loop.py"
    program.write_text(
        f"import sys; sys.path.insert(0, {str(root)!r})\nfrom mlpack_runtime import loop, starting\n{code}\nsys.exit(loop.main([]))"
    )
    address = f"127.0.0.1:{platform.server.server_address[1]}"
    env = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "AWS_LAMBDA_RUNTIME_API": address}
    return subprocess.run([sys.executable, "-I", "-S", program], capture_output=True, text=True, check=False, env=env, timeout=60)


def test_our_own_loop_waits_for_its_restore(tmp_path: Path, platforms: list[Platform]) -> None:
    platforms.append(platform := Platform())
    done = run_loop(package(tmp_path / "p", affine), platform)
    assert platform.paths[:3] == ["GET /restore/next", "GET /invocation/next", "POST /invocation/1/response"], done.stderr
    assert platform.ports[0] != platform.ports[1]  # the connection of the snapshot is not that of the instance
    assert "load_restore" in done.stdout
    assert "load_engine" not in done.stdout


def test_what_fails_after_a_restore_is_reported_as_that(tmp_path: Path, platforms: list[Platform]) -> None:
    platforms.append(platform := Platform())
    done = run_loop(package(tmp_path / "p", affine), platform, "starting.AFTER_RESTORE.append(lambda: 1 // 0)")
    assert (done.returncode, platform.paths) == (1, ["GET /restore/next", "POST /restore/error"])
    _, _, headers, body = platform.asked[-1]
    assert headers["Lambda-Runtime-Function-Error-Type"] == "Runtime.AfterRestoreError"
    assert "ZeroDivisionError" in json.loads(body)["errorMessage"]


def test_a_refused_snapshot_is_an_error_of_the_start(tmp_path: Path, platforms: list[Platform]) -> None:
    platforms.append(platform := Platform(refuse=True))
    done = run_loop(package(tmp_path / "p", affine), platform)
    assert (done.returncode, platform.paths) == (1, ["GET /restore/next", "POST /init/error"])


def test_without_a_snapshot_nothing_of_it_is_imported(tmp_path: Path) -> None:
    root = package(tmp_path / "p", affine)
    code = "import sys; sys.path.insert(0, sys.argv[1])\nimport mlpack_runtime.handler"
    code += "\nprint('mlpack_runtime.snapshot' in sys.modules)"
    for kind, imported in (("on-demand", "False"), ("snap-start", "True")):
        env = {**os.environ, "AWS_LAMBDA_INITIALIZATION_TYPE": kind}
        done = subprocess.run([sys.executable, "-I", "-c", code, root], capture_output=True, text=True, check=False, env=env)
        assert done.stdout.strip().splitlines()[-1] == imported, done.stderr
