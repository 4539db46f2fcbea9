"""The workflows, the action and the forms: what runs is pinned, may do little, and expands nothing that others write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
ACTION = ROOT / "action.yml"
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
WRITES = {
    "pages.yml": {"deploy": {"id-token", "pages"}},
    "release.yml": {"attest": {"attestations", "id-token"}, "publish": {"id-token"}, "announce": {"contents"}},
}
"""Who may write what. Every other permission there is reads."""


def read(path: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load(path.read_text("utf-8")))


def steps(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a workflow's jobs, or of an action."""
    if "runs" in document:
        return list(document["runs"]["steps"])
    return [step for job in document["jobs"].values() for step in job.get("steps", ())]


def unpinned(document: dict[str, Any]) -> list[str]:
    """What runs by a name that somebody can move: actions without a commit, images without a digest."""
    jobs = list(document.get("jobs", {}).values())
    used = [str(each["uses"]) for each in (*steps(document), *jobs) if "uses" in each]
    moving = [each for each in used if not each.startswith("./") and not PINNED.fullmatch(each)]
    images = [
        job["container"]["image"] if isinstance(job["container"], dict) else job["container"] for job in jobs if "container" in job
    ]
    return moving + [image for image in images if not re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", image)]


def expanding(document: dict[str, Any]) -> list[str]:
    """Scripts with an expression in them: GitHub puts its value into the text of the program, whatever it says."""
    return [step["run"] for step in steps(document) if "${{" in step.get("run", "")]


def generous(name: str, document: dict[str, Any]) -> list[str]:
    """Permissions beyond reading that nobody needs, or that were not said."""
    found = [] if document.get("permissions") == {} else ["the workflow itself"]
    for job_name, job in document["jobs"].items():
        given = job.get("permissions")
        if not isinstance(given, dict):
            found.append(job_name)
            continue
        writes = {scope for scope, level in given.items() if level != "read"}
        if writes != WRITES.get(name, {}).get(job_name, set()):
            found.append(f"{job_name}: {sorted(writes)}")
    return found


def careless(document: dict[str, Any]) -> list[str]:
    """Events that run strangers' code with our rights, checkouts that leave the token behind, jobs that never end."""
    found = sorted({"pull_request_target", "workflow_run", "issue_comment"} & set(document["on"]))
    for job_name, job in document["jobs"].items():
        if "steps" in job and "timeout-minutes" not in job:
            found.append(f"{job_name} may run for hours")
        for step in job.get("steps", ()):
            if "actions/checkout@" in step.get("uses", "") and step.get("with", {}).get("persist-credentials") is not False:
                found.append(f"{job_name} keeps its token")
    return found


def dangling(document: dict[str, Any]) -> list[str]:
    """References to steps that do not come before, or to inputs that do not exist."""
    found, known = [], set()
    inputs = set(document.get("inputs", {}))
    for step in steps(document):
        text = repr({key: value for key, value in step.items() if key != "run"})
        found += [f"steps.{name}" for name in re.findall(r"\bsteps\.([\w-]+)", text) if name not in known]
        found += [f"inputs.{name}" for name in re.findall(r"\binputs\.([\w-]+)", text) if name not in inputs]
        known |= {step["id"]} if "id" in step else set()
    for output in document.get("outputs", {}).values():
        found += [f"steps.{name}" for name in re.findall(r"\bsteps\.([\w-]+)", output["value"]) if name not in known]
    return found


@pytest.mark.parametrize("path", [*WORKFLOWS, ACTION], ids=lambda path: path.name)
def test_what_runs_is_pinned_and_nothing_is_expanded(path: Path) -> None:
    document = read(path)
    assert steps(document)
    assert unpinned(document) == []
    assert expanding(document) == []
    assert dangling(document) == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_do_no_more_than_it_needs(path: Path) -> None:
    document = read(path)
    assert generous(path.name, document) == []
    assert careless(document) == []


@pytest.mark.parametrize("path", [*WORKFLOWS, ACTION], ids=lambda path: path.name)
def test_a_pin_says_which_release_it_is_and_always_the_same(path: Path) -> None:
    """The comment is what people and Dependabot read; one action in two versions is a forgotten one."""
    lines = [line for line in path.read_text().splitlines() if re.match(r" +(- )?uses: (?!\./)", line)]
    assert lines
    assert [line for line in lines if not re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []


def test_one_action_has_one_version_everywhere() -> None:
    known: dict[str, set[str]] = {}
    for path in (*WORKFLOWS, ACTION):
        for name, commit in re.findall(r"uses: ([\w-]+/[\w-]+)[\w/-]*@(\S+ # \S+)", path.read_text()):
            known.setdefault(name, set()).add(commit)
    assert {name: pins for name, pins in known.items() if len(pins) > 1} == {}


def workflow(**changes: Any) -> dict[str, Any]:
    """A small good one, changed."""
    checkout = {"uses": f"actions/checkout@{'a' * 40}", "with": {"persist-credentials": False}}
    job = {"timeout-minutes": 5, "permissions": {"contents": "read"}, "steps": [checkout, {"run": "make test"}]}
    whole = {"on": {"push": None}, "permissions": {}, "jobs": {"test": {**job, **changes.pop("job", {})}}}
    return {**whole, **changes}


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        (unpinned, workflow(job={"steps": [{"uses": "actions/checkout@v7"}]})),
        (unpinned, workflow(job={"steps": [{"uses": f"actions/checkout@{'a' * 39}"}]})),
        (unpinned, workflow(job={"steps": [{"uses": "docker://alpine:3"}]})),
        (unpinned, workflow(job={"uses": "other/repository/.github/workflows/x.yml@main"})),
        (unpinned, workflow(job={"container": "debian:bookworm"})),
        (unpinned, workflow(job={"container": {"image": "debian:bookworm"}})),
        (expanding, workflow(job={"steps": [{"run": "echo ${{ github.event.pull_request.title }}"}]})),
        (expanding, workflow(job={"steps": [{"run": "echo '${{inputs.recipe}}'"}]})),
        (expanding, {"runs": {"steps": [{"run": "true\necho ${{ github.head_ref }}"}]}}),
        (lambda document: generous("ci.yml", document), workflow(permissions="write-all")),
        (lambda document: generous("ci.yml", document), workflow(permissions={"contents": "write"})),
        (lambda document: generous("ci.yml", document), workflow(job={"permissions": {"contents": "write"}})),
        (lambda document: generous("ci.yml", document), workflow(job={"permissions": "read-all"})),
        (lambda document: generous("release.yml", document), workflow(job={"permissions": {"id-token": "write"}})),
        (careless, workflow(on={"pull_request_target": None})),
        (careless, workflow(on=["push", "issue_comment"])),
        (careless, workflow(job={"steps": [{"uses": f"actions/checkout@{'a' * 40}"}]})),
        (dangling, workflow(job={"steps": [{"env": {"A": "${{ steps.later.outputs.a }}"}}, {"id": "later", "run": "true"}]})),
        (dangling, {"inputs": {"a": {}}, "runs": {"steps": [{"env": {"B": "${{ inputs.b }}"}, "run": "true"}]}}),
        (dangling, {"outputs": {"a": {"value": "${{ steps.gone.outputs.a }}"}}, "runs": {"steps": [{"run": "true"}]}}),
    ],
)
def test_each_rule_finds_what_it_is_for(rule: Callable[[dict[str, Any]], list[str]], bad: dict[str, Any]) -> None:
    assert rule(bad)


