"""What every fast test gets: no network beyond loopback, no home directory, no leftovers."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_socket
from tests.support import workshop as workshop_
from tests.support.services.aws_server import aws, aws_server
from tests.support.services.fake_stores import stores, stores_server
from tests.support.workshop import Workshop

from mlpack.store.local import Store
from mlpack_runtime.backend import BackendError
from mlpack_runtime.backends.cuda_driver import Cuda

__all__ = ["aws", "aws_server", "stores", "stores_server"]

# Threads that outlive a test and its environment are to find no credentials, and to ask no link-local address for them.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

# Without a deadline: an example that is slow is so because the machine is, which says nothing about the code.
hypothesis.settings.register_profile("usual", deadline=None)
hypothesis.settings.load_profile("usual")
# `make soak`. Tests that state a count of their own state it as a share of the profile's, so that they grow with it.
hypothesis.settings.register_profile("soak", max_examples=2_000, deadline=None, print_blob=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need a GPU are left out where there is none, and pytest says how many."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_gpu():
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in marked]


def _has_gpu() -> bool:
    try:
        cuda = Cuda()
    except BackendError:
        return False
    cuda.close()
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    # JSON that is nested 100,000 times is read until Python's stack ends. Where the collector runs right there, finalizers of what
    # earlier tests left behind have no stack either, and that is no fault of this test: they run now.
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    if any(isinstance(value, str | bytes) and len(value) >= 5_000 for value in parameters):
        gc.collect()
    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Names for the homes of tests: a folder for each of 9,000, of which few write there, would take a tenth of their time."""
    folder = tmp_path_factory.mktemp("homes")
    return (f"{folder}/{number}" for number in itertools.count())


@pytest.fixture(autouse=True)
def _no_home(homes: Iterator[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of the test's own: whatever is written there by mistake goes with it."""
    home = next(homes)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MLPACK_STORE", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, f"{home}-{name.lower()}")
    # uv would look for, and fetch, other Pythons: fast tests take the ones that are here.
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    for name in ("MLPACK_REGISTRY", "MLPACK_CACHE", "MLPACK_STORE_MAX", "CI", "GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in the test's own directory."""
    return Store(tmp_path / "store")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A small project of the test's own, ready to build."""
    return workshop_.make(tmp_path / "project")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A project that was built once, into `out`. Read only: tests that change it make their own."""
    made = workshop_.make(tmp_path_factory.mktemp("built") / "project")
    made.build()
    return made
