"""The runtime part: what of mlpack's own runtime a package carries. The rest of it is tested where packages are, in `test_pack`."""

from __future__ import annotations

from pathlib import Path

import mlpack_runtime
from mlpack import runtime_part
from mlpack.runtime_part import FUNCTION, RuntimeRequest

SOURCES = Path(mlpack_runtime.__file__).parent
WORKERS = {"worker", "batching", "aws", "backend", "engine", "frontdoor"}


def carried(tmp_path: Path, *needs: str) -> set[str]:
    (tmp_path / "installed").mkdir()
    request = RuntimeRequest(python="3.11", arch="x86_64", text=False, pins=(), needs=("engine", *needs))
    runtime_part.assemble_runtime(tmp_path / "installed", request, tmp_path)
    return {path.stem for path in (tmp_path / "mlpack_runtime").glob("*.py")}


def test_a_function_carries_what_it_can_import_and_a_worker_everything(tmp_path: Path) -> None:
    function, worker = tmp_path / "function", tmp_path / "worker"
    function.mkdir()
    worker.mkdir()
    assert not carried(function) & WORKERS
    assert carried(worker, "aws") == {path.stem for path in SOURCES.glob("*.py")} - {"bootstrap"}
    assert {path.stem for path in (function / "mlpack_runtime").glob("*.py")} >= {
        "__init__",
        "handler",
        "events",
        "service",
        "bench",
    }


def test_what_is_imported_late_is_reached_and_what_types_need_is_not() -> None:
    reached = runtime_part.reachable(SOURCES, FUNCTION)
    assert "events" in reached  # inside a function of `handler`
    assert "backend" not in reached  # of `model`, for type checkers alone


def test_a_functions_key_does_not_change_with_a_workers_modules() -> None:
    function = RuntimeRequest(python="3.11", arch="x86_64", text=False, pins=())
    worker = RuntimeRequest(python="3.11", arch="x86_64", text=False, pins=(), needs=("engine", "aws"))
    assert runtime_part.runtime_key(function)["runtime"] != runtime_part.runtime_key(worker)["runtime"]
