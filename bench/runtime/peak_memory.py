"""Peak memory of the packaged MiniLM, int8 and float, against the bytes of its model.

A process of each package loads it, answers its own sample request over Lambda's entrance and then texts of 1 to 60 tokens, one a
request. What is held is the largest resident set that the kernel noted (VmHWM): anonymous memory, and pages of the engine, of the
weights and of Python that the process has mapped. How many of those the kernel maps at a time depends on the kernel, and on how the
files came into its cache, so they are read from the disk first, as where a package runs. Both parts stand beside the sum, as they
are at the end. The model's bytes are those of the graph, its weights and its tokenizer.
Figure: at most 1.6 times the model's bytes and 40 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from common import LAMBDA_MB, MINILM, Row, minilm_texts, parser, place, report, scratch, timed, unpacked_package  # noqa: E402 - bench/ is no package

MODEL_TIMES, BESIDE_BYTES = 1.6, 40e6
ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from mlpack_runtime import handler, jsontext
import os
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the lines of its log
told = jsontext.loads(sys.stdin.readline())
for event in told["events"]:
    answer = handler.handler(event, None)
    if answer["statusCode"] != 200:
        raise SystemExit(str(answer)[:500])
with open("/proc/self/status") as status:
    lines = dict(line.split(":", 1) for line in status)
sys.stderr.write(" ".join(lines[name].split()[0] for name in ("VmHWM", "RssAnon", "RssFile")))
"""


def main() -> int:
    """Both packages in turns."""
    made = parser(__doc__, runs=5)
    made.add_argument("--texts", type=int, default=200, help="requests of a process [default: 200]")
    options = made.parse_args()
    here, rows = place(options), []
    for variant in ("int8", "fp32"):
        with scratch() as work:
            root = unpacked_package(here, MINILM, f"{variant}@lambda-zip-*", work)
            sample = json.loads(next((work / "out/artifacts").glob(f"{variant}@*/event.json")).read_bytes())
            events = [sample, *(with_text(sample, text) for text in islice(cycle(minilm_texts()), options.texts))]
            read_anew(root)
            taken = [memory_of(root, here.python, events) for _ in range(options.runs)]
            model = sum(path.stat().st_size for path in (root / "model").iterdir())
        allowed = MODEL_TIMES * model + BESIDE_BYTES
        peaks, anonymous, mapped = zip(*taken, strict=True)
        share = [peak / allowed for peak in peaks]
        sizes = {"peak": peaks, "anonymous": anonymous, "mapped from files": mapped}
        rows.append(Row(name=f"{variant}, the model", value=model / 1e6, unit="MB"))
        rows += [timed(f"{variant}, {what}", [each / 1e6 for each in taken_bytes], "MB") for what, taken_bytes in sizes.items()]
        rows.append(timed(f"{variant}, peak / (1.6 x model + 40 MB)", share, "×", at_most=1.0))
    how = f"{options.runs} processes each, their sample request and {options.texts} texts, {LAMBDA_MB} MB, one thread"
    return report("runtime_peak_memory", rows, how, options.out)


def read_anew(root: Path) -> None:
    """Let the kernel have the files from the disk, as where a package runs, and not from having written them."""
    for path in (each for each in root.rglob("*") if each.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while file.read(1 << 17):
                pass


def with_text(event: dict[str, object], text: str) -> dict[str, object]:
    """The same request with another text."""
    return {**event, "body": json.dumps({"text": text}), "isBase64Encoded": False}


def memory_of(root: Path, python: Path, events: list[dict[str, object]]) -> tuple[int, int, int]:
    """Of a process that answered these: the largest resident set, and what is anonymous and mapped at its end, in bytes."""
    env = {**os.environ, "LAMBDA_TASK_ROOT": str(root), "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(LAMBDA_MB)}
    command = [str(python), "-I", "-S", "-c", ASK, str(root)]
    done = subprocess.run(command, input=json.dumps({"events": events}), capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    peak, anonymous, mapped = (int(each) * 1024 for each in done.stderr.split()[-3:])
    return peak, anonymous, mapped


if __name__ == "__main__":
    sys.exit(main())
