"""What every fast test gets: no network beyond loopback, no home directory, no leftovers."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_socket

from mlpack.store import Store


def pytest_runtest_setup() -> None:
    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


@pytest.fixture(autouse=True)
def _no_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of the test's own: whatever is written there by mistake goes with it."""
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MLPACK_STORE", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(home / name.lower()))
    for name in ("MLPACK_REGISTRY", "CI", "GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in the test's own directory."""
    return Store(tmp_path / "store")
