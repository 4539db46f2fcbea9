"""The page: whole, self-contained, and safe whatever the names are."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from jinja2 import Environment, UndefinedError, nodes
from tests.support.golden import HOSTILE, golden, without_samples
from tests.support.hostile import CONTROL, LOG, MARKDOWN
from tests.support.outcomes import IMAGE, accuracy, as_json, measurement, on_an_estimate, outcome, result, typed, typical

from mlpack.core.records import Budgets
from mlpack.core.stats import Interval
from mlpack.report import report, summary, svg, webpage
from mlpack.report.recording import build_record

_VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags opened and closed in order, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(record: dict[str, Any]) -> tuple[str, Page]:
    """The page as text, and read; every element closed where it should be."""
    made = webpage.html(typed(record))
    read = Page(made)
    assert read.open == []
    return made, read


def test_page_is_as_agreed() -> None:
    golden("report.html", webpage.html(typed(without_samples(as_json(typical())))))


def test_page_draws_estimates_hollow_and_calls_them_that() -> None:
    made = webpage.html(typed(without_samples(as_json(on_an_estimate()))))
    golden("report-estimated.html", made)
    assert made.count('<circle class="estimate marked"') == 3
    assert "Hollow points are estimates" in made
    assert "Hollow points" not in webpage.html(build_record(typical()))


def test_page_needs_no_network_and_no_script() -> None:
    made, read = page(as_json(typical()))
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in read.seen}
    assert not re.search(r"(src|href|url)\s*[=(]", made)
    policy = next(a["content"] for tag, a in read.seen if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "prefers-color-scheme: dark" in made


def test_page_has_four_plots_and_each_is_well_formed() -> None:
    made, _ = page(as_json(typical()))
    plots = re.findall(r"<svg.*?</svg>", made, re.DOTALL)
    assert [ElementTree.fromstring(plot).get("aria-label") for plot in plots] == [
        "Package size by part",
        "Latency of each call",
        "Process start to first answer",
        "Accuracy drop against the float",
    ]
    assert "budget 100 MB" in plots[0]
    assert "p95 budget 50 ms" in plots[1]
    assert "budget 0.01" in plots[3]


def test_hostile_names_stay_text() -> None:
    record = as_json(typical())
    for one in record["candidates"]:
        one["id"] = one["id"] + HOSTILE
        one["reasons"] = [HOSTILE]
        one["package"]["notes"] = [HOSTILE]
        one["accuracy"]["metric"] = HOSTILE
        one["status"] = '"><script>'
        for step in one["steps"]:
            step["config"] = {HOSTILE: HOSTILE}
    record["recipe"]["name"] = HOSTILE
    record["chosen"] = record["candidates"][1]["id"]
    record["machine"]["cpu"] = HOSTILE
    made, read = page(record)
    assert not {"script", "img"} & {tag for tag, _ in read.seen}
    assert not [a for _, attributes in read.seen for a in attributes if a.startswith("on")]
    assert "\x1b" not in made
    assert "\u202e" not in made
    for plot in re.findall(r"<svg.*?</svg>", made, re.DOTALL):
        ElementTree.fromstring(plot)


def searched(names: str = "node") -> dict[str, Any]:
    """A record whose int8 candidate was searched for: three forms, of which the last ships."""
    record = as_json(typical())
    one = next(each for each in record["candidates"] if each["variant"] == "int8")
    forms = [
        ("unchanged", (), 0.2, "drop 0.2 exceeds the budget"),
        ("2 of 9 layers float", ("a", "b"), 0.004, "inside"),
        ("smoothed", (), None, "it failed"),
    ]
    one["search"] = {
        "layers": 9,
        "most": 8,
        "taken": 1,
        "ended": "inside every budget",
        "seconds": 12.0,
        "damage": [{"node": f"{names}{each}", "damage": None if each == "a" else 0.25} for each in "abc"],
        "tried": [
            {
                "name": f"{names} {name}",
                "kept_float": [f"{names}{each}" for each in kept],
                "options": {},
                "fits": drop == 0.004,
                "why": f"{names} {why}",
                "seconds": 4.0,
                "metric": "top1",
                "value": None if drop is None else 0.9 - drop,
                "drop": drop,
                "ci_low": None if drop is None else drop - 0.001,
                "ci_high": None if drop is None else drop + 0.002,
                "ratio": 0.41 if drop == 0.004 else None,
                "size_bytes": 30_000_000,
            }
            for name, kept, drop, why in forms
        ],
    }
    return record


def test_page_draws_every_form_of_a_search_against_the_budget() -> None:
    made, _ = page(searched())
    (plot,) = (each for each in re.findall(r"<svg.*?</svg>", made, re.DOTALL) if "of each form of" in each)
    read = ElementTree.fromstring(plot)
    assert str(read.get("aria-label")).startswith("Accuracy drop of each form of int8@")
    assert "budget 0.01" in plot
    assert plot.count("<circle") == 2  # the third has no number
    assert plot.count('class="dist marked"') == 1
    assert "nodea (–), nodeb (0.2500)" in made
    assert "0.41 × float" in made
    (told,) = summary.searches(typed(searched()))
    assert "3 forms tried, at most 8 for 9 layers, in 12 s: node 2 of 9 layers float (nodea, nodeb)" in told
    assert "drop 0.0040 instead of 0.2000" in told
    assert "3 forms tried" in report.markdown(typed(searched()))


def test_names_of_layers_stay_text() -> None:
    made, read = page(searched(HOSTILE))
    assert not {"script", "img"} & {tag for tag, _ in read.seen}
    assert "\x1b" not in made
    for plot in re.findall(r"<svg.*?</svg>", made, re.DOTALL):
        ElementTree.fromstring(plot)


def test_a_search_that_found_nothing_says_how_near_it_came() -> None:
    record = searched()
    one = next(each for each in record["candidates"] if each["search"])
    one["search"] |= {"taken": None, "ended": "the search's 5 minutes were over before rung 4 (search.minutes)"}
    (told,) = summary.searches(typed(record))
    assert "minutes were over before rung 4 (search.minutes); the smallest drop was 0.0040" in told
    one["search"]["tried"][1]["name"] = "float"
    one["search"]["taken"] = 1
    (told,) = summary.searches(typed(record))
    assert "so float ships under this name" in told


def test_page_without_numbers_leaves_the_plots_out() -> None:
    none = result("int8", artifact=None, measurement=None, model=None, cost_per_million_usd=None, failure="export: no")
    made, read = page(as_json(outcome((none,), Budgets())))
    assert "svg" not in {tag for tag, _ in read.seen}
    assert "No candidate fits the budgets" in made


def test_page_of_no_candidates_is_still_a_page() -> None:
    made, _ = page(as_json(outcome((), Budgets())))
    assert "there was none" in made


@pytest.mark.parametrize("samples", [(0.0,), (5.0, 5.0, 5.0), (1e-6, 1e6), tuple(float(i) for i in range(1, 2000))])
def test_strips_place_any_samples_inside_the_plot(samples: tuple[float, ...]) -> None:
    drawn = svg.strips("t", [svg.Strip(label="a", samples=samples)], [svg.LimitLine(value=50, label="l")], str)
    for element in ElementTree.fromstring(drawn).iter():
        for key in ("x", "x1", "x2", "cx"):
            if key in element.attrib:
                assert -10 <= float(element.attrib[key]) <= svg.WIDTH + 10


def test_bars_and_whiskers_of_noughts_are_drawn() -> None:
    nought = Interval(low=0, value=0, high=0)
    ElementTree.fromstring(svg.bars("t", [svg.PartsBar(label="a", parts=(("model", 0.0),))], [], str))
    ElementTree.fromstring(svg.whiskers("t", [svg.Whisker(label="a", interval=nought)], [], str))


def test_the_chosen_one_is_marked_in_every_plot() -> None:
    results = (
        result("fp32", measurement=measurement(20)),
        result("int8", measurement=measurement(10, 0.5, accuracy=accuracy(0.001, 0, 0.002))),
        result("int8", IMAGE, measurement=measurement(12, 0.6, accuracy=accuracy(0.001, 0, 0.002)), cost_per_million_usd=1.0),
    )
    made, _ = page(as_json(outcome(results, Budgets())))
    for plot in re.findall(r"<svg.*?</svg>", made, re.DOTALL):
        assert plot.count('class="label marked"') == 1


def test_steps_of_candidates_made_alike_stand_once_in_words() -> None:
    record = as_json(typical())
    first, second = record["candidates"][:2]
    step = {"pass": "quantize", "config": {"per_channel": True, "reduce_range": None}, "seconds": 1.0, "cached": False}
    first["steps"] = second["steps"] = [{**step, "notes": {"fused": {"Attention": 6, "Gelu": 2}, "rejected": {}}}]
    record["candidates"] = [first, second]
    made, _ = page(record)
    assert made.count(">quantize<") == 1
    assert f"<h3><code>{first['id']}</code>, <code>{second['id']}</code></h3>" in made
    assert "<td>per channel yes</td><td>fused (Attention 6, Gelu 2)</td>" in made


def test_few_samples_show_their_range_and_no_p95() -> None:
    few = svg.strips("t", [svg.Strip(label="a", samples=(1.0, 2.0, 9.0))], [], lambda value: f"{value:g}")
    assert "p50 2 · at most 9 · n=3" in few
    assert "p95" not in few


def test_limits_do_not_cross_the_numbers_of_a_row() -> None:
    plot = svg.strips("t", [svg.Strip(label="a", samples=(1.0, 2.0))], [svg.LimitLine(value=3.0, label="budget")], str)
    line = re.search(r'<line class="limit" x1="([\d.]+)"', plot)
    assert line is not None
    assert float(line[1]) <= svg.WIDTH - 250


TEMPLATE = ("{{ 7 * 7 }}{% set record = 1 %}{# #}", "{{ record }}", "{% endfor %}", "</style><b>", "</title><b>")


@pytest.mark.parametrize("words", [LOG, MARKDOWN])
def test_hostile_words_are_words_in_the_page(words: tuple[str, ...]) -> None:
    """No element, no attribute and no character that is not seen, whatever is named so."""
    clean = Page(webpage.html(build_record(on_an_estimate())))
    for word in ("".join(words), *TEMPLATE, *('"><script>', "' onload='x", "]]>", "\ufffe\uffff\x0c", "\ud800")):
        record = as_json(on_an_estimate())
        record["recipe"]["name"] = record["machine"]["cpu"] = word
        record["candidates"][0]["id"] = f"{word}0"
        for one in record["candidates"]:
            one["reasons"] = one["package"]["notes"] = [word]
            for step in one["steps"]:
                step["pass"], step["config"], step["notes"] = word, {word: word}, {"x": [word]}
        made = webpage.html(typed(record)).replace("\t", " ")  # which is a space there
        assert CONTROL.search(made) is None
        seen = Page(made).seen
        assert {tag for tag, _ in seen} == {tag for tag, _ in clean.seen}
        assert {name for _, attributes in seen for name in attributes} == {name for _, given in clean.seen for name in given}
        assert made.encode()


def test_names_that_look_like_a_template_are_shown_as_they_are() -> None:
    record = as_json(typical())
    record["recipe"]["name"] = TEMPLATE[0]
    record["candidates"][0]["reasons"] = ["".join(TEMPLATE[1:3])]
    _, read = page(record)
    assert f"{TEMPLATE[0]}: {record['chosen']}" in read.words
    assert "".join(TEMPLATE[1:3]) in read.words


def test_each_value_of_the_page_goes_through_its_one_sink() -> None:
    """The sink stands behind every `{{ }}`; what would give it markup, and so pass it by, is not in the template."""
    source = webpage._file(webpage._PAGE)
    template = Environment().parse(source)
    assert {one.name for one in template.find_all(nodes.Filter)} == {"length"}
    assert not list(template.find_all((nodes.Concat, nodes.MarkSafe, nodes.Include, nodes.FilterBlock, nodes.Extends)))
    marked = {one.name for one in template.find_all(nodes.Name)} & {"Markup", "markup", "safe"}
    assert not marked


def test_a_field_that_a_record_does_not_have_is_an_error() -> None:
    """And not an empty place that nobody sees."""
    step = build_record(typical()).candidates[0].steps[0]
    with pytest.raises(UndefinedError, match="cashed"):
        webpage._template().environment.from_string("{{ step.cashed }}").render(step=step)


def test_the_template_engine_is_loaded_for_the_page_alone() -> None:
    loaded = "print('jinja2' in sys.modules)"
    code = f"import sys; from mlpack.report import webpage; {loaded}; webpage._template(); {loaded}"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\nTrue\n"
