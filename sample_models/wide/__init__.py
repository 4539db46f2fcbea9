"""The Fashion-MNIST classifier at some 100 MB: `build` makes the network that `make.py` writes the weights of."""

from sample_models.wide.model import build

__all__ = ["build"]
