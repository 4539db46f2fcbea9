"""Sets the locale of StringNormalizer, which folds case, to one that a container has.

Without one the engine asks the system for en_US.UTF-8, which neither Lambda nor a slim image has, and refuses to load the
graph. C.UTF-8 is in every C library and folds the same letters by the same table of Unicode. A locale of another language,
whose case differs (Turkish, Azeri, Lithuanian), stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

PORTABLE = "C.UTF-8"
_DEFAULTS = ("", "en_US", "en-US", "en_US.UTF-8", "en_US.utf8")


def portable(model: onnx.ModelProto) -> int:
    """Change `model` in place. Returns the number of changed nodes."""
    from onnx import helper

    changed = 0
    for node in model.graph.node:
        if node.op_type != "StringNormalizer" or node.domain not in ("", "ai.onnx"):
            continue
        locale = next((a for a in node.attribute if a.name == "locale"), None)
        if locale is None:
            node.attribute.append(helper.make_attribute("locale", PORTABLE))
        elif locale.s.decode("utf-8", "replace") in _DEFAULTS:
            locale.s = PORTABLE.encode()
        else:
            continue
        changed += 1
    return changed
