"""The container's image as it ships: small, without a cloud's client, started as platforms start it, and booted."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.support.small_packages import ANSWER, HERE, packed
from tests_slow.conftest import MakeRuntime, program
from tests_slow.test_container_http import ask, until

from mlpack.oci import image, layout
from mlpack.oci.base import Base, resolve_base
from mlpack.pipeline.packing import pack
from mlpack.targets import Container
from mlpack.targets.boot.process import Call as Started
from mlpack.targets.boot.process import podman_image, running
from mlpack.targets.shipped import boot

PY = "3.13"
CONFIG = Container(arch=HERE, max_batch=2)


@pytest.fixture(scope="module")
def artifact(make_runtime: MakeRuntime, trixie: Path, test_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in an image over a small Debian."""
    base: Base = resolve_base(str(trixie), HERE, test_cache / "oci")
    runtime = make_runtime(CONFIG, PY)
    made, _ = packed(tmp_path_factory.mktemp("container"), CONFIG, runtime, python=PY, base=base, cache_dir=test_cache / "oci")
    return made


@pytest.mark.parametrize("contained", [False, True], ids=["files", "podman"])
def test_container_boots_and_ends_when_asked(contained: bool, artifact: Path) -> None:
    booted = boot(artifact, (artifact / "event.json").read_bytes(), podman=program("podman") if contained else None)
    assert json.loads(booted.answer["body"])["outputs"][0]["data"] == ANSWER
    assert booted.how.startswith("as a container over HTTP")


def test_container_carries_no_queue_and_no_client_of_a_cloud(artifact: Path, tmp_path: Path) -> None:
    assert not (artifact / "frontdoor.zip").exists()
    root = pack.unpack(artifact, tmp_path / "unpacked")
    folders = {path.name for path in (root / "mlpack_runtime").iterdir() if path.is_dir()}
    assert folders.isdisjoint({"queueing", "triggers", "tensorrt", "door"})
    assert {path.stem for path in (root / "mlpack_runtime/aws").iterdir()} <= {"__init__", "__pycache__", "objects", "promises"}
    assert not (root / "site/botocore").exists()
    assert json.loads((root / "model/model.json").read_bytes())["worker"]["lame_duck_s"] == 5


def test_image_itself_keeps_sagemakers_contract(artifact: Path, tmp_path: Path) -> None:
    """podman starts it as SageMaker does, with `serve` behind the image's name, and with the port that it says."""
    entrypoint = image.config(layout.read(artifact / "image"))["config"]["Entrypoint"]
    assert entrypoint[-1] == "serve"
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    with podman_image(artifact, tmp_path, program("podman"), 120) as loaded:
        options = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--env", f"SAGEMAKER_BIND_TO_PORT={port}")
        command = (*loaded.run(*options), loaded.identity, "serve")
        call = Started(command=command, env=None, event=b"", timeout_s=120, log=tmp_path / "log", in_container=True)
        with running((command, None), call) as process:

            def pinged() -> Any:
                assert process.poll() is None, (tmp_path / "log").read_text()
                try:
                    return ask(port, "GET", "/ping")[0] == 200
                except OSError:
                    return False

            until(pinged, "ping")
            body = json.loads((artifact / "event.json").read_bytes())["body"].encode()
            status, _, answer = ask(port, "POST", "/invocations", body)
            assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, ANSWER)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
