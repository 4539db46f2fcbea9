"""From weights to the smallest, fastest package that fits the team's budgets, measured on the bytes that will ship."""

import os

__version__ = "0.1.0"
"""The one source of the version: the distribution's metadata are made from it."""

__distribution__ = "mlpack-build"
"""What mlpack is called where people install it: on the Python package index `mlpack` is another project. Every message that says
what to install is made from this (`distribution.install`), and the command knows by it whose package it found (`mlpack_build`)."""

# onnxruntime 1.31 on Linux keeps a usage database below ~/.cache/Microsoft and can upload it. A build reports to nobody, so it is
# switched off before anything can import the engine; whoever wants it can still set the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251 - sets, does not read
