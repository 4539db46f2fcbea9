"""An image that serves HTTP: what its config says, and what a platform reads of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import small_packages
from tests.support.small_packages import HERE
from tests.support.target_harness import contents

from mlpack.errors import RecipeError
from mlpack.oci import image, layout
from mlpack.targets import Container, container


def test_image_is_started_by_serve_at_the_platforms_port(tmp_path: Path) -> None:
    more = {"base": small_packages.base(tmp_path / "rootfs", tmp_path / "cache", HERE), "cache_dir": tmp_path / "cache"}
    (tmp_path / "out").mkdir()
    container.write(contents(tmp_path / "in", **more), Container(arch=HERE, port=9000), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["image"]
    made = layout.read(tmp_path / "out/image")
    settings = image.config(made)["config"]
    assert settings["Entrypoint"][1:] == ["-I", "-S", "/var/task/bootstrap.py", "serve"]
    assert settings["User"] == "65532:65532"
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["ExposedPorts"] == {"9000/tcp": {}}
    assert settings["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert settings["Labels"]["io.mlpack.health.ready"] == "http://:9000/v2/health/ready"
    assert not [line for line in settings["Env"] if "PORT" in line.partition("=")[0]]
    assert image.validate(made) == []


def test_model_is_told_how_to_serve() -> None:
    told = container.settings(Container(port=9000, concurrency=16, lame_duck_s=8, max_batch=4))
    assert told["backend"] == {"kind": "cpu", "fallback": []}
    assert told["worker"] == {"max_batch": 4, "max_wait_ms": 5.0, "port": 9000, "concurrency": 16, "lame_duck_s": 8}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"port": 80}, "port: 80 is not between 1,024"),
        ({"user": "root"}, "user: 'root'"),
        ({"concurrency": -1}, "concurrency: -1"),
        ({"lame_duck_s": -0.5}, r"lame_duck_s: -0\.5"),
        ({"max_batch": 0}, "max_batch: 0"),
        ({"priced_as": "cloud-run", "arch": "arm64"}, "cloud-run has no arm64"),
    ],
)
def test_config_out_of_bounds_is_refused_in_words(keys: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Container(**keys)  # type: ignore[arg-type]
