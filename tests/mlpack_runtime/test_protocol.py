from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpack_runtime import protocol
from mlpack_runtime.limits import Limits, variable
from mlpack_runtime.ort import Port
from mlpack_runtime.protocol import Call, RequestError
from mlpack_runtime.tensor import DATATYPES, Tensor, count, tensor

PIXELS = Port("pixels", "FP32", ("batch", 2))
MARKS = Port("marks", "INT64", ("batch",))
SCORES = Port("scores", "FP32", ("batch", 3))


def decode(value: dict[str, Any], binary: bytes = b"", ports: tuple[Port, ...] = (PIXELS,), *, has_texts: bool = False) -> Call:
    return protocol.decode(value, memoryview(binary), ports, (SCORES,), has_texts=has_texts)


def row(**changes: Any) -> dict[str, Any]:
    return {"name": "pixels", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, -4], **changes}


def test_decode_flat_and_nested_data_are_the_same_tensor() -> None:
    flat, nested = decode({"inputs": [row()]}), decode({"id": "7", "inputs": [row(data=[[1, 2.5], [3, -4]])]})
    assert flat.inputs["pixels"].tolist() == nested.inputs["pixels"].tolist() == [[1, 2.5], [3, -4]]
    assert (flat.batch, flat.id, nested.id, flat.wanted) == (2, None, "7", [("scores", False)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "pixel"}, r"unknown input 'pixel'; this model takes pixels \(FP32 \['batch', 2\]\)"),
        ({"name": 3}, "name is 3"),
        ({"shape": [2, 3]}, "'pixels': shape .2, 3. holds 6 values, data has 4"),
        ({"shape": [4]}, "'pixels' has shape .4.; the model takes .'batch', 2."),
        ({"shape": [1, 4]}, "has shape"),
        ({"shape": [2, 2, 1]}, "has shape"),
        ({"shape": [-2, -2]}, "not a list of sizes"),
        ({"shape": [10**30, 2]}, "data has 4"),
        ({"shape": None}, "not a list of sizes"),
        ({"shape": [2, 2.0]}, "not a list of sizes"),
        ({"shape": [True, 4]}, "not a list of sizes"),
        ({"datatype": "FP64"}, "has datatype FP64; the model takes FP32"),
        ({"datatype": "float32"}, "'float32' is not one of"),
        ({"datatype": None}, "not one of"),
        ({"datatype": ["FP32"]}, "not one of"),
        ({"data": [1, 2, 3]}, "data has 3"),
        ({"data": [[1, 2], [3]]}, "differ in length"),
        ({"data": [[1, 2], 3]}, "differ in length or kind"),
        ({"data": [[[1], [2]], [[3], [4]]]}, "nested data is .2, 2, 1."),
        ({"data": [1, 2, 3, "4"]}, "holds a str, which is no FP32"),
        ({"data": [1, 2, 3, True]}, "holds a bool"),
        ({"data": [1, 2, 3, 1e39]}, "beyond the range of FP32"),
        ({"data": [1, 2, 3, 10**400]}, "beyond the range"),
        ({"data": [1, 2, 3, float("inf")]}, "must be finite"),
        ({"data": "1234"}, "data has 1"),
        ({"data": {}}, "data has 1"),
        ({"parameters": []}, "parameters is"),
        ({"parameters": {"binary_data_size": 16}}, "0 bytes are left"),
        ({"parameters": {"binary_data_size": -1}}, "binary_data_size is -1"),
        ({"parameters": {"binary_data_size": "16"}}, "binary_data_size is '16'"),
    ],
)
def test_decode_malformed_input_is_refused_with_its_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        decode({"inputs": [row(**changes)]})
    assert caught.value.status == 400


def test_decode_missing_data_and_inputs_are_refused() -> None:
    bare = row()
    del bare["data"]
    with pytest.raises(RequestError, match="neither data nor binary_data_size"):
        decode({"inputs": [bare]})
    with pytest.raises(RequestError, match="'pixels' is missing"):
        decode({"inputs": []})
    with pytest.raises(RequestError, match="there twice"):
        decode({"inputs": [row(), row()]})
    with pytest.raises(RequestError, match="neither data"):
        decode({"inputs": [{**bare, "raw": "smuggled"}]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 5}, "id is 5"),
        ({"outputs": "scores"}, "outputs is not a list"),
        ({"outputs": [{"name": "score"}]}, "unknown output 'score'; this model gives scores"),
        ({"outputs": ["scores"]}, "outputs is not a list of objects"),
        ({"parameters": 1}, "parameters is 1"),
    ],
)
def test_decode_malformed_request_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode({"inputs": [row()], **changes})


