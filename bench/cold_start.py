"""Cold start of the MiniLM int8 image against two others on the same base: a hello-world handler, and onnxruntime as pip leaves it.

What is timed is the first invocation under AWS's own emulator, in a container with the CPU and memory of the function (podman and
runc, so this one needs root). The emulator starts the function's process when the first request comes, which is checked, so the
time holds interpreter, imports, loading and the first answer. Page cache warm: the first round is not kept. The images take turns.
Figures: at most 2 times hello; at least 3 times faster than stock.

    hello    awslambdaric and a handler that returns a constant
    stock    awslambdaric, onnxruntime, tokenizers and numpy as `pip install --target` leaves them, its bytecode valid, and a
             handler that loads optimum's int8 .onnx file with default options when it is imported
    bare     stock without bytecode, as `uv pip install` leaves it (or pip, when a later copy changed the files' times)
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import (
    LAMBDA_MB,
    MINILM,
    Place,
    install_wheels,
    parser,
    place,
    ratio,
    report,
    run,
    scratch,
    stock_int8_minilm,
    timed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = "def handler(event, context):\n    return {'statusCode': 200, 'body': 'hello'}\n"
STOCK = """
import json
import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("/var/task/tokenizer.json")
tokenizer.no_padding()
session = ort.InferenceSession("/var/task/model_quantized.onnx")
names = {port.name for port in session.get_inputs()}


def handler(event, context):
    encoded = tokenizer.encode(json.loads(event["body"])["text"])
    feeds = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
    arrays = {name: np.array([ids], dtype=np.int64) for name, ids in feeds.items() if name in names}
    (tokens,) = session.run(["last_hidden_state"], arrays)
    embedding = tokens.mean(axis=1)
    return {"statusCode": 200, "body": json.dumps(embedding.tolist())}
"""
ENGINE = ["awslambdaric", "onnxruntime==1.31.1", "numpy", "tokenizers==0.22.2"]
PODMAN = ["podman", "--runtime", "runc"]
INIT = re.compile(r"INIT REPORT\(.*?durationMs: ([0-9.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One cold start, in milliseconds."""

    answer_ms: float
    """From the first request to its answer."""
    container_ms: float
    """From `podman run` to that answer, without the pause between."""
    init_ms: float
    """The emulator's own INIT: from its start of the process to the process's readiness for an event."""


def main() -> int:
    """Run the comparison and print its rows."""
    options = parser(__doc__).parse_args()
    here = place(options)
    starts: dict[str, list[Start]] = {}
    with scratch() as work, images(here, work) as (made, event):
        for number in range(options.runs + 1):
            for name, image in made.items():
                taken = first_answer(image, here.rie, event, ours=name == "mlpack")
                if number:
                    starts.setdefault(name, []).append(taken)
    answers = {name: [each.answer_ms for each in taken] for name, taken in starts.items()}
    rows = [
        timed("hello, first answer", answers["hello"], "ms"),
        timed("stock, first answer", answers["stock"], "ms"),
        timed("mlpack, first answer", answers["mlpack"], "ms"),
        ratio("mlpack / hello", answers["mlpack"], answers["hello"], at_most=2.0),
        ratio("stock / mlpack", answers["stock"], answers["mlpack"], at_least=3.0),
        timed("bare (no bytecode), first answer", answers["bare"], "ms"),
        ratio("bare / mlpack", answers["bare"], answers["mlpack"]),
    ]
    beside = [(name, starts[name]) for name in ("hello", "stock", "mlpack")]
    rows += [timed(f"{name}, of which the emulator's INIT", [each.init_ms for each in taken], "ms") for name, taken in beside]
    rows += [
        timed(f"{name}, container start to first answer", [each.container_ms for each in taken], "ms") for name, taken in beside
    ]
    return report("cold_start", rows, f"{options.runs} runs each, in turns; 1 CPU, {LAMBDA_MB} MB, page cache warm", options.out)


@contextmanager
def images(here: Place, work: Path) -> Iterator[tuple[dict[str, str], bytes]]:
    """The four images by name, and the request for all of them; removed afterwards."""
    here.build(MINILM, work / "out", "--only", "int8@lambda-image-*", "--keep", "all")
    (package,) = (work / "out/artifacts").iterdir()
    task = {name: work / name for name in ("hello", "stock", "bare")}
    install_wheels(task["hello"], ["awslambdaric"], here.python_version)
    install_wheels(task["stock"], ENGINE, here.python_version)
    (task["hello"] / "app.py").write_text(HELLO)
    (task["stock"] / "app.py").write_text(STOCK)
    for name in ("model_quantized.onnx", "tokenizer.json"):
        shutil.copyfile(stock_int8_minilm() / name, task["stock"] / name)
    shutil.copytree(task["stock"], task["bare"])
    for name in ("hello", "stock"):  # what pip does after it unpacked, with the interpreter that will run it
        compiled = [str(here.python), "-m", "compileall", "-q", "-s", str(task[name]), "-p", "/var/task", str(task[name])]
        run(compiled, accepted=(0, 1))  # 1: onnxruntime ships a template that is no Python; pip passes over it as well
    (work / "image").symlink_to(package / "image")  # podman would take the "@" of the candidate's id for a digest
    pulled: list[str] = []
    try:
        pulled.append(podman("pull", "--quiet", f"oci:{work / 'image'}"))
        pulled.append(imported(here.base))
        made = {"mlpack": pulled[0]}
        for name, folder in task.items():
            made[name] = wrapped(pulled[1], folder)
            pulled.append(made[name])
        yield made, (package / "event.json").read_bytes()
    finally:
        for image in reversed(pulled):
            podman("rmi", "--force", image)


