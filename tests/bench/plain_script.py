"""The script that mixbench is timed against: one process, one run, nothing but torchvision.

    python -m tests.bench.plain_script FOLDER METHOD SEED --epochs 45 --width 12 ...

torchvision's data set, transforms, DataLoader and CutMix/MixUp, the same network, optimiser,
epochs and batch size as the sweep; it measures the test accuracy, once, and prints it.
"""

from __future__ import annotations

import argparse
import math

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import FashionMNIST
from torchvision.transforms import v2

from mixbench.experiments.models.networks.small_cnn import SmallCNN

MEAN, STD = (0.2860,), (0.3530,)


def main() -> None:
    """Train and test one network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("method")
    parser.add_argument("seed", type=int)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    plain = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    erasing = {
        # torchvision has no Cutout: a square of half the side, always erased, is its nearest.
        "cutout": [v2.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0))],
        "random_erasing": [v2.RandomErasing(p=0.5, scale=(0.02, 0.4), ratio=(0.3, 3.3))],
    }.get(options.method, [])
    train_set = FashionMNIST(options.folder, train=True, transform=v2.Compose(plain + erasing))
    test_set = FashionMNIST(options.folder, train=False, transform=v2.Compose(plain))
    chosen = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(0))
    loader = DataLoader(
        Subset(train_set, chosen[: options.images].tolist()),
        batch_size=options.batch_size,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    # RICAP is not in torchvision; CutMix, which does less, stands in for it.
    mix = {
        "mixup": v2.MixUp(alpha=1.0, num_classes=10),
        "cutmix": v2.CutMix(alpha=1.0, num_classes=10),
        "ricap": v2.CutMix(alpha=1.0, num_classes=10),
    }.get(options.method)

    network = SmallCNN(1, 10, options.width).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=options.learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
    )
    steps = options.epochs * math.ceil(options.images / options.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=steps, pct_start=0.25
    )
    for _ in range(options.epochs):
        network.train()
        for images, labels in loader:
            if mix is not None:
                images, labels = mix(images, labels)
            images = images.to(memory_format=torch.channels_last)
            optimiser.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimiser.step()
            schedule.step()

    network.eval()
    hits = 0
    with torch.inference_mode():
        for images, labels in DataLoader(test_set, batch_size=500, num_workers=options.workers):
            hits += int((network(images).argmax(1) == labels).sum())
    print(hits / len(test_set))


if __name__ == "__main__":
    main()
