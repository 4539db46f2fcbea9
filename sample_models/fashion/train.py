"""Trains the Fashion-MNIST network and writes `fashion.safetensors` beside this file.

    python -m sample_models.fashion.train

Eight epochs, nine minutes on two CPU cores with AVX-512; the same machine and torch give the same weights. What is kept is
the last epoch: the test pictures are only ever looked at, never used to choose.
"""

import logging
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from sample_models.fashion.idx import read_split
from sample_models.fashion.model import build

WEIGHTS = Path(__file__).with_name("fashion.safetensors")
EPOCHS, BATCH, SHIFT, PEAK_LEARNING_RATE, SEED = 8, 256, 2, 0.2, 20260101

log = logging.getLogger(__name__)


def augment(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Each picture mirrored or not, and moved by up to `SHIFT` pixels each way over a black border."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images[:, 0], (SHIFT,) * 4)
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), generator=random)
    rows = torch.arange(height) + down
    columns = torch.arange(width) + right
    mirrored = torch.rand((count, 1), generator=random) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]].unsqueeze(1)


@torch.inference_mode()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of pictures whose largest logit is their class."""
    model.eval()
    right = sum(
        int((model(part).argmax(1) == answer).sum()) for part, answer in zip(images.split(500), labels.split(500), strict=True)
    )
    return right / len(labels)


def train(model: nn.Module) -> float:
    """Trains in place and returns the accuracy on the 10,000 test pictures."""
    images, labels = (torch.from_numpy(part) for part in read_split("train"))
    test_images, test_labels = (torch.from_numpy(part) for part in read_split("t10k"))
    random = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LEARNING_RATE, total_steps=EPOCHS * batches, pct_start=0.25, div_factor=10
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    top1 = 0.0
    for epoch in range(1, EPOCHS + 1):
        started, losses = time.perf_counter(), []
        model.train()
        for chosen in torch.randperm(len(images), generator=random)[: batches * BATCH].split(BATCH):
            batch = augment(images[chosen], random).contiguous(memory_format=torch.channels_last)
            loss = loss_of(model(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        top1 = accuracy(model, test_images, test_labels)
        log.info(
            "epoch %2d  loss %.3f  test top-1 %.4f  %3.0f s",
            epoch, np.mean(losses), top1, time.perf_counter() - started,
        )  # fmt: skip
    return top1


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    model = build().to(memory_format=torch.channels_last)
    try:
        top1 = train(model)
    except FileNotFoundError as error:
        raise SystemExit(f"train: {error}") from error
    # Trackers of how many batches were seen are of no use to an inference, but a strict load asks for them.
    weights = {name: value.contiguous() for name, value in sorted(model.state_dict().items())}
    partial = WEIGHTS.with_suffix(".partial")
    save_file(weights, partial)
    partial.chmod(0o644)  # safetensors makes it readable by its owner alone
    partial.replace(WEIGHTS)
    log.info("test top-1 %.4f; wrote %s, %d bytes", top1, WEIGHTS.name, WEIGHTS.stat().st_size)


if __name__ == "__main__":
    main()
