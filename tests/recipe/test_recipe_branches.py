"""What a recipe's author is told of keys that may be written in several ways, of empty lists, and of bounds with units."""

from __future__ import annotations

from typing import Any

import pytest

from mlpack.recipe.schema import validated, wording
from mlpack.recipe.serve_keys import ServeKeys

TABLE = {"table": "t", "key": "k", "columns": ["a"]}


def told(written: dict[str, Any]) -> list[tuple[str, str]]:
    errors = validated(ServeKeys, written)
    assert isinstance(errors, list)
    return [(".".join(map(str, error["loc"])), wording(error, ServeKeys)) for error in errors]


@pytest.mark.parametrize(
    ("written", "place", "message"),
    [
        ({"image": {"size": "a"}}, "image.size", 'must be a whole number or a list, not "a"'),
        ({"image": {"size": 0}}, "image.size", "must be greater than or equal to 1, not 0"),
        ({"image": {"size": [0, 1]}}, "image.size.0", "must be greater than or equal to 1, not 0"),
        ({"image": {"size": [1]}}, "image.size.1", "is required"),
        ({"image": {"size": [1, 2, 3]}}, "image.size", "must have at most 2 entries, not 3"),
        ({"image": {"mean": []}}, "image.mean", "must not be empty"),
        ({"features": TABLE | {"key": 5}}, "features.key", "must be a string or a list, not 5"),
        ({"features": TABLE | {"columns": 5}}, "features.columns", "must be a list or a mapping, not 5"),
        ({"features": TABLE | {"columns": {"x": {}}}}, "features.columns.x", "must be a string or a list, not {}"),
        ({"features": TABLE | {"columns": {"x": []}}}, "features.columns.x", "must not be empty"),
        (
            {"features": TABLE | {"defaults": {"a": [1]}}},
            "features.defaults.a",
            "must be true or false, a number or a string, not [1]",
        ),
        ({"weights": {"from": "s3://b", "cache": ["/a"] * 9}}, "weights.cache", "must have at most 8 entries, not 9"),
        ({"urls": {"hosts": []}}, "urls.hosts", "must not be empty"),
        ({"tokenizer": ""}, "tokenizer", "must not be empty"),
        ({"features": TABLE | {"columns": {"": "a"}}}, "features.columns.", "must not be empty"),
        ({"sound": {"window": "1ms"}}, "sound.window", 'must be greater than or equal to 1000ms, not "1ms"'),
    ],
)
def test_one_mistake_is_one_sentence(written: dict[str, Any], place: str, message: str) -> None:
    assert told(written) == [(place, message)]


def test_a_wrong_entry_does_not_make_its_list_empty() -> None:
    ((place, message),) = told({"urls": {"hosts": ["10.0.0.1"]}})
    assert place == "urls.hosts.0"
    assert "is an IP address" in message
    assert [place for place, _ in told({"urls": {"hosts": ["10.0.0.1", "localhost", "a.example"]}})] == [
        "urls.hosts.0",
        "urls.hosts.1",
    ]


def test_a_key_may_be_called_as_a_branch() -> None:
    ((place, _),) = told({"features": TABLE | {"defaults": {"str": [1], "int": 3}}})
    assert place == "features.defaults.str"


def test_a_log_has_a_place_that_is_known() -> None:
    ((place, message),) = told({"log": {"to": "file:///var", "sample": 1}})
    assert (place, message.endswith("s3://BUCKET/PREFIX or firehose://STREAM is needed")) == ("log.to", True)
