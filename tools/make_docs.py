"""Writes the reference that is generated from the code: docs/recipe.schema.json and docs/recipe.md.

    python tools/make_docs.py           write them
    python tools/make_docs.py --check   say which are out of date, and exit 1

The schema, the page and the checks of a recipe come from the same models, so they cannot disagree; a test compares the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from mlpack.errors import MEANINGS  # noqa: E402
from mlpack.evaluation import metrics  # noqa: E402  (the path comes first, so that no installation is needed)
from mlpack.passes import PASSES, Pass  # noqa: E402
from mlpack.recipe import reader  # noqa: E402  (the path comes first, so that no installation is needed)
from mlpack.targets import TARGETS, licenses  # noqa: E402

_SECTIONS = (
    ("source", "SourceKeys"),
    ("inputs.NAME", "InputKeys"),
    ("data", "DataKeys"),
    ("metric", "MetricKeys"),
    ("budgets", "BudgetKeys"),
    ("search", "SearchKeys"),
    ("serve", "ServeKeys"),
)

_OPENING = """# The recipe

Generated from the code by `make docs`; a test holds it to that.

A recipe is one YAML 1.2 file. Every problem in it is reported at once, each with file, line and path. Relative paths
are relative to the recipe. Nothing in it runs code except a `module:function` that you name, which is looked up beside
the recipe, then in the directory the command runs in. For completion in an editor, begin the file with

```yaml
# yaml-language-server: $schema=docs/recipe.schema.json
```

Sizes are written `100MB` (decimal) or `64MiB` (binary), durations `50ms` or `1.5s`, money `5USD` or `5`.
"""

_LICENCES = """Some packages redistribute what comes under a licence that has to be agreed to. Whoever answers for that says so in
`accept_licenses`, by name; without it `plan` and `build` end with exit code 2 before any work. What was accepted is printed, and
recorded in the package's `package.json`; the text lies in the package's `licenses/`.
"""

_DATA = """## Data files

`.npz`: one array per model input, and optionally `labels`, one a sample: class numbers or names for `top1` and `f1` (a row
of them for tokens, -100 for those that do not count), numbers for `mae` and `rmse`, numbers or strings for retrieval, rows
of [class, x1, y1, x2, y2] for boxes (padded with a class of -1), rows of 0 and 1 or lists of classes where a
sample has several, maps [height, width] of classes for segmentation, anything for metrics of your own. An array with as many
axes as the model's input is cut into calls along its first; one with an axis more holds whole calls. Counts must agree.
Pickles are never opened. Element types are converted only where nothing is lost: any float to the model's float,
integers to wider ones.

`.jsonl`: one object a line, all with the same keys: `{"text", "label"}` or `{"text"}`; `{"text", "text_pair", "label"}` or
without the label for pairs, which a reranker reads together; or `{"query", "document"}`, which gives every query and then
every document, labelled with the pair's number, and pairs where the model has a head. A label is a number, the name of a
class (`id2label`), or a list of either, one for each token of the model: special tokens ([CLS], [SEP]) and further pieces of a
word included, as -100. Texts are tokenised inside the package.

Classical models: `xgboost` and `lightgbm` have one input, `X`, float32 [batch, columns]. Those of `sklearn` are what `inputs`
says, in the order of the columns that the estimator was fitted on: one of [batch, columns] for a table of numbers, one of
[batch, 1] for each column of strings, `{dtype: string, shape: [batch, 1]}`, and for texts to a vectorizer alone [batch].
A classifier gives `label` and `probabilities`, or `decision_function` where it has no probabilities, a column for each class; of
several targets `probabilities_0`, `probabilities_1` and so on. Anything else gives `variable`. What cannot be converted, or answers
otherwise than the estimator in any row of the evaluation data, is refused with what to do.

`module:function`: called without arguments, returns an iterable of `(inputs, labels)`; inputs are arrays by name, batch
included (or a list of texts, or of pairs of texts); labels are one a sample, of any lengths (an array [n, 5] of boxes for
a picture, a list of tags for a sentence), or None. Its name is its code's digest, so data it reads from elsewhere should
not change.
"""

_STEPS = """`auto` is the float model, int8 by the method that suits the architecture, and fp16 where a target computes in it. What
makes no sense for the model (int8 of trees) is skipped with its reason, and `plan` says what each is worth trying for.
Otherwise a mapping of names to chains: `int8: [{quantize: {method: dynamic}}]`, or shorter `int8: [quantize: dynamic]`.
The export to ONNX, the clean-up after it and the final optimization are added where a chain does not name them; the
architecture comes from the target.

A candidate with a `quantize` step that loses more than `accuracy_drop`, or is slower or larger than its float where
`prefer` or a budget asks for that, is looked at again: which of its layers do the damage, and which have to stay float.
At most log2(layers) + 5 forms of it are made, packed and judged, for as long as `search` allows; the first inside every
budget ships, and the report shows them all. What a step says stays as it is said: with `keep_float` nothing is searched.

Calibration data is used by static quantization, by `precision` in int8 and mixed, and by structured pruning of torch
models: the statistics of batch normalisation, which were those of a network with all its channels, are measured anew on
it (no labels are needed).
Without calibration data they stay as they were, and the drop in accuracy shows it.

Where a recipe gives no `data.calibration` and a step of any of its variants cannot do without, a fifth of the evaluation
samples, 512 at most, is held out for it, and no candidate is judged on those: report and `plan` say how many of how many.
They are chosen by what is in them, so their order changes nothing; calls stay whole unless there are fewer than ten and
their rows are samples; equal samples are on one side, as are a query and its document, and for retrieval the samples of a
label that has ten or fewer. Fewer than 5 are not held out unless the recipe asks for a share: `calibration: {held_out: 0.5}`.
With `none` nothing calibrates.

