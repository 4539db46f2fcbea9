"""The shapes of a request's inputs, held against the model's ports and against one another.

Promises: pure; what passes asks for no more rows than somebody sent values for. Will not: read data.
"""

from mlpack_runtime.limits import UNBACKED, RequestError, quoted
from mlpack_runtime.tensor import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlpack_runtime.ort import Port
    from mlpack_runtime.tensor import Tensor


def match(port: "Port", shape: "tuple[int, ...]", sizes: "dict[str, tuple[int, str]]") -> None:
    """Fixed axes must be as they are, and axes of one name must agree over all inputs (`sizes`: axis -> size, first input)."""
    fits = len(shape) == len(port.shape)
    for given, wanted in zip(shape, port.shape, strict=False):
        if type(wanted) is int:
            fits = fits and given == wanted
        elif wanted != "?" and sizes.setdefault(str(wanted), (given, port.name))[0] != given:
            size, first = sizes[str(wanted)]
            raise RequestError(f"input {port.name!r} has {quoted(given)} for axis {wanted!r}, input {first!r} has {quoted(size)}")
    if not fits:
        raise RequestError(f"input {port.name!r} has shape {quoted(shape)}; the model takes {list(port.shape)}")


def check_backed(ports: "tuple[Port, ...]", found: "Mapping[str, Tensor]") -> None:
    """Refuse an input without values whose shape asks for work that nobody sent values for.

    An empty input costs no bytes whatever its other sizes are; outputs and batches follow those sizes. So its rows have to be 0, 1,
    or the rows of an input that has values (a decoder's cache with a past of 0 beside its `input_ids`); and its other free axes
    together no more than `UNBACKED`, but for those whose name an input with values has too.
    """
    filled = [port for port in ports if 0 not in found[port.name].shape]
    if len(filled) == len(ports):
        return
    named = {axis for port in filled for axis in port.shape if type(axis) is str and axis != "?"}
    rows = {found[port.name].shape[0] for port in filled if port.shape and type(port.shape[0]) is str}
    for port in ports:
        shape = found[port.name].shape
        if 0 not in shape:
            continue
        unbacked = [type(axis) is str and axis not in named for axis in port.shape]
        others = tuple(size for size, free in zip(shape[1:], unbacked[1:], strict=True) if free and size)
        if (unbacked[0] and shape[0] > 1 and shape[0] not in rows) or count(others) > UNBACKED:
            raise RequestError(
                f"input {port.name!r} has shape {quoted(shape)}, which holds no values: its rows have to be 0, 1 or those of an"
                f" input that has values, and its other free axes (of {list(port.shape)}) no more than {UNBACKED} together"
            )
