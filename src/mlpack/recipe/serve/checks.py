"""`serve` as a whole: what of it contradicts itself, and the record that the rest of mlpack reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlpack.core.serving import Serve
from mlpack.core.yaml_positions import Place
from mlpack.recipe.serve import around, requirements

_HOOKS = ("preprocess", "postprocess", "authorize")
"""Keys of `serve` that may name a function of the user's own."""


def problems(keys: Any, root: Path, budgets: Any = None) -> Iterator[tuple[Place, str]]:
    """What is wrong with the keys of `serve` that have rules of their own: a place below `serve`, and a sentence.
    `budgets`: the recipe's keys of that name."""
    from mlpack.recipe.serve import access  # whose keys need pydantic, which the command's help does without

    if keys.requirements is not None:
        lines, wrong = requirements.read(keys.requirements, root)
        for index, problem in wrong:
            yield ("requirements", index), problem
        if not lines and not wrong:
            yield ("requirements",), "name no distribution: leave them out"
        if not hooks(keys):
            yield ("requirements",), f"are for hooks to import, and there is no hook ({', '.join(_HOOKS)})"
    elif not keys.slim:
        yield ("slim",), "says whether requirements are slimmed, and there are none: leave it out"
    yield from access.problems(keys, root)
    yield from around.problems(keys, budgets)
    for index, name in enumerate(keys.preload):
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name, re.ASCII):
            yield ("preload", index), f"{name!r} is no module: its name as `import` takes it, such as PIL.Image"


def hooks(keys: Any) -> dict[str, str]:
    """The functions of the user's own, by the key that names each."""
    authorize = keys.authorize and keys.authorize.hook
    named = {"preprocess": keys.preprocess, "postprocess": keys.postprocess, "authorize": authorize}
    return {key: reference for key, reference in named.items() if reference is not None}


def record(keys: Any, root: Path) -> Serve:
    """The record of keys without problems."""
    from mlpack.recipe.serve import access  # as above

    nested = {
        name: value and value.record()
        for name in ("image", "objects", "sound", "urls", "weights", "features", "cache", "log")
        for value in (getattr(keys, name),)
    }
    values = {**keys.model_dump(), **nested}
    if keys.requirements is not None:
        values["requirements"] = requirements.read(keys.requirements, root)[0]
    if keys.authorize is not None:
        values["authorize"] = access.authorize_settings(keys.authorize, root)
    if keys.cors is not None:
        values["cors"] = access.cors_settings(keys.cors, values["authorize"])
    return Serve(**values)
