"""Hosts of the internet on this machine: a server whose answers are written byte by byte, and a network that leads there.

The network resolves names from a table, and leads connections to public addresses to the server. Which addresses are public is
judged by the runtime itself: nothing here says so.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

from mlpack_runtime.fetching.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Behaviour = Callable[[socket.socket, bytes], None]

PUBLIC, PUBLIC_V6 = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
PRIVATE = "10.0.0.7"


def answered(body: bytes = b"", status: int = 200, **headers: str) -> Behaviour:
    """An ordinary answer."""

    def behave(connection: socket.socket, _: bytes) -> None:
        lines = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        connection.sendall(f"HTTP/1.1 {status} Told\r\n{head}\r\n".encode() + body)

    return behave


def raw(*pieces: bytes, pause_s: float = 0.0) -> Behaviour:
    """These bytes, with a pause before each but the first."""

    def behave(connection: socket.socket, _: bytes) -> None:
        for at, piece in enumerate(pieces):
            if at and pause_s:
                threading.Event().wait(pause_s)
            connection.sendall(piece)

    return behave


class Host:
    """A server. `pages`: behaviours by path. `asked`: heads of the requests that came."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Behaviour] = {}
        self.asked: list[bytes] = []
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            secure = self._context.wrap_socket(connection, server_side=True) if self._context else connection
            with secure:
                head = b""
                while b"\r\n\r\n" not in head and (piece := secure.recv(65536)):
                    head += piece
                self.asked.append(head)
                path = head.split(b" ")[1].decode("latin-1") if head.count(b" ") > 1 else ""
                self.pages.get(path, answered(b"there is nothing", 404))(secure, head)
                if self._context:
                    secure.unwrap()  # type: ignore[attr-defined]

    def close(self) -> None:
        """End it; connections end by themselves."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class LocalNetwork(Network):
    """Names by a table, and public addresses that lead to a server. `names`: addresses of each name, or what resolving it does."""

    def __init__(self, host: Host, names: dict[str, Any], authority: Path | None = None) -> None:
        super().__init__()
        self._host = host
        self._authority = authority
        self.names = names
        self.resolved: list[str] = []
        self.connected: list[str] = []

    def resolve(self, host: str, port: int) -> list[Any]:
        """As getaddrinfo."""
        self.resolved.append(host)
        told = self.names.get(host)
        if callable(told):
            told = told()
        if told is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in told]

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """To the server, whatever the address is."""
        del port
        self.connected.append(address)
        return super().connect("127.0.0.1", self._host.port, timeout_s)

    def context(self) -> ssl.SSLContext:
        """Trusting the test's own authority."""
        return ssl.create_default_context(cafile=str(self._authority) if self._authority else None)


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Host]:
    """A server while the block runs."""
    host = Host(context)
    try:
        yield host
    finally:
        host.close()


def certificate(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for these names and addresses that signs itself: its file, and a server's context with it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(list(map(_alternative, names))), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "host.pem", folder / "host.key"
    public.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


def _alternative(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
