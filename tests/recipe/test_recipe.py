"""Tests of `mlpack.recipe.reader`: a recipe read whole, and every mistake with its line and path, all at once."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpack.core.calibrants import INVENTED, HeldOutCalibration
from mlpack.core.records import Budgets, MetricSpec, Source, Step, TensorSpec, Variant
from mlpack.core.serving import Serve
from mlpack.core.text.quantities import parse_duration_ms, parse_size, parse_usd
from mlpack.errors import ExitCode, RecipeError
from mlpack.passes.prune import Prune
from mlpack.passes.quantize import Quantize
from mlpack.recipe import reader
from mlpack.targets import LambdaImage, LambdaZip

ROOT = Path(__file__).resolve().parent.parent.parent

WHOLE = """\
name: fashion
source:
  torch: net.model:build
  weights: net.safetensors
inputs:
  image: {dtype: float32, shape: [batch, 1, 28, 28]}
data:
  evaluation: eval.npz
  calibration: calib.npz
metric: top1
variants:
  fp32: []
  int8: [{quantize: {method: static}}]
  slim-int8: [{prune: {method: structured, ratio: 0.3}}, quantize]
targets:
  lambda-zip: {arch: x86_64, memory_mb: 1769}
  lambda-image: [{arch: arm64}, {arch: x86_64, base: ./root}]
budgets:
  accuracy_drop: 0.01
  latency_p95: 50ms
  cold_start: 1.5s
  package_size: 100MB
  peak_memory: 1GiB
  cost_per_million: 5USD
