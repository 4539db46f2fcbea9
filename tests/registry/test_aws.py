"""Addresses of registries on AWS, and the clients that are made for them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.support.services.aws_server import AwsServer, Fault

from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import Key
from mlpack.registry.aws.clients import Address, Clients, Timeouts
from mlpack.registry.aws.opening import TABLE, open_registry, parse


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("s3://models", Address(bucket="models", prefix="", table=TABLE)),
        ("s3://models/", Address(bucket="models", prefix="", table=TABLE)),
        ("s3://my.models-1/team/a?table=T_1.x", Address(bucket="my.models-1", prefix="team/a", table="T_1.x")),
        ("s3://models/team/?region=eu-west-1", Address(bucket="models", prefix="team", table=TABLE, region="eu-west-1")),
        (
            "s3://models/team?table=rel&region=us-gov-east-1",
            Address(bucket="models", prefix="team", table="rel", region="us-gov-east-1"),
        ),
    ],
)
def test_addresses_are_read(said: str, meant: Address) -> None:
    assert parse(said) == meant
    assert parse(str(meant)) == meant
    assert open_registry(said).place.where == str(meant)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("s3://", "'' is not the name of a bucket"),
        ("s3:models", "is not the name of a bucket|does not begin with s3://"),
        ("s3://Models/x", "'Models' is not the name of a bucket"),
        ("s3://a_b/x", "is not the name of a bucket"),
        ("s3://models?table=", "is not table=NAME|is not the name of a table"),
        ("s3://models?table=a b", "'a b' is not the name of a table"),
        ("s3://models?tabel=abc", "'tabel' is not known"),
        ("s3://models?nothing", "'nothing' is not table=NAME"),
        ("s3://models?region=here", "'here' is not the name of a region"),
        ("s3://models/a//b", "is not a prefix"),
        ("s3://models/../b", "is not a prefix"),
        ("s3://models/a b", "is not a prefix"),
    ],
)
def test_what_is_no_address_is_refused(said: str, why: str) -> None:
    with pytest.raises(RecipeError, match=why) as caught:
        open_registry(said)
    assert "write s3://bucket/prefix?table=NAME" in str(caught.value)


def test_opening_asks_nothing(aws: AwsServer) -> None:
    where = aws.make_place()
    open_registry(where).place.table.close()
    assert aws.log() == []


def test_the_region_of_the_address_is_asked(aws: AwsServer) -> None:
    place = open_registry("s3://models/team?region=us-west-2").place
    with pytest.raises(ServiceError, match="arn:aws:dynamodb:us-west-2:"):
        place.table.get(Key("p", "a"))
    place.table.close()


@pytest.mark.slow
def test_threads_share_one_client(aws: AwsServer) -> None:
    clients = Clients(parse(aws.make_place()), Timeouts())
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(clients.get("s3"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert clients.partition == "aws"
    clients.close()


@pytest.mark.parametrize(("variable", "asked"), [(None, 3), ("5", 5)])
def test_how_often_is_asked_is_what_the_environment_says(
    aws: AwsServer, monkeypatch: pytest.MonkeyPatch, variable: str | None, asked: int
) -> None:
    if variable:
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", variable)
    place = open_registry(aws.make_place(), patience=Timeouts(tries=3)).place
    aws.plan(Fault("error", status=503, onward=True))
    with pytest.raises(ServiceError, match=f"failed {asked} times"):
        place.table.get(Key("p", "a"))
    place.table.close()


def test_without_boto3_it_is_said_what_to_install(tmp_path: Path) -> None:
    """In an interpreter that has no botocore; and until such a registry is asked for, nobody looks for it."""
    (tmp_path / "botocore").mkdir()
    (tmp_path / "botocore/__init__.py").write_text("raise ImportError('not installed')")
    code = (
        "import mlpack.cli, mlpack.registry.aws.opening as a\n"
        "a.parse('s3://models')\n"
        "from mlpack.errors import RecipeError\n"
        "try: a.open_registry('s3://models')\n"
        "except RecipeError as error: print(error)\n"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    environment = {"PYTHONPATH": f"{tmp_path}:{source}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "need boto3: pip install 'mlpack-build[aws]'" in done.stdout
