from __future__ import annotations

import json
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.tiny_packages import affine, package

from mlpack_runtime import model, protocol
from mlpack_runtime.routes import VERSION
from mlpack_runtime.service import Reply, Service, fits_direct, open_service
from mlpack_runtime.tensor import Tensor

if TYPE_CHECKING:
    from pathlib import Path

HOOKS = """
from mlpack_runtime.tensor import Tensor
def decode(body):
    if body.get("fault") == "mine":
        return 1 / 0
    if body.get("fault") == "kind":
        return [1]
    if body.get("fault") == "shape":
        return {"pixels": [[1, 2]], "marks": [1]}
    if "row" not in body:
        raise ValueError("send a row")
    return {"pixels": [body["row"]], "marks": Tensor("INT64", (1,), bytes(8))}
def best(outputs):
    scores = outputs["scores"].tolist()[0]
    return {"best": scores.index(max(scores))}
def unjson(outputs):
    return {1, 2}
"""


@pytest.fixture
def service(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(model, "ROOT", str(tiny))
    return open_service()


@pytest.fixture
def text_service(texts: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(model, "ROOT", str(texts))
    return open_service()


def hooked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **hooks: str) -> Service:
    root = package(tmp_path / "hooked", affine, **hooks)
    (root / "app/hooks_of_test.py").write_text(HOOKS)
    monkeypatch.setattr(model, "ROOT", str(root))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "hooks_of_test", raising=False)
    return open_service()


def body(reply: Reply) -> Any:
    return json.loads(reply.body)


def request(batch: int = 1, **more: Any) -> dict[str, Any]:
    inputs = [
        {"name": "pixels", "shape": [batch, 4], "datatype": "FP32", "data": [1.0] * 4 * batch},
        {"name": "marks", "shape": [batch], "datatype": "INT64", "data": [2] * batch},
    ]
    return {"inputs": inputs, **more}


