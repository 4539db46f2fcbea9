"""Packages shared by this directory's tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.runtime.endpoints import Endpoint
from tests.support.runtime.tiny_packages import affine, package, words
from tests.support.runtime.workers import place

__all__ = ["place"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of `affine`. Read only: tests that change it make their own."""
    return package(tmp_path_factory.mktemp("tiny"), affine)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of `words` with its tokenizer. Read only."""
    return package(tmp_path_factory.mktemp("texts"), words, tokenizer={"file": "tokenizer.json", "max_length": 6})


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    """Makes endpoints that give these answers, one after the other."""
    made: list[Endpoint] = []

    def start(*answers: bytes | None) -> Endpoint:
        made.append(Endpoint(*answers))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The imitation of libcuda.so.1."""
    path = tmp_path_factory.mktemp("cuda") / "libcuda.so.1"
    source = Path(__file__).parents[1] / "support/runtime/fake_cuda.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(path), str(source)], check=True)
    return path