prefer: latency
serve: {preprocess: "app:decode", tokenizer: tokenizer.json, max_length: 128, example: request.json}
tags: {service: search, team: ranking}
"""

SMALL = """\
name: small
source: {onnx: model.onnx}
data: {evaluation: eval.npz}
targets: {lambda-zip: }
"""


@pytest.mark.parametrize("links", [{"a.npz": "a.npz"}, {"a.npz": "b.npz", "b.npz": "a.npz"}, {"a.npz": "far/x", "far": "far"}])
def test_data_behind_links_in_a_circle_are_not_there(folder: Path, links: dict[str, str]) -> None:
    for name, to in links.items():
        (folder / name).symlink_to(to)
    (folder / "recipe.yaml").write_text(SMALL.replace("{evaluation: eval.npz}", "{evaluation: a.npz, calibration: calib.npz}"))
    with pytest.raises(RecipeError) as told:
        reader.load(folder / "recipe.yaml")
    assert [problem.partition(": ")[2] for problem in told.value.problems] == [
        f"data.evaluation: {folder / 'a.npz'} does not exist"
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with every file that the recipes here name; their contents do not matter to reading one."""
    for name in (
        "model.onnx",
        "eval.npz",
        "calib.npz",
        "eval.jsonl",
        "net.safetensors",
        "tokenizer.json",
        "app.py",
        "net/model.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    (tmp_path / "request.json").write_text('{"text": "hello"}')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "bare").mkdir()
    return tmp_path


def _load(folder: Path, text: str) -> Any:
    (folder / "r.yaml").write_text(text, "utf-8")
    return reader.load(folder / "r.yaml")


def _problems(folder: Path, text: str) -> list[str]:
    """What is wrong, without the directory's name."""
    with pytest.raises(RecipeError) as raised:
        _load(folder, text)
    assert raised.value.exit_code is ExitCode.RECIPE
    return [problem.replace(f"{folder}/", "") for problem in raised.value.problems]


def test_load_whole_recipe(folder: Path) -> None:
    read = _load(folder, WHOLE)
    assert (read.name, read.root, read.metric, read.prefer) == ("fashion", folder.resolve(), MetricSpec(name="top1"), "latency")
    assert read.source == Source(format="torch", reference="net.model:build", weights="net.safetensors")
    assert read.inputs == (TensorSpec(name="image", dtype="float32", shape=("batch", 1, 28, 28)),)
    assert (read.evaluation, read.calibration) == ("eval.npz", "calib.npz")
    assert read.variants == (
        Variant(name="fp32", steps=()),
        Variant(name="int8", steps=(Step(name="quantize", config=Quantize(method="static")),)),
        Variant(
            name="slim-int8",
            steps=(Step(name="prune", config=Prune(method="structured", ratio=0.3)), Step(name="quantize", config=Quantize())),
        ),
    )
    assert [target.id for target in read.targets] == ["lambda-zip-x86_64", "lambda-image-arm64", "lambda-image-x86_64"]
    assert read.targets[0].config == LambdaZip(arch="x86_64", memory_mb=1769)
    assert read.targets[2].config == LambdaImage(arch="x86_64", base="./root")
    assert read.budgets == Budgets(
        accuracy_drop=0.01,
        latency_p95_ms=50.0,
        cold_start_ms=1500.0,
        package_size_bytes=100_000_000,
        peak_memory_bytes=2**30,
        cost_per_million_usd=5.0,
    )
    assert read.serve == Serve(preprocess="app:decode", tokenizer="tokenizer.json", max_length=128, example="request.json")
    assert read.tags == {"service": "search", "team": "ranking"}


def test_estimates_are_accepted_only_where_the_recipe_says_so(folder: Path) -> None:
    assert not _load(folder, SMALL + "budgets: {latency_p95: 5ms}\n").budgets.accept_estimates
    assert _load(folder, SMALL + "budgets: {latency_p95: 5ms, accept_estimates: true}\n").budgets.accept_estimates
    with pytest.raises(RecipeError, match="accept_estimates"):
        _load(folder, SMALL + "budgets: {accept_estimates: yes}\n")


def test_a_confidence_is_of_the_accuracy_drop(folder: Path) -> None:
    budgets = _load(folder, SMALL + "budgets: {accuracy_drop: 0.01, confidence: 0.95}\n").budgets
    assert (budgets.accuracy_drop, budgets.confidence) == (0.01, 0.95)
    with pytest.raises(RecipeError, match=r"budgets.confidence: says how sure accuracy_drop has to be, and there is none"):
        _load(folder, SMALL + "budgets: {confidence: 0.95}\n")
    for wrong in ("0", "1", "1.5", "95", "-0.5", "high", "true"):
        with pytest.raises(RecipeError, match=r"budgets\.confidence"):
            _load(folder, SMALL + f"budgets: {{accuracy_drop: 0.01, confidence: {wrong}}}\n")


def test_load_smallest_recipe_fills_defaults(folder: Path) -> None:
    read = _load(folder, SMALL)
    assert (read.variants, read.metric, read.prefer) == (None, MetricSpec(name="fidelity"), "cost")
    assert read.calibration == HeldOutCalibration()
    assert read.budgets == Budgets()
    assert read.serve == Serve()


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("quantize: static", "{quantize: {method: static}}"),
        ("precision: bf16", "{precision: {type: bf16}}"),
        ("precision: ", "{precision: {}}"),
    ],
)
def test_bare_value_is_the_field_that_the_row_names(folder: Path, short: str, long: str) -> None:
    assert _load(folder, WHOLE.replace("{quantize: {method: static}}", short)) == _load(
        folder, WHOLE.replace("{quantize: {method: static}}", long)
    )


@pytest.mark.parametrize("kind", ["int8", "mixed"])
def test_types_that_are_calibrated_need_data(folder: Path, kind: str) -> None:
    text = WHOLE.replace("quantize: {method: static}", f"precision: {kind}")
    assert _load(folder, text.replace("  calibration: calib.npz\n", "")).calibration == HeldOutCalibration()
    (said,) = _problems(folder, text.replace("  calibration: calib.npz\n", "  calibration: none\n"))
    assert "variants.int8[0]" in said
    assert f"precision in {kind} needs data to calibrate with" in said


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("{held_out: 0.3}", HeldOutCalibration(share=0.3)),
        ("none", None),
        ("random", INVENTED),
        ('"none"', None),
        ("~", HeldOutCalibration()),
    ],
)
def test_calibration_without_data(folder: Path, said: str, meant: object) -> None:
    text = SMALL.replace("data: {evaluation: eval.npz", f"data: {{calibration: {said}, evaluation: eval.npz")
    assert text != SMALL
    assert _load(folder, text).calibration == meant


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("{held_out: 0}", "a share between 0 and 1"),
        ("{held_out: 1.0}", "a share between 0 and 1"),
        ("{held_out: true}", "a share between 0 and 1"),
        ("{held_out: a fifth}", "a share between 0 and 1"),
        ("{held: 0.3}", "must be data as for evaluation"),
        ("{held_out: 0.3, seed: 4}", "must be data as for evaluation"),
        ("0.3", "must be data as for evaluation"),
        ("[calib.npz]", "must be data as for evaluation"),
        ("nothing", "is neither an .npz file"),
    ],
)
def test_calibration_that_means_nothing_is_one_problem(folder: Path, said: str, why: str) -> None:
    text = SMALL.replace("data: {evaluation: eval.npz", f"data: {{calibration: {said}, evaluation: eval.npz")
    (problem,) = _problems(folder, text)
    assert "data.calibration" in problem
    assert why in problem


