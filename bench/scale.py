"""Time and memory of a whole first `mlpack build` as the model grows: 0.1, 0.4, 1.6, 2.6 and 6 GB of float weights.

The model is a chain of 64 MB matrices with random weights, written to external data one at a time; candidates are float and
dynamic int8, the target a container image. Each build has a store of its own that knows the base and nothing of the model.
Memory is that of the whole process tree, read from /proc/PID/status every 20 ms: anonymous pages (RssAnon and RssShmem, what a
machine must have) told apart from pages of files (RssFile: mapped weights, which the kernel drops when memory is short; a page
that two processes map counts twice). Figures: anonymous at most 1.5 times the model and 1 GB; processor seconds a GB at most 1.3
times as many from the middle to the largest as up to there (the wall clock is beside it: on a busy machine it measures the others).
Points take long and are kept in OUT/scale_points, each with when it was taken; the table is of all that are there. Needs some 9
times the largest model on the disk.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from common import MLPACK, Place, Row, facts, parser, place, report, run, scratch

WIDTH = 4096
MATRIX_BYTES = WIDTH * WIDTH * 4
SIZES = (0.1, 0.4, 1.6, 2.6, 6.0)
_SAMPLE_S = 0.02


@dataclass(slots=True)
class Taken:
    """What one build took; bytes. `where`: what it had just said when the peak came."""

    model: int
    seconds: float = 0.0
    processor: float | None = None
    taken_at: str = ""
    anonymous: int = 0
    with_files: int = 0
    where: str = ""
    candidates: dict[str, str] = field(default_factory=dict)


def main() -> int:
    """Builds, smallest first."""
    options = parser(__doc__)
    options.add_argument(
        "--gb", type=float, nargs="*", default=SIZES, help="sizes of the model [default: all of them; none: the table again]"
    )
    chosen = options.parse_args()
    here = place(chosen)
    points = chosen.out / "scale_points"
    points.mkdir(parents=True, exist_ok=True)
    for gigabytes in sorted(chosen.gb):
        point = one(here, gigabytes)
        (points / f"{point.model}.json").write_text(json.dumps(dataclasses.asdict(point), indent=1) + "\n")
    taken = sorted((Taken(**json.loads(path.read_bytes())) for path in points.glob("*.json")), key=lambda each: each.model)
    rows = [row for each in taken for row in rows_of(each)]
    if len(taken) > 1:
        rows += growth(taken)
    return report("scale", rows, "a chain of 64 MB matrices, float and dynamic int8, as container images", chosen.out)


def one(here: Place, gigabytes: float) -> Taken:
    """One build of a new model in a new store."""
    with scratch(here.store.parent) as work:
        (work / "store").mkdir()
        if (here.store / "oci").is_dir():
            run(["cp", "-a", "--reflink=auto", str(here.store / "oci"), str(work / "store/oci")])
        taken = Taken(model=make(work / "model", gigabytes))
        watched(taken, here, work)
        record = json.loads((work / "out/build.json").read_bytes())
        taken.candidates = {each["id"]: each["status"] for each in record["candidates"]}
        return taken


def make(folder: Path, gigabytes: float) -> int:
    """A model of about this size and its recipe, in `folder`; the bytes of its weights."""
    import numpy as np
    from onnx import TensorProto, helper, save

    folder.mkdir()
    count = max(1, round(gigabytes * 1e9 / MATRIX_BYTES))
    random = np.random.default_rng(0)
    weights, nodes = [], []
    with (folder / "weights.bin").open("wb") as stream:
        for number in range(count):
            matrix = random.standard_normal((WIDTH, WIDTH), dtype=np.float32)
            matrix *= np.float32((2 / WIDTH) ** 0.5)
            tensor = TensorProto(name=f"w{number:04}", data_type=TensorProto.FLOAT, dims=matrix.shape, data_location=1)
            for key, value in (("location", "weights.bin"), ("offset", stream.tell()), ("length", MATRIX_BYTES)):
                tensor.external_data.add(key=key, value=str(value))
            stream.write(memoryview(matrix).cast("B"))
            weights.append(tensor)
            source = f"h{number - 1}" if number else "x"
            nodes.append(helper.make_node("MatMul", [source, tensor.name], [f"m{number}"], name=f"matmul{number}"))
            nodes.append(helper.make_node("Relu", [f"m{number}"], [f"h{number}"], name=f"relu{number}"))
    ports = [helper.make_tensor_value_info(name, 1, ["batch", WIDTH]) for name in ("x", f"h{count - 1}")]
    graph = helper.make_graph(nodes, "chain", ports[:1], ports[1:], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    np.savez(folder / "evaluation.npz", x=random.standard_normal((16, WIDTH), dtype=np.float32))
    (folder / "recipe.yaml").write_text(
        "name: scale\nsource: {onnx: model.onnx}\ndata: {evaluation: evaluation.npz}\nmetric: cosine\n"
        "variants:\n  fp32: []\n  int8: [{quantize: dynamic}]\n"
        "targets:\n  lambda-image: {memory_mb: 10240}\n"
    )
    return count * MATRIX_BYTES


def watched(taken: Taken, here: Place, work: Path, *options: str) -> None:
    """The build, its memory read meanwhile. SystemExit with its last words when it fails."""
    words = ["build", str(work / "model/recipe.yaml"), "--base", str(here.base), "--out", str(work / "out"), *options]
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    said: list[str] = []
    with subprocess.Popen(
        [*MLPACK, *words], env=here.environment(work / "store"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        listener = threading.Thread(target=lambda stream: said.extend(iter(stream.readline, "")), args=[process.stderr])
        listener.start()
        while process.poll() is None:
            anonymous, files = memory(process.pid)
            if anonymous > taken.anonymous:
                taken.anonymous, taken.where = anonymous, said[-1].strip() if said else ""
            taken.with_files = max(taken.with_files, anonymous + files)
            time.sleep(_SAMPLE_S)
        listener.join()
    taken.seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken.processor = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    taken.taken_at = f"{facts()['date']}, load {facts()['load']}"
    if process.returncode not in (0, 5):
        raise SystemExit(f"the build of {taken.model:,} bytes failed ({process.returncode}):\n{''.join(said)[-3000:]}")


def memory(root: int) -> tuple[int, int]:
    """Anonymous bytes, and those of files, of a process and all below it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (text := _read(f"/proc/{name}/stat")):
            children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(name))
    left, anonymous, files = [root], 0, 0
    while left:
        pid = left.pop()
        left += children.get(pid, ())
        for line in _read(f"/proc/{pid}/status").splitlines():
            key, _, rest = line.partition(":")
            if key in ("RssAnon", "RssShmem"):
                anonymous += int(rest.split()[0]) * 1024
            elif key == "RssFile":
                files += int(rest.split()[0]) * 1024
    return anonymous, files


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # it has ended
        return ""


