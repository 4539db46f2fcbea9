"""Where a server listens, and what strangers may take of it.

Promises: IPv6 and IPv4 where a machine has both; IPv4 alone where IPv6 is not there or switched off; an address that is none of
this machine's is a SettingsError, and so is a bound that is no number within its own.
"""

import socket
from errno import EADDRNOTAVAIL, EAFNOSUPPORT

from mlpack_runtime.limits import SettingsError, number, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_BACKLOG = 1024  # as many as the system allows (net.core.somaxconn); beyond it callers are not refused, but wait a second and more


class Bounds:
    """What strangers may take of a server: docs/worker.md lists the variables. Raises SettingsError."""

    __slots__ = ("body_s", "connections", "head_bytes", "head_s", "headers", "held_bytes", "idle_s", "rate")

    def __init__(self, environment: "Mapping[str, str]", max_batch: int = 8) -> None:
        def read(name: str, default: float, least: float, most: float) -> float:
            return number(environment, f"MLPACK_HTTP_{name}", default, least, most)

        self.connections = int(read("CONNECTIONS", max(256, 2 * max_batch), 1, 65_536))
        self.head_bytes = int(read("HEAD_BYTES", 65_536, 256, 1 << 24))
        self.headers = int(read("HEADERS", 100, 1, 10_000))
        self.head_s = read("HEAD_S", 10, 0.01, 3600)
        self.body_s = read("BODY_S", 30, 0.01, 86_400)
        self.rate = read("RATE", 65_536, 1, 1e12)
        # Longer than a load balancer's: it, not we, closes a connection that nobody uses. ALB has 60 s unless told otherwise,
        # Google's have 600 for good (Cloud Load Balancing, "Timeouts and retries"). Whoever needs its place gets it.
        self.idle_s = read("IDLE_S", 620, 0.01, 86_400)
        self.held_bytes = int(read("HELD_BYTES", 0, 0, 1 << 50))


def listen(host: str, port: int) -> socket.socket:
    """A socket on `host` (nothing: every address) and `port` (0: any that is free). Raises SettingsError, OSError."""
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            return socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            if error.errno in (EADDRNOTAVAIL, EAFNOSUPPORT) or isinstance(error, socket.gaierror):
                raise SettingsError(f"MLPACK_HOST is {quoted(host)}, which is no address of this machine: {error}") from error
            raise
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (EADDRNOTAVAIL, EAFNOSUPPORT):
                raise
    return socket.create_server(("", port), backlog=_BACKLOG)  # IPv6 is not there, or switched off
