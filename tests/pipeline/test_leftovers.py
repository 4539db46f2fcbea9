"""What a build that fails or is interrupted leaves: nothing, at whatever stage that is."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.support.workshop import Workshop

from mlpack.decide import choose
from mlpack.errors import MeasureError, PassError, RecipeError
from mlpack.pipeline import evidence, output, transform, verbs
from mlpack.pipeline.packing import pack, packages, wheels
from mlpack.report import recording, webpage
from mlpack.targets.boot import function

STAGES: dict[str, tuple[Any, str]] = {
    "data": (verbs, "take_data"),
    "step": (transform, "run_alone"),
    "runtime": (pack, "runtime_request"),
    "package": (pack, "pack"),
    "measure": (evidence.Bench, "measure"),
    "decide": (choose, "decide"),
    "record": (recording, "build_record"),
    "report": (webpage, "html"),
    "move": (output, "_replace"),
}
ERRORS = (PassError("broken"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt())


@pytest.fixture
def unpinned(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workshop:
    """A project without a lock, whose pins are found without a network; what lies in the temporary directory is counted."""
    pins = wheels.read_lock(workshop.root / wheels.LOCK_NAME).wheels["3.13-x86_64"]
    (workshop.root / wheels.LOCK_NAME).unlink()
    monkeypatch.setattr(wheels, "resolve", lambda *_: pins)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return workshop


def listed(folder: Path) -> list[str]:
    """Everything beside the recipe, but not in the store."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "store" not in path.relative_to(folder).parts)


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS, ids=["error", "full disk", "interrupt"])
@pytest.mark.parametrize("stage", STAGES)
def test_build_that_fails_leaves_nothing(
    unpinned: Workshop, stage: str, error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = listed(unpinned.root)

    def fail(*_args: Any, **_more: Any) -> None:
        raise error

    monkeypatch.setattr(*STAGES[stage], fail)
    with pytest.raises((type(error), PassError, MeasureError, OSError)):
        unpinned.build(only="fp32@*")
    assert listed(unpinned.root) == before
    assert not list((tmp_path / "tmp").iterdir())
    assert not list((unpinned.store.root / "temporary").iterdir())


def test_build_that_ends_pins_whether_or_not_something_fits(unpinned: Workshop) -> None:
    unpinned.edit(lambda text: text + "budgets: {package_size: 1kB}\n")
    record, _ = unpinned.build(only="fp32@*")
    assert record["chosen"] is None
    assert set(wheels.read_lock(unpinned.root / wheels.LOCK_NAME).wheels) == {"3.13-x86_64"}


def test_lock_that_cannot_be_written_is_said_before_the_work(unpinned: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.os, "access", lambda *_: False)
    with pytest.raises(RecipeError, match=r"mlpack\.lock: .* cannot be written to"):
        unpinned.build(only="fp32@*")


def test_broken_boot_is_no_end_of_a_build(unpinned: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_more: Any) -> None:
        raise PassError("does not come up")

    monkeypatch.setattr(function, "boot", fail)
    record, _ = unpinned.build(only="fp32@*")
    assert record["chosen"] is None
    assert (unpinned.root / wheels.LOCK_NAME).is_file()
