"""From weights to the smallest, fastest package that fits the team's budgets, measured on the bytes that will ship."""

__version__ = "0.1.0"
