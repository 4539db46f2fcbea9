"""The CUDA provider up to the seam: this machine has no GPU, and the engine says so in its own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlpack_runtime import backend
from mlpack_runtime.backend import BackendError
from mlpack_runtime.backends.cuda import CudaBackend
from mlpack_runtime.ort import INVALID_ARGUMENT
from mlpack_runtime.tensor import Tensor


@pytest.fixture
def package(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    monkeypatch.setenv("LAMBDA_TASK_ROOT", str(tiny))
    return str(tiny / "model"), json.loads((tiny / "model/model.json").read_text())


def test_without_provider_package_is_told_in_the_engines_words(package: tuple[str, dict[str, Any]]) -> None:
    directory, settings = package
    said = "CUDA provider cannot be used: CUDA execution provider is not enabled in this build"
    with pytest.raises(BackendError, match=said) as caught:
        backend.open_backend(directory, {**settings, "backend": {"kind": "cuda"}})
    assert caught.value.sort == "package"


def test_it_falls_back_to_processor_where_the_package_allows(package: tuple[str, dict[str, Any]]) -> None:
    directory, settings = package
    said: list[str] = []
    opened = backend.open_backend(directory, {**settings, "backend": {"kind": "cuda", "fallback": ["cpu"]}}, said.append)
    assert opened.kind == "cpu"
    assert "not enabled in this build" in said[0]
    feeds = {"pixels": Tensor("FP32", (1, 4), bytes(16)), "marks": Tensor("INT64", (1,), bytes(8))}
    assert opened.run(feeds)["scores"].shape == (1, 3)
    opened.close()


@pytest.mark.parametrize(
    ("message", "code", "sort"),
    [
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=h ; file=f ; line=1", 1, "sticky"),
        ("Non-zero status code. CUDA error 719: unspecified launch failure", 1, "sticky"),
        ("CUDA failure 2: out of memory ; GPU=0 ; hostname=h", 1, "device"),
        ("Failed to allocate memory for requested buffer of size 1", 6, "device"),
        ("Non-zero status code returned while running Conv node. CUDNN failure 3: CUDNN_STATUS_BAD_PARAM", 1, "device"),
        ("Non-zero status code returned while running Reshape node. The input tensor cannot be reshaped", 1, "input"),
        ("Got invalid dimensions for input: pixels", INVALID_ARGUMENT, "input"),
    ],
)
def test_what_an_error_means_is_read_from_cudas_number(message: str, code: int, sort: str) -> None:
    assert CudaBackend.sort_of(message, code) == sort
