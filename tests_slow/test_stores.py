"""Everything that writes once, at rclone's S3, which takes `If-None-Match: *` and overwrites; rows and queues are moto's."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.builds import build
from tests.support.runtime.tiny_packages import package, words
from tests.support.runtime.workers import Place, Process, add_botocore, place, until
from tests.support.services.aws_server import REGION, AwsServer
from tools import parts

from mlpack.errors import ServiceError
from mlpack.registry.infrastructure import setup
from mlpack.registry.places import open_registry
from mlpack.registry.upkeep import care
from mlpack.store import conditional
from mlpack.store.shared_objects import Bucket
from mlpack_runtime.aws import promises
from mlpack_runtime.door import tickets as frontdoor_tickets
from mlpack_runtime.tensorrt.engine_store import Shelf

__all__ = ["place"]

KEY, SECRET = "ACCESSKEY", "SECRETSECRET"
URL = "s3://models/team?table=mlpack-registry"


class Rclone:
    """`rclone serve s3` before an empty directory. `environment` points S3 there, for whom the rest points elsewhere."""

    def __init__(self, root: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.root, self.endpoint = root, f"http://{address}"
        command = [parts.rclone(), "serve", "s3", "--config", "/dev/null", "--auth-key", f"{KEY},{SECRET}", "--addr", address, root]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", int(address.partition(":")[2])), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        pytest.fail("rclone did not come up within 60 s")

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_S3": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

    def client(self) -> Any:
        import boto3

        known = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        return boto3.session.Session().client("s3", region_name=REGION, endpoint_url=self.endpoint, **known)


@pytest.fixture
def rclone(tmp_path: Path, aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rclone]:
    """One that this test's S3 is; buckets models and results."""
    root = tmp_path / "rclone"
    for bucket in ("models", "results"):
        (root / bucket).mkdir(parents=True)
    made = Rclone(root)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.process.kill()
    made.process.wait()


def files(rclone: Rclone, bucket: str) -> list[str]:
    return sorted(path.relative_to(rclone.root / bucket).as_posix() for path in (rclone.root / bucket).rglob("*") if path.is_file())


@pytest.mark.parametrize("there", [True, False])
def test_no_registry_is_made_there(rclone: Rclone, aws: AwsServer, there: bool) -> None:
    if not there:
        (rclone.root / "models").rmdir()
    mlpack = Path(sys.executable).with_name("mlpack")
    done = subprocess.run([mlpack, "registry", "create", URL], capture_output=True, text=True, check=False)
    said = done.stderr
    assert done.returncode == 4, said
    assert f"the bucket at {rclone.endpoint}: this store does not keep what a registry needs" in said
    assert "overwrites what is there" in said
    assert files(rclone, "models") == [f"team/blobs/{conditional.NAME}"]
    assert aws.client("dynamodb").list_tables()["TableNames"] == []


def test_nothing_is_published_there_and_verify_says_why(
    rclone: Rclone, aws: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, out = aws.make_place(), build(tmp_path / "out")
    with pytest.raises(ServiceError, match="this store does not keep what a registry needs"):
        open_registry(url).publish(out)
    assert files(rclone, "models") == [f"team/blobs/{conditional.NAME}"]
    with monkeypatch.context() as at_moto:  # published where S3 is as it should be, then moved
        at_moto.delenv("AWS_ENDPOINT_URL_S3")
        open_registry(url).publish(out)
        assert care.verify(open_registry(url)).findings == ()
    source, target = aws.client("s3"), rclone.client()
    for row in source.list_objects_v2(Bucket="models")["Contents"]:
        target.put_object(Bucket="models", Key=row["Key"], Body=source.get_object(Bucket="models", Key=row["Key"])["Body"].read())
    registry = open_registry(url)
    (found,) = care.verify(registry).findings
    assert (found.what, found.where) == ("store", f"{url}: the bucket at {rclone.endpoint}")
    registry.pull(next(registry.releases("minilm")), tmp_path / "pulled")
    assert (tmp_path / "pulled/build.json").read_bytes() == (out / "build.json").read_bytes()


def test_where_conditions_are_kept_all_of_it_goes_on(aws: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto, asked as any other store."""
    monkeypatch.setattr(conditional, "_kept", set())
    setup.create(URL)
    registry = open_registry(URL)
    registry.publish(build(tmp_path / "out"))
    report = care.verify(registry)
    assert (report.findings, report.unasked) == ((), ())
    assert [doubt() for doubt in registry.place.doubts] == [None, None]


def test_the_shared_cache_says_what_is_lost_and_works(rclone: Rclone, tmp_path: Path) -> None:
    said: list[str] = []
    cache = Bucket("models", "team", overwrites=said.append)
    (tmp_path / "entry").write_text("entry")
    for name in ("one", "two"):
        assert cache.write(f"cache/v1/{name}", tmp_path / "entry", None, time.monotonic() + 60)
    with cache.open("cache/v1/two") as found:
        assert found is not None
        assert found.read(10) == b"entry"
    assert len(said) == 1
    assert "overwrites what is there" in said[0]


def test_engines_and_tickets_are_told_of_it(rclone: Rclone) -> None:
    said: list[str] = []
    shelf = Shelf("s3://models/engines")
    shelf.look_out(said.append)
    assert len(said) == 1
    tickets = frontdoor_tickets.open_results("s3://results/answers")
    with pytest.raises(promises.PromiseError, match="one result would answer both"):
        frontdoor_tickets.assure(tickets, "tiny", "s3://results/answers", said.append, unconditional=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = package(tmp_path_factory.mktemp("stores") / "package", words, tokenizer={"file": "tokenizer.json", "max_length": 8})
    return add_botocore(made)


def test_a_worker_ends_with_4_there_unless_it_was_agreed_to(root: Path, place: Place, rclone: Rclone) -> None:
    environment = {name: value for name, value in place.aws.environment.items() if name != "AWS_SESSION_TOKEN"} | rclone.environment
    told = {"queue_url": place.url, "results": "s3://results/answers", "poll_s": 1}
    refused = Process(root, environment, **told)
    assert refused.process.wait(60) == 4
    assert refused.end() == 4
    (line,) = refused.said("the worker cannot start: s3://results/answers: this store does not keep conditional writes")
    assert line["level"] == "CRITICAL"
    assert "MLPACK_RESULTS_UNCONDITIONAL=1" in line["message"]

    worker = Process(root, environment, **told, results_unconditional=1).ready()
    (line,) = worker.said("s3://results/answers: this store does not keep conditional writes")
    assert line["level"] == "WARNING"
    place.send({"text": "a cat"}, request_id="one")
    until(lambda: files(rclone, "results")[1:], "a result")
    assert worker.end() == 0
    assert files(rclone, "results") == [f"answers/tiny/{promises.NAME}", "answers/tiny/one.json"]
