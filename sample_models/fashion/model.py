"""A small residual network for Fashion-MNIST (10 classes of clothing, 28x28 grey pixels).

Takes raw pixels divided by 255, float32 `[batch, 1, 28, 28]`; gives 10 logits a picture. The normalisation is part of
the network, so a package made from it needs no preprocessing that could be forgotten. Widths after the stem are
multiples of 64, which suits int8 kernels and leaves a structured pruner channels to take.
It does not load weights and it does not choose a mode: whoever builds it does both.
"""

import torch
from torch import nn

MEAN, STD = 0.2860, 0.3530  # of the 60,000 training pictures, pixels divided by 255
WIDTHS = (64, 64, 128)
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution and its batch normalisation, which an exporter folds into one node."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
    )


class Residual(nn.Module):
    """`relu(x + f(x))` with two convolutions in `f`; keeps the shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class FashionNet(nn.Module):
    """Stem, then three stages that halve the picture (14, 7, 4 pixels wide), then pool and classify."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(1, 16), nn.ReLU())
        stages: list[nn.Module] = []
        channels_in = 16
        for channels in WIDTHS:
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
    """The network with fresh weights, about 0.57 million parameters."""
    return FashionNet()
