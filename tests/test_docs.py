"""What pages say of the code: generated parts are up to date and complete, links lead somewhere, every variable is told."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tools.docs import documents
from tools.docs.markdown import cell, within

from mlpack.cli.commands import cli
from mlpack.errors import MEANINGS
from mlpack.evaluation.metrics import METRICS
from mlpack.passes import PASSES
from mlpack.recipe.schema import RecipeKeys
from mlpack.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))]
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


@functools.cache
def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken(path: Path) -> Iterator[str]:
    """Links of a page to files or headings that are not there."""
    for link in LINK.findall(path.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists():
            yield f"{link}: no such file"
        elif path.is_relative_to(DOCS) and not there.is_relative_to(DOCS):
            yield f"{link}: not in the site"
        elif anchor and there.suffix == ".md" and anchor not in anchors(there):
            yield f"{link}: no such heading"


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for word, below in command.commands.items():
            yield from commands(below, f"{name} {word}")


def test_generated_files_are_up_to_date() -> None:
    stale = [str(path) for path, text in documents().items() if (ROOT / path).read_text("utf-8") != text]
    assert stale == [], "run `make docs`"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- generated: a -->",
        "<!-- end of generated: a -->\n<!-- generated: a -->",
        2 * "<!-- generated: a -->\n<!-- end of generated: a -->\n",
    ],
)
def test_a_page_without_its_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="each once"):
        within(text, "a", "rows")


def test_text_around_a_generated_part_stays() -> None:
    text = "before\n<!-- generated: a -->\nold\n<!-- end of generated: a -->\nafter\n"
    assert within(text, "a", "new\n") == "before\n<!-- generated: a -->\n\nnew\n\n<!-- end of generated: a -->\nafter\n"


def test_a_cell_stays_a_cell() -> None:
    assert cell("one | two\n  three \\| four") == "one \\| two three \\| four"


def test_reference_names_every_key_pass_target_metric_and_code() -> None:
    for name in RecipeKeys.model_fields:
        assert f"| `{name}` |" in page("recipe.md")
    for name in METRICS:
        assert f"| `{name}` |" in page("metrics.md")
    for name in PASSES.own:
        assert f"\n## `{name}`\n" in page("passes.md")
    for name, kind in TARGETS.own.items():
        section = page("targets.md").partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        assert all(f"| {limit.name} | {limit.value:,} {limit.unit} |" in section for limit in kind.limits)
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in page("exit-codes.md")


def test_every_mapping_of_the_recipe_has_its_table() -> None:
    section, promised = "", []
    for line in page("recipe.md").partition("<!-- end of generated: keys -->")[0].splitlines():
        section = line.strip("#` ") if line.startswith("## ") else section
        if key := re.match(r"\| `(\w+)` \|[^|]*mapping, below", line):
            promised.append(key[1] if section == "Keys" else f"{section}.{key[1]}")
    assert "serve.image" in promised
    assert [name for name in promised if f"\n## `{name}`\n" not in page("recipe.md")] == []


def test_no_default_has_another_unit_than_recipes_write() -> None:
    for row in re.findall(r"^\| `\w+` \| (?:size|duration) \| (.*?) \|", page("recipe.md"), re.MULTILINE):
        assert row == "" or re.search(r"[A-Za-z]`$", row)


def test_reference_has_every_command_with_all_its_options() -> None:
    text = page("commands.md")
    for name, command in commands(cli, "mlpack"):
        if isinstance(command, click.Group) and name != "mlpack":
            continue  # a group is its commands
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section
        for parameter in command.params:
            word = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.make_metavar(click.Context(command))
            assert word.replace("|", "\\|") in section or word in section


def test_rooms_and_layers_of_the_page_are_those_of_the_house() -> None:
    text = page("architecture.md")
    for folder in (path.parent for path in (ROOT / "src").rglob("__init__.py")):
        assert f"{folder.name}/" in text
    for path in (ROOT / "src").rglob("*.py"):
        assert path.stem.startswith("__") or re.search(rf"\b{path.stem}\b", text), path
    assert "\ndeploy : pipeline : registry\n" in text


def test_schema_does_not_offer_what_the_build_fills_in() -> None:
    schema = json.loads(page("recipe.schema.json"))
    for name, row in PASSES.own.items():
        offered = schema["$defs"][f"step-{name}"].get("properties", {})
        assert not {*row.binds, "arch"} & set(offered)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    assert list(broken(path)) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A `head`, here\n```\n# no heading\n```\n")
    (tmp_path / "page.md").write_text("[a](gone.md) [b](there.md#no-heading) [c](there.md#a-head-here) [d](https://example.org/x)")
    assert list(broken(tmp_path / "page.md")) == ["gone.md: no such file", "there.md#no-heading: no such heading"]


def test_every_page_stands_in_the_navigation_once() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    assert sorted(re.findall(r"([\w./-]+\.md)$", navigation, re.MULTILINE)) == sorted(
        str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")
    )


def told(text: str) -> Iterator[list[str]]:
    """The commands of mlpack in a page's code blocks, as words."""
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            if match := re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(mlpack (?!\[OPTIONS\]).*)", line):
                yield shlex.split(match[1], comments=True)


