from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from tests.support.deployments import section, service

from mlpack.deploy.descriptors import descriptors
from mlpack.deploy.service import Service
from mlpack.recipe.deploy.section import Endpoint, Worker

SCHEMAS = Path(__file__).with_name("schemas")
NAMES = {"container/cloudrun.yaml": "cloudrun", "container/containerapp.yaml": "containerapp"}
KEYS = {"api_keys": {"env": "API_KEYS"}}


def read(made: Service) -> dict[str, Any]:
    """Every descriptor as its platform reads it, valid by its schema."""
    files, left_out = descriptors(made)
    assert left_out == ()
    values = {NAMES[name]: YAML(typ="safe").load(StringIO(text)) for name, text in files.items()}
    for name, value in values.items():
        jsonschema.validate(value, json.loads((SCHEMAS / f"{name}.schema.json").read_text()))
    return values


def container(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The one that runs the model."""
    template = values[name]["spec"]["template"]["spec"] if name == "cloudrun" else values[name]["properties"]["template"]
    (one,) = template["containers"]
    return dict(one)


def test_a_container_has_both_descriptors() -> None:
    values = read(service("container"))
    assert container(values, "cloudrun")["resources"] == {"limits": {"cpu": "1", "memory": "2Gi"}}
    assert container(values, "containerapp")["resources"] == {"cpu": 1.0, "memory": "2Gi"}
    assert {container(values, name)["image"] for name in values} == {"HOST/NAME@sha256:" + "33" * 32}
    assert descriptors(service("container")) == descriptors(service("container"))


@pytest.mark.parametrize("kind", ["lambda-zip", "lambda-image", "worker"])
def test_what_is_no_container_has_none(kind: str) -> None:
    assert descriptors(service(kind)) == ({}, ())


def test_keys_come_from_secrets() -> None:
    values = read(service("container", authorize=KEYS))
    (run,) = (one for one in container(values, "cloudrun")["env"] if one["name"] == "API_KEYS")
    (app,) = (one for one in container(values, "containerapp")["env"] if one["name"] == "API_KEYS")
    assert run["valueFrom"]["secretKeyRef"]["name"] == app["secretRef"] == "api-keys"
    assert [one["name"] for one in values["containerapp"]["properties"]["configuration"]["secrets"]] == ["api-keys"]


@pytest.mark.parametrize(
    ("endpoint", "authorize", "external", "ingress"),
    [
        (Endpoint(kind="alb"), None, False, "all"),
        (Endpoint(kind="alb", auth="none", public=True), None, True, "all"),
        (Endpoint(kind="alb"), KEYS, True, "all"),
        (Endpoint(kind="alb", internal=True), KEYS, False, "internal"),
    ],
)
def test_nobody_is_let_in_who_is_not_asked(endpoint: Endpoint, authorize: Any, external: bool, ingress: str) -> None:
    values = read(service("container", deploy=section(endpoint=endpoint), authorize=authorize))
    assert values["containerapp"]["properties"]["configuration"]["ingress"]["external"] == external
    assert values["cloudrun"]["metadata"]["annotations"]["run.googleapis.com/ingress"] == ingress


@pytest.mark.parametrize("name", ["Fashion_1.0", "9-lives", "a" * 80, "ünïcode", "--x--"])
def test_names_and_tags_are_such_as_platforms_take(name: str) -> None:
    read(replace(service("container"), name=name, tags={"Service": name, "team": "A&B, C/D", "env": "PROD"}))


def test_what_a_platform_lacks_is_said() -> None:
    files, left_out = descriptors(service("container", architecture="arm64"))
    assert files == {}
    assert [text.partition(":")[0] for text in left_out] == list(NAMES)
    files, (why,) = descriptors(service("container", memory_mb=13_000))
    assert list(files) == ["container/cloudrun.yaml"]
    assert "13 GiB" in why


@settings(max_examples=20)
@given(
    memory_mb=st.integers(128, 7000),
    least=st.integers(0, 5),
    more=st.integers(0, 50),
    batch=st.integers(1, 4096),
    rate=st.floats(0.01, 1e6),
)
def test_any_size_is_valid_and_large_enough(memory_mb: int, least: int, more: int, batch: int, rate: float) -> None:
    deploy = section(endpoint=Endpoint(kind="alb"), worker=Worker(least=least, most=least + more or 1))
    made = service("container", deploy=deploy, memory_mb=memory_mb, max_batch=batch)
    values = read(replace(made, measured=replace(made.measured, throughput_per_s=rate)))
    run, app = container(values, "cloudrun")["resources"]["limits"], container(values, "containerapp")["resources"]
    assert int(run["memory"].removesuffix("Gi")) * 1024 >= memory_mb
    assert float(app["memory"].removesuffix("Gi")) * 1024 >= memory_mb
    assert float(app["memory"].removesuffix("Gi")) == 2 * app["cpu"]
    assert int(run["cpu"]) >= max(1, round(memory_mb / 1769))
