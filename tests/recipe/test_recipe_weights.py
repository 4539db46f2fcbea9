"""`serve.weights`: what a recipe may say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from mlpack.core.serving import OutsideWeights
from mlpack.recipe.serve_keys import ServeKeys


def read(**weights: Any) -> OutsideWeights:
    keys = ServeKeys.model_validate_json(json.dumps({"weights": weights}), strict=True)
    assert keys.weights is not None
    return keys.weights.record()


def test_what_is_left_out_has_defaults() -> None:
    assert read(**{"from": "s3://bucket/prefix/"}) == OutsideWeights(source="s3://bucket/prefix", cache=("/tmp",), always=True)


def test_every_key() -> None:
    given = {"from": "https://d1.cloudfront.net/w", "cache": ["/mnt/efs/", "memory"], "cache_size": "2GiB", "when": "too-large"}
    assert read(**given) == OutsideWeights(
        source="https://d1.cloudfront.net/w", cache=("/mnt/efs", "memory"), cache_mb=2048, always=False
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"from": "bucket/prefix"}, "is no address"),
        ({"from": "http://host/prefix"}, "is no address"),
        ({"from": "s3://"}, "is no address"),
        ({"from": "s3://bucket/a b"}, "is no address"),
        ({"from": "https://host/x?X-Amz-Signature=abc"}, "does not belong in a recipe"),
        ({"from": "https://user:secret@host/x"}, "does not belong in a recipe"),
        ({"cache": []}, "at least 1"),
        ({"cache": ["tmp"]}, "is no absolute path"),
        ({"cache": ["/a:/b"]}, "is no absolute path"),
        ({"cache": ["/tmp/../etc"]}, "is no absolute path"),
        ({"when": "never"}, "'always' or 'too-large'"),
        ({"source": "s3://bucket"}, "Extra inputs|Unexpected|extra"),
    ],
)
def test_what_is_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as caught:
        read(**{"from": "s3://bucket/prefix", **more})
    assert "secret" not in str(caught.value.errors()[0]["msg"])
