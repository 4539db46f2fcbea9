"""Names of registries and of releases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.registry.places import put_releases
from tests.support.services.aws_server import AwsServer, Fault

from mlpack.core.digest import of_bytes
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import Key, Put
from mlpack.registry.aws import live
from mlpack.registry.images.images import Repositories
from mlpack.registry.places import in_use_on_aws, open_registry, with_images, with_images_of
from mlpack.registry.rows import rows
from mlpack.registry.rows.rows import Reference, parse_reference


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("minilm", Reference(name="minilm")),
        ("a-1@12", Reference(name="a-1", version=12)),
        ("minilm:prod", Reference(name="minilm", alias="prod")),
        ("a:prod-eu-1", Reference(name="a", alias="prod-eu-1")),
    ],
)
def test_references_are_read(said: str, meant: Reference) -> None:
    assert parse_reference(said) == meant
    assert str(meant) == said


@pytest.mark.parametrize(
    "said",
    ["", "@1", "a@", "a@0", "a@-1", "a@01", "a@1.5", "A", "a:", "a:Prod", "a:prod@1", "a@1:prod", "../a", "a@1\n", "a@9999999999"],
)
def test_references_that_are_none_are_refused(said: str) -> None:
    with pytest.raises(RecipeError, match="NAME@VERSION"):
        parse_reference(said)


@pytest.mark.parametrize("place", ["https://host/x", "gs://bucket/x", "file:///x"])
def test_other_places_are_refused(place: str) -> None:
    with pytest.raises(RecipeError, match="registries are directories, or s3://"):
        open_registry(place)


def test_a_directory_is_a_place(tmp_path: Path) -> None:
    assert open_registry(str(tmp_path / "registry")).place.where == str(tmp_path / "registry")
    assert not (tmp_path / "registry").exists()


def test_images_go_where_it_is_said(tmp_path: Path) -> None:
    opened = open_registry(str(tmp_path / "registry"))

    def prefix(given: str | None) -> str | None:
        images = with_images(opened, given, lambda _: None).images
        return images.prefix if isinstance(images, Repositories) else None

    assert prefix(None) is None
    assert prefix("host.example/team") == "host.example/team"
    opened.place.table.commit(Put(key=Key(rows.SETTINGS, "images"), head={"prefix": "host.example/created"}))
    assert prefix(None) == "host.example/created"
    assert prefix("host.example/team") == "host.example/team"


def test_images_are_fetched_from_where_they_were_pushed(tmp_path: Path) -> None:
    opened = open_registry(str(tmp_path / "registry"))
    (release,) = put_releases(opened.place, "minilm", 1)
    assert with_images_of(opened, release, lambda _: None).images is None
    pushed = replace(release, images={"int8": f"host.example:5000/team/minilm@{of_bytes(b'image')}"})
    images = with_images_of(opened, pushed, lambda _: None).images
    assert isinstance(images, Repositories)
    assert images.prefix == "host.example:5000/team"


@pytest.mark.slow
def test_what_is_live_is_asked_of_boto3_for_a_directory(aws: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.client("ecs").create_cluster(clusterName="production")
    task = [{"name": "c", "image": "host.example/minilm:v1", "memory": 100}]
    aws.client("ecs").register_task_definition(family="worker", containerDefinitions=task)
    aws.client("ecs").create_service(cluster="production", serviceName="worker", taskDefinition="worker", desiredCount=0)
    assert in_use_on_aws(str(tmp_path)) == {"host.example/minilm:v1": "ecs worker"}
    said = "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ecs:ListClusters on resource: *"
    for message, allowed in ((said, ["ecs:ListClusters"]), ("", list(live.ACTIONS))):
        aws.plan(Fault("error", service="ecs", status=400, code="AccessDeniedException", message=message))
        with pytest.raises(ServiceError, match=str(tmp_path)) as caught:
            in_use_on_aws(str(tmp_path))
        lines = str(caught.value).splitlines()[1:]
        assert [json.loads(line) for line in lines] == [{"Effect": "Allow", "Action": one, "Resource": "*"} for one in allowed]
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ServiceError, match="no region is set"):
        in_use_on_aws(str(tmp_path))


def test_what_is_live_is_asked_of_the_registrys_region(aws: AwsServer) -> None:
    assert in_use_on_aws("s3://models/team?region=eu-west-1") == {}
    aws.plan(Fault("error", service="ecs", status=400, code="AccessDeniedException"))
    with pytest.raises(ServiceError, match="ecs"):
        in_use_on_aws("s3://models/team?region=eu-west-1")
