"""Every verb of the command line with words that nobody well-meaning would choose, in each place that takes one: what comes out is
words, whoever reads along, and the exit code is one of the promised ones."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.support.command_line import run
from tests.support.hostile import CONTROL, LOG, commands
from tests.support.outcomes import as_json, typical
from tests.support.registry.builds import build

import mlpack
from mlpack.core.digest import of_bytes
from mlpack.errors import ExitCode
from mlpack.registry import Key, Put, places
from mlpack.registry.records import Release
from mlpack.registry.rows import rows

pytestmark = pytest.mark.slow  # a hundred command lines

MEANT = ("::error ", "::group::", "::endgroup::", "::warning ")
PROMISED = {ExitCode.OK, ExitCode.RECIPE, ExitCode.STEP_FAILED, ExitCode.SERVICE, ExitCode.OVER_BUDGET}
MANY = re.sub("[\0\ud800-\udc7f\udd00-\udfff]", "", "\n".join(word for word in LOG if len(word) < 500))
"""As arguments and variables, which hold no NUL, and of halves of surrogate pairs those that stand for bytes."""
WORDS = (MANY, f"::error::{MANY}".replace("\n", " "), "x" * 5_000 + "\x1b[2J\udcff\udc9b", "")

ENVIRONMENTS: tuple[dict[str, str], ...] = ({"GITHUB_ACTIONS": "true"}, {"TF_BUILD": "True", "TERM": "xterm"})

VERBS: dict[str, tuple[str, ...]] = {
    "verb": ("{}",),
    "option": ("plan", "--{}"),
    "init": ("init", "{}"),
    "plan": ("plan", "{}"),
    "plan --only": ("plan", "recipe.yaml", "--only", "{}"),
    "build": ("build", "{}"),
    "build --out": ("build", "recipe.yaml", "--only", "none", "--out", "{}"),
    "build --base": ("build", "recipe.yaml", "--only", "none", "--base", "{}"),
    "build --publish": ("build", "recipe.yaml", "--only", "none", "--publish", "{}/x"),
    "run": ("run", "{}"),
    "run --event": ("run", "out1", "--event", "{}"),
    "diff": ("diff", "{}", "out1"),
    "image push": ("image", "push", "out1", "{}"),
    "image pull": ("image", "pull", "{}", "here"),
    "image inspect": ("image", "inspect", "{}"),
    "image validate": ("image", "validate", "{}"),
    "publish": ("publish", "{}"),
    "publish --label": ("publish", "out1", "--label", "{}"),
    "publish --images": ("publish", "out1", "--images", "{}"),
    "list": ("list", "{}"),
    "list --registry": ("list", "--registry", "{}"),
    "show": ("show", "{}"),
    "show --field": ("show", "minilm", "--field", "{}"),
    "show --format": ("show", "minilm", "--format", "{}"),
    "pull": ("pull", "{}"),
    "pull --out": ("pull", "minilm", "--file", "zip", "--out", "{}"),
    "pull --file": ("pull", "minilm", "--file", "{}"),
    "promote": ("promote", "{}", "--to", "prod"),
    "promote --to": ("promote", "minilm@1", "--to", "{}"),
    "promote --why": ("promote", "minilm@1", "--to", "prod", "--why", "{}"),
    "rollback": ("rollback", "{}"),
    "rollback --why": ("rollback", "minilm:prod", "--why", "{}"),
    "history": ("history", "{}"),
    "history --at": ("history", "minilm:prod", "--at", "{}"),
    "verify --registry": ("verify", "--registry", "{}"),
    "verify --resume": ("verify", "--resume", "{}"),
    "gc --tag": ("gc", "--tag", "{}"),
    "policy set": ("registry", "policy", "set", "{}"),
    "policy set --budget": ("registry", "policy", "set", "minilm:prod", "--budget", "{}"),
    "policy set --refuse": ("registry", "policy", "set", "minilm:prod", "--refuse", "{}"),
    "policy show": ("registry", "policy", "show", "{}"),
    "policy remove": ("registry", "policy", "remove", "{}"),
    "create": ("registry", "create", "{}"),
    "create --images": ("registry", "create", "new", "--dry-run", "--images", "{}"),
    "create --tag": ("registry", "create", "s3://bucket/x?table=t", "--print", "terraform", "--tag", "{}=b"),
    "create s3": ("registry", "create", "s3://{}", "--print", "cloudformation"),
    "create s3 prefix": ("registry", "create", "s3://bucket/{}?table=t", "--print", "iam"),
    "audit --since": ("registry", "audit", "--since", "{}"),
    "export": ("registry", "export", "{}/x.tar"),
    "export NAME": ("registry", "export", "all.tar", "{}"),
    "import": ("registry", "import", "{}"),
}

RECIPES: dict[str, Any] = {
    "key": lambda word: {word: 1},
    "name": lambda word: {"name": word},
    "source": lambda word: {"source": {"onnx": word}},
    "source key": lambda word: {"source": {word: "m.onnx"}},
    "torch": lambda word: {"source": {"torch": word}},
    "input": lambda word: {"inputs": {word: {"dtype": "float32", "shape": ["b", 2]}}},
    "axis": lambda word: {"inputs": {"x": {"dtype": "float32", "shape": [word, 2]}}},
    "data": lambda word: {"data": {"evaluation": f"{word}.npz"}},
    "function": lambda word: {"data": {"evaluation": f"a{word}:b"}},
    "metric": lambda word: {"metric": word},
    "variant": lambda word: {"variants": {word: []}},
    "pass": lambda word: {"variants": {"a": [word]}},
    "pass key": lambda word: {"variants": {"a": [{"quantize": {word: 1}}]}},
    "target": lambda word: {"targets": {word: {}}},
    "target value": lambda word: {"targets": {"lambda-zip": {"arch": word}}},
    "budget": lambda word: {"budgets": {"package_size": word}},
    "prefer": lambda word: {"prefer": word},
    "hook": lambda word: {"serve": {"preprocess": word}},
    "tag": lambda word: {"tags": {word: word}},
    "licence": lambda word: {"accept_licenses": [word]},
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A project with a build and a registry with one release, for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USER", "alice")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    _model("m.onnx", "x")
    np.savez("e.npz", x=np.zeros((4, 2), np.float32))
    Path("recipe.yaml").write_text(json.dumps(_recipe({})))
    build(Path("out1"))
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


def _recipe(more: dict[str, Any]) -> dict[str, Any]:
    return {"name": "x", "source": {"onnx": "m.onnx"}, "data": {"evaluation": "e.npz"}, "targets": {"lambda-zip": {}}} | more


def _model(path: str, name: str) -> None:
    """A model all of whose names are this one."""
    made = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [f"{name}a", 2]) for each in (name, f"{name}2")]
    node = helper.make_node("Identity", [name], [f"{name}2"], name=name)
    graph = helper.make_graph([node], name, made[:1], made[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


class Reader:
    """Runs commands and reads what they say as a CI system and a terminal would."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *words: str) -> str:
        code = run(*words)
        said = self._capfd.readouterr()
        told = f"{[word[:80] for word in words]}: {code}\n{said.out[:2000]}\n{said.err[-2000:]}"
        assert code in PROMISED, told
        assert not commands(said.out + "\n" + said.err, MEANT), told
        assert CONTROL.search(said.out + said.err) is None, told
        assert len(said.err) < 200_000, told
        return said.out


