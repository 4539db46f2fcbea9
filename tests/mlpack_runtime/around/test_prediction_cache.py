"""Outputs kept in memory and in a table: equal inputs, equal answers, and no fault of the table's in any answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.runtime.around_services import Packaged
from tests.support.services.aws_server import REGION, AwsServer, Fault

from mlpack_runtime import model
from mlpack_runtime.around import prediction_cache
from mlpack_runtime.model import Described
from mlpack_runtime.protocol import Call
from mlpack_runtime.service import open_service
from mlpack_runtime.telemetry import Record
from mlpack_runtime.tensor import DATATYPES, Tensor, TensorError, packed, tensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEMORY = {"memory_bytes": 1 << 20, "ttl_s": 3600}
TABLE = MEMORY | {"table": "predictions", "deadline_ms": 60_000}
PLAIN = {"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [4]}}
PROTOCOL = {
    "inputs": [
        {"name": "marks", "shape": [1], "datatype": "INT64", "data": [4]},
        {"name": "pixels", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]},
    ]
}


def _outputs(body: bytes) -> Any:
    return json.loads(body)["outputs"]


def test_a_second_answer_is_the_first_without_the_engine(packaged: Callable[..., Packaged]) -> None:
    one = packaged(cache=MEMORY)
    first, line = one.ask(PLAIN)
    assert (first.headers["x-prediction-cache"], line["cache_hits"]) == ("miss", 0)
    second, line = one.ask(PROTOCOL)  # the same tensors in another form
    assert (second.headers["x-prediction-cache"], line["cache_hits"]) == ("hit", 1)
    assert _outputs(second.body) == _outputs(first.body)
    assert "infer" not in line["stages_ms"]
    assert "cache" in line["stages_ms"]
    assert one.ask({"inputs": {"pixels": [[1, 2, 3, 4.5]], "marks": [4]}})[1]["cache_hits"] == 0


def test_what_is_refused_is_not_kept(packaged: Callable[..., Packaged]) -> None:
    one = packaged(cache=MEMORY)
    for _ in range(2):
        reply, line = one.ask({"inputs": {"pixels": [[1, 2, 3]], "marks": [4]}})
        assert reply.status == 400
        assert "x-prediction-cache" not in reply.headers
        assert "cache_hits" not in line
    assert one.service.around is not None
    assert one.service.around.cache is not None
    assert one.service.around.cache._kept == {}


def test_memory_stays_within_its_size(packaged: Callable[..., Packaged]) -> None:
    one = packaged(cache={"memory_bytes": 2000, "ttl_s": 3600})
    for number in range(20):
        one.ask({"inputs": {"pixels": [[number, 0, 0, 0]], "marks": [1]}})
    assert one.service.around is not None
    cache = one.service.around.cache
    assert cache is not None
    assert cache._bytes <= 2000
    assert 1 < len(cache._kept) < 6
    assert cache._bytes == sum(size for _, size, _ in cache._kept.values())
    assert one.ask({"inputs": {"pixels": [[19, 0, 0, 0]], "marks": [1]}})[1]["cache_hits"] == 1
    assert one.ask({"inputs": {"pixels": [[0, 0, 0, 0]], "marks": [1]}})[1]["cache_hits"] == 0


def test_nothing_is_older_than_its_time(packaged: Callable[..., Packaged], monkeypatch: pytest.MonkeyPatch, table: Any) -> None:
    now = [1_000_000.0]
    monkeypatch.setattr(prediction_cache, "time", lambda: now[0])
    for settings in (MEMORY, TABLE):
        one = packaged(cache=settings)
        one.ask(PLAIN)
        now[0] += 3599
        assert one.ask(PLAIN)[1]["cache_hits"] == 1
        now[0] += 2
        assert one.ask(PLAIN)[1]["cache_hits"] == 0


def test_instances_share_a_table(packaged: Callable[..., Packaged], table: Any, aws: AwsServer) -> None:
    first = packaged(cache=TABLE)
    answer, _ = first.ask(PLAIN)
    (item,) = table.scan(TableName="predictions")["Items"]
    name, version, digest = item["id"]["S"].split("/")
    assert (name, version) == (first.service.model.name, first.service.model.version)
    assert len(digest) == 64
    assert int(item["expires"]["N"]) > 1_700_000_000
    second = packaged(cache=TABLE)
    aws.clear_log()
    reply, line = second.ask(PLAIN)
    assert line["cache_hits"] == 1
    assert _outputs(reply.body) == _outputs(answer.body)
    assert [request.operation for request in aws.log("dynamodb")] == ["GetItem"]
    second.ask(PLAIN)  # out of memory now
    assert len(aws.log("dynamodb")) == 1


@pytest.mark.parametrize("action", ["hang", "error", "nonsense"])
def test_a_tables_fault_fails_no_request(packaged: Callable[..., Packaged], table: Any, aws: AwsServer, action: str) -> None:
    one = packaged(cache=TABLE | {"deadline_ms": 100})
    aws.plan(Fault(action, service="dynamodb", onward=True, status=400, code="ResourceNotFoundException"))
    reply, line = one.ask(PLAIN)
    assert (reply.status, line["cache_hits"], bool(line["cache_error"])) == (200, 0, True)
    assert one.ask(PLAIN)[1]["cache_hits"] == 1  # memory has it
    one.ask({"inputs": {"pixels": [[9, 2, 3, 4]], "marks": [4]}})
    aws.clear_log()
    reply, line = one.ask({"inputs": {"pixels": [[8, 2, 3, 4]], "marks": [4]}})  # the table rests after three failures
    assert (reply.status, line["cache_hits"]) == (200, 0)
    assert aws.log("dynamodb") == []


@pytest.mark.parametrize(
    "odd",
    [
        b"[]",
        b"[]\n",
        b'[["scores","INT64",[1,3],24]]\n' + bytes(24),
        b"[1]\n",
        b'[["scores","FP32",[1],4]]\n12',
        b'[["scores","FP33",[1],4]]\n1234',
        b"\xff\n",
    ],
)
def test_what_is_no_prediction_is_passed_over(packaged: Callable[..., Packaged], table: Any, odd: bytes) -> None:
    first = packaged(cache=TABLE)
    first.ask(PLAIN)
    (item,) = table.scan(TableName="predictions")["Items"]
    table.put_item(TableName="predictions", Item=item | {"outputs": {"B": odd}})
    reply, line = packaged(cache=TABLE).ask(PLAIN)
    assert (reply.status, line["cache_hits"]) == (200, 0)


def test_texts_are_found_again(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "ROOT", str(texts))
    read = model.read_settings
    monkeypatch.setattr(model, "read_settings", lambda place: {**read(place), "around": {"cache": MEMORY}})
    service = open_service()
    asked = ({"text": "the cat"}, {"texts": ["the cat"]}, {"text": "the dog"}, {"texts": ["the cat", "the dog"]})
    assert [service.value(body).headers["x-prediction-cache"] for body in asked] == ["miss", "hit", "miss", "miss"]


def test_a_request_that_asks_twice_is_a_hit_when_both_are_kept(packaged: Callable[..., Packaged]) -> None:
    one = packaged(cache=MEMORY)
    cache = one.service.around.cache if one.service.around is not None else None
    assert cache is not None

    def ask(*numbers: int) -> tuple[float, float]:
        record = Record("t", "r", cold_start=False)
        for number in numbers:
            call = Call()
            call.inputs = {"x": tensor([number], "INT64", (1,))}
            cache.outputs(call, record, lambda call, _: call.inputs)
        return record.metrics["cache_hits"], record.stages_ms["cache"]

    assert [ask(*numbers)[0] for numbers in ((1, 2), (3, 1), (1, 3), (4,), (2,))] == [0, 0, 1, 0, 1]
    assert ask(*[1] * 50)[1] > ask(1)[1]


def test_a_table_knows_which_tokenizer_read_the_texts(
    texts: Path, monkeypatch: pytest.MonkeyPatch, table: Any, aws: AwsServer
) -> None:
    """The same model under the same version, built with another `max_length`, answers texts in another way."""
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setattr(model, "ROOT", str(texts))
    read, hits = model.read_settings, []
    for length in (6, 3, 6):
        own = {**read(str(texts / "model")), "around": {"cache": TABLE}}
        own["tokenizer"] = {**own["tokenizer"], "max_length": length}
        monkeypatch.setattr(model, "read_settings", lambda place, own=own: own)
        service = open_service()
        hits.append(service.value({"text": "the cat the dog the cat"}).headers["x-prediction-cache"])
        assert service.around is not None
        service.around.close()
    assert hits == ["miss", "miss", "hit"]


def test_a_tokenizers_digest_is_of_its_files_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: AwsServer) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    digests = []
    for at, (tokenizer, vocabulary, settings) in enumerate(
        (
            (b"{}", b"a", {}),
            (b"{}", b"a", {"max_length": 3}),
            (b"{ }", b"a", {}),
            (b"{}", b"b", {}),
            (b"{}", b"a", {"pad_token": "<pad>"}),
            (b"{}", b"a", {}),
        )
    ):
        place = tmp_path / str(at)
        place.mkdir()
        (place / "tokenizer.json").write_bytes(tokenizer)
        (place / "vocab.txt").write_bytes(vocabulary)
        own = {"file": "tokenizer.json", "wordpiece": {"file": "vocab.txt"}, **settings}
        head = {"name": "tiny", "version": "3", "variant": "fp32", "target": "lambda-zip", "tokenizer": own}
        cache = prediction_cache.PredictionCache(Described(str(place), head, (), ()), TABLE, stubbed=False)
        digests.append(cache._tokenizer_digest())
        cache.close()
    assert len(set(digests)) == 5
    assert digests[0] == digests[5]


TENSORS = st.sampled_from(sorted(DATATYPES)).flatmap(
    lambda datatype: st.integers(0, 3).map(
        lambda count: Tensor(
            datatype, (count,), packed([b"x\n"] * count) if datatype == "BYTES" else bytes(count * DATATYPES[datatype][1])
        )
    )
)


@given(st.dictionaries(st.text(max_size=8), TENSORS, max_size=4))
def test_outputs_come_back_as_they_were(outputs: dict[str, Tensor]) -> None:
    again = prediction_cache.unpacked(prediction_cache.packed(outputs))
    assert {name: (made.datatype, made.shape, bytes(made.data)) for name, made in again.items()} == {
        name: (made.datatype, made.shape, bytes(made.data)) for name, made in outputs.items()
    }


@given(st.binary(max_size=60))
def test_bytes_that_are_none_are_an_error(data: bytes) -> None:
    try:
        assert isinstance(prediction_cache.unpacked(data), dict)
    except (ValueError, TypeError, TensorError):
        pass


def _call(**inputs: Tensor) -> Call:
    call = Call()
    call.inputs = inputs
    return call


def test_a_digest_is_of_names_types_shapes_and_values() -> None:
    a, b = tensor([1.0, 2.0], "FP32", (2,)), tensor([3.0], "FP32", (1,))
    same = prediction_cache.digest_of(_call(a=a, b=b))
    assert prediction_cache.digest_of(_call(b=b, a=a)) == same
    others = [_call(a=b, b=a), _call(a=a), _call(a=a, c=b), _call(a=Tensor("FP32", (1, 2), a.data), b=b)]
    others += [_call(a=Tensor("INT32", (2,), a.data), b=b)]
    assert len({prediction_cache.digest_of(call) for call in others} | {same}) == 6
    texts = [["a", "b"], ["ab"], [("a", "b")], ["b", "a"]]
    digests = set()
    for each in texts:
        call = Call()
        call.texts = each  # type: ignore[assignment]
        digests.add(prediction_cache.digest_of(call))
    assert len(digests) == 4
    tokens = Call()
    tokens.texts = [object()]  # type: ignore[list-item]
    assert prediction_cache.digest_of(tokens) is None
