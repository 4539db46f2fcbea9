"""SnapStart with AWS's own runtime client: one snapshot, of which two instances are made by a fork where the platform restores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.runtime.runtime_apis import Platform
from tests.support.runtime.tiny_packages import affine, package

if TYPE_CHECKING:
    from pathlib import Path

STOCK_CLIENT = "awslambdaric==4.2.2"
TWICE = """
import os
from awslambdaric import lambda_runtime_client as client
from awslambdaric.__main__ import main
restore = client.BaseLambdaRuntimeClient.restore_next

def twice(self):
    restore(self)
    if os.fork():
        os.wait()

asked = []
wait = client.LambdaRuntimeClient.wait_next_invocation

def once(self):
    if asked:
        os._exit(0)
    asked.append(1)
    return wait(self)

client.BaseLambdaRuntimeClient.restore_next = twice
client.LambdaRuntimeClient.wait_next_invocation = once
main(["bootstrap", "mlpack_runtime.handler.handler"])
"""


def test_two_instances_under_awss_own_client(tmp_path: Path) -> None:
    client = tmp_path / "client"
    install = ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(client), STOCK_CLIENT]
    subprocess.run([sys.executable, "-m", *install], check=True)
    root, platform = package(tmp_path / "tiny", affine), Platform(instances=2)
    env = {
        **os.environ,
        "PYTHONPATH": f"{root}:{client}",
        "LAMBDA_TASK_ROOT": str(root),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{platform.server.server_address[1]}",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
    }
    try:
        done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=False, env=env, timeout=120)
    finally:
        platform.server.shutdown()
        platform.server.server_close()
    answers = [json.loads(body) for method, path, _, body in platform.asked if path.endswith("/response")]
    assert platform.paths.count("GET /restore/next") == 1, done.stderr
    assert [answer["outputs"][1]["data"] for answer in answers] == [[2], [2]], done.stderr
    assert answers[0]["parameters"]["trace_id"] != answers[1]["parameters"]["trace_id"]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    starts = [line for line in lines if "stages_ms" in line]
    assert [[stage for stage in line["stages_ms"] if stage.startswith("load_")] for line in starts] == [["load_restore"]] * 2
