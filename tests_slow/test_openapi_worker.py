"""A package's OpenAPI document, held against a worker by schemathesis: what is told is what is answered, and nothing is a 5xx."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.workers import Process
from tests.support.serving import entrances
from tests.support.serving.entrances import PACKAGES
from tools import parts

from mlpack.pipeline.packing import openapi
from mlpack.pipeline.packing.runtime_part import sources_dir

SAMPLES: dict[str, dict[str, Any]] = {
    "numbers": {"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [2]}},
    "texts": {"text": "the cat"},
}
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
"""Not `positive_data_acceptance`: no schema can say that `data` has as many values as `shape` says."""
PORTS = {
    "numbers": {
        "inputs": [("pixels", "float32", ["batch", 4]), ("marks", "int64", ["batch"])],
        "outputs": [("scores", "float32", ["batch", 3]), ("count", "int64", [])],
    },
    "texts": {
        "inputs": [("input_ids", "int64", ["batch", "sequence"]), ("attention_mask", "int64", ["batch", "sequence"])],
        "outputs": [("embedding", "float32", ["batch", 5])],
    },
}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_worker_answers_as_its_document_says(tmp_path: Path, name: str) -> None:
    root = entrances.make(name, tmp_path / "package")
    ports = {key: [dict(zip(("name", "dtype", "shape"), port, strict=True)) for port in rows] for key, rows in PORTS[name].items()}
    settings = {**json.loads((root / "model/model.json").read_bytes()), **ports}
    document = tmp_path / "openapi.json"
    document.write_bytes(openapi.document(settings, SAMPLES[name], openapi.limits_of(sources_dir(), settings)))
    worker = Process(root).ready()
    try:
        command = [str(parts.clients()), "-W", "ignore", "-m", "schemathesis.cli", "run", str(document)]
        command += ["--url", f"http://127.0.0.1:{worker.port}", "--checks", ",".join(CHECKS), "--max-examples", "10"]
        command += ["--seed", "4", "--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--no-color"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert worker.process.poll() is None
    finally:
        assert worker.end() == 0
    assert all(line.get("status", 0) < 500 for line in worker.lines)
