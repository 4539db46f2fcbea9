"""Rows that other distributions add to a table of mlpack's: named by their entry points, loaded when somebody asks for one.

Promises: a table's own rows come first and load nothing of anybody else's; looking which names there are imports no plug-in, only
asking for a row does. A name that mlpack has itself, or that two distributions offer, is refused; so is what does not load or is
not a row. Each refusal names the distribution, its entry point and what to do. Will not install anything.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_type_hints

from mlpack.core.distribution import normalized
from mlpack.errors import MlpackError, PluginError

GROUPS = ("mlpack.passes", "mlpack.targets")
"""The groups of entry points, `name = "package.module:ROW"` in each."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
"""What a recipe can write; a target's name is part of a directory's."""

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """Where a row that is not mlpack's own comes from. `value`: the entry point's, `package.module:ROW`."""

    distribution: str
    version: str
    value: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One entry point of a table's group. `problem`: why it cannot be used, in words; None where it can."""

    name: str
    plugin: Plugin
    problem: str | None


class Table(Mapping[str, Row], Generic[Row]):
    """A table's own rows, and those of the installed plug-ins.

    Args:
        group: The entry points' group, one of `GROUPS`.
        noun: What a row is, for messages: "pass".
        own: mlpack's own rows, by their names.
        adopt: Makes a row of what an entry point names. Raises ValueError with what is wrong with it, in words that follow "it".
    """

    def __init__(self, group: str, noun: str, own: dict[str, Row], adopt: Callable[[object, Plugin], Row]) -> None:
        self.own = own
        self.noun = noun
        self._group = group
        self._adopt = adopt
        self._loaded: dict[str, Row] = {}
        self._seen: object = None

    def __getitem__(self, name: str) -> Row:
        if name in self.own:
            return self.own[name]
        offered = self._offered().get(name, ())
        if not offered:
            raise KeyError(name)
        if (refusal := self._refusal(name, offered)) is not None:
            raise PluginError(refusal)
        if name not in self._loaded:
            self._loaded[name] = self._load(name, offered[0])
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._offered()

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (name for name in sorted(self._offered()) if name not in self.own)

    def __len__(self) -> int:
        return len({*self.own, *self._offered()})

    def written(self, name: str) -> Row:
        """The row for a name that somebody wrote, who may mean a plug-in's.

        Raises:
            KeyError: There is none.
            PluginError: It cannot be told which one is meant, or it cannot be used.
        """
        if name in self.own and (offered := self._offered().get(name)) and (refusal := self._refusal(name, offered)):
            raise PluginError(refusal)
        return self[name]

    def offers(self) -> tuple[Offer, ...]:
        """Every entry point of the group, loaded to see whether it can be used."""
        found = []
        for name, plugins in sorted(self._offered().items()):
            problem = self._refusal(name, plugins)
            if problem is None:
                try:
                    self[name]
                except PluginError as error:
                    problem = str(error)
            found += [Offer(name=name, plugin=plugin, problem=problem) for plugin in plugins]
        return tuple(found)

    def usable(self) -> dict[str, Row]:
        """Its own rows, and those of plug-ins that can be used."""
        return {**self.own, **{each.name: self[each.name] for each in self.offers() if each.problem is None}}

    def _offered(self) -> Mapping[str, tuple[Plugin, ...]]:
        found = _installed(tuple(sys.path))[self._group]
        if found is not self._seen:  # another path, and perhaps other rows of the same names
            self._seen = found
            self._loaded.clear()
        return found

    def _refusal(self, name: str, offered: tuple[Plugin, ...]) -> str | None:
        """Why this name cannot be used, whatever is behind it."""
        who = " and ".join(f"{plugin} ({plugin.value})" for plugin in offered)
        if name in self.own:
            unwanted = " ".join(plugin.distribution for plugin in offered)
            return (
                f"{name!r} is a {self.noun} of mlpack itself, and {who} offers another of that name: it cannot be told which is "
                f"meant. Ask its makers for another name; until then: pip uninstall {unwanted}"
            )
        if len(offered) > 1:
            return (
                f"{len(offered)} plug-ins offer a {self.noun} named {name!r}: {who}. It cannot be told which is meant: uninstall "
                "all but one of them"
            )
        if not _NAME.fullmatch(name):
            return f"the {self.noun} {name!r} of {who} has a name that no recipe can write: ask its makers for another"
        return None

    def _load(self, name: str, plugin: Plugin) -> Row:
        from importlib.metadata import EntryPoint

        what = f"the {self.noun} {name!r} of {plugin} (entry point {plugin.value} in {self._group})"
        do = f"update {plugin.distribution}, or tell its makers"
        try:
            named = EntryPoint(name=name, value=plugin.value, group=self._group).load()
        except ModuleNotFoundError as error:
            why = f"there is no module {error.name!r}"
            raise PluginError(f"{what} cannot be loaded: {why}. Install what it needs, or {do}") from error
        except (Exception, SystemExit) as error:
            why = f"{quoted(error)}. It may be for another mlpack"
            raise PluginError(f"{what} cannot be loaded: {why}: {do}") from error
        try:
            return self._adopt(named, plugin)
        except ValueError as error:
            raise PluginError(f"{what} cannot be used: it {error}. It may be for another mlpack: {do}") from None