def logged(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_infer_answers_with_tensors_trace_id_and_one_log_line(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        reply = service.http(
            "POST", "/v2/models/tiny/infer", {"x-trace-id": "t-1"}, json.dumps(request(2, id="9")).encode(), "request-1"
        )
    assert (reply.status, reply.headers["x-trace-id"], reply.headers["content-type"]) == (200, "t-1", "application/json")
    answer = body(reply)
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tiny", "3", "9")
    assert [(row["name"], row["shape"]) for row in answer["outputs"]] == [("scores", [2, 3]), ("count", [])]
    assert answer["outputs"][1]["data"] == [4]
    assert answer["parameters"] == {"trace_id": "t-1"}
    first, second = logged(capfd)
    assert (first["cold_start"], second["cold_start"]) == (True, False)
    assert (second["trace_id"], second["request_id"], second["batch"], second["status"]) == ("t-1", "request-1", 2, 200)
    assert set(second["stages_ms"]) == {"decode", "infer", "encode"}
    assert "load_session" in first["stages_ms"]


def test_infer_binary_in_and_out(service: Service) -> None:
    pixels, marks = struct.pack("<4f", 1, 1, 1, 1), struct.pack("<q", 2)
    value = request(parameters={"binary_data_output": True})
    for row, raw in zip(value["inputs"], (pixels, marks), strict=True):
        del row["data"]
        row["parameters"] = {"binary_data_size": len(raw)}
    header = json.dumps(value).encode()
    reply = service.http(
        "POST", "/v2/models/tiny/infer", {"inference-header-content-length": str(len(header))}, header + pixels + marks
    )
    plain = body(service.value(request()))
    size = int(reply.headers[protocol.HEADER_LENGTH])
    assert reply.binary
    assert reply.headers["content-type"] == "application/octet-stream"
    assert list(struct.unpack("<3f", reply.body[size : size + 12])) == pytest.approx(plain["outputs"][0]["data"], abs=0, rel=1e-8)
    assert struct.unpack("<q", reply.body[size + 12 :]) == (2,)


@pytest.mark.parametrize(
    ("method", "path", "status", "part"),
    [
        ("GET", "/v2", 200, {"extensions": ["binary_tensor_data", "classification"]}),
        ("GET", "/v2", 200, {"name": "mlpack", "version": VERSION}),
        ("GET", "/" + "x" * 100_000, 404, "... (100001 characters)"),
        ("GET", "/v2/models/" + "x" * 100_000, 404, "... (100000 characters) here"),
        ("X" * 100_000, "/v2/models/tiny", 405, "... (100000 characters) is not allowed"),
        ("GET", "/", 200, {"name": "mlpack"}),
        ("GET", "/v2/health/live", 200, {"live": True}),
        ("HEAD", "/v2/health/ready", 200, {"ready": True}),
        ("GET", "/prod/v2/health/ready?x=1", 200, {"ready": True}),
        ("GET", "/v2/v2/health/ready", 200, {"ready": True}),
        ("GET", "/api/v2/ml/v2/models/tiny", 200, {"name": "tiny"}),
        ("GET", "/v2/v2", 200, {"name": "mlpack"}),
        ("GET", "/v2/models/v2/ready", 404, "no model 'v2' here"),
        ("GET", "/v2/what", 404, "nothing at /v2/what"),
        ("POST", "/v2/what", 404, "nothing at /v2/what"),
        ("GET", "/v2/v2/what", 404, "nothing at"),
        ("GET", "/v2" * 60 + "/health/ready", 200, {"ready": True}),
        ("GET", "/v2" * 50_000, 404, "nothing at"),
        ("GET", "/v2/models/tiny", 200, {"versions": ["3"]}),
        ("GET", "/v2/models/tiny/ready", 200, {"ready": True}),
        ("GET", "/v2/models/tiny/versions/3", 200, {"name": "tiny"}),
        ("GET", "/v2/models/tiny/versions/3/ready/", 200, {"ready": True}),
        ("GET", "/v2/models/other", 404, "no model 'other' here"),
        ("GET", "/v2/models/tiny/versions/2", 404, "no version '2'"),
        ("GET", "/v2/models/tiny/what", 404, "nothing at /v2/models/tiny/what"),
        ("GET", "/v2/models", 404, "nothing at"),
        ("GET", "/favicon.ico", 404, "nothing at /favicon.ico"),
        ("GET", "/v2/models/tiny/infer", 405, "use POST"),
        ("POST", "/v2/health/ready", 405, "use GET or HEAD"),
        ("DELETE", "/v2/models/tiny", 405, "DELETE is not allowed"),
    ],
)
def test_routes(service: Service, method: str, path: str, status: int, part: dict[str, Any] | str) -> None:
    reply = service.http(method, path, {}, b"")
    assert reply.status == status
    if isinstance(part, str):
        assert part in body(reply)["error"]
        assert body(reply)["trace_id"] == reply.headers["x-trace-id"]
        assert ("allow" in reply.headers) == (status == 405)
    else:
        assert part.items() <= body(reply).items()


@pytest.mark.parametrize(
    "path", ["/", "/v2/models/tiny/infer", "/v2/models/tiny/versions/3/infer", "/search", "/v2/v2/models/tiny/infer"]
)
def test_infer_posts_anywhere_outside_v2_are_requests(service: Service, path: str) -> None:
    assert service.http("POST", path, {}, json.dumps(request()).encode()).status == 200


def test_health_checks_are_not_logged_and_keep_the_cold_start(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    service.http("GET", "/v2/health/ready", {}, b"")
    assert logged(capfd) == []
    service.value(request())
    assert logged(capfd)[0]["cold_start"] is True


@pytest.mark.parametrize(
    ("value", "status", "kind", "message"),
    [
        ([], 400, "InvalidRequest", "the body is a JSON list; an object is needed"),
        (None, 400, "InvalidRequest", "JSON null"),
        ("text", 400, "InvalidRequest", "JSON string"),
        ({}, 400, "InvalidRequest", "no keys: send an Open Inference Protocol v2 request"),
        ({"text": "hi"}, 400, "InvalidRequest", "'text': send"),
        ({"inputs": {"pixels": [[1, 2, 3, 4]]}}, 400, "InvalidRequest", "'marks' is missing"),
        ({"inputs": [{"name": "pixels"}]}, 400, "InvalidRequest", "shape is None"),
        ({"inputs": []}, 400, "InvalidRequest", "'pixels' is missing"),
        ({"inputs": ["pixels"]}, 400, "InvalidRequest", "send"),
    ],
)
def test_value_refused_says_what_was_expected(
    service: Service, capfd: pytest.CaptureFixture[str], value: object, status: int, kind: str, message: str
) -> None:
    reply = service.value(value)
    error = body(reply)
    assert (reply.status, error["error_type"]) == (status, kind)
    assert message in error["error"]
    (line,) = logged(capfd)
    assert (line["status"], line["level"], line["error_message"]) == (status, "WARNING", error["error"])


def test_value_plain_inputs_by_name(service: Service) -> None:
    reply = service.value({"inputs": {"pixels": [[1, 1, 1, 1]], "marks": [2]}})
    assert body(reply)["outputs"] == body(service.value(request()))["outputs"]


def test_value_asking_for_binary_outputs_is_refused_in_json(service: Service) -> None:
    one = [{"name": "count", "parameters": {"binary_data": True}}]
    for asked in ({"parameters": {"binary_data_output": True}}, {"outputs": one}):
        reply = service.value(request(**asked))
        assert (reply.status, reply.binary) == (400, False)
        assert "binary outputs need HTTP" in body(reply)["error"]


def test_answer_that_a_check_refuses_is_one_error_with_one_line(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    def check(_: Reply) -> None:
        raise protocol.RequestError("too large", 413, "PayloadTooLarge")

    reply = service.http("POST", "/", {"x-trace-id": "t-1"}, json.dumps(request(3)).encode(), "r", check)
    assert (reply.status, body(reply)["trace_id"]) == (413, "t-1")
    (line,) = logged(capfd)
    assert (line["status"], line["batch"], line["trace_id"], line["error_type"]) == (413, 3, "t-1", "PayloadTooLarge")


def test_texts_short_forms_and_protocol_agree(text_service: Service) -> None:
    protocol_form = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["the cat"]}]}
    answers = [body(text_service.value(value)) for value in ({"text": "the cat"}, {"texts": ["the cat"]}, protocol_form)]
    assert answers[0]["outputs"][0]["shape"] == [1, 5]
    assert answers[0]["outputs"] == answers[1]["outputs"] == answers[2]["outputs"]
    assert len({answer["parameters"]["trace_id"] for answer in answers}) == 3
    assert text_service.value({"text": 3}).status == 400
    assert text_service.value({"texts": []}).status == 400
    assert text_service.value({"text": "a", "texts": ["a"]}).status == 400


def test_pairs_of_texts_are_tokenised_together(text_service: Service) -> None:
    first, second = {"shape": [1], "datatype": "BYTES", "data": ["the cat"]}, {"shape": [1], "datatype": "BYTES", "data": ["sat"]}
    protocol_form = {"inputs": [{"name": "text", **first}, {"name": "text_pair", **second}]}
    forms = ({"text": "the cat", "text_pair": "sat"}, {"texts": [["the cat", "sat"]]}, protocol_form)
    answers = [body(text_service.value(value))["outputs"] for value in forms]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0] != body(text_service.value({"text": "the cat"}))["outputs"]
    together = body(text_service.value({"texts": [["the cat", "sat"], ["a", "dog"]]}))["outputs"]
    assert [output["shape"][0] for output in together] == [2] * len(together)
    for wrong in ({"text": "a", "text_pair": 7}, {"texts": [["a", "b"], "c"]}, {"text_pair": "a"}):
        assert text_service.value(wrong).status == 400


