"""What a first signed call costs a function: mlpack's small client beside botocore, both from import to answer, and calls after it.

The call is DynamoDB's BatchGetItem of four items, answered by a server on this machine without delay, so that what is measured is
the client's. Each side is a process of its own with the options of a package's start (`-I -S`), which reads its own processor time:
after the interpreter's start, after the first answer, and after 200 more on the connection that stays open. With TLS the
certificates that are believed are the public ones, as in a function, and that server's; reading them is most of the small client's
time.
Figure: botocore costs at least four times as much processor time until the first answer as the small client.
"""

from __future__ import annotations

import json
import os
import socketserver
import ssl
import subprocess
import sys
import threading
from binascii import crc32
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from common import ROOT, Row, in_turns, parser, ratio, report, scratch, timed  # noqa: E402 - bench/ is no package

MORE = 200
KEYS = [{"id": {"S": f"customer-{number}"}} for number in range(4)]
ASKED = {"RequestItems": {"features": {"Keys": KEYS}}}
ITEMS = [{**key, "age": {"N": "42"}, "score": {"N": "0.125"}, "plan": {"S": "basic"}} for key in KEYS]
ANSWER = json.dumps({"Responses": {"features": ITEMS}, "UnprocessedKeys": {}}).encode()
CHILD = """
import sys, time
sys.path.insert(0, {path!r})
began, wall = time.process_time(), time.perf_counter()
{imports}
asked = {asked!r}
answer = call(asked)
first, wall = time.process_time() - began, time.perf_counter() - wall
assert len(answer["Responses"]["features"]) == 4
began = time.process_time()
for _ in range({more}):
    call(asked)
print(first * 1e3, wall * 1e3, (time.process_time() - began) / {more} * 1e6)
"""
OURS = """
from mlpack_runtime.aws.signed import Client
client = Client("dynamodb")
call = lambda asked: client.call("BatchGetItem", asked)
"""
THEIRS = """
from botocore.session import get_session
client = get_session().create_client("dynamodb", region_name="eu-central-1")
call = lambda asked: client.batch_get_item(**asked)
"""


def main() -> int:
    """Both sides in turns, over plain HTTP and TLS."""
    options = parser(__doc__, runs=15).parse_args()
    rows: list[Row] = []
    with scratch() as work:
        for tls in (False, True):
            with Server(certificate(work) if tls else None) as server:
                rows += measured(server.address, work / "bundle.pem" if tls else None, options.runs)
    how = "BatchGetItem of four items from a server on this machine, one process a run, processor time of the process"
    return report("runtime_signed_client", rows, how, options.out)


def measured(address: str, bundle: Path | None, runs: int) -> list[Row]:
    """The rows of one transport."""
    import botocore

    found = Path(botocore.__file__).parent.parent
    sides = {"small": (str(ROOT / "src"), OURS), "botocore": (str(found), THEIRS)}
    walls: dict[str, list[float]] = {name: [] for name in sides}
    later: dict[str, list[float]] = {name: [] for name in sides}

    def run(name: str) -> float:
        path, imports = sides[name]
        code = CHILD.format(path=path, imports=imports, asked=ASKED, more=MORE)
        known = {
            "AWS_ENDPOINT_URL": address,
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "AKID",
            "AWS_SECRET_ACCESS_KEY": "s",
        }
        known |= {"AWS_EC2_METADATA_DISABLED": "true", **({"AWS_CA_BUNDLE": str(bundle)} if bundle else {})}
        command = [sys.executable, "-I", "-S", "-c", code]
        done = subprocess.run(command, env={**os.environ, **known}, capture_output=True, text=True, check=True)
        first, wall, call = map(float, done.stdout.split())
        walls[name].append(wall)
        later[name].append(call)
        return first

    firsts = in_turns({name: lambda name=name: run(name) for name in sides}, runs)  # type: ignore[misc]
    over = "TLS" if bundle else "plain HTTP"
    return [
        timed(f"the small client's first answer, {over}", firsts["small"], "ms of processor time"),
        timed(f"botocore's first answer, {over}", firsts["botocore"], "ms of processor time"),
        ratio(f"botocore / the small client, first answer, {over}", firsts["botocore"], firsts["small"], at_least=4),
        timed("  the small client's, by the clock", walls["small"][1:], "ms"),
        timed("  botocore's, by the clock", walls["botocore"][1:], "ms"),
        timed("  a later call of the small client", later["small"][1:], "us of processor time"),
        timed("  a later call of botocore", later["botocore"][1:], "us of processor time"),
    ]


class Server:
    """A server of DynamoDB's protocol that gives the same answer to everything, on connections that stay open."""

    def __init__(self, certified: tuple[Path, Path] | None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certified else None
        if context is not None and certified is not None:
            context.load_cert_chain(*certified)

        class Handler(socketserver.BaseRequestHandler):
            """One connection."""

            def handle(self) -> None:
                """Answer each request that comes on it."""
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nx-amz-crc32: {crc32(ANSWER)}\r\n"
                answer = f"{head}Content-Length: {len(ANSWER)}\r\n\r\n".encode() + ANSWER
                try:
                    speaking: Any = context.wrap_socket(self.request, server_side=True) if context else self.request
                    waiting = b""
                    while received := speaking.recv(1 << 16):
                        waiting += received
                        before, mark, body = waiting.partition(b"\r\n\r\n")
                        length = int(before.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                        if mark and len(body) >= length:
                            waiting = body[length:]
                            speaking.sendall(answer)
                except OSError:
                    return

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"{'https' if certified else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def certificate(work: Path) -> tuple[Path, Path]:
    """A certificate of this machine and its key; bundle.pem beside them believes it, and all that botocore believes."""
    import botocore

    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = (work / "cert.pem", work / "key.pem")
    command = [*kind, *names, "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    public = Path(botocore.__file__).parent / "cacert.pem"
    (work / "bundle.pem").write_bytes(public.read_bytes() + b"\n" + files[0].read_bytes())
    return files


if __name__ == "__main__":
    sys.exit(main())
