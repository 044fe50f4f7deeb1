"""Everything that is measured after training, from one network and its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.split import Split
from mixbench.experiments.evaluation import metrics as scores
from mixbench.experiments.evaluation.base import subset
from mixbench.experiments.evaluation.occlusion import basic
from mixbench.experiments.evaluation.predict import logits_of, score
from mixbench.experiments.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Measurements:
    """metrics: one flat mapping. curves: what figures need. logits, labels: the clean test set."""

    metrics: dict[str, float | None]
    curves: dict[str, Any]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]


@torch.inference_mode()
def measure(
    network: nn.Module,
    dataset: Dataset,
    config: RunConfig,
    beat: Callable[[], None],
    ranks: Ranks = ALONE,
) -> Measurements:
    """Measure `network` on the clean training images, the validation, test and occluded test sets.

    `beat` is called at every batch. Where several ranks share the work, rank 0 gets the
    measurements and the others none.
    """
    network.eval()
    evaluation = config.evaluation

    def batches(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        for raw, labels in split.batches(evaluation.batch_size, part=ranks.part):
            beat()
            yield (
                normalise(
                    raw, dataset.mean, dataset.std, channels_last=config.training.channels_last
                ),
                labels,
            )

    logits, labels = logits_of(network, batches(dataset.test), ranks)
    metrics: dict[str, float | None] = {}
    curves: dict[str, Any] = {}
    if ranks.leads:
        clean, curves["reliability"] = scores.measure(logits, labels, evaluation.ece_bins)
        metrics |= {f"test/{name}": value for name, value in clean.items()}
    for split_name, split in (("train", dataset.train), ("validation", dataset.validation)):
        scored = score(network, batches(split), ranks)
        metrics |= {f"{split_name}/{name}": value for name, value in scored.items()}

    hidden = evaluation.occlusion
    if hidden.shapes and hidden.fractions:
        occluded = subset(dataset.test, hidden.images, hidden.seed)
        occlusion_metrics, curves["occlusion"] = basic.measure(
            network,
            batches(occluded),
            shapes=hidden.shapes,
            fractions=hidden.fractions,
            count=len(occluded),
            seed=hidden.seed,
            batch_size=evaluation.batch_size,
            ranks=ranks,
        )
        metrics |= {f"occlusion/{name}": value for name, value in occlusion_metrics.items()}
    return Measurements(metrics, curves, logits, labels)