def test_engine_refusing_values_is_unprocessable(text_service: Service) -> None:
    rows = [
        {"name": name, "shape": [1, 1], "datatype": "INT64", "data": [value]}
        for name, value in (("input_ids", 99), ("attention_mask", 1))
    ]
    reply = text_service.value({"inputs": rows})
    assert (reply.status, body(reply)["error_type"]) == (422, "Unprocessable")


def test_hooks_decode_and_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    service = hooked(tmp_path, monkeypatch, preprocess="hooks_of_test:decode", postprocess="hooks_of_test:best")
    direct = body(service.value({"row": [1, 2, 3, 4]}))
    (line,) = logged(capfd)
    assert direct["best"] in (0, 1, 2)
    assert set(line["stages_ms"]) >= {"preprocess", "decode", "infer", "postprocess"}
    assert direct["trace_id"] == line["trace_id"]  # without HTTP there is no header for it
    assert body(service.http("POST", "/", {}, b'{"row": [1, 2, 3, 4]}')) == {"best": direct["best"]}
    assert "outputs" in body(service.value(request()))  # the protocol's form goes past the hooks


@pytest.mark.parametrize(
    ("sent", "status", "kind", "message", "traced"),
    [
        ({}, 400, "InvalidRequest", "send a row", True),
        ({"fault": "mine"}, 500, "HookError", "ZeroDivisionError: division by zero", True),
        ({"fault": "kind"}, 500, "HookError", "returned a list", False),
        ({"fault": "shape"}, 400, "InvalidRequest", "has shape [1, 2]", False),
    ],
)
def test_hook_failures_have_their_status_and_are_logged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    sent: Any,
    status: int,
    kind: str,
    message: str,
    traced: bool,
) -> None:
    reply = hooked(tmp_path, monkeypatch, preprocess="hooks_of_test:decode").value(sent)
    error = body(reply)
    assert (reply.status, error["error_type"]) == (status, kind)
    assert message in error["error"]
    (line,) = logged(capfd)
    assert ("hooks_of_test.py" in line.get("traceback", "")) is traced


