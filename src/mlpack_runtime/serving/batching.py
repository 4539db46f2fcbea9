"""How calls run together: padded to one shape, and the outputs cut back to each. Which ones do: `waiting`.

Promises: pure. Calls are put together only where the layout says that rows are answered each by itself; what a call gets back has
its own rows and its own length.
Will not: choose, wait, run anything, or know requests. Numbers may differ from those of a call alone as far as the engine's do when
shapes differ: with dynamic int8 a batch shares its scales, so a neighbour may move a value by a rounding.
"""

from mlpack_runtime.backend import BackendError
from mlpack_runtime.tensor import DATATYPES, Tensor, blocks, count, lengthened, sliced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlpack_runtime.backend import Shapes

    Feeds = Mapping[str, Tensor]

_OBJECTS_BYTES = 1024  # a unit's own, with its tensors' and views' (measured: 900 for two inputs)


class Layout:
    """What is known of a graph's axes. `batched`: whether axis 0 of every input and output is the batch's, each row by itself.

    `pads`: for inputs with a length on axis 1, what stands where one is shorter; empty: nothing is padded.
    `lengths`: outputs with that length, and its axis there.
    """

    __slots__ = ("batched", "lengths", "pad_left", "pads")

    def __init__(
        self,
        *,
        batched: bool,
        pads: "Mapping[str, int] | None" = None,
        lengths: "Mapping[str, int] | None" = None,
        pad_left: bool = False,
    ) -> None:
        self.batched = batched
        self.pads = dict(pads or {})
        self.lengths = dict(lengths or {})
        self.pad_left = pad_left

    def length(self, feeds: "Feeds") -> int:
        """The length of a call, 0 where there is none."""
        return next((feeds[name].shape[1] for name in self.pads if len(feeds[name].shape) > 1), 0)

    def kind(self, feeds: "Feeds") -> "tuple[object, ...]":
        """What two calls must have in common to run together."""
        padded = self.pads if self.batched else ()
        return rows_of(feeds) == 0, *((name, made.shape[2 if name in padded else 1 :]) for name, made in sorted(feeds.items()))


class Unit:
    """Some rows of one call, which run together or not at all. `arrived` in seconds of the batcher's clock; `nbytes`: about what it
    holds of memory."""

    __slots__ = ("arrived", "feeds", "kind", "length", "nbytes", "owner", "place", "rows")

    def __init__(self, layout: Layout, feeds: "Feeds", owner: object = None, place: int = 0) -> None:
        self.feeds = feeds
        self.rows = rows_of(feeds)
        self.length = layout.length(feeds)
        self.kind = layout.kind(feeds)
        self.owner = owner  # whose call it is
        self.place = place  # which part of that call
        self.arrived = 0.0
        self.nbytes = _OBJECTS_BYTES + sum(memoryview(made.data).nbytes for made in feeds.values())


def rows_of(feeds: "Feeds") -> int:
    """How many samples: the first axis of the first input."""
    first = next(iter(feeds.values()), None)
    return first.shape[0] if first is not None and first.shape else 1


def parts(layout: Layout, feeds: "Feeds", most: int) -> "list[Feeds]":
    """A call as pieces of at most `most` rows. One piece where rows must stay together."""
    rows = rows_of(feeds)
    if rows <= most or not layout.batched:
        return [feeds]
    return [{name: sliced(made, at, min(at + most, rows)) for name, made in feeds.items()} for at in range(0, rows, most)]


def most_rows(shapes: "Shapes", wanted: int) -> int:
    """How many rows a batch may have: `wanted`, or what the largest profile takes."""
    largest = [min(bounds[2][0] for bounds in profile.values() if bounds[2]) for profile in shapes.profiles]
    return min(wanted, max(largest)) if largest else wanted


def fitted(layout: Layout, shapes: "Shapes", units: "Sequence[Unit]") -> "tuple[int, int]":
    """(rows, length) that a batch of these units is padded to: their own, or what the smallest profile that takes them starts at.
    Raises BackendError ("input") when none does."""
    rows, length = sum(unit.rows for unit in units), max(unit.length for unit in units)
    if not shapes.profiles:
        return rows, length
    found = []
    for profile in shapes.profiles:
        target = _in_profile(layout, profile, units[0].feeds, rows, length)
        if target is not None:
            found.append((sum(count(bounds[2]) for bounds in profile.values()), target))
    if found:
        return min(found)[1]
    taken = " or ".join(_described(profile) for profile in shapes.profiles)
    sizes = f"{rows} rows of length {length}" if layout.pads else f"{rows} rows"
    raise BackendError(f"{sizes} are outside what this engine was built for: {taken}", "input")


