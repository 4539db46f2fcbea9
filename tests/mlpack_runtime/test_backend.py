"""Backends behind their four functions: the one that runs everywhere, and how a package falls back."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlpack_runtime import backend
from mlpack_runtime.backend import BackendError
from mlpack_runtime.tensor import Tensor


@pytest.fixture
def package(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """The directory and the settings of a package that finds its engine."""
    monkeypatch.setenv("LAMBDA_TASK_ROOT", str(tiny))
    return str(tiny / "model"), json.loads((tiny / "model/model.json").read_text())


def feeds(rows: int) -> dict[str, Tensor]:
    return {
        "pixels": Tensor("FP32", (rows, 4), bytes(16 * rows)),
        "marks": Tensor("INT64", (rows,), struct.pack(f"<{rows}q", *range(rows))),
    }


def test_without_a_word_it_is_the_cpu_and_takes_every_size(package: tuple[str, dict[str, Any]]) -> None:
    opened = backend.open_backend(*package)
    assert (opened.kind, opened.device, opened.shapes().profiles) == ("cpu", "cpu", ())
    assert [port.name for port in opened.inputs] == ["pixels", "marks"]
    for rows in (1, 5):
        answer = opened.run(feeds(rows))
        assert answer["scores"].shape == (rows, 3)
        assert answer["count"].tolist() == sum(range(rows))
    opened.close()
    with pytest.raises(BackendError, match="closed"):
        opened.run(feeds(1))


@pytest.mark.parametrize("wrong", [{"pixels": Tensor("FP32", (1, 3), bytes(12))}, {"pixels": Tensor("INT64", (1, 4), bytes(32))}])
def test_a_wrong_call_is_the_callers(package: tuple[str, dict[str, Any]], wrong: dict[str, Tensor]) -> None:
    opened = backend.open_backend(*package)
    with pytest.raises(BackendError) as caught:
        opened.run({**feeds(1), **wrong})
    assert caught.value.sort == "input"
    opened.close()


def test_it_falls_back_only_to_what_the_package_allows(package: tuple[str, dict[str, Any]]) -> None:
    directory, settings = package
    said: list[str] = []
    opened = backend.open_backend(directory, {**settings, "backend": {"kind": "abacus", "fallback": ["cpu"]}}, said.append)
    opened.close()
    assert opened.kind == "cpu"
    assert "'abacus'" in said[0]
    with pytest.raises(BackendError, match="no backend 'abacus'") as caught:
        backend.open_backend(directory, {**settings, "backend": {"kind": "abacus"}})
    assert caught.value.sort == "package"


@pytest.mark.parametrize(("sort", "falls"), [("package", True), ("device", False), ("sticky", False), ("service", False)])
def test_it_does_not_fall_back_for_what_passes(
    sort: str, falls: bool, package: tuple[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"from mlpack_runtime.backend import BackendError\ndef load(*_):\n    raise BackendError('full', {sort!r})\n"
    (tmp_path / f"backend_{sort}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(backend.LOADERS, "other", f"backend_{sort}")
    directory, settings = package
    wanted = {**settings, "backend": {"kind": "other", "fallback": ["cpu"]}}
    if falls:
        opened = backend.open_backend(directory, wanted)
        assert opened.kind == "cpu"
        opened.close()
    else:
        with pytest.raises(BackendError, match="full"):
            backend.open_backend(directory, wanted)


def test_a_graph_that_is_missing_is_the_packages_fault(package: tuple[str, dict[str, Any]]) -> None:
    directory, settings = package
    with pytest.raises(BackendError) as caught:
        backend.open_backend(directory, {**settings, "graph": "other.onnx"})
    assert caught.value.sort == "package"


def test_a_loader_is_imported_without_the_package_importlib() -> None:
    """A tokenizer's thread imports that meanwhile, and of two who import it first one fails."""
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom mlpack_runtime import backend\nbackend._loader('cpu')"
    code += "\nassert 'mlpack_runtime.backends.cpu' in sys.modules; assert 'importlib' not in sys.modules"
    sources = Path(backend.__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
