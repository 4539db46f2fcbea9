"""Making a registry on AWS, broken off at each of its requests in turn."""

from __future__ import annotations

import botocore.session
import pytest
from tests.support.services.aws_server import AwsServer, Fault

from mlpack.errors import MlpackError
from mlpack.registry.infrastructure import setup

URL = "s3://models/team?table=mlpack-registry"


@pytest.mark.parametrize("after", [False, True])
def test_what_broke_off_is_gone_on_with(after: bool, aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Reading what boto3 knows of each service would take most of the time.
    session = botocore.session.get_session()
    monkeypatch.setattr(botocore.session, "get_session", lambda: session)
    made = setup.create(URL)
    requests, broken = len(aws.log()), 0
    for number in range(1, requests + 1):
        aws.reset()
        # Nothing that boto3 tries again after.
        aws.plan(Fault("error", after=after, number=number, status=400, code="Broken"))
        try:
            done = setup.create(URL)
        except MlpackError:
            broken += 1
            done = setup.create(URL)
        assert set(done) <= set(made)
        assert setup.create(URL, dry_run=True) == []
    print(f"{requests} requests, {broken} of them broken off for good")
    assert broken == requests - 1  # to abort the upload with which the bucket is asked is what may fail unseen
