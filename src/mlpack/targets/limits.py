"""The hard limits of the platforms, each with its source, and the checks that hold a package against them.

Promises:
- Sizes are compared in bytes, before anything is written. An error says by how much a package is too large and what to cut, largest
  first.

AWS writes MB and GB for powers of 1,024: its own error text for a function that is too large names 262144000 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mlpack.errors import LimitError

_QUOTAS = "AWS Lambda developer guide, 'Lambda quotas' (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)"
_API = "AWS Lambda API reference, CreateFunction"
_MIB = 1 << 20

Ranges = Mapping[str, tuple[Callable[[float], bool], str]]
"""For numbers of a config, by field: the check, and the message when it fails."""

LAMBDA_RANGES: Ranges = {
    # Its smallest and largest: docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html, read 2026-11.
    "memory_mb": (
        lambda value: isinstance(value, str) or 128 <= value <= 10_240,
        "must be from 128 to 10240 (MB, what Lambda offers)",
    ),
}
WORKER_RANGES: Ranges = {
    "memory_mb": (lambda value: 256 <= value <= 1_048_576, "must be from 256 to 1048576 (MB, what a container is given)"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One number of a platform. `value` in `unit`; sizes are in bytes. `source`: where the platform states it."""

    name: str
    value: int
    unit: str
    source: str


ZIP_UNZIPPED = Limit(
    name="function and all its layers, unzipped",
    value=262_144_000,
    unit="bytes",
    source=f"{_QUOTAS}; the service's error names the bytes",
)
ZIP_DIRECT_UPLOAD = Limit(name="zip uploaded directly, not through S3", value=50 * _MIB, unit="bytes", source=_QUOTAS)
ZIP_LAYERS = Limit(name="layers of a function", value=5, unit="layers", source=_QUOTAS)
IMAGE_UNCOMPRESSED = Limit(name="container image, all layers uncompressed", value=10 * 1024 * _MIB, unit="bytes", source=_QUOTAS)
IMAGE_LAYERS = Limit(
    name="layers of an image", value=127, unit="layers", source="containerd's overlay mounts; Lambda names no number"
)
ENVIRONMENT = Limit(name="environment variables, all together", value=4 * 1024, unit="bytes", source=_QUOTAS)
MEMORY_MIN = Limit(name="least memory", value=128, unit="MB", source=_QUOTAS)
MEMORY_MAX = Limit(name="most memory", value=10_240, unit="MB", source=f"{_QUOTAS}; more is for managed instances")
MEMORY_PER_VCPU = Limit(name="memory with one vCPU", value=1_769, unit="MB", source="developer guide, 'Configure memory'")
TMP_MIN = Limit(name="least /tmp", value=512, unit="MB", source=_QUOTAS)
TMP_MAX = Limit(name="most /tmp", value=10_240, unit="MB", source=_QUOTAS)
TIMEOUT = Limit(name="timeout of a call", value=900, unit="s", source=_QUOTAS)
INIT = Limit(name="initialisation, on demand", value=10, unit="s", source="developer guide, 'Lambda execution environment'")
PAYLOAD_SYNC = Limit(name="request, and response, of a synchronous call", value=6 * _MIB, unit="bytes", source=_QUOTAS)
PAYLOAD_ASYNC = Limit(name="request of an asynchronous call", value=1 * _MIB, unit="bytes", source="AWS Compute blog, 2026-01-29")
PAYLOAD_STREAMED = Limit(name="streamed response", value=200 * _MIB, unit="bytes", source=_QUOTAS)
FILE_DESCRIPTORS = Limit(name="open files", value=1_024, unit="descriptors", source=_QUOTAS)
PROCESSES = Limit(name="processes and threads", value=1_024, unit="threads", source=_QUOTAS)
NAME_LENGTH = Limit(name="name of a function", value=64, unit="characters", source=_API)
WORKER_IMAGE = Limit(
    name="worker image beside its model: base, runtime and code, uncompressed",
    value=500_000_000,
    unit="bytes",
    source="ours: a node pulls it whole before its first answer, and what runs an engine fits in it several times over a slim base",
)

RUNNING = (
    ENVIRONMENT,
    MEMORY_MIN,
    MEMORY_MAX,
    MEMORY_PER_VCPU,
    TMP_MIN,
    TMP_MAX,
    TIMEOUT,
    INIT,
    PAYLOAD_SYNC,
    PAYLOAD_ASYNC,
    PAYLOAD_STREAMED,
    FILE_DESCRIPTORS,
    PROCESSES,
    NAME_LENGTH,
)
"""The limits of every function, however it is packed."""


def check_size(limit: Limit, sizes: Sequence[tuple[str, int]]) -> None:
    """LimitError when the `(name, bytes)` together exceed `limit`: by how much, and the five largest of them."""
    total = sum(size for _, size in sizes)
    if total <= limit.value:
        return
    largest = sorted(sizes, key=lambda each: (-each[1], each[0]))[:5]
    rows = "\n".join(f"  {size:>13,} bytes  {what}" for what, size in largest)
    raise LimitError(
        f"{limit.name}: {total:,} bytes, {total - limit.value:,} more than the {limit.value:,} that are allowed. "
        f"What to cut, largest first:\n{rows}"
    )


def check_count(limit: Limit, count: int) -> None:
    """LimitError when there are more than `limit` allows."""
    if count > limit.value:
        raise LimitError(f"{limit.name}: {count}, {count - limit.value} more than the {limit.value} that are allowed")


def memory_problem(memory_mb: int | str) -> str | None:
    """The problem with a function's memory size, or None. A word leaves it to the build."""
    if isinstance(memory_mb, str) or MEMORY_MIN.value <= memory_mb <= MEMORY_MAX.value:
        return None
    return f"memory_mb: {memory_mb} is not between {MEMORY_MIN.value:,} and {MEMORY_MAX.value:,}, which is what Lambda offers"
