"""A package with features, a cache and a log, and an AWS for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.around_services import ITEM, Packaged, create_tables
from tests.support.services.aws_server import REGION, AwsServer, aws, aws_server

from mlpack_runtime import model
from mlpack_runtime.around import prediction_log
from mlpack_runtime.service import open_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["aws", "aws_server"]


@pytest.fixture
def packaged(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, aws: AwsServer, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Packaged]]:
    """Makes services whose model.json has these settings around."""
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "nowhere")  # a function, whose log has no thread
    monkeypatch.setattr(prediction_log, "OPEN", {})
    monkeypatch.setattr(model, "ROOT", str(tiny))
    read, made = model.read_settings, []

    def make(**around: Any) -> Packaged:
        hooks = {name: around.pop(name) for name in ("preprocess", "postprocess") if name in around}
        monkeypatch.setattr(model, "read_settings", lambda place: {**read(place), "around": around, **hooks})
        prediction_log.OPEN.clear()
        made.append(Packaged(open_service(), capfd))
        return made[-1]

    yield make
    for one in made:
        assert one.service.around is not None
        one.service.around.close()
        if one.service.around.log is not None:
            one.service.around.log.close(1)


@pytest.fixture
def table(aws: AwsServer) -> Any:
    """A client of DynamoDB with the tables that the settings name; customer 7 is known."""
    dynamodb = aws.client("dynamodb")
    create_tables(dynamodb, ITEM)
    aws.clear_log()
    yield dynamodb
    dynamodb.close()
