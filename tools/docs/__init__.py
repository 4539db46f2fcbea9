"""The reference that is generated from the code: `make docs` writes it, `tests/test_docs.py` holds the pages to it.

People write the pages. What the code knows stands in them between two markers:

    <!-- generated: NAME -->
    <!-- end of generated: NAME -->

(in `mkdocs.yml` they are YAML comments).

To add a part: a function that yields Markdown lines, a row in `PARTS`, and the two markers in the page. A file that is generated
whole, such as a JSON Schema, is a function and a row in `FILES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tools.docs import architecture, commands, decisions, deployments, library, tables
from tools.docs.markdown import within

ROOT = Path(__file__).resolve().parents[2]

FILES: dict[str, Callable[[], str]] = {
    "docs/build.schema.json": tables.build_schema,
    "docs/recipe.schema.json": tables.recipe_schema,
}

COMMENTS = {".md": "<!-- {} -->", ".yml": "      # {}"}
"""How the markers are written, by the file's kind."""

PARTS: dict[tuple[str, str], Callable[[], Iterator[str]]] = {
    ("docs/architecture.md", "rooms"): lambda: architecture.rooms(ROOT),
    ("docs/architecture.md", "layers"): lambda: architecture.layers(ROOT),
    ("docs/commands.md", "commands"): commands.commands,
    ("docs/decisions/README.md", "decisions"): lambda: decisions.index(ROOT),
    ("docs/deploy-checks.md", "rules"): deployments.rules,
    ("docs/deploy-checks.md", "waivers"): deployments.waivers,
    ("docs/deploy-checks.md", "planted faults"): deployments.faults,
    ("docs/estimates.md", "devices"): tables.devices,
    ("docs/exit-codes.md", "exit codes"): tables.exit_codes,
    ("docs/interface.md", "fields"): commands.fields,
    ("docs/library.md", "functions"): library.functions,
    ("docs/library.md", "classes"): library.classes,
    ("docs/library.md", "modules"): library.modules,
    ("docs/metrics.md", "metrics"): tables.metrics,
    ("docs/passes.md", "passes"): tables.passes,
    ("docs/recipe.md", "keys"): tables.recipe_keys,
    ("docs/recipe.md", "models"): tables.several_keys,
    ("docs/registry.md", "modules"): lambda: architecture.modules(ROOT, "registry"),
    ("docs/targets.md", "targets"): tables.targets,
    ("docs/targets.md", "licences"): tables.licences,
    ("mkdocs.yml", "decisions"): lambda: decisions.navigation(ROOT),
}
"""By the page and the name of the part."""


def documents() -> dict[Path, str]:
    """Every generated file, and every page with generated parts.

    Returns:
        The text of each file as it should be, by its path below the project.

    Raises:
        ValueError: A page lacks the markers of one of its parts.
    """
    texts = {Path(path): make() for path, make in FILES.items()}
    for (path, name), make in PARTS.items():
        page = texts.get(Path(path)) or (ROOT / path).read_text("utf-8")
        texts[Path(path)] = within(page, name, "\n".join(make()), COMMENTS[Path(path).suffix])
    return texts