def test_random_calibration_keeps_no_budget_for_accuracy(folder: Path) -> None:
    text = SMALL.replace("data: {evaluation: eval.npz", "data: {calibration: random, evaluation: eval.npz")
    (problem,) = _problems(folder, text + "budgets: {accuracy_drop: 0.01}\n")
    assert "data.calibration: random proves no accuracy" in problem
    assert _load(folder, text + "budgets: {latency_p95: 5ms}\n").calibration == INVENTED


def test_empty_section_is_as_if_left_out(folder: Path) -> None:
    assert _load(folder, SMALL + "budgets:\n  # latency_p95: 50ms\nserve:\n").digest == _load(folder, SMALL).digest


def test_digest_is_of_the_meaning(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    first = _load(folder, SMALL + "budgets: {package_size: 100MB, latency_p50: 50ms}\n").digest
    assert _load(folder, SMALL + "# said otherwise\nbudgets: {latency_p50: 0.05s, package_size: 0.1GB}\n").digest == first
    assert _load(folder, SMALL + "budgets: {package_size: 101MB, latency_p50: 50ms}\n").digest != first
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("model.onnx", "eval.npz"):
        (elsewhere / name).touch()
    assert _load(elsewhere, SMALL + "budgets: {package_size: 100MB, latency_p50: 50ms}\n").digest == first


@dataclass(frozen=True)
class Mistake:
    """A line of `WHOLE` written wrongly, and what must be said of it."""

    right: str
    wrong: str
    line: int
    place: str
    said: str


MISTAKES = [
    Mistake("name: fashion", "name: Fashion Net", 1, "name", "lower-case letters, digits and hyphens"),
    Mistake("name: fashion", "name: 7", 1, "name", "write it in quotes"),
    Mistake("name: fashion", "nam: fashion", 1, "nam", "unknown key; did you mean 'name'?"),
    Mistake("  torch: net.model:build", "  onx: a", 3, "source.onx", "did you mean 'onnx'?"),
    Mistake("  torch: net.model:build", "  torch: net.modle:build", 3, "source.torch", "did you mean 'model'?"),
    Mistake("  torch: net.model:build", "  torch: net.model.build", 3, "source.torch", "is not `module:function`"),
    Mistake("  torch: net.model:build", "  torch: torchvision:resnet18", 3, "source.torch", "installed packages are not searched"),
    Mistake("  torch: net.model:build", "  onnx: nope.onnx", 3, "source.onnx", "nope.onnx does not exist"),
    Mistake("  torch: net.model:build", "  onnx: hf", 3, "source.onnx", "is a directory, not a file"),
    Mistake("  torch: net.model:build", "  huggingface: org/model", 3, "source.huggingface", "mlpack downloads nothing"),
    Mistake("  torch: net.model:build", "  huggingface: bare", 3, "source.huggingface", "has no config.json"),
    Mistake("  weights: net.safetensors", "  weights: net.safetensor", 4, "source.weights", "did you mean 'net.safetensors'?"),
    Mistake("  weights: net.safetensors", "  onnx: model.onnx", 2, "source", "exactly one of onnx, huggingface, torch, sklearn"),
    Mistake("  weights: net.safetensors", "  task: x", 4, "source.task", "only a huggingface source has a task"),
    Mistake("float32, shape", "float23, shape", 6, "inputs.image.dtype", "did you mean 'float32'?"),
    Mistake("[batch, 1, 28, 28]", "[batch, 0, 28, 28]", 6, "inputs.image.shape[1]", "at least 1"),
    Mistake("[batch, 1, 28, 28]", "batch", 6, "inputs.image.shape", "must be a list"),
    Mistake(
        "inputs:\n  image: {dtype: float32, shape: [batch, 1, 28, 28]}\n", "inputs: {}\n", 5, "inputs", "a torch source needs them"
    ),
    Mistake("  evaluation: eval.npz", "  evaluation: evil.npz", 8, "data.evaluation", "did you mean 'eval.npz'?"),
    Mistake("  evaluation: eval.npz", "  evaluation: eval.csv", 8, "data.evaluation", "neither an .npz file"),
    Mistake("  evaluation: eval.npz", "  evaluation: data:rows", 8, "data.evaluation", "there is no module data"),
    Mistake("  evaluation: eval.npz\n", "", 7, "data.evaluation", "is required"),
    Mistake("  calibration: calib.npz", "  calibration: ./eval.npz", 9, "data.calibration", "is the evaluation data"),
    Mistake("metric: top1", "metric: top5", 10, "metric", "did you mean 'top1'?"),
    Mistake("metric: top1", "metric: mine:score", 10, "metric", "there is no module mine"),
    Mistake("metric: top1", "metric: {name: recall_at_k}", 10, "metric", "recall_at_k needs k"),
    Mistake("metric: top1", "metric: {name: top1, treshold: 0.5}", 10, "metric.treshold", "did you mean 'threshold'?"),
    Mistake("metric: top1", "metric: {name: mae, threshold: 0.5}", 10, "metric.threshold", "mae takes no threshold"),
    Mistake("metric: top1", "metric: {name: map_50, decode: mine:boxes}", 10, "metric.decode", "there is no module mine"),
    Mistake("metric: top1", "metric: {name: f1, classes: [a, b, a]}", 10, "metric.classes", "names a class twice"),
    Mistake("metric: top1", "metric: {name: top1, column: '1'}", 10, "metric.column", "whole number"),
    Mistake("metric: top1", "metric: {output: scores}", 10, "metric.name", "is required"),
    Mistake("  fp32: []", "  FP32: []", 12, "variants.FP32", "lower-case letters"),
    Mistake("  fp32: []", f"  {'v' * 129}: []", 12, f"variants.{'v' * 129}", "at most 128 letters long, and this one 129"),
    Mistake("  fp32: []", "  fp32:", 12, "variants.fp32", "must be a list of steps"),
    Mistake("  fp32: []", "  float: [quantize]", 12, "variants.float", "names the baseline"),
    Mistake(
        "quantize: {method: static}", "quantise: {method: static}", 13, "variants.int8[0].quantise", "did you mean 'quantize'?"
    ),
    Mistake("{method: static}", "{mehtod: static}", 13, "variants.int8[0].quantize.mehtod", "did you mean 'method'?"),
    Mistake("{method: static}", "{method: statc}", 13, "variants.int8[0].quantize.method", "did you mean 'static'?"),
    Mistake("{method: static}", "{arch: arm64}", 13, "variants.int8[0].quantize.arch", "filled in by the build"),
    Mistake("{method: static}", "{calibration: c}", 13, "variants.int8[0].quantize.calibration", "filled in by the build"),
    Mistake("{method: static}", '{per_channel: "yes"}', 13, "variants.int8[0].quantize.per_channel", "must be a boolean"),
    Mistake("{method: static}", "[static]", 13, "variants.int8[0].quantize", "must be a mapping of its keys"),
    Mistake("{method: static}", "statc", 13, "variants.int8[0].quantize", "did you mean 'static'?"),
    Mistake(
        "{method: static}",
        "8",
        13,
        "variants.int8[0].quantize",
        "must be 'auto', 'static', 'dynamic', 'mixed' or 'weights', not 8",
    ),
    Mistake("{method: static}", "static, precision: fp16", 13, "variants.int8[0]", "a step is a pass's name"),
    Mistake("quantize: {method: static}", "precision: fp61", 13, "variants.int8[0].precision", "did you mean 'fp16'?"),
    Mistake("quantize: {method: static}", "simplify: portable", 13, "variants.int8[0].simplify", "must be a mapping of its keys"),
    Mistake("[{quantize: {method: static}}]", "[[quantize]]", 13, "variants.int8[0]", "a step is a pass's name"),
    Mistake("  calibration: calib.npz", "  calibration: none", 13, "variants.int8[0]", "static quantization needs data"),
    Mistake("ratio: 0.3", "ratio: 30", 14, "variants.slim-int8[0].prune.ratio", "must lie between 0 and 1"),
    Mistake(", ratio: 0.3", "", 14, "variants.slim-int8[0].prune.ratio", "is required"),
    Mistake(
        ", quantize]",
        ", quantize, {prune: {ratio: 0.5}}]",
        14,
        "variants.slim-int8[2]",
        "put it before the steps that work on ONNX",
    ),
    Mistake("lambda-zip: {", "lambda-zap: {", 16, "targets.lambda-zap", "did you mean 'lambda-zip'?"),
    Mistake("memory_mb: 1769", "memory_mb: 64", 16, "targets.lambda-zip.memory_mb", "from 128 to 10240"),
    Mistake("memory_mb: 1769", "memory_mb: 1GB", 16, "targets.lambda-zip.memory_mb", "must be a whole number"),
    Mistake("memory_mb: 1769", "memory: 1769", 16, "targets.lambda-zip.memory", "did you mean 'memory_mb'?"),
    Mistake("memory_mb: 1769", "python: 3.13", 16, "targets.lambda-zip.python", 'write it in quotes: "3.13"'),
    Mistake("{arch: x86_64, m", "{arch: amd64, m", 16, "targets.lambda-zip.arch", "must be 'x86_64' or 'arm64'"),
    Mistake("[{arch: arm64}, ", "[{arch: x86_64}, ", 17, "targets.lambda-image[1]", "is asked for twice"),
    Mistake("accuracy_drop: 0.01", "accuracy_drop: -1", 19, "budgets.accuracy_drop", "greater than or equal to 0"),
    Mistake("latency_p95: 50ms", "latency_p95: 50", 20, "budgets.latency_p95", "a bare number has no unit: write us, ms, s or min"),
    Mistake("latency_p95: 50ms", "latncy_p95: 50ms", 20, "budgets.latncy_p95", "did you mean 'latency_p95'?"),
    Mistake("package_size: 100MB", "package_size: 100Mb", 22, "budgets.package_size", "Mb is not a unit of size"),
    Mistake("cost_per_million: 5USD", "cost_per_million: 5EUR", 24, "budgets.cost_per_million", "write USD"),
    Mistake("prefer: latency", "prefer: speed", 25, "prefer", "must be 'cost', 'latency', 'size' or 'accuracy'"),
    Mistake("app:decode", "app.decode", 26, "serve.preprocess", "is not `module:function`"),
    Mistake("app:decode", "api:decode", 26, "serve.preprocess", "did you mean 'app'?"),
    Mistake("tokenizer: tokenizer.json", "tokenizer: tok.json", 26, "serve.tokenizer", "does not exist"),
    Mistake("request.json", "reqest.json", 26, "serve.example", "did you mean 'request.json'?"),
    Mistake("request.json", "app.py", 26, "serve.example", "is not JSON"),
    Mistake("request.json", "list.json", 26, "serve.example", "a request's body is an object"),
    Mistake(", example: request.json", "", 26, "serve", "preprocess needs `example"),
    Mistake("max_length: 128", "max_length: 0", 26, "serve.max_length", "greater than or equal to 1"),
    Mistake("service: search", "service: 5", 27, "tags.service", "write it in quotes"),
    Mistake("prefer: latency", "tags: {}", 27, "tags", "is written twice (first in line 25)"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.place} {mistake.said[:24]}")
def test_mistake_is_said_with_its_line_and_path(folder: Path, mistake: Mistake) -> None:
    assert WHOLE.count(mistake.right) == 1
    problems = _problems(folder, WHOLE.replace(mistake.right, mistake.wrong))
    (said,) = [problem for problem in problems if problem.startswith(f"r.yaml:{mistake.line}: {mistake.place}: ")]
    assert mistake.said in said


def test_all_mistakes_are_said_at_once(folder: Path) -> None:
    text, expected = WHOLE, []
    taken: set[int] = set()
    for mistake in MISTAKES:
        same_lines = mistake.wrong.count("\n") == mistake.right.count("\n") and "(first in" not in mistake.said
        if same_lines and mistake.line not in {*taken, 2, 4, 9}:  # those depend on lines that are wrong themselves by now
            taken.add(mistake.line)
            text = text.replace(mistake.right, mistake.wrong)
            expected.append(f"r.yaml:{mistake.line}: {mistake.place}: ")
    problems = _problems(folder, text)
    assert len(expected) >= 16
    assert not [start for start in expected if not any(problem.startswith(start) for problem in problems)]
    assert [int(problem.split(":")[1]) for problem in problems] == sorted(int(problem.split(":")[1]) for problem in problems)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "r.yaml:1: is empty"),
        ("- a\n", "r.yaml:1: is not a mapping"),
        ("just words\n", "r.yaml:1: is not a mapping"),
        ("name: [\n", "is not YAML"),
    ],
)
def test_what_is_no_recipe_says_so(folder: Path, text: str, said: str) -> None:
    assert said in _problems(folder, text)[0]


