"""What every benchmark shares: options, machine facts, builds in a child, medians and spread, rows and what each is held to.

Both sides of a comparison run in turns in one process, so that a machine that drifts slows both. Results go to
`bench/results/<name>.json`; `all.py` makes `bench/README.md` of them. Needs no root, unless a script says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench/results"
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]

import parts  # noqa: E402 - tools/ is no package

from mlpack.core.machine import this_machine  # noqa: E402 - the checkout's own, installed or not

MINILM = ROOT / "recipes/minilm.yaml"
FASHION = ROOT / "recipes/fashion.yaml"
LAMBDA_MB = 1769
"""AWS gives a function one whole CPU at this memory (Lambda developer guide, "Configure memory")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number. With `at_most` or `at_least` it is a figure that must hold, else it stands beside one."""

    name: str
    value: float
    unit: str = ""
    detail: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def held(self) -> bool | None:
        """Whether the figure holds; None when there is none."""
        if self.at_most is None and self.at_least is None:
            return None
        return (self.at_most is None or self.value <= self.at_most) and (self.at_least is None or self.value >= self.at_least)

    @property
    def figure(self) -> str:
        """What the number is held to, for people."""
        if self.at_most is not None:
            return f"at most {number(self.at_most)}"
        return f"at least {number(self.at_least)}" if self.at_least is not None else ""


def parser(doc: str | None, runs: int = 9) -> argparse.ArgumentParser:
    """The options that every script takes."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--base", type=Path, help="base of the images, a root file system [default: Debian trixie, by debootstrap]")
    made.add_argument("--rie", type=Path, help="AWS's Lambda emulator [default: out of the wheel of aws-sam-cli]")
    made.add_argument("--runs", type=int, default=runs, help=f"timed runs of each side, after one that is not [default: {runs}]")
    made.add_argument("--out", type=Path, default=RESULTS, help="where the results go [default: bench/results]")
    made.add_argument("--store", type=Path, help="the benchmarks' own store [default: in the cache of the slow tests]")
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What builds run with: a base that stays the same, an emulator, and a store of their own (measurements in it get deleted)."""

    base: Path
    rie: Path
    store: Path

    @property
    def python_version(self) -> str:
        """The base's own Python: "3.13"."""
        return Path(os.readlink(self.base / "usr/bin/python3")).name.removeprefix("python")

    @property
    def python(self) -> Path:
        """The base's own interpreter, to be run here."""
        return parts.python_of(self.base, self.python_version) / f"python{self.python_version}"

    def environment(self, store: Path | None = None) -> dict[str, str]:
        """For `mlpack` in a child: this checkout, this store, the base's Python to compile and measure with."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
            "MLPACK_STORE": str(store or self.store),
            "MLPACK_RIE": str(self.rie),
        }

    def build(self, recipe: Path, out: Path, *options: str, store: Path | None = None) -> dict[str, Any]:
        """`mlpack build` in a child; its build.json. Exit code 5 (over budget) is a build like any other."""
        words = ["--quiet", "build", str(recipe), "--base", str(self.base), "--out", str(out), *options]
        run([*MLPACK, *words], env=self.environment(store), accepted=(0, 5))
        return dict(json.loads((out / "build.json").read_bytes()))


MLPACK = [sys.executable, "-m", "mlpack.cli"]


def place(options: argparse.Namespace) -> Place:
    """What the options name, or else the parts of the slow tests."""
    return Place(
        base=(options.base or parts.rootfs("trixie")).resolve(),
        rie=(options.rie or parts.rie()).resolve(),
        store=(options.store or parts.cache() / "bench-store").resolve(),
    )


def minilm_texts() -> list[str]:
    """Questions and answers in turns, as the samples have them: 2,048 texts of 1 to some 60 tokens."""
    lines = (ROOT / "sample_models/minilm/pairs.jsonl").read_text().splitlines()
    return [text for pair in map(json.loads, lines) for text in (pair["query"], pair["document"])]


def unpacked_package(here: Place, recipe: Path, candidate: str, work: Path) -> Path:
    """The package that `mlpack build` makes of this candidate (a pattern that fits one), unpacked."""
    from mlpack.targets.shipped import unpack

    here.build(recipe, work / "out", "--only", candidate, "--keep", "all")
    (artifact,) = (work / "out/artifacts").glob(candidate)
    return unpack(artifact, work / "package")


def stock_int8_minilm() -> Path:
    """MiniLM as `optimum-cli export onnx` and `optimum-cli onnxruntime quantize` leave it: a directory with model_quantized.onnx
    and tokenizer.json. Made once and kept."""
    kept = parts.cache() / "bench-optimum-minilm"
    if not (kept / "int8/model_quantized.onnx").exists():
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        export_and_quantize(partial)
        shutil.rmtree(kept, ignore_errors=True)
        partial.rename(kept)
    return kept / "int8"


def export_and_quantize(folder: Path) -> None:
    """The two commands of optimum, into `folder`/fp32 and `folder`/int8. Dynamic int8, for the processor that this machine has."""
    optimum = str(Path(sys.executable).with_name("optimum-cli"))
    model, isa = ROOT / "sample_models/minilm/model", this_machine().isa
    flag = "--arm64" if isa.startswith("neon") else "--avx512_vnni" if "vnni" in isa or isa == "amx" else "--avx2"
    library = ("--library", "transformers")  # left out, it depends on what else is installed, and with it the outputs
    run([optimum, "export", "onnx", "--model", str(model), "--task", "feature-extraction", *library, str(folder / "fp32")])
    run([optimum, "onnxruntime", "quantize", flag, "--onnx_model", str(folder / "fp32"), "-o", str(folder / "int8")])
    if not (folder / "int8/tokenizer.json").exists():
        shutil.copyfile(folder / "fp32/tokenizer.json", folder / "int8/tokenizer.json")


def install_wheels(target: Path, requirements: Sequence[str], python: str) -> None:
    """Wheels for the base's Python, unpacked as `pip install --target` does, without bytecode."""
    import uv

    wanted = ["--python-version", python, "--python-platform", f"{platform.machine()}-manylinux_2_28", "--only-binary", ":all:"]
    options = ["--quiet", "--link-mode", "copy", "--no-compile-bytecode", "--target", str(target)]
    run([uv.find_uv_bin(), "pip", "install", *options, *wanted, *requirements])


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, accepted: Sequence[int] = (0,)) -> str:
    """What a command prints. SystemExit with its last words when it fails."""
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in accepted:
        raise SystemExit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout[-1500:]}{done.stderr[-3000:]}")
    return done.stdout


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes, by the wall clock."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def in_turns(sides: Mapping[str, Callable[[], float]], runs: int, warm_ups: int = 1) -> dict[str, list[float]]:
    """Samples of each side, one of each after the other; the first `warm_ups` rounds, which fill caches, are not kept."""
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for number_ in range(runs + warm_ups):
        for name, call in sides.items():
            taken = call()
            if number_ >= warm_ups:
                samples[name].append(taken)
    return samples


