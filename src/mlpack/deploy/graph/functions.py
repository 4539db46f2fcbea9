"""Functions, and the alias that their callers go by. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlpack.deploy.graph.values import Id, Node, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Zip:
    """Code of a function in S3; `layers` by their ARNs. `sha256`: hex digest of the zip, "" where it lies beside the files."""

    bucket: Value
    key: Value
    runtime: str
    handler: str
    layers: tuple[Value, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image by its digest."""

    uri: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Function(Node):
    """A Lambda function. Sizes in MB, times in seconds."""

    name: str
    role: Id
    code: Zip | Image
    architecture: Literal["x86_64", "arm64"]
    memory_mb: int
    timeout_s: int
    logs: Id
    environment: Mapping[str, Value] = field(default_factory=dict)
    reserved: int | None = None
    ephemeral_mb: int = 512
    snapstart: bool = False
    tracing: bool = True
    dead_letters: Value | None = None
    key: Value | None = None
    """Of KMS, for the environment's values; None: AWS's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version(Node):
    """The version that an alias begins with. Its id never changes: later ones are published by the rollout."""

    function: Id


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias(Node):
    """Where callers go. The stack makes it; the rollout owns where it points (renderers keep the stack's hands off)."""

    function: Id
    version: Id
    name: str = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned(Node):
    """Environments that are kept warm, always or by a schedule of (cron, count) pairs in `timezone`."""

    alias: Id
    count: int
    schedule: tuple[tuple[str, int], ...] = ()
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission(Node):
    """That a service may invoke an alias (never the bare function). `by_url`: only through the function's address, which takes this
    right beside that of `function_url`."""

    alias: Id
    service: str
    source: Value
    function_url: Literal["AWS_IAM", "NONE"] | None = None
    by_url: bool = False
