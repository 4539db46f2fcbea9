"""The command line as click knows it: every command with its arguments, options and defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
from tools.docs.markdown import table

from mlpack.cli.commands import cli
from mlpack.registry.releases import forms

_DEFAULT = re.compile(r"\s*\[default: (.+)\]$")


def commands() -> Iterator[str]:
    """A table of all commands, then a section for each."""
    every = dict(_walk(cli, "mlpack"))
    verbs = {name: command for name, command in every.items() if not isinstance(command, click.Group)}
    yield from table(
        ("command", "what it does"),
        ((f"[`{name}`](#{name.replace(' ', '-')})", _first_sentence(command)) for name, command in verbs.items()),
    )
    yield "## mlpack\n"
    yield from _section("mlpack", cli)
    for name, command in verbs.items():
        yield f"## {name}\n"
        yield from _section(name, command)


def fields() -> Iterator[str]:
    """What `mlpack show --field` can print."""
    yield ", ".join(f"`{name}`" for name in forms.FIELDS)


def _walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for word, below in sorted(command.commands.items()):
            yield from _walk(below, f"{name} {word}")


def _section(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    yield f"```\n{name} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    yield f"{_help(command)}\n"
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if options:
        yield from table(("option", "default", "meaning"), (_option(each, context) for each in options))


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    """The row of an option: how it is written, its default, and what it means."""
    names = ", ".join(option.opts)
    written = names if option.is_flag else f"{names} {option.make_metavar(context)}"
    meaning, default = option.help or "", ""
    if match := _DEFAULT.search(meaning):
        meaning, default = meaning[: match.start()], match[1]
    elif option.required:
        default = "**required**"
    elif option.show_default:
        default = _value(option.get_default(context, call=False))
    default = f"`{default}`" if re.search(r"[<./_]", default) else default
    if isinstance(option.envvar, str):
        default = f"`{option.envvar}`, else {default}" if default else f"`{option.envvar}`"
    return f"`{written}`", default, meaning


def _value(default: object) -> str:
    values = default if isinstance(default, tuple) else (default,)
    return " ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in values)


def _help(command: click.Command) -> str:
    return " ".join((command.help or "").split())


def _first_sentence(command: click.Command) -> str:
    return re.split(r"(?<=[.;])\s", _help(command))[0].rstrip(";.")
