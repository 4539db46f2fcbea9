"""Writes `wide.safetensors` beside this file: the trained weights of `sample_models/fashion` in the wider network, which then
computes the same function (Net2WiderNet, https://arxiv.org/abs/1511.05641).

    python -m sample_models.wide.make

Every channel stands there several times, and what reads it shares its weight out among the copies by chance, with a fixed seed.
So the accuracy is that of the small network, which was really trained; that most of the channels are needless is made up, and no
figure of pruning should be taken from here. The same torch gives the same bytes; takes a second and needs no data.
"""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from sample_models.wide.model import COPIES

HERE = Path(__file__).parent
TRAINED = HERE.parent / "fashion/fashion.safetensors"
WEIGHTS = HERE / "wide.safetensors"


def stages_of(name: str) -> tuple[int | None, int | None]:
    """Which of `COPIES` the inputs and outputs of a parameter's layer have; None: one copy, as the picture and the classes."""
    if name.startswith("stem"):
        return None, 0
    if name.startswith("classify"):
        return 3, None
    index = int(re.match(r"stages\.(\d+)", name).group(1))  # type: ignore[union-attr]
    stage = index // 3 + 1
    return (stage if index % 3 == 2 else stage - 1), stage


def widened(name: str, value: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """A parameter or a statistic of the small network, as the wide one has it."""
    inputs, outputs = (1 if stage is None else COPIES[stage] for stage in stages_of(name))
    if value.dim() == 0:
        return value
    wide = value.repeat(outputs, *[1] * (value.dim() - 1))
    if value.dim() > 1 and inputs > 1:
        shares = torch.rand((inputs, wide.shape[0], value.shape[1]), generator=chance) + 0.5
        shares = (shares / shares.sum(0)).permute(1, 0, 2).reshape(wide.shape[0], -1)
        wide = wide.repeat(1, inputs, *[1] * (value.dim() - 2)) * shares.reshape(*shares.shape, *[1] * (value.dim() - 2))
    return wide.contiguous()


def make(destination: Path = WEIGHTS) -> Path:
    """Writes the weights; nothing stands at `destination` until all of them do."""
    chance = torch.Generator().manual_seed(0)
    wide = {name: widened(name, value, chance) for name, value in sorted(load_file(TRAINED).items())}
    partial = destination.with_suffix(".partial")
    save_file(wide, partial)
    return partial.replace(destination)


if __name__ == "__main__":
    make()
