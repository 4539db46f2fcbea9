"""`serve.urls`: what a recipe may say, and what a package gets of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from mlpack.core.records import Signature
from mlpack.core.serving import Serve
from mlpack.errors import RecipeError
from mlpack.pipeline.packing.runtime_part import FUNCTION, SERVER, reachable, sources_dir
from mlpack.recipe import runtime_settings
from mlpack.recipe.serve_keys import ServeKeys
from mlpack.recipe.serve_urls import UrlKeys
from mlpack_runtime.fetching.policy import Policy

SIGNATURE = Signature(inputs=(), outputs=())


def keys(**more: Any) -> UrlKeys:
    import json

    return UrlKeys.model_validate_json(json.dumps({"hosts": ["a.example"], **more}))


def package(urls: UrlKeys | None, **serve: Any) -> Any:
    return SimpleNamespace(serve=Serve(**serve, urls=urls and urls.record()))


def test_defaults_reach_the_runtime() -> None:
    further = runtime_settings.settings(package(keys(), preprocess="a:b"), None, SIGNATURE)
    assert further == {
        "urls": {"hosts": ["a.example"], "max_bytes": 10 << 20, "timeout_s": 10.0, "redirects": 3, "schemes": ["https"]}
    }
    assert runtime_settings.modules(None, further) == ("fetching",)
    policy = Policy(further["urls"])
    assert (policy.max_bytes, policy.timeout_s, policy.redirects, policy.schemes) == (10 << 20, 10.0, 3, ("https",))


def test_a_package_carries_what_fetches_and_no_other_does() -> None:
    sources, further = sources_dir(), runtime_settings.settings(package(keys(), preprocess="a:b"), None, SIGNATURE)
    parts = {f"fetching{part}" for part in ("", ".download", ".network", ".policy")}
    assert parts <= reachable(sources, runtime_settings.modules(None, further))
    assert not parts & reachable(sources, (*FUNCTION, *SERVER))


def test_hosts_are_written_as_they_are_compared() -> None:
    read = keys(
        hosts=["Images.Example.ORG.", "*.bücher.example", "a.example:8443", "a_b.example"], timeout="500ms", max_bytes="2MB"
    )
    assert read.hosts == ("images.example.org", "*.xn--bcher-kva.example", "a.example:8443", "a_b.example")
    assert (read.record().timeout_ms, read.record().max_bytes) == (500.0, 2_000_000)
    policy = Policy({"hosts": list(read.hosts)})
    for url in ("https://images.example.org", "https://x.y.bücher.example/", "https://a.example:8443/", "https://a_b.example/"):
        assert policy.locate(url).target == "/"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("https://a.example", "no host"), ("a.example/x", "no host"), ("u@a.example", "no host"), ("a.example:0", "no host"),
        ("a.example:99999", "no host"), ("a.example:", "no host"), ("", "at least 1"), ("*", "no host"),
        ("*.com", "half of the internet"),
        ("a.*.example", "no host"), ("-a.example", "no host"), ("127.0.0.1", "an IP address"), ("10.0.0.1:8080", "an IP address"),
        ("2130706433", "an IP address"), ("0x7f.1", "an IP address"), ("[::1]", "no host"), ("::1", "no host"),
        ("localhost", "this machine"),
        ("x.localhost", "this machine"), ("a b", "no host"), (f"{'a' * 64}.example", "no host"), ("a..example", "no host"),
    ],
)  # fmt: skip
def test_other_hosts_are_told(host: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        keys(hosts=[host])


@pytest.mark.parametrize(
    "wrong",
    [{"hosts": []}, {"timeout": "0s"}, {"timeout": "1h"}, {"timeout": "301s"}, {"redirects": 11}, {"redirects": -1},
     {"max_bytes": 0}, {"schemes": ["ftp"]}, {"schemes": []}, {"private": True}, {"ports": [22]}],
)  # fmt: skip
def test_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        keys(**wrong)


def test_urls_that_nothing_reads_are_told() -> None:
    assert runtime_settings.settings(package(None), None, SIGNATURE) == {}
    for task in (None, {"name": "text-classification"}):
        with pytest.raises(RecipeError, match=r"serve.urls: nothing"):
            runtime_settings.settings(package(keys()), task, SIGNATURE)
    assert ServeKeys().urls is None