def lookup(table: Mapping[str, Row], name: str) -> Row:
    """The row for a name that a recipe writes, of any mapping of rows. Raises as `Table.written` does."""
    return table.written(name) if isinstance(table, Table) else table[name]


def of_config(config: object, needed: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The fields of a row's config.

    Args:
        config: What the row has as `config`.
        needed: Fields that it must have.

    Raises:
        ValueError: It is no frozen dataclass, its types cannot be read, or it lacks a field; in words that follow "it".
    """
    if not isinstance(config, type) or not dataclasses.is_dataclass(config):
        raise ValueError(f"has a config that is no dataclass ({config!r})")
    if not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # what every dataclass has
        raise ValueError(f"has a config that is not frozen: @dataclass(frozen=True, kw_only=True) on {config.__name__}")
    try:
        get_type_hints(config)
    except Exception as error:
        raise ValueError(f"has a config whose types cannot be read ({quoted(error)})") from error
    fields = tuple(field.name for field in dataclasses.fields(config))
    if lacking := [name for name in needed if name not in fields]:
        raise ValueError(f"has a config without {' and '.join(lacking)}")
    return fields


def guarded(
    function: Callable[..., Any], plugin: Plugin, gives: type | None = None, check: Callable[[Any], object] | None = None
) -> Callable[..., Any]:
    """A plug-in's function whose own faults are told as the plug-in's, not as mlpack's.

    Args:
        function: The plug-in's; its `MlpackError`s, full disks and want of memory go through as they are.
        plugin: Whose it is.
        gives: What it must return; None: whatever it likes. What an iterator raises later is told likewise.
        check: Raises an exception for a result that nobody could use.

    Returns:
        The function to call instead. It raises PluginError.
    """
    if not callable(function):
        raise ValueError(f"has {function!r} where a function belongs")

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            result = function(*args, **options)
            if check is not None:
                check(result)
        except (MlpackError, OSError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise _broken(function, plugin, error) from error
        if gives is not None and not isinstance(result, gives):
            said = f"{type(result).__name__}, not {gives.__name__}"
            raise PluginError(f"{_name_of(function)} of {plugin} returned {said}: update {plugin.distribution}, or tell its makers")
        return _watched(result, function, plugin) if isinstance(result, Iterator) else result

    return call


def _watched(items: Iterator[Any], function: Callable[..., Any], plugin: Plugin) -> Iterator[Any]:
    try:
        yield from items
    except (MlpackError, OSError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise _broken(function, plugin, error) from error


def _broken(function: Callable[..., Any], plugin: Plugin, error: BaseException) -> PluginError:
    if isinstance(error, ModuleNotFoundError):
        return PluginError(f"{_name_of(function)} of {plugin} needs the Python package {error.name}, which is not installed here")
    do = f"The fault is the plug-in's: update {plugin.distribution}, or tell its makers"
    return PluginError(f"{_name_of(function)} of {plugin} failed: {quoted(error)}. {do}")


def _name_of(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"


def quoted(error: BaseException) -> str:
    """An exception in a line, with where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}{where}"


@functools.lru_cache(maxsize=4)
def _installed(_path: tuple[str, ...]) -> Mapping[str, Mapping[str, tuple[Plugin, ...]]]:
    """By group and name, what the distributions on this `sys.path` offer. Imports none of them."""
    from importlib import metadata

    found: dict[str, dict[str, tuple[Plugin, ...]]] = {group: {} for group in GROUPS}
    seen = set()
    for distribution in metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if not any(group in text for group in GROUPS):
                continue  # most of them: nothing else of theirs is read
            entries = [entry for entry in distribution.entry_points if entry.group in GROUPS]
            name, version = str(distribution.metadata["Name"]), str(distribution.version)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            continue  # damaged, and its installer's business
        known = normalized(name)
        if known in seen:
            continue  # an older copy further down the path
        seen.add(known)
        for entry in entries:
            plugin = Plugin(distribution=name, version=version, value=entry.value)
            found[entry.group][entry.name] = (*found[entry.group].get(entry.name, ()), plugin)
    return found