def rows_of(taken: Taken) -> list[Row]:
    """The numbers of one build."""
    size = f"{taken.model / 1e9:.1f} GB"
    built = ", ".join(f"{id_.partition('@')[0]} {status}" for id_, status in taken.candidates.items())
    return [
        Row(name=f"{size}: time", value=taken.seconds, unit="s", detail=f"{taken.taken_at}; {built}"),
        *([] if taken.processor is None else [Row(name=f"{size}: processor time", value=taken.processor, unit="s")]),
        Row(
            name=f"{size}: peak, anonymous",
            value=taken.anonymous / 1e9,
            unit="GB",
            detail=f"{taken.anonymous / taken.model:.2f} × the model; at: {taken.where[:80]}",
            at_most=1.5 * taken.model / 1e9 + 1,
        ),
        Row(name=f"{size}: peak, with pages of files", value=taken.with_files / 1e9, unit="GB"),
    ]


def growth(taken: list[Taken]) -> list[Row]:
    """How memory and time grow from build to build."""
    first, last = taken[0], taken[-1]
    memory_slope = (last.anonymous - first.anonymous) / (last.model - first.model)
    rows = [Row(name="growth of the peak", value=memory_slope, unit="bytes a byte of model", at_most=1.5)]
    timed = [each for each in taken if each.processor is not None]
    if len(timed) < 3:
        return rows
    early, late = (_seconds_a_byte(*pair) for pair in ((timed[0], timed[len(timed) // 2]), (timed[len(timed) // 2], timed[-1])))
    detail = f"{early * 1e9:.3g} in the lower half"
    rows.append(Row(name="growth of the processor time", value=late * 1e9, unit="s/GB", detail=detail))
    return [*rows, Row(name="upper / lower half", value=late / early, unit="×", at_most=1.3)]


def _seconds_a_byte(small: Taken, large: Taken) -> float:
    return ((large.processor or 0) - (small.processor or 0)) / (large.model - small.model)


if __name__ == "__main__":
    sys.exit(main())
