"""What ships of wheels that nobody has read: trees as installers leave them, of every habit that we know of."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from mlpack.errors import PackError
from mlpack.pipeline.packing.slimming import contested, slim_unknown

METADATA = """Metadata-Version: 2.4
Name: Demo_Kit
Version: 1.2
License-Expression: MIT
Classifier: License :: OSI Approved :: MIT License
"""


def installed(root: Path, files: dict[str, str], records: dict[str, str] | None = None) -> Path:
    """A tree as `uv pip install --target` writes it, with one distribution."""
    written = {
        "demo_kit-1.2.dist-info/METADATA": METADATA,
        **{f"demo_kit-1.2.dist-info/{name}": text for name, text in (records or {}).items()},
        **files,
    }
    record = "demo_kit-1.2.dist-info/RECORD"
    for path, text in {**written, record: "".join(f"{path},sha256=x,1\n" for path in [*written, record])}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


KIT = {
    "kit/__init__.py": "from kit.core import answer\n",
    "kit/core.py": "answer = 42\n",
    "kit/data/table.csv": "a,b\n",
}
HABITS = {
    "kit/core.pyi": "types, for checkers",
    "kit/py.typed": "types, for checkers",
    "kit/include/kit/kit.h": "headers, for compilers",
    "kit/core.pxd": "sources of Cython, for compilers",
    "kit/lib/libkit.a": "static libraries and settings of linkers",
    "kit/lib/libkit.so.debug": "debug data",
    "kit/tests/test_core.py": "tests that nothing outside them imports",
    "kit/tests/unit/deep/test_more.py": "tests that nothing outside them imports",
    "kit/tests/data.bin": "tests that nothing outside them imports",
    "share/man/man1/kit.1": "manuals",
    "kit-nspkg.pth": "lines for Python's start, which packages go without",
    ".lock": "uv's own",
}  # fmt: skip


def test_files_that_serve_others_are_left_out_and_counted(tmp_path: Path) -> None:
    tree = installed(tmp_path / "tree", {**KIT, **dict.fromkeys(HABITS, "x"), "bin/kit": "#!/usr/bin/python\n"})
    made = slim_unknown(tree, tmp_path / "out")
    assert not [path for path in HABITS if f"site/{path}" in made.paths or (tmp_path / "out/site" / path).exists()]
    assert all(f"site/{path}" in made.paths for path in KIT)
    assert {each.reason for each in made.left_out} == {*HABITS.values(), "console scripts"}
    tests = next(each for each in made.left_out if each.reason.startswith("tests"))
    assert (tests.files, tests.size_bytes) == (3, 3)


@pytest.mark.parametrize(
    "line",
    [
        "from kit.tests import helper",
        "import kit.tests.helper",
        "from .tests.helper import answer",
        "from . import tests",
        "from . import (\n    core,\n    tests,\n)",
        'import importlib; importlib.import_module("kit.tests.helper")',
        'import os; PLACE = os.path.join(os.path.dirname(__file__), "tests")',
        "def late():\n    from .tests import helper",
        "from .tests import helper\nmatch = f'{'a' 'b'}'; type X[T] = list[T]",
    ],
)  # fmt: skip
def test_tests_that_something_names_stay(tmp_path: Path, line: str) -> None:
    tests = {"kit/tests/__init__.py": "", "kit/tests/helper.py": "answer = 1\n", "kit/tests/test_it.py": ""}
    tree = installed(tmp_path / "tree", {**KIT, **tests, "kit/more.py": line + "\n"})
    assert {f"site/{path}" for path in tests} <= set(slim_unknown(tree, tmp_path / "out").paths)


def test_what_only_looks_like_a_habit_stays(tmp_path: Path) -> None:
    kept = {
        "kit/test/client.py": "a client for tests of others, as web frameworks have\n",
        "kit/docs/__init__.py": "read by code, as in botocore\n",
        "kit/view.py": "import lazy_loader\n__getattr__ = lazy_loader.attach_stub(__name__, __file__)\n",
        "kit/view.pyi": "from .core import answer\n",
        "triton/backends/include/cuda.h": "compiled at run time\n",
        "bin/tool": "\x7fELF",
        "tests/test_top.py": "a top-level package of that name\n",
        "kit/libs/libkit.so.1": "x",
    }
    tree = installed(tmp_path / "tree", {**KIT, **kept})
    assert {f"site/{path}" for path in kept} <= set(slim_unknown(tree, tmp_path / "out").paths)


def test_metadata_and_licences_are_there_for_their_readers(tmp_path: Path) -> None:
    records = {
        "entry_points.txt": "[kit.plugins]\nown = kit.core:answer\n",
        "licenses/LICENSE.txt": "MIT says",
        "licenses/third/NOTICE": "more",
        "WHEEL": "Wheel-Version: 1.0\n",
        "INSTALLER": "uv",
    }
    made = slim_unknown(installed(tmp_path / "tree", {**KIT, "kit/core.pyi": "x"}, records), tmp_path / "out")
    assert {"licenses/demo-kit/LICENSE.txt", "licenses/demo-kit/third/NOTICE"} <= set(made.paths)
    (found,) = metadata.distributions(path=[str(tmp_path / "out/site")])
    assert (found.version, [each.value for each in found.entry_points]) == ("1.2", ["kit.core:answer"])
    assert {str(file) for file in found.files or ()} >= {*KIT, "demo_kit-1.2.dist-info/METADATA"}
    assert all(file.locate().is_file() for file in found.files or ())
    (told,) = made.distributions
    assert (told.name, told.version, told.license, told.classifiers) == ("demo-kit", "1.2", "MIT", ("MIT License",))
    assert told.size_bytes > sum(len(text) for text in KIT.values())


def test_without_a_licence_file_the_metadata_are_carried(tmp_path: Path) -> None:
    made = slim_unknown(installed(tmp_path / "tree", KIT), tmp_path / "out")
    assert (tmp_path / "out/licenses/demo-kit/METADATA").read_text() == METADATA
    assert "licenses/demo-kit/METADATA" in made.paths


def test_licences_among_manuals_ship(tmp_path: Path) -> None:
    texts = [f"share/doc/kit-1.2/{name}" for name in ("LICENSE.txt", "copying", "more/Licence_of_data.md", "NOTICE")]
    others = ["share/doc/kit-1.2/guide.txt", "share/doc/kit-1.2/licensed/example.py"]
    made = slim_unknown(installed(tmp_path / "tree", {**KIT, **dict.fromkeys([*texts, *others], "x")}), tmp_path / "out")
    assert {f"site/{path}" for path in texts} <= set(made.paths)
    assert not {f"site/{path}" for path in others} & set(made.paths)


def test_slimming_can_be_switched_off(tmp_path: Path) -> None:
    tree = installed(tmp_path / "tree", {**KIT, **dict.fromkeys(HABITS, "x")})
    made = slim_unknown(tree, tmp_path / "out", slim=False)
    assert {f"site/{path}" for path in HABITS if path != ".lock"} <= set(made.paths)
    assert [(each.reason, each.files) for each in made.left_out] == [("uv's own", 1)]


@pytest.mark.parametrize("slim", [True, False])
def test_nothing_that_an_installer_wrote_of_its_machine_ships(tmp_path: Path, slim: bool) -> None:
    here = ("bin/kit", "demo_kit-1.2.dist-info/direct_url.json", "demo_kit-1.2.dist-info/uv_cache.json")
    tree = installed(tmp_path / "tree", {**KIT, **dict.fromkeys(here, "#!/home/me/.venv/bin/python"), "bin/tool": "a program"})
    made = slim_unknown(tree, tmp_path / "out", slim=slim)
    assert not {f"site/{path}" for path in here} & set(made.paths)
    assert "site/bin/tool" in made.paths
    assert not [path for path in made.paths if b"/home/me" in (tmp_path / "out" / path).read_bytes()]


def test_a_record_may_name_what_it_likes(tmp_path: Path) -> None:
    tree = installed(tmp_path / "tree", KIT)
    (tmp_path / "outside.py").write_text("")
    for name, told in (("first-1", "a"), ("second-1", "b")):
        rows = ("kit/core.py", "../outside.py", str(tmp_path / "outside.py"), "kit/../kit/core.py", "absent.py", "kit")
        (tree / f"{name}.dist-info").mkdir()
        (tree / f"{name}.dist-info/RECORD").write_text("".join(f"{path},sha256={told},1\n" for path in rows))
    assert contested(tree) == {"second": ["kit/core.py"]}


def test_files_of_one_place_have_equal_bytes_or_stop_the_build(tmp_path: Path) -> None:
    for text in ("answer = 42\n", "answer = 43\n"):
        (tmp_path / "out/site/kit").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out/site/kit/core.py").write_text(text)
        tree = installed(tmp_path / text[-3:-1], KIT)
        if text == KIT["kit/core.py"]:
            slim_unknown(tree, tmp_path / "out")
            continue
        with pytest.raises(PackError, match=r"mlpack's own part of the package and a wheel have a file site/kit/core.py each"):
            slim_unknown(tree, tmp_path / "out")


def test_a_link_in_a_wheel_is_refused(tmp_path: Path) -> None:
    tree = installed(tmp_path / "tree", KIT)
    (tree / "kit/link.py").symlink_to("/etc/hostname")
    with pytest.raises(PackError, match=r"'kit/link.py', which is no plain file"):
        slim_unknown(tree, tmp_path / "out")
