"""A package's own functions around its model: imported once, called, and their failures told apart.

Promises: a hook that cannot be imported stops the start; its ValueError is the caller's fault (400), anything else it raises is the
package's (500). Will not: know what a hook is for, or be loaded by a package that has none.
"""

import os
import sys

from mlpack_runtime import jsontext, model
from mlpack_runtime.protocol import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Hook = Callable[..., Any]

_UNCALLED = 0x20 | 0x80 | 0x200
"""A code's flags of functions whose call runs nothing: with `yield`, `async`, and both (`inspect.CO_GENERATOR` and so on)."""


def both(settings: "Mapping[str, Any]") -> "list[Hook | None]":
    """What a package has of `preprocess` and `postprocess`, in this order. Raises ModelError."""
    extend_path()
    preload(settings.get("preload", ()))
    return [load(settings[key], key) if settings.get(key) else None for key in ("preprocess", "postprocess")]


def extend_path() -> None:
    """Let hooks import the user's modules (first) and the package's wheels (last)."""
    roots = [root for root in (os.environ.get("LAMBDA_TASK_ROOT"), model.ROOT) if root]
    for root in roots:
        for place, index in ((os.path.join(root, "app"), 0), (os.path.join(root, "site"), len(sys.path))):
            if os.path.isdir(place) and place not in sys.path:
                sys.path.insert(index, place)


def preload(names: "Iterable[str]") -> None:
    """Import modules that requests will need. Raises ModelError when one cannot be imported."""
    for name in names:
        try:
            __import__(name)
        except Exception as error:
            raise model.ModelError(
                f"the module {name!r} of `preload` cannot be imported: {type(error).__name__}: {error}"
            ) from error


def load(name: str, stage: str = "") -> "Hook":
    """The hook `module:function`, called with one argument. It raises RequestError where the function fails. `stage`: its name in
    log lines. Raises ModelError when it cannot be imported."""
    hook = find(name)
    return lambda argument: _call(hook, argument, stage)


def find(name: str) -> "Hook":
    """The function itself. Raises ModelError."""
    module, _, function = name.partition(":")
    try:
        __import__(module)
        hook = getattr(sys.modules[module], function)
    except (Exception, SystemExit) as error:
        raise model.ModelError(f"hook {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(hook):
        raise model.ModelError(f"hook {name!r} is a {type(hook).__name__}, not a function")
    code = getattr(hook, "__code__", None) or getattr(getattr(type(hook), "__call__", None), "__code__", None)  # noqa: B004
    if code is not None and code.co_flags & _UNCALLED:
        raise model.ModelError(f"hook {name!r} is async or has a yield, and nobody would run it: write it with def and return")
    return hook  # type: ignore[no-any-return]  # it can be called


def to_json(value: object) -> bytes:
    """What `postprocess` returned, as a body. Raises RequestError for what is not JSON."""
    try:
        return jsontext.dumps(value).encode()
    except (TypeError, ValueError) as error:
        raise failure_of("postprocess", f"returned what is not JSON: {error}") from None


def failure(error: Exception, stage: str) -> RequestError:
    """A hook's own bug, as the answer has it: told apart from the model's failures by its type, and in the log by its stage."""
    return _of(RequestError(f"{type(error).__name__}: {error}", 500, "HookError"), stage)


def failure_of(stage: str, what: str) -> RequestError:
    """The same for a hook that returned what it should not have."""
    return _of(RequestError(f"{stage} {what}", 500, "HookError"), stage)


def _of(error: RequestError, stage: str) -> RequestError:
    error.stage = stage
    return error


def _call(hook: "Hook", argument: object, stage: str) -> "Any":
    try:
        return hook(argument)
    except ValueError as error:
        raise _of(RequestError(str(error)), stage) from error
    except Exception as error:
        raise failure(error, stage) from error
