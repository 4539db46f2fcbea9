"""Every row of the table, held to the contract of `target_harness`; and the row of docs/extending.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support import plugin_distributions, small_packages
from tests.support.target_harness import contents, hold

from mlpack.errors import LimitError, PluginError
from mlpack.targets import TARGETS, Container, CpuWorker, GpuWorker, LambdaImage, LambdaZip

CASES: list[tuple[str, Any]] = [
    ("lambda-zip", LambdaZip()),
    ("lambda-zip", LambdaZip(arch="arm64", layer=True)),
    ("lambda-image", LambdaImage()),
    ("cpu-worker", CpuWorker(max_batch=4)),
    ("container", Container(concurrency=4)),
    ("gpu-worker", GpuWorker()),
    ("gpu-worker", GpuWorker(runtime="lean", fallback=("cpu",))),
]


@pytest.mark.parametrize(("name", "config"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_target_keeps_its_contract(name: str, config: Any, tmp_path: Path) -> None:
    more = {}
    if TARGETS[name].needs_base:
        more = {"base": small_packages.base(tmp_path / "rootfs", tmp_path / "cache", config.arch), "cache_dir": tmp_path / "cache"}
    hold(TARGETS[name], config, tmp_path / "held", **more)


def test_every_target_is_held_to_it() -> None:
    assert {name for name, _ in CASES} == set(TARGETS.own)


def test_target_of_a_plugin_keeps_it_and_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin_distributions.install_example(monkeypatch, tmp_path / "site")
    row = TARGETS["acme-function"]
    package = hold(row, row.config(), tmp_path / "held")
    assert [path.name for path in package.iterdir()] == ["function.tar"]
    large = contents(tmp_path / "large")
    with (large.model / "model/model.onnx").open("r+b") as file:
        file.truncate(100_000_001)
    (tmp_path / "out").mkdir()
    with pytest.raises(LimitError, match="files of a function: 100,012,0"):
        row.write(large, row.config(), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(PluginError, match=r"acme_function\.write of acme-mlpack 1\.2 failed: AttributeError"):
        row.write(None, row.config(), tmp_path / "out")  # type: ignore[arg-type]
