"""The protocol's own clients against every entrance: what they are told is the same everywhere, and errors are theirs to print."""

from __future__ import annotations

import gzip
import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from tests.support.serving import entrances
from tests.support.serving.entrances import ENTRANCES, PACKAGES
from tools import parts

PROGRAMS = Path(entrances.__file__).parent
SCORES = [[-3.976, 4.4389, -2.3358], [-3.0616, 2.0708, -4.7283]]
EMBEDDINGS = [[14.2857, 14.8571, 15.4286, 16.0, 16.5714], [5.0, 5.5714, 6.1429, 6.7143, 7.2857]]
PORT = {"datatype": "FP32", "shape": [-1, 4]}
TOLD: dict[str, Any] = {
    "live": True,
    "ready": True,
    "model ready": True,
    "other ready": False,
    "server": {"name": "mlpack", "version": "0.1.0", "extensions": ["binary_tensor_data", "classification"]},
    "model": {
        "name": "tiny",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "pixels", **PORT}, {"name": "marks", "datatype": "INT64", "shape": [-1]}],
        "outputs": [{"name": "scores", **PORT, "shape": [-1, 3]}, {"name": "count", "datatype": "INT64", "shape": []}],
    },
    **dict.fromkeys(("json", "binary", "gzip", "deflate", "gzip back"), SCORES),
    "nan": [True, "r-1"],
    "classes": [["1", "2"], ["1", "0"]],
    "count of classes": "output 'count' has no classes to choose from",
    "shared memory": "shared memory is not here",
    "wrong shape": "input 'pixels' has shape [1, 2]; the model takes ['batch', 4]",
    "wrong name": "no model 'other' here",
    "many": 1,
    "texts": [["text", "BYTES", [-1]], ["text_pair", "BYTES", [-1]]],
    **dict.fromkeys(("bytes", "strings"), EMBEDDINGS),
    "pairs": [2, 5],
}
"""What tritonclient is told; of a refusal a part of its text."""
REFUSALS = {"count of classes": 400, "shared memory": 400, "wrong shape": 400, "wrong name": 404}


@pytest.fixture(scope="module")
def places(rie: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """Of each entrance the addresses of `PACKAGES`, in their order."""
    folder = tmp_path_factory.mktemp("packages")
    roots = [entrances.make(name, folder / name) for name in PACKAGES]
    with ExitStack() as opened:
        yield {
            name: [f"127.0.0.1:{opened.enter_context(entrance(root, rie))}" for root in roots]
            for name, entrance in ENTRANCES.items()
        }


@pytest.fixture(scope="module")
def ask(places: dict[str, list[str]]) -> Callable[..., dict[str, Any]]:
    """What each entrance tells a client's program. A client is slow to start, and is started once."""
    told: dict[tuple[str, ...], dict[str, Any]] = {}

    def run(program: str, *arguments: str) -> dict[str, Any]:
        if (program, *arguments) not in told:
            addresses = [address for pair in places.values() for address in pair]
            command = [parts.clients(), "-W", "ignore", PROGRAMS / f"{program}.py", *arguments, *addresses]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            assert done.returncode == 0, done.stderr[-3000:]
            told[program, *arguments] = dict(zip(places, json.loads(done.stdout), strict=True))
        return told[program, *arguments]

    return run


@pytest.mark.parametrize("kind", ["sync", "aio"])
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_tritonclient_is_told_the_same_everywhere(ask: Callable[..., dict[str, Any]], entrance: str, kind: str) -> None:
    told = ask("triton_client", kind)[entrance]
    assert told.keys() == TOLD.keys()
    for name, status in REFUSALS.items():
        assert told[name].startswith(f"{status} ")
        assert TOLD[name] in told[name]
    assert {name: told[name] for name in TOLD if name not in REFUSALS} == {n: TOLD[n] for n in TOLD if n not in REFUSALS}


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="kserve goes up to Python 3.13")
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_kserves_client_is_told_the_same_everywhere(ask: Callable[..., dict[str, Any]], entrance: str) -> None:
    told = ask("kserve_client")[entrance]
    assert told.pop("nan") is True
    for name in ("wrong shape", "wrong name"):
        assert TOLD[name] in told.pop(name)
    assert told == {name: TOLD[name] for name in ("live", "ready", "model ready", "json", "binary", "bytes", "strings")}


NUMBERS = json.dumps({"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [2]}}).encode()


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_senders_habits_change_nothing(places: dict[str, list[str]], entrance: str) -> None:
    """How curl, Go, Java, Node and proxies send the same request."""

    def post(body: Any, path: str = "/v2/models/tiny/infer", **headers: str) -> tuple[int, Any]:
        with closing(http.client.HTTPConnection(places[entrance][0], timeout=60)) as connection:
            connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    status, plain = post(NUMBERS)
    outputs = plain["outputs"]
    packed = gzip.compress(NUMBERS)
    pieces = [NUMBERS[:9], NUMBERS[9:]]
    sent: list[tuple[int, Any]] = [
        (status, plain),
        post(NUMBERS, Content_Type="application/x-www-form-urlencoded"),  # curl -d
        post(NUMBERS, Content_Type="application/json; charset=utf-8", Accept="*/*"),
        post(iter(pieces), Content_Type="application/json"),  # Node's fetch of a stream, requests of a generator
        post(iter([packed[:7], packed[7:]]), Content_Encoding="gzip", Content_Type="application/json"),
        post(NUMBERS, Expect="100-continue"),  # curl and Go, of larger bodies
        post(NUMBERS, Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAABkAAQBAAAAAAIAAAAA"),
        post(NUMBERS, "/v2/models/tiny/infer?trace=1"),
        post(NUMBERS, "/v2/models/tiny/versions/3/infer/"),
        post(NUMBERS, Content_Encoding="identity", Accept_Encoding="gzip;q=0, identity"),
        post(b"\xef\xbb\xbf" + NUMBERS, Content_Type="application/json"),  # .NET's and PowerShell's byte order mark
        post(NUMBERS, X_Forwarded_For="192.0.2.1", Forwarded="for=192.0.2.1", Via="1.1 proxy", Cookie="a=b"),
    ]
    assert [(status, answer.get("outputs")) for status, answer in sent] == [(200, outputs)] * len(sent)
    status, refused = post(NUMBERS, Content_Encoding="br")
    assert (status, refused["error_type"]) == (415, "UnsupportedMediaType")
    assert isinstance(refused["error"], str)
