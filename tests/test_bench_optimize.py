"""The bench of quantizers judges by pure functions; these are held here, without a peer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from bench.optimize import judge, peers
from bench.optimize.quantizers import calls as recorded


def row(tool: str, side: str, **values: object) -> judge.Row:
    """A row that is within the drop, with a latency of 10 ms in each of four rounds, unless said otherwise."""
    told = {"size_bytes": 1000, "blocks": (10.0,) * 4, "drop": 0.0, **values}
    return judge.Row(tool=tool, side=side, **told)  # type: ignore[arg-type]


def case(*rows: judge.Row, **values: object) -> judge.Judged:
    """A case of the float and these rows."""
    given = row("float", judge.FLOAT)
    told = {"name": "m", "metric": "fidelity", "rows": (given, *rows), **values}
    return judge.Judged(**told)  # type: ignore[arg-type]


CHOSEN = row("mlpack int8", judge.OURS, chosen=True, size_bytes=300, blocks=(5.0,) * 4)


def values_of(found: judge.Verdict) -> dict[str, float]:
    return {figure.name.partition(": ")[2]: figure.value for figure in found.figures}


def test_best_of_the_others_within_the_drop_count_alone() -> None:
    fast = row("a", judge.PEER, blocks=(4.0,) * 4, size_bytes=400)
    small = row("b", judge.PEER, blocks=(8.0,) * 4, size_bytes=250)
    wrong = row("c", judge.PEER, blocks=(1.0,) * 4, size_bytes=10, drop=0.011)
    failed = row("d", judge.PEER, blocks=(1.0,) * 4, size_bytes=10, drop=None, failure="raised")
    own = row("mlpack fp32", judge.OURS, blocks=(1.0,) * 4, size_bytes=10)
    found = judge.verdict(case(CHOSEN, fast, small, wrong, failed, own))
    assert values_of(found) == {"latency over the fastest other's": 1.25, "size over the smallest other's": 1.2}
    assert not found.alone
    assert found.words == ("4 presets: 1 failed, 1 lost more than 0.01, 2 within",)


def test_the_float_counts_among_the_others() -> None:
    slower = dataclasses.replace(CHOSEN, blocks=(20.0,) * 4, size_bytes=2000)
    assert values_of(judge.verdict(case(slower))) == {"latency over the fastest other's": 2, "size over the smallest other's": 2}


@pytest.mark.parametrize("chosen", ["mlpack int8", "mlpack fp32"])
def test_alone_is_more_than_float_where_no_peer_is_within(chosen: str) -> None:
    ours = dataclasses.replace(CHOSEN, tool=chosen)
    assert judge.verdict(case(ours, row("a", judge.PEER, drop=0.5))).alone == (chosen == "mlpack int8")
    assert not judge.verdict(case(ours, row("a", judge.PEER, drop=0.01))).alone


def test_missing_is_what_was_not_chosen_or_beyond_the_drop() -> None:
    nothing = row("mlpack", judge.OURS, failure="exit 3", drop=None)
    assert judge.verdict(case(nothing)).missing == "mlpack: exit 3"
    assert judge.verdict(case(dataclasses.replace(CHOSEN, chosen=False))).missing == "nothing was chosen"
    assert judge.verdict(case(dataclasses.replace(CHOSEN, drop=0.2))).missing == "the chosen one's drop is 0.2"


def test_paired_rounds_let_a_slowing_machine_slow_both_sides() -> None:
    value, low, high = judge.ratio((1.0, 2.0, 40.0, 4.0), (2.0, 4.0, 80.0, 8.0))
    assert (value, low, high) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="no round"):
        judge.ratio((), (1.0,))


def test_slow_spell_or_fast_round_makes_no_side_slower() -> None:
    assert judge.slower((1.0, 3.0, 3.0, 3.0), (1.0, 1.0, 1.0, 1.0)) == 1.0
    assert judge.slower((2.0, 2.0, 2.0, 2.0), (1.0, 2.0, 2.0, 2.0)) == 1.0
    assert judge.slower((1.2, 1.3, 1.2, 1.4), (1.0, 1.0, 1.0, 1.0)) == 1.2


def test_sizes_are_not_judged_where_the_float_holds_no_weights() -> None:
    found = judge.verdict(case(CHOSEN, note="weights made by nodes"))
    assert list(values_of(found)) == ["latency over the fastest other's"]


def test_cost_of_build_is_figure_even_where_nothing_was_chosen() -> None:
    found = judge.verdict(case(build_seconds=70.0, float_seconds=10.0))
    assert [(figure.value, figure.at_most) for figure in found.figures] == [(7.0, 6.0)]


def test_rival_that_loses_its_answers_without_vnni_is_said_to() -> None:
    rival = row("a", judge.PEER, blocks=(2.0,) * 4, size_bytes=100, cosine_avx2=0.9, drop_avx2=0.3, samples_avx2=16)
    found = judge.verdict(case(CHOSEN, rival))
    assert all("without VNNI its drop is 0.30" in figure.detail for figure in found.figures)
    assert "lose more than 0.01 without VNNI: a" in found.words
    assert "0.9000, drop 0.3000 (n=16)" in judge.table(case(CHOSEN, rival))


def test_labels_say_nothing_of_sixteen_answers_cosine_does() -> None:
    rival = row("a", judge.PEER, blocks=(9.0,) * 4, cosine_avx2=0.9, samples_avx2=16)
    assert rival.collapses
    assert not dataclasses.replace(rival, cosine_avx2=0.999).collapses
    assert "cosine 0.90" in judge.verdict(case(CHOSEN, rival)).figures[0].detail


def test_table_names_failures_and_stands_with_their_bars() -> None:
    failed = row("a", judge.PEER, failure="x | y\nz", blocks=(), size_bytes=0, drop=None)
    line = next(each for each in judge.table(case(CHOSEN, failed)).splitlines() if each.startswith("| a "))
    assert line == "| a | x \\| y z |  |  |  |  |  |"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (
            "Load model from /root/x y/made/0a/model.onnx failed:Node (a/b/c;d/e) Op",
            "Load model from x y/made/0a/model.onnx failed:Node (a/b/c;d/e) Op",
        ),
        ("Load model from /home/me/made/model.onnx failed", "Load model from model.onnx failed"),
        ("no such file: '/tmp/q/m.onnx'", "no such file: 'm.onnx'"),
        ("KeyError: 'a/b_scale'", "KeyError: 'a/b_scale'"),
        ("1/2 of x.y/z/w", "1/2 of x.y/z/w"),
    ],
)
def test_reasons_keep_names_of_files_but_not_where_they_lay(said: str, left: str) -> None:
    assert judge.tidied(case(row("a", judge.PEER, failure=said))).rows[1].failure == left


def test_cases_go_through_json_unchanged() -> None:
    whole = case(CHOSEN, row("a", judge.PEER, failure="no"))
    assert judge.from_json(json.loads(json.dumps(judge.as_json(whole)))) == whole


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("Traceback\n  raise\nonnx.errors.ValueError: no  scale\nbye\n", "onnx.errors.ValueError: no scale"),
        ("one\ntwo\n", "two"),
        ("onnxruntime.capi.Fail: [E] type\n", "onnxruntime.capi.Fail: [E] type"),
        ("", ""),
    ],
)
def test_reason_is_the_last_exception_or_the_last_line(log: str, reason: str) -> None:
    assert peers.last_words(log) == reason


def test_every_peer_has_a_script_and_pins() -> None:
    for peer in peers.PEERS:
        assert (peers.SCRIPTS / f"by_{peer.name}.py").is_file()
        pins = (peers.HERE / f"requirements-{peer.name}.txt").read_text().split()
        assert pins
        assert all(name and version for name, _, version in (pin.partition("==") for pin in pins))


def test_calls_keep_names_order_and_types(tmp_path: Path) -> None:
    calls = [{"onnx::a/b:0": np.arange(3, dtype="i8"), "ü": np.float32(1.5).reshape(())}, {"onnx::a/b:0": np.zeros((0, 2), "f2")}]
    recorded.write(tmp_path / "calls.npz", calls)
    found = recorded.read(tmp_path / "calls.npz")
    assert [list(call) for call in found] == [["onnx::a/b:0", "ü"], ["onnx::a/b:0"]]
    for got, wanted in zip(found, calls, strict=True):
        for name in wanted:
            np.testing.assert_array_equal(got[name], wanted[name])
            assert got[name].dtype == wanted[name].dtype
    reader = recorded.Reader(found)
    assert [reader.get_next() is not None for _ in range(3)] == [True, True, False]
    reader.rewind()
    assert len(list(reader)) == 2
