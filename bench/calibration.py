"""How much memory the ranges of MiniLM's products take over 2,000 calibration calls, and that calls do not add to it.

The graph is all-MiniLM-L6-v2's own where the sample model was fetched, else one of the same size with random weights; calls are
token ids of 8 to 128 positions. Each side is a process of its own that reads the graph and measures what goes into and comes out of
each product; its largest resident set is read from /proc (VmHWM). Figure: at most 1.5 GB for 2,000 calls, and for any method less
than 100 MB more than for 100 calls. `--runs` means nothing here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from common import ROOT, Row, parser, report, run, scratch

MOST_GB, MORE_GB = 1.5, 0.1
FEW, MANY = 100, 2000
LONGEST = 128
METHODS = ("minmax", "entropy", "percentile", "mse")

CHILD = """
import sys
from pathlib import Path
from mlpack.graphs import files
from mlpack.passes.quantize.calibration import ranges

source, calls, method, count = sys.argv[1:]
model = files.load(Path(source))
stored = {tensor.name for tensor in model.graph.initializer}
products = [node for node in model.graph.node if node.op_type in ("MatMul", "Attention")]
names = dict.fromkeys(name for node in products for name in (node.input[0], node.output[0]) if name not in stored)
wanted = ranges.Ranges(calls=Path(calls), samples=int(count), method=method)
found = ranges.measured(model, Path(source), list(names), wanted)
assert len(found.ranges) == len(names) > 40, found.refused
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024)
"""


def main() -> int:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    with scratch() as work:
        source, name = _model(work)
        calls = _calls(work, source)
        taken = {}
        for method in METHODS:
            for count in (FEW, MANY):
                words = [str(source), str(calls), method, str(count)]
                taken[method, count] = int(run([sys.executable, "-c", CHILD, *words])) / 1e9
    rows = []
    for method in METHODS:
        few, many = taken[method, FEW], taken[method, MANY]
        rows.append(Row(name=f"{method}, {MANY:,} calls", value=many, unit="GB", at_most=MOST_GB))
        rows.append(Row(name=f"{method}, more than for {FEW}", value=many - few, unit="GB", at_most=MORE_GB))
    how = f"largest resident set while ranges are measured, {name}, up to {LONGEST} tokens"
    return report("calibration", rows, how, options.out)


def _model(work: Path) -> tuple[Path, str]:
    """A simplified graph, and what it is."""
    kept = ROOT / "sample_models/minilm/model"
    source = kept if (kept / "model.safetensors").is_file() else _like_minilm(work / "random")
    words = ["-c", _MAKE, str(source), str(work)]
    run([sys.executable, *words])
    return work / "simplified", "MiniLM" if source is kept else "a graph of MiniLM's size with random weights"


_MAKE = """
import sys
from pathlib import Path
from mlpack.passes import PASSES

source, work = map(Path, sys.argv[1:])
for name, given, made in (("export", source, work / "exported"), ("simplify", work / "exported", work / "simplified")):
    made.mkdir()
    config = PASSES[name].config(**({"task": "feature-extraction"} if name == "export" else {}))
    PASSES[name].run(given, config, made)
"""


def _like_minilm(folder: Path) -> Path:
    """A BERT of MiniLM's shape, and a tokenizer of a few words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    BertModel(BertConfig(vocab_size=30522, max_position_embeddings=512, **shape)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "a": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _calls(work: Path, source: Path) -> Path:
    """Recorded calls of as many lengths as there are, in an order of chance."""
    import numpy as np

    from mlpack.evaluation.data.calls import CallsWriter

    folder = work / "calls"
    folder.mkdir()
    signature: dict[str, Any] = json.loads((source / "signature.json").read_bytes())
    random = np.random.default_rng(0)
    with CallsWriter(folder) as writer:
        for _ in range(MANY):
            shape = (1, int(random.integers(8, LONGEST + 1)))
            ids = {"input_ids": random.integers(3, 30_000, shape), "attention_mask": np.ones(shape, "i8")}
            given = {spec["name"]: ids.get(spec["name"], np.zeros(shape, "i8")) for spec in signature["inputs"]}
            writer.tensors(given, 1)
        writer.finish(None)
    return folder


if __name__ == "__main__":
    sys.exit(main())
