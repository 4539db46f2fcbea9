"""Fashion-MNIST classifier: `build` makes the network that `fashion.safetensors` holds the weights of."""

from sample_models.fashion.model import build

__all__ = ["build"]
