"""AWS on loopback: moto in a process of its own, with a log of its requests and faults on demand.

server = AwsServer().start()             its `environment` points boto3 at it
server.plan(Fault("close", after=True, service="dynamodb", operation="PutItem", number=2))
server.log()                             every request since the last `reset` or `clear_log`
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.services.aws_moto import ACCOUNT, Fault, Request

from mlpack.store import conditional

__all__ = ["ACCOUNT", "REGION", "AwsServer", "Fault", "Request", "aws", "aws_server"]

REGION = "eu-central-1"
ROOT = Path(__file__).resolve().parents[3]


class AwsServer:
    """One server. Cheap to reset, 2 s to start: one for a whole test session. What is larger than `in_memory_bytes` lies in
    temporary files."""

    def __init__(self, in_memory_bytes: int = 16 << 20) -> None:
        self._in_memory_bytes = in_memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""

    def start(self) -> AwsServer:
        """Start it; itself."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MOTO_"))}
        # Uploads in small parts, for tests: AWS wants 5 MiB.
        more = {"S3_UPLOAD_PART_MIN_SIZE": "65536", "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(self._in_memory_bytes)}
        more["MOTO_DISABLE_GLOBAL_CORS"] = "true"  # no browser comes, and its headers are a twentieth of an answer's time
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "tests.support.services.aws_moto"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean | more | {"PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        assert port.isdigit(), "the server did not start"
        self.endpoint = f"http://127.0.0.1:{int(port)}"
        # What it keeps is known, and need not be asked in each test that counts requests (`tests.stores` has those that ask).
        for what in ("conditional writes", "conditional writes in parts", "conditions of a table"):
            conditional.remember(self.endpoint, what)
        return self

    def peak_mb(self) -> float:
        """The most memory that it has taken so far."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    @property
    def environment(self) -> dict[str, str]:
        """What makes boto3 come here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_SESSION_TOKEN": "token",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """A boto3 client of it, whatever the environment says."""
        import boto3

        known = self.environment
        return boto3.session.Session().client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=known["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=known["AWS_SECRET_ACCESS_KEY"],
        )

    def make_place(self, bucket: str = "models", table: str = "mlpack-registry", prefix: str = "team") -> str:
        """A bucket and a table, as bare as a registry can use them; the registry's name."""
        s3, dynamodb = self.client("s3"), self.client("dynamodb")
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        dynamodb.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        s3.close()
        dynamodb.close()
        self.clear_log()
        return f"s3://{bucket}/{prefix}?table={table}"

    def reset(self) -> None:
        """Empty, without faults, without a log, without IAM; what hangs is let go."""
        self._ask("POST", "/__reset__")

    def plan(self, *faults: Fault) -> None:
        """These faults from now on, instead of those before; their numbers count from here."""
        self._ask("POST", "/__plan__", [dataclasses.asdict(fault) for fault in faults])

    def log(self, service: str | None = None) -> list[Request]:
        """The requests that ended, in the order in which they arrived."""
        found = [Request(**one) for one in self._ask("GET", "/__log__")]
        return [one for one in found if service in (None, one.service)]

    def clear_log(self) -> None:
        """Forget the requests so far; numbers start from 1."""
        self._ask("DELETE", "/__log__")

    def enforce_iam(self, enforced: bool = True) -> None:
        """Whether signatures and IAM policies are checked: make users and policies before. `reset` ends it."""
        self._ask("POST", "/__iam__", enforced)

    def _ask(self, method: str, path: str, value: object = None) -> Any:
        data = json.dumps(value).encode() if value is not None else None
        request = urllib.request.Request(self.endpoint + path, method=method, data=data)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as response:
            return json.loads(response.read())


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AwsServer]:
    """The server of this test session (of this worker of it)."""
    from botocore import loaders

    # Every session parses 1 MB of descriptions of AWS anew, 0.2 s of each client: here all share what the first has read.
    loader = loaders.create_loader()
    server = AwsServer().start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaders, "create_loader", lambda _search_path=None: loader)
        yield server
    server.stop()


@pytest.fixture
def aws(aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsServer]:
    """An empty AWS, to which this test's environment points."""
    aws_server.reset()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in aws_server.environment.items():
        monkeypatch.setenv(name, value)
    yield aws_server
    aws_server.plan()