@pytest.fixture
def read(capfd: pytest.CaptureFixture[str]) -> Reader:
    return Reader(capfd)


@pytest.mark.parametrize("place", VERBS)
def test_a_word_of_the_command_line(place: str, read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, word in enumerate(WORDS):
        for name, value in ENVIRONMENTS[number % len(ENVIRONMENTS)].items():
            monkeypatch.setenv(name, value)
        read(*(each.replace("{}", word) for each in VERBS[place]))


@pytest.mark.parametrize("place", RECIPES)
def test_a_word_of_a_recipe(place: str, read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for word in (*WORDS, "\x00", "\ud800"):
        Path("r.yaml").write_text(json.dumps(_recipe(RECIPES[place](word))))
        read("plan", "r.yaml", "--explain")


@pytest.mark.parametrize("name", [re.sub("[\ud800-\udfff]", "", MANY), "::error::x", "x" * 5_000])
def test_a_word_of_a_model(name: str, read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    _model("m.onnx", name)
    read("init", "m.onnx")
    read("plan", "recipe.yaml", "--explain")
    read("build", "recipe.yaml")  # its data has no such input
    Path("m.onnx").write_bytes(Path("m.onnx").read_bytes()[:-20])
    read("init", "m.onnx")
    read("build", "recipe.yaml")


@pytest.mark.parametrize("name", ["::error::x.yaml", "a\n::error::x.yaml", "\x1b[31m.yaml", "##[error]x.yaml", "\udcff\udc9b.yaml"])
def test_a_file_that_is_called_so(name: str, read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    Path(name).write_text(json.dumps(_recipe({"nonsense": 1})))
    read("plan", name)
    Path(name).unlink()
    build(Path(name))
    read("diff", name, name)
    read("run", name)
    read("publish", name, "--registry", f"registry {name}")
    read("list", "--registry", f"registry {name}")
    read("verify", "--registry", f"registry {name}")


def test_a_word_of_a_build_record(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for word in ("\n".join(LOG[:-2]), LOG[-2], LOG[-1], "\ud800"):
        record = as_json(typical())
        (Path("a.json")).write_text(json.dumps(record))
        for one in record["candidates"]:
            one["id"] = f"{word}{one['id']}"
            one["status"], one["reasons"] = word, [word]
            one["accuracy"]["isa"] = one["accuracy"]["metric"] = word
        record["chosen"] = f"{word}{record['chosen']}"
        Path("b.json").write_text(json.dumps(record))
        for two in itertools.permutations(("a.json", "b.json")):
            read("diff", *two)
        assert json.loads(read("diff", "a.json", "b.json", "--json"))[0]["after"] == record["chosen"]


def test_a_word_of_a_registrys_row(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may publish may write such rows; what refuses them says so in words of our own."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    read("publish", "out1")
    read("promote", "minilm@1", "--to", "prod")
    read("registry", "policy", "set", "minilm:prod", "--budget", "latency_p95=20ms")
    place = places.open_registry(".mlpack/registry").place
    row = place.table.get(rows.release_key("minilm", 1))
    assert row is not None
    made = rows.decode(row, place.where)
    for word in (re.sub("[\ud800-\udfff]", "", MANY), "::error::x", "\x1b]0;x\x07\u202e"):
        _tamper(word, made)
        for verb in (
            *(("list",), ("show", "minilm"), ("show", "minilm:prod"), ("history", "minilm:prod"), ("verify",), ("gc",)),
            *(("registry", "audit"), ("registry", "policy", "show"), ("show", "minilm", "--field", "digest"), ("pull", "minilm")),
            *(("promote", "minilm@1", "--to", "prod", "--expect", "7"), ("registry", "export", "all.tar"), ("list", "--json")),
        ):
            read(*verb)


def _tamper(word: str, made: Release) -> None:
    place = places.open_registry(".mlpack/registry").place
    table = place.table
    for key, change in (
        (rows.head_key("minilm", 1), {"label": word, "kind": word, "who": word}),
        (Key(rows.moves("minilm", "prod"), "000000001"), {"who": word, "why": word, "kind": word}),
    ):
        row = table.get(key)
        assert row is not None
        table.commit(Put(key=key, head=dict(row.head) | change, body=row.body, expect=row.revision))
    row = table.get(rows.release_key("minilm", 1))
    assert row is not None
    odd = dataclasses.replace(made, provenance=dataclasses.replace(made.provenance, label=word, who=word, where=word, commit=word))
    table.commit(Put(key=row.key, head=row.head, body=rows.encode(odd), expect=row.revision))
    for partition in (rows.AUDIT, rows.POLICIES, rows.NAMES, rows.aliases("minilm")):
        table.commit(Put(key=Key(partition, word), head={"what": word, "who": word, "details": {word: word}}))
    table.close()


@pytest.mark.parametrize("variable", ["GITHUB_ACTOR", "USER", "MLPACK_REGISTRY", "MLPACK_STORE", "MLPACK_CACHE", "MLPACK_RIE"])
def test_a_word_of_the_environment(variable: str, read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    for word in WORDS[:2]:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.setenv(variable, word)
        read("publish", "out1")
        read("list")
        read("show", "minilm")
        read("promote", "minilm@1", "--to", f"a{of_bytes(word.encode('utf-8', 'replace')).hex[:6]}")
        read("registry", "audit")
        read("plan", "recipe.yaml")
        read("build", "recipe.yaml", "--only", "none")


_SAYING = {("click", "echo"), ("click", "secho"), ("click", "style"), ("sys", "stdout"), ("sys", "stderr"), ("os", "write")}


def test_nothing_is_said_beside_the_sinks() -> None:
    """Only two modules know the streams, so that whoever says something new says it through them."""
    root = Path(mlpack.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        text = path.read_text("utf-8")
        if not re.search(r"\b(click|sys|os)\.(echo|secho|style|stdout|stderr|write)\b|\b(print|echo)\(", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in _SAYING:
                found.add((path.relative_to(root).as_posix(), node.attr))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "echo"):
                assert any(word.arg == "file" for word in node.keywords), f"{path}:{node.lineno} prints"
    assert found == {("cli/stdout.py", "stdout"), ("cli/console.py", "stderr"), ("cli/commands.py", "stdout")}  # it only flushes
