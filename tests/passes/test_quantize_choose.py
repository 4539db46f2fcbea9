"""How each node computes, or the reason why it stays float, from graphs that nobody runs: every rule at its edge."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from tests.support.models.foreign_graphs import constant, model, node, port

from mlpack.errors import PassError
from mlpack.passes.quantize.choice import choose
from mlpack.passes.quantize.choice.choose import TINY


def F(name: str, *shape: int) -> onnx.TensorProto:  # noqa: N802 - as in its neighbours
    """Weights, of ones."""
    return constant(name, np.ones(shape, "f4"))


def choice(
    nodes: onnx.NodeProto | list[onnx.NodeProto],
    stored: list[onnx.TensorProto],
    method: str = "mixed",
    keep: tuple[str, ...] = (),
    *,
    embeddings: bool = True,
) -> choose.NodeChoice:
    """What is chosen for a graph that nobody runs, so that it may be of anything."""
    made = model(nodes if isinstance(nodes, list) else [nodes], [], [], stored)
    choose.name_nodes(made)
    return choose.choose(made, method, keep, embeddings=embeddings)


def word(given: choose.NodeChoice) -> str:
    """The way of the one node, or the reason why it is float; '' where it was not considered."""
    (said,) = [*given.how.values(), *given.kept.values()] or [""]
    return said


PRODUCT = node("MatMul", ["x", "w"], ["y"])
CONV, UP = (node(kind, ["x", "w"], ["y"]) for kind in ("Conv", "ConvTranspose"))
TABLE = node("Gather", ["w", "ids"], ["y"])
LSTM, GRU = (node(kind, ["x", "w", "r"], ["y"], hidden_size=32) for kind in ("LSTM", "GRU"))
LSTM_WEIGHTS = [F("w", 1, 128, 32), F("r", 1, 128, 32)]
ATTENTION = node("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft", num_heads=2)


@pytest.mark.parametrize(
    ("method", "ways"),
    [
        ("static", ["static", "static", "weights", "leaves tables", "no LSTM", "no GRU in integers", "no Attention"]),
        ("dynamic", ["dynamic", "slower", "slower", "weights", "dynamic", "no GRU in integers", "dynamic"]),
        ("mixed", ["dynamic", "static", "weights", "weights", "dynamic", "no GRU in integers", "dynamic"]),
        ("weights", ["weights"] * 6 + ["none that are only stored so"]),
    ],
)
def test_the_way_of_each_operator_by_each_method(method: str, ways: list[str]) -> None:
    graphs = [
        (PRODUCT, [F("w", 64, 64)]), (CONV, [F("w", 64, 64, 3, 3)]), (UP, [F("w", 64, 64, 3, 3)]), (TABLE, [F("w", 64, 64)]),
        (LSTM, LSTM_WEIGHTS), (GRU, LSTM_WEIGHTS), (ATTENTION, [F("w", 64, 192), F("b", 192)]),
    ]  # fmt: skip
    for (made, stored), way in zip(graphs, ways, strict=True):
        assert way in word(choice(made, stored, method)), made.op_type


@pytest.mark.parametrize("method", ["dynamic", "mixed", "weights"])
def test_tables_stay_float_where_the_recipe_says_so(method: str) -> None:
    without = choice(TABLE, [F("w", 64, 64)], method, embeddings=False)
    assert word(without) == "the recipe leaves tables float (`embeddings`)"
    assert word(choice(PRODUCT, [F("w", 64, 64)], method, embeddings=False)) in ("dynamic", "weights")


@pytest.mark.parametrize(
    ("made", "stored", "said"),
    [
        (PRODUCT, [F("w", 16, 16)], "dynamic"),
        (PRODUCT, [F("w", 15, 64)], TINY),
        (PRODUCT, [F("w", 64, 15)], TINY),
        (CONV, [F("w", 16, 4, 2, 2)], "static"),
        (CONV, [F("w", 15, 64, 3, 3)], TINY),
        (CONV, [F("w", 64, 1, 3, 5)], TINY),
        (node("Conv", ["x", "w"], ["y"], group=2), [F("w", 64, 32, 3, 3)], "static"),
        (node("Conv", ["x", "w"], ["y"], group=2), [F("w", 64, 31, 3, 3)], choose.GROUPED),
        (node("Conv", ["x", "w"], ["y"], group=2), [F("w", 62, 32, 3, 3)], choose.GROUPED),
        (node("Conv", ["x", "w", "b"], ["y"]), [F("w", 64, 32, 3, 3)], "its bias is not constant"),
        (node("Conv", ["x", "w", "b"], ["y"]), [F("w", 64, 32, 3, 3), constant("b", np.ones(64))], "its bias is not constant"),
        (node("Conv", ["x", "w", "b"], ["y"]), [F("w", 64, 32, 3, 3), F("b", 64)], "static"),
        (node("Conv", ["x", "w", ""], ["y"]), [F("w", 64, 32, 3, 3)], "static"),
        (LSTM, [F("w", 1, 128, 32), F("r", 1, 128, 32)], "dynamic"),
        (node("LSTM", ["x", "w", "r"], ["y"], hidden_size=32, layout=1), LSTM_WEIGHTS, "has its steps first"),
        (node("Attention", ["x", "w", "b"], ["y"], num_heads=2), [F("w", 64, 192), F("b", 192)], "and no weights"),
        (node("Attention", ["x", "w", "b", "", "", "r"], ["y"], domain="com.microsoft", num_heads=2),
         [F("w", 64, 192), F("b", 192)], "biases of positions"),
        (node("Attention", ["x", "w", "b", "mask", "past"], ["y"], domain="com.microsoft", num_heads=2),
         [F("w", 64, 192), F("b", 192)], "dynamic"),
        (node("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft", num_heads=2, do_rotary=1),
         [F("w", 64, 192), F("b", 192)], "rotations"),
        (node("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft", num_heads=2, qkv_hidden_sizes=[64, 64, 64]),
         [F("w", 64, 192), F("b", 192)], "heads of several sizes"),
    ],
)  # fmt: skip
def test_where_integers_do_not_help(made: onnx.NodeProto, stored: list[onnx.TensorProto], said: str) -> None:
    assert said in word(choice(made, stored))


@pytest.mark.parametrize(
    ("made", "stored", "said"),
    [
        (PRODUCT, [], "it multiplies two activations"),
        (node("MatMul", ["w", "x"], ["y"]), [F("w", 64, 64)], "its constant operand is the first one"),
        (node("MatMul", ["w", "v"], ["y"]), [F("w", 64, 64), F("v", 64, 64)], "both its operands are constant"),
        (node("Conv", ["v", "w"], ["y"]), [F("w", 64, 64, 3, 3), F("v", 1, 64, 8, 8)], "both its operands are constant"),
        (CONV, [], "its weights are not constant"),
        (LSTM, [F("w", 1, 128, 32)], "its weights are not constant"),
        (PRODUCT, [constant("w", np.ones((64, 64), "f2"))], "its weights are not float32"),
        (LSTM, [F("w", 1, 128, 32), constant("r", np.ones((1, 128, 32)))], "its weights are not float32"),
        (PRODUCT, [F("w", 2, 64, 64)], "its weights are a stack of matrices"),
        (PRODUCT, [F("w", 64)], "its weights are a vector"),
        (node("Gemm", ["x", "w"], ["y"], transA=1), [F("w", 64, 64)], "it transposes its activations"),
        (node("Gemm", ["x", "w"], ["y"], transA=0), [F("w", 64, 64)], "dynamic"),
    ],
)
def test_what_no_method_takes(made: onnx.NodeProto, stored: list[onnx.TensorProto], said: str) -> None:
    assert word(choice(made, stored)) == said
    assert word(choice(made, stored, "weights")) == said.replace("dynamic", "weights")


@pytest.mark.parametrize(
    ("made", "stored"),
    [
        (TABLE, [F("w", 63, 65)]),
        (TABLE, [F("w", 4096)]),
        (TABLE, [constant("w", np.ones((64, 64), np.int64))]),
        (node("Gather", ["x", "w"], ["y"]), [F("w", 64, 64)]),
        (node("Relu", ["x"], ["y"]), []),
        (node("MatMul", ["x", "w"], ["y"], domain="acme"), [F("w", 64, 64)]),
    ],
)
def test_nothing_is_said_of_what_could_never_be_integers(made: onnx.NodeProto, stored: list[onnx.TensorProto]) -> None:
    assert word(choice(made, stored)) == ""


@pytest.mark.parametrize(
    ("made", "stored", "few"),
    [
        (PRODUCT, [F("w", 64, 64)], False),
        (PRODUCT, [F("w", 63, 65)], True),
        (GRU, [F("w", 1, 96, 16), F("r", 1, 80, 32)], False),
        (GRU, [F("w", 1, 96, 16), F("r", 1, 64, 32)], True),
        (node("GRU", ["x", "w", "r", "", "", "h"], ["y"]), [F("w", 1, 96, 16), F("r", 1, 64, 32), F("h", 1, 64, 64)], True),
    ],
)  # fmt: skip
def test_few_weights_are_not_stored_in_integers(made: onnx.NodeProto, stored: list[onnx.TensorProto], few: bool) -> None:
    assert word(choice(made, stored, "weights")) == ("it has few weights" if few else "weights")


@pytest.mark.parametrize(
    ("outputs", "said"), [(["y"], "weights"), (["y", "", ""], "weights"), (["y", "m", "sum"], "its sum is read")]
)
def test_a_sum_that_is_read_keeps_tables_float(outputs: list[str], said: str) -> None:
    takes = ["ids", "", "words", "places", "", "gamma", "beta"]
    made = node("EmbedLayerNormalization", takes, outputs, domain="com.microsoft")
    stored = [F("words", 64, 64), F("places", 16, 64), F("gamma", 64), F("beta", 64)]
    for method in ("mixed", "weights"):
        assert said in word(choice(made, stored, method))


@pytest.mark.parametrize(
    ("bias", "transposed", "said"),
    [
        ((64,), 0, ""),
        ((1, 64), 0, ""),
        ((1,), 0, ""),
        ((), 0, ""),
        ((32,), 1, ""),
        ((64,), 1, "its bias is a matrix"),
        ((8, 64), 0, "its bias is a matrix"),
    ],
)
def test_a_bias_that_is_no_row_keeps_a_product_dynamic(bias: tuple[int, ...], transposed: int, said: str) -> None:
    gemm = node("Gemm", ["x", "w", "b"], ["y"], "gemm", transB=transposed)
    made = model([gemm], [], [], [F("w", 32, 64), F("b", *bias)])
    assert choose.static_unfit(gemm, made) == said
    assert choose.choose(made, "static", (), embeddings=True).kept.get("gemm", "") == said
    assert choose.choose(made, "mixed", (), embeddings=True).how == {"gemm": "dynamic"}


def test_no_range_is_recorded_in_the_body_of_an_operator() -> None:
    def body(name: str) -> onnx.GraphProto:
        nodes = [node("Conv", ["x", "w"], [f"c{name}"], f"conv_{name}"), node("MatMul", ["x", "m"], [name], f"product_{name}")]
        return onnx.helper.make_graph(nodes, name, [], [port(name, None)])

    branches = node("If", ["when"], ["y"], "if", then_branch=body("a"), else_branch=body("b"))
    stored = [F("w", 64, 64, 3, 3), F("m", 64, 64)]
    static, mixed = (choice([branches, node("Conv", ["x", "w"], ["z"], "outside")], stored, how) for how in ("static", "mixed"))
    reason = "it is in the body of a If, where no range is recorded"
    inside = {f"conv_{name}": reason for name in "ab"}
    assert (static.how, static.kept) == ({"outside": "static"}, inside | {f"product_{name}": reason for name in "ab"})
    assert (mixed.how, mixed.kept) == ({"outside": "static"} | {f"product_{name}": "dynamic" for name in "ab"}, inside)
    assert (mixed.by("dynamic"), mixed.by("static"), mixed.by("weights")) == ({"product_a", "product_b"}, {"outside"}, set())


CHAIN = [
    node("Conv", ["x", "w"], ["a"], "stem"),
    node("Conv", ["x", "w"], ["b"], "beside"),
    node("Relu", ["a"], ["c"], "relu"),
    node("Conv", ["c", "w"], ["d"], "middle"),
    node("Add", ["d", "b"], ["e"], "add"),
    node("Conv", ["e", "single"], ["f"], "alone", group=64),
    node("Conv", ["f", "w"], ["g"], "end"),
    node("Conv", ["e", "w"], ["h"], "other"),
]
CHAIN_WEIGHTS = [F("w", 64, 64, 3, 3), F("single", 64, 1, 5, 5)]


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (("first",), {"stem": "first", "beside": "first"}),
        (("last",), {"end": "last", "other": "last"}),
        (("depthwise",), {"alone": "depthwise"}),
        (("Conv",), dict.fromkeys(("stem", "beside", "middle", "alone", "end", "other"), "Conv")),
        (
            ("first", "Conv", "stem"),
            {"stem": "first", "beside": "first"} | dict.fromkeys(("middle", "alone", "end", "other"), "Conv"),
        ),
        (("end", "last"), {"end": "it", "other": "last"}),
        (("MatMul",), {}),
    ],
)
def test_each_word_keeps_its_nodes_and_no_other(keep: tuple[str, ...], left: dict[str, str]) -> None:
    kept = choice(CHAIN, CHAIN_WEIGHTS, keep=keep).kept
    assert {name: why for name, why in kept.items() if "keep_float" in why} == {
        name: f"the recipe keeps {what} float (`keep_float`)" for name, what in left.items()
    }


def test_groups_of_two_channels_are_not_depthwise() -> None:
    stored = {each.name: each for each in (F("two", 64, 2, 3, 3), F("one", 64, 1, 3, 3))}
    for made, alone in (
        (node("Conv", ["x", "one"], ["y"], group=64), True),
        (node("Conv", ["x", "two"], ["y"], group=32), False),
        (node("Conv", ["x", "one"], ["y"]), False),
        (node("Conv", ["x", "computed"], ["y"], group=64), False),
        (node("ConvTranspose", ["x", "one"], ["y"], group=64), False),
    ):
        assert choose.is_depthwise(made, stored) is alone


def test_a_name_that_nothing_has_is_refused_with_all_words() -> None:
    with pytest.raises(PassError, match=r"names 'nowhere', .*Conv, ConvTranspose, MatMul, .*`first`, `last` or `depthwise`"):
        choice(CHAIN, CHAIN_WEIGHTS, keep=("first", "nowhere"))


def test_every_node_gets_a_name_of_its_own_and_keeps_a_good_one() -> None:
    made = model([node("Relu", ["x"], ["y"], name) for name in ("", "a", "a", "", "a_2")], [], [], [])
    choose.name_nodes(made)
    names = [each.name for each in made.graph.node]
    assert names[:4] == ["Relu_0", "a", "a_2", "Relu_3"]
    assert len(set(names)) == len(names)


def test_nodes_that_are_refused_join_those_that_were_kept() -> None:
    before = choose.NodeChoice({"a": "static", "b": "dynamic"}, {"c": "tiny"})
    assert before.without({"a": "no kernel"}) == choose.NodeChoice({"b": "dynamic"}, {"c": "tiny", "a": "no kernel"})
    assert before == choose.NodeChoice({"a": "static", "b": "dynamic"}, {"c": "tiny"})


@pytest.mark.parametrize(
    ("kind", "shape", "small"),
    [
        ("Conv", (16, 4, 2, 2), False), ("Conv", (15, 4, 2, 2), True), ("Conv", (16, 3, 1, 5), True),
        ("ConvTranspose", (16, 16, 1, 1), False), ("ConvTranspose", (15, 16, 9, 9), True), ("ConvTranspose", (16, 15, 9, 9), True),
        ("MatMul", (16, 16), False), ("MatMul", (2, 8, 16), False), ("MatMul", (16, 15), True), ("Gemm", (15, 16), True),
    ],
)  # fmt: skip
def test_the_smallest_weights_that_gain(kind: str, shape: tuple[int, ...], small: bool) -> None:
    assert choose.is_tiny(kind, shape) is small


def test_only_small_weights_are_tiny_and_no_other_constants() -> None:
    nodes = [
        node("MatMul", ["x", "small"], ["a"], "small"),
        node("Add", ["a", "row"], ["b"], "add"),
        node("MatMul", ["b", "large"], ["c"], "large"),
        node("MatMul", ["c", "b"], ["d"], "computed"),
    ]
    made = model(nodes, [], [], [F("small", 4, 64), F("row", 8), F("large", 64, 64)])
    assert choose.tiny(made) == ["small"]