def test_decode_axes_of_one_name_must_agree() -> None:
    value = {"inputs": [row(), {"name": "marks", "shape": [3], "datatype": "INT64", "data": [1, 2, 3]}]}
    with pytest.raises(RequestError, match="'marks' has 3 for axis 'batch', input 'pixels' has 2"):
        decode(value, ports=(PIXELS, MARKS))


@pytest.mark.parametrize("datatype", DATATYPES)
def test_binary_request_and_answer_carry_every_datatype(datatype: str) -> None:
    values: list[Any] = {"BOOL": [True, False], "BYTES": ["", "Łódź"]}.get(datatype, [1, 100])
    made = tensor(values, datatype, (2,))
    raw, port = bytes(made.data), Port("x", datatype, ("n",))
    header = json.dumps(
        {
            "inputs": [{"name": "x", "shape": [2], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    value, binary = protocol.split({protocol.HEADER_LENGTH: str(len(header))}, header + raw)
    call = protocol.decode(value, binary, (port,), (port,), has_texts=False)
    assert call.inputs["x"].data == raw
    body, size = protocol.encode({"x": made}, call, name="m", version="1", trace_id="t")
    assert size is not None
    assert body[size:] == raw
    assert json.loads(body[:size])["outputs"] == [
        {"name": "x", "datatype": datatype, "shape": [2], "parameters": {"binary_data_size": len(raw)}}
    ]


def test_binary_bytes_that_belong_to_nothing_are_refused() -> None:
    with pytest.raises(RequestError, match="3 bytes after the last binary tensor"):
        decode({"inputs": [row()]}, b"abc")
    with pytest.raises(RequestError, match="16 bytes, not 8"):
        decode({"inputs": [row(parameters={"binary_data_size": 8})]}, bytes(8))


@pytest.mark.parametrize("stated", ["-1", "x", "3000", "1e3", "", "²"])
def test_split_header_length_that_is_none_is_refused(stated: str) -> None:
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        protocol.split({protocol.HEADER_LENGTH: stated}, b"{}")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"{} {}", b"[NaN]"])
def test_split_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError, match="the body is not JSON"):
        protocol.split({}, body)


def text_row(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "ü"], **changes}]}


def test_texts_come_as_json_nested_or_binary() -> None:
    raw = b"".join(struct.pack("<I", len(part)) + part for part in (b"a", "ü".encode()))
    binary = text_row(parameters={"binary_data_size": len(raw)})
    del binary["inputs"][0]["data"]
    for call in (
        decode(text_row(), has_texts=True),
        decode(text_row(shape=[2, 1], data=[["a"], ["ü"]]), has_texts=True),
        decode(binary, raw, has_texts=True),
    ):
        assert call.texts == ["a", "ü"]
        assert call.batch == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datatype": "FP32"}, "texts are BYTES"),
        ({"data": ["a"]}, "holds 2 texts, data has 1"),
        ({"data": ["a", 1]}, "not a list of strings"),
        ({"data": "ab"}, "not a list of strings"),
        ({"data": [], "shape": [0]}, "at least one text"),
        ({"data": ["a", "\ud800"]}, "surrogate"),
        ({"shape": "2"}, "not a list of sizes"),
    ],
)
def test_texts_malformed_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode(text_row(**changes), has_texts=True)


@pytest.mark.parametrize("raw", [b"\x05\0\0\0abc", b"\x01\0", b"\x01\0\0\0\xff", b"\xff\xff\xff\xff"])
def test_texts_malformed_binary_is_refused(raw: bytes) -> None:
    value = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}]}
    with pytest.raises(RequestError, match="'text'"):
        decode(value, raw, has_texts=True)


def pair_rows(**changes: Any) -> dict[str, Any]:
    second = {"name": "text_pair", "shape": [2], "datatype": "BYTES", "data": ["c", "ö"], **changes}
    return {"inputs": [*text_row()["inputs"], second]}


