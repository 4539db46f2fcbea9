"""What is shown while a build runs: on a terminal, in a log, in two CIs."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import warnings

import pytest
from tests.support.hostile import CONTROL as HIDDEN
from tests.support.hostile import LOG, commands
from tests.support.outcomes import as_json, outcome, result, typed, typical

from mlpack.cli.console import Console, annotate, complain, route_warnings, say, tell
from mlpack.core.records import Budgets
from mlpack.errors import PassError, RecipeError
from mlpack.pipeline.outcome import summarize
from mlpack.report import summary
from mlpack.report.recording import build_record

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(
    *, env: dict[str, str] | None = None, quiet: bool = False, stream: io.StringIO | None = None
) -> tuple[Console, io.StringIO]:
    """A console and what it writes to."""
    to = stream or io.StringIO()
    return Console(quiet=quiet, stream=to, env=env or {}), to


def everything(console: Console) -> None:
    """Each call once."""
    record = as_json(typical())
    with console:
        with console.step("export"), console.step("check"):
            console.note("dynamo won")
        with console.progress("measure", 3) as advance:
            advance(2)
            advance(1)
        console.warn("no bytecode")
        console.table(summarize(typed(record)))
        console.verdict(summarize(typed(record)))


def timeless(text: str) -> str:
    return re.sub(r"\d+\.\d s", "T", text)


def test_a_log_has_a_line_at_each_start_and_end() -> None:
    console, out = shown()
    with console, console.step("export"), console.step("check"):
        console.note("dynamo won")
    assert timeless(out.getvalue()) == "export ...\n  check ...\ndynamo won\n  check: done in T\nexport: done in T\n"


def test_a_log_has_no_control_codes_and_no_colours() -> None:
    for env in ({}, {"CI": "true"}, {"GITHUB_ACTIONS": "true"}, {"TERM": "xterm-256color", "FORCE_COLOR": "1"}):
        console, out = shown(env=env)
        everything(console)
        assert not CONTROL.search(out.getvalue())


def test_a_failing_step_says_failed_and_lets_the_error_through() -> None:
    console, out = shown()
    with pytest.raises(PassError), console, console.step("quantize"):
        raise PassError("no")
    assert "quantize: failed after" in out.getvalue()


def test_a_terminal_gets_colours_and_no_leftover_spinner() -> None:
    console, out = shown(env={"TERM": "xterm-256color", "COLUMNS": "220"}, stream=Terminal())
    everything(console)
    text = out.getvalue()
    assert "\x1b[" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0  # the cursor is shown again as often as it was hidden


@pytest.mark.parametrize("env", [{"TERM": "xterm-256color", "NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_and_dumb_terminals_get_no_colours(env: dict[str, str]) -> None:
    console, out = shown(env=env, stream=Terminal())
    everything(console)
    assert not re.search(r"\x1b\[(3\d|9\d|38;|48;)", out.getvalue())


def test_a_dumb_terminal_gets_no_control_codes() -> None:
    console, out = shown(env={"TERM": "dumb"}, stream=Terminal())
    everything(console)
    assert not CONTROL.search(out.getvalue())


def test_github_folds_outer_steps_once() -> None:
    console, out = shown(env={"GITHUB_ACTIONS": "true"})
    with console, console.step("build"), console.step("export"):
        pass
    assert timeless(out.getvalue()) == "::group::build\n  export ...\n  export: done in T\n::endgroup::\nbuild: done in T\n"


def test_gitlab_gets_section_markers_that_match() -> None:
    console, out = shown(env={"GITLAB_CI": "true"})
    with console, console.step("build"):
        pass
    text = out.getvalue()
    start = re.search(r"\x1b\[0Ksection_start:\d+:(\w+)\[collapsed=true\]\r\x1b\[0Kbuild\n", text)
    assert start is not None
    assert re.search(rf"\x1b\[0Ksection_end:\d+:{start[1]}\r\x1b\[0K\n", text)


def test_nobody_can_give_github_a_command() -> None:
    console, out = shown(env={"GITHUB_ACTIONS": "true"})
    record = as_json(typical())
    for one in record["candidates"]:
        one["id"] = "::set-output name=x::y"
        one["reasons"] = ["first\n::error::forged", "##[error]forged"]
    record["chosen"] = None
    with console:
        with console.step("a\n::add-mask::b"):
            console.note("  ::add-mask::secret\n##[group]x")
        console.warn("50 %\n::stop-commands::x")
        console.table(summarize(typed(record)))
        console.verdict(summarize(typed(record)))
    lines = out.getvalue().splitlines()
    commands = [line for line in lines if line.lstrip().startswith("::")]
    assert "::group::a ::add-mask::b" in commands
    assert "::warning title=mlpack::50 %25%0A::stop-commands::x" in commands
    assert {line.split("::")[1].split(" ")[0] for line in commands} == {"group", "endgroup", "warning", "error"}
    assert sum(line.startswith("::error title=mlpack::minilm: no candidate fits") for line in commands) == 1
    assert not any("##[" in line for line in lines)


def test_control_codes_of_others_never_reach_the_stream() -> None:
    console, out = shown()
    with console, console.step("a\x1b]0;title\x07"):
        console.note("b\x1b[2J\r\x9bc")
    assert not CONTROL.search(out.getvalue())


def test_table_has_every_column_in_a_log_and_fewer_when_narrow() -> None:
    record = as_json(typical())
    wide, narrow = shown(), shown(env={"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "110"}, stream=Terminal())
    for console, _ in (wide, narrow):
        console.table(summarize(typed(record)))
    assert "compressed" in wide[1].getvalue()
    assert "compressed" not in narrow[1].getvalue()
    for text in (wide[1].getvalue(), narrow[1].getvalue()):
        assert "int8@lambda-zip-x86_64" in text
        assert "accuracy drop" in text
        assert "$/million" in text
    assert max(len(line) for line in narrow[1].getvalue().splitlines()) <= 110


def test_the_verdict_names_the_winner_or_every_first_reason() -> None:
    console, out = shown()
    console.verdict(summarize(build_record(typical())))
    failed, chosen = out.getvalue().splitlines()
    assert failed == "  static-int8@lambda-zip-x86_64: failed: quantize: nothing to do"
    assert chosen.startswith("minilm: int8@lambda-zip-x86_64 chosen (41.0 MB zip, p95 ")
    console, out = shown()
    console.verdict(summarize(build_record(outcome((result("int8"),), Budgets(package_size_bytes=1)))))
    assert out.getvalue() == (
        "minilm: no candidate fits the budgets (1 over budget)\n"
        "  int8@lambda-zip-x86_64: over budget: package size 40.0 MB exceeds the budget of 1 bytes\n"
    )


def test_quiet_keeps_warnings_and_bad_news() -> None:
    console, out = shown(quiet=True)
    everything(console)
    assert out.getvalue() == "warning: no bytecode\n"
    console.verdict(summarize(build_record(outcome((result("int8"),), Budgets(package_size_bytes=1)))))
    assert "no candidate fits" in out.getvalue()


def test_annotations_stand_at_the_file_and_line_of_each_problem() -> None:
    out = io.StringIO()
    error = RecipeError(
        "recipes/a,b.yaml:12:5: targets.lambda-zip.memory_mb: 64 is less than 128",
        "recipe.yaml:3: metric: unknown, did you mean top1?",
        "eval.npz: counts disagree\n::error::forged",
    )
    annotate(error, out, {"GITHUB_ACTIONS": "true"})
    assert out.getvalue().splitlines() == [
        "::error file=recipes/a%2Cb.yaml,line=12,col=5::targets.lambda-zip.memory_mb: 64 is less than 128",
        "::error file=recipe.yaml,line=3::metric: unknown, did you mean top1?",
        "::error title=mlpack::eval.npz: counts disagree%0A::error::forged",
    ]


def test_no_annotations_outside_github() -> None:
    out = io.StringIO()
    annotate(RecipeError("a.yaml:1: b"), out, {"GITLAB_CI": "true"})
    assert out.getvalue() == ""


MEANT = ("::group::", "::endgroup::", "::warning ", "::error ")


def _said(console: Console, word: str) -> None:
    """Each call once, with this word wherever somebody else names something."""
    record = as_json(typical())
    for one in record["candidates"]:
        one["id"], one["status"], one["reasons"] = word, word, [word]
        one["accuracy"]["metric"] = word
    record["recipe"]["name"] = word
    with console:
        with console.step(word), console.step(word), console.progress(word, 2) as advance:
            advance(1)
            console.note(word)
        console.warn(word)
        console.table(summarize(typed(record)))
        console.verdict(summarize(typed(record)))
        record["chosen"] = None
        console.verdict(summarize(typed(record)))


@pytest.mark.parametrize("env", [{}, {"GITHUB_ACTIONS": "true"}, {"TF_BUILD": "True"}, {"BUILDKITE": "true"}])
def test_nobody_can_give_any_ci_a_command(env: dict[str, str]) -> None:
    for word in ("\n".join(LOG[:-2]), LOG[-1]):
        console, out = shown(env=env)
        _said(console, word)
        complain(RecipeError(word, f"a.yaml:1: {word}"), out, env)
        tell(word, out)
        say(word, out)
        assert HIDDEN.search(out.getvalue()) is None
        assert not commands(out.getvalue(), MEANT)
        assert env or not commands(out.getvalue())


def test_a_terminal_gets_only_the_codes_of_the_display() -> None:
    console, out = shown(env={"TERM": "xterm-256color", "COLUMNS": "220"}, stream=Terminal())
    _said(console, "\n".join(LOG[:-2]))
    text = out.getvalue()
    assert "\x1b]" not in text
    assert HIDDEN.search(re.sub(r"\x1b\[\??[0-9;]*[a-zA-Z]|\r", "", text)) is None
    assert "\x1b[2J" not in text


def test_a_message_cannot_be_taken_for_two() -> None:
    console, out = shown()
    console.note("fine\nmlpack: published minilm@1")
    console.warn("fine\nwarning: nothing")
    complain(RecipeError("fine\nmlpack: all good"), out, {})
    said = "fine\n  mlpack: published minilm@1\nwarning: fine\n  warning: nothing\nmlpack: fine\n  mlpack: all good\n"
    assert out.getvalue() == said


def test_an_error_of_many_problems_is_cut() -> None:
    out = io.StringIO()
    complain(RecipeError(*(f"r.yaml:{line}: wrong" for line in range(1, 5_001))), out, {"GITHUB_ACTIONS": "true"})
    lines = out.getvalue().splitlines()
    assert "mlpack: ... (4,000 more problems)" in lines
    assert sum(line.startswith("::error") for line in lines) == 50


def test_a_stderr_that_cannot_be_written_to_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    record = as_json(typical())
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    for number in (full, writing):
        with os.fdopen(number, "w") as stream, Console(stream=stream, env={}) as console, console.step("a"):
            console.warn("b")
            console.table(summarize(typed(record)))
    monkeypatch.setattr(sys, "stderr", None)
    with Console(env={}) as console:
        console.warn("b")
    tell("c")


def test_warnings_and_loggers_of_others_are_messages_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    route_warnings()
    assert logging.lastResort is not None
    logging.lastResort.handle(logging.LogRecord("x", logging.WARNING, "x.py", 1, "a\n::error::%s", ("b\x1b[31m",), None))
    warnings.showwarning("a\n::error::b", UserWarning, "x.py", 1)
    assert capsys.readouterr().err == "a ::error::b\\x1b[31m\nUserWarning: a ::error::b\n"


@pytest.mark.parametrize("columns", ["0", "1", "-5", "many", "20"])
def test_no_width_of_a_terminal_hides_what_was_decided(columns: str) -> None:
    console, out = shown(env={"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": columns}, stream=Terminal())
    everything(console)
    assert "minilm: int8@lambda-zip-x86_64 chosen" in out.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_long_name_of_a_candidate_cuts_no_number(columns: int) -> None:
    """A number that lacks its end is a wrong number: the name goes over several lines instead, and none of it is lost either."""
    record = as_json(typical())
    long = "int8-" + "données" * 15 + "@lambda-zip-x86_64"
    record["candidates"][0]["id"] = long
    console, out = shown(env={"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(columns)}, stream=Terminal())
    console.table(summarize(typed(record)))
    said = out.getvalue()
    assert max(map(len, said.splitlines())) <= columns
    assert long in "".join(line[: line.find("  ", 1)].strip() for line in said.splitlines())
    for one in typed(record).candidates:
        name, status, size, *_, price = summary.row(one, record["chosen"])
        for cell in (status, size, price):
            assert cell in said, (name, cell)