def unknown(words: list[str]) -> Iterator[str]:
    """What a command line names that mlpack does not have."""
    command: click.Command = cli
    options: set[str] = {name for option in cli.params for name in option.opts} | {"-h", "--help"}
    for word in words[1:]:
        if isinstance(command, click.Group) and not word.startswith("-"):
            if word not in command.commands:
                yield word
                return
            command = command.commands[word]
            options |= {name for parameter in command.params for name in parameter.opts}
        elif word.startswith("-") and word.partition("=")[0] not in options:
            yield word


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_commands_and_options_that_exist(path: Path) -> None:
    assert [(words, wrong) for words in told(path.read_text("utf-8")) for wrong in unknown(words)] == []


def test_commands_that_do_not_exist_are_found() -> None:
    block = "$ mlpack registry polish now\nA=b mlpack build x \\\n  --fast  # --slow\nmlpack show a --field zip\n"
    lines = f"```\n{block}```\nmlpack gone\n"
    assert [list(unknown(words)) for words in told(lines)] == [["polish"], ["--fast"], []]


FOLDERS = ("tests", "tests_slow", "src", "docs", "bench", "tools", "recipes", "sample_models", ".github")
PACKAGES = tuple(ROOT / "src" / name for name in ("mlpack", "mlpack_control", "mlpack_jobs", "mlpack_runtime"))
ROOMS = tuple(path.parent.name for package in PACKAGES for path in package.glob("*/__init__.py"))
CODE_PATH = re.compile(rf"(?:{'|'.join(map(re.escape, (*FOLDERS, *ROOMS)))})/[\w./*-]*")
DOTTED = re.compile(r"(mlpack(?:_runtime|_control|_jobs)?(?:\.\w+)+)(?:\(.*)?")


def leads_somewhere(words: str) -> bool:
    """Whether a path or dotted name of a page is one of the repository; true for whatever is neither."""
    if CODE_PATH.fullmatch(words):
        places = (ROOT, *PACKAGES)
        return "NAME" in words or any(any(place.glob(words.rstrip("/"))) for place in places)
    if (match := DOTTED.fullmatch(words)) and match[1] != "mlpack.lock":
        here, names = ROOT / "src", match[1].split(".")
        while names and (here / names[0]).is_dir():
            here /= names.pop(0)
        file = here / f"{names[0]}.py" if names and (here / f"{names[0]}.py").is_file() else here / "__init__.py"
        names = names[1:] if file.stem != "__init__" else names
        return file.is_file() and all(re.search(rf"\b{name}\b", file.read_text("utf-8")) for name in names)
    return True


@pytest.mark.parametrize(
    "path", [path for path in PAGES if "decisions" not in path.parts], ids=lambda path: str(path.relative_to(ROOT))
)
def test_pages_name_files_and_modules_that_exist(path: Path) -> None:
    """Decisions are left out: they tell of the day on which they were made."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    words = {word.partition("::")[0].rstrip(",;:") for span in re.findall(r"`([^`\n]+)`", text) for word in span.split()}
    assert sorted(word for word in words if not leads_somewhere(word)) == []


@pytest.mark.parametrize(
    ("words", "there"),
    [
        ("core/records.py", True),
        ("core/gone.py", False),
        ("tests/support/", True),
        ("tests/test_*.py", True),
        ("tests/gone_*.py", False),
        ("mlpack.core.records.Plan", True),
        ("mlpack.core.records.Gone", False),
        ("mlpack.gone.records", False),
        ("mlpack_runtime.handler.handler", True),
        ("mlpack.build(recipe)", True),
        ("and/or", True),
    ],
)
def test_names_of_the_repository_are_told_from_others(words: str, there: bool) -> None:
    assert leads_somewhere(words) is there


def test_every_variable_that_the_code_reads_is_in_the_pages() -> None:
    named = re.compile(r"\bMLPACK_[A-Z0-9_]*[A-Z0-9]\b")
    read = {name for path in (ROOT / "src").rglob("*.py") for name in named.findall(path.read_text("utf-8"))}
    told = {name for path in PAGES for name in named.findall(path.read_text("utf-8"))}
    assert sorted(read - told) == []
