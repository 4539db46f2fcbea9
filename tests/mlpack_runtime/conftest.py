"""Packages shared by this directory's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny_packages import affine, package, words

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of `affine`. Read only: tests that change it make their own."""
    return package(tmp_path_factory.mktemp("tiny"), affine)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of `words` with its tokenizer. Read only."""
    return package(tmp_path_factory.mktemp("texts"), words, tokenizer={"file": "tokenizer.json", "max_length": 6})
