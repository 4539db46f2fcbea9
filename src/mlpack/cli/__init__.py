"""The command line: it parses words and ends with an exit code. `main` is here for the console script and `python -m
mlpack.cli`."""

from mlpack.cli.commands import main

__all__ = ["main"]