def test_missing_required_keys_are_all_named(folder: Path) -> None:
    problems = _problems(folder, "metric: top1\n")
    assert problems == [f"r.yaml:1: {key}: is required" for key in ("data", "name", "source", "targets")]


def test_prune_needs_weights_that_onnx_no_longer_has(folder: Path) -> None:
    (said,) = _problems(folder, SMALL + "variants: {slim: [{prune: {ratio: 0.3}}]}\n")
    assert "variants.slim[0]: prune works on huggingface or torch, not on onnx: and the source is onnx" in said


def test_texts_need_a_tokenizer(folder: Path) -> None:
    (said,) = _problems(folder, SMALL.replace("eval.npz", "eval.jsonl"))
    assert "data.evaluation: texts need a tokenizer" in said
    _load(folder, SMALL.replace("eval.npz", "eval.jsonl") + "serve: {tokenizer: tokenizer.json}\n")
    _load(folder, SMALL.replace("eval.npz", "eval.jsonl").replace("onnx: model.onnx", "huggingface: hf"))


def test_reference_is_found_in_the_working_directory_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "recipes").mkdir()
    for name in ("model.onnx", "eval.npz"):
        (folder / "recipes" / name).touch()
    monkeypatch.chdir(folder)
    (folder / "recipes" / "r.yaml").write_text(SMALL + 'serve: {preprocess: "app:decode", example: ../request.json}\n')
    assert reader.load(Path("recipes/r.yaml")).serve.preprocess == "app:decode"