def imported(base: Path) -> str:
    """The base as an image of one layer, without devices and what apt downloaded: as mlpack takes it."""
    left_out = [
        f"--exclude={path}"
        for path in ("./dev/*", "./proc/*", "./sys/*", "./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*")
    ]
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        run(["tar", "-C", str(base), *left_out, "-cf", archive.name, "."])
        return podman("import", "--quiet", archive.name)


def wrapped(base: str, task: Path) -> str:
    """The base with `task` at /var/task; file times are kept, so bytecode stays valid."""
    container = run(["buildah", "from", "--pull-never", base]).strip()
    try:
        mounted = run(["buildah", "mount", container]).strip()
        run(["mkdir", "-p", f"{mounted}/var/task"])
        run(["cp", "-a", f"{task}/.", f"{mounted}/var/task"])
        run(["chmod", "-R", "a+rX", f"{mounted}/var/task"])
        run(["buildah", "umount", container])
        run(["buildah", "config", "--workingdir", "/var/task", container])
        return run(["buildah", "commit", "--quiet", container]).strip()
    finally:
        run(["buildah", "rm", container])


def first_answer(image: str, rie: Path, event: bytes, *, ours: bool) -> Start:
    """Start the image under the emulator and time its first invocation."""
    command = ["/usr/bin/python3", "-m", "awslambdaric", "app.handler"]
    if ours:
        command = json.loads(podman("image", "inspect", image))[0]["Config"]["Entrypoint"]
    port, api = free_ports()
    name = f"mlpack-bench-{os.getpid()}-{port}"
    flags = ["--rm", "--name", name, "--network=host", "--read-only", "--tmpfs", "/tmp", "--log-driver=none"]
    flags += ["--memory", f"{LAMBDA_MB}m", "--cpus", "1", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
    flags += ["--env", f"AWS_LAMBDA_FUNCTION_MEMORY_SIZE={LAMBDA_MB}", "--env", "AWS_LAMBDA_FUNCTION_NAME=bench"]
    flags += ["--volume", f"{rie}:/rie:ro", "--entrypoint", "/rie", image]
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{api}"]
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        running = subprocess.Popen([*PODMAN, "run", *flags, *addresses, *command], stdout=log, stderr=subprocess.STDOUT)
        try:
            connection = connected(port)
            up = time.perf_counter()
            time.sleep(0.3)  # podman has its own work to finish, which is not the function's
            check_idle(name)
            asked = time.perf_counter()
            connection.request("POST", "/2015-03-31/functions/function/invocations", event)
            answer = json.loads(connection.getresponse().read())
            answered = time.perf_counter()
        finally:
            subprocess.run([*PODMAN, "kill", name], capture_output=True, check=False)
            running.wait()
        log.seek(0)
        said = log.read().decode(errors="replace")
    check_answer(answer, said)
    found = INIT.search(said)
    if found is None:
        raise SystemExit(f"the emulator reported no INIT:\n{said[-2000:]}")
    taken = answered - asked
    return Start(answer_ms=taken * 1e3, container_ms=(up - began + taken) * 1e3, init_ms=float(found[1]))


def check_idle(name: str) -> None:
    """The comparison would mean nothing if the function's process had been started before the request."""
    processes = podman("top", name, "hpid").split()[1:]
    if len(processes) != 1:
        raise SystemExit(f"{len(processes)} processes before the first request: this emulator starts the function earlier")


def check_answer(answer: Any, said: str) -> None:
    """An error is answered fast."""
    if not isinstance(answer, dict) or answer.get("statusCode") != 200 or not answer.get("body"):
        raise SystemExit(f"not an answer: {str(answer)[:500]}\n{said[-2000:]}")


def connected(port: int) -> http.client.HTTPConnection:
    """A connection to the emulator, as soon as it listens."""
    for _ in range(2000):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.connect()
        except OSError:
            time.sleep(0.005)
            continue
        return connection
    raise SystemExit("the emulator did not start listening")


def free_ports() -> tuple[int, int]:
    """Two ports that nothing listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def podman(*arguments: str) -> str:
    """What podman prints."""
    return run([*PODMAN, *arguments]).strip()


if __name__ == "__main__":
    sys.exit(main())
