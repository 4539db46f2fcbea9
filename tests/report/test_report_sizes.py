"""The sizes of memory in the record, the terminal, the pull request and the page."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest
from tests.support.outcomes import typical

from mlpack.core.records import Budgets
from mlpack.core.sizes import SIZES_MB, SizePoint, Sizing
from mlpack.core.text import words
from mlpack.decide import sizing
from mlpack.pipeline.outcome import summarize
from mlpack.report import report, sizes, svg, webpage
from mlpack.report.record import files
from mlpack.report.record.candidates import StageRecord
from mlpack.report.recording import build_record
from mlpack.targets import prices

if TYPE_CHECKING:
    from mlpack.report.record import BuildRecord


def price(memory_mb: int, p50_ms: float) -> float:
    return prices.per_million_usd(memory_mb, "x86_64", p50_ms)


def sized(budgets: Budgets, *, taken: bool = False) -> Sizing:
    """One size measured, and what follows from it."""
    whole = SizePoint(
        memory_mb=1769,
        measured=True,
        basis="measured with 1 of this machine's cores",
        threads=1,
        latency_ms=(9.0, 10.0, 12.0),
        cold_start_ms=(120.0,),
        peak_memory_bytes=90_000_000,
        cost_per_million_usd=price(1769, 10.0),
    )
    points = [whole if size == 1769 else sizing.extrapolated(whole, size, price) for size in SIZES_MB]
    verdicts = sizing.judge(points, budgets)
    chosen = typical().decision.chosen
    assert chosen is not None
    return Sizing(candidate_id=chosen, sizes=verdicts, proposed_mb=sizing.propose(verdicts), taken=taken, quota="no <quota> here")


def with_sizes(budgets: Budgets, *, taken: bool = False) -> BuildRecord:
    return build_record(dataclasses.replace(typical(), sizing=sized(budgets, taken=taken)))


def test_the_record_keeps_every_size_and_is_read_back() -> None:
    record = with_sizes(Budgets(latency_p95_ms=25))
    assert record.sizing is not None
    assert [(each.memory_mb, each.measured) for each in record.sizing.sizes] == [
        (512, False),
        (1024, False),
        (1769, True),
        (3538, False),
    ]
    assert record.sizing.proposed_mb == 1769  # as cheap as 1,024 MB but for the rounding of milliseconds
    assert record.sizing.sizes[0].problems[0].startswith("latency p95 40.8 ms is more than the budget")
    assert files.decode(files.encode(record)) == record


def test_a_record_of_before_there_were_sizes_is_read() -> None:
    old = json.loads(files.encode(build_record(typical())))
    del old["sizing"]
    record = files.decode(json.dumps(old).encode())
    assert record.sizing is None
    assert summarize(record).sizes == ()
    assert "estimated from" not in webpage.html(record)


def test_the_terminal_has_a_line_for_each_size() -> None:
    told, head, *rows = summarize(with_sizes(Budgets(latency_p95_ms=25))).sizes
    assert "the cheapest memory within the budgets is 1,769 MB (p95 11.8 ms, $" in told
    assert " ".join(head.split()) == "memory latency p50 p95 cold start p50 peak memory $/million how fits"
    assert [row.split()[0] for row in rows] == ["512", "1,024", "1,769", "3,538"]
    assert [("estimated" in row, "proposed" in row) for row in rows] == [(True, False), (True, False), (False, True), (True, False)]


@pytest.mark.parametrize(
    ("limit", "told"), [(25.0, "built for 1,769 MB"), (0.1, "none of the sizes of memory is within the budgets")]
)
def test_the_sentence_says_what_was_taken_or_that_nothing_fits(limit: float, told: str) -> None:
    record = with_sizes(Budgets(latency_p95_ms=limit), taken=limit > 1)
    assert record.sizing is not None
    assert told in sizes.sentence(record.sizing)


def test_the_page_draws_both_curves_and_escapes_words() -> None:
    page = webpage.html(with_sizes(Budgets()))
    assert "no &lt;quota&gt; here" in page
    assert page.count('class="curve"') == 2
    for drawing in sizes.plots(with_sizes(Budgets())):
        tree = ElementTree.fromstring(drawing)
        circles = [each for each in tree.iter() if each.tag.endswith("circle")]
        assert [("estimate" in str(each.get("class"))) for each in circles] == [True, True, False, True]
        assert sum("marked" in str(each.get("class")) for each in circles) == 1


@pytest.mark.parametrize("measured", [True, False])
def test_the_headline_has_the_numbers_of_the_memory_taken(measured: bool) -> None:
    record = with_sizes(Budgets(), taken=True)
    assert record.sizing is not None
    rows = tuple(dataclasses.replace(size, measured=measured) for size in record.sizing.sizes)
    small = rows[0]
    record = dataclasses.replace(record, sizing=dataclasses.replace(record.sizing, proposed_mb=512, sizes=rows))
    told = summarize(record).verdict
    assert f"{'' if measured else 'estimated '}at 512 MB, p95 40.8 ms, cold start 415 ms" in told
    assert f"{words.usd(small.cost_per_million_usd)} per million" in told
    assert told.partition(" (")[2].removesuffix(")") in report.markdown(record).replace("\\", "").replace("`", "")
    page = webpage.html(record)
    assert "<strong>40.8 ms</strong>" in page
    assert f"<strong>{words.usd(small.cost_per_million_usd)}</strong>" in page
    whole = dataclasses.replace(record, sizing=dataclasses.replace(record.sizing, proposed_mb=1769))
    assert "at 1,769 MB" not in summarize(whole).verdict  # the candidates' own numbers are those of this memory


def test_the_page_has_the_stages_beside_their_budgets() -> None:
    record = build_record(typical())
    stage = StageRecord(p50=8.0, p95=9.0, n=20)
    ones = tuple(dataclasses.replace(one, stages_ms={"infer": stage}) for one in record.candidates)
    budgets = dataclasses.replace(record.recipe.budgets, stages_ms={"infer": 60.0})
    record = dataclasses.replace(record, candidates=ones, recipe=dataclasses.replace(record.recipe, budgets=budgets))
    assert "Stages of a request" not in webpage.html(build_record(typical()))
    for text in (webpage.html(record), report.markdown(record).replace("`", "")):
        assert "Stages of a request, p95" in text
        assert "infer (≤ 60 ms)" in text
        assert text.count("9.00 ms") >= len(ones)
    sized = dataclasses.replace(with_sizes(Budgets(), taken=True), candidates=ones)
    assert sized.sizing is not None
    sized = dataclasses.replace(sized, sizing=dataclasses.replace(sized.sizing, proposed_mb=512))
    assert "Stages of a request, p95, at 1,769 MB" in webpage.html(sized)


def test_the_pull_request_has_the_table() -> None:
    text = report.markdown(with_sizes(Budgets()))
    assert "| 1,769 MB | 10.0 ms | 11.8 ms (`n=3`) |" in text
    assert "| ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |" in text


def test_a_curve_goes_right_and_up_with_its_numbers() -> None:
    points = [svg.CurvePoint(x=x, y=y, label=f"{x}") for x, y in ((512, 40.0), (1024, 20.0), (1769, 10.0))]
    tree = ElementTree.fromstring(svg.curve("t", points, [svg.LimitLine(value=15, label="budget")], str))
    places = [(float(each.get("cx", 0)), float(each.get("cy", 0))) for each in tree.iter() if each.tag.endswith("circle")]
    assert places == sorted(places)  # smaller numbers are lower down
    (limit,) = [float(each.get("y1", 0)) for each in tree.iter() if each.get("class") == "limit" and each.tag.endswith("line")]
    assert places[1][1] < limit < places[2][1]
