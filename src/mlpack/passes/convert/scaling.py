"""Replaces ONNX's Scaler by the operations of scikit-learn: subtract, then divide, each rounded to float32.

skl2onnx writes ONNX's Scaler, which multiplies by the reciprocal. The last digit differs, and a tree behind it may take the
other branch.

Promises:
- Only a Scaler with the numbers of one of the estimator's own scalers is replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


def mend(model: onnx.ModelProto, parts: list[Any]) -> None:
    """Replace every Scaler of `model` that one of these estimators became."""
    import numpy as np
    from onnx import helper, numpy_helper

    scalings = [numbers for part in parts if (numbers := _numbers(part)) is not None]
    nodes = []
    for node in model.graph.node:
        attributes = {attribute.name: np.array(attribute.floats, dtype=np.float32) for attribute in node.attribute}
        pair = next((pair for pair in scalings if _is(attributes, *pair)), None) if node.op_type == "Scaler" else None
        if pair is None:
            nodes.append(node)
            continue
        middle, names = f"{node.output[0]}_centred", (f"{node.output[0]}_offset", f"{node.output[0]}_divisor")
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for array, name in zip(pair, names, strict=True))
        nodes.append(helper.make_node("Sub", [node.input[0], names[0]], [middle], name=f"{node.name}_sub"))
        nodes.append(helper.make_node("Div", [middle, names[1]], [node.output[0]], name=f"{node.name}_div"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _numbers(part: Any) -> tuple[Any, Any] | None:
    """The numbers that a scaler subtracts and divides by, in float32; None for anything else."""
    import numpy as np

    if type(part).__name__ not in ("StandardScaler", "RobustScaler", "MaxAbsScaler"):
        return None
    centre, scale = getattr(part, "mean_", getattr(part, "center_", None)), getattr(part, "scale_", None)
    length = next((len(each) for each in (centre, scale) if each is not None), 0)
    if not getattr(part, "with_mean", getattr(part, "with_centering", centre is not None)):
        centre = None
    centre = np.zeros(length) if centre is None else centre
    scale = np.ones(length) if scale is None else scale
    return (np.asarray(centre, dtype=np.float32), np.asarray(scale, dtype=np.float32)) if length else None


def _is(attributes: dict[str, Any], centre: Any, scale: Any) -> bool:
    import numpy as np

    offset, factor = attributes.get("offset"), attributes.get("scale")
    if offset is None or factor is None or offset.size not in (1, centre.size) or factor.size not in (1, scale.size):
        return False
    return bool(np.array_equal(np.broadcast_to(offset, centre.shape), centre) and np.allclose(factor * scale, 1, rtol=1e-5))
