"""The command line: words in, exit codes out. `main` is named here for the console script and `python -m mlpack.cli`."""

from mlpack.cli.commands import main

__all__ = ["main"]
