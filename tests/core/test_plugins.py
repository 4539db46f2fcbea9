"""Rows of other distributions: looked up without importing them, loaded when asked for, refused in words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support import plugin_distributions

from mlpack.core import plugins
from mlpack.core.plugins import Plugin, Table
from mlpack.errors import PassError, PluginError

ACME = Plugin(distribution="acme-mlpack", version="1.2", value="acme_rows:ROW")


def adopted(named: object, plugin: Plugin) -> str:
    if not isinstance(named, str):
        raise ValueError("is no row")
    return f"{named} by {plugin}"


def table() -> Table[str]:
    return Table("mlpack.passes", "pass", {"quantize": "ours"}, adopted)


def offer(monkeypatch: pytest.MonkeyPatch, folder: Path, source: str, *names: str, **more: str) -> None:
    points = {"mlpack.passes": dict.fromkeys(names or ("round",), "acme_rows:ROW")}
    plugin_distributions.install(monkeypatch, folder, points, {"acme_rows.py": source}, **more)


def test_row_of_a_plugin_is_a_row_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "round" not in table()
    offer(monkeypatch, tmp_path, "ROW = 'theirs'")
    found = table()
    assert (found["round"], found["quantize"], found.written("quantize")) == ("theirs by acme-mlpack 1.2", "ours", "ours")
    assert tuple(found) == ("quantize", "round")
    assert len(found) == 2
    assert "nothing" not in found
    with pytest.raises(KeyError):
        found["nothing"]


def test_names_are_listed_without_importing_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tmp_path, "raise SystemExit('imported')")
    assert "round" in table()
    assert list(table()) == ["quantize", "round"]
    assert table().written("quantize") == "ours"
    assert "acme_rows" not in sys.modules


def test_what_does_not_load_is_told_with_its_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "import acme_lacks": r"there is no module 'acme_lacks'\. Install what it needs, or update acme-mlpack",
        "raise SystemExit('stop')": r"SystemExit: stop \(.*acme_rows\.py:1\)",
        "1 / 0": r"ZeroDivisionError: division by zero \(.*acme_rows\.py:1\)",
        "ROW = ": "SyntaxError",
        "OTHER = 1": "has no attribute 'ROW'",
        "ROW = 3": "cannot be used: it is no row",
    }
    for number, (source, said) in enumerate(sources.items()):
        with monkeypatch.context() as patch:
            offer(patch, tmp_path / str(number), source)
            with pytest.raises(PluginError, match=said) as caught:
                table()["round"]
            assert "the pass 'round' of acme-mlpack 1.2 (entry point acme_rows:ROW in mlpack.passes)" in str(caught.value)
            assert caught.value.exit_code == 3


def test_name_of_our_own_is_refused_and_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tmp_path, "ROW = 'theirs'", "quantize")
    assert table()["quantize"] == "ours"
    assert tuple(table()) == ("quantize",)
    with pytest.raises(
        PluginError, match=r"'quantize' is a pass of mlpack itself, and acme-mlpack 1\.2 .*pip uninstall acme-mlpack"
    ):
        table().written("quantize")


def test_name_of_two_distributions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tmp_path / "one", "ROW = 'theirs'")
    offer(monkeypatch, tmp_path / "other", "ROW = 'theirs'", name="other-mlpack", version="3")
    with pytest.raises(PluginError, match=r"2 plug-ins offer a pass named 'round': .*(acme-mlpack 1\.2|other-mlpack 3).* and "):
        table()["round"]


def test_older_copy_further_down_the_path_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tmp_path / "old", "ROW = 'old'", name="Acme.Mlpack", version="1.0")
    offer(monkeypatch, tmp_path / "new", "ROW = 'new'")
    assert table()["round"] == "new by acme-mlpack 1.2"


@pytest.mark.parametrize("name", ["Round", "ro und", "ro/und", "..", "r" * 65])
def test_name_that_no_recipe_can_write_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tmp_path, "ROW = 'theirs'", name)
    with pytest.raises(PluginError, match="has a name that no recipe can write"):
        table()[name]


@pytest.mark.parametrize("text", ["[mlpack.passes]\nround", "[mlpack.passes]\nround = ", "mlpack.passes", "\xff[mlpack.passes]"])
def test_damaged_entry_points_stop_nobody(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tmp_path, "ROW = 'theirs'")
    (tmp_path / "acme_mlpack-1.2.dist-info/entry_points.txt").write_bytes(text.encode("latin-1"))
    assert table().written("quantize") == "ours"
    assert [each.problem is not None for each in table().offers()] in ([], [True])


def test_offers_are_listed_with_what_is_wrong_with_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tmp_path, "ROW = 'theirs'", "round", "quantize")
    told = {each.name: each.problem for each in table().offers()}
    assert told["round"] is None
    assert "of mlpack itself" in str(told["quantize"])


@dataclass(frozen=True, kw_only=True)
class Config:
    size: int = 1


@dataclass(kw_only=True)
class Thawed:
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    size: nowhere.Size = 1  # type: ignore[name-defined]  # noqa: F821


def test_config_is_a_frozen_dataclass_with_types_and_fields() -> None:
    assert plugins.of_config(Config, ("size",)) == ("size",)
    for config, needed, said in (
        (Config(), (), "no dataclass"),
        (dict, (), "no dataclass"),
        (Thawed, (), "not frozen"),
        (Unreadable, (), "types cannot be read"),
        (Config, ("arch", "size"), "without arch$"),
    ):
        with pytest.raises(ValueError, match=said):
            plugins.of_config(config, needed)


def broken(_value: object) -> int:
    return int(1 / 0)


def yielding(_value: object) -> Iterator[int]:
    yield 1
    raise RuntimeError("in the middle")


def raising(error: BaseException) -> Any:
    def function(*_given: object) -> None:
        raise error

    return function


def test_faults_of_a_plugins_function_are_told_as_its_own() -> None:
    with pytest.raises(
        PluginError, match=r"test_plugins\.broken of acme-mlpack 1\.2 failed: ZeroDivisionError: .*test_plugins\.py:\d+\)"
    ):
        plugins.guarded(broken, ACME)(0)
    with pytest.raises(PluginError, match="RuntimeError: in the middle"):
        list(plugins.guarded(yielding, ACME)(0))
    with pytest.raises(PluginError, match="returned int, not str: update acme-mlpack"):
        plugins.guarded(len, ACME, str)("four")
    with pytest.raises(PluginError, match="needs the Python package acme_lacks, which is not installed"):
        plugins.guarded(raising(ModuleNotFoundError("none", name="acme_lacks")), ACME)()
    with pytest.raises(PluginError, match="SystemExit: 3"):
        plugins.guarded(raising(SystemExit(3)), ACME)()
    with pytest.raises(PluginError, match="ValueError: negative"):
        plugins.guarded(len, ACME, int, raising(ValueError("negative")))("")
    with pytest.raises(ValueError, match="where a function belongs"):
        plugins.guarded("text", ACME)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [PassError("its own words"), OSError(28, "full"), MemoryError(), KeyboardInterrupt()])
def test_what_has_a_meaning_goes_through_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        plugins.guarded(raising(error), ACME)()
    assert caught.value is error
