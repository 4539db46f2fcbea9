"""Two built packages put together: booted, asked by tritonclient's repository calls at a container, and under Lambda's emulator."""

from __future__ import annotations

import http.client
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support import small_packages
from tests.support.runtime.several_packages import ROW, WIDE, several
from tests.support.runtime.workers import Process
from tests.support.serving import entrances
from tools import parts

import mlpack
from mlpack.core.progress import Silent
from mlpack.pipeline.packing.requirements import SUMMARY
from mlpack.pipeline.packing.runtime_part import RuntimeRequest, assemble_runtime
from mlpack.targets import TARGETS, Container, LambdaImage, shipped

SCORES = [60.0, 70.0, 80.0]
"""[1, 2, 3, 4] times the numbers 0 to 11 in four rows."""


class Told(Silent):
    """A progress that keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the package that a recipe with `models:` leaves, for a base whose Python is the tests' own."""
    work = tmp_path_factory.mktemp("shop")
    rootfs = small_packages.rootfs(work / "rootfs")
    config = Container(base=str(rootfs))
    request = RuntimeRequest(
        python=small_packages.PYTHON,
        arch=small_packages.HERE,
        text=False,
        pins=(small_packages.PIN,),
        needs=TARGETS["container"].needs(config),
        interpreter=small_packages.running(),
    )
    (work / "runtime").mkdir()
    assemble_runtime(small_packages.installed(work / "wheel", real=True), request, work / "runtime")
    base = small_packages.resolve_base(str(rootfs), small_packages.HERE, work / "cache")
    for name in ("one", "two"):
        small_packages.packed(work / name, config, work / "runtime", name=f"built-{name}", base=base)
    recipe = work / "shop.yaml"
    recipe.write_text("name: shop\nmodels: {one: one/out, two: two/out}\ntargets: {container: {base: rootfs}}\ntags: {a: b}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")  # the base's Python is a dummy, which podman would start
        result = mlpack.build(recipe, out=work / "built", store=work / "store", environ={})
        again = mlpack.build(recipe, out=work / "again", store=work / "store", environ={})
    assert result.startup is not None
    assert result.startup.status == 200
    assert result.record.recipe.tags == {"a": "b"}
    assert result.chosen is not None
    assert again.record.artifact == result.record.artifact, "equal packages give equal bytes"
    sizes = [json.loads((work / name / "out/package.json").read_bytes())["size_bytes"] for name in ("one", "two")]
    assert result.record.artifact is not None
    assert result.record.artifact.size_bytes < 1.1 * max(sizes), "the engine is in it once"
    return work / "built/artifacts" / result.chosen


def test_a_long_start_is_told_and_wheels_are_listed(tmp_path: Path) -> None:
    rootfs = small_packages.rootfs(tmp_path / "rootfs")
    config = LambdaImage(base=str(rootfs), memory_mb=128)
    base = small_packages.resolve_base(str(rootfs), small_packages.HERE, tmp_path / "cache")
    runtime, wheel = small_packages.runtime(tmp_path / "runtime", real=True), {"name": "pillow", "version": "11.0.0"}
    (runtime / SUMMARY).parent.mkdir(exist_ok=True)
    (runtime / SUMMARY).write_text(json.dumps({"schema": 1, "wheels": [wheel], "left_out": []}))
    hook = "import time\n\ntime.sleep(1)\n\n\ndef preprocess(value):\n    return value\n"
    small_packages.packed(tmp_path / "one", config, runtime, hooks={"app.py": hook}, base=base)
    recipe = tmp_path / "shop.yaml"
    recipe.write_text("name: shop\nmodels: {one: one/out}\ntargets: {lambda-image: {memory_mb: 128, base: rootfs}}\n")
    told = Told()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")  # the base's Python is a dummy, which podman would start
        result = mlpack.build(recipe, out=tmp_path / "built", store=tmp_path / "store", environ={}, progress=told)
    assert "at 128 MB, and Lambda ends an initialisation after 10 s" in "".join(told.warnings)
    assert result.chosen is not None
    described = json.loads((tmp_path / "built/artifacts" / result.chosen / "package.json").read_bytes())
    assert described["requirements"] == [wheel]


def test_tritonclient_and_a_built_package(shop: Path, tmp_path: Path) -> None:
    process = Process(shipped.unpack(shop, tmp_path / "task"), entrance="serve").ready()
    try:
        command = [
            parts.clients(),
            "-W",
            "ignore",
            Path(entrances.__file__).with_name("triton_repository.py"),
            f"127.0.0.1:{process.port}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        assert process.end() == 0
    told = json.loads(done.stdout)
    assert "model_repository" in told["extensions"]
    assert [(row["name"], row["state"]) for row in told["index"]] == [("one", "READY"), ("two", "READY")]
    assert told["ready"] == [True, True, False]
    assert told["metadata"] == "two"
    assert told["scores"] == [SCORES, SCORES]
    assert told["both"] == {"one": "", "two": ""}
    ready, refused = told["unloaded"]
    assert (ready, told["again"]) == (False, [True, SCORES])
    assert refused.startswith("503 model 'two' was unloaded")
    assert told["unknown"].startswith("404 no model 'three' here")
    assert told["config"].startswith("400 a model is loaded as the package has it")
    assert {line["model"] for line in process.answers} == {"one", "two"}


def test_under_the_emulator(rie: Path, tmp_path: Path) -> None:
    """One engine in the process, a session for each model, and every form of asking."""
    root = several(tmp_path / "several")

    def ask(method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    with entrances.function("function-url", root, rie) as port:
        assert ask("POST", "/", ROW)[1]["model_name"] == "affine"
        assert ask("POST", "/v2/models/wide/infer", WIDE)[1]["outputs"][0]["data"] == [1, 2, 3]
        assert ask("POST", "/", {"inputs": {"x": [1]}}, **{"mlpack-model": "second"})[1]["model_name"] == "second"
        rows = {row["name"]: row["reason"] for row in ask("POST", "/v2/repository/index", {})[1]}
        assert rows["second"] == rows["wide"] == ""
        assert rows["affine"].startswith("not in memory yet")  # it was used longest ago, and there is room for two
        assert ask("POST", "/", ROW)[0] == 200
        assert ask("POST", "/v2/models/none/infer", WIDE)[0] == 404
