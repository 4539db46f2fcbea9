"""Cold start of an image classifier that reads JPEG, beside the same package without its task, which takes tensors.

The model is MobileNetV2 with random weights, 224 x 224 pixels, float32. Each start is a new process of the package's Python, as
Lambda starts it (`-I -S`): it imports the handler, is given one event of an HTTP API and ends with its answer. One package is sent
a JPEG in base64, of 224 x 224 and of 1,280 x 960 pixels; the other the tensor that the smaller one becomes, as binary. What is
between them is Pillow: its import, the picture's decoding and geometry. Page cache warm; the sides take turns.
Figure: with the JPEG of 224 x 224 at most 1.5 times the start without Pillow.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from common import Place, in_turns, parser, place, ratio, report, scratch, seconds, timed, unpacked_package  # noqa: E402 - bench/ is no package

RECIPE = """name: classifier
source: {huggingface: model}
data: {evaluation: eval.npz}
variants: {fp32: []}
targets: {lambda-zip: {memory_mb: 1769}}
"""
START = """
import sys
root, event = sys.argv[1:]
sys.path.insert(0, root)
import os
os.environ["LAMBDA_TASK_ROOT"] = root
from mlpack_runtime import jsontext, loop
from mlpack_runtime.handler import render
with open(event, "rb") as file:
    answer = jsontext.loads(render(jsontext.loads(file.read()), loop.Context({})))
assert answer["statusCode"] == 200, answer
os._exit(0)
"""


def main() -> int:
    """Both in turns."""
    options = parser(__doc__, runs=15).parse_args()
    with scratch() as work:
        here = place(options)
        picture = model(work)
        roots = {}
        for name, serve in (("pictures", ""), ("tensors", "serve: {task: none}\n")):
            (work / f"{name}.yaml").write_text(RECIPE + serve)
            (work / name).mkdir()
            roots[name] = unpacked_package(here, work / f"{name}.yaml", "fp32@lambda-zip-*", work / name)
        described = json.loads((roots["pictures"] / "model/model.json").read_bytes())
        events = {
            "jpeg, 224 x 224": written(work / "small.json", jpeg(picture, (224, 224)), {"content-type": "image/jpeg"}),
            "jpeg, 1280 x 960": written(work / "large.json", jpeg(picture, (1280, 960)), {"content-type": "image/jpeg"}),
            "tensor": written(work / "tensor.json", *tensor(described)),
        }
        (work / "start.py").write_text(START)
        sides = {
            name: starts(here, work, roots["tensors" if name == "tensor" else "pictures"], path) for name, path in events.items()
        }
        taken = {name: [1e3 * each for each in samples] for name, samples in in_turns(sides, options.runs).items()}
    rows = [timed(f"{name}, start to answer", samples, "ms") for name, samples in taken.items()]
    rows += [
        ratio("jpeg of 224 x 224 / tensor", taken["jpeg, 224 x 224"], taken["tensor"], at_most=1.5),
        ratio("jpeg of 1280 x 960 / tensor", taken["jpeg, 1280 x 960"], taken["tensor"]),
    ]
    return report("runtime_pictures", rows, f"MobileNetV2, float32, 1,769 MB, {options.runs} starts each, in turns", options.out)


def model(work: Path) -> Any:
    """The model's directory below `work`; and a picture with the gradients and edges of a photograph."""
    import numpy as np
    import torch
    import transformers
    from PIL import Image

    torch.manual_seed(0)
    config = transformers.MobileNetV2Config(id2label={at: f"thing {at}" for at in range(1000)})
    transformers.MobileNetV2ForImageClassification(config).eval().save_pretrained(work / "model")
    transformers.MobileNetV2ImageProcessor().save_pretrained(work / "model")
    random = np.random.default_rng(0)
    np.savez(work / "eval.npz", pixel_values=random.normal(size=(4, 3, 224, 224)).astype(np.float32))
    small = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((1280, 960), Image.Resampling.BICUBIC)


def jpeg(picture: Any, size: tuple[int, int]) -> bytes:
    """The picture's file in this size."""
    stream = io.BytesIO()
    picture.resize(size).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def tensor(described: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """A binary request of the protocol, and its headers."""
    (port,) = described["inputs"]
    shape = [size if isinstance(size, int) else 1 if at == 0 else 224 for at, size in enumerate(port["shape"])]
    data = bytes(4 * shape[1] * shape[2] * shape[3])
    row = {"name": port["name"], "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [row]}).encode()
    return head + data, {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}


def written(path: Path, body: bytes, headers: dict[str, str]) -> Path:
    """An event of an HTTP API."""
    event = {
        "version": "2.0",
        "rawPath": "/",
        "headers": headers,
        "requestContext": {"http": {"method": "POST"}},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    path.write_text(json.dumps(event))
    return path


def starts(here: Place, work: Path, root: Path, event: Path) -> Callable[[], float]:
    """Seconds from the start of a process to its end, with the answer to this event."""
    command = [str(here.python), "-I", "-S", str(work / "start.py"), str(root), str(event)]

    def start() -> float:
        return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={}))

    return start


if __name__ == "__main__":
    sys.exit(main())
