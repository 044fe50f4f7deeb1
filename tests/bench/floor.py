"""The compute floor: the forward and backward passes of a sweep, and nothing else.

    python -m tests.bench.floor PASSES ...   prints the seconds of one run's passes

One process with one thread; the benchmark starts as many as there are workers, so that they share
the machine as the workers do.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F

from mixbench.experiments.models.networks.small_cnn import SmallCNN


def main() -> None:
    """Time the passes of one run: training batches, then evaluation forwards."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--forwards", type=int, required=True, help="images seen in evaluation")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = SmallCNN(1, 10, options.width).to(memory_format=torch.channels_last)
    images = torch.randn(options.images, 1, 28, 28).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (options.images,))
    batches = list(
        zip(images.split(options.batch_size), labels.split(options.batch_size), strict=True)
    )
    F.cross_entropy(network(batches[0][0]), batches[0][1]).backward()

    started = time.perf_counter()
    for _ in range(options.epochs):
        for x, y in batches:
            F.cross_entropy(network(x), y).backward()
    training = time.perf_counter() - started

    network.eval()
    batch = torch.randn(500, 1, 28, 28).to(memory_format=torch.channels_last)
    started = time.perf_counter()
    with torch.inference_mode():
        for _ in range(options.forwards // len(batch)):
            network(batch)
    print(training, time.perf_counter() - started)


if __name__ == "__main__":
    main()
