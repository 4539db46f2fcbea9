"""`sample_models.fashion`'s network with six to seven times the channels: what a picture model of some 100 MB looks like.

The same stages, and the same input and output; see `make.py` for what its weights are worth.
"""

import torch
from torch import nn

from sample_models.fashion.model import CLASSES, MEAN, STD, WIDTHS, Residual, _conv

STEM = 16
COPIES = (7, 7, 6, 7)
"""Of each channel of the stem and of the three stages."""


class WideNet(nn.Module):
    """`FashionNet` with the channels of stem and stages multiplied by `COPIES`; the names of its parameters are the same."""

    def __init__(self) -> None:
        super().__init__()
        channels_in = STEM * COPIES[0]
        self.stem = nn.Sequential(_conv(1, channels_in), nn.ReLU())
        stages: list[nn.Module] = []
        for width, copies in zip(WIDTHS, COPIES[1:], strict=True):
            channels = width * copies
            stages += [_conv(channels_in, channels, stride=2), nn.ReLU(), Residual(channels)]
            channels_in = channels
        self.stages = nn.Sequential(*stages)
        self.classify = nn.Linear(channels_in, len(CLASSES))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits `[batch, 10]` of pictures `[batch, 1, 28, 28]` with pixels in 0..1."""
        features: torch.Tensor = self.stages(self.stem((image - MEAN) / STD))
        logits: torch.Tensor = self.classify(features.mean(dim=(2, 3)))
        return logits


def build() -> nn.Module:
    """The network with fresh weights, about 25 million parameters."""
    return WideNet()
