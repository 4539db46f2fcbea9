"""Tests of `mlpack.core.entrypoint`: where a function is looked up, what counts as the user's own, and whose error it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mlpack.core import entrypoint
from mlpack.errors import PassError, RecipeError


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("app:decode", True),
        ("a.b_c:d1", True),
        ("app.decode", False),
        ("C:\\data.npz", False),
        ("a:b:c", False),
        ("1a:b", False),
        ("a:", False),
        ("é:b", False),
    ],
)
def test_reference_is_told_from_a_path(text: str, is_one: bool) -> None:
    assert entrypoint.is_reference(text) is is_one


def test_first_root_that_has_the_module_is_taken(tmp_path: Path) -> None:
    beside, working = _write(tmp_path / "a", {"x.py": ""}), _write(tmp_path / "b", {"x.py": "", "y.py": ""})
    assert entrypoint.locate("x:f", (beside, working)).root == beside
    assert entrypoint.locate("y:f", (beside, working)).root == working


def test_files_of_a_plain_module_are_all_beside_it(tmp_path: Path) -> None:
    _write(tmp_path, {"app.py": "", "other.py": "", "data.txt": "", "sub/more.py": ""})
    assert entrypoint.locate("app:f", (tmp_path,)).files == ("app.py", "other.py")


def test_files_of_a_package_are_all_below_its_top(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {
            "net/__init__.py": "",
            "net/a/model.py": "",
            "net/b.py": "",
            "net/.cache/c.py": "",
            "net/__pycache__/d.py": "",
            "o.py": "",
        },
    )
    assert entrypoint.locate("net.a.model:f", (tmp_path,)).files == ("net/__init__.py", "net/a/model.py", "net/b.py")
    assert entrypoint.locate("net:f", (tmp_path,)).files == ("net/__init__.py", "net/a/model.py", "net/b.py")


def test_content_changes_with_any_file_that_counts(tmp_path: Path) -> None:
    _write(tmp_path, {"app.py": "a = 1", "other.py": "b = 1", "note.txt": "c"})
    before = entrypoint.content(entrypoint.locate("app:f", (tmp_path,)))
    (tmp_path / "note.txt").write_text("d")
    assert entrypoint.content(entrypoint.locate("app:f", (tmp_path,))) == before
    (tmp_path / "other.py").write_text("b = 2")
    assert entrypoint.content(entrypoint.locate("app:f", (tmp_path,))) != before


def test_missing_module_suggests_one_that_is_there(tmp_path: Path) -> None:
    _write(tmp_path, {"net/__init__.py": "", "net/model.py": ""})
    with pytest.raises(RecipeError, match=r"there is no module net\.modle.*did you mean 'model'"):
        entrypoint.locate("net.modle:build", (tmp_path,))
    with pytest.raises(RecipeError, match="did you mean 'net'"):
        entrypoint.locate("nett:build", (tmp_path,))
    with pytest.raises(RecipeError, match="is not `module:function`"):
        entrypoint.locate("net", (tmp_path,))


def test_load_imports_siblings_and_leaves_no_trace(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {"app_one.py": "import side_one\ndef f(x): return side_one.double(x)", "side_one.py": "def double(x): return 2 * x"},
    )
    path = list(sys.path)
    function = entrypoint.load(entrypoint.locate("app_one:f", (tmp_path,)))
    assert function(21) == 42
    assert sys.path == path
    assert not list(tmp_path.rglob("__pycache__"))


def test_function_may_import_its_siblings_when_it_is_called(tmp_path: Path) -> None:
    _write(tmp_path, {"app_two.py": "def f():\n    import late_two\n    return late_two.VALUE", "late_two.py": "VALUE = 7"})
    assert entrypoint.load(entrypoint.locate("app_two:f", (tmp_path,)))() == 7


def test_module_of_the_same_name_from_elsewhere_is_not_used(tmp_path: Path) -> None:
    first = _write(tmp_path / "a", {"same.py": "def f(): return 'a'"})
    second = _write(tmp_path / "b", {"same.py": "def f(): return 'b'"})
    one = entrypoint.load(entrypoint.locate("same:f", (first,)))
    two = entrypoint.load(entrypoint.locate("same:f", (second,)))
    assert (one(), two(), one()) == ("a", "b", "a")


def test_users_module_may_be_called_like_an_imported_one(tmp_path: Path) -> None:
    _write(tmp_path, {"json.py": "def f(): return 'mine'"})
    assert entrypoint.load(entrypoint.locate("json:f", (tmp_path,)))() == "mine"
    assert sys.modules["json"] is json
    assert json.loads("[1]") == [1]


def test_missing_function_suggests_one_that_is_there(tmp_path: Path) -> None:
    _write(tmp_path, {"app_three.py": "def decode(): pass\nVALUE = 3"})
    with pytest.raises(RecipeError, match="has no function decod; did you mean 'decode'"):
        entrypoint.load(entrypoint.locate("app_three:decod", (tmp_path,)))
    with pytest.raises(RecipeError, match="VALUE is a int, which cannot be called"):
        entrypoint.load(entrypoint.locate("app_three:VALUE", (tmp_path,)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nonexistent_thing", "bad.py:1: ModuleNotFoundError: No module named 'nonexistent_thing'"),
        ("x = 1\n1 / 0", "bad.py:2: ZeroDivisionError: division by zero"),
        ("def f(:\n", "bad.py:1: SyntaxError"),
        ("raise SystemExit(3)", "bad.py:1: SystemExit: 3"),
        ("class E(Exception): pass\n\nraise E", "bad.py:3: E (raised while importing bad)"),
    ],
)
def test_error_while_importing_is_quoted_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    _write(tmp_path, {"bad.py": text})
    with pytest.raises(RecipeError) as raised:
        entrypoint.load(entrypoint.locate("bad:f", (tmp_path,)))
    assert str(raised.value).startswith(said)


def test_error_while_calling_is_quoted_with_the_users_line(tmp_path: Path) -> None:
    _write(tmp_path, {"app_four.py": "import json\ndef f():\n    return g()\n\ndef g():\n    return json.loads('[')\n"})
    with pytest.raises(RecipeError, match=r"^app_four\.py:6: JSONDecodeError: .*raised while calling app_four:f"):
        entrypoint.load(entrypoint.locate("app_four:f", (tmp_path,)))()


def test_interrupts_and_our_own_errors_pass_through(tmp_path: Path) -> None:
    _write(tmp_path, {"app_five.py": "def f(error): raise error"})
    function = entrypoint.load(entrypoint.locate("app_five:f", (tmp_path,)))
    with pytest.raises(KeyboardInterrupt):
        function(KeyboardInterrupt())
    with pytest.raises(PassError, match="ours"):
        function(PassError("ours"))
