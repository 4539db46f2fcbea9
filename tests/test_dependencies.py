"""What `make` installs and what images stand on: every file by its hash, every base by its digest."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import tomllib
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from packaging.requirements import Requirement

import mlpack

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-cuda.lock", "requirements-site.lock", "requirements-clients.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tool() -> ModuleType:
    spec = util.spec_from_file_location("lock_tool", ROOT / "tools/lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(name: str) -> dict[str, list[str]]:
    """A lock's distributions: `name==version` and their hashes."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            words = line.split()
            found[words[0]] = [word for word in words if word.startswith("--hash=")]
    return found


def named(requirements: list[str]) -> set[str]:
    """The canonical names of requirements, those of this project's own extras left out."""
    names = (re.split(r"[\[<>=~! ]", each)[0] for each in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names} - {mlpack.__distribution__}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_distribution_is_pinned_with_hashes_of_sha256(lock: str) -> None:
    assert len(blocks(lock)) > 10
    for pin, hashes in blocks(lock).items():
        assert re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.+!]+", pin)
        assert hashes
        assert len(hashes) == len(set(hashes))
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes)


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_no_place_to_fetch_from(lock: str) -> None:
    assert not re.search(r"https?://|file:|/opt|--(extra-)?index|--find-links|--trusted", (ROOT / lock).read_text())


def test_all_that_the_project_declares_is_locked() -> None:
    declared = PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        declared += extra
    locked = {pin.partition("==")[0] for pin in blocks(LOCKS[0])}
    assert named(declared) <= locked


def test_all_that_builds_the_site_is_locked_apart_from_the_rest() -> None:
    site, rest = ({pin.partition("==")[0] for pin in blocks(lock)} for lock in (LOCKS[2], LOCKS[0]))
    declared = named(PROJECT["dependency-groups"]["site"])
    assert declared <= site
    assert not declared & rest


def test_all_clients_of_slow_tests_are_locked() -> None:
    assert named(PROJECT["dependency-groups"]["clients"]) <= {pin.partition("==")[0] for pin in blocks(LOCKS[3])}


def test_torch_may_be_pypis_or_a_build_for_the_cpu() -> None:
    ((pin, hashes),) = [(pin, hashes) for pin, hashes in blocks(LOCKS[0]).items() if pin.startswith("torch==")]
    known = tool().CPU_TORCH[pin.partition("==")[2]]
    assert {f"--hash=sha256:{each}" for each in known} < set(hashes)


def test_what_only_cuda_needs_stands_in_its_own_lock() -> None:
    only = tool().ONLY_FOR_CUDA
    assert not [pin for pin in blocks(LOCKS[0]) if only.match(pin)]
    assert all(only.match(pin) for pin in blocks(LOCKS[1]))


def test_nothing_of_cuda_is_installed_where_torch_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tool()
    ran: list[list[str]] = []
    monkeypatch.setattr(lock.subprocess, "run", lambda command, **_: ran.append(command) or type("Done", (), {"returncode": 0}))
    monkeypatch.setattr(lock.importlib.metadata, "requires", lambda _: ["numpy", "sympy>=1", "none; sys_platform == 'nowhere'"])
    assert lock.main(["cuda"]) == 0
    assert ran == []
    monkeypatch.setattr(lock.importlib.metadata, "requires", lambda _: ["nvidia-not-here==1; extra == ''", "numpy"])
    assert lock.main(["cuda"]) == 0
    assert ran[0][-1].endswith(LOCKS[1])
    assert "--require-hashes" in ran[0]


def test_what_builds_the_distribution_is_whole() -> None:
    """hatchling and what it needs, as installed here from the same lock."""
    needed, left = set(), ["hatchling"]
    while left:
        name = left.pop()
        needed.add(name)
        wanted = [Requirement(each) for each in importlib.metadata.requires(name) or ()]
        left += {each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})} - needed
    assert needed == set(tool().BACKEND)
    assert needed <= {pin.partition("==")[0] for pin in blocks(LOCKS[0])}


def test_floors_have_their_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = text[text.index("dependencies = [") : text.index("[project.optional-dependencies]")].splitlines()[1:]
    assert [line for line in listed if line.strip().startswith('"') and "#" not in line] == []


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_dockerfiles_name_a_base_by_digest_that_can_be_replaced(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    (default,) = [line for line in lines if line.startswith("ARG BASE=")]
    assert re.fullmatch(r"ARG BASE=[a-z0-9./-]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", default)
    assert [line for line in lines if line.startswith("FROM")] == ["FROM ${BASE}"]


@pytest.mark.parametrize(("locked", "code"), [(True, 0), (False, 1)])
def test_torch_that_pip_prefers_is_installed_if_it_is_locked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, locked: bool, code: int
) -> None:
    """Told hashes, pip would take PyPI's build for CUDA before one for the CPU in a folder: a folder states none."""
    lock, ran = tool(), []
    digest = hashlib.sha256(b"a wheel").hexdigest() if locked else "0" * 64
    other = f"tqdm==1 \\\n    --hash=sha256:{'1' * 64}\n"
    (tmp_path / "some.lock").write_text(f"{other}torch==2.0 \\\n    --hash=sha256:{digest}\nuv==1\n")
    monkeypatch.setattr(lock, "LOCK", tmp_path / "some.lock")

    def run(command: list[str], **_: bool) -> SimpleNamespace:
        ran.append(command)
        if "download" in command:
            (Path(command[command.index("--dest") + 1]) / "torch-2.0+cpu.whl").write_bytes(b"a wheel")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(lock.subprocess, "run", run)
    assert lock.main(["torch"]) == code
    assert ran[0][-1] == "torch==2.0"
    assert [command[-1].rpartition("/")[2] for command in ran[1:]] == (["torch-2.0+cpu.whl"] if locked else [])
