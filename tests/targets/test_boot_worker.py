"""Booting workers: ready, one answer, an end when asked; without the device, up to it and with words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support import small_packages
from tests.support.small_packages import HERE, PYTHON, packed

from mlpack.errors import PackError
from mlpack.targets import CpuWorker, GpuWorker
from mlpack.targets.boot import worker
from mlpack.targets.shipped import boot

pytestmark = pytest.mark.slow

WORKER = """
import http.server, json, os, signal, sys, threading
{head}
class Handler(http.server.BaseHTTPRequestHandler):
    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.reply(200, dict(path=self.path))
    def do_POST(self):
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        {body}
        self.reply(200, dict(path=self.path, given=given, env=dict(os.environ)))
    def log_message(self, *_):
        pass
if sys.argv[1] == "engine":
    sys.exit({checked})
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["MLPACK_PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("listening", flush=True)
server.serve_forever()
{tail}
"""


def scripted(work: Path, config: CpuWorker | GpuWorker, head: str = "", body: str = "", tail: str = "", checked: int = 0) -> Path:
    """A worker's package whose bootstrap.py is a small server that does `head` first, `body` at a request, `tail` at the end."""
    runtime = work / "runtime"
    runtime.mkdir(parents=True)
    (runtime / "bootstrap.py").write_text(WORKER.format(head=head, body=body, tail=tail, checked=checked))
    base = small_packages.base(work / "rootfs", work / "cache")
    return packed(work, config, runtime, base=base, python=PYTHON)[0]


def event_of(artifact: Path) -> bytes:
    return (artifact / "event.json").read_bytes()


CPU = CpuWorker(arch=HERE)
GPU = GpuWorker()


def test_worker_answers_the_sample_and_ends_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    artifact = scripted(tmp_path, CPU)
    booted = boot(artifact, event_of(artifact), timeout_s=60)
    assert (booted.status, booted.answer["statusCode"]) == (200, 200)
    seen = json.loads(booted.answer["body"])
    assert seen["path"] == "/v2/models/tiny/infer"
    assert seen["given"] == small_packages.SAMPLE
    assert "SECRET_OF_THE_CALLER" not in seen["env"]
    assert "MLPACK_QUEUE_URL" not in seen["env"]
    assert "as a worker over HTTP" in booted.how
    assert "without podman" in booted.how
    assert booted.init_ms > 0


def test_worker_takes_a_body_alone(tmp_path: Path) -> None:
    booted = boot(scripted(tmp_path, CPU), b'{"x": 1}', timeout_s=60)
    assert json.loads(booted.answer["body"])["given"] == {"x": 1}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"head": "raise SystemExit('no model.json')"}, r"(?s)ended with status 1 before it was ready.*no model\.json"),
        ({"body": "return self.reply(500, dict(error='broken hook'))"}, r"answered with status 500.*broken hook"),
        ({"tail": "sys.exit(70)"}, "ended with status 70 after SIGTERM"),
        ({"body": "os._exit(3)"}, "broke the connection"),
        (
            {"body": "open(os.path.join(os.path.dirname(__file__), 'cache'), 'w')"},
            "broke the connection|wrote into its own directory",
        ),
    ],
    ids=["start", "answer", "end", "death", "write"],
)
def test_worker_that_fails_is_told_with_its_log(script: dict[str, str], said: str, tmp_path: Path) -> None:
    artifact = scripted(tmp_path, CPU, **script)
    with pytest.raises(PackError, match=said):
        boot(artifact, event_of(artifact), timeout_s=60)


def test_worker_that_does_not_get_ready_is_given_up(tmp_path: Path) -> None:
    artifact = scripted(tmp_path, CPU, head="import time; time.sleep(60)")
    with pytest.raises(PackError, match="was not ready within 1 s"):
        boot(artifact, event_of(artifact), timeout_s=1)


def test_worker_that_does_not_end_is_told_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "GRACE_S", 0.5)
    artifact = scripted(tmp_path, CPU, tail="import time; time.sleep(60)")
    with pytest.raises(PackError, match=r"did not end within 0\.5 s of SIGTERM"):
        boot(artifact, event_of(artifact), timeout_s=60)


