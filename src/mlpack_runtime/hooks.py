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
    from collections.abc import Callable
    from typing import Any

    Hook = Callable[..., Any]


def extend_path() -> None:
    """Let hooks import the user's modules (first) and the package's wheels (last)."""
    roots = [root for root in (os.environ.get("LAMBDA_TASK_ROOT"), model.ROOT) if root]
    for root in roots:
        for place, index in ((os.path.join(root, "app"), 0), (os.path.join(root, "site"), len(sys.path))):
            if os.path.isdir(place) and place not in sys.path:
                sys.path.insert(index, place)


def preload(names: "list[str]") -> None:
    """Import modules that requests will need. Raises ModelError when one cannot be imported."""
    for name in names:
        try:
            __import__(name)
        except Exception as error:
            raise model.ModelError(
                f"the module {name!r} of `preload` cannot be imported: {type(error).__name__}: {error}"
            ) from error


def load(name: str) -> "Hook":
    """The hook `module:function`. It raises RequestError where the function fails. Raises ModelError when it cannot be imported."""
    module, _, function = name.partition(":")
    try:
        __import__(module)
        hook = getattr(sys.modules[module], function)
    except (Exception, SystemExit) as error:
        raise model.ModelError(f"hook {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(hook):
        raise model.ModelError(f"hook {name!r} is a {type(hook).__name__}, not a function")
    return lambda argument: _call(hook, argument)


def to_json(value: object) -> bytes:
    """What `postprocess` returned, as a body. Raises RequestError for what is not JSON."""
    try:
        return jsontext.dumps(value).encode()
    except (TypeError, ValueError) as error:
        raise RequestError(f"postprocess returned what is not JSON: {error}", 500, "HookError") from None


def _call(hook: "Hook", argument: object) -> "Any":
    try:
        return hook(argument)
    except ValueError as error:
        raise RequestError(str(error)) from error
    except Exception as error:
        raise RequestError(f"{type(error).__name__}: {error}", 500, type(error).__name__) from error