def spread(samples: Sequence[float]) -> str:
    """The middle half and how many there are."""
    if len(samples) < 4:
        return f"{number(min(samples))} to {number(max(samples))}, n={len(samples)}"
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return f"middle half {number(low)} to {number(high)}, n={len(samples)}"


def timed(name: str, samples: Sequence[float], unit: str, **held: float) -> Row:
    """The median of samples as a row."""
    return Row(name=name, value=statistics.median(samples), unit=unit, detail=spread(samples), **held)


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], **held: float) -> Row:
    """The median of the ratios, pair by pair, as a row."""
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(name=name, value=statistics.median(pairs), unit="×", detail=f"pairs: {spread(pairs)}", **held)


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    if value == int(value) and abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def forget_measurements(store: Path) -> None:
    """Make the next build measure anew: a benchmark of speed must not read what an earlier one found."""
    for path in (store / "actions").glob("*.json"):
        if json.loads(path.read_bytes()).get("action", {}).get("kind") == "measurement":
            path.unlink()


@contextmanager
def scratch(beside: Path | None = None) -> Iterator[Path]:
    """A directory that goes away, sealed trees included; on the disk of `beside`, so that files can be linked."""
    import tempfile

    # Plain digits: podman reads the path of an image as a name, and a random one that ends in "_" is none.
    work = Path(beside or tempfile.gettempdir(), f"mlpack-bench-{os.getpid()}-{time.monotonic_ns()}")
    work.mkdir(mode=0o700)
    try:
        yield work
    finally:
        for path in (work, *work.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(work)


def facts() -> dict[str, Any]:
    """What the numbers were taken on."""
    here = this_machine()
    return {
        "cpu": here.cpu,
        "isa": here.isa,
        "cores": here.cores,
        "memory_gb": round(here.memory_bytes / 1e9, 1),
        "kernel": here.os,
        "python": platform.python_version(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset"),
        "load": round(os.getloadavg()[0], 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def report(name: str, rows: Sequence[Row], how: str, out: Path) -> int:
    """Print the rows, keep them in `out`/`name`.json, and say by the exit code whether every figure holds."""
    here = facts()
    kept = {"name": name, "how": how, "facts": here, "rows": [{**dataclasses.asdict(r), "held": r.held} for r in rows]}
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f".{name}.json"
    partial.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    partial.replace(out / f"{name}.json")
    print(f"{name}: {how}")
    print(f"{here['cpu']}, {here['isa']}, {here['cores']} cores, {here['kernel']}, Python {here['python']}, load {here['load']}")
    width = max(len(row.name) for row in rows)
    for row in rows:
        verdict = {True: "ok", False: "MISSED", None: ""}[row.held]
        shown = f"{number(row.value)} {row.unit}".rstrip()
        print(f"  {row.name:<{width}}  {shown:>14}  {row.figure:<18} {verdict:<7} {row.detail}".rstrip())
    return 1 if any(row.held is False for row in rows) else 0
