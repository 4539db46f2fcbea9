"""S3, DynamoDB and events in this process, for the jobs that ask them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

REGION = "us-east-1"


@dataclass
class Around:
    """What a job works with: `clients` as a job is given them, and the bucket `work`."""

    made: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    def clients(self, service: str) -> Any:
        """boto3's."""
        import boto3

        if service not in self.made:
            self.made[service] = boto3.client(service, region_name=REGION)
        return self.made[service]

    def put(self, key: str, body: str | bytes) -> None:
        """An object of the bucket."""
        self.clients("s3").put_object(Bucket="work", Key=key, Body=body)

    def keys(self, prefix: str = "") -> list[str]:
        """Of the bucket's objects."""
        answer = self.clients("s3").list_objects_v2(Bucket="work", Prefix=prefix)
        return [one["Key"] for one in answer.get("Contents", ())]

    def text(self, key: str) -> str:
        """An object's."""
        return str(self.clients("s3").get_object(Bucket="work", Key=key)["Body"].read().decode())


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Iterator[Around]:
    """An account with nothing but an empty bucket."""
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        one = Around()
        one.clients("s3").create_bucket(Bucket="work")
        yield one