def test_nothing_that_a_recipe_names_is_executed(folder: Path) -> None:
    (folder / "app.py").write_text("raise SystemExit('executed')\n")
    (folder / "net" / "model.py").write_text("raise SystemExit('executed')\n")
    _load(folder, WHOLE)


_SLOW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@_SLOW
@given(st.text(alphabet=st.sampled_from(list("abc:-[]{}'\"\n \\0&*!?,|>#~.1")), max_size=60))
def test_garbage_after_a_recipe_is_a_recipe_error_or_nothing(folder: Path, text: str) -> None:
    problems: tuple[str, ...] = ()
    try:
        _load(folder, SMALL + text)
    except RecipeError as error:
        problems = error.problems
    assert all(problem.startswith(str(folder)) for problem in problems)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(["onnx", "quantize"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_KEYS = ("name", "source", "inputs", "data", "metric", "variants", "targets", "budgets", "prefer", "serve", "tags")


@pytest.mark.slow
@_SLOW
@given(st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=4))
def test_any_value_under_any_key_is_a_recipe_error_or_fine(folder: Path, values: dict[str, Any]) -> None:
    whole = {"name": "x", "source": {"onnx": "model.onnx"}, "data": {"evaluation": "eval.npz"}, "targets": {"lambda-zip": {}}}
    problems: tuple[str, ...] = ("none",)
    try:
        _load(folder, json.dumps(whole | values))
    except RecipeError as error:
        problems = error.problems
    assert problems


@given(st.integers(1, 10**12))
def test_size_round_trips_through_every_unit(number: int) -> None:
    assert parse_size(f"{number}B") == number
    assert parse_size(f"{number} kB") == number * 1000
    assert parse_size(f"{number}MiB") == number * 2**20


@given(st.floats(0.001, 1e6))
def test_duration_in_seconds_is_a_thousand_times_milliseconds(number: float) -> None:
    assert math.isclose(parse_duration_ms(f"{number:.6f}s"), 1000 * parse_duration_ms(f"{number:.6f}ms"))


@given(st.text(max_size=12) | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.integers(), max_size=2))
def test_quantities_are_positive_and_finite_or_a_value_error(value: Any) -> None:
    for parse in (parse_size, parse_duration_ms, parse_usd):
        try:
            found = parse(value)
        except ValueError:
            continue
        assert 0 < found < math.inf