def test_pairs_of_texts_come_as_two_inputs_json_or_binary() -> None:
    raw = b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in ("c", "ö"))
    binary = pair_rows(parameters={"binary_data_size": len(raw)})
    del binary["inputs"][1]["data"]
    for call in (decode(pair_rows(), has_texts=True), decode(binary, raw, has_texts=True)):
        assert call.texts == [("a", "c"), ("ü", "ö")]
        assert call.batch == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [1], "data": ["c"]}, "2 texts in 'text' and 1 in 'text_pair'"),
        ({"datatype": "FP32"}, "'text_pair' has datatype"),
        ({"data": ["c", 7]}, "input 'text_pair': data is not a list of strings"),
        ({"name": "other"}, "stands alone, or with 'text_pair'"),
        ({"data": [["c", "d"], ["e", "f"]]}, "not a list of strings"), ({"data": ["c", "\ud800"]}, "surrogate"),
    ],
)  # fmt: skip
def test_pairs_malformed_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode(pair_rows(**changes), has_texts=True)
    with pytest.raises(RequestError):
        decode({"inputs": pair_rows()["inputs"][1:]}, has_texts=True)


def test_texts_without_tokenizer_or_beside_tensors_are_refused() -> None:
    with pytest.raises(RequestError, match="unknown input 'text'"):
        decode(text_row())
    with pytest.raises(RequestError, match="stands alone"):
        decode({"inputs": [*text_row()["inputs"], row()]}, has_texts=True)


NAMES = Port("city", "BYTES", ("batch", 1))


def city(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "city", "shape": [2, 1], "datatype": "BYTES", "data": ["Riga", "Łódź"], **changes}]}


def test_strings_of_a_graph_come_as_json_and_as_binary() -> None:
    assert decode(city(), ports=(NAMES,)).inputs["city"].tolist() == [["Riga"], ["Łódź"]]
    assert decode(city(data=[["Riga"], [""]]), ports=(NAMES,)).inputs["city"].flat() == ["Riga", ""]
    raw = bytes(tensor(["a", "Łódź"], "BYTES", (2, 1)).data)
    value = city(parameters={"binary_data_size": len(raw)})
    del value["inputs"][0]["data"]
    assert decode(value, raw, ports=(NAMES,)).inputs["city"].flat() == ["a", "Łódź"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "data holds 1, which is no string"),
        (["a", None], "data holds None, which is no string"),
        (["a", "b\0c"], "holds a NUL"),
        (["a", "\ud800"], "half of a surrogate pair"),
        (["a"], "holds 2 values, data has 1"),
        (["a", "b" * (protocol.DEFAULTS.text_chars + 1)], "characters of a string of input 'city': .* at most"),
    ],
)
def test_what_is_no_string_of_a_graph_is_refused(data: list[Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode(city(data=data), ports=(NAMES,))


@pytest.mark.parametrize("raw", [b"\1\0\0\0", b"\1\0\0\0a", b"\1\0\0\0\xff\0\0\0\0", b"\1\0\0\0\0\0\0\0\0"])
def test_bytes_that_are_no_strings_are_refused(raw: bytes) -> None:
    value = city(parameters={"binary_data_size": len(raw)})
    del value["inputs"][0]["data"]
    with pytest.raises(RequestError, match="input 'city'"):
        decode(value, raw, ports=(NAMES,))


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_null_is_a_missing_value_where_floats_are_taken(datatype: str) -> None:
    port = Port("x", datatype, ("n", 2))
    value = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": datatype, "data": [None, 2.5]}]}
    first, second = decode(value, ports=(port,)).inputs["x"].flat()
    assert first != first
    assert second == 2.5
    first, second = protocol.tensors({"x": [[None, None]]}, (port,))["x"].flat()
    assert first != first
    assert second != second


@pytest.mark.parametrize("datatype", ["INT64", "BOOL", "UINT8"])
def test_null_is_refused_where_nothing_can_be_missing(datatype: str) -> None:
    value = {"inputs": [{"name": "x", "shape": [1], "datatype": datatype, "data": [None]}]}
    with pytest.raises(RequestError, match="only floats may be missing"):
        decode(value, ports=(Port("x", datatype, ("n",)),))


def test_encode_not_finite_becomes_null_and_is_counted() -> None:
    call = decode({"id": 'a"b', "inputs": [row()]})
    made = Tensor("FP32", (1, 3), struct.pack("<3f", float("nan"), 1.5, float("-inf")))
    body, size = protocol.encode({"scores": made}, call, name="m", version="1", trace_id="t")
    assert size is None
    assert json.loads(body) == {
        "model_name": "m",
        "model_version": "1",
        "id": 'a"b',
        "parameters": {"trace_id": "t"},
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [1, 3], "parameters": {"non_finite": 2}, "data": [None, 1.5, None]}
        ],
    }


