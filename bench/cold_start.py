"""Cold start of the MiniLM int8 image against two others on the same base: a hello-world handler, and onnxruntime as pip leaves it.

What is timed is the first invocation under AWS's own emulator, in a container with the CPU and memory of the function: the emulator
starts the function's process when the first request comes, so the time holds interpreter, imports, loading and the first answer.
The three take turns. Figures: at most 2.5 times hello; at least 3 times faster than stock.

    hello    awslambdaric and a handler that returns a constant
    stock    awslambdaric, onnxruntime, tokenizers and numpy as `pip install --target` leaves them (bytecode valid), and a handler
             that loads the plain .onnx file with default options at import
"""

from __future__ import annotations

import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Row, built_minilm, machine_facts, parser, report

HELLO = "def handler(event, context):\n    return {'statusCode': 200, 'body': 'hello'}\n"
STOCK = """
import json
import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("/var/task/tokenizer.json")
session = ort.InferenceSession("/var/task/model.onnx")
names = {port.name for port in session.get_inputs()}


def handler(event, context):
    text = json.loads(event["body"])["text"]
    encoded = tokenizer.encode(text)
    feeds = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
    outputs = session.run(None, {k: np.array([v], dtype=np.int64) for k, v in feeds.items() if k in names})
    return {"statusCode": 200, "body": json.dumps(outputs[0].tolist())}
"""
EVENT = {
    "version": "2.0",
    "rawPath": "/",
    "requestContext": {"http": {"method": "POST", "path": "/"}},
    "headers": {},
    "body": '{"text": "a bank by the river"}',
}
MEMORY_MB = 1769


def main() -> int:
    """Run the comparison and print its rows."""
    options = parser(__doc__).parse_args()
    build = built_minilm(options, image=True)
    with tempfile.TemporaryDirectory(prefix="mlpack-bench-") as work:
        images = {
            "mlpack": podman("pull", "--quiet", f"oci:{build.image}"),
            "hello": wrapped(Path(work, "hello"), options.base, HELLO, ["awslambdaric"], build),
            "stock": wrapped(
                Path(work, "stock"), options.base, STOCK, ["awslambdaric", "onnxruntime==1.31.1", "numpy", "tokenizers"], build
            ),
        }
        samples: dict[str, list[float]] = {name: [] for name in images}
        for number in range(options.runs + 1):
            for name, image in images.items():
                taken = first_answer_ms(image, options.rie, stock=name != "mlpack")
                if number:  # the first round fills the page cache
                    samples[name].append(taken)
    middle = {name: statistics.median(taken) for name, taken in samples.items()}
    rows = [
        Row("cold start, hello handler, ms", middle["hello"], spread(samples["hello"])),
        Row("cold start, onnxruntime as pip leaves it, ms", middle["stock"], spread(samples["stock"])),
        Row("cold start, mlpack MiniLM int8, ms", middle["mlpack"], spread(samples["mlpack"])),
        Row("mlpack / hello", paired(samples["mlpack"], samples["hello"]), "median of pairs", at_most=2.5),
        Row("stock / mlpack", paired(samples["stock"], samples["mlpack"]), "median of pairs", at_least=3.0),
    ]
    return report("cold_start", rows, machine_facts(), f"{options.runs} runs each, in turns; 1 CPU, {MEMORY_MB} MB")


def wrapped(folder: Path, base: Path, handler: str, requirements: list[str], build: object) -> str:
    """An image of `base` with these requirements and this handler at /var/task; file times are kept, so bytecode stays valid."""
    task = folder / "task"
    task.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", task, *requirements], check=True)
    (task / "app.py").write_text(handler)
    if "onnxruntime" in handler:
        from common import Build

        assert isinstance(build, Build)
        for name in ("model.onnx", "tokenizer.json"):
            shutil.copyfile(build.plain / name, task / name)
    container = buildah("from", "scratch")
    try:
        mounted = buildah("mount", container)
        subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", mounted], check=True)
        subprocess.run(["mkdir", "-p", f"{mounted}/var/task"], check=True)
        subprocess.run(["cp", "-a", f"{task}/.", f"{mounted}/var/task"], check=True)
        buildah("umount", container)
        buildah("config", "--workingdir", "/var/task", container)
        return buildah("commit", "--quiet", container)
    finally:
        buildah("rm", container)


def first_answer_ms(image: str, rie: Path, *, stock: bool) -> float:
    """Start the image under the emulator and time its first invocation."""
    port, api = free_port(), free_port()
    if stock:
        command = ["/usr/bin/python3", "-m", "awslambdaric", "app.handler"]
    else:
        command = json.loads(podman("image", "inspect", image))[0]["Config"]["Entrypoint"]
    flags = ["--rm", "--network=host", "--read-only", "--tmpfs", "/tmp", "--memory", f"{MEMORY_MB}m", "--cpus", "1"]
    flags += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--log-driver=none"]
    flags += ["--env", f"AWS_LAMBDA_FUNCTION_MEMORY_SIZE={MEMORY_MB}", "--env", "AWS_LAMBDA_FUNCTION_NAME=bench"]
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{api}"]
    name = f"mlpack-bench-{port}"
    arguments = [
        "podman",
        "--runtime",
        "runc",
        "run",
        "--name",
        name,
        *flags,
        "--volume",
        f"{rie}:/rie:ro",
        "--entrypoint",
        "/rie",
        image,
    ]
    running = subprocess.Popen([*arguments, *addresses, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = connected(port)
        time.sleep(0.3)  # the emulator is up; let the container's own start-up settle, so that it is not timed
        began = time.perf_counter()
        connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(EVENT))
        answer = json.loads(connection.getresponse().read())
        taken = (time.perf_counter() - began) * 1e3
        if answer.get("statusCode") != 200:
            raise SystemExit(f"{image} answered {answer}")
        return taken
    finally:
        subprocess.run(["podman", "--runtime", "runc", "kill", name], capture_output=True, check=False)
        running.wait()


def connected(port: int) -> http.client.HTTPConnection:
    """A connection to the emulator, as soon as it listens."""
    for _ in range(400):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.connect()
        except OSError:
            time.sleep(0.025)
            continue
        return connection
    raise SystemExit("the emulator did not start listening")


def free_port() -> int:
    """A port that nothing listens on."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def podman(*arguments: str) -> str:
    """What podman prints."""
    done = subprocess.run(["podman", "--runtime", "runc", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def buildah(*arguments: str) -> str:
    """What buildah prints."""
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def paired(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios, run by run: a machine that drifts slows both of a pair."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def spread(samples: list[float]) -> str:
    """Smallest and largest of the samples."""
    return f"{min(samples):.0f} to {max(samples):.0f}, n={len(samples)}"


if __name__ == "__main__":
    sys.exit(main())
