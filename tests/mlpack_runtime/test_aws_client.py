"""Where botocore is looked for: in the package, else in the Python that runs it, which may not know its own site-packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.runtime.tiny_packages import SOURCES
from tests.support.runtime.workers import add_botocore

PROGRAM = """
import sys
sys.base_prefix, root = sys.argv[1:]
sys.path.insert(0, root)
from mlpack_runtime import aws
try:
    aws.client("s3", region_name="eu-west-1")
except aws.AwsError as error:
    sys.exit(f"AwsError: {error}")
"""


def made(tmp_path: Path, place: str) -> tuple[Path, Path]:
    """A Python's folder and a package's; botocore is in the one that is named."""
    root, prefix = tmp_path / "task", tmp_path / "python"
    root.mkdir()
    (root / "mlpack_runtime").symlink_to(SOURCES)
    library = prefix / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    (library / "site").mkdir(parents=True)
    if place == "python":
        add_botocore(library)
        (library / "site").rename(library / "site-packages")
    return prefix, root


@pytest.mark.parametrize(("place", "words"), [("python", ""), ("nowhere", "AwsError: botocore is neither in this package nor")])
def test_botocore_of_the_python_is_taken_where_none_is_packed(tmp_path: Path, place: str, words: str) -> None:
    prefix, root = made(tmp_path, place)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, "-I", "-S", program, prefix, root], capture_output=True, text=True, check=False)
    assert done.stderr.startswith(words), done.stderr
    assert (done.returncode == 0) is (words == "")