def test_metadata_axes_that_vary_are_minus_one() -> None:
    assert protocol.metadata("m", "1", (PIXELS,), (SCORES,))["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 2]}]


def numbers(datatype: str) -> st.SearchStrategy[Any]:
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
    if datatype.startswith("FP"):
        width = int(datatype[2:])
        return st.floats(allow_nan=False, allow_infinity=False, width=width)  # type: ignore[arg-type]
    bits, signed = int(datatype.lstrip("UINT")), datatype[0] == "I"
    return st.integers(-(2 ** (bits - 1)) if signed else 0, 2 ** (bits - signed) - 1)


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(DATATYPES)), st.lists(st.integers(1, 3), max_size=3))
def test_json_round_trip_is_bit_for_bit(data: st.DataObject, datatype: str, shape: list[int]) -> None:
    size = count(tuple(shape))
    made = tensor(data.draw(st.lists(numbers(datatype), min_size=size, max_size=size)), datatype, tuple(shape))
    port = Port("x", datatype, tuple(f"axis{at}" for at in range(len(shape))))
    call = Call()
    call.wanted = [("x", False)]
    body, _ = protocol.encode({"x": made}, call, name="m", version="1", trace_id="t")
    again = protocol.decode({"inputs": json.loads(body)["outputs"]}, memoryview(b""), (port,), (port,), has_texts=False)
    assert bytes(again.inputs["x"].data) == bytes(made.data)
    assert again.inputs["x"].shape == tuple(shape)