@pytest.mark.parametrize("text", ["1 000MB", "-5MB", "5", "MB", "1e3MB", "5Mb", "0MB", "", "५MB"])
def test_size_that_could_be_misread_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


def test_money_is_a_number_or_dollars() -> None:
    assert (parse_usd(5), parse_usd(0.8), parse_usd("5USD"), parse_usd("0.25 USD"), parse_usd("5$")) == (5, 0.8, 5, 0.25, 5)


def test_schema_accepts_what_load_accepts(folder: Path) -> None:
    from mlpack.core import yaml_positions

    schema = reader.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    shorter = WHOLE.replace("{method: static}", "static").replace(", quantize]", ", precision: mixed]")
    for text in (WHOLE, SMALL, shorter):
        validator.validate(yaml_positions.parse(text, "r").value)


@pytest.mark.parametrize(
    "mistake",
    [m for m in MISTAKES if "unknown key" in m.said or "did you mean 'method" in m.said or "fp61" in m.wrong or "unit" in m.said],
    ids=lambda m: m.place,
)
def test_schema_refuses_what_an_editor_should_underline(mistake: Mistake) -> None:
    from mlpack.core import yaml_positions

    value = yaml_positions.parse(WHOLE.replace(mistake.right, mistake.wrong), "r").value
    assert not jsonschema.Draft202012Validator(reader.schema()).is_valid(value)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("name: shop\nmodels: {a: out/a, b: out/b}\ntargets: {lambda-zip: {memory_mb: 3538}}", True),
        (
            "name: shop\nmodels: {a: out/a}\ndefault: a\nmemory: 2GB\ntags: {team: x}\ntargets: {container: {base: rootfs}}",
            True,
        ),
        ("name: shop\nmodels: {a: out/a}\ntargets: {container: null}", True),
        ("name: shop\nmodels: {a: out/a}", False),
        ("name: shop\nmodels: {}\ntargets: {container: null}", False),
        ("name: shop\nmodel: {a: out/a}\ntargets: {container: null}", False),
        ("name: shop\nmodels: {a: out/a}\nbudgets: {cold_start: 1s}\ntargets: {container: null}", False),
        ("name: shop\nmodels: {a: out/a}\ntargets: {container: null, lambda-zip: null}", False),
        ("name: shop\nmodels: {a: out/a}\ntargets: {container: {memory: 3}}", False),
        ("name: shop\nmodels: {a: out/a}\ntargets: {lambda-zip: {memory_mb: auto}}", False),
    ],
)
def test_schema_has_recipes_of_several_models(text: str, fits: bool, tmp_path: Path) -> None:
    from mlpack.core import yaml_positions
    from mlpack.recipe import several

    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    assert jsonschema.Draft202012Validator(reader.schema()).is_valid(yaml_positions.parse(text, "r").value) == fits
    if fits:
        several.load(recipe)
    else:
        with pytest.raises(RecipeError):
            several.load(recipe)


def test_importing_recipe_and_plan_loads_nothing_heavy() -> None:
    light = ("recipe.reader", "recipe.first", "pipeline.plan", "targets.prices", "evaluation.data.sources", "evaluation.metrics")
    modules = ", ".join(f"mlpack.{name}" for name in light)
    code = f"import sys, {modules}; print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")}
    )
    loaded = {name.split(".")[0] for name in out.stdout.split()}
    assert not loaded & {"pydantic", "ruamel", "numpy", "torch", "onnx", "onnxruntime", "transformers", "rich"}


def test_budgets_are_read_alone() -> None:
    from mlpack.recipe.reader import budgets

    assert budgets({"latency_p95": "20ms", "package_size": "65MB"}) == Budgets(latency_p95_ms=20.0, package_size_bytes=65_000_000)
    with pytest.raises(RecipeError) as caught:
        budgets({"latency_p95": 20, "weight": "1kg"})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["latency_p95", "weight"]