def _in_profile(
    layout: Layout,
    profile: "Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]",
    feeds: "Feeds",
    rows: int,
    length: int,
) -> "tuple[int, int] | None":
    for name, (least, _, most) in profile.items():
        shape = feeds[name].shape
        if len(shape) != len(most):
            return None
        if layout.batched and shape:
            rows = max(rows, least[0])
        if name in layout.pads:
            length = max(length, least[1])
        padded = _padded(layout, name, shape, rows, length)
        if not all(low <= size <= high for low, size, high in zip(least, padded, most, strict=True)):
            return None
    return rows, length


def _padded(layout: Layout, name: str, shape: "tuple[int, ...]", rows: int, length: int) -> "tuple[int, ...]":
    if not layout.batched or not shape:
        return shape
    return (rows, length, *shape[2:]) if name in layout.pads else (rows, *shape[1:])


def _described(profile: "Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]") -> str:
    return ", ".join(f"{name} {list(bounds[0])} to {list(bounds[2])}" for name, bounds in profile.items())


def join(layout: Layout, units: "Sequence[Unit]", rows: int, length: int) -> "dict[str, Tensor]":
    """One call out of these units' rows, padded to `rows` and `length`.

    A row that is missing repeats the last one: rows of padding alone have an empty attention mask, whose softmax is NaN.
    """
    first = units[0].feeds
    if len(units) == 1 and rows == units[0].rows and length == units[0].length:
        return dict(first)
    joined = {}
    for name, made in first.items():
        pieces = [piece for unit in units for piece in _pieces(layout, name, unit, length)]
        if rows > (own := sum(unit.rows for unit in units)):
            last = pieces[-1] if name in layout.pads else sliced(units[-1].feeds[name], units[-1].rows - 1, units[-1].rows).data
            pieces += [memoryview(last)] * (rows - own)
        joined[name] = Tensor(made.datatype, _padded(layout, name, made.shape, rows, length), b"".join(pieces))
    return joined


def _pieces(layout: Layout, name: str, unit: Unit, length: int) -> "list[bytes | memoryview]":
    made = unit.feeds[name]
    data = memoryview(made.data).cast("B")
    if name not in layout.pads or unit.length == length:
        return [data] if name not in layout.pads else _rows(data, unit.rows)
    item = DATATYPES[made.datatype][1]
    filling = layout.pads[name].to_bytes(item, "little", signed=True) * (length - unit.length)
    rows = _rows(data, unit.rows)
    return [filling + row if layout.pad_left else bytes(row) + filling for row in rows]


def _rows(data: memoryview, rows: int) -> "list[bytes | memoryview]":
    size = data.nbytes // rows
    return [data[at * size : (at + 1) * size] for at in range(rows)]


def cut(layout: Layout, units: "Sequence[Unit]", outputs: "Feeds", length: int) -> "list[dict[str, Tensor]]":
    """Each unit's own outputs, without what was padded. Raises BackendError ("package") when a batch's outputs lack its rows."""
    if not layout.batched:
        return [dict(outputs)]
    cuts: list[dict[str, Tensor]] = []
    at = 0
    for unit in units:
        own = {}
        for name, made in outputs.items():
            if not made.shape or made.shape[0] < at + unit.rows:
                raise BackendError(f"output {name!r} has shape {list(made.shape)}: its rows are not the batch's", "package")
            own[name] = sliced(made, at, at + unit.rows)
            if name in layout.lengths and unit.length != length:
                own[name] = shortened(own[name], layout.lengths[name], unit.length, left=layout.pad_left)
        cuts.append(own)
        at += unit.rows
    return cuts


def shortened(made: Tensor, axis: int, length: int, *, left: bool = False) -> Tensor:
    """The first `length` along an axis; with `left`, the last."""
    outer, inner = count(made.shape[:axis]), count(made.shape[axis + 1 :])
    each = made.shape[axis] * inner
    begin = each - length * inner if left else 0
    pieces = blocks(made, outer, each, begin, begin + length * inner)
    return Tensor(made.datatype, (*made.shape[:axis], length, *made.shape[axis + 1 :]), b"".join(pieces))


def together(pieces: "Sequence[Feeds]", layout: Layout) -> "dict[str, Tensor]":
    """The outputs of a call that ran in pieces, as if it had run whole: texts shorter than the call's longest get zeros where the
    others have values."""
    if len(pieces) == 1:
        return dict(pieces[0])
    whole = {}
    for name, first in pieces[0].items():
        parts_ = [piece[name] for piece in pieces]
        axis = layout.lengths.get(name)
        if axis is not None:
            longest = max(part.shape[axis] for part in parts_)
            parts_ = [lengthened(part, axis, longest, left=layout.pad_left) for part in parts_]
        rows = sum(part.shape[0] for part in parts_)
        whole[name] = Tensor(first.datatype, (rows, *parts_[0].shape[1:]), b"".join(part.data for part in parts_))
    return whole
