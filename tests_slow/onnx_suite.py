"""ONNX's own backend tests through the passes: `python -m tests_slow.onnx_suite` prints the counts, and what is left out and why.

Every single-node and simple model test whose expected outputs the engine gives with optimisations off (its IR and operator set
versions lowered to the engine's, as numbers) goes through adopt, simplify and optimize, as a recipe's ONNX source does, with the
test's own inputs as the recipe's calls; the optimised directory, opened as a package opens it, has to give the expected outputs.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from tests.support.recorded_calls import recorded

from mlpack.errors import MlpackError
from mlpack.evaluation.data.calls import DATATYPES
from mlpack.graphs import check
from mlpack.graphs.foreign import adopt, versions
from mlpack.passes import optimize, simplify
from mlpack.passes.optimize import Optimize
from mlpack.passes.simplify import Simplify

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
RIGHT, NOT_THE_ENGINES = "right", "not the engine's"

LEFT_OUT = {
    "is not a tensor but": "a sequence or an optional value goes in or comes out, which no request can hold",
}
"""Reasons for which a test that the engine passes is left out, by what the refusal says."""


@dataclass(frozen=True)
class Case:
    """One model with its data sets: inputs and expected outputs."""

    name: str
    kind: str
    model: onnx.ModelProto
    sets: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """What became of a test: `right`, `not the engine's`, `refused`, `wrong` or `left out`, and the words for it."""

    test: str
    what: str
    why: str = ""


def cases() -> Iterator[Case]:
    """All of them, kind by kind, by name."""
    from onnx.backend.test.loader import load_model_tests

    for kind in KINDS:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            loaded = load_model_tests(kind=kind)
        for case in sorted(loaded, key=lambda case: case.name):
            model = case.model if case.model is not None else onnx.load(Path(case.model_dir) / "model.onnx")
            sets = case.data_sets if case.data_sets is not None else list(_stored(Path(case.model_dir), model))
            given = [([_array(each) for each in inputs], [_array(each) for each in outputs]) for inputs, outputs in sets]
            yield Case(case.name, kind, model, given, case.rtol, case.atol)


def _stored(folder: Path, model: onnx.ModelProto) -> Iterator[tuple[list[Any], list[Any]]]:
    for place in sorted(folder.glob("test_data_set_*")):
        yield _protos(place, "input", model.graph.input), _protos(place, "output", model.graph.output)


def _protos(place: Path, kind: str, ports: Any) -> list[Any]:
    found = []
    for number in range(len(list(place.glob(f"{kind}_*.pb")))):
        data = (place / f"{kind}_{number}.pb").read_bytes()
        if ports[number].type.HasField("sequence_type"):
            found.append(numpy_helper.to_list(onnx.SequenceProto.FromString(data)))
        elif ports[number].type.HasField("optional_type"):
            found.append(numpy_helper.to_optional(onnx.OptionalProto.FromString(data)))
        else:
            found.append(onnx.TensorProto.FromString(data))
    return found


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic | int | float | bool) else value


def outcome(test: Case, work: Path) -> Outcome:
    """The test through the passes, in the empty directory `work`."""
    try:
        source = check.session_of(_lowered(test.model).SerializeToString(), "ORT_DISABLE_ALL")
        for inputs, expected in test.sets:
            _same(check.run(source, _feed(source, inputs)), expected, test)
    except (MlpackError, AssertionError, TypeError, ValueError, RuntimeError) as error:
        return Outcome(test.name, NOT_THE_ENGINES, str(error))
    step = "adopt"
    try:
        onnx.save(test.model, work / "source.onnx")
        for name in ("adopt", "simplify", "optimize"):
            (work / name).mkdir()
        adopt.adopt(work / "source.onnx", (), work / "adopt")
        examples = _recorded(source, test, work / "calls")
        step = "simplify"
        simplify.run(work / "adopt", Simplify(examples=examples), work / "simplify")
        step = "optimize"
        optimize.run(work / "simplify", Optimize(examples=examples), work / "optimize")
    except MlpackError as error:
        for words, reason in LEFT_OUT.items():
            if words in str(error):
                return Outcome(test.name, "left out", reason)
        return Outcome(test.name, "refused", f"{step}: {error}")
    except Exception as error:  # noqa: BLE001  a bug, which has to be counted as one
        return Outcome(test.name, "wrong", f"{step}: {type(error).__name__}: {error}")
    return _judged(test, work / "optimize")


def _lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    copy.ir_version = min(copy.ir_version, versions.newest_ir())
    for entry in copy.opset_import:
        if entry.domain in ("", "ai.onnx.ml"):
            entry.version = min(entry.version, versions.newest_opset(entry.domain))
    return copy


def _judged(test: Case, model_dir: Path) -> Outcome:
    how = json.loads((model_dir / "engine.json").read_text())
    level = "ORT_ENABLE_ALL" if how["graph_optimization_level"] else "ORT_DISABLE_ALL"
    try:
        opened = check.session(model_dir, level, how["session"])
        for inputs, expected in test.sets:
            _same(check.run(opened, _feed(opened, inputs)), _apart(expected), test)
    except (MlpackError, AssertionError) as error:
        return Outcome(test.name, "wrong", str(error))
    return Outcome(test.name, RIGHT)


def _apart(expected: list[Any]) -> list[Any]:
    """A sequence's members by themselves: each is an output of its own where a graph ends in them."""
    return [one for each in expected for one in (each if isinstance(each, list) else [each])]


def _feed(opened: Any, inputs: list[Any]) -> dict[str, Any]:
    return dict(zip((each.name for each in opened.get_inputs()), inputs, strict=True))


def _recorded(opened: Any, test: Case, folder: Path) -> Path | None:
    """The test's inputs as calls; None where calls cannot hold them (8-bit floats, strings)."""
    feeds = [_feed(opened, inputs) for inputs, _ in test.sets]
    if not all(isinstance(each, np.ndarray) and each.dtype.name in DATATYPES for feed in feeds for each in feed.values()):
        return None
    return recorded(folder, feeds)


def _same(got: Sequence[Any], expected: Sequence[Any], test: Case) -> None:
    from onnx.backend.test.runner import Runner

    Runner.assert_similar_outputs(list(expected), list(got), test.rtol, test.atol)


def sample(every: Sequence[Case], size: int) -> list[Case]:
    """So many of them, evenly over their names: the same ones each time."""
    return [every[number * len(every) // size] for number in range(min(size, len(every)))]


def run(chosen: Sequence[Case]) -> list[Outcome]:
    found = []
    for test in chosen:
        with tempfile.TemporaryDirectory() as work:
            found.append(outcome(test, Path(work)))
    return found


def summary(found: Sequence[Outcome]) -> str:
    """Counts, then every test that is neither right nor none of the engine's, with its reason."""
    counted = Counter(each.what for each in found)
    passed = len(found) - counted[NOT_THE_ENGINES]
    counts = ", ".join(f"{counted[what]} {what}" for what in ("right", "left out", "refused", "wrong"))
    lines = [f"{len(found)} tests; the engine passes {passed}: {counts}"]
    reasons: dict[tuple[str, str], list[str]] = {}
    for each in found:
        if each.what not in (RIGHT, NOT_THE_ENGINES):
            reasons.setdefault((each.what, each.why), []).append(each.test)
    lines += [f"{what}: {why}: {', '.join(names)}" for (what, why), names in sorted(reasons.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    wanted = sys.argv[1:]
    print(summary(run([test for test in cases() if not wanted or test.name in wanted])))
