"""From the start of a process to its first answer: the packaged MiniLM against torch and transformers with the same model.

The other side is what a handler does that was written after the model's card: AutoTokenizer, AutoModel, mean pooling, normalising,
one text. Both are whole processes, in turns, on one thread, with a warm page cache; their vectors are compared, so that they do the
same work. The package is int8, as a build chooses it, and float beside it. Processor time is there too: it says the same on a
machine that others use.
Figure: at least 25 times faster.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from common import LAMBDA_MB, MINILM, ROOT, Row, parser, place, ratio, report, scratch, timed, unpacked_package  # noqa: E402 - bench/ is no package

TEXT = "a four-legged animal that barks and guards the house"
STOCK = """
import json, sys
import torch
from transformers import AutoModel, AutoTokenizer
torch.set_num_threads(1)
tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModel.from_pretrained(sys.argv[1]).eval()
with torch.no_grad():
    given = tokenizer([sys.argv[2]], padding=True, truncation=True, return_tensors="pt")
    mask = given["attention_mask"].unsqueeze(-1).float()
    pooled = (model(**given).last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
    print(json.dumps(torch.nn.functional.normalize(pooled)[0].tolist()))
"""
OURS = """
import sys
sys.path.insert(0, sys.argv[1])
from mlpack_runtime import jsontext, model
loaded = model.load()
(vector,) = loaded.predict_texts([sys.argv[2]]).values()
print(jsontext.dumps(vector.tolist()))
"""
_NEAR = 0.97
"""The least cosine between both sides' vectors: int8 and float are one model."""


def main() -> int:
    """Three sides in turns."""
    options = parser(__doc__, runs=7).parse_args()
    here, taken, spent = place(options), {}, {}
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with scratch() as work:
        commands = {"torch": [sys.executable, "-c", STOCK, str(ROOT / "sample_models/minilm/model"), TEXT]}
        for variant in ("int8", "fp32"):
            root = unpacked_package(here, MINILM, f"{variant}@lambda-zip-*", work / variant)
            commands[variant] = [str(here.python), "-I", "-S", "-c", OURS, str(root), TEXT]
        env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = str(LAMBDA_MB)
        vectors: dict[str, list[float]] = {}
        for number in range(options.runs + 1):
            for name, command in commands.items():
                seconds, processor, vectors[name] = once(command, env)
                if number:
                    taken.setdefault(name, []).append(seconds * 1e3)
                    spent.setdefault(name, []).append(processor * 1e3)
    near = {name: cosine(vectors[name], vectors["torch"]) for name in ("int8", "fp32")}
    if min(near.values()) < _NEAR:
        raise SystemExit(f"the sides do not compute the same: cosine {near}")
    rows: list[Row] = []
    for name in commands:
        rows += [timed(f"{name}, process to first answer", taken[name], "ms"), timed(f"{name}, processor time", spent[name], "ms")]
    for name in ("int8", "fp32"):
        held = {"at_least": 25.0} if name == "int8" else {}
        rows.append(ratio(f"torch / {name}", taken["torch"], taken[name], **held))
        rows.append(ratio(f"torch / {name}, processor time", spent["torch"], spent[name]))
    return report("runtime_torch_start", rows, f"{options.runs} processes each, in turns, one thread, page cache warm", options.out)


def once(command: list[str], env: dict[str, str]) -> tuple[float, float, list[float]]:
    """Seconds of the wall and of the processor that a process takes, and the vector that it prints."""
    with tempfile.TemporaryFile() as told:
        began = time.perf_counter()
        running = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=told)
        assert running.stdout is not None
        line = running.stdout.readline()
        seconds = time.perf_counter() - began
        running.stdout.close()
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = status
        told.seek(0)
        if status or not line:
            raise SystemExit(told.read().decode(errors="replace")[-2000:])
    vector = json.loads(line)
    return seconds, usage.ru_utime + usage.ru_stime, vector[0] if isinstance(vector[0], list) else vector


def cosine(one: list[float], other: list[float]) -> float:
    """Of two vectors."""
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


if __name__ == "__main__":
    sys.exit(main())
