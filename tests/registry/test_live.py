"""What runs in an account, as far as moto knows of it."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from tests.support.services.aws_server import ACCOUNT, REGION, AwsServer

from mlpack.core import digest
from mlpack.registry.aws.live import live_in_aws

pytestmark = pytest.mark.slow

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


class Session:
    """boto3's, of the server."""

    def __init__(self, server: AwsServer) -> None:
        self.client = server.client


def role(server: AwsServer) -> str:
    client = server.client("iam")
    trust = {"Version": "2012-10-17", "Statement": []}  # type: ignore[var-annotated]
    return client.create_role(RoleName="runs", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]  # type: ignore[no-any-return]


def zipped(content: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("handler.py", content)
    return made.getvalue()


def create(client: Any, arn: str, name: str, code: dict[str, Any]) -> None:
    how: dict[str, Any] = {"PackageType": "Image"} if "ImageUri" in code else {"Runtime": "python3.13", "Handler": "handler.f"}
    client.create_function(FunctionName=name, Role=arn, Code=code, Architectures=["x86_64"], **how)


def test_an_empty_account_uses_nothing(aws: AwsServer) -> None:
    assert live_in_aws(Session(aws)) == {}


def test_every_version_of_a_zip_is_in_use(aws: AwsServer) -> None:
    client, arn = aws.client("lambda"), role(aws)
    first, second = zipped("first"), zipped("second")
    create(client, arn, "ranking", {"ZipFile": first})
    client.publish_version(FunctionName="ranking")
    client.update_function_code(FunctionName="ranking", ZipFile=second)
    expected = {str(digest.of_bytes(first)): "lambda ranking:1", str(digest.of_bytes(second)): "lambda ranking:$LATEST"}
    assert live_in_aws(Session(aws)) == expected


def test_images_of_functions_are_in_use(aws: AwsServer) -> None:
    ecr, client, arn = aws.client("ecr"), aws.client("lambda"), role(aws)
    ecr.create_repository(repositoryName="minilm")
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": {"digest": f"sha256:{'0' * 64}"}, "layers": []})
    ecr.put_image(repositoryName="minilm", imageManifest=manifest, imageTag="v1")
    create(client, arn, "by-tag", {"ImageUri": f"{HOST}/minilm:v1"})
    resolved = client.get_function(FunctionName="by-tag")["Code"]["ResolvedImageUri"]  # moto makes up the digest
    assert resolved.startswith(f"{HOST}/minilm@sha256:")
    assert live_in_aws(Session(aws)) == {resolved: "lambda by-tag:$LATEST"}


def test_what_services_and_tasks_run_is_in_use(aws: AwsServer) -> None:
    client = aws.client("ecs")
    client.create_cluster(clusterName="production")

    def definition(family: str, *images: str) -> None:
        containers = [{"name": f"c{i}", "image": image, "memory": 100} for i, image in enumerate(images)]
        client.register_task_definition(family=family, containerDefinitions=containers)

    by_digest = f"{HOST}/minilm@sha256:{'1' * 64}"
    definition("worker", by_digest, f"{HOST}/sidecar:v3")
    definition("unused", f"{HOST}/minilm@sha256:{'2' * 64}")
    for number in range(11):
        client.create_service(cluster="production", serviceName=f"worker-{number}", taskDefinition="worker", desiredCount=0)
    found = live_in_aws(Session(aws))
    assert set(found) == {by_digest, f"{HOST}/sidecar:v3"}
    assert all(who.startswith("ecs worker-") for who in found.values())
