"""The runtime part: what of mlpack's own runtime a package carries. The rest of it is tested where packages are, in `test_pack`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import mlpack_runtime
from mlpack.pipeline.packing import runtime_part
from mlpack.pipeline.packing.runtime_part import FUNCTION, RuntimeRequest
from mlpack.recipe import tasks

SOURCES = Path(mlpack_runtime.__file__).parent
WORKERS = {
    "queueing/worker",
    "queueing/sqs",
    "queueing/consumer",
    "serving/http_server",
    "hosting/process",
    "tensorrt/verbs",
    "frontdoor",
}
BATCH = {"batch/main", "batch/jobs", "batch/reading/parquet", "serving/batching", "backends/cpu"}
"""What every package answers a manifest with: items are put together for the engine, in a function too."""
EVENTS = {"triggers/dispatch", "queueing/envelopes", "queueing/results", "aws/__init__"}
"""What a function imports when an event of another service comes."""


def modules(folder: Path) -> set[str]:
    """As paths below it, without their ending."""
    return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.py")}


def carried(tmp_path: Path, *needs: str) -> set[str]:
    (tmp_path / "installed").mkdir()
    request = RuntimeRequest(python="3.11", arch="x86_64", text=False, pins=(), needs=("engine", *needs))
    runtime_part.assemble_runtime(tmp_path / "installed", request, tmp_path)
    return modules(tmp_path / "mlpack_runtime")


def test_function_carries_its_imports_and_a_worker_everything(tmp_path: Path) -> None:
    function, worker = tmp_path / "function", tmp_path / "worker"
    function.mkdir()
    worker.mkdir()
    assert not carried(function) & WORKERS
    assert carried(worker, "aws") == modules(SOURCES) - {"bootstrap"}
    container = tmp_path / "container"
    container.mkdir()
    carries = carried(container, "http")
    assert carries >= {"hosting/serve", "serving/prometheus", "serving/batcher", "backends/cpu", "bench", "portions", *BATCH}
    assert not [name for name in carries if name.startswith(("queueing", "tensorrt", "door"))]
    # A manifest may lie in S3, which the image's base may have a client for.
    assert {name for name in carries if name.startswith("aws")} == {"aws/__init__", "aws/objects", "aws/promises"}
    assert modules(function / "mlpack_runtime") >= {
        "__init__",
        "handler",
        "events",
        "service",
        "bench",
        *EVENTS,
        *BATCH,
    }


def test_late_imports_are_reached_and_those_of_types_are_not() -> None:
    reached = runtime_part.reachable(SOURCES, FUNCTION)
    assert "events" in reached  # inside a function of `handler`
    assert "tasks.requests" not in reached  # of `service`, for type checkers alone


def test_a_functions_key_does_not_change_with_a_workers_modules() -> None:
    function = RuntimeRequest(python="3.11", arch="x86_64", text=False, pins=())
    worker = RuntimeRequest(python="3.11", arch="x86_64", text=False, pins=(), needs=("engine", "aws"))
    assert runtime_part.runtime_key(function)["runtime"] != runtime_part.runtime_key(worker)["runtime"]


@pytest.mark.parametrize("needs", [("engine",), ("engine", "http")])
@pytest.mark.parametrize("task", ["image-classification", "object-detection"])
def test_a_package_of_pictures_carries_what_reads_them(task: str, needs: tuple[str, ...]) -> None:
    request = RuntimeRequest(python="3.13", arch="arm64", text=False, pins=(), needs=needs, modules=(tasks.module_of(task),))
    carried = set(runtime_part._source_names(SOURCES, request))
    assert carried >= {f"pictures/{name}.py" for name in ("__init__", "planes", "reading", "shaping")} | {"media.py", "hooks.py"}
    assert ("tasks/boxes.py" in carried) == (task == "object-detection")
    assert not [name for name in carried if name.startswith(("sounds", "fetching", "tasks/text_"))]


def test_a_package_carries_the_modules_of_its_own_task_alone() -> None:
    plain = RuntimeRequest(python="3.11", arch="x86_64", text=True, pins=())
    rerank = dataclasses.replace(plain, modules=(tasks.module_of("rerank"),))
    carried = set(runtime_part._source_names(SOURCES, rerank)) - set(runtime_part._source_names(SOURCES, plain))
    names = ("__init__", "requests", "rerank", "scores", "text_classification")
    assert carried == {f"tasks/{name}.py" for name in names}
    assert runtime_part.runtime_key(plain)["runtime"] != runtime_part.runtime_key(rerank)["runtime"]


def test_reachable_follows_packages_and_every_form_of_import(tmp_path: Path) -> None:
    for name, text in {
        "__init__": "",
        "loop": "from mlpack_runtime import one\ndef late():\n    from mlpack_runtime.folder import two, NAME\n",
        "one": "import os\nTYPE_CHECKING = False\nif TYPE_CHECKING:\n    from mlpack_runtime.folder import never\n",
        "folder/__init__": "from mlpack_runtime import by_the_package\n",
        "folder/two": "from mlpack_runtime.folder.deep.three import name\n",
        "folder/never": "",
        "folder/deep/__init__": "",
        "folder/deep/three": "from mlpack_runtime.folder import NAME\n",
        "by_the_package": "from mlpack_runtime import not_there\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    reached = runtime_part.reachable(tmp_path, ["loop", "nowhere"])
    assert reached == {"loop", "one", "folder", "folder.two", "folder.deep", "folder.deep.three", "by_the_package"}
    assert runtime_part.file_of(tmp_path, "folder") == "folder/__init__.py"
    assert runtime_part.file_of(tmp_path, "folder.never") == "folder/never.py"
    assert runtime_part.file_of(tmp_path, "") is None
