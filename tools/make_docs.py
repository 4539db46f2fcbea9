"""Writes what is generated in docs/ from the code.

python tools/make_docs.py           write it
python tools/make_docs.py --check   say which files are out of date, and exit 1
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]  # no installation is needed

from tools.docs import documents  # noqa: E402 - the path comes first


def main() -> int:
    """Write the files, or compare them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    check = parser.parse_args().check
    stale = []
    for path, text in documents().items():
        there = ROOT / path
        if there.is_file() and there.read_text("utf-8") == text:
            continue
        stale.append(path)
        if not check:
            there.write_text(text, "utf-8")
    for path in stale:
        print(f"{path} {'is out of date: run `make docs`' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