def test_hook_answer_that_is_not_json_is_the_packages_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = hooked(tmp_path, monkeypatch, preprocess="hooks_of_test:decode", postprocess="hooks_of_test:unjson")
    reply = service.value({"row": [1, 2, 3, 4]})
    assert (reply.status, body(reply)["error_type"]) == (500, "HookError")


@pytest.mark.parametrize(
    ("hook", "message"),
    [("nowhere:f", "cannot be imported"), ("hooks_of_test:g", "cannot be imported"), ("hooks_of_test:HOOK", "")],
)
def test_hook_that_cannot_be_imported_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: str, message: str
) -> None:
    with pytest.raises(model.ModelError, match=f"hook '{hook}' {message}"):
        hooked(tmp_path, monkeypatch, preprocess=hook)


def test_bug_is_answered_and_logged_with_its_traceback(
    service: Service, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(protocol, "encode", lambda *_, **__: 1 // 0)
    reply = service.value(request())
    assert (reply.status, body(reply)["error_type"]) == (500, "ZeroDivisionError")
    (line,) = logged(capfd)
    assert (line["level"], line["errors"]) == ("ERROR", 1)
    assert "Traceback" in line["traceback"]


def test_the_servers_version_is_mlpacks() -> None:
    from mlpack import __version__

    assert __version__ == VERSION


def test_what_a_stranger_repeats_stays_short_in_answer_and_log(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    long = "A" * 1_000_000
    for reply in (
        service.http("POST", "/", {"x-trace-id": long}, json.dumps({**request(), "id": long}).encode(), long),
        service.http("POST", "/", {}, json.dumps({long: 1}).encode(), long),
        service.http("POST", "/", {}, json.dumps({f"k{at}": at for at in range(100_000)}).encode(), long),
    ):
        assert reply.status == 400
        assert len(reply.body) < 1000
    assert all(len(json.dumps(line)) < 3000 for line in logged(capfd))


def test_a_hooks_long_words_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p").mkdir()
    root = package(tmp_path / "p/q", affine, preprocess="wordy:decode")
    (root / "app/wordy.py").write_text("def decode(body):\n    raise ValueError('no ' + 'x' * 10**6)\n")
    monkeypatch.setattr(model, "ROOT", str(root))
    monkeypatch.setattr(sys, "path", list(sys.path))
    reply = open_service().value({"a": 1})
    assert reply.status == 400
    assert len(reply.body) < 3000
    assert all(len(json.dumps(line)) < 15_000 for line in logged(capfd))


def test_an_answer_that_cannot_be_passed_on_is_not_computed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three numbers a row are six bytes at least."""
    rows = 1_050_000
    monkeypatch.setattr(service.model, "session", None)  # asking it would be a bug
    call = protocol.Call()
    call.inputs = {"pixels": Tensor("FP32", (rows, 4), bytes(rows * 16)), "marks": Tensor("INT64", (rows,), bytes(rows * 8))}
    call.wanted = [("scores", False), ("count", False)]
    monkeypatch.setattr(protocol, "decode", lambda *_args, **_more: call)
    refused = service.value(request(), check=fits_direct)
    assert refused.status == 413
    assert b"6300000 bytes or more; 6291456 are passed on" in refused.body
    assert service.value(request()).status == 500  # nobody said what is passed on: it is computed


def test_a_request_without_rows_has_a_log_line(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    reply = service.value({"inputs": {"pixels": Tensor("FP32", (0, 4), b""), "marks": []}})
    assert reply.status == 200
    (line,) = logged(capfd)
    assert (line["batch"], line["status"]) == (0, 200)


def test_bytes_after_a_plain_request_belong_to_nothing(service: Service) -> None:
    value = b'{"inputs":{"pixels":[[1,1,1,1]],"marks":[1]}}'
    length = {"inference-header-content-length": str(len(value))}
    assert service.http("POST", "/", length, value).status == 200
    reply = service.http("POST", "/", length, value + b"abc")
    assert reply.status == 400
    assert b"3 bytes after the JSON" in reply.body
