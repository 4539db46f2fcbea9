"""`python -m mlpack.cli`."""

from mlpack.cli.commands import main

if __name__ == "__main__":
    main()