@pytest.mark.parametrize("backend", [None, "cpu", {}], ids=["none", "word", "empty"])
def test_package_that_does_not_say_what_computes_is_refused(backend: object, tmp_path: Path) -> None:
    artifact = scripted(tmp_path, CPU)
    described = json.loads((artifact / "package.json").read_bytes())
    (artifact / "package.json").write_text(json.dumps(described | {"backend": backend}))
    with pytest.raises(PackError, match="does not say what computes"):
        boot(artifact, b"{}", timeout_s=5)


def test_event_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="the event is not JSON"):
        boot(scripted(tmp_path, CPU), b"{", timeout_s=5)


gpu = pytest.mark.skipif(HERE != "x86_64" or worker._DEVICE_NODE.exists(), reason="for x86_64 without a GPU")
NO_DRIVER = "sys.argv[1] == 'worker' and sys.exit('libcuda.so.1 is not here: is the driver given to the container?')"


@gpu
def test_gpu_worker_is_booted_up_to_the_device(tmp_path: Path) -> None:
    artifact = scripted(tmp_path, GPU, head=NO_DRIVER)
    booted = boot(artifact, event_of(artifact), timeout_s=60)
    assert booted.answer is None
    assert "never executed" in booted.how
    assert any("libcuda.so.1" in line for line in booted.log)


@gpu
def test_gpu_worker_whose_engines_are_damaged_does_not_boot(tmp_path: Path) -> None:
    artifact = scripted(tmp_path, GPU, head=NO_DRIVER, checked=1)
    with pytest.raises(PackError, match="`engine check` ended with status 1"):
        boot(artifact, event_of(artifact), timeout_s=60)


@gpu
@pytest.mark.parametrize(
    ("head", "said", "timeout_s"),
    [
        ("", "neither served nor ended within 2 s", 2),
        ("sys.argv[1] == 'worker' and sys.exit(0)", "ended with status 0 on a machine without a GPU", 60),
        ("sys.argv[1] == 'worker' and sys.exit('out of luck')", "did not say that the driver is missing", 60),
    ],
    ids=["serves", "silent", "vague"],
)
def test_gpu_worker_that_hides_the_missing_device_does_not_boot(head: str, said: str, timeout_s: float, tmp_path: Path) -> None:
    artifact = scripted(tmp_path, GPU, head=head)
    with pytest.raises(PackError, match=said):
        boot(artifact, event_of(artifact), timeout_s=timeout_s)


READY = "print(json.dumps(dict(message='ready', backend={!r}, device={!r})), flush=True)"


@pytest.mark.parametrize(
    ("backend", "device", "said"),
    [("tensorrt", "NVIDIA L4, sm89", "HTTP, by tensorrt on NVIDIA L4, sm89"), ("cpu", "cpu", "its engines never executed")],
)
def test_gpu_worker_that_served_says_by_what(
    backend: str, device: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with a GPU, as far as the driver's file tells."""
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(worker, "_DEVICE_NODE", tmp_path / "nvidiactl")
    artifact = scripted(tmp_path, GpuWorker(fallback=("cpu",)), head=READY.format(backend, device))
    booted = boot(artifact, event_of(artifact), timeout_s=60)
    assert booted.status == 200
    assert said in booted.how


def test_gpu_worker_without_an_engine_here_is_booted_up_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(worker, "_DEVICE_NODE", tmp_path / "nvidiactl")
    artifact = scripted(tmp_path, GPU, head="sys.argv[1] == 'worker' and sys.exit(5)")
    booted = boot(artifact, event_of(artifact), timeout_s=60)
    assert booted.answer is None
    assert "no engine for this machine's GPU" in booted.how


@gpu
def test_gpu_worker_that_fell_back_answers_and_says_by_what(tmp_path: Path) -> None:
    artifact = scripted(tmp_path, GpuWorker(fallback=("cpu",)))
    booted = boot(artifact, event_of(artifact), timeout_s=60)
    assert booted.status == 200
    assert "its engines never executed" in booted.how