def test_largest_float32_comes_back_from_its_own_nine_digits() -> None:
    made = tensor([struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]], "FP32", (1,))
    call = Call()
    call.wanted = [("x", False)]
    body, _ = protocol.encode({"x": made}, call, name="m", version="1", trace_id="t")
    port = Port("x", "FP32", ("axis0",))
    again = protocol.decode({"inputs": json.loads(body)["outputs"]}, memoryview(b""), (port,), (port,), has_texts=False)
    assert bytes(again.inputs["x"].data) == bytes(made.data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["FP32", "BYTES", "pixels"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data_size", "id", "outputs"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=settings().max_examples * 3)
@given(st.dictionaries(st.sampled_from(["id", "outputs", "parameters"]), JSON), st.lists(JSON, max_size=2), st.binary(max_size=20))
def test_decode_anything_is_a_call_or_a_request_error(head: dict[str, Any], rows: list[Any], binary: bytes) -> None:
    filled = [{**row(), **part} if isinstance(part, dict) else part for part in rows]
    value = {**head, "inputs": filled}
    if not protocol.is_inference(value):
        return
    for has_texts in (False, True):
        try:
            status = decode(value, binary, (PIXELS, MARKS), has_texts=has_texts).batch and 200
        except RequestError as error:
            status = error.status
        assert status in (0, 200, 400)


SMALL = Limits({variable(name): "20" for name in ("rows", "id_chars", "text_chars")}, {})


def refused(value: dict[str, Any], binary: bytes = b"", *, has_texts: bool = False) -> RequestError:
    with pytest.raises(RequestError) as caught:
        protocol.decode(value, memoryview(binary), (PIXELS,), (SCORES,), has_texts=has_texts, limits=SMALL)
    assert len(str(caught.value)) < 1000
    return caught.value


def test_each_limit_is_named_in_its_refusal() -> None:
    assert decode({"id": "x" * 20, "inputs": [row()]}).id == "x" * 20
    found = refused({"id": "x" * 21, "inputs": [row()]})
    assert (found.status, str(found)) == (400, "characters of the id: 21; at most 20 are taken here (MLPACK_LIMIT_ID_CHARS)")
    found = refused({"inputs": [row(shape=[21, 2], data=[1] * 42)]})
    assert (found.status, found.kind) == (413, "PayloadTooLarge")
    assert str(found) == "rows of input 'pixels': 21; at most 20 are taken here (MLPACK_LIMIT_ROWS)"
    assert "texts: 21; at most 20" in str(refused(text_row(shape=[21], data=["a"] * 21), has_texts=True))
    assert "characters of a text: 21; at most 20" in str(refused(text_row(shape=[1], data=["a" * 21]), has_texts=True))


def test_texts_of_four_bytes_are_counted_while_they_are_read() -> None:
    value = {"inputs": [{"name": "text", "shape": [50_000], "datatype": "BYTES", "parameters": {"binary_data_size": 200_000}}]}
    assert "texts, or more: 21" in str(refused(value, bytes(200_000), has_texts=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [1] * 10_000},
        {"shape": [1] * 10_000 + [0]},
        {"shape": [10**99] * 10_000},
        {"shape": [10**99, 10**99]},
        {"shape": "x" * 10_000},
        {"name": "x" * 10_000},
        {"name": ["x"] * 10_000},
        {"datatype": "x" * 10_000},
        {"data": "x" * 10_000},
        {"data": [[[[[]]]]] * 1000},
        {"parameters": ["x"] * 10_000},
        {"parameters": {"binary_data_size": 10**4000}},
    ],
    ids=["ranks", "zeros", "products", "large", "text", "name", "names", "datatype", "data", "deep", "parameters", "size"],
)
def test_what_is_large_is_refused_shortly(changes: dict[str, Any]) -> None:
    assert refused({"inputs": [row(**changes)]}).status == 400


def test_output_is_given_once_and_unknown_inputs_are_not_read() -> None:
    assert "output 'scores' is asked for twice" in str(refused({"inputs": [row()], "outputs": [{"name": "scores"}] * 10_000}))
    assert "10000 inputs are there" in str(refused({"inputs": [row(name=f"x{at}") for at in range(10_000)]}))
    assert "inputs are there" in str(refused({"inputs": [{"name": "pixels"}] * 10_000}))


def test_lists_are_flattened_no_deeper_than_the_shape_says() -> None:
    deep: Any = "a"
    for _ in range(900):
        deep = [deep]
    assert "not a list of strings" in str(refused(text_row(shape=[1, 2], data=[deep, "a"]), has_texts=True))
    assert "has a shape of 900 axes" in str(refused(text_row(shape=[1] * 900, data=deep), has_texts=True))
    assert "the nested data is a list of 900" in str(refused({"inputs": [row(data=deep)]}))
    with pytest.raises(RequestError, match="the model takes 2 axes"):
        protocol.tensors({"pixels": deep}, (PIXELS,))


def test_a_body_is_held_to_its_bytes() -> None:
    small = Limits({"MLPACK_LIMIT_BODY_BYTES": "100", "MLPACK_LIMIT_JSON_BYTES": "10"}, {})
    assert protocol.split({protocol.HEADER_LENGTH: "2"}, b"{}" + bytes(98), small)[0] == {}
    for headers, body, name in (
        ({}, bytes(101), "BODY"),
        ({}, b" " * 11, "JSON"),
        ({protocol.HEADER_LENGTH: "11"}, b" " * 20, "JSON"),
    ):
        with pytest.raises(RequestError, match=f"MLPACK_LIMIT_{name}_BYTES") as caught:
            protocol.split(headers, body, small)
        assert caught.value.status == 413


@pytest.mark.parametrize("stated", ["9" * 5000, "9" * 15, "9" * 16])
def test_lengths_of_many_digits_are_refused(stated: str) -> None:
    with pytest.raises(RequestError, match="Inference-Header-Content-Length is") as caught:
        protocol.split({protocol.HEADER_LENGTH: stated}, b"{}")
    assert len(str(caught.value)) < 300


def test_a_compressed_body_that_does_not_say_so_is_known() -> None:
    with pytest.raises(RequestError, match="begins as gzip does: say Content-Encoding"):
        protocol.split({}, b"\x1f\x8b\x08\x00")


def test_a_byte_order_mark_is_passed_over() -> None:
    assert protocol.split({}, b"\xef\xbb\xbf{}")[0] == {}
    value, binary = protocol.split({protocol.HEADER_LENGTH: "5"}, b"\xef\xbb\xbf{}\xef\xbb\xbf")
    assert (value, bytes(binary)) == ({}, b"\xef\xbb\xbf")
    for body in (b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf{}", b"\xef\xbb{}"):
        with pytest.raises(RequestError, match="not JSON"):
            protocol.split({}, body)


def test_a_deadline_is_a_time_that_clocks_and_sockets_take() -> None:
    assert protocol.deadline_ms({"x-deadline-ms": "9" * 14}) == protocol.LONGEST_DEADLINE_MS
    assert protocol.deadline_ms({"x-deadline-ms": "-" + "9" * 14}) == -int("9" * 14)
    with pytest.raises(RequestError, match="x-deadline-ms"):
        protocol.deadline_ms({"x-deadline-ms": "9" * 5000})


def test_numbers_of_too_many_digits_are_told_as_such() -> None:
    with pytest.raises(RequestError, match="a number has thousands of digits"):
        protocol.split({}, b'{"a":' + b"9" * 5000 + b"}")


def test_what_cannot_be_written_again_is_the_callers() -> None:
    for value in ({"a": float("inf")}, protocol.split({}, b'{"a":1e400}')[0]):
        with pytest.raises(RequestError, match="cannot be passed on as JSON"):
            protocol.rewritten(value)