`calibration_method`, of a range: `minmax` keeps all that the calls reach; `percentile` as far from zero as that share of
the values lies; `entropy` as far as the steps tell least apart from the distribution; `mse` what rounds and cuts with the
least squared error. A call that alone makes a range 4 times as wide is said. An activation that is not finite, empty or
zero has no range, and its nodes stay float.
"""

_CODE = """## Your own code

For `package.module:function`, every `*.py` below the top-level package counts as yours: it is in the digests, and it is
what a torch source carries along. For a plain `module:function`, every `*.py` directly beside the module counts.
Installed packages are not searched: call them from a function of your own.

`serve.preprocess` gets the request's JSON object and returns nested lists by the name of the model's inputs, or
`{"texts": [...]}` for a package with a tokenizer;
`serve.postprocess` gets the outputs by name, each with `tolist()`, `shape` and `datatype`, and returns what is answered.
Both run inside the package, where nothing is installed but the standard library and what lies beside them. What a
request looks like only their author knows: `serve.example` is the body of one, the package is booted with it before a
build says ok, and it ships as `event.json`.
"""


def documents() -> dict[Path, str]:
    """Every generated file's text, by its path below the project."""
    schema = reader.schema()
    return {
        Path("docs/recipe.schema.json"): json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        Path("docs/recipe.md"): "\n".join(_page(schema)),
    }


def _page(schema: dict[str, Any]) -> Iterator[str]:
    definitions = schema["$defs"]
    yield _OPENING
    yield "## Keys\n"
    yield from _table(schema)
    for title, name in _SECTIONS:
        yield f"## `{title}`\n"
        yield from _table(definitions[name])
    yield _DATA
    yield _CODE
    yield "## Metrics\n"
    yield "| metric | compared with | better | what it is |\n| --- | --- | --- | --- |"
    for metric in metrics.METRICS.values():
        better = "lower" if metric.lower_is_better else "higher"
        yield f"| `{metric.name}` | {metric.compares} | {better} | {metric.doc} |"
    yield (
        "| `module:function` | labels | higher, or lower when the function has `lower_is_better = True` |"
        " `(outputs: dict of arrays, labels) -> float`, or an array of one number a sample |\n"
    )
    yield "## Variants and their passes\n"
    yield _STEPS
    for name, row in PASSES.items():
        gives = "the same" if row.gives == "same" else row.gives
        described = f"{_doc(definitions[f'step-{name}'])} Takes {' or '.join(row.takes)}, gives {gives}.{_short(name, row)}"
        yield f"### `{name}`\n\n{described}\n"
        yield from _table(definitions[f"step-{name}"])
    yield "## Targets\n"
    yield "A target's keys, or a list of such to try one target more than once: `lambda-zip: [{arch: x86_64}, {arch: arm64}]`.\n"
    for name, kind in TARGETS.items():
        yield f"### `{name}`\n\n{kind.description}.\n\n{_doc(definitions[f'target-{name}'])}\n"
        yield from _table(definitions[f"target-{name}"])
    yield "## Licences\n"
    yield _LICENCES
    yield "| name | what it is | what we read in it |\n| --- | --- | --- |"
    for name, licence in licenses.LICENSES.items():
        yield f"| `{name}` | {licence.title} | {licence.summary} Read on {licence.read_on}. |"
    yield ""
    yield "## Exit codes\n"
    yield "| code | meaning |\n| --- | --- |"
    for code, meaning in MEANINGS.items():
        yield f"| {int(code)} | {meaning} |"
    yield ""


def _short(name: str, row: Pass) -> str:
    """How a bare value may be written, by the first value that its field offers."""
    if row.short is None:
        return ""
    first = get_args(get_type_hints(row.config)[row.short])[0]
    return f" A bare value is its `{row.short}`: `{name}: {first}` is `{name}: {{{row.short}: {first}}}`."


def _doc(schema: dict[str, Any]) -> str:
    return " ".join(str(schema.get("description", "")).split())


def _table(schema: dict[str, Any]) -> Iterator[str]:
    if not schema.get("properties"):
        yield "No keys.\n"
        return
    yield "| key | value | default | meaning |\n| --- | --- | --- | --- |"
    required = schema.get("required", ())
    for key, value in schema["properties"].items():
        default = "**required**" if key in required else _default(value)
        yield f"| `{key}` | {_kind(value)} | {default} | {_doc(value).replace('|', chr(92) + '|')} |"
    yield ""


def _default(value: dict[str, Any]) -> str:
    given = value.get("default")
    if given is None:
        return ""
    return f"`{json.dumps(given) if not isinstance(given, str) else given}`"


def _kind(value: dict[str, Any]) -> str:
    """A property's type in a few words."""
    if "$ref" in value:
        return "mapping, below"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return " \\| ".join(f"`{option}`" for option in value["enum"])
    if "anyOf" in value:
        kinds = [_kind(option) for option in value["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    kind = value.get("type", "see below")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return "list"
    if kind == "object":
        return "mapping"
    pattern = str(value.get("pattern", ""))
    return "size" if "iB" in pattern else "duration" if "µs" in pattern else str(kind)


def main() -> int:
    """Writes the files, or compares them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    check = parser.parse_args().check
    stale = []
    for path, text in documents().items():
        there = ROOT / path
        if there.is_file() and there.read_text("utf-8") == text:
            continue
        stale.append(path)
        if not check:
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_text(text, "utf-8")
    for path in stale:
        print(f"{path} {'is out of date: run `make docs`' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