def test_the_small_good_workflow_passes_every_rule() -> None:
    for rule in (unpinned, expanding, careless, dangling):
        assert rule(workflow()) == []
    assert generous("ci.yml", workflow()) == []


def test_every_supported_python_is_tested() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    tested = read(ROOT / ".github/workflows/ci.yml")["jobs"]["check"]["strategy"]["matrix"]["python"]
    assert tested == ["3.11", "3.12", "3.13", "3.14"]
    assert set(re.findall(r"Python :: (3\.\d+)\"", project)) <= set(tested)
    assert f'requires-python = ">={tested[0]}"' in project


def test_workflows_use_words_that_the_makefile_has() -> None:
    words = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {word for path in WORKFLOWS for word in re.findall(r"run: make ([a-z]+)", path.read_text())}
    assert {"lint", "test", "slow", "coverage", "dist", "site"} == used
    assert used <= words


def test_composite_steps_name_their_shell() -> None:
    """GitHub refuses an action without, when it is used and not before."""
    assert [step for step in steps(read(ACTION)) if "run" in step and step.get("shell") != "bash"] == []


def test_the_action_promises_what_its_script_tells() -> None:
    source = (ROOT / "tools/action.py").read_text()
    action = read(ACTION)
    told = {name for output in action["outputs"].values() for name in re.findall(r"outputs\.([\w-]+)", output["value"])}
    assert told == {"chosen", "artifact", "digest", "directory", "exit-code"} == set(action["outputs"])
    assert [name for name in told if f'"{name}"' not in source] == []
    given = {name for step in steps(action) for name in step.get("env", {})}
    read_there = {f"INPUT_{name}" for name in re.findall(r"_input\(\"(\w+)\"\)", source)}
    assert given == read_there


def forms() -> Iterator[Path]:
    yield from sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def test_forms_and_the_rest_can_be_read() -> None:
    for path in forms():
        form = read(path)
        if path.name == "config.yml":
            assert form["blank_issues_enabled"] is False
            continue
        assert {"name", "description", "body"} <= set(form)
        asked = [element for element in form["body"] if element["type"] != "markdown"]
        assert len({element["id"] for element in asked}) == len(asked)
        assert any(element.get("validations", {}).get("required") for element in asked)
    assert {update["package-ecosystem"] for update in read(ROOT / ".github/dependabot.yml")["updates"]} == {"github-actions", "pip"}


def test_hooks_before_a_commit_are_what_lint_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    lint = makefile[makefile.index("\nlint:") :].split("\n\n")[0]
    for hook in read(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        program = hook["entry"].replace(" --force-exclude", "").removeprefix(".venv/bin/")
        assert f"$(BIN)/{program}" in lint
