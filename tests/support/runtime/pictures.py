"""Pictures made for tests, as files, and tiny graphs that read them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from tests.support.runtime.tiny_packages import save

if TYPE_CHECKING:
    from pathlib import Path


def picture(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Any:
    """Random pixels as Pillow's image."""
    import numpy as np
    from PIL import Image

    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def scene(width: int, height: int, seed: int = 0) -> Any:
    """Something with edges and gradients, which compress as photographs do: few colours, enlarged."""
    return picture(max(1, width // 16), max(1, height // 16), seed).resize((width, height), 2)


def file(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file of this format."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def means(path: Path) -> Path:
    """logits[batch, 3]: the mean of each channel of pixel_values[batch, 3, height, width], times 10."""
    import numpy as np
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["pixel_values"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "ten"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, "height", "width"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])]
    return save(path, nodes, inputs, outputs, {"ten": np.array(10, np.float32)})


def constants(values: dict[str, Any], shape: tuple[Any, ...] = ("batch", 3, "height", "width")) -> Any:
    """A graph that gives these arrays for each picture, whatever the picture."""

    def graph(path: Path) -> Path:
        import numpy as np
        from onnx import TensorProto, helper

        nodes = [
            helper.make_node("ReduceMean", ["pixel_values"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["none"]),
        ]
        weights, outputs = {"zero": np.array(0, np.float32)}, []
        for name, value in values.items():
            weights |= {f"{name}_shape": np.array([-1, *[1] * value.ndim]), f"{name}_value": value[None]}
            nodes += [
                helper.make_node("Reshape", ["none", f"{name}_shape"], [f"{name}_zero"]),
                helper.make_node("Add", [f"{name}_zero", f"{name}_value"], [name]),
            ]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *value.shape]))
        inputs = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, list(shape))]
        return save(path, nodes, inputs, outputs, weights)

    return graph
