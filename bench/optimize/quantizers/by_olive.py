"""Olive's passes by its Python interface: OnnxStaticQuantization or OnnxDynamicQuantization, with their defaults.

static       calibrated on the calls
dynamic      no calibration
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from calls import Calls, arguments

CALLS: list[Calls] = []


def main() -> None:
    """Run a workflow of one pass."""
    from olive.data.registry import Registry
    from olive.workflows import run

    preset, model, calls, out = arguments()
    CALLS.append(calls)

    @Registry.register_dataset(name="recorded_calls")
    def recorded_calls(**_: object) -> Recorded:
        return Recorded(CALLS[0])

    data = {
        "name": "calls",
        "type": "DataContainer",
        "load_dataset_config": {"type": "recorded_calls"},
        "pre_process_data_config": {"type": "skip_pre_process"},
        "post_process_data_config": {"type": "skip_post_process"},
        "dataloader_config": {"type": "no_auto_batch_dataloader"},
    }
    step = (
        {"type": "OnnxDynamicQuantization"} if preset == "dynamic" else {"type": "OnnxStaticQuantization", "data_config": "calls"}
    )
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "made"
        config = {
            "input_model": {"type": "ONNXModel", "model_path": str(model)},
            "data_configs": [data],
            "passes": {"quantize": step},
            "output_dir": str(made),
            "cache_dir": str(Path(scratch) / "cache"),
            "log_severity_level": 2,
        }
        run(json.loads(json.dumps(config)))
        found = sorted(made.rglob("*.onnx"))
        if not found:
            raise SystemExit("Olive ended without an output model: see its warnings above")
        shutil.copyfile(found[0], out)
        for path in found[0].parent.glob("*.data"):
            shutil.copyfile(path, out.parent / path.name)


class Recorded:
    """The calls as a data set of (inputs, label)."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def __len__(self) -> int:
        return len(self.calls)

    def __getitem__(self, index: int) -> tuple[dict[str, object], int]:
        return dict(self.calls[index]), 0


if __name__ == "__main__":
    main()
