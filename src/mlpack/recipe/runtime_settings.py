"""Parts of the runtime that a package opens by keys of `serve`, beside its task: what model.json says, and which modules they are.

Promises: a package that uses none has neither a key nor a module more. A key that nothing in the package would read is a
RecipeError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpack.core.records import Recipe, Signature
from mlpack.core.serving import Serve
from mlpack.errors import RecipeError
from mlpack.recipe import tasks
from mlpack.recipe.serve import around

MODULES: Mapping[str, str] = {"urls": "fetching", "authorize": "access", "cors": "access"}
"""Keys of model.json with the module of the runtime that each opens, below `mlpack_runtime`; others need none of their own."""


def settings(recipe: Recipe, task: Mapping[str, Any] | None, signature: Signature) -> dict[str, Any]:
    """What model.json has of these. `task`: its task, if it has one. Raises RecipeError."""
    serve = recipe.serve
    given = {
        "urls": _urls(serve, task),
        "preload": list(serve.preload),
        "authorize": serve.authorize and dict(serve.authorize),
        "cors": serve.cors and dict(serve.cors),
        "around": around.settings(serve, signature),
    }
    return {key: value for key, value in given.items() if value}


def modules(task: Mapping[str, Any] | None, further: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules of the runtime for a task and for what `settings` gave."""
    own = [tasks.module_of(task["name"])] if task else []
    return (*own, *(MODULES[key] for key in further if key in MODULES), *around.modules(further.get("around")))


def needs(task: Mapping[str, Any] | None, own: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What a task's package is made of beside its target's `own`, by names of the table of wheels."""
    media = tasks.TASKS[task["name"]].media if task else None
    if media == "audio":  # its graphs run on the processor, also where the model runs under TensorRT
        return () if {"engine", "engine-cuda"} & set(own) else ("engine",)
    return ("pictures",) if media == "image" else ()


def _urls(serve: Serve, task: Mapping[str, Any] | None) -> dict[str, Any] | None:
    urls = serve.urls
    if urls is None:
        return None
    reads = tasks.TASKS[task["name"]].media is not None if task else serve.preprocess is not None
    if not reads:
        raise RecipeError(
            "serve.urls: nothing here reads what is fetched: only tasks for pictures and sounds do, and a preprocess hook"
        )
    return {
        "hosts": list(urls.hosts),
        "max_bytes": urls.max_bytes,
        "timeout_s": urls.timeout_ms / 1000,
        "redirects": urls.redirects,
        "schemes": list(urls.schemes),
    }
