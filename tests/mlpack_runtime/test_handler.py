"""The handler as the stock runtime client uses it: imported from the package, in an interpreter of its own."""

from __future__ import annotations

import base64
import gzip
import json
import os
import pathlib
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.tiny_packages import affine, package, wide, words

if TYPE_CHECKING:
    from pathlib import Path

DRIVER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from mlpack_runtime.handler import handler, render
class Context: aws_request_id = "r-1"
for line in sys.stdin:
    event = json.loads(line)
    answer = handler(event, Context())
    rendered = json.loads(render(event, Context()))
    def plain(value): return {k: v for k, v in value.items() if k in ("statusCode", "isBase64Encoded", "outputs", "error", "warm")}
    assert plain(rendered) == plain(answer), (rendered, answer)
    out.write(json.dumps(answer) + "\\n")
"""


def ask(root: Path, *events: Any, **env: str) -> list[Any]:
    run = subprocess.run(
        [sys.executable, "-I", "-c", DRIVER, str(root)],
        input="".join(json.dumps(event) + "\n" for event in events),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def inputs(batch: int = 1) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "pixels", "shape": [batch, 4], "datatype": "FP32", "data": [1.0] * 4 * batch},
            {"name": "marks", "shape": [batch], "datatype": "INT64", "data": [2] * batch},
        ]
    }


def v2(body: str | None, method: str = "POST", path: str = "/v2/models/tiny/infer", **more: Any) -> dict[str, Any]:
    """API Gateway HTTP API and function URL, payload format 2.0."""
    context = {"http": {"method": method, "path": path}, "stage": "$default"}
    return {
        "version": "2.0",
        "rawPath": path,
        "headers": {},
        "requestContext": context,
        "body": body,
        "isBase64Encoded": False,
        **more,
    }


def v1(body: str | None, method: str = "POST", path: str = "/v2/models/tiny/infer", **more: Any) -> dict[str, Any]:
    """API Gateway REST API, payload format 1.0."""
    return {
        "httpMethod": method,
        "path": path,
        "headers": None,
        "multiValueHeaders": None,
        "requestContext": {"stage": "p"},
        "body": body,
        **more,
    }


def test_http_events_of_every_kind_get_the_same_answer(tiny: Path) -> None:
    sent = json.dumps(inputs())
    encoded = base64.b64encode(sent.encode()).decode()
    balancer = {"requestContext": {"elb": {"targetGroupArn": "arn"}}, "httpMethod": "POST", "path": "/", "body": sent}
    answers = ask(
        tiny,
        v2(sent, headers={"X-Trace-Id": "t"}),
        v2(encoded, isBase64Encoded=True, headers={"x-trace-id": "t"}),
        v1(sent, headers={"X-Trace-Id": "t"}),
        v1(sent, multiValueHeaders={"X-Trace-Id": ["t"]}),
        {**balancer, "headers": {"x-trace-id": "t"}},
        {**balancer, "multiValueHeaders": {"x-trace-id": ["t"]}},
        inputs(),
    )
    expected = answers.pop()
    for answer in answers:
        assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False)
        assert json.loads(answer["body"]) == {**expected, "parameters": {"trace_id": "t"}}
    assert len(expected["parameters"]["trace_id"]) == 32
    assert all(answer["headers"] == {"content-type": "application/json", "x-trace-id": "t"} for answer in answers[:5])
    assert answers[5]["multiValueHeaders"]["x-trace-id"] == ["t"]
    assert "headers" not in answers[5]


def test_compressed_bodies_are_decoded_within_their_limit(tiny: Path) -> None:
    def coded(body: bytes, coding: str) -> dict[str, Any]:
        return v2(base64.b64encode(body).decode(), isBase64Encoded=True, headers={"Content-Encoding": coding})

    sent = json.dumps(inputs()).encode()
    answers = ask(
        tiny,
        coded(gzip.compress(sent), "gzip"),
        coded(zlib.compress(sent), "deflate"),
        coded(gzip.compress(bytes(1 << 20)), "gzip"),
        coded(sent, "gzip"),
        coded(sent, "br"),
        v2(None, method="GET", path="/v2/models/tiny", headers={"content-encoding": "br"}),
        MLPACK_LIMIT_BODY_BYTES="100000",
    )
    assert [answer["statusCode"] for answer in answers] == [200, 200, 413, 400, 415, 200]
    assert json.loads(answers[0]["body"])["outputs"] == json.loads(answers[1]["body"])["outputs"]
    assert answers[4]["headers"]["accept-encoding"] == "gzip, deflate"


def test_http_binary_answer_is_base64(tiny: Path) -> None:
    sent = json.dumps({**inputs(), "parameters": {"binary_data_output": True}})
    (answer,) = ask(tiny, v2(sent))
    raw = base64.b64decode(answer["body"], validate=True)
    size = int(answer["headers"]["inference-header-content-length"])
    assert answer["isBase64Encoded"] is True
    assert struct.unpack("<q", raw[size + 12 :]) == (2,)


@pytest.mark.parametrize(
    ("event", "status", "message"),
    [
        (v2("%%%", isBase64Encoded=True), 400, "not base64"),
        (v2("{"), 400, "not JSON"),
        (v2(None), 400, "not JSON"),
        (v2(json.dumps(inputs())) | {"body": {"a": 1}}, 400, "body is a dict"),
        (v2(json.dumps(inputs()), headers={"Inference-Header-Content-Length": "99999"}), 400, "99999"),
        (v2(None, "GET", "/nowhere"), 404, "nothing at /nowhere"),
        (v1(None, "GET"), 405, "use POST"),
        (v1("\ud800"), 400, "not JSON"),
    ],
)
def test_http_bad_events_are_answered(tiny: Path, event: dict[str, Any], status: int, message: str) -> None:
    (answer,) = ask(tiny, event)
    body = json.loads(answer["body"])
    assert answer["statusCode"] == status
    assert message in body["error"]
    assert body["trace_id"] == answer["headers"]["x-trace-id"]


@pytest.mark.parametrize("event", [None, [], "text", 3, {}, {"requestContext": None}, {"Records": []}])
def test_direct_events_of_any_kind_are_answered(tiny: Path, event: object) -> None:
    (answer,) = ask(tiny, event)
    assert answer["error_type"] == "InvalidRequest"
    assert answer["trace_id"]


def test_warmup_answers_without_a_prediction(tiny: Path) -> None:
    (answer,) = ask(tiny, {"warmup": True})
    assert len(answer.pop("trace_id")) == 32
    assert answer == {"warm": True, "model": "tiny", "version": "3"}


@pytest.mark.slow
def test_answer_beyond_the_callers_limit_is_413_with_advice(tmp_path: Path) -> None:
    """6 MB, 1 MB through a load balancer. Directly, the stock client writes `0.1, 0.1`: a third more than was counted."""
    root = package(tmp_path / "wide", wide)
    quarter, most, large = (
        {"inputs": [{"name": "size", "shape": [1], "datatype": "INT64", "data": [n]}]} for n in (90_000, 300_000, 330_000)
    )
    balancer = {"requestContext": {"elb": {}}, "httpMethod": "POST", "path": "/"}
    answers = ask(
        root,
        v2(json.dumps(most)),
        v2(json.dumps(large)),
        {**balancer, "body": json.dumps(quarter)},
        {**balancer, "body": json.dumps({"inputs": quarter["inputs"], "outputs": [{"name": "zeros"}]})},
        most,
    )
    assert [answer.get("statusCode") for answer in answers] == [200, 413, 413, 413, None]
    assert "binary" in json.loads(answers[1]["body"])["error"]
    assert answers[4]["error_type"] == "PayloadTooLarge"


def test_direct_failure_of_the_package_is_a_function_error(tmp_path: Path) -> None:
    """Lambda counts, retries and catches what raises; an answer that says "error" is a success to it."""
    root = package(tmp_path / "hooked", affine, preprocess="hook_of_handler:fail")
    (root / "app/hook_of_handler.py").write_text("def fail(body):\n    return 1 / 0\n")
    script = "import sys; sys.path.insert(0, sys.argv[1])\nfrom mlpack_runtime.handler import handler\nhandler({'row': 1}, None)"
    run = subprocess.run([sys.executable, "-I", "-c", script, str(root)], capture_output=True, text=True, check=False)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("mlpack_runtime.handler.InferenceError: ")
    told = json.loads(last.partition(": ")[2])
    (line,) = run.stdout.splitlines()
    assert (told["error_type"], told["error"]) == ("HookError", "ZeroDivisionError: division by zero")
    assert told["trace_id"] == json.loads(line)["trace_id"]
    assert ask(root, v2('{"row": 1}'))[0]["statusCode"] == 500


def test_snap_start_warms_before_the_snapshot(tiny: Path) -> None:
    assert ask(tiny, {"warmup": True}, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")


def test_import_of_a_package_that_cannot_load_fails_loudly(tmp_path: Path) -> None:
    root = package(tmp_path / "broken", affine)
    (root / "model/model.onnx").write_bytes(b"damaged")
    run = subprocess.run([sys.executable, "-I", "-c", DRIVER, str(root)], input="", capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "OrtError" in run.stderr


def test_a_hook_may_import_the_tokenizers_that_it_brought_whole(tmp_path: Path) -> None:
    """The runtime loads the extension alone, by a name of its own where the package around it is there."""
    import tokenizers

    root = package(tmp_path / "hooked", words, tokenizer={"file": "tokenizer.json", "max_length": 6}, postprocess="whole:count")
    installed = pathlib.Path(tokenizers.__file__).parent
    for path in installed.rglob("*.py"):
        target = root / "site/tokenizers" / path.relative_to(installed)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (root / "app/whole.py").write_text(
        "import tokenizers\nfrom tokenizers.models import WordLevel\nfrom tokenizers.implementations import BaseTokenizer\n"
        "def count(outputs):\n    return {'kind': type(tokenizers.Tokenizer(WordLevel({'a': 0}, unk_token='a'))).__name__}\n"
    )
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom mlpack_runtime.handler import handler\n"
        "sys.stderr.write(str(handler({'text': 'the cat'}, None)))"
    )
    run = subprocess.run([sys.executable, "-I", "-S", "-c", script, str(root)], capture_output=True, text=True, check=False)
    assert "'kind': 'Tokenizer'" in run.stderr, run.stderr[-2000:]
