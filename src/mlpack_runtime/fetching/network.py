"""Names to addresses that may be asked, and connections to exactly those.

Promises: an address inside a network (private, loopback, link-local and so a cloud's metadata, shared by carriers, multicast,
reserved), and one that stands for another (IPv4 inside IPv6, NAT64, 6to4, Teredo), is never connected to, whatever name gave it.
Resolving counts in the time that a fetch has.
"""

import socket
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ssl import SSLContext
    from typing import Any

_RESOLVING = threading.BoundedSemaphore(16)
"""Names that are resolved at a time: the C library takes no time limit, so one that hangs keeps its thread."""
_INNER = tuple(
    ip_network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
"""IPv4, from IANA's registry of special purposes. Python's `is_private` and `is_global` changed between its releases."""
_PUBLIC_V6 = ip_network("2000::/3")
"""All that is given out of IPv6. Outside are loopback, link-local, unique local (with clouds' metadata), multicast, IPv4-mapped and
-compatible addresses, and NAT64 (64:ff9b::/96 and 64:ff9b:1::/48)."""
_INNER_V6 = tuple(ip_network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"))
"""Inside it: protocols' own (Teredo, ORCHID, benchmarks), documentation, 6to4, AS112."""


class Network:
    """The internet."""

    def __init__(self) -> None:
        self._context: SSLContext | None = None

    def addresses(self, host: str, port: int, until_s: float) -> "list[str]":
        """Addresses of a host that may be asked, in the resolver's order; none where it has only others.

        Raises:
            OSError: The name is not known, or was not resolved in time (TimeoutError).
        """
        # An address with a zone (fe80::1%eth0) is link-local.
        rows = [str(row[4][0]) for row in self._resolved(host, port, until_s)]
        return [each for each in dict.fromkeys(rows) if "%" not in each and self.is_public(each)]

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """A connection to an address that `addresses` gave. Raises OSError."""
        # A numeric address is not resolved again.
        return socket.create_connection((address, port), timeout=timeout_s)

    def secure(self, connection: socket.socket, host: str) -> socket.socket:
        """The connection under TLS, to a server that proves to be the host. Raises OSError (SSLError)."""
        if self._context is None:
            self._context = self.context()
        return self._context.wrap_socket(connection, server_hostname=host)

    def context(self) -> "SSLContext":
        """Who is trusted: the system's authorities, or those of `SSL_CERT_FILE`."""
        from ssl import create_default_context

        context = create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def trusts_nobody(self) -> bool:
        """Whether this machine has no authorities at all, as small images do."""
        from os import listdir
        from os.path import isdir
        from ssl import get_default_verify_paths

        paths = get_default_verify_paths()
        folder = paths.capath if paths.capath and isdir(paths.capath) else None
        return not paths.cafile and not (folder and listdir(folder))

    def is_public(self, address: str) -> bool:
        """Whether an address may be asked."""
        return is_public(ip_address(address))

    def _resolved(self, host: str, port: int, until_s: float) -> "list[Any]":
        """What the system's resolver says, in a thread of its own."""
        if not _RESOLVING.acquire(timeout=max(0.0, until_s - monotonic())):
            raise TimeoutError("names wait to be resolved")
        answers: list[Any] = []

        def resolve() -> None:
            try:
                answers.append(self.resolve(host, port))
            except (OSError, UnicodeError) as error:
                answers.append(error)
            finally:
                _RESOLVING.release()

        thread = threading.Thread(target=resolve, name="mlpack-resolve", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads to be had
            _RESOLVING.release()
            raise OSError("there is no thread to resolve names in") from None
        thread.join(max(0.0, until_s - monotonic()))
        if not answers:
            raise TimeoutError("the name was not resolved in time")
        if isinstance(answers[0], OSError):
            raise answers[0]
        if isinstance(answers[0], UnicodeError):
            raise OSError("the name cannot be resolved")
        return answers[0]  # type: ignore[no-any-return]

    def resolve(self, host: str, port: int) -> "list[Any]":
        """The system's resolver. Raises OSError."""
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def is_public(address: "IPv4Address | IPv6Address") -> bool:
    """Whether an address is one of the public internet, and stands for itself."""
    if isinstance(address, IPv4Address):
        return not any(address in each for each in _INNER)
    return address in _PUBLIC_V6 and not any(address in each for each in _INNER_V6)
