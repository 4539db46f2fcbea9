"""A worker's HTTP endpoint that says what a test wants, byte by byte: a real server on loopback."""

from __future__ import annotations

import socket
import threading


class Endpoint:
    """A server that answers each request on a connection with the next of `answers`: bytes, or None to close without any."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []
        self.connections = 0
        self.hold = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self.hold.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                kept = True
                while self._answers and kept:
                    try:
                        kept = self._one(connection)
                    except ConnectionError:  # who asked has heard enough
                        kept = False
                if kept:
                    self.hold.wait()

    def _one(self, connection: socket.socket) -> bool:
        got = b""
        while b"\r\n\r\n" not in got:
            part = connection.recv(65536)
            if not part:
                return False
            got += part
        head, _, body = got.partition(b"\r\n\r\n")
        size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        while len(body) < size:
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        answer = self._answers.pop(0)
        if answer is None:
            return False
        connection.sendall(answer)
        return b"connection: close" not in answer.lower() and not answer.endswith(b"CUT")


def answered(body: bytes, status: str = "200 OK", *headers: str, size: int | None = None) -> bytes:
    length = len(body) if size is None else size
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
